//! Mempool: a reserve of pages for requests that must not fail, for instance those of a thread that
//! needs memory before it can free some.

use core::fmt;
use core::panic::Location;

use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::base::policy::NodeMask;
use crate::base::raw_page::AccountNumber;
use crate::base::shortage::Shortage;
use crate::base::sync::{Counter, Lock};
use crate::bulk::request::{BulkRequest, Effort};
use crate::page::list::PageList;
use crate::page::page::Page;
use crate::page_alloc::allocator::Site;
use crate::page_alloc::slow_path_flags::OWNERS;
use crate::platform::platform::{IrqOff, Platform};
use crate::platform::trace::Event;
use crate::wait::queue::WaitQueue;

/// A reserve of single pages. It is used only when the allocator has none, and refilled before pages
/// return to the allocator.
///
/// A caller that may wait, and asks for no more than the reserve holds, always gets its pages, as long
/// as earlier callers eventually return theirs through [`free_bulk`](Self::free_bulk). The reserve
/// gives a request either everything that it lacks or nothing yet, in the order of the requests, so two
/// half-served callers cannot wait for each other. A page that is dropped instead goes to the
/// allocator, and the reserve is refilled when the allocator next has pages to spare.
///
/// Pages in the reserve, and pages taken from it, are charged to no account.
///
/// # Concurrency
/// Interrupts are off while the reserve is in use, for a few instructions per page moved. So an
/// interrupt handler may use it with a `gfp` that does not wait.
///
/// # Examples
/// ```
/// use pagemill::reserves::Mempool;
/// use pagemill::{AllocPages, Gfp, Shortage};
/// # use pagemill_testkit::World;
/// # let frames = &*World::with_memory(1024, 1);
///
/// let reserve = Mempool::new(frames, 16, Gfp::KERNEL)?;
/// // Others use up the memory that ordinary requests may have.
/// let others: Vec<_> = std::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL)).collect();
/// let mut slots = [const { None }; 16];
/// reserve.alloc_bulk(Gfp::KERNEL, &mut slots, None)?;
/// // A request that may not wait is refused while the reserve is empty.
/// let mut more = [const { None }; 1];
/// assert_eq!(reserve.alloc_bulk(Gfp::NOWAIT, &mut more, None), Err(Shortage::Memory));
/// reserve.free_bulk(&mut slots);
/// reserve.alloc_bulk(Gfp::NOWAIT, &mut more, None)?;
/// # drop(others);
/// # Ok::<(), Shortage>(())
/// ```
///
/// # Source
/// `linux-7.0` `mm/mempool.c` `mempool_alloc_bulk_noprof`
pub struct Mempool<S: AllocPages> {
    /// The reserve's pages.
    reserve: Lock<PageList<Page<S>>>,
    min_nr: usize,
    /// How many pages the reserve lacks; written under the reserve's lock.
    nr_lacking: Counter,
    /// Flags with which the reserve is refilled.
    gfp: Gfp,
    queue: WaitQueue,
    source: S,
}

impl<S: AllocPages> Mempool<S> {
    /// Sets `min_nr` pages aside, which [`Gfp::ACCOUNT`] charges to no account.
    ///
    /// # Errors
    /// Returns why not all pages could be had; none is kept then.
    #[track_caller]
    pub fn new(source: S, min_nr: usize, gfp: Gfp) -> Result<Self, Shortage> {
        let gfp = gfp.difference(Gfp::ACCOUNT);
        let mut reserve = PageList::new(source.clone());
        let all = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(gfp) };
        match source.clone().bulk_list(&all, min_nr, &mut reserve).short {
            Some(shortage) => Err(shortage),
            None => {
                let (reserve, nr_lacking) = (Lock::new(reserve), Counter::new());
                Ok(Self { reserve, min_nr, nr_lacking, gfp, queue: WaitQueue::new(), source })
            }
        }
    }

    /// Returns the number of pages in a full reserve.
    #[must_use]
    pub fn min_nr(&self) -> usize {
        self.min_nr
    }

    /// Returns how many waits for pages succeeded without a wake-up, because the waiter checked again
    /// after [`Platform::wait`] returned.
    ///
    /// [`free_bulk`](Self::free_bulk) wakes waiters. Pages freed in any other way wake none: a waiter
    /// finds them when it checks again.
    #[must_use]
    pub fn nr_polled_waits(&self) -> u32 {
        self.queue.nr_polled()
    }

    /// Fills every empty slot: from the allocator if it has pages to spare, else from the reserve; with
    /// reclaim, and waiting for other threads to free, if `gfp` lets the caller wait.
    ///
    /// The reserve's pages come from the zones that [`new`](Self::new) was given, whatever zone or node
    /// `gfp` names.
    ///
    /// # Errors
    /// [`Shortage::Memory`] if `gfp` lacks [`Gfp::DIRECT_RECLAIM`] and the reserve has too few pages;
    /// [`Shortage::Stopped`] if `stop` returned true. No empty slot has been filled then.
    ///
    /// # Panics
    /// If there are more slots than a full reserve has pages.
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
        self.source.allocator().check_usable()?;
        let site = Location::caller();
        let missing = slots.iter().filter(|slot| slot.is_none()).count();
        let easy = easy(gfp);
        let mut pages = PageList::new(self.source.clone());
        // Earlier waiters come first: they may need all that the reserve has.
        let may_use_reserve = !self.queue.has_waiters();
        if !self.gather(&easy, missing, may_use_reserve, &mut pages) {
            self.notify();
            if !gfp.contains(Gfp::DIRECT_RECLAIM) {
                return Err(Shortage::Memory);
            }
            let light = Gfp::NOMEMALLOC | Gfp::NORETRY | Gfp::NOWARN;
            let hard = BulkRequest::new((gfp | light).difference(Gfp::NOFAIL));
            let take_all = || self.gather(&hard, missing, true, &mut pages).then_some(());
            let platform = self.source.allocator().platform();
            platform.trace(Event::WaitBegin);
            let served = self.queue.in_turn(platform, NodeMask::ALL, stop, take_all);
            platform.trace(Event::WaitEnd { is_served: served.is_some() });
            served.ok_or(Shortage::Stopped)?;
        }
        self.fill_up();
        for (slot, page) in slots.iter_mut().filter(|slot| slot.is_none()).zip(&mut pages) {
            self.note_owner(&page, site);
            *slot = Some(page);
        }
        Ok(())
    }

    /// Empties the slots: their pages fill the reserve first, and the remaining ones go to the
    /// allocator, as do pages of zones that the flags of [`new`](Self::new) exclude.
    pub fn free_bulk(&self, slots: &mut [Option<Page<S>>]) {
        let mut pages = PageList::new(self.source.clone());
        pages.extend(slots.iter_mut().filter_map(Option::take));
        self.put(&mut pages);
        self.notify();
    }

    /// Gets `nr` pages or none: those of `request`, and the missing ones from the reserve.
    fn gather(
        &self,
        request: &BulkRequest<'_>,
        nr: usize,
        may_use_reserve: bool,
        pages: &mut PageList<Page<S>>,
    ) -> bool {
        let _outcome = self.source.clone().bulk_list(request, nr, pages);
        let rest = nr - pages.len();
        if rest == 0 || may_use_reserve && self.take(rest, request.gfp, pages) {
            return true;
        }
        // Holds nothing while waiting: another waiter might need it.
        self.put(pages);
        false
    }

    /// Moves `nr` pages out of the reserve, or none if it has fewer.
    fn take(&self, nr: usize, gfp: Gfp, pages: &mut PageList<Page<S>>) -> bool {
        let mut taken = PageList::new(self.source.clone());
        self.with_reserve(|reserve| {
            if reserve.len() >= nr {
                taken.extend(reserve.take(nr));
            }
        });
        let is_enough = taken.len() == nr;
        for page in taken {
            if gfp.contains(Gfp::ZERO) {
                self.source.allocator().zero_all(&[page.raw()]);
            }
            pages.push(page);
        }
        is_enough
    }

    /// Moves pages that suit the reserve into it until it is full, and frees the others.
    fn put(&self, pages: &mut PageList<Page<S>>) {
        if self.source.allocator().check_usable().is_err() {
            crate::alloc_pages::free_pages_bulk(pages);
            return;
        }
        let room = usize::try_from(self.nr_lacking.get()).unwrap_or(usize::MAX).min(pages.len());
        let mut kept = PageList::new(self.source.clone());
        for page in pages.by_ref().filter(|page| self.suits(page)).take(room) {
            kept.push(self.uncharge(page));
        }
        self.with_reserve(|reserve| {
            let room = self.min_nr - reserve.len();
            reserve.extend(kept.by_ref().take(room));
        });
        crate::alloc_pages::free_pages_bulk(&mut kept);
        crate::alloc_pages::free_pages_bulk(pages);
    }

    /// Replaces pages that were taken from the reserve and not returned, if the allocator has some to
    /// spare.
    fn fill_up(&self) {
        let lacking = usize::try_from(self.nr_lacking.get()).unwrap_or(usize::MAX);
        if lacking > 0 {
            let mut pages = PageList::new(self.source.clone());
            let _outcome = self.source.clone().bulk_list(&easy(self.gfp), lacking, &mut pages);
            self.put(&mut pages);
        }
    }

    /// Runs `body` on the reserve with interrupts off; `body` must only move pages.
    fn with_reserve(&self, body: impl FnOnce(&mut PageList<Page<S>>)) {
        let platform = self.source.allocator().platform();
        // Dropped in the reverse order: unlocked before interrupts are restored.
        let _irq = IrqOff::new(platform);
        let mut reserve = self.reserve.lock(|spins| platform.relax(spins));
        body(&mut reserve);
        self.nr_lacking.set((self.min_nr - reserve.len()) as u64);
    }

    /// Returns whether a page is in a zone that the reserve's pages may come from.
    fn suits(&self, page: &Page<S>) -> bool {
        let zone = self.source.allocator().zone(page.raw().list().zone());
        zone.facts.kind <= self.gfp.highest_zone()
    }

    /// Makes a page that is charged to no account.
    fn uncharge(&self, page: Page<S>) -> Page<S> {
        let (raw, source) = page.into_parts();
        source.allocator().accounts().uncharge(raw.class().account(), 1);
        Page::new(source, raw.charged_to(AccountNumber::NONE))
    }

    /// Records `site` as the owner of a page.
    fn note_owner(&self, page: &Page<S>, site: Site) {
        let allocator = self.source.allocator();
        if allocator.slow_path_flags.has(OWNERS) {
            allocator.owners().hold(allocator.frame_of(page.raw()), site);
        }
    }

    fn notify(&self) {
        if self.queue.has_waiters() {
            self.queue.notify(self.source.allocator().platform());
        }
    }
}

/// Makes a request for pages that the allocator can spare at once.
fn easy(gfp: Gfp) -> BulkRequest<'static> {
    let gfp = (gfp | Gfp::NOMEMALLOC | Gfp::NORETRY | Gfp::NOWARN)
        .difference(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL);
    BulkRequest { effort: Effort::Fast, ..BulkRequest::new(gfp) }
}

impl<S: AllocPages> fmt::Debug for Mempool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool").field("min_nr", &self.min_nr).finish_non_exhaustive()
    }
}
