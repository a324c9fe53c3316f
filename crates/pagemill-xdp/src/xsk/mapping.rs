//! Memory of one ring: two words and an array of entries, mapped from the kernel.

use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sync::AtomicU32;

/// The memory of one ring, unmapped on drop.
///
/// Upholds `ring-mapped`: while it lives, the words and the entries are mapped, and only the kernel
/// and this process write to them.
#[derive(Debug)]
pub(crate) struct RingMemory {
    base: NonNull<u8>,
    len_bytes: usize,
    offsets: Offsets,
    nr_entries: u32,
}

/// Byte offsets within the memory of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
    pub(crate) entries: usize,
    pub(crate) flags: usize,
}

// SAFETY:
// 1. A mapping belongs to the process: any thread may use or unmap it.
// 2. A `RingMemory` is the only owner of its mapping.
unsafe impl Send for RingMemory {}

impl RingMemory {
    /// Maps the ring at `page_offset` of an AF_XDP socket, with `nr_entries` entries of `T`.
    ///
    /// # Errors
    /// The error of `mmap`, and `EINVAL` for offsets that no ring has.
    pub(crate) fn map<T>(
        socket: BorrowedFd<'_>,
        page_offset: i64,
        offsets: Offsets,
        nr_entries: u32,
    ) -> io::Result<Self> {
        let words = [offsets.producer, offsets.consumer, offsets.flags];
        let aligned = words.iter().all(|offset| offset.is_multiple_of(align_of::<u32>()))
            && offsets.entries.is_multiple_of(align_of::<T>());
        let len_bytes = usize::try_from(nr_entries)
            .ok()
            .and_then(|nr| nr.checked_mul(size_of::<T>()))
            .and_then(|len| len.checked_add(offsets.entries));
        let (Some(len_bytes), true) = (len_bytes, aligned) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        if words.iter().any(|offset| offset.saturating_add(size_of::<u32>()) > len_bytes) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY:
        // 1. Without MAP_FIXED the kernel chooses unused addresses.
        let base = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len_bytes,
                prot,
                flags,
                socket.as_raw_fd(),
                page_offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address zero");
        let memory = Self { base, len_bytes, offsets, nr_entries };
        // A child that inherited the ring would keep the socket open after we have closed it.
        // SAFETY:
        // 1. The range was just mapped; the advice changes no byte of it.
        let advised =
            unsafe { libc::madvise(base.as_ptr().cast(), len_bytes, libc::MADV_DONTFORK) };
        crate::sys::syscall::answer(advised)?;
        Ok(memory)
    }

    /// Returns the word that the producer writes.
    #[inline]
    pub(crate) fn producer(&self) -> &AtomicU32 {
        self.word(self.offsets.producer)
    }

    /// Returns the word that the consumer writes.
    #[inline]
    pub(crate) fn consumer(&self) -> &AtomicU32 {
        self.word(self.offsets.consumer)
    }

    /// Returns the word in which the kernel requests wake-ups.
    #[inline]
    pub(crate) fn flags(&self) -> &AtomicU32 {
        self.word(self.offsets.flags)
    }

    /// Reads the entry in slot `index`, counted modulo the length of the ring.
    ///
    /// # Safety
    /// 1. `T` is the type that the ring was mapped with, and any bytes are a valid `T`.
    /// 2. The slot belongs to the caller by the ring's protocol.
    #[inline]
    pub(crate) unsafe fn read<T: Copy>(&self, index: u32) -> T {
        let entry = self.entry::<T>(index);
        // SAFETY:
        // 1. Mapped (`ring-mapped`), aligned and in bounds: `entry` returned the pointer.
        // 2. The kernel does not write to the slot now: guaranteed by the caller. If it did so
        //    nevertheless, the volatile read would return some other bytes, which are a valid `T`
        //    too.
        unsafe { entry.read_volatile() }
    }

    /// Writes the entry in slot `index`, counted modulo the length of the ring.
    ///
    /// # Safety
    /// 1. `T` is the type that the ring was mapped with.
    /// 2. The slot belongs to the caller by the ring's protocol.
    #[inline]
    pub(crate) unsafe fn write<T: Copy>(&self, index: u32, value: T) {
        let entry = self.entry::<T>(index);
        // SAFETY:
        // 1. Mapped (`ring-mapped`), aligned and in bounds: `entry` returned the pointer.
        // 2. The kernel does not access the slot now: guaranteed by the caller.
        unsafe { entry.write_volatile(value) };
    }

    #[inline]
    fn entry<T>(&self, index: u32) -> *mut T {
        // The number of entries is a power of two, so the index stays below it.
        let slot = (index & (self.nr_entries - 1)) as usize;
        // SAFETY:
        // 1. In bounds: `map` mapped this offset and all entries after it.
        let entries = unsafe { self.base.add(self.offsets.entries) };
        // SAFETY:
        // 1. In bounds: the slot is below the number of entries.
        unsafe { entries.cast::<T>().add(slot) }.as_ptr()
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY:
        // 1. In bounds: `map` checked that the mapping contains the word.
        let word = unsafe { self.base.add(offset) };
        // SAFETY:
        // 1. Mapped while `self` is borrowed (`ring-mapped`), and aligned: checked by `map`.
        // 2. This process and the kernel access the word only atomically.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        // SAFETY:
        // 1. `self` owns the range, and all references into it borrow `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len_bytes) };
    }
}
