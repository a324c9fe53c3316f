//! Background reclaim: a thread that keeps an allocator's zones above their high watermarks.

use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::io;
use std::thread::{self, JoinHandle};

use alloc::sync::Arc;
use pagemill::PageSource;

use crate::allocator::SharedAllocator;
use crate::platform::Host;

/// A thread that reclaims when zones fall to their low watermarks, until one is above its high
/// watermark again, as Linux's kswapd does; dropping this ends it.
///
/// Without one, memory is reclaimed only by those who wait for it.
pub struct ReclaimThread {
    stop: Arc<StopFlag>,
    allocator: SharedAllocator,
    thread: Option<JoinHandle<()>>,
}

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type StopFlag = core::sync::atomic::AtomicBool;

/// How often the thread looks by itself, should nobody call.
const PERIOD: Duration = Duration::from_secs(1);

impl ReclaimThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says if there can be no more threads.
    pub fn spawn(allocator: SharedAllocator) -> io::Result<Self> {
        let stop = Arc::new(StopFlag::new(false));
        let (its_stop, its_allocator) = (Arc::clone(&stop), allocator.clone());
        let thread = thread::Builder::new().name("pagemill-reclaim".into()).spawn(move || {
            let host: &Host = its_allocator.allocator().platform();
            // Relaxed: the flag is only a reason to look; the signal orders.
            while !its_stop.load(Ordering::Relaxed) {
                host.wait_for_reclaim(PERIOD, || !its_stop.load(Ordering::Relaxed));
                // Whoever called may have been helped meanwhile; between low and high nothing is due.
                if its_allocator.allocator().needs_balance() {
                    its_allocator.allocator().balance();
                }
                its_allocator.allocator().look_for_tracers();
            }
        })?;
        Ok(Self { stop, allocator, thread: Some(thread) })
    }
}

impl Drop for ReclaimThread {
    fn drop(&mut self) {
        // Relaxed: as above.
        self.stop.store(true, Ordering::Relaxed);
        self.allocator.allocator().platform().call_reclaim();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            // A shrinker panicked; its message is out, and there is nothing left to stop.
        }
    }
}

impl fmt::Debug for ReclaimThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReclaimThread").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pagemill::{AllocPages, Gfp, Page, ShrinkControl, Shrinker};

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
        let _thread = ReclaimThread::spawn(frames.clone()).unwrap();
        let high = frames.allocator().zone_info().next().unwrap().watermarks.high;
        // Without direct reclaim: only the thread can make room.
        let mut got = 0;
        for _ in 0..20_000 {
            match frames.clone().alloc_page(Gfp::NOWAIT) {
                Some(page) => {
                    got += 1;
                    cache.pages.lock().unwrap().push(page);
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
            if got > 8192 {
                break;
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
}
