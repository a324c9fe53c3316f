//! Page lists compared with naive queues: pages of several zones, spans, kinds, accounts and orders.

extern crate alloc;

use alloc::collections::VecDeque;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::handles::{Owned, SharedPage, free_pages_bulk};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page, PageList};
use pagemill_testkit::{Frames, NORMAL, Rng, World, order, region, set_account};

/// Two zones; the second one has a hole.
fn world() -> World {
    let memory =
        [region(1 << 12, 2048, 0), region(NORMAL, 1024, 0), region(NORMAL + 4096, 2048, 0)];
    World::new(&Config { nr_accounts: 1, ..Config::new(&memory, 1) })
}

/// Flags for pages that differ in zone, kind or account.
const KINDS: [Gfp; 5] = [
    Gfp::KERNEL,
    Gfp::HIGHUSER_MOVABLE,
    Gfp::KERNEL.union(Gfp::DMA32),
    Gfp::KERNEL_ACCOUNT,
    Gfp::KERNEL.union(Gfp::RECLAIMABLE),
];

fn random_kind(rng: &mut Rng) -> Gfp {
    // Mostly one kind, as lists of real users have.
    if rng.chance(60) { Gfp::KERNEL } else { rng.pick(&KINDS) }
}

/// An item of a list, as the queue notes it: its first frame.
trait Item<'w>: Owned<Source = Frames<'w>> + Sized {
    fn first(&self) -> u64;

    /// Appends items to a list in one call, and returns how many.
    fn append(frames: Frames<'w>, rng: &mut Rng, list: &mut PageList<Self>) -> usize;

    fn one(frames: Frames<'w>, rng: &mut Rng) -> Option<Self>;
}

impl<'w> Item<'w> for Page<Frames<'w>> {
    fn first(&self) -> u64 {
        self.pfn().value()
    }

    fn append(frames: Frames<'w>, rng: &mut Rng, list: &mut PageList<Self>) -> usize {
        let nr = rng.pick(&[0, 1, 2, 63, 64, 65, 130, 200]);
        frames.alloc_pages_bulk_list(random_kind(rng), nr, list)
    }

    fn one(frames: Frames<'w>, rng: &mut Rng) -> Option<Self> {
        frames.alloc_page(random_kind(rng))
    }
}

impl<'w> Item<'w> for Folio<Frames<'w>> {
    fn first(&self) -> u64 {
        self.pfn().value()
    }

    fn append(frames: Frames<'w>, rng: &mut Rng, list: &mut PageList<Self>) -> usize {
        let order = order(u8::try_from(rng.below(3)).expect("small"));
        let request = BulkRequest { order, ..BulkRequest::new(random_kind(rng)) };
        frames.bulk_list(&request, rng.pick(&[0, 1, 3, 70]), list).new
    }

    fn one(frames: Frames<'w>, rng: &mut Rng) -> Option<Self> {
        let order = order(u8::try_from(rng.below(4)).expect("small"));
        frames.alloc_pages(random_kind(rng), order)
    }
}

/// Plays random operations on two lists.
fn play<'w, T: Item<'w>>(frames: Frames<'w>, seed: u64) {
    let mut rng = Rng::new(seed);
    let (mut list, mut other) = (PageList::<T>::new(frames), PageList::<T>::new(frames));
    let (mut naive, mut naive_other) = (VecDeque::new(), VecDeque::new());
    let mut held = Vec::new();
    for _ in 0..400 {
        match rng.below(8) {
            0 | 1 => {
                // The new pages are those behind the old ones; a list shows its pages only one by one.
                let mut new = PageList::new(frames);
                let nr = T::append(frames, &mut rng, &mut new);
                assert_eq!(new.len(), nr);
                let items: Vec<T> = new.collect();
                naive.extend(items.iter().map(T::first));
                list.extend(items);
            }
            2 => {
                let before = list.len();
                let nr = T::append(frames, &mut rng, &mut list);
                assert_eq!(list.len(), before + nr);
                // Looks at all of them, and puts them back.
                let items: Vec<T> = list.by_ref().collect();
                assert!(items.iter().map(T::first).take(before).eq(naive.iter().copied()));
                naive = items.iter().map(T::first).collect();
                list.extend(items);
            }
            3 => {
                if let Some(item) = T::one(frames, &mut rng) {
                    naive_other.push_back(item.first());
                    other.push(item);
                }
            }
            4 => {
                list.append(&mut other);
                naive.append(&mut naive_other);
            }
            5 => {
                for _ in 0..rng.below(70) {
                    let item = list.pop();
                    assert_eq!(item.as_ref().map(T::first), naive.pop_front());
                    held.extend(item);
                }
            }
            6 => {
                let before = frames.vmstat().pgfree;
                let nr = naive.len();
                assert_eq!(free_pages_bulk(&mut list), nr);
                assert!(list.is_empty() && frames.vmstat().pgfree >= before + nr as u64);
                naive.clear();
            }
            _ => held.truncate(held.len() / 2),
        }
        assert_eq!((list.len(), other.len()), (naive.len(), naive_other.len()));
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn random_operations_equal_those_on_queues() {
    let world = world();
    let account = Account::open(world.frames(), AccountLimits::NONE).expect("room for one");
    set_account(Some(account.id()));
    for seed in 1..=6 {
        play::<Page<_>>(world.frames(), seed);
        assert_eq!((world.nr_out(), account.usage().current), (0, 0), "seed {seed}");
        play::<Folio<_>>(world.frames(), seed);
        assert_eq!((world.nr_out(), account.usage().current), (0, 0), "seed {seed}");
    }
    set_account(None);
}

#[test]
fn pages_of_alternating_kinds_return_to_their_own_lists() {
    let world = world();
    let frames = world.frames();
    let count = || frames.pcp_info().map(|list| list.count).collect::<Vec<_>>();
    let mut list = PageList::new(frames);
    for _ in 0..4 {
        list.extend(KINDS[..3].iter().map(|&kind| frames.alloc_page(kind).expect("it is free")));
    }
    let before = count();
    assert_eq!(free_pages_bulk(&mut list), 12);
    let grown: Vec<_> = count().iter().zip(before).map(|(now, then)| now - then).collect();
    assert_eq!(grown.iter().filter(|&&nr| nr == 4).count(), 3, "{grown:?}");
}

#[test]
fn pages_that_others_hold_stay_in_their_order() {
    let world = world();
    let frames = world.frames();
    let mut list = PageList::new(frames);
    let mut kept = Vec::new();
    for nth in 0..200 {
        let page = frames.alloc_page(KINDS[nth % 3]).expect("it is free").share();
        if nth % 7 == 0 {
            kept.push(page.clone());
        }
        assert!(list.try_push(page).is_ok());
    }
    assert_eq!(free_pages_bulk(&mut list), 200 - kept.len());
    assert!(list.map(|page| page.pfn()).eq(kept.iter().map(SharedPage::pfn)));
}
