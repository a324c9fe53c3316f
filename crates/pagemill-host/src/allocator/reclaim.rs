//! Background reclaim thread: keeps an allocator's zones above their high watermarks, like kswapd.

use core::fmt;
use core::mem::ManuallyDrop;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io;
use std::panic::catch_unwind;
use std::thread::{self, JoinHandle};

use alloc::sync::Arc;
use pagemill::Platform;
use pagemill::source::PageSource;

use crate::allocator::allocator::SharedAllocator;
use crate::allocator::platform::Host;

/// A thread that reclaims when zones fall to their low watermarks, until one is above its high
/// watermark again, as Linux's kswapd does; dropping this stops it.
///
/// Without one, memory is reclaimed only by threads that wait for it.
///
/// A shrinker that panics ends the round of reclaim that asked it, not the thread: the panic hook
/// reports it, [`nr_panics`](Self::nr_panics) counts it, and the next round begins as usual.
#[must_use = "dropping this ends the thread"]
pub struct ReclaimThread {
    shared: Arc<Shared>,
    allocator: SharedAllocator,
    thread: Option<JoinHandle<()>>,
}

/// The state that the thread shares with its handle.
#[derive(Debug, Default)]
struct Shared {
    stop: StopFlag,
    nr_panics: Count,
}

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type StopFlag = core::sync::atomic::AtomicBool;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type Count = core::sync::atomic::AtomicU64;

/// Interval at which the thread checks without a request.
const PERIOD: Duration = Duration::from_secs(1);

impl ReclaimThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The error of the system if no further thread can be started.
    pub fn spawn(allocator: SharedAllocator) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (its_shared, its_allocator) = (Arc::clone(&shared), allocator.clone());
        let thread = thread::Builder::new().name("pagemill-reclaim".into()).spawn(move || {
            let frames = its_allocator.allocator();
            let host: &Host = frames.platform();
            // Relaxed: the flag only triggers a check; the signal orders.
            let is_running = || !its_shared.stop.load(Ordering::Relaxed);
            while is_running() {
                host.wait_for_reclaim(PERIOD, is_running);
                let round = AssertUnwindSafe(|| {
                    // The shortage may have ended in the meantime; between low and high nothing is due.
                    if frames.needs_balance() {
                        frames.balance();
                    }
                });
                // Unwinding releases the allocator's locks; the shrinker is responsible for its own
                // state.
                if let Err(payload) = catch_unwind(round) {
                    // Dropping it could panic again.
                    let _payload = ManuallyDrop::new(payload);
                    // Relaxed: a statistic.
                    its_shared.nr_panics.fetch_add(1, Ordering::Relaxed);
                }
                frames.look_for_tracers();
            }
        })?;
        Ok(Self { shared, allocator, thread: Some(thread) })
    }

    /// Returns how many rounds of reclaim ended because a shrinker panicked.
    #[must_use]
    pub fn nr_panics(&self) -> u64 {
        // Relaxed: a statistic.
        self.shared.nr_panics.load(Ordering::Relaxed)
    }
}

impl Drop for ReclaimThread {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.allocator.allocator().platform().is_abandoned() {
            // The thread does not exist in this process: joining it would never return. It is not
            // detached either: its id may belong to a thread of this process by now.
            let _not_here = ManuallyDrop::new(thread);
            return;
        }
        // Relaxed: the flag only triggers a check; the signal below orders.
        self.shared.stop.store(true, Ordering::Relaxed);
        self.allocator.allocator().platform().call_reclaim();
        if thread.join().is_err() {
            // The thread itself panicked, not a shrinker, whose panics are caught. The panic hook
            // reported it.
        }
    }
}

impl fmt::Debug for ReclaimThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReclaimThread")
            .field("nr_panics", &self.nr_panics())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use pagemill::reclaim::{ShrinkControl, Shrinker};
    use pagemill::{AllocPages, Gfp, Page};

    use super::*;
    use crate::{AllocatorConfig, ArenaConfig, allocator};

    /// A cache of pages that knows how to shrink.
    #[derive(Default)]
    struct Cache {
        pages: Mutex<Vec<Page<SharedAllocator>>>,
        scans: AtomicUsize,
    }

    #[expect(clippy::disallowed_types, reason = "a test's counter")]
    type AtomicUsize = core::sync::atomic::AtomicUsize;

    impl Shrinker for Cache {
        fn count(&self, _control: ShrinkControl) -> usize {
            self.pages.lock().unwrap().len()
        }

        fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
            self.scans.fetch_add(1, Ordering::Relaxed);
            let mut pages = self.pages.lock().unwrap();
            let keep = pages.len().saturating_sub(nr);
            pages.drain(keep..).count()
        }
    }

    fn frames() -> SharedAllocator {
        let config = AllocatorConfig {
            min_free_bytes: Some(1 << 20),
            ..AllocatorConfig::new(ArenaConfig::new(16 << 20))
        };
        SharedAllocator::new(allocator(&config).unwrap())
    }

    #[test]
    fn falling_under_low_wakes_it_and_it_stops_at_high() {
        let frames = frames();
        let cache: &'static Cache = Box::leak(Box::default());
        let shrinker = frames.allocator().register_shrinker(cache).unwrap();
        let _reclaim = ReclaimThread::spawn(frames.clone()).unwrap();
        let high = frames.allocator().zone_info().next().unwrap().watermarks.high;
        // Without direct reclaim: only the thread can make room.
        let mut got = 0;
        let start = Instant::now();
        while got <= 8192 && start.elapsed() < Duration::from_mins(3) {
            match frames.clone().alloc_page(Gfp::NOWAIT) {
                Some(page) => {
                    got += 1;
                    cache.pages.lock().unwrap().push(page);
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        assert!(got > 8192, "{got} pages out of an arena of 4096: reclaim made room");
        assert!(cache.scans.load(Ordering::Relaxed) > 0);
        for _ in 0..1000 {
            if frames.allocator().zone_info().next().unwrap().nr_free_pages > high {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let left = cache.pages.lock().unwrap().len();
        assert!(left > 0, "it stops at high, not at empty");
        drop(shrinker);
        cache.pages.lock().unwrap().clear();
    }

    /// What the shrinker below panics with, which panics again.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a second panic for the test");
        }
    }

    /// Panics the first time that it is asked.
    #[derive(Default)]
    struct Panics {
        cache: Cache,
        has_panicked: StopFlag,
    }

    impl Shrinker for Panics {
        fn count(&self, control: ShrinkControl) -> usize {
            self.cache.count(control)
        }

        fn scan(&self, nr: usize, control: ShrinkControl) -> usize {
            if !self.has_panicked.swap(true, Ordering::Relaxed) {
                std::panic::panic_any(Bomb);
            }
            self.cache.scan(nr, control)
        }
    }

    #[test]
    fn a_shrinker_that_panics_does_not_end_it() {
        let frames = frames();
        let panics: &'static Panics = Box::leak(Box::default());
        let shrinker = frames.allocator().register_shrinker(panics).unwrap();
        let reclaim = ReclaimThread::spawn(frames.clone()).unwrap();
        assert_eq!(reclaim.nr_panics(), 0);
        let mut got = 0;
        let start = Instant::now();
        // More than the arena has: the thread must go on to free some.
        while got <= 4096 {
            assert!(start.elapsed() < Duration::from_mins(2), "only {got} pages");
            match frames.clone().alloc_page(Gfp::NOWAIT) {
                Some(page) => {
                    got += 1;
                    panics.cache.pages.lock().unwrap().push(page);
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        }
        assert_eq!(reclaim.nr_panics(), 1);
        drop((reclaim, shrinker));
        panics.cache.pages.lock().unwrap().clear();
    }
}
