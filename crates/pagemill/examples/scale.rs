//! Model of how the allocator scales to large machines: up to 256 CPUs and 1 TiB.
//!
//! The allocator is the real one; the machine under it is a model. One thread plays all CPUs: that
//! of the earliest clock makes the next call, and its clock moves on by what the call did. What is
//! counted (claims of lists, zone locks, how often a lock came from another CPU) is exact. What is
//! timed rests on the [`Costs`], which are printed: nanoseconds of one CPU, measured by `pagemill
//! bench`, and a guess for a cache line that comes from another CPU.
//!
//! ```console
//! $ cargo run --release -p pagemill --example scale
//! ```

#![expect(clippy::print_stdout, reason = "the report of a program")]

extern crate alloc;

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::collections::{BinaryHeap, VecDeque};
use core::alloc::Layout;
use core::cell::{Cell, RefCell};
use core::cmp::Reverse;
use core::ptr::NonNull;
use std::collections::HashMap;

use pagemill::debug::Event;
use pagemill::setup::MemoryRegion;
use pagemill::units::{CpuId, NodeId, Pfn, PhysAddr};
use pagemill::{AllocPages, Config, Gfp, Page, PageAllocator, Platform};

/// Pages of one call.
const BATCH: usize = 64;
/// Pages that a CPU keeps before it frees them all, in the load `burst`.
const KEPT: usize = 8192;
/// Calls of each CPU before counting begins, and while it lasts.
const WARM_UP: usize = 256;
const CALLS: usize = 1024;
const MEMORY: u64 = 1 << 40;
const CPUS_OF_NODE: u32 = 16;

/// Picoseconds.
struct Costs {
    /// A bulk call that the lists serve, and each of its pages.
    call: u64,
    page: u64,
    /// A zone lock's hold, and each page that it moves.
    hold: u64,
    moved: u64,
    /// The lines of a lock that another CPU held last.
    transfer: u64,
}

const COSTS: Costs = Costs { call: 7000, page: 250, hold: 30_000, moved: 120, transfer: 100_000 };

thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
    static CLAIMS: Cell<u64> = const { Cell::new(0) };
    /// The locks of zones that the call under way took, and how many pages each hold moved.
    static HOLDS: RefCell<Vec<(Lock, usize)>> = const { RefCell::new(Vec::new()) };
}

/// A zone and one of its shards.
type Lock = (u16, u16);

/// A platform whose CPUs are numbers, and whose memory is never accessed.
#[derive(Debug)]
struct Model {
    nr_cpus: u32,
}

impl Platform for Model {
    fn nr_cpus(&self) -> u32 {
        self.nr_cpus
    }

    fn pin(&self) -> CpuId {
        CpuId::new(CPU.get())
    }

    fn trace(&self, event: Event) {
        match event {
            Event::ListsLocked => CLAIMS.set(CLAIMS.get() + 1),
            Event::ZoneLocked { zone, shard, .. } => {
                HOLDS.with_borrow_mut(|holds| holds.push(((zone, shard), 0)));
            }
            Event::PageAllocZoneLocked { nr_pages, .. } | Event::PagePcpuDrain { nr_pages, .. } => {
                HOLDS.with_borrow_mut(|holds| {
                    if let Some((_, moved)) = holds.last_mut() {
                        *moved += nr_pages;
                    }
                });
            }
            _ => {}
        }
    }

    unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {
        unreachable!("no request asks for zeroed pages");
    }
}

/// The allocator's metadata, whose pages take memory only once they are written.
struct Metadata {
    bytes: NonNull<u8>,
    layout: Layout,
    align: usize,
}

impl Metadata {
    fn new(layout: Layout) -> Self {
        let align = layout.align();
        // Of no alignment: the allocator of this process clears what must be aligned, byte by byte.
        let layout = Layout::from_size_align(layout.size() + align, 1).expect("far below 2^63");
        // SAFETY: 1. size above zero: every allocator has metadata.
        let bytes = unsafe { alloc_zeroed(layout) };
        Self { bytes: NonNull::new(bytes).expect("address space for the metadata"), layout, align }
    }

    fn memory(&self) -> NonNull<[u8]> {
        let skip = self.bytes.align_offset(self.align);
        // SAFETY: 1. in bounds: the allocation has room for the skipped bytes.
        let start = unsafe { self.bytes.add(skip) };
        NonNull::slice_from_raw_parts(start, self.layout.size() - self.align)
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        // SAFETY: 1. allocated with this layout. 2. the allocator was dropped before.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
    }
}

type Frames<'a> = &'a PageAllocator<Model>;

/// What the CPUs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// 64 pages there and back.
    Ping,
    /// 8192 pages in calls of 64, then all of them back.
    Burst,
    /// 64 pages from one CPU, back on its neighbour.
    Pairs,
}

/// One CPU: its clock, and the pages that it has.
struct Player<'a> {
    pages: VecDeque<[Option<Page<Frames<'a>>>; BATCH]>,
    frees: bool,
}

/// What was counted.
#[derive(Default)]
struct Counts {
    pages: u64,
    claims: u64,
    locks: u64,
    transfers: u64,
    waited: u64,
    busy: u64,
    elapsed: u64,
}

fn main() {
    println!("model: {COSTS}; memory 1 TiB, {BATCH} pages a call");
    println!(
        "claims and locks: for 1000 pages, allocated and freed; from another CPU: of the locks"
    );
    println!("waiting: share of the CPUs' time; speed-up: pages per second against one CPU");
    for load in [Load::Ping, Load::Burst, Load::Pairs] {
        println!("\n{}", load.title());
        println!(
            "{:>5} {:>6} {:>8} {:>8} {:>18} {:>9} {:>9}",
            "CPUs", "nodes", "claims", "locks", "from another CPU", "waiting", "speed-up"
        );
        let mut alone = None;
        for (nr_cpus, nr_nodes) in
            machines().map(|(cpus, nodes)| (cpus.max(load.first_cpus()), nodes))
        {
            let counts = play(load, nr_cpus, nr_nodes);
            let speed = counts.pages as f64 / counts.elapsed as f64;
            let alone = *alone.get_or_insert(speed / f64::from(load.first_cpus()));
            let per_1000 = |count: u64| count as f64 * 1000.0 / counts.pages as f64;
            println!(
                "{nr_cpus:>5} {nr_nodes:>6} {:>8.1} {:>8.2} {:>16.0} % {:>7.1} % {:>9.1}",
                per_1000(counts.claims),
                per_1000(counts.locks),
                100.0 * counts.transfers as f64 / counts.locks.max(1) as f64,
                100.0 * counts.waited as f64 / counts.busy as f64,
                speed / alone,
            );
        }
    }
}

/// One node for all CPUs, then one for every 16.
fn machines() -> impl Iterator<Item = (u32, u32)> {
    let cpus = (0..=4).map(|exponent| 1 << (2 * exponent));
    let one = cpus.clone().map(|nr_cpus| (nr_cpus, 1));
    let many = cpus.filter(|&nr_cpus| nr_cpus > CPUS_OF_NODE);
    one.chain(many.map(|nr_cpus| (nr_cpus, nr_cpus / CPUS_OF_NODE)))
}

impl Load {
    fn title(self) -> &'static str {
        match self {
            Self::Ping => "ping: each CPU takes 64 pages and frees them",
            Self::Burst => "burst: each CPU takes 8192 pages, then frees them",
            Self::Pairs => "pairs: one CPU takes pages, its neighbour frees them",
        }
    }

    /// The smallest number of CPUs that this load can have.
    fn first_cpus(self) -> u32 {
        if self == Self::Pairs { 2 } else { 1 }
    }
}

/// Plays a load on a machine and returns what was counted once all were warm.
fn play(load: Load, nr_cpus: u32, nr_nodes: u32) -> Counts {
    let share = MEMORY / u64::from(nr_nodes);
    let node = |number: u32| NodeId::new(u8::try_from(number).expect("16 nodes at most"));
    let region = |number| MemoryRegion {
        start: PhysAddr::new(MEMORY + u64::from(number) * share),
        len_bytes: share,
        node: node(number),
    };
    let memory: Vec<MemoryRegion> = (0..nr_nodes).map(region).collect();
    let cpu_nodes: Vec<NodeId> = (0..nr_cpus).map(|cpu| node(cpu * nr_nodes / nr_cpus)).collect();
    let config = Config { cpu_nodes: &cpu_nodes, ..Config::new(&memory, nr_cpus) };
    let layout = PageAllocator::<Model>::metadata_layout(&config).expect("a sound machine");
    let metadata = Metadata::new(layout);
    // SAFETY: 1. the metadata memory is initialised, and nothing else uses it until it is dropped,
    // after the allocator. 2. frames not used otherwise: they have no memory.
    let frames = unsafe { PageAllocator::new(&config, metadata.memory(), Model { nr_cpus }) };
    let frames = frames.expect("a sound machine");
    Play::new(load, nr_cpus, &frames).run()
}

/// A load under way.
struct Play<'a> {
    load: Load,
    frames: Frames<'a>,
    players: Vec<Player<'a>>,
    /// The time of each CPU, earliest first.
    clocks: BinaryHeap<Reverse<(u64, u32)>>,
    /// When each lock is free again, and who had it last.
    locks: HashMap<Lock, (u64, u32)>,
}

impl<'a> Play<'a> {
    fn new(load: Load, nr_cpus: u32, frames: Frames<'a>) -> Self {
        let player = |_| Player { pages: VecDeque::new(), frees: false };
        let play = Self {
            load,
            frames,
            players: (0..nr_cpus).map(player).collect(),
            clocks: (0..nr_cpus).map(|cpu| Reverse((u64::from(cpu) * 7919, cpu))).collect(),
            locks: HashMap::new(),
        };
        // What the machine before did in its end is no part of this one.
        HOLDS.take();
        play
    }

    fn run(mut self) -> Counts {
        let nr_cpus = self.players.len();
        let mut counts = Counts::default();
        let mut start = 0;
        for step in 0..nr_cpus * (WARM_UP + CALLS) {
            let Some(Reverse((now, cpu))) = self.clocks.pop() else { break };
            if step == nr_cpus * WARM_UP {
                (counts, start) = (Counts::default(), now);
            }
            CPU.set(cpu);
            CLAIMS.set(0);
            let pages = self.call(cpu as usize);
            let end = self.charge(cpu, now, pages, &mut counts);
            counts.elapsed = now - start;
            self.clocks.push(Reverse((end, cpu)));
        }
        counts
    }

    /// Makes the next call of a CPU and returns how many pages it moved.
    fn call(&mut self, cpu: usize) -> usize {
        let has = self.players[cpu].pages.len();
        let frees = match self.load {
            Load::Ping => has > 0,
            Load::Burst if has == 0 => false,
            Load::Burst if has == KEPT / BATCH => true,
            Load::Burst => self.players[cpu].frees,
            Load::Pairs => cpu % 2 == 1,
        };
        self.players[cpu].frees = frees;
        if frees {
            // Nothing has come yet: the call is one that looks and finds nothing.
            let Some(mut pages) = self.players[cpu].pages.pop_front() else { return 0 };
            return self.frames.release_pages(&mut pages);
        }
        let keeper = if self.load == Load::Pairs { (cpu + 1) % self.players.len() } else { cpu };
        if self.load == Load::Pairs && self.players[keeper].pages.len() > 64 {
            return 0;
        }
        let mut pages = [const { None }; BATCH];
        let nr = self.frames.alloc_pages_bulk(Gfp::KERNEL, &mut pages);
        assert_eq!(nr, BATCH, "there is memory for all");
        self.players[keeper].pages.push_back(pages);
        nr
    }

    /// Returns when a call that began at `now` ends, and counts what it did.
    fn charge(&mut self, cpu: u32, now: u64, pages: usize, counts: &mut Counts) -> u64 {
        let mut at = now + COSTS.call + COSTS.page * pages as u64;
        for (lock, moved) in HOLDS.take() {
            let (free_at, last) = self.locks.entry(lock).or_insert((0, u32::MAX));
            let waited = free_at.saturating_sub(at);
            let comes = *last != cpu;
            counts.locks += 1;
            counts.transfers += u64::from(comes);
            counts.waited += waited;
            at += waited + COSTS.hold + COSTS.moved * moved as u64;
            at += if comes { COSTS.transfer } else { 0 };
            (*free_at, *last) = (at, cpu);
        }
        counts.claims += CLAIMS.get();
        // Each page is moved twice.
        counts.pages += pages as u64 / 2;
        counts.busy += at - now;
        at
    }
}

impl core::fmt::Display for Costs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { call, page, hold, moved, transfer } = *self;
        let [call, page, hold, moved, transfer] =
            [call, page, hold, moved, transfer].map(|ps| ps as f64 / 1000.0);
        write!(
            f,
            "a call {call} ns and {page} for each page, a zone lock {hold} ns and {moved} for each \
             page that it moves, {transfer} more if another CPU had it last"
        )
    }
}
