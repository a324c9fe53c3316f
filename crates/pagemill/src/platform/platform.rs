//! What the allocator needs from the machine it runs on.

use core::ptr::NonNull;

use crate::account::table::AccountId;
use crate::base::gfp::Gfp;
use crate::base::units::{CpuId, Pfn};
use crate::platform::claim::{Claim, Claimed};
use crate::platform::trace::Event;

/// The machine under the allocator: a kernel, a hypervisor, a process, a test.
///
/// Correctness never depends on [`pin`](Self::pin): two threads that are told the same CPU number
/// compete for its lists, and the one that comes second goes to the zone instead of waiting.
///
/// # Concurrency
/// In a kernel, `pin` disables preemption and a zone lock (that of a shard of a zone) is taken with interrupts off, so an
/// interrupt handler may allocate at any time: where it interrupted the per-CPU lists, it finds
/// them taken and is served by the zone. An NMI handler must not allocate.
pub trait Platform {
    /// Returns how many CPUs there can be; [`pin`](Self::pin) numbers them from zero.
    fn nr_cpus(&self) -> u32;

    /// Returns the CPU that runs the caller, and keeps the caller there until
    /// [`unpin`](Self::unpin) if the platform can.
    fn pin(&self) -> CpuId;

    /// Ends what [`pin`](Self::pin) began.
    fn unpin(&self) {}

    /// Takes the lists of the claim's CPU, where [`pin`](Self::pin) said that the caller runs, if
    /// nobody holds them.
    ///
    /// By an atomic exchange, unless the platform knows better: in a process, a restartable sequence
    /// needs none.
    ///
    /// # Safety
    /// The claim is taken through this platform's two methods only, or by [`Claim::try_take`] where it is
    /// one that no CPU owns alone.
    #[inline]
    unsafe fn try_claim<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        claim.try_take()
    }

    /// Takes the lists of the claim's CPU, where the caller need not run, if nobody holds them.
    ///
    /// # Safety
    /// As for [`try_claim`](Self::try_claim).
    #[inline]
    unsafe fn try_visit<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        claim.try_take()
    }

    /// Tells whether the allocator is a copy that must not be used: in a process, that of a child
    /// which was forked.
    ///
    /// Called only off the fast paths, so the code that makes the copy must take its per-CPU lists away
    /// with a [`ListCloser`](crate::ListCloser). Requests fail then with
    /// [`Shortage::Abandoned`](crate::Shortage::Abandoned), and what is freed stays where it is.
    fn is_abandoned(&self) -> bool {
        false
    }

    /// Called where [`try_claim`](Self::try_claim) or [`try_visit`](Self::try_visit) returned `None`.
    ///
    /// A platform that changes how a claim is taken can complete the change here; others do nothing.
    /// Off the fast paths, unlike the two methods.
    fn claim_failed(&self, _claim: &Claim) {}

    /// Keeps interrupts away from this CPU and returns what was in force before.
    ///
    /// Called just before a zone lock is taken.
    fn irq_save(&self) -> usize {
        0
    }

    /// Restores what [`irq_save`](Self::irq_save) returned.
    fn irq_restore(&self, _state: usize) {}

    /// Spends a moment while another CPU holds a zone lock; `spins` counts the calls in a row.
    fn relax(&self, _spins: u32) {
        core::hint::spin_loop();
    }

    /// Returns `gfp` less what the caller's context forbids.
    ///
    /// A task that must not start I/O or enter the file system while it reclaims says so once, for
    /// all allocations that it makes: Linux's `memalloc_noio_save` and `memalloc_nofs_save`; one
    /// that frees memory soon adds [`Gfp::MEMALLOC`]. Asked only where reclaim or reserves come in.
    fn gfp_context(&self, gfp: Gfp) -> Gfp {
        gfp
    }

    /// Makes the caller one that frees memory soon, until [`leave_reclaim`](Self::leave_reclaim):
    /// [`gfp_context`](Self::gfp_context) adds [`Gfp::MEMALLOC`] to what it allocates.
    ///
    /// Called around shrinkers, so that those that allocate may use the reserves and ask no
    /// shrinker again. The caller may be such a one already: the pairs nest.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/sched/mm.h` `memalloc_noreclaim_save`
    fn enter_reclaim(&self) {}

    /// Ends what [`enter_reclaim`](Self::enter_reclaim) began.
    fn leave_reclaim(&self) {}

    /// Returns the account that the caller's allocations with [`Gfp::ACCOUNT`] are charged to.
    fn current_account(&self) -> Option<AccountId> {
        None
    }

    /// Asks for background reclaim: a zone is below its low watermark.
    ///
    /// Called in any context, also with per-CPU lists held by what was interrupted; must not
    /// allocate.
    fn wake_reclaim(&self) {}

    /// Waits until [`wake`](Self::wake) is called, or for about 10 ms, unless `still` is false.
    ///
    /// Called only for requests with [`Gfp::DIRECT_RECLAIM`], with no lock held, but for those that
    /// a shrinker or a stop callback of the caller's own holds.
    ///
    /// `still` is asked after the platform has made sure that a `wake` from then on is noticed.
    fn wait(&self, still: &dyn Fn() -> bool) {
        if still() {
            self.relax(0);
        }
    }

    /// Wakes all who [`wait`](Self::wait).
    ///
    /// Called in any context in which pages are freed, with no lock of the allocator's held: once
    /// for each time that a waiter looked in vain, however many pages are freed then.
    fn wake(&self) {}

    /// Is told what happens; does nothing unless written.
    ///
    /// Called in any context, for some events with per-CPU lists or a zone lock held: must not
    /// allocate, wait, or take long. An empty hook costs nothing, and neither does an event that a hook
    /// ignores, provided that the hook is inlined (`#[inline(always)]` if it is long).
    #[inline]
    fn trace(&self, _event: Event) {}

    /// Tells whether events of every single page are wanted, at the moment.
    ///
    /// Asked whenever a list is filled from a zone or emptied into it, and by
    /// [`look_for_tracers`](crate::PageAllocator::look_for_tracers); while the answer is yes, all
    /// allocation takes the long way.
    #[inline]
    fn traces_pages(&self) -> bool {
        false
    }

    /// Fills `nr_pages` frames from `pfn` on with a pattern that no user writes by chance.
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
    /// The caller owns these frames, and nobody else reads or writes them during the call.
    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize);
}

/// A platform on which every frame of the memory map can be reached through a pointer.
///
/// # Safety
/// For each frame of a map that an allocator was built from with this platform, `frame_ptr`
/// returns a pointer to [`PAGE_SIZE`](crate::PAGE_SIZE) initialised bytes that is aligned to
/// `PAGE_SIZE`, valid for reads and writes for as long as the platform lives, always the same for
/// one frame, and disjoint from that of every other frame. Frames whose numbers follow each other
/// follow each other in memory, within one allocation of Rust's sense, also where one region of the
/// map ends and the next begins: blocks are made of whatever frames are adjacent.
pub unsafe trait DirectMap: Platform {
    /// Returns where the bytes of frame `pfn` are.
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8>;
}
