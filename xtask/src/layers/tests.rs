use super::*;
use crate::tree::lines;

const TABLE: &str = "```layers pagemill\nunits\nerror stats\nzone bulk\n```\n";

/// A crate that keeps its table; each test breaks one thing in it.
fn good() -> Tree {
    Tree::default()
        .with(ARCHITECTURE, TABLE)
        .with("crates/pagemill/Cargo.toml", "[package]\nname = \"pagemill\"\n")
        .with(
            "crates/pagemill/src/lib.rs",
            "//! A.\nmod units;\npub use zone::{Zone, sub::N as M};\n",
        )
        .with("crates/pagemill/src/units.rs", "//! A.\n/// See [`x`](crate::zone::X).\nstruct A;\n")
        .with("crates/pagemill/src/error.rs", "//! A.\nuse crate::units::{self, Pfn};\n")
        .with("crates/pagemill/src/stats.rs", "//! A.\n")
        .with("crates/pagemill/src/zone.rs", "//! A.\nuse crate::{error::E, stats, units::Pfn};\n")
        .with("crates/pagemill/src/bulk.rs", "//! A.\nmod fill;\n#[cfg(test)]\nmod model;\n")
        .with("crates/pagemill/src/bulk/fill.rs", "//! A.\nuse super::B;\nuse crate::bulk::C;\n")
        .with("crates/pagemill/src/bulk/model.rs", "//! A.\nuse crate::zone::Zone;\n")
        .with("crates/pagemill/src/bulk/tests.rs", "use crate::zone::Zone;\n")
}

fn findings_with(path: &str, text: &str) -> Vec<String> {
    lines(&check_modules(&good().with(&format!("crates/pagemill/src/{path}"), text)))
}

#[test]
fn a_crate_that_keeps_its_table_passes() {
    assert_eq!(lines(&check_modules(&good())), [""; 0]);
}

#[test]
fn an_import_from_a_higher_layer_is_reported() {
    assert_eq!(
        findings_with("units.rs", "//! A.\n\nuse crate::zone::Zone;\n"),
        ["crates/pagemill/src/units.rs:3: module `units` (layer 1) imports `crate::zone::Zone` \
          from `zone` (layer 3): a module may import only from lower layers"]
    );
}

#[test]
fn an_import_from_the_same_layer_is_reported() {
    assert_eq!(
        findings_with("error.rs", "use crate::stats;\n"),
        ["crates/pagemill/src/error.rs:1: module `error` (layer 2) imports `crate::stats` \
          from `stats` (layer 2): a module may import only from lower layers"]
    );
}

#[test]
fn every_way_to_write_the_import_is_seen() {
    for text in [
        "use crate::{\n    units::Pfn,\n    zone::{Zone, Other},\n};",
        "use super::zone::Zone;",
        "use super::{units, zone as z};",
        "fn a() { crate::zone::free::<u8>() }",
        "mod inner { fn a(z: &super::super::zone::Zone) {} }",
        "macro_rules! m { () => { $crate::zone::free() } }",
        "pub(crate) use crate::zone::Zone;",
        "use crate::Zone;",
        "use crate::M;",
    ] {
        let findings = findings_with("stats.rs", text);
        assert!(!findings.is_empty(), "{text}");
        assert!(findings.iter().all(|line| line.contains("from `zone` (layer 3)")), "{findings:?}");
    }
}

#[test]
fn an_inline_module_of_the_root_stands_for_what_it_re_exports() {
    let root = "mod zone;\nmod stats;\npub mod public {\n    pub use crate::zone::Zone;\n}\n";
    for text in ["use crate::public::Zone;", "fn f() { crate::public::Zone::new(); }"] {
        let tree = good().with("crates/pagemill/src/lib.rs", root);
        let tree = tree.with("crates/pagemill/src/stats.rs", text);
        let findings = lines(&check_modules(&tree));
        assert!(findings[0].contains("from `zone` (layer 3)"), "{text}: {findings:?}");
    }
    let tree = good().with("crates/pagemill/src/lib.rs", root);
    let findings =
        lines(&check_modules(&tree.with("crates/pagemill/src/stats.rs", "use crate::Zone;")));
    assert!(findings[0].contains("neither a module nor re-exported"), "{findings:?}");
}

#[test]
fn what_is_no_import_is_left_alone() {
    for text in [
        "// use crate::zone::Zone;",
        "const A: &str = \"crate::zone::Zone\";",
        "#[cfg(test)]\nmod tests { use crate::zone::Zone; }",
        "mod inner { use super::zone; }",
        "pub(in crate::error) fn a() {}",
        "macro_rules! m { () => { $crate::n! {} } }",
    ] {
        assert_eq!(findings_with("error.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn a_name_of_the_root_must_come_from_a_module() {
    assert_eq!(
        findings_with("zone.rs", "use crate::Unknown;\nuse super::*;"),
        [
            "crates/pagemill/src/zone.rs:1: `crate::Unknown` is neither a module nor re-exported from \
          one by the crate root",
            "crates/pagemill/src/zone.rs:2: imports everything from the crate root: name what it needs"
        ]
    );
}

#[test]
fn a_file_in_a_folder_is_bound_by_the_layer_of_the_folder() {
    for text in ["use crate::zone::Zone;", "use super::super::zone::Zone;"] {
        let findings = findings_with("bulk/fill.rs", text);
        assert_eq!(findings.len(), 1, "{text}");
        assert!(findings[0].contains("module `bulk` (layer 3) imports"), "{findings:?}");
    }
}

/// [`good`] with a folder `zone` of two modules, of which the head re-exports a type.
fn with_folder() -> Tree {
    let tables = format!("{TABLE}```layers pagemill/zone\nlock\nshard\n```\n");
    good()
        .with(ARCHITECTURE, &tables)
        .with("crates/pagemill/src/zone.rs", "pub use shard::Zone;\nmod sub { pub struct N; }\n")
        .with("crates/pagemill/src/zone/lock.rs", "use crate::units::Pfn;\n")
        .with(
            "crates/pagemill/src/zone/shard.rs",
            "use super::lock::Lock;\nuse crate::zone::lock;\n",
        )
}

#[test]
fn inside_a_folder_imports_flow_down_too() {
    assert_eq!(lines(&check_modules(&with_folder())), [""; 0]);
    for text in ["use super::shard::Zone;", "use crate::zone::Zone;", "use crate::Zone;"] {
        let tree = with_folder().with("crates/pagemill/src/zone/lock.rs", text);
        let findings = lines(&check_modules(&tree));
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        assert!(findings[0].contains("module `lock` (layer 1) imports"), "{findings:?}");
        assert!(findings[0].contains("from `shard` (layer 2)"), "{findings:?}");
    }
}

#[test]
fn what_the_head_defines_is_not_for_those_inside() {
    for text in ["use super::sub::N;", "use crate::zone::sub;"] {
        let tree = with_folder().with("crates/pagemill/src/zone/lock.rs", text);
        let findings = lines(&check_modules(&tree));
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        assert!(findings[0].contains("which the head of its folder defines"), "{findings:?}");
    }
}

#[test]
fn a_folder_needs_a_table() {
    let tree = with_folder().with(ARCHITECTURE, TABLE);
    assert_eq!(
        lines(&check_modules(&tree)),
        ["ARCHITECTURE.md:1: there is no block \"layers pagemill/zone\""]
    );
}

#[test]
fn a_module_and_the_table_must_know_each_other() {
    assert_eq!(
        findings_with("pcp.rs", "//! A.\n"),
        ["crates/pagemill/src/pcp.rs:1: module `pcp` is not in the layer table of ARCHITECTURE.md"]
    );
    let table = "```layers pagemill\nunits\nerror stats gone\nzone bulk units\n```\n";
    assert_eq!(
        lines(&check_modules(&good().with(ARCHITECTURE, table))),
        [
            "ARCHITECTURE.md:3: the layer table names module `gone`, which does not exist",
            "ARCHITECTURE.md:4: the layer table names module `units` twice"
        ]
    );
}

#[test]
fn a_missing_table_is_reported() {
    assert_eq!(
        lines(&check_modules(&good().with(ARCHITECTURE, "```layers other\n```\n"))),
        [
            "ARCHITECTURE.md:1: a table for `other`, which is no crate",
            "ARCHITECTURE.md:1: there is no block \"layers pagemill\""
        ]
    );
    assert_eq!(
        lines(&check_crates(&good())),
        ["ARCHITECTURE.md:1: there is no block \"layers crates\""]
    );
}

#[test]
fn tests_may_use_a_crate_that_no_build_uses() {
    let tree = Tree::default()
        .with(ARCHITECTURE, "```layers crates\na\nkit\n```\n")
        .with("a/Cargo.toml", "[package]\nname = \"a\"\n[dev-dependencies]\nkit = \"1\"\n")
        .with("kit/Cargo.toml", "[package]\nname = \"kit\"\n[dependencies]\na = \"1\"\n");
    assert_eq!(lines(&check_crates(&tree)), [""; 0]);
}

#[test]
fn a_dependency_on_a_higher_crate_is_reported() {
    let tree = Tree::default()
        .with(ARCHITECTURE, "```layers crates\na\nb c\nd\n```\n")
        .with("a/Cargo.toml", "[package]\nname = \"a\"\n[dev-dependencies]\nb.workspace = true\n")
        .with("b/Cargo.toml", "[package]\nname = \"b\"\n[dependencies]\na = \"1\"\nlibc = \"1\"\n")
        .with("c/Cargo.toml", "[package]\nname = \"c\"\n[dependencies.b]\npath = \"../b\"\n")
        .with("e/Cargo.toml", "[package]\nname = \"e\"\n")
        .with("f/Cargo.toml", "[package]\nname = \"f\"\n[workspace]\n");
    assert_eq!(
        lines(&check_crates(&tree)),
        [
            "ARCHITECTURE.md:4: the layer table names crate `d`, which does not exist",
            "e/Cargo.toml:1: crate `e` is not in the layer table of ARCHITECTURE.md",
            "a/Cargo.toml:4: crate `a` (layer 1) depends on `b` (layer 2): a crate may depend only on \
          crates of lower layers",
            "c/Cargo.toml:3: crate `c` (layer 2) depends on `b` (layer 2): a crate may depend only on \
          crates of lower layers"
        ]
    );
}
