//! `Host`: the platform of a Linux process, with frames in an arena and CPU numbers from the C library.

use core::hint::cold_path;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::time::Duration;
use std::thread;

use pagemill::accounts::AccountId;
use pagemill::debug::Event;
use pagemill::machine::{Claim, Claimed, DirectMap};
use pagemill::units::{CpuId, MAX_ORDER, PAGE_SHIFT, PAGE_SIZE, Pfn};
use pagemill::{Gfp, Platform, Shortage};

use crate::allocator::scope;
use crate::cpu::cpu::Cpus;
use crate::cpu::rseq::{self, Area};
use crate::error::HostError;
use crate::memory::arena::{Arena, ArenaConfig};
use crate::memory::fork::{self, Registration};
use crate::signal::Signal;
use crate::trace;

/// Default number of an arena's first frame: at the physical address 4 GiB.
///
/// All frames are then above 32-bit addresses, so all belong to the zone Normal.
pub const DEFAULT_BASE_PFN: Pfn = Pfn::new(1 << 20);

/// The configuration of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostConfig {
    /// The memory that becomes frames.
    pub(crate) arena: ArenaConfig,
    /// Bytes that the allocator needs for its metadata; rounded up to whole pages.
    pub(crate) metadata_bytes: u64,
    /// The number of the arena's first frame: a multiple of 1024, the frames in the largest block.
    ///
    /// The last frame must not be above [`Pfn::MAX`].
    pub(crate) base_pfn: Pfn,
}

impl HostConfig {
    /// Configures frames from [`DEFAULT_BASE_PFN`] on.
    #[cfg(test)]
    pub(crate) const fn new(arena: ArenaConfig, metadata_bytes: u64) -> Self {
        Self { arena, metadata_bytes, base_pfn: DEFAULT_BASE_PFN }
    }

    fn check_frames(&self) -> Result<(), HostError> {
        let base_pfn = self.base_pfn;
        if !base_pfn.is_aligned(MAX_ORDER) {
            return Err(HostError::BasePfn { base_pfn, multiple_of: MAX_ORDER.nr_pages() as u64 });
        }
        let nr_pages = self.arena.len_bytes / PAGE_SIZE as u64;
        if nr_pages > Pfn::MAX.value() - base_pfn.value() + 1 {
            return Err(HostError::PfnRange { base_pfn, nr_pages });
        }
        Ok(())
    }
}

/// A Linux process as the machine under an allocator.
///
/// It cannot keep a thread on its CPU: [`pin`](Platform::pin) returns the CPU's number without a
/// guarantee, which suffices for the allocator.
///
/// Only [`allocator`](crate::allocator()) makes one, so that a child of `fork` finds each:
/// ```compile_fail,E0624
/// let new = pagemill_host::Host::new;
/// ```
///
/// The program or library that contains this code stays mapped from then on, since the kernel may read
/// the descriptor of a thread's last claim at any later time. A *second* library that allocates from
/// this host's frames has such descriptors of its own and must not be unloaded (`dlclose`).
#[derive(Debug)]
pub struct Host {
    cpus: Cpus,
    /// How per-CPU lists are claimed without atomic instructions; `None` for atomic exchanges.
    claims: Option<Area>,
    base_pfn: Pfn,
    nr_pages: u64,
    memory: Arena,
    metadata: Arena,
    /// Wakes threads that wait for memory.
    memory_freed: Signal,
    /// Wakes background reclaim.
    reclaim_due: Signal,
    /// The generation of the process that made this; see [`fork`].
    generation: u32,
    /// Dropped before the metadata is unmapped, because [`fork`] accesses it.
    registration: ManuallyDrop<Registration>,
}

impl Host {
    /// Maps the memory of the frames and of the metadata.
    ///
    /// # Errors
    /// [`HostError::BasePfn`] and [`HostError::PfnRange`] before anything is mapped; else the errors of
    /// [`Arena::map`] and [`Arena::metadata`]. Nothing stays mapped then.
    pub(crate) fn new(config: &HostConfig) -> Result<Self, HostError> {
        config.check_frames()?;
        let memory = Arena::map(&config.arena)?;
        Ok(Self {
            cpus: Cpus::detect(),
            claims: rseq::claims(),
            base_pfn: config.base_pfn,
            nr_pages: memory.nr_pages() as u64,
            memory,
            metadata: Arena::metadata(config.metadata_bytes)?,
            memory_freed: Signal::default(),
            reclaim_due: Signal::default(),
            generation: fork::generation(),
            registration: ManuallyDrop::new(Registration::new()),
        })
    }

    /// Returns the arena that the frames are in.
    #[must_use]
    pub fn memory(&self) -> &Arena {
        &self.memory
    }

    /// Returns the arena for the allocator's metadata.
    #[must_use]
    pub fn metadata(&self) -> &Arena {
        &self.metadata
    }

    /// Returns the number of the first frame.
    #[must_use]
    pub fn base_pfn(&self) -> Pfn {
        self.base_pfn
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    /// Returns how CPU numbers are read.
    #[must_use]
    pub fn cpus(&self) -> Cpus {
        self.cpus
    }

    /// Waits until background reclaim is requested, at most for `timeout`, unless `still` returns
    /// false.
    pub(crate) fn wait_for_reclaim(&self, timeout: Duration, still: impl Fn() -> bool) {
        self.reclaim_due.wait(timeout, still);
    }

    /// Returns the entry at which an allocator on this host is registered for [`fork`].
    pub(crate) fn fork_entry(&self) -> fork::Entry {
        self.registration.entry()
    }

    /// Requests background reclaim.
    pub(crate) fn call_reclaim(&self) {
        // A lock that another thread held at the time of the fork stays held in the child.
        if self.is_abandoned() {
            return;
        }
        self.reclaim_due.give();
    }

    /// Returns the memory of frames to the system; their bytes are zeroes afterwards.
    ///
    /// # Errors
    /// [`HostError::Pinned`] and [`HostError::Discard`].
    ///
    /// # Safety
    /// 1. The caller owns the frames, and nothing refers to their bytes.
    /// 2. They begin at a multiple of 2 MiB of the arena and are whole pages of it.
    pub(crate) unsafe fn discard(&self, pfn: Pfn, nr_pages: usize) -> Result<(), HostError> {
        // Panics if a frame is outside of the arena (`frame-in-arena`).
        let first = self.frames(pfn, nr_pages as u64);
        let offset_bytes = first.addr().get() - self.memory.base().addr().get();
        // SAFETY:
        // 1. The frames are in the arena: just checked; aligned: guaranteed by the caller.
        // 2. The caller owns them.
        unsafe { self.memory.discard(offset_bytes, nr_pages * PAGE_SIZE) }
    }

    #[cold]
    #[inline(never)]
    fn pin_without_claims(&self) -> CpuId {
        self.cpus.current()
    }

    /// Returns the address of `nr_pages` frames from `pfn` on (`frame-in-arena`).
    #[inline]
    #[track_caller]
    fn frames(&self, pfn: Pfn, nr_pages: u64) -> NonNull<u8> {
        // Wraps for a frame below the base, to an index that no arena has.
        let index = pfn.value().wrapping_sub(self.base_pfn.value());
        // Checked in every build: a memory map with more frames than the arena has must not turn into
        // pointers. It costs one comparison, on the way to touching the memory itself.
        if index >= self.nr_pages || nr_pages > self.nr_pages - index {
            self.outside(pfn, nr_pages);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the index is below the frames of an arena, whose bytes a usize counts"
        )]
        let offset_bytes = (index as usize) << PAGE_SHIFT;
        // SAFETY:
        // 1. The offset is below the arena's length (`frame-in-arena`), so it does not overflow
        //    and stays inside one mapping (`mapping-owned`).
        unsafe { self.memory.base().add(offset_bytes) }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn outside(&self, pfn: Pfn, nr_pages: u64) -> ! {
        panic!(
            "{nr_pages} frames from {pfn} on are outside the arena: it has {} frames from {} on",
            self.nr_pages, self.base_pfn
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY:
        // 1. Dropped once: only this `drop` does it, and the field is not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.registration) };
    }
}

impl Platform for Host {
    #[inline]
    fn is_abandoned(&self) -> bool {
        self.generation != fork::generation()
    }

    #[inline]
    fn nr_cpus(&self) -> u32 {
        self.cpus.nr_possible()
    }

    #[inline]
    fn pin(&self) -> CpuId {
        match self.claims {
            Some(area) => area.cpu_start(),
            None => self.pin_without_claims(),
        }
    }

    #[inline]
    unsafe fn try_claim<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        match self.claims {
            // SAFETY:
            // 1. Only `try_claim` and `try_visit` take the claim: guaranteed by the caller.
            // 2. An area exists, so the process is registered for fences and the code stays mapped
            //    (`code-resident`). `try_visit` fences, or shares the claim as `claim-switch`
            //    states.
            Some(area) => unsafe { area.try_claim(claim) },
            None => {
                cold_path();
                claim.try_take()
            }
        }
    }

    fn claim_failed(&self, claim: &Claim) {
        if let Some(area) = self.claims {
            rseq::share_if_here(area, claim);
        }
    }

    unsafe fn try_visit<'a>(&self, claim: &'a Claim) -> Option<Claimed<'a>> {
        match self.claims {
            Some(area) => {
                let mut is_refused = claim.is_closed();
                let claimed = claim.try_visit(|| {
                    let is_fenced = rseq::fence(claim.cpu());
                    is_refused = !is_fenced;
                    is_fenced
                });
                if is_refused {
                    rseq::switch(area, claim);
                }
                claimed
            }
            None => claim.try_take(),
        }
    }

    #[inline]
    fn relax(&self, spins: u32) {
        if spins < SPINS_BEFORE_YIELD {
            core::hint::spin_loop();
        } else {
            // Otherwise the lock's holder may not exist in this process, and would never release it.
            assert!(!self.is_abandoned(), "{}", Shortage::Abandoned);
            thread::yield_now();
        }
    }

    fn gfp_context(&self, gfp: Gfp) -> Gfp {
        scope::gfp_context(gfp)
    }

    fn enter_reclaim(&self) {
        scope::enter_reclaim();
    }

    fn leave_reclaim(&self) {
        scope::leave_reclaim();
    }

    fn current_account(&self) -> Option<AccountId> {
        scope::current_account()
    }

    fn wake_reclaim(&self) {
        self.call_reclaim();
    }

    fn wait(&self, still: &dyn Fn() -> bool) {
        assert!(!self.is_abandoned(), "{}", Shortage::Abandoned);
        self.memory_freed.wait(WAIT_AT_MOST, still);
    }

    fn wake(&self) {
        if !self.is_abandoned() {
            self.memory_freed.give();
        }
    }

    // Always: see `trace::tell`.
    #[inline(always)]
    fn trace(&self, event: Event) {
        trace::tell(event);
    }

    #[inline]
    fn traces_pages(&self) -> bool {
        trace::pages_are_wanted()
    }

    unsafe fn poison_pages(&self, pfn: Pfn, nr_pages: usize) {
        let bytes = self.frames(pfn, nr_pages as u64);
        // SAFETY: the same facts as in `zero_pages`.
        unsafe { bytes.write_bytes(POISON, nr_pages * PAGE_SIZE) };
    }

    unsafe fn find_unpoisoned(&self, pfn: Pfn, nr_pages: usize) -> Option<usize> {
        let first = self.frames(pfn, nr_pages as u64).as_ptr();
        // SAFETY:
        // 1. The frames are all in the arena, initialised and readable (`frame-in-arena`,
        //    `arena-initialised`, `arena-outlives-pages`), and consecutive in memory.
        // 2. The caller owns them, and nothing else uses them during the call.
        let bytes = unsafe { core::slice::from_raw_parts(first, nr_pages * PAGE_SIZE) };
        bytes.iter().position(|&byte| byte != POISON)
    }

    #[inline]
    unsafe fn zero_pages(&self, pfn: Pfn, nr_pages: usize) {
        let bytes = self.frames(pfn, nr_pages as u64);
        // SAFETY:
        // 1. All frames are in the arena (`frame-in-arena`), so they are writable while `self`
        //    lives (`arena-initialised`, `arena-outlives-pages`).
        // 2. The caller owns them, and nothing else uses them during the call.
        // 3. Zeroes are valid bytes.
        unsafe { bytes.write_bytes(0, nr_pages * PAGE_SIZE) };
    }
}

// SAFETY: for every frame for which `frame_ptr` returns:
// 1. PAGE_SIZE initialised bytes, readable and writable: `arena-initialised`, `frame-in-arena`.
// 2. Aligned to PAGE_SIZE: the arena begins at a multiple of 2 MiB.
// 3. Valid while the platform lives: `arena-outlives-pages`.
// 4. Always the same pointer: base address and base frame never change.
// 5. Disjoint and consecutive: the offset is PAGE_SIZE times the frame's index.
unsafe impl DirectMap for Host {
    #[inline]
    #[track_caller]
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        self.frames(pfn, 1)
    }
}

/// The pattern of poisoned pages.
///
/// # Source
/// `linux-6.12` `include/linux/poison.h` `PAGE_POISON`
const POISON: u8 = 0xaa;

/// Longest wait for memory before the waiter checks again.
const WAIT_AT_MOST: Duration = Duration::from_millis(10);

/// How many times a waiter spins before it yields its CPU.
///
/// 100 pauses take longer than any critical section of a zone lock. A holder that takes longer was
/// preempted, and may need the waiter's CPU.
const SPINS_BEFORE_YIELD: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn host() -> Host {
        Host::new(&HostConfig::new(ArenaConfig::new(4 * MIB), 1)).unwrap()
    }

    #[test]
    fn frames_follow_each_other_from_the_base_on() {
        let host = host();
        assert_eq!(host.base_pfn(), Pfn::new(1 << 20));
        assert_eq!(host.base_pfn().start().value(), 4 << 30);
        assert_eq!(host.nr_pages(), 1024);
        let base = host.memory().base();
        assert_eq!(host.frame_ptr(DEFAULT_BASE_PFN), base);
        for index in 0..1024 {
            let frame = host.frame_ptr(DEFAULT_BASE_PFN.offset(index));
            let expected = base.addr().get() + usize::try_from(index).unwrap() * PAGE_SIZE;
            assert_eq!(frame.addr().get(), expected);
        }
    }

    #[test]
    #[should_panic(expected = "1 frames from 0x100400 on are outside the arena: \
                               it has 1024 frames from 0x100000 on")]
    fn frame_after_the_last_is_refused() {
        let _frame = host().frame_ptr(DEFAULT_BASE_PFN.offset(1024));
    }

    #[test]
    #[should_panic(expected = "outside the arena")]
    fn frame_before_the_first_is_refused() {
        let _frame = host().frame_ptr(Pfn::new(DEFAULT_BASE_PFN.value() - 1));
    }

    #[test]
    #[should_panic(expected = "2 frames from 0x1003ff on are outside the arena")]
    fn zeroing_beyond_the_last_frame_is_refused() {
        let host = host();
        // SAFETY:
        // 1. No other code uses this host. The test is about the frame that is missing.
        unsafe { host.zero_pages(DEFAULT_BASE_PFN.offset(1023), 2) };
    }

    #[test]
    fn zeroing_covers_its_frames_and_no_more() {
        let host = host();
        let fill = |index| {
            let frame = host.frame_ptr(DEFAULT_BASE_PFN.offset(index));
            // SAFETY:
            // 1. The frame is in the arena, and no other code uses this host.
            unsafe { frame.write_bytes(0xff, PAGE_SIZE) };
        };
        let sum = |index| {
            let frame = host.frame_ptr(DEFAULT_BASE_PFN.offset(index));
            let bytes = NonNull::slice_from_raw_parts(frame, PAGE_SIZE);
            // SAFETY:
            // 1. The frame's bytes are initialised, and no code writes to them while they are
            //    summed.
            let bytes = unsafe { bytes.as_ref() };
            bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        };
        (0..4).for_each(fill);
        // SAFETY:
        // 1. No other code uses this host.
        unsafe { host.zero_pages(DEFAULT_BASE_PFN.offset(1), 2) };
        let full = 0xff * PAGE_SIZE as u64;
        assert_eq!([0, 1, 2, 3].map(sum), [full, 0, 0, full]);
    }

    #[test]
    fn base_that_no_largest_block_could_have_is_refused() {
        let config =
            HostConfig { base_pfn: Pfn::new(512), ..HostConfig::new(ArenaConfig::new(4 * MIB), 1) };
        let expected = HostError::BasePfn { base_pfn: Pfn::new(512), multiple_of: 1024 };
        assert_eq!(Host::new(&config).unwrap_err(), expected);
    }

    #[test]
    fn frames_above_the_last_number_are_refused() {
        let highest = Pfn::new(Pfn::MAX.value() - 1023);
        let config = |len_bytes| HostConfig {
            base_pfn: highest,
            ..HostConfig::new(ArenaConfig::new(len_bytes), 1)
        };
        let host = Host::new(&config(4 * MIB)).unwrap();
        let _last = host.frame_ptr(Pfn::MAX);
        let expected = HostError::PfnRange { base_pfn: highest, nr_pages: 1025 };
        let refused = Host::new(&config(4 * MIB + 4096)).unwrap_err();
        assert_eq!(refused, expected);
    }

    #[test]
    fn pin_tells_a_possible_cpu() {
        let host = host();
        assert!(host.pin().value() < host.nr_cpus());
        host.unpin();
        assert_eq!(host.cpus().nr_possible(), host.nr_cpus());
    }

    #[test]
    fn waiting_returns_however_long_it_lasted() {
        let host = host();
        for spins in [0, 99, 100, u32::MAX] {
            host.relax(spins);
        }
    }

    #[test]
    fn metadata_has_room_for_what_was_asked() {
        let config = HostConfig::new(ArenaConfig::new(4 * MIB), 5000);
        let host = Host::new(&config).unwrap();
        assert_eq!(host.metadata().len_bytes(), 2 * PAGE_SIZE);
    }

    #[test]
    fn absurd_memory_is_refused_by_its_size() {
        // Fits the frame numbers (2^52 bytes), but no address space.
        let config = HostConfig::new(ArenaConfig::new(1 << 51), 1);
        let message = Host::new(&config).unwrap_err().to_string();
        assert!(message.contains("2 PiB"), "{message}");
    }
}
