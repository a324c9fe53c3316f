//! Contiguous ranges: compared with a naive bit vector, at random and exhaustively; errors, filling, hold
//! times, hooks, threads.

extern crate alloc;

use alloc::collections::BTreeSet;
use core::error::Error as _;
use core::ops::Range;
use std::thread;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::contig::{ContigError, ContigRequest, FrameRange};
use pagemill::debug::Event;
use pagemill::source::PageSource;
use pagemill::units::{PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, Config, Folio, Gfp, Page, Shortage};
use pagemill_testkit::{
    Frames, NORMAL, Rng, Traces, World, order, pages, play_seeds, region, reserved, set_cpu, traced,
};

const RUNS: u64 = if cfg!(miri) { 1 } else { 12 };
const STEPS: usize = if cfg!(miri) { 10 } else { 1_500 };

/// A configuration without reserves, in which a list holds one page.
fn bare<'a>(memory: &'a [pagemill::setup::MemoryRegion]) -> Config<'a> {
    Config {
        pcp_high: Some(1),
        min_free_bytes: Some(0),
        watermark_scale_factor: 0,
        lowmem_reserve_ratio: [0; 4],
        nr_accounts: 4,
        ..Config::new(memory, 2)
    }
}

/// Returns a zone of one range.
fn one(pfns: Range<u64>) -> Vec<Range<u64>> {
    core::iter::once(pfns).collect()
}

/// Returns a number as the size of something in memory.
fn size(nr: u64) -> usize {
    usize::try_from(nr).expect("no more than a test needs")
}

fn address(pfn: u64) -> PhysAddr {
    Pfn::new(pfn).start()
}

/// The free frames of a zone, and which frames it has.
struct Model {
    /// Frames of the zone that are not reserved, in ascending order of ranges.
    zone: Vec<Range<u64>>,
    free: BTreeSet<u64>,
}

impl Model {
    fn new(zone: Vec<Range<u64>>) -> Self {
        Self { free: zone.iter().cloned().flatten().collect(), zone }
    }

    /// Returns the largest number of frames up to `nr` that can begin at a multiple of `align` and end
    /// at `end` or before.
    fn longest(&self, nr: u64, align: u64, end: u64) -> u64 {
        let starts = self.free.iter().filter(|&&pfn| pfn % align == 0);
        let length = |&start: &u64| {
            let run = (start..end.min(start + nr)).take_while(|pfn| self.free.contains(pfn));
            run.count() as u64
        };
        starts.map(length).max().unwrap_or(0)
    }

    fn take(&mut self, pfns: Range<u64>) {
        for pfn in pfns {
            assert!(self.free.remove(&pfn), "frame {pfn:#x} was handed out twice");
        }
    }

    fn put(&mut self, pfns: Range<u64>) {
        for pfn in pfns {
            assert!(self.free.insert(pfn), "frame {pfn:#x} was freed twice");
        }
    }
}

/// What is held.
enum Held<'w> {
    Range(FrameRange<Frames<'w>>),
    Folio(Folio<Frames<'w>>),
    Page(Page<Frames<'w>>),
}

impl Held<'_> {
    fn pfns(&self) -> Range<u64> {
        let (pfn, nr) = match self {
            Self::Range(range) => (range.pfn(), range.nr_pages()),
            Self::Folio(folio) => (folio.pfn(), folio.order().nr_pages()),
            Self::Page(page) => (page.pfn(), 1),
        };
        pfn.value()..pfn.value() + nr as u64
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Contig { gfp: Gfp, nr: usize, min: usize, align: usize, end: Option<u64> },
    Range { gfp: Gfp, start: u64, nr: usize },
    At { start: u64, order: u8 },
    Page(Gfp),
    Pages(usize),
    Block(u8),
    Split { which: usize, at: usize },
    Take { which: usize, nr: usize },
    Whole(usize),
    Raw(usize),
    Free(usize),
    FreeHalf,
    Switch(u32),
}

struct Player<'w> {
    world: &'w World,
    model: Model,
    held: Vec<Held<'w>>,
    nr_found: usize,
    nr_refused: usize,
}

impl<'w> Player<'w> {
    fn op(&mut self, rng: &mut Rng, nr_max: usize) -> Op {
        let (first, last) =
            (self.model.zone[0].start, self.model.zone[self.model.zone.len() - 1].end);
        let any = |rng: &mut Rng| first + rng.below(size(last - first)) as u64;
        let gfp = rng.pick(&[Gfp::KERNEL, Gfp::KERNEL, Gfp::USER | Gfp::MOVABLE, Gfp::NOWAIT]);
        let nr = 1 + rng.below(nr_max);
        match rng.below(22) {
            0..6 => {
                let align = 1 << rng.pick(&[0, 0, 0, 1, 3, 6, 9, 10, 11]);
                let end = rng.chance(20).then(|| any(rng));
                let min = if rng.chance(30) { 1 + rng.below(nr) } else { nr };
                Op::Contig { gfp, nr, min, align, end }
            }
            6 | 7 => Op::Range { gfp, start: any(rng), nr: 1 + rng.below(nr_max.min(40)) },
            8 => Op::At { start: any(rng), order: rng.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) },
            9 => Op::Page(gfp),
            10 => Op::Pages(rng.below(100)),
            11 => Op::Block(rng.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])),
            12 | 13 => Op::Split { which: rng.below(1 << 20), at: rng.below(1 << 20) },
            14 => Op::Take { which: rng.below(1 << 20), nr: rng.below(9) },
            15 => Op::Whole(rng.below(1 << 20)),
            16 => Op::Raw(rng.below(1 << 20)),
            17 => Op::Switch(u32::from(rng.chance(50))),
            18 if rng.chance(5) => Op::FreeHalf,
            _ => Op::Free(rng.below(1 << 20)),
        }
    }

    fn frames(&self) -> Frames<'w> {
        self.world.frames()
    }

    fn hold(&mut self, held: Held<'w>) {
        self.model.take(held.pfns());
        self.held.push(held);
    }

    /// Takes out one of the things held, if there are any.
    fn pick(&mut self, which: usize) -> Option<Held<'w>> {
        (!self.held.is_empty()).then(|| self.held.swap_remove(which % self.held.len()))
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Contig { gfp, nr, min, align, end } => self.contig(gfp, nr, min, align, end),
            Op::Range { gfp, start, nr } => self.range(gfp, start, nr),
            Op::At { start, order: exponent } => {
                let nr = order(exponent).nr_pages() as u64;
                let start = start / nr * nr;
                let is_free = (start..start + nr).all(|pfn| self.model.free.contains(&pfn));
                let got = self.frames().alloc_at(Gfp::KERNEL, Pfn::new(start), order(exponent));
                assert_eq!(got.is_ok(), is_free, "{got:?}");
                got.into_iter().for_each(|folio| self.hold(Held::Folio(folio)));
            }
            Op::Page(gfp) => {
                let page = self.frames().alloc_page(gfp);
                page.into_iter().for_each(|page| self.hold(Held::Page(page)));
            }
            Op::Pages(nr) => {
                let mut slots = Vec::new();
                slots.resize_with(nr, || None);
                self.frames().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
                slots.into_iter().flatten().for_each(|page| self.hold(Held::Page(page)));
            }
            Op::Block(exponent) => {
                let folio = self.frames().alloc_pages(Gfp::KERNEL, order(exponent));
                folio.into_iter().for_each(|folio| self.hold(Held::Folio(folio)));
            }
            Op::Free(which) => {
                let held = self.pick(which);
                held.into_iter().for_each(|held| self.free(held));
            }
            Op::FreeHalf => {
                let half = self.held.split_off(self.held.len() / 2);
                half.into_iter().for_each(|held| self.free(held));
            }
            Op::Switch(cpu) => set_cpu(cpu),
            Op::Split { which, .. }
            | Op::Take { which, .. }
            | Op::Whole(which)
            | Op::Raw(which) => {
                let held = self.pick(which);
                held.into_iter().for_each(|held| self.reshape(op, held));
            }
        }
    }

    fn contig(&mut self, gfp: Gfp, nr: usize, min: usize, align: usize, end: Option<u64>) {
        let limit = end.map(address);
        let request = ContigRequest { min, align, limit, ..ContigRequest::new(gfp, nr) };
        self.world.drain_all_pages();
        let end = end.unwrap_or(u64::MAX);
        let longest = self.model.longest(nr as u64, align as u64, end);
        match self.frames().alloc_contig_with(&request) {
            Ok(range) => {
                assert_eq!(range.nr_pages() as u64, longest, "{range:?} for {request:?}");
                assert_eq!(range.pfn().value() % align as u64, 0, "{range:?}");
                assert!(range.pfn().value() + longest <= end, "{range:?}");
                self.nr_found += 1;
                self.hold(Held::Range(range));
            }
            Err(error) => {
                assert!(
                    longest < min as u64,
                    "{error} for {request:?}, of which {longest} are free"
                );
                self.nr_refused += 1;
            }
        }
    }

    fn range(&mut self, gfp: Gfp, start: u64, nr: usize) {
        let end = start + nr as u64;
        let is_free = (start..end).all(|pfn| self.model.free.contains(&pfn));
        match self.frames().alloc_contig_range(gfp, Pfn::new(start), nr) {
            Ok(range) => {
                assert_eq!((range.pfn().value(), range.nr_pages()), (start, nr));
                self.hold(Held::Range(range));
            }
            Err(error) => {
                assert!(!is_free, "{error}, but all frames are free");
                if let ContigError::InUse { pfn, .. } = error {
                    let first = (start..end).find(|pfn| !self.model.free.contains(pfn));
                    assert_eq!(first, Some(pfn.value()));
                }
            }
        }
    }

    /// Turns what is held into something else, without freeing it.
    fn reshape(&mut self, op: Op, held: Held<'w>) {
        let pfns = held.pfns();
        let range = match held {
            Held::Range(range) => range,
            Held::Folio(folio) => FrameRange::from(folio),
            Held::Page(page) => FrameRange::from(page),
        };
        let before = self.held.len();
        match op {
            Op::Split { at, .. } => {
                let at = at % (range.nr_pages() + 1);
                let (front, back) = range.split_at(at);
                assert_eq!(front.nr_pages() + back.nr_pages(), size(pfns.end - pfns.start));
                self.held.extend([front, back].map(Held::Range));
                self.held.retain(|held| !held.pfns().is_empty());
            }
            Op::Take { nr, .. } => {
                let mut pages = range.into_pages();
                self.held.extend(pages.by_ref().take(nr).map(Held::Page));
                let rest = pfns.end - pages.len() as u64..pfns.end;
                drop(pages);
                self.model.put(rest.clone());
                let kept: Vec<_> = self.held[before..].iter().flat_map(Held::pfns).collect();
                assert_eq!(kept, (pfns.start..rest.start).collect::<Vec<_>>());
                return;
            }
            Op::Raw(_) => {
                let (first, nr) = range.into_raw();
                // SAFETY: 1. returned just now, by a range of this allocator; one owner.
                let range = unsafe { FrameRange::from_raw(self.world.frames(), first, nr) };
                self.held.push(Held::Range(range));
            }
            _ => {
                let nr = pfns.end - pfns.start;
                let fits = nr.is_power_of_two() && nr <= 1024 && pfns.start.is_multiple_of(nr);
                let folio = range.into_folio();
                assert_eq!(folio.is_ok(), fits);
                self.held.push(folio.map_or_else(Held::Range, Held::Folio));
            }
        }
        assert_eq!(
            self.held[before..].iter().flat_map(Held::pfns).collect::<Vec<_>>(),
            pfns.collect::<Vec<_>>()
        );
    }

    fn free(&mut self, held: Held<'w>) {
        self.model.put(held.pfns());
        drop(held);
    }

    fn check(&self) {
        assert_eq!(self.world.nr_free_pages(), self.model.free.len() as u64);
        assert_eq!(self.world.validate(), Ok(()));
    }
}

/// Plays random runs in a world whose one zone has the unreserved frames `zone`.
fn play(name: &str, config: &Config<'_>, zone: &[Range<u64>]) {
    let (mut nr_found, mut nr_refused) = (0, 0);
    for (found, refused) in play_seeds(name, RUNS, |seed, steps: &mut Vec<Op>| {
        let world = World::new(config);
        let mut rng = Rng::new(seed);
        let nr_max = rng.pick(&[8, 70, 300, 2000]);
        let (model, held) = (Model::new(zone.to_vec()), Vec::new());
        let mut player = Player { world: &world, model, held, nr_found: 0, nr_refused: 0 };
        for step in 0..STEPS {
            let op = player.op(&mut rng, nr_max);
            steps.push(op);
            player.play(op);
            if step % 16 == 0 {
                player.check();
            }
        }
        (player.nr_found, player.nr_refused)
    }) {
        nr_found += found;
        nr_refused += refused;
    }
    if RUNS > 1 && std::env::var("PAGEMILL_SEED").is_err() {
        assert!(nr_found >= 100 && nr_refused >= 100, "{nr_found} found, {nr_refused} refused");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn one_zone_as_a_bit_vector() {
    let memory = [region(NORMAL, 4096, 0)];
    play("one zone", &bare(&memory), &one(NORMAL..NORMAL + 4096));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn shards_as_a_bit_vector() {
    let memory = [region(NORMAL + 512, 4000, 0)];
    let config = Config { nr_zone_shards: Some(4), ..bare(&memory) };
    play("four shards", &config, &one(NORMAL + 512..NORMAL + 4512));
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn holes_and_reserved_frames_as_a_bit_vector() {
    // The second region begins where the first ends; the third in the pageblock in which the second ends.
    let memory = [
        region(NORMAL + 7, 600, 0),
        region(NORMAL + 607, 700, 0),
        region(NORMAL + 1400, 800, 0),
        region(NORMAL + 4096, 33, 0),
    ];
    let reserved = [reserved(NORMAL + 100, 31), reserved(NORMAL + 4096, 1)];
    let config = Config { reserved: &reserved, nr_zone_shards: Some(2), ..bare(&memory) };
    let zone = [7..100, 131..607, 607..1307, 1400..2200, 4097..4129];
    play("holes", &config, &zone.map(|pfns| NORMAL + pfns.start..NORMAL + pfns.end));
}

/// All worlds of a few frames in use, at the borders of two pageblocks and of two shards.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: many worlds")]
fn every_small_request_in_every_small_world() {
    const WINDOW: u64 = 8;
    let memory = [region(NORMAL, 2048, 0)];
    let config = Config { nr_zone_shards: Some(2), ..bare(&memory) };
    let world = World::new(&config);
    // In the middle of a pageblock, across two pageblocks of one shard, and across the shards.
    for window in [NORMAL + 60, NORMAL + 508, NORMAL + 1020] {
        // All other frames are in use.
        let before = size(window - NORMAL);
        let behind = size(NORMAL + 2048 - window - WINDOW);
        let frames = world.frames();
        let start = frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL), before).unwrap();
        let rest = Pfn::new(window + WINDOW);
        let rest = frames.alloc_contig_range(Gfp::KERNEL, rest, behind).unwrap();
        for used in 0..1_u64 << WINDOW {
            let mut model = Model::new(one(window..window + WINDOW));
            let mut held = Vec::new();
            for pfn in (window..window + WINDOW).filter(|pfn| used >> (pfn - window) & 1 != 0) {
                model.take(pfn..pfn + 1);
                held.push(frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(pfn), 1).unwrap());
            }
            for nr in 1..=WINDOW {
                for align in [1, 2, 4, 8] {
                    for end in [window + 3, window + WINDOW] {
                        let request = ContigRequest {
                            min: 1,
                            align: size(align),
                            limit: Some(address(end)),
                            ..ContigRequest::new(Gfp::KERNEL, size(nr))
                        };
                        let got = frames.alloc_contig_with(&request);
                        let nr_got = got.as_ref().map_or(0, FrameRange::nr_pages) as u64;
                        assert_eq!(nr_got, model.longest(nr, align, end), "{used:b} {request:?}");
                        got.into_iter().for_each(|range| {
                            let pfn = range.pfn().value();
                            model.take(pfn..pfn + nr_got);
                            drop(range);
                            model.put(pfn..pfn + nr_got);
                        });
                    }
                }
            }
            assert_eq!(world.validate(), Ok(()));
        }
        drop((start, rest));
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn ranges_of_33_frames_fill_99_percent() {
    const NR: u64 = 64 << 9;
    for nr_zone_shards in [1, 4] {
        let memory = [region(NORMAL, NR, 0)];
        let world = World::new(&Config { nr_zone_shards: Some(nr_zone_shards), ..bare(&memory) });
        let mut ranges = Vec::new();
        while let Ok(range) = world.frames().alloc_contig(Gfp::KERNEL, 33, 1, None) {
            ranges.push(range);
        }
        let filled = ranges.len() as u64 * 33;
        assert!(filled * 100 >= NR * 99, "{filled} of {NR} in {nr_zone_shards} shards");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn the_whole_zone_is_one_range() {
    let memory = [region(NORMAL + 3, 10_000, 0)];
    let world = World::new(&Config { nr_zone_shards: Some(8), ..bare(&memory) });
    // A page in a list is in the way until the lists are drained.
    drop(world.frames().alloc_page(Gfp::KERNEL));
    let all = world.frames().alloc_contig(Gfp::KERNEL, 10_000, 1, None).unwrap();
    assert_eq!((all.pfn().value(), all.nr_pages()), (NORMAL + 3, 10_000));
    assert_eq!(world.nr_free_pages(), 0);
    // Freed in pieces of odd sizes, the last one first.
    let mut rest = all;
    for at in [9_000, 8_999, 5_120, 513, 511, 1] {
        drop(rest.split_off(at));
    }
    drop(rest);
    assert!(world.frames().alloc_contig(Gfp::KERNEL, 10_000, 1, None).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_heap_doubles_as_long_as_a_quarter_of_memory_is_free() {
    const NR: usize = 64 << 9;
    let memory = [region(NORMAL, NR as u64, 0)];
    let world = World::new(&bare(&memory));
    let mut heap = world.frames().alloc_contig(Gfp::KERNEL, 1, 1, None).unwrap();
    while heap.nr_pages() < NR / 2 {
        heap = world.frames().alloc_contig(Gfp::KERNEL, 2 * heap.nr_pages(), 1, None).unwrap();
    }
}

#[test]
fn values_that_cannot_be_served_are_named_in_errors() {
    let memory = [region(NORMAL, 600, 0), region(NORMAL + 700, 1000, 0)];
    let world = World::new(&bare(&memory));
    let frames = world.frames();
    let contig = |nr, align, limit: Option<u64>| {
        let limit = limit.map(PhysAddr::new);
        frames.alloc_contig(Gfp::KERNEL, nr, align, limit).unwrap_err().to_string()
    };
    assert_eq!(contig(0, 1, None), "0 frames were requested: ask for at least 1");
    for align in [0, 3, usize::MAX] {
        let expected = format!(
            "an alignment of {align} frames is not possible: it must be a power of two, 1 for none"
        );
        assert_eq!(contig(1, align, None), expected);
    }
    let lowest = "no memory that the request may use is below";
    assert_eq!(contig(1, 1, Some(0)), format!("{lowest} 0x0: the lowest is at 0x100000000"));
    assert!(contig(1, 1, Some((NORMAL << 12) + 4095)).starts_with(lowest));
    let too_long = |nr: usize, largest| {
        format!(
            "{nr} adjacent frames are not possible: a range is in one zone, and the longest one with the \
             request's alignment and limit has {largest} frames"
        )
    };
    assert_eq!(contig(usize::MAX, 1, None), too_long(usize::MAX, 1000));
    assert_eq!(contig(601, 1, Some((NORMAL + 701) << 12)), too_long(601, 600));
    let none_aligned = |align: usize| {
        format!(
            "no frame that the request may use is a multiple of {align} frames and below its limit: \
             choose a smaller alignment"
        )
    };
    assert_eq!(contig(1, 1 << 40, None), none_aligned(1 << 40));
    assert_eq!(contig(1, 1 << 63, None), none_aligned(1 << 63));
    // One byte too low for two frames, and just enough.
    assert_eq!(contig(2, 1, Some(((NORMAL + 2) << 12) - 1)), too_long(2, 1));
    assert!(frames.alloc_contig(Gfp::KERNEL, 2, 1, Some(address(NORMAL + 2))).is_ok());
    for min in [0, 9] {
        let request = ContigRequest { min, ..ContigRequest::new(Gfp::KERNEL, 8) };
        let error = frames.alloc_contig_with(&request).unwrap_err();
        assert_eq!(error, ContigError::BadNr { nr: 8, min });
        assert!(error.to_string().contains("allowed are 1 to 8"), "{error}");
    }
    for limit in [None, Some(PhysAddr::new(1 << 24))] {
        let dma = frames.alloc_contig(Gfp::DMA, 1, 1, limit).unwrap_err();
        assert_eq!(dma, ContigError::NoZone { gfp: Gfp::DMA });
        assert!(dma.to_string().ends_with("set Config::zone_dma, or leave out Gfp::DMA"), "{dma}");
    }
}

#[test]
fn free_frames_that_are_not_adjacent_are_told_from_no_free_frames() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&bare(&memory));
    let frames = world.frames();
    let all = frames.alloc_contig(Gfp::KERNEL, 64, 1, None).unwrap();
    let error = frames.alloc_contig(Gfp::KERNEL, 2, 1, None).unwrap_err();
    assert_eq!(error, ContigError::Short { nr: 2, short: Shortage::Memory });
    let held: Vec<_> = all.into_pages().filter(|page| page.pfn().value() % 2 == 0).collect();
    let error = frames.alloc_contig(Gfp::KERNEL, 2, 1, None).unwrap_err();
    assert_eq!(error, ContigError::Fragmented { nr: 2, nr_free: 32 });
    assert_eq!(error.shortage(), Some(Shortage::Memory));
    assert_eq!(
        error.to_string(),
        "32 frames are free above the reserve, but no 2 of them are adjacent where the request's \
         alignment and limit allow it: free adjacent frames, or ask for fewer"
    );
    drop(held);
}

#[test]
fn a_range_that_is_not_all_there_is_refused() {
    let memory = [
        region(NORMAL - 100, 100, 0),
        region(NORMAL, 600, 0),
        region(NORMAL + 600, 10, 0),
        region(NORMAL + 700, 1000, 0),
    ];
    let world = World::new(&Config { page_owner: true, ..bare(&memory) });
    let frames = world.frames();
    let range = |start, nr| frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(start), nr);
    let not_in_map = |pfn| ContigError::NotInMap { pfn };
    assert_eq!(range(NORMAL, 0).unwrap_err(), ContigError::BadNr { nr: 0, min: 0 });
    assert_eq!(range(1, 1).unwrap_err(), not_in_map(1));
    assert_eq!(range(NORMAL + 590, 30).unwrap_err(), not_in_map(NORMAL + 610));
    assert_eq!(range(NORMAL + 600, 200).unwrap_err(), not_in_map(NORMAL + 610));
    assert_eq!(range(NORMAL + 1690, usize::MAX).unwrap_err(), not_in_map(NORMAL + 1700));
    assert_eq!(range(Pfn::MAX.value(), 1).unwrap_err(), not_in_map(Pfn::MAX.value()));
    let crosses = ContigError::CrossesZones { pfn: Pfn::new(NORMAL) };
    assert_eq!(range(NORMAL - 1, 2).unwrap_err(), crosses);
    // Across two regions that touch.
    let held = range(NORMAL + 590, 20).unwrap();
    let error = range(NORMAL + 580, 20).unwrap_err();
    let ContigError::InUse { pfn, owner: Some(owner) } = error else { panic!("{error}") };
    assert_eq!(pfn, held.pfn());
    assert!(error.to_string().contains(&format!("allocated at {}", owner.file())), "{error}");
    let at = |pfn, exponent| frames.alloc_at(Gfp::KERNEL, Pfn::new(pfn), order(exponent));
    let misaligned = ContigError::Misaligned { pfn: Pfn::new(NORMAL + 2), order: order(2) };
    assert_eq!(at(NORMAL + 2, 2).unwrap_err(), misaligned);
    assert_eq!(at(NORMAL + 2, 1).unwrap().order(), order(1));
    assert!(matches!(at(NORMAL + 590, 0), Err(ContigError::InUse { .. })));
}

#[test]
#[should_panic(expected = "split at frame 4: the range has 3 frames")]
fn a_split_behind_the_end_panics() {
    let world = World::bare(64);
    let range = world.frames().alloc_contig(Gfp::KERNEL, 3, 1, None).unwrap();
    let _parts = range.split_at(4);
}

#[test]
fn a_range_frees_itself_in_any_pieces() {
    let world = World::bare(2048);
    let mut range = world.frames().alloc_contig(Gfp::KERNEL, 1000, 1, None).unwrap();
    let (empty, all) = range.split_off(1000).split_at(0);
    assert_eq!((empty.nr_pages(), all.nr_pages()), (0, 0));
    let mut middle = range.split_off(300);
    let back = middle.split_off(300);
    assert_eq!([&range, &middle, &back].map(FrameRange::nr_pages), [300, 300, 400]);
    drop(middle);
    assert_eq!(world.nr_out(), 700);
    assert_eq!(back.into_pages().skip(100).count(), 300);
    assert_eq!(world.nr_out(), 300);
}

#[test]
fn ranges_are_joined_if_they_are_adjacent_and_of_one_class() {
    let (world, other) = (World::bare(64), World::bare(64));
    let (mut range, back) =
        world.frames().alloc_contig(Gfp::KERNEL, 10, 1, None).unwrap().split_at(4);
    let foreign = other.frames().alloc_contig(Gfp::KERNEL, 10, 1, None).unwrap().split_at(4).1;
    assert_eq!(range.pfn().value() + 4, foreign.pfn().value());
    assert!(range.append(foreign).is_err());
    assert_eq!((range.nr_pages(), other.nr_out()), (4, 0));
    let (middle, back) = back.split_at(3);
    let back = range.append(back).unwrap_err();
    range.append(middle).unwrap();
    let pfn = back.pfn();
    drop(back);
    let (mut empty, range) = range.split_at(0);
    empty.append(range).unwrap();
    assert_eq!((empty.nr_pages(), world.nr_out()), (7, 7));
    let account = Account::open(world.frames(), AccountLimits::NONE).unwrap();
    let request =
        ContigRequest { account: Some(account.id()), ..ContigRequest::new(Gfp::KERNEL, 3) };
    let charged = world.frames().alloc_contig_with(&request).unwrap();
    assert_eq!(charged.pfn(), pfn);
    let charged = empty.append(charged).unwrap_err();
    drop(charged);
    assert_eq!((account.usage().current, world.nr_out()), (0, 7));
}

/// A range has all that a page has: poison, owners, charges, zeroes, events and faults.
#[test]
fn hooks_run_for_each_frame() {
    let memory = [region(NORMAL, 256, 0)];
    let machine = pagemill_testkit::Machine::with_memory(2, NORMAL, 256);
    let config = Config { page_owner: true, poison: true, ..bare(&memory) };
    let world = World::on(machine, &config);
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits { max: 40, ..AccountLimits::NONE }).unwrap();
    let request =
        ContigRequest { account: Some(account.id()), ..ContigRequest::new(Gfp::KERNEL, 33) };
    let mut range = frames.alloc_contig_with(&request).unwrap();
    assert_eq!(account.usage().current, 33);
    let mut nr_owned = 0;
    world.for_each_owner(|_, site| nr_owned += usize::from(site.file().ends_with("contig.rs")));
    assert_eq!(nr_owned, 33);
    assert_eq!(range.as_bytes().len(), 33 * PAGE_SIZE);
    range.as_bytes_mut().fill(7);
    assert_eq!(frames.alloc_contig_with(&request).unwrap_err().shortage(), Some(Shortage::Account));
    // As many as the account can pay for.
    let some = ContigRequest { min: 1, ..request };
    assert_eq!(frames.alloc_contig_with(&some).unwrap().nr_pages(), 7);
    let back = range.split_off(30);
    drop(range);
    assert_eq!((account.usage().current, world.validate()), (3, Ok(())));
    drop(back);
    assert_eq!((account.usage().current, world.validate()), (0, Ok(())));
    let zeroed = frames.alloc_contig(Gfp::KERNEL | Gfp::ZERO, 33, 1, None).unwrap();
    assert!(zeroed.as_bytes().iter().all(|&byte| byte == 0));
    drop(zeroed);
    let events = traced(Traces::Pages, || {
        world.look_for_tracers();
        drop(frames.alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL + 3), 33));
    });
    world.look_for_tracers();
    let sum = |wanted: fn(&Event) -> Option<usize>| events.iter().filter_map(wanted).sum::<usize>();
    let allocated = sum(|event| match event {
        Event::PageAlloc { order, .. } => Some(order.nr_pages()),
        _ => None,
    });
    let freed = sum(|event| match event {
        Event::PageFree { order, .. } => Some(order.nr_pages()),
        _ => None,
    });
    assert_eq!((allocated, freed), (33, 33));
    world.fail_all(true);
    let error = frames.alloc_contig(Gfp::KERNEL, 2, 1, None).unwrap_err();
    world.fail_all(false);
    assert_eq!(error, ContigError::Short { nr: 2, short: Shortage::Fault });
    assert!(error.source().is_some_and(|source| source.to_string() == "a fault was injected"));
}

#[test]
fn a_range_leaves_the_reserve_alone() {
    // 256 frames, of which ordinary requests leave 100.
    let world = World::exact();
    let frames = world.frames();
    let short = |error: ContigError| error.shortage();
    assert_eq!(
        frames.alloc_contig(Gfp::KERNEL, 200, 1, None).map_err(short).err(),
        Some(Some(Shortage::Memory))
    );
    let first = Pfn::new(NORMAL);
    let error = frames.alloc_contig_range(Gfp::KERNEL, first, 200).unwrap_err();
    assert_eq!(short(error), Some(Shortage::Memory));
    let range = frames.alloc_contig(Gfp::KERNEL | Gfp::MEMALLOC, 200, 1, None).unwrap();
    assert_eq!(range.nr_pages(), 200);
    drop(range);
    assert!(frames.alloc_contig_range(Gfp::KERNEL | Gfp::MEMALLOC, first, 200).is_ok());
    // What is above the reserve, if that is enough.
    let some = ContigRequest { min: 1, ..ContigRequest::new(Gfp::KERNEL, 200) };
    let range = frames.alloc_contig_with(&some).unwrap();
    assert!((100..=156).contains(&range.nr_pages()), "{range:?}");
}

#[test]
fn counters_count_frames() {
    let world = World::bare(2048);
    let before = world.vmstat();
    drop(world.frames().alloc_contig(Gfp::KERNEL, 700, 1, None));
    drop(world.frames().alloc_contig_range(Gfp::KERNEL, Pfn::new(NORMAL + 5), 33));
    let after = world.vmstat();
    assert_eq!(after.pgalloc.iter().sum::<u64>() - before.pgalloc.iter().sum::<u64>(), 733);
    assert_eq!(after.pgfree - before.pgfree, 733);
    assert_eq!((after.numa_hit - before.numa_hit, after.numa_miss), (2, before.numa_miss));
}

/// Lengths of the holds of shards, in pageblocks that were looked at, cannot be seen from outside; their
/// number can: a long search or a long range is many holds.
#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_shard_is_held_for_a_bounded_number_of_pageblocks() {
    const NR_BLOCKS: usize = 256;
    let memory = [region(NORMAL, (NR_BLOCKS << 9) as u64, 0)];
    let world = World::new(&Config { nr_zone_shards: Some(1), ..bare(&memory) });
    let frames = world.frames();
    let holds = |body: &mut dyn FnMut()| {
        let events = traced(Traces::Events, body);
        events.iter().filter(|event| matches!(event, Event::ZoneLocked { .. })).count()
    };
    let mut whole = None;
    let taken =
        holds(&mut || whole = frames.alloc_contig(Gfp::KERNEL, NR_BLOCKS << 9, 1, None).ok());
    assert!(taken >= NR_BLOCKS / 16 + NR_BLOCKS / 32, "{taken} holds for {NR_BLOCKS} pageblocks");
    let freed = holds(&mut || drop(whole.take()));
    assert!(freed >= NR_BLOCKS / 16, "{freed} holds for {NR_BLOCKS} pageblocks");
    // Every second frame of each pageblock is in use. The pageblocks' lists rule all of them out, so the
    // search reads only the ends of their bitmaps.
    let mut held = Vec::new();
    let all = frames.alloc_contig(Gfp::KERNEL, NR_BLOCKS << 9, 1, None).unwrap();
    held.extend(all.into_pages().filter(|page| page.pfn().value() % 2 == 0));
    world.drain_all_pages();
    let searched = holds(&mut || assert!(frames.alloc_contig(Gfp::NOWAIT, 600, 1, None).is_err()));
    assert!(searched >= NR_BLOCKS / 32, "{searched} holds for {NR_BLOCKS} pageblocks");
    // Runs of 3 in each pageblock: a search for 5 reads every bitmap.
    held.retain(|page| page.pfn().value() % 4 == 0);
    world.drain_all_pages();
    let searched = holds(&mut || assert!(frames.alloc_contig(Gfp::NOWAIT, 5, 1, None).is_err()));
    assert!(searched >= NR_BLOCKS / 8, "{searched} holds for {NR_BLOCKS} pageblocks");
    // Runs of 3 that are of use only at other addresses: each is looked at.
    let misaligned = || frames.alloc_contig(Gfp::NOWAIT, 3, 4, None);
    let searched = holds(&mut || assert!(misaligned().is_err()));
    assert!(searched >= NR_BLOCKS, "{searched} holds for {NR_BLOCKS} pageblocks");
}

/// Threads take ranges at random and by number; the frames of each thread are its own.
#[test]
fn threads_never_share_a_frame() {
    const NR_THREADS: u32 = 4;
    const STEPS: usize = if cfg!(miri) { 8 } else { 4_000 };
    let memory = [region(NORMAL, 4096, 0)];
    let world = World::new(&Config { nr_zone_shards: Some(2), ..bare(&memory) });
    let owners: Vec<_> = (0..4096).map(|_| std::sync::Mutex::new(())).collect();
    thread::scope(|scope| {
        for cpu in 0..NR_THREADS {
            let (frames, owners) = (world.frames(), &owners);
            scope.spawn(move || {
                set_cpu(cpu % 2);
                let mut rng = Rng::new(cpu.into());
                let mut held = Vec::new();
                for _ in 0..STEPS {
                    let nr_max = rng.pick(&[3, 40, 1500]);
                    let nr = 1 + rng.below(nr_max);
                    let range = match rng.below(4) {
                        0 => {
                            let start = Pfn::new(NORMAL + rng.below(4096 - nr) as u64);
                            frames.alloc_contig_range(Gfp::NOWAIT, start, nr)
                        }
                        1 => {
                            let request =
                                ContigRequest { min: 1, ..ContigRequest::new(Gfp::NOWAIT, nr) };
                            frames.alloc_contig_with(&request)
                        }
                        _ => frames.alloc_contig(Gfp::NOWAIT, nr, 1, None),
                    };
                    if let Ok(range) = range {
                        let first = size(range.pfn().value() - NORMAL);
                        let locked: Vec<_> = owners[first..first + range.nr_pages()]
                            .iter()
                            .map(|owner| owner.try_lock().expect("no other thread has the frame"))
                            .collect();
                        held.push((locked, range));
                    }
                    while held.len() > 8 || !held.is_empty() && rng.chance(50) {
                        held.swap_remove(rng.below(held.len()));
                    }
                }
            });
        }
    });
    assert_eq!(world.validate(), Ok(()));
}

/// A range can be sent to another thread if its source can, as a folio can.
#[test]
fn ranges_are_as_sendable_as_folios() {
    fn check<T: Send + Sync>() {}
    fn example<S: PageSource + Send + Sync>() {
        check::<Folio<S>>();
        check::<FrameRange<S>>();
    }
    example::<pagemill_testkit::SharedWorld>();
    let _unused = pages(1);
}
