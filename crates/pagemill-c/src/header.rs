//! Comparison of the headers with the code: functions and their types, constants, and the layout of
//! structures.
//!
//! The compiler of C knows the header, and this crate knows the code. So the tests write what the code says
//! as assertions in C, and compare them with `tests/c/layout.c`, which `ci/c.sh` compiles.

use core::fmt::Write;
use core::mem::offset_of;

use pagemill::Gfp;
use pagemill::gfp::{MigrateType, ZoneKind};
use pagemill::units::{MAX_ORDER, PAGE_SHIFT, PAGE_SIZE};

use crate::error::Code;
use crate::types::{
    ConfigView, ListView, PoolParamsView, PoolStatsView, Request, VmStatView, ZoneView,
};

const HEADER: &str = include_str!("../include/pagemill.h");
const SOURCES: [&str; 3] =
    [include_str!("calls.rs"), include_str!("hosted/process.rs"), include_str!("hosted/pool.rs")];
const KERNEL_HEADER: &str = include_str!("../include/pagemill_kernel.h");
const KERNEL_SOURCES: [&str; 2] =
    [include_str!("kernel/allocator.rs"), include_str!("kernel/numbers.rs")];
const LAYOUT: &str = include_str!("../tests/c/layout.c");

/// A function as `name(type, type) -> type`, with the types of C.
type Signature = String;

/// Returns the functions that the sources export.
fn exported(sources: &[&str]) -> Vec<Signature> {
    let mut found = Vec::new();
    for source in sources {
        for item in source.split("fn pagemill_").skip(1) {
            let (name, rest) = item.split_once('(').expect("parameters");
            let (parameters, rest) = rest.split_once(')').expect("the end of the parameters");
            let result = rest.split_once('=').expect("a function behind it").0.trim();
            let result = result.strip_prefix("->").map_or("void", |result| of_rust(result.trim()));
            let types = parameters.split(',').map(str::trim).filter(|one| !one.is_empty());
            let types = types.map(|one| of_rust(one.split_once(':').expect("a type").1.trim()));
            let types: Vec<_> = types.collect();
            found.push(format!("pagemill_{name}({}) -> {result}", types.join(", ")));
        }
    }
    found.sort();
    found
}

/// Returns the functions that a header declares, but for those that it defines.
fn declared(header: &str) -> Vec<Signature> {
    let mut text = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        text.push_str(before);
        rest = comment.split_once("*/").expect("the end of a comment").1;
    }
    text.push_str(rest);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("\t("));
    let text = lines.collect::<Vec<_>>().join(" ");
    // Without bodies of structures and functions.
    let mut depth = 0;
    let outside: String = text
        .chars()
        .map(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if c == '}' || c == '{' {
                ';'
            } else if depth > i32::from(header.contains("extern \"C\" {")) {
                ' '
            } else {
                c
            }
        })
        .collect();
    let mut found = Vec::new();
    for item in outside.split(';') {
        let Some((start, parameters)) = item.split_once('(') else { continue };
        if item.contains("static inline") {
            continue;
        }
        let parameters = parameters.trim().strip_suffix(')').expect("the end of the parameters");
        let (result, name) = start.trim().rsplit_once("pagemill_").expect("a function's name");
        let types = parameters.split(',').map(of_c).filter(|one| one != "void");
        let types: Vec<_> = types.collect();
        let result = of_c(&format!("{result}x"));
        found.push(format!("pagemill_{name}({}) -> {result}", types.join(", ")));
    }
    found.sort();
    found
}

/// Returns the type of C for a type of the sources. Handles of allocators and of pools are one type here.
fn of_rust(name: &str) -> &str {
    match name {
        "Handle" => "handle *",
        "*mut Handle" => "handle **",
        "u32" => "uint32_t",
        "i32" => "int32_t",
        "u64" => "uint64_t",
        "usize" => "size_t",
        "*mut usize" => "size_t *",
        "PageWord" => "pagemill_page",
        "*mut PageWord" => "pagemill_page *",
        "c_int" => "int",
        "*const c_char" => "const char *",
        "*mut c_void" => "void *",
        "*const c_void" => "const void *",
        "*const Request" => "const struct pagemill_request *",
        "*mut ZoneView" => "struct pagemill_zone *",
        "*mut ListView" => "struct pagemill_list *",
        "*mut VmStatView" => "struct pagemill_vmstat *",
        "*const ConfigView" => "const struct pagemill_config *",
        "*const PoolParamsView" => "const struct pagemill_pool_params *",
        "*mut PoolStatsView" => "struct pagemill_pool_stats *",
        "*mut c_char" => "char *",
        "*mut u64" => "uint64_t *",
        "*const u64" => "const uint64_t *",
        "*const Table" => "const struct pagemill_platform *",
        "*const KernelConfig" => "const struct pagemill_kernel_config *",
        other => panic!("{other} has no type of C"),
    }
}

/// Returns the type of a declaration such as `const char *name`.
fn of_c(declaration: &str) -> String {
    let words = declaration.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = words.rfind(['*', ' ']).map_or(words.len(), |at| at + 1);
    let of = if words == "void" { "void" } else { words[..name].trim() };
    of.replace("pagemill_allocator", "handle").replace("pagemill_pool *", "handle *")
}

fn assert_same(exported: &[Signature], declared: &[Signature]) {
    let missing: Vec<_> = exported.iter().filter(|one| !declared.contains(one)).collect();
    let unknown: Vec<_> = declared.iter().filter(|one| !exported.contains(one)).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:#?}, unknown {unknown:#?}");
}

#[test]
fn the_header_declares_the_functions_that_are_exported() {
    let exported = exported(&SOURCES);
    assert_same(&exported, &declared(HEADER));
    assert!(exported.len() > 30, "{exported:#?}");
}

#[test]
fn the_header_of_a_kernel_declares_the_functions_that_are_exported() {
    let all = exported(&KERNEL_SOURCES);
    let (own, shared): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|one| one.starts_with("pagemill_kernel_"));
    assert_same(&own, &declared(KERNEL_HEADER));
    assert_eq!(own.len(), 9, "{own:#?}");
    // Those of pagemill.h that each environment defines.
    let of_process = declared(HEADER);
    assert!(shared.iter().all(|one| of_process.contains(one)), "{shared:#?}");
}

macro_rules! layout {
    ($text:ident, $Type:ident $name:literal: $($field:ident)*) => {
        $(
            let at = offset_of!($Type, $field);
            let field = stringify!($field);
            writeln!($text, "ASSERT(offsetof(struct {}, {field}) == {at});", $name).unwrap();
        )*
        writeln!($text, "ASSERT(sizeof(struct {}) == {});", $name, size_of::<$Type>()).unwrap();
    };
}

/// What the code says, as assertions in C.
fn assertions() -> String {
    let mut text = String::new();
    let mut constant = |name: &str, value: u64| {
        writeln!(text, "ASSERT(PAGEMILL_{name} == {value:#x});").unwrap();
    };
    constant("PAGE_SIZE", PAGE_SIZE as u64);
    constant("PAGE_SHIFT", PAGE_SHIFT.into());
    constant("MAX_ORDER", MAX_ORDER.value().into());
    for (name, flag) in Gfp::all().iter_names().filter(|&(_, flag)| flag != Gfp::ACCOUNT) {
        constant(&format!("GFP_{name}"), flag.bits().into());
    }
    for (name, flags) in [("KERNEL", Gfp::KERNEL), ("NOWAIT", Gfp::NOWAIT), ("ATOMIC", Gfp::ATOMIC)]
    {
        constant(&format!("GFP_{name}"), flags.bits().into());
    }
    for kind in ZoneKind::ALL {
        constant(&format!("ZONE_{}", kind.name().to_uppercase()), kind.index() as u64);
    }
    for kind in MigrateType::ALL {
        constant(&format!("MIGRATE_{}", format!("{kind:?}").to_uppercase()), kind.index() as u64);
    }
    for (name, code) in [
        ("OK", Code::OK),
        ("ENOMEM", Code::NO_MEMORY),
        ("EFRAGMENTED", Code::FRAGMENTED),
        ("ESTOPPED", Code::STOPPED),
        ("EFORKED", Code::FORKED),
        ("ERANGE", Code::RANGE),
        ("EBUSY", Code::BUSY),
        ("ECONFIG", Code::CONFIG),
        ("ESYSTEM", Code::SYSTEM),
    ] {
        constant(name, u64::try_from(code.0).unwrap());
    }
    layout!(text, Request "pagemill_request": size gfp order effort node stop context);
    layout!(text, ZoneView "pagemill_zone": size node kind start_pfn spanned present managed
        nr_free_pages min low high free_blocks);
    layout!(text, ListView "pagemill_list": size cpu node kind migratetype order reserved count high
        batch);
    layout!(text, VmStatView "pagemill_vmstat": size nr_free_pages pgalloc pgfree numa_hit numa_miss
        numa_foreign numa_local numa_other);
    layout!(text, ConfigView "pagemill_config": size len_bytes min_free_bytes movable_bytes nr_nodes
        nr_cpus flags reserved);
    layout!(text, PoolParamsView "pagemill_pool_params": size ring_size refill gfp reserved);
    layout!(text, PoolStatsView "pagemill_pool_stats": size alloc_fast alloc_slow alloc_empty
        alloc_refill recycle_cached recycle_cache_full recycle_ring recycle_ring_full nr_out);
    text
}

#[test]
fn the_assertions_in_c_say_what_the_code_says() {
    let expected = assertions();
    let lines = LAYOUT.lines().filter(|line| line.starts_with("ASSERT("));
    let found: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert_eq!(found, expected, "tests/c/layout.c should have these lines:\n{expected}");
}

#[test]
fn versions_agree() {
    let line = format!("#define PAGEMILL_VERSION \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(HEADER.lines().any(|found| found == line), "no line {line}");
}
