//! Who holds one CPU's lists: a word for those who run on it, and one for all others.
//!
//! Holding is only ever tried. On most platforms that is an atomic exchange of one word. A platform
//! on which nobody else runs on a CPU between two instructions, or notices, can set the word by a
//! plain store instead; others must then first make sure that no such store is under way, which is
//! what the other word is for.

use core::fmt;

use crate::sync::{AtomicU32, Ordering};
use crate::units::CpuId;

/// Says whether one CPU's lists are in use.
///
/// `claim-excludes`: at most one [`Claimed`] of a claim exists.
#[repr(C, align(8))]
pub struct Claim {
    /// The CPU; [`NOBODY`] while somebody who may run elsewhere holds the lists, or finds out
    /// whether they are free.
    owner: AtomicU32,
    /// One while somebody who ran on the CPU when they took it holds the lists.
    held: AtomicU32,
    cpu: CpuId,
}

/// No CPU has this number, and it is none of those (-1, -2) that a thread's area for restartable
/// sequences shows before and instead of a CPU's.
const NOBODY: u32 = 1 << 31;

/// The right to use one CPU's lists, until dropped.
pub struct Claimed<'a> {
    /// The word that says so, and what it says otherwise.
    word: &'a AtomicU32,
    otherwise: u32,
}

impl Claim {
    pub(crate) fn new(cpu: CpuId) -> Self {
        Self { owner: AtomicU32::new(cpu.value()), held: AtomicU32::new(0), cpu }
    }

    /// Makes the claim of lists that several CPUs use: it can only be taken by an exchange.
    pub(crate) fn shared(cpu: CpuId) -> Self {
        Self { owner: AtomicU32::new(NOBODY), ..Self::new(cpu) }
    }

    /// Returns the CPU whose lists these are.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// Takes the lists if nobody holds them, from any CPU.
    ///
    /// # Cost
    /// An atomic exchange.
    #[inline]
    pub fn try_take(&self) -> Option<Claimed<'_>> {
        // Its Acquire pairs with the Release in `Claimed::drop`. Not by a swap under loom: it lets
        // such a write, made where the word is set, overtake the store that clears it.
        #[cfg(not(loom))]
        let was = self.held.swap(1, Ordering::Acquire);
        #[cfg(loom)]
        let was = self
            .held
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .unwrap_or_else(|was| was);
        // Made only where it is true: dropping one ends the claim.
        if was == 0 { Some(Claimed { word: &self.held, otherwise: 0 }) } else { None }
    }

    /// Returns the address of the two words, for who takes the lists without an atomic exchange:
    /// where the first one is the number of the CPU that runs the caller, and the second one zero,
    /// the second one is to be set to one.
    #[cfg(not(loom))]
    #[inline]
    pub fn as_ptr(&self) -> *mut [u32; 2] {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Says that the second word was set by the caller.
    ///
    /// # Safety
    /// - The caller has set the second word from zero to one while it ran on the CPU that the first
    ///   word named.
    /// - Nobody else did so at the same time: whoever sets it, for as long as the claim exists, does
    ///   so in a sequence of instructions that the platform breaks off where the CPU turns to another
    ///   thread; no [`try_take`](Self::try_take) is used.
    /// - Others use [`try_visit`](Self::try_visit), with a fence that breaks such sequences off.
    #[inline]
    pub unsafe fn assume_taken(&self) -> Claimed<'_> {
        Claimed { word: &self.held, otherwise: 0 }
    }

    /// Takes the lists if nobody holds them, from any CPU, where those on the claim's own CPU do not
    /// use atomic exchanges.
    ///
    /// `fence` breaks off what another thread on the CPU has begun and not yet finished, so that it
    /// sees that the first word no longer names the CPU; false says that it could not.
    pub fn try_visit(&self, fence: impl FnOnce() -> bool) -> Option<Claimed<'_>> {
        let cpu = self.cpu.value();
        // Acquire pairs with the Release in `Claimed::drop` of another visitor.
        self.owner.compare_exchange(cpu, NOBODY, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let claimed = Claimed { word: &self.owner, otherwise: cpu };
        // Acquire pairs with the Release in `Claimed::drop` of the last holder.
        let is_free = fence() && self.held.load(Ordering::Acquire) == 0;
        is_free.then_some(claimed)
    }

    /// Tells whether `claimed` is of this claim.
    pub(crate) fn is_of(&self, claimed: &Claimed<'_>) -> bool {
        core::ptr::eq(claimed.word, &raw const self.held)
            || core::ptr::eq(claimed.word, &raw const self.owner)
    }
}

impl Drop for Claimed<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire of whoever takes the lists next.
        self.word.store(self.otherwise, Ordering::Release);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: a snapshot for people.
        let is_held = self.held.load(Ordering::Relaxed) != 0;
        let is_visited = self.owner.load(Ordering::Relaxed) == NOBODY;
        f.debug_struct("Claim")
            .field("cpu", &self.cpu)
            .field("is_held", &is_held)
            .field("is_visited", &is_visited)
            .finish()
    }
}

impl fmt::Debug for Claimed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_of_all_who_try_holds_it() {
        let claim = Claim::new(CpuId::new(7));
        let held = claim.try_take();
        assert!(held.is_some() && claim.try_take().is_none());
        assert!(claim.try_visit(|| true).is_none(), "held");
        drop(held);
        assert!(claim.try_take().is_some());
    }

    #[test]
    fn a_visitor_holds_it_where_the_fence_found_nobody() {
        let claim = Claim::new(CpuId::new(7));
        // What a platform's sequence of instructions looks at.
        // SAFETY: 1. valid: the claim is alive. 2. nobody writes it meanwhile.
        let words = || unsafe { claim.as_ptr().read() };
        assert_eq!(words(), [7, 0]);
        assert!(claim.try_visit(|| false).is_none());
        assert_eq!(words(), [7, 0]);
        let visitor = claim.try_visit(|| true);
        assert!(visitor.is_some() && claim.try_visit(|| true).is_none());
        assert_eq!(words(), [NOBODY, 0]);
        drop(visitor);
        assert_eq!(words(), [7, 0]);
    }
}
