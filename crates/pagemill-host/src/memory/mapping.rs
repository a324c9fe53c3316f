//! Mapping: an owned address range, and the `mmap`, `madvise` and `mlock` calls that fill it.
//!
//! Addresses are reserved first, aligned, and filled with memory afterwards: only this makes the
//! alignment certain and the memory that the kernel commits exactly the requested amount.

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, Result};
use rustix::mm::{self, Advice, MapFlags, MlockFlags, MprotectFlags, ProtFlags};

use crate::memory::fork;

/// When the system commits memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Commit {
    /// With the mapping, which fails if the memory is not available.
    AtOnce,
    /// Page by page on first access, except where `vm.overcommit_memory` forbids it.
    Lazily,
}

/// Addresses that are unmapped on drop.
///
/// Upholds `mapping-owned` and `mapping-no-refs`.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
    /// The generation of the process that it is limited to, if it is; see [`fork`].
    only_in: Option<u32>,
}

// SAFETY:
// 1. A mapping belongs to the process: any thread may use or unmap it.
// 2. There is one owner (`mapping-owned`), so a mapping that moves to another thread is no longer
//    used by this one.
unsafe impl Send for Mapping {}

// SAFETY:
// 1. `&Mapping` allows reading base and length, which never change, and system calls on the range,
//    which the kernel serialises.
// 2. `touch` writes to the range, and is unsafe: its caller excludes other accesses.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves addresses without memory, from a multiple of `align` on.
    ///
    /// `len_bytes` is rounded up to the system's page size. `commit` sets how the memory from
    /// [`make_writable`](Self::make_writable) is accounted.
    ///
    /// # Errors
    /// The error of `mmap`; `ENOMEM` for more than there are addresses.
    pub(crate) fn reserve(len_bytes: usize, align: usize, commit: Commit) -> Result<Self> {
        let len_bytes =
            len_bytes.checked_next_multiple_of(rustix::param::page_size()).ok_or(Errno::NOMEM)?;
        let span_bytes = len_bytes.checked_add(align).ok_or(Errno::NOMEM)?;
        let flags = match commit {
            Commit::AtOnce => MapFlags::PRIVATE,
            Commit::Lazily => MapFlags::PRIVATE | MapFlags::NORESERVE,
        };
        let span = Self::anonymous(span_bytes, ProtFlags::empty(), flags)?;
        span.trim(len_bytes, align)
    }

    /// Maps pages of 2 MiB from the hugetlb pool; the kernel aligns them.
    ///
    /// # Errors
    /// The error of `mmap`: `ENOMEM` if the pool has too few pages.
    pub(crate) fn huge_pages(len_bytes: usize) -> Result<Self> {
        // Never NORESERVE: a shortage of the pool must fail here, not as SIGBUS on first access.
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        Self::anonymous(len_bytes, ProtFlags::READ | ProtFlags::WRITE, flags)
    }

    /// Maps a whole file of 2 MiB pages; the kernel aligns them.
    ///
    /// # Errors
    /// The error of `mmap`: `ENOMEM` if the pool has too few pages.
    pub(crate) fn huge_file(file: BorrowedFd<'_>, len_bytes: usize) -> Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY:
        // 1. Without MAP_FIXED the kernel chooses unused addresses.
        let base =
            unsafe { mm::mmap(ptr::null_mut(), len_bytes, prot, MapFlags::SHARED, file, 0) }?;
        Ok(Self::own(base, len_bytes))
    }

    /// Fills reserved addresses with zeroed memory of this process alone.
    ///
    /// # Errors
    /// `ENOMEM` if the system does not commit that much.
    pub(crate) fn make_writable(&self) -> Result<()> {
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY:
        // 1. `self` owns the range (`mapping-owned`), and no code relies on its being inaccessible.
        unsafe { mm::mprotect(self.as_void(), self.len_bytes, flags) }
    }

    /// Replaces reserved addresses by the beginning of `file`, shared with all its users.
    ///
    /// # Errors
    /// The error of `mmap`.
    pub(crate) fn replace_with_file(self, file: BorrowedFd<'_>) -> Result<Self> {
        // A MAP_FIXED that fails may have dropped the reservation already, and another thread may own
        // these addresses by now. Then they must not be unmapped. Addresses are cheap, so the
        // reservation is given up here and owned again only if the file has taken its place.
        let this = ManuallyDrop::new(self);
        let (len_bytes, prot) = (this.len_bytes, ProtFlags::READ | ProtFlags::WRITE);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY:
        // 1. MAP_FIXED replaces a range that `this` owns (`mapping-owned`).
        // 2. The range was inaccessible until now, so no code uses a pointer into it.
        let base = unsafe { mm::mmap(this.as_void(), len_bytes, prot, flags, file, 0) }?;
        Ok(Self::own(base, len_bytes))
    }

    /// Returns the address of the first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Advises the kernel to back the range with transparent huge pages.
    ///
    /// # Errors
    /// `EINVAL` from a kernel that has none.
    pub(crate) fn advise_huge_pages(&self) -> Result<()> {
        self.advise(Advice::LinuxHugepage)
    }

    /// Advises the kernel to back the range with pages of the base size.
    ///
    /// # Errors
    /// `EINVAL` from a kernel that has no other size.
    pub(crate) fn advise_base_pages(&self) -> Result<()> {
        self.advise(Advice::LinuxNoHugepage)
    }

    /// Keeps the range out of child processes.
    ///
    /// # Errors
    /// The error of `madvise`.
    pub(crate) fn keep_from_children(&mut self) -> Result<()> {
        fork::watch();
        self.advise(Advice::LinuxDontFork)?;
        self.only_in = Some(fork::generation());
        Ok(())
    }

    /// Allocates a page for each address, as if each were written to, without changing any byte.
    ///
    /// # Errors
    /// `EINVAL` from a kernel before 5.14, and other errors of `madvise`.
    pub(crate) fn populate(&self) -> Result<()> {
        self.advise(Advice::LinuxPopulateWrite)
    }

    /// Returns a part of the range to the system: its bytes are zeroes afterwards, and take no memory until
    /// they are written. `is_shared` says whether the range is mapped from a file, of which the part is cut
    /// out.
    ///
    /// # Errors
    /// The error of `madvise`, `EINVAL` for locked memory.
    ///
    /// # Safety
    /// 1. The part is within the range, at multiples of the size of its pages.
    /// 2. Nothing else uses its bytes during the call, nor relies on their values.
    pub(crate) unsafe fn discard(
        &self,
        offset_bytes: usize,
        len_bytes: usize,
        is_shared: bool,
    ) -> Result<()> {
        let advice = if is_shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed };
        // SAFETY:
        // 1. In bounds: guaranteed by the caller.
        let part = unsafe { self.base.add(offset_bytes) };
        // SAFETY:
        // 1. The part is mapped (`mapping-owned`), and stays mapped.
        // 2. Its bytes change to zeroes, which its owner allows: guaranteed by the caller.
        unsafe { mm::madvise(part.as_ptr().cast(), len_bytes, advice) }
    }

    /// Writes a zero to the first byte of each page of the base size.
    ///
    /// # Safety
    /// 1. The range is writable.
    /// 2. No data is stored in it yet, and nothing else reads or writes it during the call.
    pub(crate) unsafe fn touch(&self) {
        for offset_bytes in (0..self.len_bytes).step_by(rustix::param::page_size()) {
            // SAFETY:
            // 1. The offset is below the length, so this stays inside the mapping.
            let byte = unsafe { self.base.add(offset_bytes) };
            // SAFETY:
            // 1. The byte is mapped (`mapping-owned`) and writable (guaranteed by the caller).
            // 2. No other access runs at the same time (guaranteed by the caller), and no reference
            //    exists (`mapping-no-refs`).
            unsafe { byte.write_volatile(0) };
        }
    }

    /// Locks all pages of the range in memory, and allocates missing ones first.
    ///
    /// # Errors
    /// `ENOMEM` or `EPERM` if `RLIMIT_MEMLOCK` forbids it.
    pub(crate) fn lock(&self) -> Result<()> {
        // SAFETY:
        // 1. The range is mapped (`mapping-owned`); locking changes no byte of it.
        unsafe { mm::mlock(self.as_void(), self.len_bytes) }
    }

    /// Locks each page of the range in memory from its first access on.
    ///
    /// # Errors
    /// `ENOMEM` or `EPERM` if `RLIMIT_MEMLOCK` forbids it.
    pub(crate) fn lock_on_touch(&self) -> Result<()> {
        // SAFETY:
        // 1. The range is mapped (`mapping-owned`); locking changes no byte of it.
        unsafe { mm::mlock_with(self.as_void(), self.len_bytes, MlockFlags::ONFAULT) }
    }

    fn anonymous(len_bytes: usize, prot: ProtFlags, flags: MapFlags) -> Result<Self> {
        // SAFETY:
        // 1. Without MAP_FIXED, which no caller passes, the kernel chooses unused addresses.
        let base = unsafe { mm::mmap_anonymous(ptr::null_mut(), len_bytes, prot, flags) }?;
        Ok(Self::own(base, len_bytes))
    }

    fn own(base: *mut c_void, len_bytes: usize) -> Self {
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address zero");
        Self { base, len_bytes, only_in: None }
    }

    /// Keeps `len_bytes` from the first multiple of `align` on and unmaps the other addresses.
    fn trim(mut self, len_bytes: usize, align: usize) -> Result<Self> {
        let address = self.base.addr().get();
        let head_bytes = address.next_multiple_of(align) - address;
        if head_bytes > 0 {
            // SAFETY:
            // 1. The head is the beginning of the range that `self` owns (`mapping-owned`): it is
            //    shorter than `align`, by which the range is longer than `len_bytes`.
            // 2. It is inaccessible, so no code uses it.
            unsafe { mm::munmap(self.as_void(), head_bytes) }?;
            // SAFETY:
            // 1. The head is shorter than the range.
            self.base = unsafe { self.base.add(head_bytes) };
            self.len_bytes -= head_bytes;
        }
        let tail_bytes = self.len_bytes - len_bytes;
        if tail_bytes > 0 {
            // SAFETY:
            // 1. `len_bytes` is at most the length of the range.
            let tail = unsafe { self.base.add(len_bytes) };
            // SAFETY:
            // 1. The tail is the end of the range that `self` owns (`mapping-owned`), and
            //    inaccessible.
            unsafe { mm::munmap(tail.as_ptr().cast(), tail_bytes) }?;
            self.len_bytes = len_bytes;
        }
        Ok(self)
    }

    fn advise(&self, advice: Advice) -> Result<()> {
        // SAFETY:
        // 1. The range is mapped (`mapping-owned`).
        // 2. No caller passes an advice that changes bytes or access to them.
        unsafe { mm::madvise(self.as_void(), self.len_bytes, advice) }
    }

    fn as_void(&self) -> *mut c_void {
        self.base.as_ptr().cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a child the range is a hole, into which the child may have mapped something else.
        if self.only_in.is_some_and(|generation| generation != fork::generation()) {
            return;
        }
        // Unmapping can fail if it would split a neighbour and the process has the maximum number of
        // mappings. The addresses are then lost, which does no harm.
        // SAFETY:
        // 1. `self` owns the range (`mapping-owned`) in this process, and it is not used
        //    afterwards.
        // 2. Code that made references into it ensures that they have ended (`mapping-no-refs`).
        let _may_fail = unsafe { mm::munmap(self.as_void(), self.len_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const ALIGN: usize = 2 << 20;

    #[test]
    fn reservations_are_aligned_and_exact() {
        for len_bytes in [1, 4096, ALIGN - 4096, ALIGN, ALIGN + 4096, 64 * ALIGN] {
            let mapping = Mapping::reserve(len_bytes, ALIGN, Commit::Lazily).unwrap();
            assert_eq!(mapping.base().addr().get() % ALIGN, 0);
            let page = rustix::param::page_size();
            assert_eq!(mapping.len_bytes, len_bytes.next_multiple_of(page));
        }
    }

    #[test]
    fn more_than_all_addresses_is_no_memory() {
        for len_bytes in [usize::MAX, usize::MAX - ALIGN, 1 << 60] {
            let error = Mapping::reserve(len_bytes, ALIGN, Commit::Lazily).unwrap_err();
            assert_eq!(error, Errno::NOMEM);
        }
    }

    #[test]
    fn touching_reaches_the_last_page() {
        let mapping = Mapping::reserve(ALIGN, ALIGN, Commit::AtOnce).unwrap();
        mapping.make_writable().unwrap();
        // SAFETY:
        // 1. It was made writable above.
        // 2. It is new, and no other code has access to it.
        unsafe { mapping.touch() };
        // SAFETY:
        // 1. The offset is below the length.
        let last = unsafe { mapping.base().add(ALIGN - 1) };
        // SAFETY:
        // 1. The byte is mapped, readable and zero.
        assert_eq!(unsafe { last.read() }, 0);
    }

    #[test]
    fn dropped_addresses_are_no_longer_mapped() {
        // The file's name, which no other mapping has, marks the range among all others.
        const NAME: &str = "pagemill-mapping-drop";
        let is_mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.contains(NAME)
        };
        let file = rustix::fs::memfd_create(NAME, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, ALIGN as u64).unwrap();
        let reserved = Mapping::reserve(ALIGN, ALIGN, Commit::Lazily).unwrap();
        let base = reserved.base();
        let mapping = reserved.replace_with_file(file.as_fd()).unwrap();
        assert_eq!(mapping.base(), base);
        assert!(is_mapped());
        drop(mapping);
        assert!(!is_mapped());
    }
}
