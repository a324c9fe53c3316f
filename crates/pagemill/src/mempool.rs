//! A reserve of pages for those who must not fail: whoever frees memory only after it got some.

use core::fmt;

use crate::alloc_pages::AllocPages;
use crate::bulk::request::{BulkRequest, Effort};
use crate::gfp::Gfp;
use crate::list::PageList;
use crate::page::Page;
use crate::platform::Platform;
use crate::queue::WaitQueue;
use crate::shortage::Shortage;
use crate::sync::Lock;

/// A reserve of single pages, taken from only when the allocator has none, refilled before
/// anything goes back to it.
///
/// A caller that asks for no more than the reserve holds, and returns what it got sooner or later,
/// always gets it: the reserve gives all that a request lacks, or nothing yet, in the order in which
/// requests came. Two half-served callers that wait for each other cannot be.
///
/// # Source
/// `linux-7.0` `mm/mempool.c` `mempool_alloc_bulk_noprof`
pub struct Mempool<S: AllocPages> {
    /// The reserve; guarded as a whole.
    reserve: Lock<PageList<Page<S>>>,
    min_nr: usize,
    queue: WaitQueue,
    source: S,
}

impl<S: AllocPages> Mempool<S> {
    /// Sets `min_nr` pages aside.
    ///
    /// # Errors
    /// Why they could not all be had; none is kept then.
    #[track_caller]
    pub fn new(source: S, min_nr: usize, gfp: Gfp) -> Result<Self, Shortage> {
        let mut reserve = PageList::new(source.clone());
        let all = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(gfp) };
        match source.clone().bulk_list(&all, min_nr, &mut reserve).short {
            Some(shortage) => Err(shortage),
            None => {
                Ok(Self { reserve: Lock::new(reserve), min_nr, queue: WaitQueue::new(), source })
            }
        }
    }

    /// Returns how many pages the reserve holds when it is full.
    #[must_use]
    pub fn min_nr(&self) -> usize {
        self.min_nr
    }

    /// Fills every empty slot: from the allocator as far as that is easy, from the reserve where it
    /// is not, waiting for others to free into it if `gfp` lets the caller wait.
    ///
    /// # Errors
    /// [`Shortage::Memory`] if `gfp` is without [`Gfp::DIRECT_RECLAIM`] and the reserve has too few;
    /// [`Shortage::Stopped`] if `stop` said so. No slot was filled then that was not full before.
    ///
    /// # Panics
    /// If there are more slots than the reserve has pages.
    #[track_caller]
    pub fn alloc_bulk(
        &self,
        gfp: Gfp,
        slots: &mut [Option<Page<S>>],
        stop: Option<&dyn Fn() -> bool>,
    ) -> Result<(), Shortage> {
        assert!(
            slots.len() <= self.min_nr,
            "a mempool of {} pages cannot promise {}",
            self.min_nr,
            slots.len()
        );
        let missing = slots.iter().filter(|slot| slot.is_none()).count();
        let easy = (gfp | Gfp::NOMEMALLOC | Gfp::NORETRY | Gfp::NOWARN)
            .difference(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL);
        let easy = BulkRequest { effort: Effort::Fast, ..BulkRequest::new(easy) };
        let mut pages = PageList::new(self.source.clone());
        // Who waits already comes first: what is in the reserve may be all that it waits for.
        let may_use_reserve = !self.queue.has_waiters();
        if !self.gather(&easy, missing, may_use_reserve, &mut pages) {
            if !gfp.contains(Gfp::DIRECT_RECLAIM) {
                return Err(Shortage::Memory);
            }
            let take_all = || self.gather(&easy, missing, true, &mut pages).then_some(());
            let served = self.queue.in_turn(self.source.allocator().platform(), stop, take_all);
            served.ok_or(Shortage::Stopped)?;
        }
        for (slot, page) in slots.iter_mut().filter(|slot| slot.is_none()).zip(&mut pages) {
            *slot = Some(page);
        }
        Ok(())
    }

    /// Empties the slots: into the reserve until that is full, the rest to the allocator.
    pub fn free_bulk(&self, slots: &mut [Option<Page<S>>]) {
        let mut pages = PageList::new(self.source.clone());
        pages.extend(slots.iter_mut().filter_map(Option::take));
        self.free_list(&mut pages);
    }

    /// Gets `nr` pages, or none: those that come easily, the rest from the reserve.
    #[track_caller]
    fn gather(
        &self,
        easy: &BulkRequest<'_>,
        nr: usize,
        may_use_reserve: bool,
        pages: &mut PageList<Page<S>>,
    ) -> bool {
        self.source.clone().bulk_list(easy, nr, pages);
        let rest = nr - pages.len();
        if rest == 0 || may_use_reserve && self.take(rest, pages) {
            return true;
        }
        // Nothing is held while waiting: it might be what another one waits for.
        self.free_list(pages);
        false
    }

    /// Moves `nr` pages out of the reserve, or none if it has fewer.
    fn take(&self, nr: usize, pages: &mut PageList<Page<S>>) -> bool {
        let platform = self.source.allocator().platform();
        let mut reserve = self.reserve.lock(|spins| platform.relax(spins));
        if reserve.len() < nr {
            return false;
        }
        pages.extend(reserve.by_ref().take(nr));
        true
    }

    fn free_list(&self, pages: &mut PageList<Page<S>>) {
        let platform = self.source.allocator().platform();
        let mut reserve = self.reserve.lock(|spins| platform.relax(spins));
        let room = self.min_nr - reserve.len();
        reserve.extend(pages.by_ref().take(room));
        drop(reserve);
        crate::alloc_pages::free_pages_bulk(pages);
        if self.queue.has_waiters() {
            self.queue.notify(platform);
        }
    }
}

impl<S: AllocPages> fmt::Debug for Mempool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool").field("min_nr", &self.min_nr).finish_non_exhaustive()
    }
}
