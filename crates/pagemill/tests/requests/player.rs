//! Serves random requests, notes what is held, and compares after every step.

mod checks;
mod contig;

use alloc::collections::BTreeMap;
use core::mem::MaybeUninit;

use pagemill::debug::FaultConfig;
use pagemill::handles::{Listable, Owned, free_pages_bulk};
use pagemill::request::{BulkError, BulkItem};
use pagemill::stats::{VmStat, ZoneInfo};
use pagemill::units::Pfn;
use pagemill::{AllocPages, BulkRequest, Folio, Gfp, Order, Page, PageList};
use pagemill_testkit::{Frames, World, check_balance, set_account, set_cpu, take_zeroed};

use crate::payers::Payers;
use crate::shape::{Outcome, Shape, Sink};
use crate::tally::Tally;

pub(crate) use contig::Contig;

/// What a request handed out.
pub(crate) enum Block<'w> {
    Page(Page<Frames<'w>>),
    Folio(Folio<Frames<'w>>),
}

struct Held<'w> {
    block: Block<'w>,
    payer: Option<usize>,
}

/// What is known before a request.
struct Before {
    stat: VmStat,
    zones: Vec<ZoneInfo>,
    /// Free pages of each zone, those in lists included.
    free: Vec<u64>,
}

/// An allocator and everything that it handed out.
pub(crate) struct Player<'w> {
    frames: Frames<'w>,
    pub(crate) payers: Payers<'w>,
    held: Vec<Held<'w>>,
    /// The frames held, and by which block.
    pfns: BTreeMap<u64, u64>,
    cpu: u32,
    cpu_nodes: Vec<u8>,
    /// How many pages a list may take from its zone beyond what is asked for.
    slack: u64,
    has_owners: bool,
    pub(crate) tally: Tally,
}

impl<'w> Block<'w> {
    fn into_page(self) -> Result<Page<Frames<'w>>, Self> {
        match self {
            Self::Page(page) => Ok(page),
            folio @ Self::Folio(_) => Err(folio),
        }
    }

    fn pfn(&self) -> u64 {
        match self {
            Self::Page(page) => page.pfn().value(),
            Self::Folio(folio) => folio.pfn().value(),
        }
    }

    fn order(&self) -> Order {
        match self {
            Self::Page(_) => Order::ZERO,
            Self::Folio(folio) => folio.order(),
        }
    }

    fn pfns(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.pfn();
        first..first + self.order().nr_pages() as u64
    }

    /// Gives the block up by the numbers of its frames.
    fn into_pfns(self) -> impl Iterator<Item = Pfn> {
        let nr_pages = self.order().nr_pages() as u64;
        let first = match self {
            Self::Page(page) => page.into_pfn(),
            Self::Folio(folio) => folio.into_pfn(),
        };
        (0..nr_pages).map(move |frame| first.offset(frame))
    }
}

impl<'w> Player<'w> {
    pub(crate) fn new(world: &'w World, cpu_nodes: &[u8], has_owners: bool, room: usize) -> Self {
        let frames = world.frames();
        let slack = frames.pcp_info().map(|list| list.high as u64).max().expect("a list");
        Self {
            frames,
            payers: Payers::new(frames, room),
            held: Vec::new(),
            pfns: BTreeMap::new(),
            cpu: 0,
            cpu_nodes: cpu_nodes.to_vec(),
            slack,
            has_owners,
            tally: Tally::default(),
        }
    }

    pub(crate) fn switch(&mut self, cpu: u32) {
        self.cpu = cpu;
        set_cpu(cpu);
    }

    pub(crate) fn inject(&self, faults: &FaultConfig) {
        self.frames.inject_faults(faults);
    }

    pub(crate) fn drain(&self) {
        self.frames.drain_all_pages();
    }

    pub(crate) fn nr_held(&self) -> usize {
        self.held.len()
    }

    fn local(&self) -> u8 {
        self.cpu_nodes[usize::try_from(self.cpu).expect("a few")]
    }

    fn before(&self) -> Before {
        let zones: Vec<ZoneInfo> = self.frames.zone_info().collect();
        let listed = |zone: &ZoneInfo| {
            let lists = self.frames.pcp_info();
            let of_zone = lists.filter(|list| list.node == zone.node && list.kind == zone.kind);
            of_zone.map(|list| list.count as u64).sum::<u64>()
        };
        let free = zones.iter().map(|zone| zone.nr_free_pages + listed(zone)).collect();
        take_zeroed();
        Before { stat: self.frames.vmstat(), zones, free }
    }

    /// Serves a request and compares what came with what was promised.
    pub(crate) fn request(&mut self, shape: &Shape) {
        let before = self.before();
        let account = shape.payer.and_then(|payer| self.payers.id(payer));
        let fit = match shape.payer {
            Some(payer) if shape.may_exceed() => {
                self.payers.force(payer);
                u64::MAX
            }
            Some(payer) => self.payers.fit(payer),
            None => u64::MAX,
        };
        set_account(if shape.by_flag { account } else { None });
        let (outcome, blocks, full) = shape.with_request(account, |request| match shape.sink {
            Sink::Complete => self.complete(shape),
            Sink::Exactly => self.exactly(shape),
            Sink::Numbers => self.numbers(shape, request),
            _ if shape.folios => self.serve(shape, request, Block::Folio, |block| match block {
                Block::Folio(folio) => Ok(folio),
                page @ Block::Page(_) => Err(page),
            }),
            _ => self.serve(shape, request, Block::Page, Block::into_page),
        });
        set_account(None);
        self.check_outcome(shape, &before, outcome, &blocks, full, fit);
        for block in blocks {
            let first = block.pfn();
            for pfn in block.pfns() {
                assert!(self.pfns.insert(pfn, first).is_none(), "{pfn:#x} was handed out twice");
            }
            if let Some(payer) = shape.payer {
                self.payers.charge(payer, block.order().nr_pages() as u64);
            }
            self.held.push(Held { block, payer: shape.payer });
        }
        self.check();
    }

    /// Makes the call, and returns its outcome, the new blocks, and how many slots were full.
    fn serve<T: BulkItem<Source = Frames<'w>> + Owned + Listable<Source = Frames<'w>>>(
        &mut self,
        shape: &Shape,
        request: &BulkRequest<'_>,
        wrap: fn(T) -> Block<'w>,
        unwrap: fn(Block<'w>) -> Result<T, Block<'w>>,
    ) -> (Outcome, Vec<Block<'w>>, usize) {
        let (frames, nr) = (self.frames, shape.nr);
        let mut new = Vec::new();
        let takes = matches!(shape.sink, Sink::Fill | Sink::Range | Sink::List);
        let (full, notes) = self.take_held(if takes { shape.full } else { 0 }, unwrap);
        let nr_full = full.len();
        let (mut kept, mut extents, mut in_range) = (Vec::new(), Vec::new(), 0);
        let outcome = match shape.sink {
            Sink::Fill | Sink::Range => {
                let hint = if shape.sink == Sink::Range { nr / 3 } else { 0 };
                let serve = |slots: &mut [Option<T>]| match shape.sink {
                    Sink::Range => frames.bulk_fill_range(request, slots, hint..slots.len()),
                    _ => frames.bulk_fill(request, slots),
                };
                let outcome;
                (outcome, in_range) = fill(nr, hint, full, &mut kept, &mut new, serve);
                outcome
            }
            Sink::Write => {
                let mut room: Vec<MaybeUninit<T>> = Vec::new();
                room.resize_with(nr, MaybeUninit::uninit);
                let outcome = frames.bulk_write(request, &mut room);
                // SAFETY: 1. initialised: `new` is the number of initialised entries. 2. read once:
                // each entry is taken out of the room.
                let read = |entry: MaybeUninit<T>| unsafe { entry.assume_init() };
                new.extend(room.into_iter().take(outcome.new).map(read));
                outcome
            }
            Sink::List => {
                let mut list = PageList::new(frames);
                list.extend(full);
                let outcome = frames.bulk_list(request, nr, &mut list);
                kept.extend(list.by_ref().take(nr_full));
                new.extend(list);
                outcome
            }
            Sink::Each => frames.bulk_each(request, nr, |item| new.push(item)),
            Sink::Extents => frames.bulk_extents(request, nr, |folio| extents.push(folio)),
            Sink::Complete | Sink::Exactly | Sink::Numbers => unreachable!("served elsewhere"),
        };
        let new = new.into_iter().map(wrap).chain(extents.into_iter().map(Block::Folio)).collect();
        assert_eq!(kept.len(), nr_full, "what was there stays");
        self.hold_again(kept.into_iter().map(wrap), notes);
        (outcome.into(), new, in_range)
    }

    /// Calls `fill`, and returns what `serve` does.
    fn complete(&mut self, shape: &Shape) -> (Outcome, Vec<Block<'w>>, usize) {
        let (frames, nr) = (self.frames, shape.nr);
        let (full, notes) = self.take_held(shape.full, Block::into_page);
        let nr_full = full.len();
        let (mut kept, mut new) = (Vec::new(), Vec::new());
        let serve = |slots: &mut [Option<Page<_>>]| frames.fill(shape.gfp, slots);
        let (result, _) = fill(nr, 0, full, &mut kept, &mut new, serve);
        assert_eq!(kept.len(), nr_full, "what was there stays");
        self.hold_again(kept.into_iter().map(Block::Page), notes);
        let new: Vec<_> = new.into_iter().map(Block::Page).collect();
        let outcome = outcome_of(result, nr);
        (Outcome { populated: nr_full + outcome.new, ..outcome }, new, nr_full)
    }

    /// Calls `alloc_exactly`, and returns what `serve` does.
    fn exactly(&mut self, shape: &Shape) -> (Outcome, Vec<Block<'w>>, usize) {
        let (result, pages) = match self.frames.alloc_exactly(shape.gfp, shape.nr) {
            Ok(pages) => (Ok(()), pages.map(Block::Page).collect()),
            Err(error) => (Err(error), Vec::new()),
        };
        (outcome_of(result, shape.nr), pages, 0)
    }

    /// Calls `bulk_pfns`, takes the blocks over by their numbers, and returns what `serve` does.
    fn numbers(
        &mut self,
        shape: &Shape,
        request: &BulkRequest<'_>,
    ) -> (Outcome, Vec<Block<'w>>, usize) {
        let frames = self.frames;
        let mut pfns = vec![Pfn::new(0); shape.nr];
        let outcome = frames.bulk_pfns(request, &mut pfns);
        let take_over = |&pfn: &Pfn| {
            if shape.folios {
                // SAFETY: 1. owned: `bulk_pfns` has just returned the number.
                let folio = unsafe { Folio::from_pfn(frames, pfn, shape.order) };
                Block::Folio(folio.expect("a block of the map"))
            } else {
                // SAFETY: 1. owned: as above.
                let page = unsafe { Page::from_pfn(frames, pfn) };
                Block::Page(page.expect("a frame of the map"))
            }
        };
        let blocks = pfns[..outcome.new].iter().map(take_over).collect();
        (outcome.into(), blocks, 0)
    }

    /// Puts back what [`take_held`](Self::take_held) took.
    fn hold_again(
        &mut self,
        blocks: impl Iterator<Item = Block<'w>>,
        notes: Vec<(Option<usize>, u64)>,
    ) {
        for (block, (payer, pfn)) in blocks.zip(notes) {
            assert_eq!(block.pfn(), pfn, "what was there stays in its place");
            self.held.push(Held { block, payer });
        }
    }

    /// Takes up to `nr` of the blocks held that are of one kind, with who paid and where they are.
    fn take_held<T>(
        &mut self,
        nr: usize,
        unwrap: fn(Block<'w>) -> Result<T, Block<'w>>,
    ) -> (Vec<T>, Vec<(Option<usize>, u64)>) {
        let (mut items, mut notes) = (Vec::new(), Vec::new());
        while items.len() < nr
            && let Some(Held { block, payer }) = self.held.pop()
        {
            notes.push((payer, block.pfn()));
            match unwrap(block) {
                Ok(item) => items.push(item),
                Err(block) => {
                    notes.pop();
                    self.held.push(Held { block, payer });
                    break;
                }
            }
        }
        (items, notes)
    }

    /// Calls of the series' own family, charged or not.
    pub(crate) fn series(&mut self, gfp: Gfp, payer: Option<usize>, nr: usize) {
        let before = self.before();
        let fit = payer.map_or(u64::MAX, |payer| self.payers.fit(payer));
        set_account(payer.and_then(|payer| self.payers.id(payer)));
        let gfp = if payer.is_some() { gfp | Gfp::ACCOUNT } else { gfp };
        let mut slots: Vec<Option<Page<_>>> = (0..nr).map(|_| None).collect();
        let filled = self.frames.alloc_pages_bulk(gfp, &mut slots);
        set_account(None);
        let blocks: Vec<_> = slots.into_iter().flatten().map(Block::Page).collect();
        assert_eq!(filled, blocks.len());
        assert!(filled as u64 <= fit);
        let now = self.frames.vmstat();
        let allocated = now.pgalloc.iter().sum::<u64>() - before.stat.pgalloc.iter().sum::<u64>();
        assert_eq!(allocated, filled as u64);
        for block in blocks {
            let first = block.pfn();
            assert!(self.pfns.insert(first, first).is_none(), "{first:#x} was handed out twice");
            if let Some(payer) = payer {
                self.payers.charge(payer, 1);
            }
            self.held.push(Held { block, payer });
        }
        self.check();
    }

    /// Frees up to `nr` blocks, from number `which` on, in one of several ways.
    pub(crate) fn free(&mut self, which: usize, nr: usize, way: usize) {
        let start = which % (self.held.len() + 1);
        let end = self.held.len().min(start + nr);
        let mut slots = Vec::new();
        let mut list = PageList::<Page<_>>::new(self.frames);
        let mut folios = PageList::<Folio<_>>::new(self.frames);
        // Frames to be freed by number: one by one in the order in which they are held, or in runs,
        // whoever paid for them.
        let (mut numbers, mut in_runs) = (Vec::new(), Vec::new());
        for Held { block, payer } in self.held.drain(start..end) {
            for pfn in block.pfns() {
                self.pfns.remove(&pfn);
            }
            if let Some(payer) = payer {
                self.payers.uncharge(payer, block.order().nr_pages() as u64);
            }
            match (block, way % 7) {
                (block, 4) => numbers.extend(block.into_pfns()),
                (block, 5) => in_runs.extend(block.into_pfns()),
                (Block::Page(page), 6) => {
                    // SAFETY: 1. owned: `into_pfn` returns it.
                    let page = unsafe { Page::from_pfn(self.frames, page.into_pfn()) };
                    slots.push(Some(page.expect("a frame of the map")));
                }
                (Block::Folio(folio), 6) => {
                    let order = folio.order();
                    // SAFETY: 1. owned: `into_pfn` returns it.
                    let folio = unsafe { Folio::from_pfn(self.frames, folio.into_pfn(), order) };
                    folios.push(folio.expect("frames of the map"));
                }
                (Block::Page(page), 0) => slots.push(Some(page)),
                (Block::Page(page), 1) => list.push(page),
                (Block::Page(page), 2) => drop(page.share().clone()),
                (Block::Folio(folio), 1) => folios.push(folio),
                (Block::Folio(folio), 2) => slots.extend(folio.split().map(Some)),
                (Block::Folio(folio), 3) => drop(folio.split()),
                (block, _) => drop(block),
            }
        }
        self.frames.release_pages(&mut slots);
        free_pages_bulk(&mut list);
        drop(folios);
        // SAFETY: 1. owned: `into_pfn` returned them or the blocks around them, and they are used once.
        unsafe { self.frames.free_pfns(&numbers) }.expect("frames of the map");
        in_runs.sort_unstable();
        for run in in_runs.chunk_by(|one, next| one.offset(1) == *next) {
            // SAFETY: 1. owned: as above.
            unsafe { self.frames.free_pfn_range(run[0], run.len()) }.expect("frames of the map");
        }
        self.check();
    }

    /// Compares everything that the allocator tells about itself with what is held.
    pub(crate) fn check(&mut self) {
        check_balance();
        let stat = self.frames.vmstat();
        let managed: u64 = self.frames.zone_info().map(|zone| zone.managed).sum();
        assert_eq!(self.frames.nr_free_pages() + self.pfns.len() as u64, managed);
        assert_eq!(stat.pgalloc.iter().sum::<u64>() - stat.pgfree, self.pfns.len() as u64);
        self.payers.check();
        let mut nr_owned = 0;
        self.frames.for_each_owner(|pfn, site| {
            assert!(self.pfns.contains_key(&pfn.value()), "{pfn} is owned, and no handle has it");
            let is_ours = ["player.rs", "contig.rs"].iter().any(|file| site.file().ends_with(file));
            assert!(is_ours, "{pfn} was not allocated at {site}");
            nr_owned += 1;
        });
        assert_eq!(nr_owned, if self.has_owners { self.pfns.len() } else { 0 });
    }

    /// Gives everything back; the world checks the rest.
    pub(crate) fn finish(mut self) -> Tally {
        assert_eq!(self.frames.validate(), Ok(()), "with pages in use");
        self.inject(&FaultConfig::NEVER);
        self.free(0, usize::MAX, 0);
        self.tally
    }
}

/// Fills `nr` slots and some full ones among them, sorts what they hold into `kept` and `new`, and
/// returns the result and how many full slots are from number `hint` on.
fn fill<T, R>(
    nr: usize,
    hint: usize,
    full: Vec<T>,
    kept: &mut Vec<T>,
    new: &mut Vec<T>,
    serve: impl FnOnce(&mut [Option<T>]) -> R,
) -> (R, usize) {
    let mut slots: Vec<Option<T>> = (0..nr).map(|_| None).collect();
    slots.splice(nr / 2..nr / 2, full.into_iter().map(Some));
    let was_full: Vec<bool> = slots.iter().map(Option::is_some).collect();
    let result = serve(&mut slots);
    for (index, (slot, was_full)) in slots.into_iter().zip(&was_full).enumerate() {
        match slot {
            Some(item) if *was_full => kept.push(item),
            Some(item) => {
                assert!(index >= hint, "a slot outside of the hint was filled");
                new.push(item);
            }
            None => assert!(!was_full, "a slot was emptied"),
        }
    }
    (result, was_full[hint..].iter().filter(|&&full| full).count())
}

/// Returns the outcome of a call for `nr` pages that is complete or an error.
fn outcome_of(result: Result<(), BulkError>, nr: usize) -> Outcome {
    match result {
        Ok(()) => Outcome { new: nr, populated: nr, short: None },
        Err(error) => {
            assert_eq!(error.wanted, nr);
            Outcome { new: error.new, populated: error.new, short: Some(error.short) }
        }
    }
}
