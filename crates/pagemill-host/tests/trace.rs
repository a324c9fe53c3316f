//! What can be seen of an allocator from outside: probes in the program, events of `tracing`.

extern crate alloc;

use alloc::sync::Arc;
use core::fmt::{self, Debug, Write as _};
use std::fs;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::FaultConfig;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::{AllocPages, BulkRequest, Gfp, Order, Page, PageAllocator};
use pagemill_host::machine::Cpus;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A probe as the notes of a program describe it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Probe {
    name: String,
    nr_args: usize,
    has_semaphore: bool,
}

/// Returns the USDT probes of provider `pagemill` in a program for 64-bit little-endian machines.
fn probes(elf: &[u8]) -> Vec<Probe> {
    let number = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte))
    };
    let place = |at: usize, len: usize| usize::try_from(number(at, len)).expect("it is small");
    assert_eq!(elf[..5], *b"\x7fELF\x02");
    let (sections, size, nr) = (place(0x28, 8), place(0x3a, 2), place(0x3c, 2));
    let mut found = Vec::new();
    for header in (0..nr).map(|index| sections + index * size) {
        const NOTES: u64 = 7;
        if number(header + 4, 4) != NOTES {
            continue;
        }
        let (mut at, len) = (place(header + 0x18, 8), place(header + 0x20, 8));
        let end = at + len;
        while at < end {
            let round = |len: usize| len.next_multiple_of(4);
            let (name_len, desc_len) = (place(at, 4), place(at + 4, 4));
            let name = at + 12;
            let desc = name + round(name_len);
            at = desc + round(desc_len);
            if elf[name..name + name_len] != *b"stapsdt\0" {
                continue;
            }
            let texts = core::str::from_utf8(&elf[desc + 24..desc + desc_len]).expect("texts");
            let mut texts = texts.split('\0');
            let [provider, name, args] = [(); 3].map(|()| texts.next().expect("three texts"));
            if provider == "pagemill" {
                let nr_args = args.split_ascii_whitespace().count();
                let has_semaphore = number(desc + 16, 8) != 0;
                found.push(Probe { name: name.into(), nr_args, has_semaphore });
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Returns the probes that the document names.
fn documented() -> Vec<Probe> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tracepoints.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let (_, table) = text.split_once("| probe | arguments | fires |\n").expect("it has a table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut probes: Vec<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let nr_args = cells[2].split(',').filter(|arg| !arg.trim().is_empty()).count();
            Probe { name: cells[1].trim_matches('`').into(), nr_args, has_semaphore: true }
        })
        .collect();
    probes.sort();
    probes
}

#[test]
fn a_program_has_the_probes_that_the_document_lists() {
    let program = fs::read("/proc/self/exe").expect("a process can read its program");
    let found = probes(&program);
    assert_eq!(found, documented());
    assert!(found.len() > 15);
}

/// Returns an allocator of 1024 pages, and keeps the caller on one CPU from now on: pages in the
/// lists of a CPU it had left would be missing from what it can take.
fn frames() -> PageAllocator<Host> {
    let cpu = Cpus::allowed().expect("the kernel tells")[0];
    Cpus::pin_to(cpu).expect("an allowed CPU");
    let config = AllocatorConfig {
        min_free_bytes: Some(0),
        nr_accounts: 1,
        ..AllocatorConfig::new(ArenaConfig::new(4 << 20))
    };
    allocator(&config).expect("4 MiB can be mapped")
}

/// Notes events as lines: level, target, and fields in their order.
#[derive(Clone)]
struct Lines(Arc<Mutex<Vec<String>>>, Level);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0 = format!("{value:?}{}", self.0),
            name => write!(self.0, " {name}={value:?}").expect("a String takes all"),
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.1 && metadata.target().starts_with("pagemill::")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        self.0
            .lock()
            .expect("no test panicked meanwhile")
            .push(format!("{level} {target} {}", fields.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lines").finish()
    }
}

fn lines(level: Level, body: impl FnOnce()) -> Vec<String> {
    let lines = Lines(Arc::default(), level);
    tracing::subscriber::with_default(lines.clone(), body);
    let lines = lines.0.lock().expect("no test panicked meanwhile");
    lines.clone()
}

/// Claims to have 40 pages, and frees none.
struct Empty;

impl Shrinker for Empty {
    fn count(&self, _control: ShrinkControl) -> usize {
        40
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        0
    }
}

type Slots<'a> = Vec<Option<Page<&'a PageAllocator<Host>>>>;

fn holes<'a>(nr: usize) -> Slots<'a> {
    (0..nr).map(|_| None).collect()
}

#[test]
fn a_subscriber_hears_of_reclaim_with_its_figures() {
    let frames = frames();
    let guard = frames.register_shrinker(&Empty).unwrap();
    let all: Vec<_> = (0..1024).map_while(|_| frames.alloc_page(Gfp::NOWAIT)).collect();
    assert_eq!(all.len(), 1024);
    let (gfp, order) = (Gfp::KERNEL | Gfp::NORETRY, Order::new(2).unwrap());
    let bits = gfp.bits();
    let ask = || assert!(frames.alloc_pages(gfp, order).is_none());
    let expected = [
        format!("DEBUG pagemill::reclaim wakeup_kswapd gfp={bits} order=2"),
        format!("DEBUG pagemill::reclaim direct_reclaim_begin gfp={bits} order=2"),
        format!(
            "TRACE pagemill::reclaim shrink_slab_start place=0 gfp={bits} nr_to_scan=32 count=40"
        ),
        "TRACE pagemill::reclaim shrink_slab_end place=0 nr_freed=0".to_owned(),
        "DEBUG pagemill::reclaim direct_reclaim_end nr_reclaimed=0".to_owned(),
    ];
    assert_eq!(lines(Level::TRACE, ask), expected);
    let debug: Vec<_> = expected.iter().filter(|line| line.starts_with("DEBUG")).collect();
    assert_eq!(lines(Level::DEBUG, ask).iter().collect::<Vec<_>>(), debug);
    assert!(lines(Level::INFO, ask).is_empty());
    let high = frames.zone_info().next().unwrap().watermarks.high;
    let balanced = lines(Level::DEBUG, || assert_eq!(frames.balance(), 0));
    let expected = [
        format!("DEBUG pagemill::reclaim kswapd_wake nr_missing={}", high + 1),
        "DEBUG pagemill::reclaim kswapd_sleep nr_reclaimed=0".to_owned(),
    ];
    assert_eq!(balanced, expected);
    drop((all, guard));
}

#[test]
fn a_subscriber_hears_of_shortages_and_waits() {
    let frames = frames();
    let account = Account::open(&frames, AccountLimits { max: 3, high: 3 }).unwrap();
    let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::NOWAIT) };
    let number = account.id().number();
    let bits = Gfp::NOWAIT.bits();
    let short = |wanted, got, why| {
        format!(
            "DEBUG pagemill::shortage bulk_alloc gfp={bits} order=0 wanted={wanted} got={got} \
             short={why}"
        )
    };
    let mut slots = holes(5);
    let told = lines(Level::DEBUG, || {
        let _outcome = frames.bulk_fill(&request, &mut slots);
    });
    let refused =
        format!("DEBUG pagemill::shortage account_refused account={number} wanted=5 charged=3");
    assert_eq!(told, [refused, short(5, 3, "the account, or one above it, is at its limit")]);
    frames.release_pages(&mut slots);

    frames.inject_faults(&FaultConfig::nth(1));
    let told = lines(Level::DEBUG, || {
        let _outcome = frames.bulk_fill(&request, &mut slots);
    });
    let fault = format!("DEBUG pagemill::shortage fault_injected gfp={bits} order=0");
    assert_eq!(told, [fault, short(5, 0, "a fault was injected")]);
    frames.inject_faults(&FaultConfig::NEVER);

    let all: Vec<_> = (0..1024).map_while(|_| frames.alloc_page(Gfp::NOWAIT)).collect();
    let asked = core::cell::Cell::new(0);
    let later = || asked.replace(asked.get() + 1) > 4;
    let request = BulkRequest { stop: Some(&later), ..BulkRequest::new(Gfp::KERNEL) };
    let told = lines(Level::DEBUG, || {
        let _outcome = frames.bulk_fill(&request, &mut holes(2));
    });
    let waits: Vec<_> = told.iter().filter(|line| line.contains("pagemill::wait")).collect();
    let expected =
        ["DEBUG pagemill::wait wait_begin", "DEBUG pagemill::wait wait_end is_served=false"];
    assert_eq!(waits, expected, "{told:?}");
    drop(all);
}

#[test]
fn bpftrace_attaches_to_the_probes_where_it_may() {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().expect("cargo's folders have plain names");
    // Past the capture of what tests print.
    let skip = |why: &str| {
        writeln!(stderr(), "SKIPPED: trace: {why}").expect("there is a standard error");
    };
    // Runs one other test of this program, which takes pages from a zone, and counts that.
    let probe =
        |name: &str, action: &str| format!("usdt:{program}:pagemill:{name} {{ {action} }}\n");
    let script = probe("mm_page_alloc_zone_locked", "@pages = sum(arg4);")
        + &probe("page_events", "")
        + &probe("mm_page_alloc", "@allocated = count();");
    let workload = format!("{program} --exact a_subscriber_hears_of_reclaim_with_its_figures");
    let run = Command::new("bpftrace").args(["-e", &script, "-c", &workload]).output();
    let Ok(output) = run else { return skip("bpftrace is not installed") };
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let figure = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    let Some(pages) = figure("@pages:") else {
        return skip(complaint.lines().next().unwrap_or("bpftrace cannot attach"));
    };
    assert!(said.contains("1 passed"), "{said}{complaint}");
    assert_eq!(pages, 1024, "{said}{complaint}");
    // The first page fills a list, and that is when the allocator looks whether pages are wanted.
    assert_eq!(figure("@allocated:"), Some(1024), "{said}");
}
