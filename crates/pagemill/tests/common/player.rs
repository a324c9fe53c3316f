//! Does the same operation to the allocator and to the naive model, and compares.

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::{AddAssign, Range};

use pagemill::contig::{ContigRequest, FrameRange};
use pagemill::handles::{PfnError, RawPage, SharedPage, free_pages_bulk};
use pagemill::units::{NodeId, Pfn};
use pagemill::{AllocPages, Folio, Gfp, Order, Page, PageList};
use pagemill_testkit::{Frames, World, set_cpu, take_zeroed};

use super::naive::{Naive, Seen, Want};

/// The position of what was added last.
pub(crate) const LAST: usize = usize::MAX;

/// One operation; positions are taken modulo the number of things there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Single {
        gfp: Gfp,
        node: Option<u8>,
    },
    Block {
        gfp: Gfp,
        node: Option<u8>,
        order: Order,
    },
    /// `full` has a bit for each slot that holds a page before the call, the last bit for all
    /// slots from there on.
    Array {
        gfp: Gfp,
        node: Option<u8>,
        len: usize,
        full: u64,
    },
    List {
        gfp: Gfp,
        node: Option<u8>,
        nr: usize,
    },
    /// Allocates adjacent frames: `nr`, or the longest run of at least `min`.
    Contig {
        gfp: Gfp,
        node: Option<u8>,
        nr: usize,
        min: usize,
        align: usize,
    },
    /// Allocates the frames behind that of a page or the first of a block in use; they may be free.
    Range {
        gfp: Gfp,
        which: usize,
        nr: usize,
    },
    /// Frees the last part of a range, or turns a range into single pages.
    FreeRange {
        which: usize,
        keep: usize,
        split: bool,
    },
    Free(usize),
    FreeBlock(usize),
    /// Splits a block, keeps the first `keep` pages and drops the others together.
    Split {
        which: usize,
        keep: usize,
    },
    /// Frees a slice of `len` slots, of which those without a bit in `full` are empty.
    Release {
        len: usize,
        full: u64,
    },
    Share(usize),
    CloneShared(usize),
    DropShared(usize),
    Unshare(usize),
    /// Puts a shared page on the list of those.
    Enlist(usize),
    Delist,
    FreeSharedList,
    ListPop,
    ListPush(usize),
    ListAppend(usize),
    FreeList,
    /// Turns a page into a word and back.
    Raw(usize),
    /// Turns a page into its frame's number and back.
    FromPfn(usize),
    /// Turns a block into its first frame's number and back.
    FolioFromPfn(usize),
    /// Turns a page into the bits of its word and back.
    Bits(usize),
    /// Allocates frames by number, and makes pages of those with a bit in `keep`; the others are freed by
    /// number, in the reverse order.
    Numbers {
        gfp: Gfp,
        len: usize,
        keep: u64,
    },
    /// Frees up to `len` pages by their numbers, starting at page `which`.
    FreeNumbers {
        which: usize,
        len: usize,
    },
    /// Frees a block as ranges of `piece` frames, the last one first; `blocks` says whether the pieces are
    /// made blocks where they can be.
    FreePieces {
        which: usize,
        piece: usize,
        blocks: bool,
    },
    /// Hands in up to `len` reserved frames as ranges.
    HandInRanges {
        which: usize,
        len: usize,
    },
    /// Makes a page of a reserved frame.
    HandIn(usize),
    /// Asks for a page of a frame that is not in the map.
    FromForeignPfn(u64),
    Drain,
    /// Moves to the CPU whose number is that much higher.
    Switch(u32),
}

/// How often each outcome was seen: a run that never fails a request proves little.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) single: usize,
    pub(crate) single_failed: usize,
    pub(crate) block: usize,
    pub(crate) block_failed: usize,
    pub(crate) contig: usize,
    pub(crate) contig_failed: usize,
    pub(crate) range: usize,
    pub(crate) bulk: usize,
    pub(crate) bulk_of_one: usize,
    pub(crate) bulk_failed: usize,
    pub(crate) holes_filled: usize,
    pub(crate) shared_kept_on_list: usize,
}

/// An allocator, the model of it, and everything that was handed out.
#[derive(Debug)]
pub(crate) struct Player<'w> {
    world: &'w World,
    pub(crate) naive: Naive,
    seen: Seen,
    cpu: u32,
    pages: Vec<Page<Frames<'w>>>,
    blocks: Vec<Folio<Frames<'w>>>,
    ranges: Vec<FrameRange<Frames<'w>>>,
    list: PageList<Page<Frames<'w>>>,
    list_pfns: VecDeque<u64>,
    shared: Vec<SharedPage<Frames<'w>>>,
    shared_list: PageList<SharedPage<Frames<'w>>>,
    shared_list_pfns: VecDeque<u64>,
    /// The number of owners of each shared frame, those on the list included.
    owners: BTreeMap<u64, u32>,
    pub(crate) tally: Tally,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.single += other.single;
        self.single_failed += other.single_failed;
        self.block += other.block;
        self.block_failed += other.block_failed;
        self.contig += other.contig;
        self.contig_failed += other.contig_failed;
        self.range += other.range;
        self.bulk += other.bulk;
        self.bulk_of_one += other.bulk_of_one;
        self.bulk_failed += other.bulk_failed;
        self.holes_filled += other.holes_filled;
        self.shared_kept_on_list += other.shared_kept_on_list;
    }
}

impl<'w> Player<'w> {
    pub(crate) fn new(world: &'w World, naive: Naive) -> Self {
        let seen = naive.check(world.frames());
        Self {
            world,
            naive,
            seen,
            cpu: 0,
            pages: Vec::new(),
            blocks: Vec::new(),
            ranges: Vec::new(),
            list: PageList::new(world.frames()),
            list_pfns: VecDeque::new(),
            shared: Vec::new(),
            shared_list: PageList::new(world.frames()),
            shared_list_pfns: VecDeque::new(),
            owners: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Returns the number of single pages at hand.
    pub(crate) fn nr_pages(&self) -> usize {
        self.pages.len()
    }

    /// Does `op` and compares results, frames, counters and free blocks.
    pub(crate) fn step(&mut self, op: Op) {
        match op {
            Op::Single { gfp, node } => self.single(self.want(gfp, node)),
            Op::Block { gfp, node, order } => self.block(self.want(gfp, node), order),
            Op::Array { gfp, node, len, full } => self.array(self.want(gfp, node), len, full),
            Op::List { gfp, node, nr } => self.bulk_list(self.want(gfp, node), nr),
            Op::Contig { gfp, node, nr, min, align } => {
                self.contig(self.want(gfp, node), nr, min, align);
            }
            Op::Range { gfp, which, nr } => self.range(self.want(gfp, None), which, nr),
            Op::FreeRange { which, keep, split } => self.free_range(which, keep, split),
            Op::Free(which) => {
                if let Some(page) = self.take_page(which) {
                    self.naive.give([page.pfn().value()]);
                    drop(page);
                }
            }
            Op::FreeBlock(which) => {
                if let Some(block) = take(&mut self.blocks, which) {
                    self.naive.give(pfns_of(&block));
                }
            }
            Op::Split { which, keep } => self.split(which, keep),
            Op::Release { len, full } => self.release(len, full),
            Op::Share(_)
            | Op::CloneShared(_)
            | Op::DropShared(_)
            | Op::Unshare(_)
            | Op::Enlist(_)
            | Op::Delist
            | Op::FreeSharedList => self.step_shared(op),
            Op::ListPop | Op::ListPush(_) | Op::ListAppend(_) | Op::FreeList => self.step_list(op),
            Op::Raw(_)
            | Op::FromPfn(_)
            | Op::FolioFromPfn(_)
            | Op::Bits(_)
            | Op::HandIn(_)
            | Op::FromForeignPfn(_) => self.step_raw(op),
            Op::Numbers { gfp, len, keep } => self.numbers(self.want(gfp, None), len, keep),
            Op::FreeNumbers { which, len } => self.free_numbers(which, len),
            Op::FreePieces { which, piece, blocks } => self.free_pieces(which, piece, blocks),
            Op::HandInRanges { which, len } => self.hand_in_ranges(which, len),
            Op::Drain => {
                assert_eq!(self.world.frames().drain_all_pages(), self.seen.nr_listed());
                assert_eq!(Seen::new(self.world.frames()).nr_listed(), 0);
            }
            Op::Switch(by) => {
                self.cpu = (self.cpu + by) % self.world.frames().nr_cpus();
                set_cpu(self.cpu);
            }
        }
        assert_eq!(take_zeroed(), [], "frames were filled with zeroes unasked");
        self.seen = self.naive.check(self.world.frames());
    }

    /// Gives everything back and compares once more, with the lists empty.
    pub(crate) fn finish(mut self) -> Tally {
        assert_eq!(self.world.frames().validate(), Ok(()), "with pages in use");
        self.step(Op::Release { len: usize::MAX, full: u64::MAX });
        while !self.blocks.is_empty() {
            self.step(Op::FreeBlock(0));
        }
        while !self.ranges.is_empty() {
            self.step(Op::FreeRange { which: 0, keep: 0, split: false });
        }
        while !self.shared.is_empty() {
            self.step(Op::DropShared(0));
        }
        self.step_shared(Op::FreeSharedList);
        self.naive.give(self.list_pfns.drain(..));
        drop(core::mem::replace(&mut self.list, PageList::new(self.world.frames())));
        self.seen = self.naive.check(self.world.frames());
        self.step(Op::Drain);
        assert_eq!(self.owners, BTreeMap::new());
        self.tally
    }

    fn want(&self, gfp: Gfp, node: Option<u8>) -> Want {
        Want { gfp, node, cpu: self.cpu }
    }

    fn take_page(&mut self, which: usize) -> Option<Page<Frames<'w>>> {
        take(&mut self.pages, which)
    }

    fn single(&mut self, want: Want) {
        let frames = self.world.frames();
        let expected = self.naive.single(&self.seen, want, Order::ZERO);
        let page = match want.node {
            Some(node) => frames.alloc_page_node(NodeId::new(node), want.gfp),
            None => frames.alloc_page(want.gfp),
        };
        assert_eq!(page.is_some(), expected.is_some(), "single page");
        self.tally.single += usize::from(page.is_some());
        self.tally.single_failed += usize::from(page.is_none());
        if let (Some(zone), Some(page)) = (expected, page) {
            self.took(want, zone, [page.pfn().value()], 1);
            self.pages.push(page);
        }
    }

    fn block(&mut self, want: Want, order: Order) {
        let frames = self.world.frames();
        let expected = self.naive.single(&self.seen, want, order);
        let block = match want.node {
            Some(node) => frames.alloc_pages_node(NodeId::new(node), want.gfp, order),
            None => frames.alloc_pages(want.gfp, order),
        };
        let drained = || {
            let zone = self.naive.zone_of(block.as_ref()?.pfn().value());
            self.naive.drained(&self.seen, want, order).contains(&zone).then_some(zone)
        };
        let expected = expected.or_else(drained);
        assert_eq!(block.is_some(), expected.is_some(), "block of order {order}");
        self.tally.block += usize::from(block.is_some());
        self.tally.block_failed += usize::from(block.is_none());
        if let (Some(zone), Some(block)) = (expected, block) {
            assert_eq!(block.order(), order);
            assert!(block.pfn().is_aligned(order), "{block:?}");
            self.took(want, zone, pfns_of(&block), 1);
            self.blocks.push(block);
        }
    }

    fn contig(&mut self, want: Want, nr: usize, min: usize, align: usize) {
        let node = want.node.map(NodeId::new);
        let request = ContigRequest { min, align, node, ..ContigRequest::new(want.gfp, nr) };
        let possible = self.naive.ranges(want, nr as u64, align as u64);
        match self.world.frames().alloc_contig_with(&request) {
            Ok(range) => {
                let (pfn, nr_pages) = (range.pfn().value(), range.nr_pages() as u64);
                let zone = self.naive.zone_of(pfn);
                let longest = possible.get(&zone).copied().unwrap_or(0);
                assert!((min as u64..=longest).contains(&nr_pages), "{range:?} of {longest}");
                assert!(pfn.is_multiple_of(align as u64), "{range:?} for {request:?}");
                self.took(want, zone, pfn..pfn + nr_pages, 1);
                self.ranges.push(range);
                self.tally.contig += 1;
            }
            Err(error) => {
                let longest = possible.values().max().copied().unwrap_or(0);
                assert!(longest < min as u64, "{error}, but {longest} frames fit");
                self.tally.contig_failed += 1;
            }
        }
    }

    fn range(&mut self, want: Want, which: usize, nr: usize) {
        let pages = self.pages.iter().map(Page::pfn);
        let pfns: Vec<_> = pages.chain(self.blocks.iter().map(Folio::pfn)).collect();
        if pfns.is_empty() {
            return;
        }
        let start = Pfn::new(pfns[which % pfns.len()].value() + 1);
        let pfns = start.value()..start.value() + nr as u64;
        let is_free = self.naive.has_range(want, pfns.clone());
        let range = self.world.frames().alloc_contig_range(want.gfp, start, nr);
        assert_eq!(range.is_ok(), is_free, "{range:?} for {pfns:?}");
        if let Ok(range) = range {
            let want = Want { gfp: want.gfp.difference(Gfp::THISNODE), ..want };
            self.took(want, self.naive.zone_of(pfns.start), pfns, 1);
            self.ranges.push(range);
            self.tally.range += 1;
        }
    }

    fn free_range(&mut self, which: usize, keep: usize, split: bool) {
        let Some(mut range) = take(&mut self.ranges, which) else { return };
        let keep = keep.min(range.nr_pages());
        let (start, end) = (range.pfn().value(), range.pfn().value() + range.nr_pages() as u64);
        if split {
            let mut pages = range.into_pages();
            self.pages.extend(pages.by_ref().take(keep));
        } else {
            drop(range.split_off(keep));
            if keep > 0 {
                self.ranges.push(range);
            }
        }
        self.naive.give(start + keep as u64..end);
    }

    fn array(&mut self, want: Want, len: usize, full: u64) {
        let frames = self.world.frames();
        let mut slots: Vec<_> = (0..len)
            .map(|slot| if is_full(slot, full) { self.take_page(LAST) } else { None })
            .collect();
        let before: Vec<_> = slots.iter().map(pfn_of).collect();
        let first_hole = before.iter().position(Option::is_none).unwrap_or(len);
        let nr_holes = before.iter().filter(|slot| slot.is_none()).count();
        let result = match want.node {
            Some(node) => frames.alloc_pages_bulk_node(NodeId::new(node), want.gfp, &mut slots),
            None => frames.alloc_pages_bulk(want.gfp, &mut slots),
        };
        let is_bulk = len - first_hole > 1;
        let bulk = if is_bulk { self.naive.bulk(&self.seen, want, len) } else { None };
        let one = if first_hole < len && bulk.is_none() {
            self.naive.single(&self.seen, want, Order::ZERO)
        } else {
            None
        };
        let (nr_new, expected) = match (bulk, one) {
            (Some(_), _) => (nr_holes, len),
            (None, Some(_)) => (1, first_hole + 1),
            (None, None) => (0, first_hole),
        };
        assert_eq!(result, expected, "result of a bulk call for {before:?}");
        let new: Vec<u64> = (before.iter().zip(&slots))
            .filter(|(before, _)| before.is_none())
            .filter_map(|(_, slot)| pfn_of(slot))
            .collect();
        assert_eq!(new.len(), nr_new, "new pages of a bulk call");
        for (index, (before, slot)) in before.iter().zip(&slots).enumerate() {
            assert!(before.is_none() || *before == pfn_of(slot), "slot {index} was not empty");
            assert!(index >= result || slot.is_some(), "slot {index} is below the result");
        }
        self.tally.holes_filled += usize::from(bulk.is_some() && nr_holes < len);
        self.bulk_took(want, bulk, one, new);
        self.pages.extend(slots.into_iter().flatten());
    }

    fn bulk_list(&mut self, want: Want, nr: usize) {
        let frames = self.world.frames();
        let list = &mut self.list;
        let result = match want.node {
            Some(node) => frames.alloc_pages_bulk_list_node(NodeId::new(node), want.gfp, nr, list),
            None => frames.alloc_pages_bulk_list(want.gfp, nr, list),
        };
        let bulk = if nr > 1 { self.naive.bulk(&self.seen, want, nr) } else { None };
        let one = if nr > 0 && bulk.is_none() {
            self.naive.single(&self.seen, want, Order::ZERO)
        } else {
            None
        };
        let expected = if bulk.is_some() { nr } else { usize::from(one.is_some()) };
        assert_eq!(result, expected, "result of a bulk call for {nr} on a list");
        let new = self.read_list();
        assert_eq!(new.len(), expected, "new pages on a list");
        self.bulk_took(want, bulk, one, new);
    }

    /// Checks that the list begins with what it had before, and returns what is behind it.
    fn read_list(&mut self) -> Vec<u64> {
        let nr_known = self.list_pfns.len();
        let mut pfns = Vec::new();
        for _ in 0..self.list.len() {
            let page = self.list.pop().expect("as many as len says");
            pfns.push(page.pfn().value());
            self.list.push(page);
        }
        assert!(self.list_pfns.iter().eq(pfns.iter().take(nr_known)), "the list's own pages");
        let new = pfns.split_off(nr_known);
        self.list_pfns.extend(new.iter().copied());
        new
    }

    /// Notes pages of a bulk call, which one zone of the two gave, if any.
    fn bulk_took(&mut self, want: Want, bulk: Option<usize>, one: Option<usize>, new: Vec<u64>) {
        match (bulk, one) {
            (Some(_), _) => self.tally.bulk += 1,
            (None, Some(_)) => self.tally.bulk_of_one += 1,
            (None, None) => self.tally.bulk_failed += 1,
        }
        if let Some(zone) = bulk.or(one) {
            let events = new.len();
            self.took(want, zone, new, events);
        }
    }

    /// Notes pages that were handed out in answer to `want`.
    fn took(
        &mut self,
        want: Want,
        zone: usize,
        pfns: impl IntoIterator<Item = u64>,
        events: usize,
    ) {
        let mut pfns: Vec<u64> = pfns.into_iter().collect();
        self.naive.count(want, zone, pfns.len(), events);
        let mut zeroed = take_zeroed();
        self.naive.take(zone, pfns.iter().copied());
        if want.gfp.contains(Gfp::ZERO) {
            zeroed.sort_unstable();
            pfns.sort_unstable();
            assert_eq!(zeroed, pfns, "frames filled with zeroes");
        } else {
            assert_eq!(zeroed, [], "frames were filled with zeroes unasked");
        }
    }

    fn split(&mut self, which: usize, keep: usize) {
        let Some(block) = take(&mut self.blocks, which) else { return };
        let pfns = pfns_of(&block);
        let mut pages = block.split();
        let keep = keep.min(pages.len());
        for pfn in pfns.clone().take(keep) {
            let page = pages.next().expect("not the last one yet");
            assert_eq!(page.pfn().value(), pfn, "split pages come in order");
            self.pages.push(page);
        }
        assert_eq!(pages.len(), pfns.clone().count() - keep);
        self.naive.give(pfns.skip(keep));
    }

    fn release(&mut self, len: usize, full: u64) {
        let len = len.min(self.pages.len());
        let mut slots: Vec<_> = (0..len)
            .map(|slot| if is_full(slot, full) { self.take_page(0) } else { None })
            .collect();
        let pfns: Vec<u64> = slots.iter().filter_map(pfn_of).collect();
        assert_eq!(self.world.frames().release_pages(&mut slots), pfns.len());
        assert!(slots.iter().all(Option::is_none), "released slots are empty");
        self.naive.give(pfns);
    }

    fn step_shared(&mut self, op: Op) {
        match op {
            Op::Share(which) => {
                if let Some(page) = self.take_page(which) {
                    self.owners.insert(page.pfn().value(), 1);
                    self.shared.push(page.share());
                }
            }
            Op::CloneShared(which) if !self.shared.is_empty() => {
                let page = self.shared[which % self.shared.len()].clone();
                *self.owners.entry(page.pfn().value()).or_default() += 1;
                self.shared.push(page);
            }
            Op::DropShared(which) => {
                if let Some(page) = take(&mut self.shared, which) {
                    self.disown(page.pfn().value());
                    drop(page);
                }
            }
            Op::Unshare(which) => {
                if let Some(page) = take(&mut self.shared, which) {
                    let pfn = page.pfn().value();
                    assert_eq!(page.nr_owners(), self.owners[&pfn]);
                    match page.try_unshare() {
                        Ok(page) => {
                            assert_eq!(self.owners.remove(&pfn), Some(1), "it was the only owner");
                            self.pages.push(page);
                        }
                        Err(page) => {
                            assert!(self.owners[&pfn] > 1, "it was not the only owner");
                            self.shared.push(page);
                        }
                    }
                }
            }
            Op::Enlist(which) => {
                if let Some(page) = take(&mut self.shared, which) {
                    let pfn = page.pfn().value();
                    match self.shared_list.try_push(page) {
                        Ok(()) => {
                            assert!(!self.shared_list_pfns.contains(&pfn), "listed twice");
                            self.shared_list_pfns.push_back(pfn);
                        }
                        Err(page) => {
                            assert!(self.shared_list_pfns.contains(&pfn), "refused without cause");
                            self.shared.push(page);
                        }
                    }
                }
            }
            Op::Delist => {
                let page = self.shared_list.pop();
                assert_eq!(
                    page.as_ref().map(|p| p.pfn().value()),
                    self.shared_list_pfns.pop_front()
                );
                self.shared.extend(page);
            }
            Op::FreeSharedList => {
                let (last, held): (Vec<u64>, Vec<u64>) =
                    self.shared_list_pfns.drain(..).partition(|pfn| self.owners[pfn] == 1);
                assert_eq!(free_pages_bulk(&mut self.shared_list), last.len());
                assert_eq!(self.shared_list.len(), held.len());
                self.tally.shared_kept_on_list += held.len();
                self.shared_list_pfns = held.into();
                last.into_iter().for_each(|pfn| self.disown(pfn));
            }
            _ => {}
        }
    }

    fn disown(&mut self, pfn: u64) {
        let owners = self.owners.get_mut(&pfn).expect("a shared frame");
        *owners -= 1;
        if *owners == 0 {
            self.owners.remove(&pfn);
            self.naive.give([pfn]);
        }
    }

    fn step_list(&mut self, op: Op) {
        match op {
            Op::ListPop => {
                let page = self.list.pop();
                assert_eq!(pfn_of(&page), self.list_pfns.pop_front());
                self.pages.extend(page);
            }
            Op::ListPush(which) => {
                if let Some(page) = self.take_page(which) {
                    self.list_pfns.push_back(page.pfn().value());
                    self.list.push(page);
                }
            }
            Op::ListAppend(nr) => {
                let mut other = PageList::new(self.world.frames());
                let first = self.pages.len() - nr.min(self.pages.len());
                let moved = self.pages.split_off(first);
                self.list_pfns.extend(moved.iter().map(|page| page.pfn().value()));
                other.extend(moved);
                self.list.append(&mut other);
                assert!(other.is_empty());
                assert_eq!(self.read_list(), [], "the list has more than was appended");
            }
            Op::FreeList => {
                assert_eq!(free_pages_bulk(&mut self.list), self.list_pfns.len());
                assert!(self.list.is_empty());
                self.naive.give(self.list_pfns.drain(..));
            }
            _ => {}
        }
    }

    fn step_raw(&mut self, op: Op) {
        let frames = self.world.frames();
        match op {
            Op::Raw(which) => {
                if let Some(page) = self.take_page(which) {
                    let pfn = page.pfn();
                    let raw = page.into_raw();
                    assert_eq!((raw.pfn(), raw.order()), (pfn, Order::ZERO));
                    // SAFETY: 1. just returned by `into_raw`, and used once.
                    self.pages.push(unsafe { Page::from_raw(frames, raw) });
                }
            }
            Op::FromPfn(which) => {
                if let Some(page) = self.take_page(which) {
                    let pfn = page.into_pfn();
                    // SAFETY: 1. owned: `into_pfn` has just returned it.
                    let page = unsafe { Page::from_pfn(frames, pfn) };
                    self.pages.push(page.expect("a frame of the map"));
                }
            }
            Op::FolioFromPfn(which) => {
                if let Some(block) = take(&mut self.blocks, which) {
                    let order = block.order();
                    let pfn = block.into_pfn();
                    // SAFETY: 1. owned: `into_pfn` has just returned it.
                    let block = unsafe { Folio::from_pfn(frames, pfn, order) };
                    self.blocks.push(block.expect("frames of the map"));
                }
            }
            Op::Bits(which) => {
                if let Some(page) = self.take_page(which) {
                    let bits = page.into_raw().to_bits().get();
                    let raw = RawPage::from_bits(bits).expect("bits of a page");
                    // SAFETY: 1. the bits are those of a word that `into_raw` returned, used once.
                    self.pages.push(unsafe { Page::from_raw(frames, raw) });
                }
            }
            Op::HandIn(which) => {
                self.refuse_reserved(which);
                self.hand_in_ranges(which, 1);
            }
            Op::FromForeignPfn(pfn) if !self.naive.has_frame(pfn) => {
                // SAFETY: 1. no frame is used: the number is outside the memory map.
                let page = unsafe { Page::from_pfn(frames, Pfn::new(pfn)) };
                let error = page.expect_err("not in the map");
                let start = Pfn::new(pfn);
                assert_eq!(error, PfnError::NotInMap { pfn, start, nr_pages: 1 });
                // SAFETY: 1. no frame is used, as above.
                let freed = unsafe { frames.free_pfns(&[start, start]) };
                assert_eq!(freed, Err(error));
            }
            _ => {}
        }
    }

    fn numbers(&mut self, want: Want, len: usize, keep: u64) {
        let frames = self.world.frames();
        let mut pfns = vec![Pfn::MAX; len];
        let result = frames.alloc_pfns_bulk(want.gfp, &mut pfns);
        let bulk = if len > 1 { self.naive.bulk(&self.seen, want, len) } else { None };
        let one = if len > 0 && bulk.is_none() {
            self.naive.single(&self.seen, want, Order::ZERO)
        } else {
            None
        };
        let expected = if bulk.is_some() { len } else { usize::from(one.is_some()) };
        assert_eq!(result, expected, "result of a bulk call for {len} numbers");
        assert!(pfns[result..].iter().all(|&pfn| pfn == Pfn::MAX), "written behind the result");
        pfns.truncate(result);
        self.bulk_took(want, bulk, one, pfns.iter().map(|pfn| pfn.value()).collect());
        let kept = |index: &usize| is_full(*index, keep);
        let (kept, mut others): (Vec<_>, Vec<_>) = (0..result).partition(kept);
        for index in kept {
            // SAFETY: 1. owned: the call above returned it, and it is used once.
            let page = unsafe { Page::from_pfn(frames, pfns[index]) };
            self.pages.push(page.expect("a frame of the map"));
        }
        others.reverse();
        let others: Vec<_> = others.into_iter().map(|index| pfns[index]).collect();
        // SAFETY: 1. owned: the call above returned them, and they are used once.
        unsafe { frames.free_pfns(&others) }.expect("frames of the map");
        self.naive.give(others.into_iter().map(Pfn::value));
    }

    fn free_numbers(&mut self, which: usize, len: usize) {
        let len = len.min(self.pages.len());
        let mut pfns = Vec::new();
        for _ in 0..len {
            let page = self.take_page(which).expect("as many as there are");
            pfns.push(page.into_pfn());
        }
        // SAFETY: 1. owned: `into_pfn` has just returned them.
        unsafe { self.world.frames().free_pfns(&pfns) }.expect("frames of the map");
        self.naive.give(pfns.into_iter().map(Pfn::value));
    }

    fn free_pieces(&mut self, which: usize, piece: usize, blocks: bool) {
        let Some(block) = take(&mut self.blocks, which) else { return };
        let (frames, nr) = (self.world.frames(), block.order().nr_pages());
        let pfns = pfns_of(&block);
        let start = block.into_pfn();
        let piece = piece.clamp(1, nr);
        for at in (0..nr).step_by(piece).rev() {
            let (first, nr) = (start.offset(at as u64), piece.min(nr - at));
            let exponent = u8::try_from(nr.ilog2()).expect("small");
            let order = Order::new(exponent).expect("not above the block's");
            if blocks && nr.is_power_of_two() && first.is_aligned(order) {
                // SAFETY: 1. owned: a part of what `into_pfn` returned, which is used once.
                let folio = unsafe { Folio::from_pfn(frames, first, order) };
                assert_eq!(folio.expect("frames of the map").order(), order);
                continue;
            }
            // SAFETY: 1. owned: as above.
            unsafe { frames.free_pfn_range(first, nr) }.expect("frames of the map");
        }
        self.naive.give(pfns);
    }

    /// Takes over and frees a reserved frame by its number, which changes nothing.
    fn refuse_reserved(&mut self, which: usize) {
        let frames = self.world.frames();
        let nr_reserved = self.naive.reserved().count();
        let Some(at) = which.checked_rem(nr_reserved) else { return };
        let pfn = Pfn::new(self.naive.reserved().nth(at).expect("in range"));
        let refused = Err(PfnError::Reserved { pfn });
        // SAFETY: 1. no owner is made: the frame is reserved.
        let page = unsafe { Page::from_pfn(frames, pfn) };
        assert_eq!(page.map(Page::into_pfn), refused);
        // SAFETY: 1. nothing is freed: the frame is reserved.
        let freed = unsafe { frames.free_pfn_range(pfn, 1) };
        assert_eq!(freed.map(|()| pfn), refused);
        // SAFETY: 1. nothing is freed: the frame is reserved.
        let freed = unsafe { frames.free_pfns(&[pfn, pfn]) };
        assert_eq!(freed.map(|()| pfn), refused);
    }

    fn hand_in_ranges(&mut self, which: usize, len: usize) {
        let frames = self.world.frames();
        let nr_reserved = self.naive.reserved().count();
        if nr_reserved == 0 {
            return;
        }
        let from = self.naive.reserved().skip(which % nr_reserved);
        let pfns: Vec<u64> = from.take(len.max(1)).collect();
        for run in pfns.chunk_by(|one, next| one + 1 == *next) {
            for &pfn in run {
                self.naive.hand_in(pfn);
                self.world.hand_in();
            }
            // SAFETY: 1. unused: reserved frames that were not handed in before.
            let freed = unsafe { frames.hand_in(Pfn::new(run[0]), run.len()) };
            freed.expect("reserved frames");
            self.naive.give(run.iter().copied());
            self.naive.follow_marks(frames);
        }
    }
}

fn take<T>(things: &mut Vec<T>, which: usize) -> Option<T> {
    match things.len() {
        0 => None,
        len if which == LAST => Some(things.remove(len - 1)),
        len => Some(things.remove(which % len)),
    }
}

fn pfn_of(slot: &Option<Page<Frames<'_>>>) -> Option<u64> {
    slot.as_ref().map(|page| page.pfn().value())
}

fn pfns_of(block: &Folio<Frames<'_>>) -> Range<u64> {
    let start = block.pfn().value();
    start..start + block.order().nr_pages() as u64
}

fn is_full(slot: usize, full: u64) -> bool {
    full >> slot.min(63) & 1 == 1
}
