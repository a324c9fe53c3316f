//! Memory of the buffer ring: an array of entries, and its tail, which the kernel reads.

use core::ptr::{self, NonNull};
use std::io;

use crate::sync::{AtomicU16, Ordering};

/// The memory of one buffer ring, unmapped on drop.
///
/// Upholds `buffer-ring-mapped`: while it lives, the entries and the tail are mapped, and only this
/// process writes to them.
#[derive(Debug)]
pub(crate) struct BufferRing {
    base: NonNull<u8>,
    nr: u16,
    /// The number of entries that were written, which wraps.
    tail: u16,
}

/// Layout of an entry: an address, a length and the number of the buffer. The tail of the ring is in the
/// last two bytes of the first entry.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/io_uring.h` `struct io_uring_buf`, `struct io_uring_buf_ring`
const ENTRY_BYTES: usize = 16;
const LEN_OFFSET: usize = 8;
const NUMBER_OFFSET: usize = 12;
const TAIL_OFFSET: usize = 14;

impl BufferRing {
    /// Maps a ring of `nr` entries, a power of two.
    ///
    /// # Errors
    /// The error of `mmap` or `madvise`.
    pub(crate) fn map(nr: u16) -> io::Result<Self> {
        debug_assert!(nr.is_power_of_two(), "{nr} entries");
        let len_bytes = usize::from(nr) * ENTRY_BYTES;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY:
        // 1. Without MAP_FIXED the kernel chooses unused addresses.
        let base = unsafe { libc::mmap(ptr::null_mut(), len_bytes, prot, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address zero");
        let ring = Self { base, nr, tail: 0 };
        // Otherwise a fork would leave the ring's pages with the child, and copies of them here.
        // SAFETY:
        // 1. The range was just mapped; the advice changes no byte of it.
        let advised =
            unsafe { libc::madvise(base.as_ptr().cast(), len_bytes, libc::MADV_DONTFORK) };
        if advised == 0 { Ok(ring) } else { Err(io::Error::last_os_error()) }
    }

    /// Returns the address for the kernel.
    pub(crate) fn address(&self) -> u64 {
        self.base.addr().get() as u64
    }

    /// Writes the next entry: the `len` bytes at `page`, under the number of the entry's slot, which must
    /// be `slot`. The kernel sees it after [`publish`](Self::publish).
    ///
    /// # Safety
    /// 1. The page stays allocated, and is neither read nor written, until the kernel has reported its
    ///    number or uses the ring no more.
    /// 2. The kernel has reported the number since it was last published, or it never was.
    #[inline]
    pub(crate) unsafe fn write(&mut self, slot: u16, page: *mut u8, len: u32) {
        let index = self.tail & (self.nr - 1);
        debug_assert!(slot == index, "page for slot {slot} in slot {index}");
        let entry = usize::from(index) * ENTRY_BYTES;
        self.store(entry, page.expose_provenance() as u64);
        self.store(entry + LEN_OFFSET, len);
        self.store(entry + NUMBER_OFFSET, index);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Returns how many bytes the buffer of a slot has room for, after the kernel has reported it.
    ///
    /// Less than was written where the kernel has shortened the entry: a bundle fills a shortened buffer and
    /// goes on with the next one.
    #[inline]
    pub(crate) fn capacity(&self, slot: u16) -> u32 {
        let index = usize::from(slot & (self.nr - 1));
        // SAFETY:
        // 1. In bounds: the index is below the number of entries.
        let place = unsafe { self.base.add(index * ENTRY_BYTES + LEN_OFFSET) };
        // SAFETY:
        // 1. Mapped (`buffer-ring-mapped`) and aligned; any bytes are a number.
        // 2. The kernel writes to entries only while this thread is in a call of the ring. If it did so
        //    now nevertheless, the volatile read would return some other number.
        unsafe { place.cast::<u32>().read_volatile() }
    }

    /// Shows the kernel all entries that were written.
    #[inline]
    pub(crate) fn publish(&mut self) {
        // SAFETY:
        // 1. In bounds: each ring has a first entry.
        let tail = unsafe { self.base.add(TAIL_OFFSET) };
        // SAFETY:
        // 1. Mapped while `self` is borrowed (`buffer-ring-mapped`); aligned: an even offset in a page.
        // 2. This process and the kernel access the tail only atomically: `store` is never called for
        //    its bytes.
        let tail = unsafe { AtomicU16::from_ptr(tail.as_ptr().cast()) };
        // Release pairs with the acquire load in the kernel: it sees the entries before the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// Writes a part of an entry.
    #[inline]
    fn store<T: Copy>(&mut self, offset: usize, value: T) {
        debug_assert!(offset + size_of::<T>() <= usize::from(self.nr) * ENTRY_BYTES, "{offset}");
        // SAFETY:
        // 1. In bounds: `write`, the only caller, passes an offset in an entry below `nr`.
        let place = unsafe { self.base.add(offset) };
        // SAFETY:
        // 1. Mapped and writable (`buffer-ring-mapped`); aligned: entries begin at multiples of 16.
        // 2. The kernel does not read the entry now: its slot is free (guaranteed to `write`).
        unsafe { place.cast::<T>().write_volatile(value) };
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        let len_bytes = usize::from(self.nr) * ENTRY_BYTES;
        // SAFETY:
        // 1. `self` owns the range, and no reference into it is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), len_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_layout_of_the_kernel() {
        let mut ring = BufferRing::map(4).unwrap();
        let mut pages = [[0_u8; 64]; 6];
        let addresses: Vec<_> = pages.iter_mut().map(|page| page.as_mut_ptr()).collect();
        for (slot, &page) in [0, 1, 2, 3, 0, 1].iter().zip(&addresses) {
            // SAFETY:
            // 1. and 2.: no kernel has this ring.
            unsafe { ring.write(*slot, page, 4096) };
        }
        let read = |offset: usize| {
            // SAFETY:
            // 1. In bounds of the four entries.
            let place = unsafe { ring.base.add(offset) };
            // SAFETY:
            // 1. Mapped (`buffer-ring-mapped`), aligned, and any bytes are a number.
            unsafe { place.cast::<u16>().read() }
        };
        assert_eq!(read(TAIL_OFFSET), 0);
        assert_eq!([0, 1, 2, 3].map(|slot| read(slot * 16 + NUMBER_OFFSET)), [0, 1, 2, 3]);
        assert_eq!([0, 1].map(|slot| read(slot * 16 + LEN_OFFSET)), [4096, 4096]);
        let low = |page: *mut u8| u16::try_from(page.addr() & 0xffff).unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(|slot| read(slot * 16)),
            [4, 5, 2, 3].map(|i| low(addresses[i]))
        );
        ring.publish();
        // SAFETY:
        // 1. In bounds of the first entry.
        let tail = unsafe { ring.base.add(TAIL_OFFSET) };
        // SAFETY:
        // 1. Mapped (`buffer-ring-mapped`), aligned, and any bytes are a number.
        assert_eq!(unsafe { tail.cast::<u16>().read() }, 6);
    }
}
