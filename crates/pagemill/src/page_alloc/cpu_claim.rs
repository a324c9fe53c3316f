//! Claims on a CPU by users of the allocator, for data of their own that belongs to the CPU.

use core::fmt;

use crate::base::units::CpuId;
use crate::page_alloc::alloc_context::Pinned;
use crate::page_alloc::allocator::PageAllocator;
use crate::percpu::percpu::Lists;
use crate::platform::platform::Platform;

/// The sole right to use what belongs to one CPU of an allocator, until dropped.
///
/// It is the claim that guards the CPU's own lists of free pages. Code that keeps an array of values, one
/// for each CPU, uses value [`cpu`](Self::cpu) while it holds the claim of that CPU: it then needs no lock
/// and, on platforms that have restartable sequences, no atomic instruction.
///
/// Unsafe code may rely on this: at most one claim of a CPU of one allocator exists at a time
/// (`claim-excludes`), and what its holder wrote is visible to the next holder.
///
/// # Concurrency
/// Hold it for a few instructions, and do not wait meanwhile: in a kernel, the caller may not be preempted.
/// Page allocations by the holder and by code that interrupts it work, but go to the zones instead of the
/// CPU's lists.
///
/// # Examples
/// ```
/// # use std::cell::Cell;
/// # use pagemill::machine::CpuClaim;
/// # use pagemill::{PageAllocator, Platform};
/// /// One counter for each CPU of an allocator.
/// struct PerCpu(Vec<Cell<u64>>);
///
/// fn count<P: Platform>(frames: &PageAllocator<P>, counters: &PerCpu) -> bool {
///     // `None`: interrupted code, or another thread with this CPU's number, holds it.
///     let Some(claim) = frames.try_claim_cpu() else { return false };
///     let counter = &counters.0[claim.index()];
///     counter.set(counter.get() + 1);
///     true
/// }
/// ```
#[must_use = "dropping this releases the claim"]
pub struct CpuClaim<'a, P: Platform> {
    // Dropped in this order: the lists are released before the caller may move to another CPU.
    lists: Lists<'a, P>,
    _pinned: Option<Pinned<'a, P>>,
}

impl<P: Platform> PageAllocator<P> {
    /// Claims what belongs to the CPU that runs the caller, unless it is claimed or its lists are in use.
    ///
    /// Also returns `None`, always, where the allocator [is abandoned](Platform::is_abandoned).
    ///
    /// # Cost
    /// What a page from the CPU's lists costs, without the page: in a process on x86-64, approximately 10
    /// instructions.
    #[inline]
    pub fn try_claim_cpu(&self) -> Option<CpuClaim<'_, P>> {
        let pinned = self.pin();
        let lists = pinned.lists()?;
        Some(CpuClaim { lists, _pinned: Some(pinned) })
    }

    /// Does what [`try_claim_cpu`](Self::try_claim_cpu) does, but returns `None` where CPUs share lists
    /// because there are more CPUs than lists.
    ///
    /// For fast paths, followed by `try_claim_cpu`: it makes no call that returns, and so needs no stack
    /// frame.
    #[inline]
    pub fn try_claim_cpu_at_once(&self) -> Option<CpuClaim<'_, P>> {
        let pinned = self.pin_at_once()?;
        let lists = pinned.lists_at_once()?;
        Some(CpuClaim { lists, _pinned: Some(pinned) })
    }

    /// Claims what belongs to `cpu`, from any CPU, unless it is claimed or the CPU's lists are in use.
    ///
    /// # Panics
    /// If there is no such CPU, with its number and the range allowed.
    ///
    /// # Cost
    /// Off the fast paths: in a process, a system call.
    #[track_caller]
    pub fn try_visit_cpu(&self, cpu: CpuId) -> Option<CpuClaim<'_, P>> {
        let Some(per_cpu) = self.cpus().get(cpu.value() as usize) else {
            panic!("unknown CPU {cpu}: this allocator has CPUs 0 to {}", self.nr_cpus() - 1)
        };
        Some(CpuClaim { lists: per_cpu.try_visit(self.platform())?, _pinned: None })
    }
}

impl<P: Platform> CpuClaim<'_, P> {
    /// Returns the CPU. Where CPUs share lists, it is the first one of those that do.
    #[inline]
    #[must_use]
    pub fn cpu(&self) -> CpuId {
        self.lists.cpu()
    }

    /// Returns the CPU's number as an index; it is below
    /// [`nr_cpus`](PageAllocator::nr_cpus).
    #[inline]
    #[must_use]
    pub fn index(&self) -> usize {
        self.cpu().value() as usize
    }
}

impl<P: Platform> fmt::Debug for CpuClaim<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuClaim").field("cpu", &self.cpu()).finish_non_exhaustive()
    }
}
