//! Traced allocator: passes every event of an allocator to a program's own `Tracer`.

use core::ptr::NonNull;

use pagemill::accounts::AccountId;
use pagemill::debug::Event;
use pagemill::machine::{Claim, Claimed, DirectMap};
use pagemill::units::{CpuId, Pfn};
use pagemill::{Gfp, PageAllocator, Platform};

use crate::allocator::allocator::{AllocatorConfig, allocator_on};
use crate::allocator::platform::Host;
use crate::error::HostError;

/// Receives every event of an allocator, including those of its locks.
///
/// The calls come from within allocation and free, some of them while locks are held: they must not
/// allocate pages, wait for other threads, or take long.
pub trait Tracer {
    /// Receives an event.
    fn event(&self, event: Event);

    /// Returns whether events of every single page are wanted; see [`Platform::traces_pages`].
    fn traces_pages(&self) -> bool {
        false
    }
}

/// A [`Host`] whose events go only to a [`Tracer`].
#[derive(Debug)]
pub struct Traced<T> {
    host: Host,
    tracer: T,
}

impl<T> Traced<T> {
    /// Returns the host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the tracer.
    #[must_use]
    pub fn tracer(&self) -> &T {
        &self.tracer
    }
}

/// Builds an allocator as [`allocator`](crate::allocator()) does, whose events go to `tracer`.
///
/// # Errors
/// The errors of [`allocator`](crate::allocator()).
///
/// # Cost
/// That of the tracer: each use of a CPU's lists raises two events, and so does each use of a zone.
pub fn traced_allocator<T: Tracer>(
    config: &AllocatorConfig,
    tracer: T,
) -> Result<PageAllocator<Traced<T>>, HostError> {
    // SAFETY:
    // 1. A `Traced` keeps its host, lends only shared references to it, and hands out its frames.
    unsafe { allocator_on(config, |host| Traced { host, tracer }) }
}

impl<T: Tracer> Platform for Traced<T> {
    fn nr_cpus(&self) -> u32 {
        self.host.nr_cpus()
    }

    #[inline]
    fn pin(&self) -> CpuId {
        self.host.pin()
    }

    fn claim_failed(&self, claim: &Claim) {
        self.host.claim_failed(claim);
    }

    fn is_abandoned(&self) -> bool {
        self.host.is_abandoned()
    }

    #[inline]
    unsafe fn try_claim<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        // SAFETY:
        // 1. Only `try_claim` and `try_visit` take the claim (guaranteed by the caller), and both
        //    call the host's methods.
        unsafe { self.host.try_claim(claim) }
    }

    unsafe fn try_visit<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        // SAFETY:
        // 1. Only `try_claim` and `try_visit` take the claim (guaranteed by the caller), and both
        //    call the host's methods.
        unsafe { self.host.try_visit(claim) }
    }

    #[inline]
    fn relax(&self, spins: u32) {
        self.host.relax(spins);
    }

    fn gfp_context(&self, gfp: Gfp) -> Gfp {
        self.host.gfp_context(gfp)
    }

    fn enter_reclaim(&self) {
        self.host.enter_reclaim();
    }

    fn leave_reclaim(&self) {
        self.host.leave_reclaim();
    }

    fn current_account(&self) -> Option<AccountId> {
        self.host.current_account()
    }

    fn wake_reclaim(&self) {
        self.host.wake_reclaim();
    }

    fn wait(&self, still: &dyn Fn() -> bool) {
        self.host.wait(still);
    }

    fn wake(&self) {
        self.host.wake();
    }

    #[inline]
    fn trace(&self, event: Event) {
        self.tracer.event(event);
    }

    #[inline]
    fn traces_pages(&self) -> bool {
        self.tracer.traces_pages()
    }

    unsafe fn poison_pages(&self, pfn: Pfn, nr_pages: usize) {
        // SAFETY:
        // 1. The same obligations: guaranteed by the caller.
        unsafe { self.host.poison_pages(pfn, nr_pages) };
    }

    unsafe fn find_unpoisoned(&self, pfn: Pfn, nr_pages: usize) -> Option<usize> {
        // SAFETY:
        // 1. The same obligations: guaranteed by the caller.
        unsafe { self.host.find_unpoisoned(pfn, nr_pages) }
    }

    #[inline]
    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
        // SAFETY:
        // 1. The same obligations: guaranteed by the caller.
        unsafe { self.host.zero_pages(pfn, nr_pages) };
    }
}

// SAFETY:
// 1. The host meets all requirements of the trait; `self` owns it and never replaces it.
unsafe impl<T: Tracer> DirectMap for Traced<T> {
    #[inline]
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        self.host.frame_ptr(pfn)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use pagemill::AllocPages;
    use pagemill::reclaim::{ShrinkControl, Shrinker};

    use super::*;
    use crate::ArenaConfig;

    #[derive(Default)]
    struct Log {
        events: Mutex<Vec<Event>>,
        pages: bool,
    }

    impl Tracer for Log {
        fn event(&self, event: Event) {
            self.events.lock().unwrap().push(event);
        }

        fn traces_pages(&self) -> bool {
            self.pages
        }
    }

    fn traced(pages: bool) -> PageAllocator<Traced<Log>> {
        let config =
            AllocatorConfig { poison: true, ..AllocatorConfig::new(ArenaConfig::new(16 << 20)) };
        traced_allocator(&config, Log { pages, ..Log::default() }).unwrap()
    }

    fn take(frames: &PageAllocator<Traced<Log>>) -> Vec<Event> {
        core::mem::take(&mut *frames.platform().tracer().events.lock().unwrap())
    }

    #[test]
    fn a_tracer_hears_of_locks_and_pages_are_as_without_one() {
        let frames = traced(false);
        take(&frames);
        let mut page = frames.alloc_page(Gfp::KERNEL | Gfp::ZERO).unwrap();
        let heard = take(&frames);
        let count = |wanted: fn(&&Event) -> bool| heard.iter().filter(wanted).count();
        let locked = count(|event| matches!(event, Event::ListsLocked));
        assert_eq!(locked, count(|event| matches!(event, Event::ListsUnlocked)));
        assert_eq!(count(|event| matches!(event, Event::ZoneLocked { .. })), 1, "{heard:?}");
        assert_eq!(count(|event| matches!(event, Event::PageAlloc { .. })), 0, "{heard:?}");
        assert!(page.as_bytes().iter().all(|&byte| byte == 0));
        page.as_bytes_mut().fill(1);
        let pfn = page.pfn();
        assert_eq!(frames.platform().frame_ptr(pfn), frames.platform().host().frame_ptr(pfn));
        drop(page);
        assert_eq!(frames.nr_free_pages(), 4096);
    }

    #[test]
    fn a_tracer_hears_of_pages_if_it_wants_to() {
        let frames = traced(true);
        frames.look_for_tracers();
        take(&frames);
        let page = frames.alloc_page(Gfp::KERNEL).unwrap();
        let pfn = page.pfn();
        drop(page);
        let order = pagemill::Order::ZERO;
        let heard = take(&frames);
        assert!(heard.contains(&Event::PageFree { pfn, order }), "{heard:?}");
        let allocated =
            |event: &Event| matches!(event, Event::PageAlloc { pfn: p, .. } if *p == pfn);
        assert!(heard.iter().any(allocated), "{heard:?}");
    }

    /// Has nothing to give.
    struct Nothing;

    impl Shrinker for Nothing {
        fn count(&self, _control: ShrinkControl) -> usize {
            1
        }

        fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
            0
        }
    }

    #[test]
    fn what_a_platform_is_asked_reaches_the_host() {
        let frames = traced(false);
        let guard = frames.register_shrinker(&Nothing).unwrap();
        let all: Vec<_> =
            core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY)).collect();
        assert_eq!(frames.nr_cpus(), frames.platform().host().nr_cpus());
        let heard = take(&frames);
        assert!(
            heard.iter().any(|event| matches!(event, Event::ShrinkSlabEnd { .. })),
            "{}",
            all.len()
        );
        let _scope = crate::AllocScope::memalloc();
        let last = frames.alloc_page(Gfp::KERNEL | Gfp::NORETRY);
        assert!(last.is_some(), "the scope admits it to the reserves");
        drop(guard);
    }
}
