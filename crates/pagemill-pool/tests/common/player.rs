//! The same operations on a pool and on the model, everything compared after each.

use pagemill::Page;
use pagemill::handles::SharedPage;
use pagemill::units::NodeId;
use pagemill_pool::dma::{ArenaOffsets, FaultyMapper};
use pagemill_pool::{PagePool, PoolOwner, PoolPage};
use pagemill_testkit::{Frames, World};

use super::naive::{Known, Naive};

pub(crate) type Pool<'w> = PagePool<Page<Frames<'w>>, FaultyMapper<ArenaOffsets>>;

/// What can be done to a pool. Pages that are out are named by where they are in the list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Alloc,
    AllocBulk(usize),
    /// Directly to the owner.
    Put(usize),
    PutBulk(usize),
    /// Through the ring.
    Drop(usize),
    DropBulk(usize),
    Detach(usize),
    ReleaseBulk(usize),
    /// Shared and returned, with another owner or without.
    Share {
        at: usize,
        held: bool,
    },
    SetNode(u8),
    SetRefill(usize),
    FailMaps(u64),
    FailAllocs(bool),
}

/// A pool, its model, and what is out.
pub(crate) struct Player<'p, 'w> {
    world: &'w World,
    pool: &'p Pool<'w>,
    owner: PoolOwner<&'p Pool<'w>>,
    naive: Naive,
    out: Vec<PoolPage<&'p Pool<'w>>>,
    /// Shares that others hold of pages the pool has given up.
    shares: Vec<SharedPage<Frames<'w>>>,
    detached: Vec<Page<Frames<'w>>>,
}

fn known(page: &PoolPage<&Pool<'_>>) -> Known {
    Known { pfn: Some(page.pfn().value()), node: page.node().value() }
}

impl<'p, 'w> Player<'p, 'w> {
    pub(crate) fn new(world: &'w World, pool: &'p Pool<'w>) -> Self {
        let owner = PoolOwner::claim(pool).expect("the pool has no owner yet");
        let node = pool.params().node.expect("the model wants to know");
        let naive = Naive::new(pool.params().pool_size, node.value());
        let (out, shares, detached) = (Vec::new(), Vec::new(), Vec::new());
        Self { world, pool, owner, naive, out, shares, detached }
    }

    pub(crate) fn nr_out(&self) -> usize {
        self.out.len()
    }

    /// Carries out `op`, and compares.
    pub(crate) fn play(&mut self, op: Op) {
        match op {
            Op::Alloc => {
                let page = self.owner.alloc();
                self.took(page);
            }
            Op::AllocBulk(nr) => {
                let mut pages = Vec::new();
                let got = self.owner.alloc_bulk(nr, &mut pages);
                assert_eq!(got, pages.len());
                pages.into_iter().for_each(|page| self.took(Some(page)));
                if got < nr {
                    self.took(None);
                }
            }
            Op::Put(at) => {
                let page = self.out.swap_remove(at);
                self.naive.put(known(&page));
                self.owner.put(page);
            }
            Op::PutBulk(nr) => {
                let pages = self.last(nr);
                self.naive.put_bulk(&pages.iter().map(known).collect::<Vec<_>>());
                self.owner.put_bulk(pages);
            }
            Op::Drop(at) => {
                let page = self.out.swap_remove(at);
                self.naive.put_ring(known(&page));
                drop(page);
            }
            Op::DropBulk(nr) => {
                let pages = self.last(nr);
                self.naive.put_ring_bulk(&pages.iter().map(known).collect::<Vec<_>>());
                self.owner.returner().put_bulk(pages);
            }
            Op::Detach(at) => {
                self.detached.push(self.out.swap_remove(at).detach());
                self.naive.release(1);
            }
            Op::ReleaseBulk(nr) => {
                let pages = self.last(nr);
                self.naive.release(pages.len());
                self.owner.returner().release_bulk(pages);
            }
            Op::Share { at, held } => self.share(at, held),
            Op::SetNode(node) => {
                self.naive.set_node(node);
                self.owner.set_node(Some(NodeId::new(node)));
            }
            Op::SetRefill(nr) => {
                self.naive.refill = nr;
                self.owner.set_refill(nr);
            }
            Op::FailMaps(failures) => {
                self.naive.map_failures = failures;
                self.pool.mapper().fail(failures);
            }
            Op::FailAllocs(fail) => {
                self.naive.alloc_fails = fail;
                self.world.fail_all(fail);
            }
        }
        self.compare(op);
    }

    /// Gives everything up, and checks that nothing is in flight.
    pub(crate) fn finish(self) {
        let Self { world, pool, owner, out, shares, detached, .. } = self;
        world.fail_all(false);
        let mut draining = owner.shutdown();
        let nr_out = i32::try_from(out.len()).expect("few pages");
        assert_eq!(draining.poll().map_or(0, |out| out.inflight), nr_out);
        drop(out);
        assert!(draining.is_complete());
        assert_eq!(pool.mapper().nr_mapped(), 0);
        drop((shares, detached));
    }

    fn took(&mut self, page: Option<PoolPage<&'p Pool<'w>>>) {
        let expected = self.naive.alloc();
        match (&page, expected) {
            (None, None) => {}
            (Some(page), Some(expected)) => {
                assert_eq!(page.node().value(), expected.node);
                if let Some(pfn) = expected.pfn {
                    assert_eq!(page.pfn().value(), pfn, "the order of pages");
                }
            }
            _ => panic!("got {page:?}, expected {expected:?}"),
        }
        self.out.extend(page);
    }

    fn share(&mut self, at: usize, held: bool) {
        let page = self.out.swap_remove(at);
        let known = known(&page);
        let shared = page.share();
        if held {
            self.shares.push(shared.page().clone());
            self.naive.counts.released_refcnt += 1;
            self.naive.release(1);
        } else {
            self.naive.put_ring(known);
        }
        drop(shared);
    }

    fn last(&mut self, nr: usize) -> Vec<PoolPage<&'p Pool<'w>>> {
        self.out.split_off(self.out.len() - nr)
    }

    fn compare(&self, op: Op) {
        let stats: Vec<_> = self.owner.stats().counters().map(|(_, count)| count).collect();
        assert_eq!(stats, self.naive.counts.in_order(), "after {op:?}");
        assert_eq!(self.owner.nr_cached(), self.naive.cache.len(), "after {op:?}");
        assert!(self.owner.nr_cached() <= 128);
        assert_eq!(self.owner.nr_out(), self.out.len(), "after {op:?}");
        let held = self.naive.cache.len() + self.naive.ring.len() + self.out.len();
        let held = i32::try_from(held).expect("few pages");
        assert_eq!((self.pool.inflight(), self.naive.inflight), (held, held), "after {op:?}");
        // What is in flight is mapped, and nothing else.
        assert_eq!(self.pool.mapper().nr_mapped(), held.unsigned_abs().into(), "after {op:?}");
    }
}
