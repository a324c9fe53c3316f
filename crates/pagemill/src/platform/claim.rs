//! Claim: the flag that gives one thread at a time a CPU's lists, with or without an atomic exchange.
//!
//! A claim is tried, never waited for. On most platforms that is an atomic exchange of one word,
//! `held`. A platform that can restart a short instruction sequence when its thread loses the CPU can
//! set `held` by a plain store instead. A visitor from another CPU must then make sure that no such
//! store is in progress before it exchanges `held` itself. The word `owner` serves this: while it names
//! no CPU, no sequence reaches its plain store.

use core::fmt;

use crate::base::sync::{AtomicU32, Ordering};
use crate::base::units::CpuId;

/// The flag that is set while one CPU's lists are in use.
///
/// `claim-excludes`: at most one [`Claimed`] of a claim exists. Each one stands for a change of
/// `held` from zero to one. Safe code can make that change only by an atomic exchange, so no
/// implementation of [`Platform`](crate::Platform) without unsafe code can take a claim twice.
/// Unsafe code that makes the change by other means must ensure the exclusion: see
/// [`assume_taken`](Self::assume_taken).
#[repr(C, align(8))]
pub struct Claim {
    /// The CPU; [`NOBODY`] while a visitor waits for sequences on the CPU to be aborted; [`CLOSED`] or
    /// [`SHARED`] once no sequence may take the lists any more.
    owner: AtomicU32,
    /// One while the lists are held.
    held: AtomicU32,
    cpu: CpuId,
}

/// Not the number of any CPU, and different from the values -1 and -2 that a thread's
/// restartable-sequence area holds when it has no CPU number.
const NOBODY: u32 = 1 << 31;
/// No new sequence begins, but one that began before may still end in its plain store.
const CLOSED: u32 = NOBODY + 1;
/// The lists are taken only by an atomic exchange, from any CPU.
const SHARED: u32 = NOBODY + 2;
/// No thread can take the lists any more.
const SEIZED: u32 = NOBODY + 3;

/// The right to use one CPU's lists, until dropped.
///
/// Borrows the one [`Claim`] that it was made from.
#[must_use = "dropping this releases the claim"]
pub struct Claimed<'a> {
    held: &'a AtomicU32,
}

/// Restores the `owner` word that a visitor has replaced.
struct Owner<'a>(&'a Claim);

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next visitor. Sequences on the CPU see the exchange of
        // `held`, which came before this store: they read `owner` first.
        self.0.owner.store(self.0.cpu.value(), Ordering::Release);
    }
}

impl Claim {
    pub(crate) fn new(cpu: CpuId) -> Self {
        Self { owner: AtomicU32::new(cpu.value()), held: AtomicU32::new(0), cpu }
    }

    /// Makes the claim of lists that several CPUs share: it can only be taken by an exchange.
    pub(crate) fn shared(cpu: CpuId) -> Self {
        Self { owner: AtomicU32::new(SHARED), ..Self::new(cpu) }
    }

    /// Returns the CPU whose lists the claim guards.
    #[inline]
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// Takes the lists, from any CPU, unless they are held.
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
        // Made only on success: dropping one releases the claim.
        if was == 0 { Some(Claimed { held: &self.held }) } else { None }
    }

    /// Returns whether the lists are taken only by an atomic exchange.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        // Acquire pairs with the Release in `share`: the effects of sequences are visible.
        self.owner.load(Ordering::Acquire) == SHARED
    }

    /// Stops new sequences for good: the first step from plain stores to exchanges, after a fence was
    /// refused. Does nothing to lists that a visitor is using.
    ///
    /// Until [`share`](Self::share) is called, no thread can take the lists.
    pub fn close(&self) {
        let (cpu, none) = (self.cpu.value(), Ordering::Relaxed);
        // AcqRel pairs with the Acquire in `is_closed`; an error means that another thread is closing it.
        let _other = self.owner.compare_exchange(cpu, CLOSED, Ordering::AcqRel, none);
    }

    /// Returns whether [`close`](Self::close) was called and [`share`](Self::share) was not yet.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // Acquire pairs with the Release in `close`.
        self.owner.load(Ordering::Acquire) == CLOSED
    }

    /// Closes the claim for good.
    ///
    /// Does not wait for a thread that holds the lists, which does not exist in this process. If the
    /// calling thread itself holds them, dropping its [`Claimed`] allows [`try_take`](Self::try_take)
    /// again, but no sequence and no visitor: a process that forks inside a hook of the platform must
    /// call exec, not return from the hook.
    pub(crate) fn seize(&self) {
        // Relaxed, both: for a process whose other threads are gone.
        self.owner.store(SEIZED, Ordering::Relaxed);
        self.held.store(1, Ordering::Relaxed);
    }

    /// Allows threads on all CPUs to take a closed claim by an atomic exchange.
    ///
    /// [`assume_taken`](Self::assume_taken) requires that no sequence that began before
    /// [`close`](Self::close) can still end in its store. Exchanges exclude each other in any case.
    pub fn share(&self) {
        let none = Ordering::Relaxed;
        // AcqRel pairs with the Acquire in `is_shared`; an error says that it is shared, or not closed.
        let _other = self.owner.compare_exchange(CLOSED, SHARED, Ordering::AcqRel, none);
    }

    /// Returns the address of the two words, for a caller that takes the lists without an atomic
    /// exchange. If the first word is the number of the CPU that runs the caller and the second is
    /// zero, the caller sets the second to one.
    #[cfg(not(loom))]
    #[inline]
    pub fn as_ptr(&self) -> *mut [u32; 2] {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// Makes the guard of a caller that has set the second word.
    ///
    /// # Safety
    /// - The caller has set the second word from zero to one while it ran on the CPU that the first
    ///   word named.
    /// - No other thread did so at the same time. For as long as the claim exists, the word is set
    ///   only by an instruction sequence that the platform aborts when the CPU switches to another
    ///   thread; [`try_take`](Self::try_take) is used only once the claim is shared.
    /// - Threads on other CPUs call [`try_visit`](Self::try_visit) with a fence that returns true
    ///   only if it has aborted such sequences. Or the platform [`close`](Self::close)s the claim,
    ///   and calls [`share`](Self::share) only after each sequence that began earlier has ended or
    ///   was aborted.
    #[inline]
    pub unsafe fn assume_taken(&self) -> Claimed<'_> {
        Claimed { held: &self.held }
    }

    /// Takes the lists, from any CPU, unless they are held. For claims whose own CPU may use no atomic
    /// exchange.
    ///
    /// `fence` aborts a sequence that another thread on the CPU has begun and not finished, so that the
    /// sequence sees that the first word no longer names the CPU. It returns false if it could not. It
    /// is not called if the lists are already held.
    ///
    /// In combination with [`try_take`](Self::try_take) alone, this is correct whatever `fence`
    /// does: both end in an exchange of one word. The requirement on `fence` is one of
    /// [`assume_taken`](Self::assume_taken).
    pub fn try_visit(&self, fence: impl FnOnce() -> bool) -> Option<Claimed<'_>> {
        // Relaxed: a hint that may save the fence; the exchange below decides.
        if self.held.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let cpu = self.cpu.value();
        // Acquire pairs with the Release in `Owner::drop` of another visitor.
        self.owner.compare_exchange(cpu, NOBODY, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let _owner = Owner(self);
        if !fence() {
            return None;
        }
        // Acquire pairs with the Release in `Claimed::drop` of the last holder.
        self.held.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Claimed { held: &self.held })
    }

    /// Returns whether `claimed` belongs to this claim.
    pub(crate) fn is_of(&self, claimed: &Claimed<'_>) -> bool {
        core::ptr::eq(claimed.held, &raw const self.held)
    }
}

impl Drop for Claimed<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next thread that takes the lists.
        self.held.store(0, Ordering::Release);
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
        // SAFETY: 1. valid: the claim is alive. 2. no thread writes to it during the read.
        let words = || unsafe { claim.as_ptr().read() };
        assert_eq!(words(), [7, 0]);
        assert!(claim.try_visit(|| false).is_none());
        assert_eq!(words(), [7, 0]);
        let visitor = claim.try_visit(|| {
            assert_eq!(words(), [NOBODY, 0], "no sequence gets through meanwhile");
            assert!(claim.try_visit(|| true).is_none());
            true
        });
        assert!(visitor.is_some());
        assert_eq!(words(), [7, 1]);
        assert!(claim.try_visit(|| panic!("held: no fence is needed to see that")).is_none());
        drop(visitor);
        assert_eq!(words(), [7, 0]);
    }

    #[test]
    fn takers_and_visitors_exclude_each_other_whatever_the_fence_does() {
        let claim = Claim::new(CpuId::new(7));
        let mut taken = None;
        let visitor = claim.try_visit(|| {
            taken = claim.try_take();
            true
        });
        assert!(taken.is_some() && visitor.is_none(), "taken while the visitor waited");
        drop(taken);
        let visitor = claim.try_visit(|| true);
        assert!(visitor.is_some() && claim.try_take().is_none());
    }

    #[test]
    fn a_closed_claim_is_nobodys_until_it_is_shared() {
        let claim = Claim::new(CpuId::new(7));
        // SAFETY: 1. valid: the claim is alive. 2. no thread writes to it during the read.
        let owner = || unsafe { claim.as_ptr().read() }[0];
        claim.share();
        assert!(!claim.is_shared() && owner() == 7, "it must be closed first");
        claim.close();
        assert!(claim.is_closed() && !claim.is_shared() && owner() == CLOSED);
        assert!(claim.try_visit(|| panic!("no fence was to be had")).is_none());
        claim.share();
        assert!(claim.is_shared() && !claim.is_closed() && owner() == SHARED);
        claim.close();
        assert!(claim.is_shared(), "for good");
        assert!(claim.try_take().is_some());
    }

    #[test]
    fn a_seized_claim_is_nobodys() {
        for claim in [Claim::new(CpuId::new(7)), Claim::shared(CpuId::new(7))] {
            claim.seize();
            claim.close();
            claim.share();
            assert!(claim.try_take().is_none() && claim.try_visit(|| true).is_none());
            assert!(!claim.is_closed() && !claim.is_shared());
        }
    }

    #[test]
    fn words_of_a_claim_without_an_owner_are_no_cpus() {
        // Nor what the kernel shows in the area of a thread that is not registered.
        for word in [NOBODY, CLOSED, SHARED, SEIZED] {
            assert!(word.cast_signed() < -2);
        }
    }

    #[test]
    fn a_fence_that_panics_leaves_the_claim_free() {
        let claim = Claim::new(CpuId::new(7));
        let visit = core::panic::AssertUnwindSafe(|| claim.try_visit(|| panic!("no fence")));
        assert!(std::panic::catch_unwind(visit).is_err());
        assert!(claim.try_visit(|| true).is_some());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use alloc::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    /// A CPU's threads take the lists by a plain store, and a visitor whose fence is refused has the
    /// claim change to exchanges.
    ///
    /// A sequence is aborted when its thread loses the CPU, so no other thread runs on that CPU
    /// between its first and its last instruction: a mutex represents the CPU. The visitor runs on
    /// another CPU, so it may run between any two instructions.
    #[test]
    fn who_took_it_by_a_plain_store_and_who_exchanges_exclude_each_other() {
        loom::model(|| {
            type Shared = (Claim, UnsafeCell<u32>, loom::sync::Mutex<()>);
            let shared: Arc<Shared> =
                Arc::new((Claim::new(CpuId::new(0)), UnsafeCell::new(0), Default::default()));
            let count = |shared: &Shared, claimed: Option<Claimed<'_>>| {
                if let Some(claimed) = claimed {
                    // SAFETY: 1. exclusive: `claim-excludes`, which loom checks here.
                    shared.1.with_mut(|value| unsafe { *value += 1 });
                    drop(claimed);
                }
            };
            let local = Arc::clone(&shared);
            let local = thread::spawn(move || {
                let Claim { owner, held, .. } = &local.0;
                for _ in 0..2 {
                    let cpu = local.2.lock().expect("no thread panics");
                    let is_mine = owner.load(Ordering::Acquire) == 0;
                    let is_taken = is_mine && held.load(Ordering::Acquire) == 0;
                    if is_taken {
                        held.store(1, Ordering::Release);
                    }
                    drop(cpu);
                    // SAFETY: 1. the sequence changed the word from zero to one. 2. the mutex `cpu`
                    // excludes other threads on the CPU. 3. the visitor locks `cpu` before it
                    // shares the claim.
                    let claimed = is_taken.then(|| unsafe { local.0.assume_taken() });
                    count(&local, claimed.or_else(|| exchange(&local.0)));
                }
            });
            assert!(shared.0.try_visit(|| false).is_none(), "refused");
            shared.0.close();
            // It runs on the CPU for a moment.
            drop(shared.2.lock().expect("no thread panics"));
            shared.0.share();
            count(&shared, exchange(&shared.0));
            local.join().expect("it does not panic");
            assert!(shared.0.try_take().is_some(), "free in the end");
        });
    }

    /// Takes a shared claim.
    fn exchange(claim: &Claim) -> Option<Claimed<'_>> {
        if claim.is_shared() { claim.try_take() } else { None }
    }

    #[test]
    fn of_a_taker_and_two_visitors_one_holds_it_at_a_time() {
        loom::model(|| {
            let shared = Arc::new((Claim::new(CpuId::new(0)), UnsafeCell::new(0)));
            let count = |shared: &(Claim, UnsafeCell<u32>), claimed: Option<Claimed<'_>>| {
                if let Some(claimed) = claimed {
                    // SAFETY: 1. exclusive: `claim-excludes`, which loom checks here.
                    shared.1.with_mut(|value| unsafe { *value += 1 });
                    drop(claimed);
                }
            };
            let visitor = Arc::clone(&shared);
            let one = thread::spawn(move || count(&visitor, visitor.0.try_visit(|| true)));
            let visitor = Arc::clone(&shared);
            let two = thread::spawn(move || count(&visitor, visitor.0.try_visit(|| true)));
            count(&shared, shared.0.try_take());
            one.join().expect("it does not panic");
            two.join().expect("it does not panic");
            assert!(shared.0.try_take().is_some(), "free in the end");
        });
    }
}
