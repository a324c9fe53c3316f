//! Shrinkers: the trait by which caches return pages under memory pressure, and the table of registered
//! shrinkers, which asks them for a limited number of pages per call. `register_shrinker` and
//! `ShrinkerGuard` are in `reclaim.rs`.

use crate::base::gfp::{Gfp, NR_ZONE_KINDS};
use crate::base::policy::NodeMask;
use crate::base::sync::{AtomicU32, Counter, Lock, LockGuard, Ordering};
use crate::platform::platform::Platform;
use crate::platform::trace::Event;

/// A call's request to a shrinker.
///
/// # Source
/// `linux-6.12` `include/linux/shrinker.h` `struct shrink_control`. Differs: several nodes are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShrinkControl {
    /// What the shrinker must not use: without [`Gfp::IO`] or [`Gfp::FS`] it keeps away from devices or
    /// file systems. Only pages of zones up to its [`highest_zone`](Gfp::highest_zone) help.
    pub gfp: Gfp,
    /// Only pages on these nodes help.
    pub nodes: NodeMask,
}

/// A cache of pages that can shrink on demand.
///
/// # Concurrency
/// One shrinker is asked at a time, by a thread that needs memory: background reclaim, or a thread
/// inside an allocation, which takes as long as the shrinker does. Other threads wait a while for that
/// call to end. So the methods must not wait for a lock that is held across allocations with
/// [`Gfp::DIRECT_RECLAIM`], nor for a thread that makes any.
///
/// A shrinker may allocate; such an allocation asks no shrinker. Where the platform has
/// [`enter_reclaim`](Platform::enter_reclaim), it may use all reserves; elsewhere it tries for a while
/// and fails. With [`Gfp::NOFAIL`] it would wait forever once the reserves are used up, since it waits
/// for the pages that it is to free itself.
///
/// # Lifetime
/// [`register_shrinker`](crate::PageAllocator::register_shrinker) takes a `&'static dyn Shrinker`, so the
/// pages of a shrinker may not borrow an allocator on the stack. Their source is a static
/// ([`static_allocator`](crate::static_allocator)), a `&'static PageAllocator`, or a counted reference,
/// such as `SharedAllocator` of `pagemill-host`.
///
/// # Examples
/// ```
/// use std::sync::Mutex;
///
/// use pagemill::reclaim::{ShrinkControl, Shrinker};
/// use pagemill::{AllocPages, Gfp, Page};
/// # use pagemill::source::PageSource;
/// # use pagemill_testkit::{SharedWorld, World};
///
/// /// Pages that are kept until memory is short.
/// struct Cache<S: PageSource>(Mutex<Vec<Page<S>>>);
///
/// impl<S: PageSource> Shrinker for Cache<S>
/// where
///     Page<S>: Send,
/// {
///     fn count(&self, _control: ShrinkControl) -> usize {
///         // A thread that holds the lock may be in an allocation.
///         self.0.try_lock().map_or(0, |pages| pages.len())
///     }
///
///     fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
///         let Ok(mut pages) = self.0.try_lock() else { return 0 };
///         let left = pages.len().saturating_sub(nr);
///         let freed = pages.split_off(left);
///         drop(pages);
///         freed.len() // dropped here, after the lock
///     }
/// }
///
/// # let frames = SharedWorld::new(World::with_memory(1024, 1));
/// let cache: &'static _ = Box::leak(Box::new(Cache(Mutex::new(Vec::new()))));
/// let registered = frames.register_shrinker(cache)?;
/// // The cache takes everything; the next request gets its page from the cache.
/// let all = std::iter::from_fn(|| frames.clone().alloc_page(Gfp::NOWAIT));
/// cache.0.lock().unwrap().extend(all);
/// let nr_kept = cache.0.lock().unwrap().len();
/// assert!(frames.clone().alloc_page(Gfp::KERNEL).is_some());
/// assert!(cache.0.lock().unwrap().len() < nr_kept);
/// drop(registered); // from now on, the allocator asks the cache no more
/// # cache.0.lock().unwrap().clear();
/// # Ok::<(), pagemill::reclaim::TooManyShrinkers>(())
/// ```
///
/// # Source
/// `linux-6.12` `include/linux/shrinker.h`
pub trait Shrinker: Sync {
    /// Returns the approximate number of pages that the cache could free; zero to be skipped.
    fn count(&self, control: ShrinkControl) -> usize;

    /// Frees up to `nr` pages and returns how many it freed.
    ///
    /// The allocator itself counts how many pages of the nodes and zones in `control` were freed during
    /// the call. The smaller of the two numbers is the progress. A shrinker that panics, or reports
    /// pages of which none helped, is skipped the next times that it would be asked for the same nodes
    /// and zones: 4 times, then 16, then 64 each time. Before a request fails, skipped shrinkers are
    /// asked once more, for no more pages than the request needs; shrinkers that panicked are not.
    fn scan(&self, nr: usize, control: ShrinkControl) -> usize;
}

/// Maximum number of registered shrinkers.
pub const MAX_NR_SHRINKERS: usize = 16;

/// The registered shrinkers.
pub(crate) struct Shrinkers {
    /// Each lock is held while its shrinker is asked, so removal waits for that call to end.
    slots: [Lock<Slot>; MAX_NR_SHRINKERS],
    /// Held by the thread that asks the shrinkers. So a shrinker that allocates never re-enters one, at
    /// any depth, and no two threads ask for the same pages.
    turn: Lock<()>,
    /// Number of threads that wait for the end of a turn.
    nr_waiting: AtomicU32,
    /// Total of freed pages that helped; written by the thread that has the turn.
    nr_freed: Counter,
}

/// One registered shrinker.
#[derive(Default)]
struct Slot {
    shrinker: Option<&'static dyn Shrinker>,
    /// Indexed by the highest kind of zone that helps.
    misses: [Misses; NR_ZONE_KINDS],
}

/// How many times in a row a shrinker freed no page that helped.
#[derive(Clone, Copy)]
struct Misses {
    /// The nodes that the pages were asked for.
    nodes: NodeMask,
    times: u32,
    /// Number of times that it is still skipped.
    skips: u32,
    /// Whether its last call panicked.
    has_panicked: bool,
}

impl Default for Misses {
    fn default() -> Self {
        Self { nodes: NodeMask::NONE, times: 0, skips: 0, has_panicked: false }
    }
}

impl Misses {
    /// Maximum number of skips in a row.
    const MAX_SKIPS: u32 = 64;

    /// Returns whether the shrinker is skipped this time.
    fn skip(&mut self, nodes: NodeMask, whom: Whom) -> bool {
        let is_due = self.skips == 0 || nodes.and(self.nodes) != nodes;
        match whom {
            Whom::Due => {
                self.skips -= u32::from(!is_due);
                !is_due
            }
            Whom::PassedOver => is_due || self.has_panicked,
        }
    }

    /// Returns the entry to store before the shrinker is asked: it stays if the shrinker panics.
    fn and(self, nodes: NodeMask) -> Self {
        let times = self.times.saturating_add(1);
        let skips = 4_u32.saturating_pow(times).min(Self::MAX_SKIPS);
        let nodes = nodes.iter().fold(self.nodes, NodeMask::with);
        Self { nodes, times, skips, has_panicked: true }
    }
}

/// Which shrinkers a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Those that are not being skipped.
    Due,
    /// Those that are being skipped, before a request fails.
    PassedOver,
}

/// Counts pages that are freed while shrinkers run.
pub(crate) trait Meter {
    /// Starts to count the pages that help a request.
    fn start(&mut self, control: ShrinkControl);

    /// Returns how many were freed since `start`, by any thread.
    fn nr_freed(&self) -> u64;
}

/// The right to ask the shrinkers; dropping it wakes the threads that wait for it, also after a panic.
struct Turn<'a, P: Platform> {
    shrinkers: &'a Shrinkers,
    platform: &'a P,
    /// Taken out only by `drop`.
    guard: Option<LockGuard<'a, ()>>,
}

impl<P: Platform> Drop for Turn<'_, P> {
    fn drop(&mut self) {
        self.platform.leave_reclaim();
        drop(self.guard.take());
        // Relaxed: a thread that begins to wait just now checks again after a while.
        if self.shrinkers.nr_waiting.load(Ordering::Relaxed) != 0 {
            self.platform.wake();
        }
    }
}

/// Counts as one thread that waits for the end of a turn, until dropped.
struct Waiter<'a>(&'a AtomicU32);

impl<'a> Waiter<'a> {
    fn new(nr_waiting: &'a AtomicU32) -> Self {
        // Relaxed: a hint for the thread that has the turn; waits are short and end by themselves.
        nr_waiting.fetch_add(1, Ordering::Relaxed);
        Self(nr_waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `new`.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Not inlined, which would write all slots out.
#[inline(never)]
fn empty_slot() -> Lock<Slot> {
    Lock::new(Slot::default())
}

impl Shrinkers {
    pub(crate) fn new() -> Self {
        Self {
            slots: core::array::from_fn(|_| empty_slot()),
            turn: Lock::new(()),
            nr_waiting: AtomicU32::new(0),
            nr_freed: Counter::new(),
        }
    }

    /// Registers a shrinker and returns its slot; `None` if all are taken.
    pub(crate) fn add(&self, shrinker: &'static dyn Shrinker) -> Option<usize> {
        self.slots.iter().position(|slot| match slot.try_lock() {
            Some(mut slot) if slot.shrinker.is_none() => {
                *slot = Slot { shrinker: Some(shrinker), ..Slot::default() };
                true
            }
            _ => false,
        })
    }

    /// Removes the shrinker in slot `place`, after any call of it has ended.
    pub(crate) fn remove(&self, place: usize, platform: &impl Platform) {
        *self.slots[place].lock(|spins| platform.relax(spins)) = Slot::default();
    }

    /// Returns whether asking may free something: a shrinker is registered, or the shrinkers are being
    /// asked now.
    pub(crate) fn any(&self) -> bool {
        let is_registered =
            |slot: &Lock<Slot>| slot.try_lock().is_none_or(|slot| slot.shrinker.is_some());
        self.turn.is_taken() || self.slots.iter().any(is_registered)
    }

    /// Returns whether a shrinker is skipped for such pages.
    pub(crate) fn passes_over(&self, control: ShrinkControl) -> bool {
        let kind = control.gfp.highest_zone().index();
        self.slots.iter().any(|slot| {
            slot.try_lock().is_some_and(|mut slot| {
                slot.shrinker.is_some() && !slot.misses[kind].skip(control.nodes, Whom::PassedOver)
            })
        })
    }

    /// Asks each shrinker in turn for its share of `nr` pages, at least [`BATCH`] where it is due, and
    /// returns the number of freed pages. If another thread is asking the shrinkers, waits a while for
    /// it to finish instead.
    ///
    /// The other thread may ask for pages of other nodes or zones. So its progress counts only as far
    /// as `meter` finds freed pages that help this request.
    pub(crate) fn shrink(
        &self,
        nr: usize,
        control: ShrinkControl,
        whom: Whom,
        platform: &impl Platform,
        meter: &mut impl Meter,
    ) -> u64 {
        let before = self.nr_freed.get();
        if let Some(guard) = self.turn.try_lock() {
            platform.enter_reclaim();
            let turn = Turn { shrinkers: self, platform, guard: Some(guard) };
            self.ask(nr as u64, control, whom, platform, meter);
            drop(turn);
        } else {
            meter.start(control);
            let waiter = Waiter::new(&self.nr_waiting);
            platform.wait(&|| self.turn.is_taken());
            drop(waiter);
            return self.nr_freed.get().wrapping_sub(before).min(meter.nr_freed());
        }
        self.nr_freed.get().wrapping_sub(before)
    }

    /// Asks each shrinker; the caller has the turn.
    fn ask(
        &self,
        nr: u64,
        control: ShrinkControl,
        whom: Whom,
        platform: &impl Platform,
        meter: &mut impl Meter,
    ) {
        let mut freed = 0;
        let at_least = if whom == Whom::Due { BATCH } else { 1 };
        for (place, slot) in self.slots.iter().enumerate() {
            let Some(mut slot) = slot.try_lock() else { continue };
            let Some(shrinker) = slot.shrinker else { continue };
            let kind = control.gfp.highest_zone().index();
            if slot.misses[kind].skip(control.nodes, whom) {
                continue;
            }
            let misses = slot.misses[kind];
            slot.misses[kind] = misses.and(control.nodes);
            let count = shrinker.count(control);
            let mut left = nr.saturating_sub(freed).max(at_least).min(count as u64);
            slot.misses[kind] = misses;
            while left > 0 {
                let nr_to_scan = usize::try_from(left.min(SCAN_AT_ONCE)).unwrap_or(usize::MAX);
                left -= nr_to_scan as u64;
                let gfp = control.gfp;
                platform.trace(Event::ShrinkSlabStart { place, gfp, nr_to_scan, count });
                slot.misses[kind] = misses.and(control.nodes);
                meter.start(control);
                let nr_freed = shrinker.scan(nr_to_scan, control);
                let helped = meter.nr_freed().min(nr_freed as u64);
                platform.trace(Event::ShrinkSlabEnd { place, nr_freed });
                self.nr_freed.add(helped);
                freed += helped;
                match (nr_freed, helped) {
                    // The shrinker reported that it has nothing now: no miss.
                    (0, _) => slot.misses[kind] = misses,
                    (_, 0) => slot.misses[kind].has_panicked = false,
                    _ => {
                        slot.misses[kind] = Misses::default();
                        continue;
                    }
                }
                break;
            }
        }
    }
}

/// Number of pages per request to a shrinker, which bounds how many are freed unnecessarily.
///
/// # Source
/// `linux-6.12` `mm/shrinker.c` `SHRINK_BATCH`
const SCAN_AT_ONCE: u64 = 128;

/// The fewest pages that a shrinker is asked for.
///
/// # Source
/// `linux-6.12` `include/linux/swap.h` `SWAP_CLUSTER_MAX`
const BATCH: u64 = 32;

impl core::fmt::Debug for Shrinkers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shrinkers").finish_non_exhaustive()
    }
}
