//! `Cpus`: two arrays of free objects for each CPU, behind the claim on the CPU, and the memory of all arrays
//! of a cache.

use core::fmt;
use core::mem::{self, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use pagemill::contig::{ContigError, FrameRange};
use pagemill::machine::{CpuClaim, DirectMap};
use pagemill::source::PageSource;
use pagemill::units::{CpuId, PAGE_SIZE};
use pagemill::{AllocPages, Gfp, PageAllocator};

use crate::array::Array;

/// The arrays of one CPU.
///
/// Objects are taken from and put into `main`. When it is empty, or full, it changes places with `spare`.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CpuArrays {
    pub(crate) main: Array,
    pub(crate) spare: Array,
    /// Accessed with the arrays, so that loom sees two threads in them.
    #[cfg(loom)]
    followed: loom::cell::UnsafeCell<()>,
}

/// The arrays of all CPUs.
///
/// `cpu-arrays`: `cpus` points to one initialised value for each CPU of `allocator`, in memory that this owns.
/// The value of a CPU is used only by the holder of the CPU's claim, or through a unique reference to this.
pub(crate) struct Cpus<'s, S: PageSource> {
    allocator: &'s PageAllocator<S::Platform>,
    cpus: NonNull<CpuArrays>,
    nr: usize,
    _memory: FrameRange<S>,
}

// SAFETY: 1. the arrays are reached through claims, whose holders see each other's writes (`cpu-arrays`).
// Objects are memory that any thread may use.
unsafe impl<'s, S: PageSource> Sync for Cpus<'s, S> where
    (FrameRange<S>, &'s PageAllocator<S::Platform>): Sync
{
}
// SAFETY: 1. the memory is owned, and objects may be used by any thread.
unsafe impl<'s, S: PageSource> Send for Cpus<'s, S> where
    (FrameRange<S>, &'s PageAllocator<S::Platform>): Send
{
}

/// The right to use the arrays of one CPU.
///
/// `cpu-claimed`: `arrays` is the value of the CPU that `_claim` is of (`cpu-arrays`).
pub(crate) struct Claimed<'a, S: PageSource> {
    arrays: NonNull<CpuArrays>,
    _claim: CpuClaim<'a, S::Platform>,
}

impl CpuArrays {
    /// Takes an object, also from the spare array.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        if let Some(object) = self.main.pop() {
            return Some(object);
        }
        mem::swap(&mut self.main, &mut self.spare);
        self.main.pop()
    }

    /// Puts an object into one of the arrays, and returns whether one had room.
    #[inline]
    pub(crate) fn try_push(&mut self, object: NonNull<u8>) -> bool {
        if self.main.try_push(object) {
            return true;
        }
        mem::swap(&mut self.main, &mut self.spare);
        self.main.try_push(object)
    }
}

impl<'s, S: PageSource<Platform: DirectMap>> Cpus<'s, S> {
    /// Allocates the arrays of all CPUs, of `capacity` objects each, and passes `nr_more` more to `more`.
    pub(crate) fn new(
        source: &'s S,
        capacity: usize,
        nr_more: usize,
        mut more: impl FnMut(Array),
    ) -> Result<Self, ContigError> {
        let allocator = source.allocator();
        let nr = allocator.nr_cpus() as usize;
        // Whole cache lines, so that no two CPUs write to one.
        let array_bytes = (capacity * size_of::<NonNull<u8>>()).next_multiple_of(64);
        let cpus_bytes = nr * size_of::<CpuArrays>();
        let bytes = cpus_bytes + (2 * nr + nr_more) * array_bytes;
        let nr_pages = bytes.div_ceil(PAGE_SIZE).max(1);
        let memory = source.clone().alloc_contig(Gfp::KERNEL, nr_pages, 1, None)?;
        let start = allocator.platform().frame_ptr(memory.pfn());
        let mut end = cpus_bytes;
        let mut next_array = || {
            // SAFETY: 1. in the memory: the sum of all sizes was allocated.
            let objects = unsafe { start.add(end) }.cast::<MaybeUninit<NonNull<u8>>>();
            end += array_bytes;
            // SAFETY: 1. room for as many entries, used by nothing else until the memory is dropped, which
            // ends all arrays. Aligned: sizes in front of it are multiples of 64.
            unsafe { Array::new(objects, capacity) }
        };
        let cpus = start.cast::<CpuArrays>();
        for cpu in 0..nr {
            let arrays = CpuArrays {
                main: next_array(),
                spare: next_array(),
                #[cfg(loom)]
                followed: loom::cell::UnsafeCell::new(()),
            };
            // SAFETY: 1. in the memory, in front of the arrays.
            let place = unsafe { cpus.add(cpu) };
            // SAFETY: 1. valid, aligned, owned: the beginning of adjacent frames.
            unsafe { place.write(arrays) };
        }
        (0..nr_more).for_each(|_| more(next_array()));
        Ok(Self { allocator, cpus, nr, _memory: memory })
    }

    /// Claims the arrays of the CPU that runs the caller, unless they are claimed, or CPUs share them.
    #[inline]
    pub(crate) fn claim_at_once(&self) -> Option<Claimed<'_, S>> {
        let claim = self.allocator.try_claim_cpu_at_once()?;
        // SAFETY: 1. of this allocator: just claimed.
        Some(unsafe { self.claimed(claim) })
    }

    /// Claims the arrays of the CPU that runs the caller, unless they are claimed.
    pub(crate) fn claim(&self) -> Option<Claimed<'_, S>> {
        let claim = self.allocator.try_claim_cpu()?;
        // SAFETY: 1. of this allocator: just claimed.
        Some(unsafe { self.claimed(claim) })
    }

    /// Claims the arrays of any CPU, unless they are claimed.
    pub(crate) fn visit(&self, cpu: usize) -> Option<Claimed<'_, S>> {
        let cpu = CpuId::new(u32::try_from(cpu).ok()?);
        let claim = self.allocator.try_visit_cpu(cpu)?;
        // SAFETY: 1. of this allocator: just claimed.
        Some(unsafe { self.claimed(claim) })
    }

    /// Returns the arrays of the CPU that a claim is of.
    ///
    /// # Safety
    /// The claim is of the allocator that the arrays were made for.
    #[inline]
    pub(crate) unsafe fn claimed<'a>(&'a self, claim: CpuClaim<'a, S::Platform>) -> Claimed<'a, S> {
        // SAFETY: 1. in bounds: a claim's index is below the allocator's number of CPUs.
        Claimed { arrays: unsafe { self.cpus.add(claim.index()) }, _claim: claim }
    }

    pub(crate) fn nr(&self) -> usize {
        self.nr
    }

    /// Returns the arrays of a CPU to the only user of the cache.
    pub(crate) fn get_mut(&mut self, cpu: usize) -> &mut CpuArrays {
        assert!(cpu < self.nr, "a CPU of the allocator");
        // SAFETY: 1. in bounds: checked.
        let mut arrays = unsafe { self.cpus.add(cpu) };
        // SAFETY: 1. initialised: `cpu-arrays`. 2. exclusive: `self` is borrowed uniquely.
        unsafe { arrays.as_mut() }
    }
}

impl<S: PageSource> Deref for Claimed<'_, S> {
    type Target = CpuArrays;

    #[inline]
    fn deref(&self) -> &CpuArrays {
        // SAFETY: 1. initialised: `cpu-arrays`. 2. not written meanwhile: the CPU's claim is held
        // (`cpu-claimed`), and this is borrowed.
        let arrays = unsafe { self.arrays.as_ref() };
        #[cfg(loom)]
        arrays.followed.with(|_| ());
        arrays
    }
}

impl<S: PageSource> DerefMut for Claimed<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut CpuArrays {
        // SAFETY: 1. initialised: `cpu-arrays`. 2. exclusive: the CPU's claim is held (`cpu-claimed`), and
        // this is borrowed uniquely.
        let arrays = unsafe { self.arrays.as_mut() };
        #[cfg(loom)]
        arrays.followed.with_mut(|_| ());
        arrays
    }
}

impl<S: PageSource> fmt::Debug for Cpus<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpus").field("nr", &self.nr).finish_non_exhaustive()
    }
}
