//! `Platform` and `DirectMap`: what a kernel or process must provide to the allocator.

use core::ptr::NonNull;

use crate::account::table::AccountId;
use crate::base::gfp::Gfp;
use crate::base::units::{CpuId, Pfn};
use crate::platform::claim::{Claim, Claimed};
use crate::platform::trace::Event;

/// The environment of the allocator: a kernel, a hypervisor, a process, a test.
///
/// Correctness never depends on [`pin`](Self::pin): two threads with the same CPU number compete for
/// its lists, and the loser goes to the zone instead of waiting.
///
/// # Concurrency
/// In a kernel, `pin` disables preemption, and a zone's shard lock is taken with interrupts off. So an
/// interrupt handler may allocate at any time: if it interrupted a user of the per-CPU lists, it finds
/// them taken and is served by the zone. An NMI handler must not allocate.
pub trait Platform {
    /// Returns how many CPUs there can be; [`pin`](Self::pin) numbers them from zero.
    fn nr_cpus(&self) -> u32;

    /// Returns the CPU that runs the caller, and keeps the caller there until
    /// [`unpin`](Self::unpin) if the platform can.
    fn pin(&self) -> CpuId;

    /// Reverts [`pin`](Self::pin).
    fn unpin(&self) {}

    /// Takes the lists of the claim's CPU, which [`pin`](Self::pin) returned for the caller, unless
    /// they are held.
    ///
    /// The default is an atomic exchange. A platform may do better: in a process, a restartable
    /// sequence needs none.
    ///
    /// # Safety
    /// Only `try_claim` and [`try_visit`](Self::try_visit) of this platform take the claim.
    /// [`Claim::try_take`] takes it only if no CPU owns it alone.
    #[inline]
    unsafe fn try_claim<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        claim.try_take()
    }

    /// Takes the lists of the claim's CPU, from any CPU, unless they are held.
    ///
    /// # Safety
    /// As for [`try_claim`](Self::try_claim).
    #[inline]
    unsafe fn try_visit<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        claim.try_take()
    }

    /// Returns whether the allocator is a copy that must not be used: in a process, the copy in a
    /// forked child.
    ///
    /// Called only off the fast paths, so the code that makes the copy must close its per-CPU lists
    /// with a [`ListCloser`](crate::machine::ListCloser). Requests then fail with
    /// [`Shortage::Abandoned`](crate::Shortage::Abandoned), and freed pages stay where they are.
    fn is_abandoned(&self) -> bool {
        false
    }

    /// Called where [`try_claim`](Self::try_claim) or [`try_visit`](Self::try_visit) returned `None`.
    ///
    /// A platform that changes how a claim is taken can complete the change here; other platforms do
    /// nothing. Unlike the two methods, this one is off the fast paths.
    fn claim_failed(&self, _claim: &Claim) {}

    /// Disables interrupts on this CPU and returns the previous state.
    ///
    /// Called just before a zone lock is taken.
    fn irq_save(&self) -> usize {
        0
    }

    /// Restores the state that [`irq_save`](Self::irq_save) returned.
    fn irq_restore(&self, _state: usize) {}

    /// Pauses briefly while another CPU holds a zone lock; `spins` counts consecutive calls.
    fn relax(&self, _spins: u32) {
        core::hint::spin_loop();
    }

    /// Returns `gfp` without the flags that the caller's context forbids.
    ///
    /// A task that must not start I/O or enter the file system during reclaim declares so once, for all
    /// its allocations, as with Linux's `memalloc_noio_save` and `memalloc_nofs_save`. One that will
    /// soon free memory adds [`Gfp::MEMALLOC`]. Called only where reclaim or reserves matter.
    fn gfp_context(&self, gfp: Gfp) -> Gfp {
        gfp
    }

    /// Marks the caller as one that will soon free memory, until
    /// [`leave_reclaim`](Self::leave_reclaim): [`gfp_context`](Self::gfp_context) adds
    /// [`Gfp::MEMALLOC`] to its allocations.
    ///
    /// Called around shrinkers, so that a shrinker that allocates may use the reserves and asks no
    /// shrinker again. The caller may be marked already: the pairs nest.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/sched/mm.h` `memalloc_noreclaim_save`
    fn enter_reclaim(&self) {}

    /// Reverts one [`enter_reclaim`](Self::enter_reclaim).
    fn leave_reclaim(&self) {}

    /// Returns the account to which the caller's allocations with [`Gfp::ACCOUNT`] are charged.
    fn current_account(&self) -> Option<AccountId> {
        None
    }

    /// Asks for background reclaim: a zone is below its low watermark.
    ///
    /// Called in any context, also while interrupted code holds per-CPU lists; must not allocate.
    fn wake_reclaim(&self) {}

    /// Waits until [`wake`](Self::wake) is called, or for approximately 10 ms, unless `still` returns
    /// false.
    ///
    /// Called only for requests with [`Gfp::DIRECT_RECLAIM`], without a lock held other than those of a
    /// shrinker or of the caller's stop callback.
    ///
    /// `still` is called once the platform is sure to notice any later `wake`.
    fn wait(&self, still: &dyn Fn() -> bool) {
        if still() {
            self.relax(0);
        }
    }

    /// Wakes all threads in [`wait`](Self::wait).
    ///
    /// Called in any context in which pages are freed, with no lock of the allocator held: once after
    /// each check of a waiter that found nothing, however many pages are freed then.
    fn wake(&self) {}

    /// Receives trace events; does nothing by default.
    ///
    /// Called in any context, for some events with per-CPU lists or a zone lock held: must not
    /// allocate, wait, or take long. An empty hook costs nothing, and neither does an event that a hook
    /// ignores, provided that the hook is inlined (`#[inline(always)]` if it is long).
    #[inline]
    fn trace(&self, _event: Event) {}

    /// Returns whether events of every single page are wanted now.
    ///
    /// Called whenever a list is refilled or drained, and by
    /// [`look_for_tracers`](crate::PageAllocator::look_for_tracers). While it returns true, all
    /// allocations take the slow path.
    #[inline]
    fn traces_pages(&self) -> bool {
        false
    }

    /// Fills `nr_pages` frames from `pfn` on with the poison, a pattern that no user writes by chance.
    ///
    /// # Safety
    /// As for [`zero_pages`](Self::zero_pages).
    unsafe fn poison_pages(&self, _pfn: Pfn, _nr_pages: usize) {}

    /// Returns the position of the first byte that no longer has the pattern of
    /// [`poison_pages`](Self::poison_pages).
    ///
    /// # Safety
    /// As for [`zero_pages`](Self::zero_pages).
    unsafe fn find_unpoisoned(&self, _pfn: Pfn, _nr_pages: usize) -> Option<usize> {
        None
    }

    /// Fills `nr_pages` frames from `pfn` on with zeroes.
    ///
    /// # Safety
    /// The caller owns these frames; nothing else reads or writes them during the call.
    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize);
}

/// A platform on which every frame of the memory map can be reached through a pointer.
///
/// # Safety
/// For each frame of a map that an allocator was built from with this platform, `frame_ptr` returns
/// a pointer to [`PAGE_SIZE`](crate::units::PAGE_SIZE) initialised bytes that is aligned to
/// `PAGE_SIZE`, valid for reads and writes for as long as the platform lives, always the same for one
/// frame, and disjoint from that of every other frame. Frames with consecutive numbers are consecutive
/// in memory and belong to one Rust allocation, also across the border of two regions of the map: a
/// block may consist of any adjacent frames.
pub unsafe trait DirectMap: Platform {
    /// Returns the address of the bytes of frame `pfn`.
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8>;
}

/// Interrupts are disabled on this CPU, until dropped; also if a hook of the platform panics.
pub(crate) struct IrqOff<'a, P: Platform> {
    platform: &'a P,
    state: usize,
}

impl<'a, P: Platform> IrqOff<'a, P> {
    #[inline]
    pub(crate) fn new(platform: &'a P) -> Self {
        Self { platform, state: platform.irq_save() }
    }

    #[inline]
    pub(crate) fn platform(&self) -> &'a P {
        self.platform
    }
}

impl<P: Platform> Drop for IrqOff<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.platform.irq_restore(self.state);
    }
}
