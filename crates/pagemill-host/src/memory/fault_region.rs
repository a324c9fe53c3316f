//! Fault regions: memory whose missing pages are supplied by this process, by userfaultfd.

use core::time::Duration;
use std::os::fd::{AsFd, OwnedFd};

use pagemill::units::PAGE_SIZE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice, UserfaultfdFlags, madvise, userfaultfd};

use crate::error::HostError;
use crate::memory::mapping::{Commit, Mapping};

/// Memory whose missing pages are supplied by this process.
///
/// A thread that reads a missing page waits until another one supplies it. Neither needs a right: a
/// page that a system call misses is not waited for, and the call fails with `EFAULT`; so the bytes are
/// read by [`read`](Self::read) alone, and there is no reference to them.
///
/// # Concurrency
/// Any thread may read, wait for faults, and supply pages. A reader waits for as long as nobody supplies
/// its page. A child of `fork` has the pages that were there, and zeroes elsewhere.
///
/// # Source
/// `linux-6.12` `fs/userfaultfd.c`. Pages are copied: pages that are moved would leave holes in the
/// memory that they come from.
#[derive(Debug)]
pub struct FaultRegion {
    // Before the mapping: a fault after the descriptor is closed is an ordinary one.
    fd: OwnedFd,
    mapping: Mapping,
    nr_pages: usize,
}

impl FaultRegion {
    /// Maps `nr_pages` without any page.
    ///
    /// # Errors
    /// [`HostError::FaultRegion`] for zero pages or more than can be mapped, or if the kernel has no
    /// userfaultfd or refuses it to this process.
    pub fn new(nr_pages: usize) -> Result<Self, HostError> {
        let step = |step| move |errno: Errno| HostError::FaultRegion { step, os: errno.into() };
        let len_bytes = nr_pages.checked_mul(PAGE_SIZE).filter(|&len| len > 0);
        let len_bytes = len_bytes.ok_or(Errno::INVAL).map_err(step("map"))?;
        let mapping =
            Mapping::reserve(len_bytes, PAGE_SIZE, Commit::Lazily).map_err(step("map"))?;
        mapping.make_writable().map_err(step("map"))?;
        // A huge page would be supplied by the kernel alone, where it supplies any.
        let _only_advice = mapping.advise_base_pages();
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let flags = flags | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
        // SAFETY:
        // 1. The descriptor stays in this value, which registers only its own mapping.
        let fd = unsafe { userfaultfd(flags) }.map_err(step("call userfaultfd for"))?;
        let mut api = Api { api: API, features: 0, ioctls: 0 };
        // SAFETY:
        // 1. The opcode is that of the structure (`uffd-layout`).
        unsafe { call::<UFFDIO_API, _>(&fd, &mut api) }.map_err(step("set up userfaultfd for"))?;
        let region = Self { fd, mapping, nr_pages };
        let mut register =
            Register { range: region.range(0, nr_pages), mode: MODE_MISSING, ioctls: 0 };
        // SAFETY:
        // 1. The opcode is that of the structure (`uffd-layout`).
        // 2. The range is the mapping, which nothing refers to (`mapping-no-refs`): only `read` reads
        //    it, which may wait.
        unsafe { call::<UFFDIO_REGISTER, _>(&region.fd, &mut register) }
            .map_err(step("register"))?;
        Ok(region)
    }

    /// Returns the number of pages.
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Reads a byte; waits until its page is there.
    ///
    /// # Panics
    /// If `offset_bytes` is not below the length of the region.
    #[must_use]
    pub fn read(&self, offset_bytes: usize) -> u8 {
        let len_bytes = self.nr_pages * PAGE_SIZE;
        assert!(offset_bytes < len_bytes, "byte {offset_bytes} of a region of {len_bytes} bytes");
        // SAFETY:
        // 1. The offset is below the length, so this stays inside the mapping.
        let byte = unsafe { self.mapping.base().add(offset_bytes) };
        // SAFETY:
        // 1. The byte is mapped and readable (`mapping-owned`): it has a value once the kernel lets the
        //    thread go on.
        // 2. No reference exists, and no code of this process writes to it: the kernel fills a page
        //    before it maps it.
        unsafe { byte.read_volatile() }
    }

    /// Waits for a thread that waits for a page, and returns the page's number; `None` after `timeout`.
    ///
    /// A page may have been supplied meanwhile, or be reported once for each thread that waits for it.
    ///
    /// # Errors
    /// The error of `poll` or `read`.
    pub fn wait(&self, timeout: Duration) -> std::io::Result<Option<usize>> {
        let timeout = Timespec::try_from(timeout).map_err(std::io::Error::other)?;
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout))? == 0 {
            return Ok(None);
        }
        let mut message = [0_u8; MESSAGE_BYTES];
        match rustix::io::read(&self.fd, &mut message) {
            Ok(MESSAGE_BYTES) => Ok(self.page_of(&message)),
            // Another thread has read it, or no message has this length.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Supplies the pages from `first` on with copies of `bytes`, and wakes up the threads that wait for
    /// them; returns how many of the pages were missing.
    ///
    /// One system call, as long as none of the pages is there already.
    ///
    /// # Errors
    /// The error of the system: no memory.
    ///
    /// # Panics
    /// If the length of `bytes` is not that of whole pages, or the region has no such pages.
    pub fn copy(&self, first: usize, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(bytes.len().is_multiple_of(PAGE_SIZE), "{} bytes are no whole pages", bytes.len());
        let end = first + bytes.len() / PAGE_SIZE;
        self.supply(first..end, |page, nr_pages| {
            let at = (page - first) * PAGE_SIZE;
            let source = &bytes[at..at + nr_pages * PAGE_SIZE];
            let Range { start: dst, len } = self.range(page, nr_pages);
            let mut copy =
                Copy { dst, src: source.as_ptr().addr() as u64, len, mode: 0, copied: 0 };
            // SAFETY:
            // 1. The opcode is that of the structure (`uffd-layout`).
            // 2. The kernel reads `len` bytes of `source`, and fills pages of the mapping that are
            //    missing; no other page changes.
            let done = unsafe { call::<UFFDIO_COPY, _>(&self.fd, &mut copy) };
            (done, copy.copied)
        })
    }

    /// Supplies `nr_pages` from `first` on with zeroes, as [`copy`](Self::copy) does with bytes.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    ///
    /// # Panics
    /// If the region has no such pages.
    pub fn zero(&self, first: usize, nr_pages: usize) -> std::io::Result<usize> {
        self.supply(first..first + nr_pages, |page, nr_pages| {
            let mut zero = Zero { range: self.range(page, nr_pages), mode: 0, zeroed: 0 };
            // SAFETY:
            // 1. The opcode is that of the structure (`uffd-layout`).
            // 2. The kernel fills pages of the mapping that are missing; no other page changes.
            let done = unsafe { call::<UFFDIO_ZEROPAGE, _>(&self.fd, &mut zero) };
            (done, zero.zeroed)
        })
    }

    /// Removes all pages: they are missing again.
    ///
    /// # Errors
    /// The error of `madvise`.
    pub fn clear(&self) -> std::io::Result<()> {
        let len_bytes = self.nr_pages * PAGE_SIZE;
        // SAFETY:
        // 1. The range is the mapping (`mapping-owned`), to whose bytes there is no reference; a `read`
        //    at the same time waits for the page or has read it.
        unsafe {
            madvise(self.mapping.base().as_ptr().cast(), len_bytes, Advice::LinuxDontNeed)?;
        }
        Ok(())
    }

    /// Calls `supply` until each page in `pages` is there; `supply` gets pages that follow each other,
    /// and returns the kernel's answer and its count of bytes.
    fn supply(
        &self,
        pages: core::ops::Range<usize>,
        supply: impl Fn(usize, usize) -> (Result<(), Errno>, i64),
    ) -> std::io::Result<usize> {
        let (mut page, end) = (pages.start, pages.end);
        assert!(page <= end && end <= self.nr_pages, "pages {pages:?} of {}", self.nr_pages);
        let mut nr_missing = 0;
        while page < end {
            let (done, count) = supply(page, end - page);
            let nr_done = usize::try_from(count).unwrap_or(0) / PAGE_SIZE;
            // The kernel's count is no more than what it was asked for.
            let nr_done = nr_done.min(end - page);
            match done {
                // The kernel stops at a page that is there, or when the mappings change, and tells how
                // far it came; if it has not begun, the count is the error.
                Ok(()) | Err(Errno::AGAIN) => {}
                Err(Errno::EXIST) => page += 1,
                Err(errno) => return Err(errno.into()),
            }
            page += nr_done;
            nr_missing += nr_done;
        }
        Ok(nr_missing)
    }

    /// Returns the addresses of some pages.
    fn range(&self, first: usize, nr_pages: usize) -> Range {
        let base = self.mapping.base().addr().get();
        Range { start: (base + first * PAGE_SIZE) as u64, len: (nr_pages * PAGE_SIZE) as u64 }
    }

    /// Returns the page of a message about a fault.
    fn page_of(&self, message: &[u8; MESSAGE_BYTES]) -> Option<usize> {
        let address =
            message[ADDRESS_AT..].first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))?;
        let base = self.mapping.base().addr().get() as u64;
        let page = usize::try_from(address.checked_sub(base)?).ok()? / PAGE_SIZE;
        (message[0] == EVENT_PAGEFAULT && page < self.nr_pages).then_some(page)
    }
}

/// Calls the kernel with a structure that it reads and writes.
///
/// # Safety
/// 1. `OPCODE` is the one of `T`.
/// 2. What the structure asks for is allowed.
unsafe fn call<const OPCODE: Opcode, T>(fd: impl AsFd, value: &mut T) -> Result<(), Errno> {
    // SAFETY:
    // 1. The opcode is that of the structure: guaranteed by the caller.
    let updater = unsafe { Updater::<OPCODE, T>::new(value) };
    // SAFETY:
    // 1. What the structure asks for is allowed: guaranteed by the caller.
    unsafe { ioctl(fd, updater) }
}

// `uffd-layout`: the structures and numbers of `linux/userfaultfd.h`, which the kernel never changes. The
// number of a call contains the size of its structure.

/// `UFFD_USER_MODE_ONLY`.
const USER_MODE_ONLY: u32 = 1;
/// `UFFD_API`.
const API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MODE_MISSING: u64 = 1;
/// `sizeof(struct uffd_msg)`, and the offsets of the fields that are read.
const MESSAGE_BYTES: usize = 32;
const ADDRESS_AT: usize = 16;
/// `UFFD_EVENT_PAGEFAULT`.
const EVENT_PAGEFAULT: u8 = 0x12;

const UFFDIO_API: Opcode = opcode::read_write::<Api>(0xaa, 0x3f);
const UFFDIO_REGISTER: Opcode = opcode::read_write::<Register>(0xaa, 0x00);
const UFFDIO_COPY: Opcode = opcode::read_write::<Copy>(0xaa, 0x03);
const UFFDIO_ZEROPAGE: Opcode = opcode::read_write::<Zero>(0xaa, 0x04);

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
struct Zero {
    range: Range,
    mode: u64,
    zeroed: i64,
}

#[cfg(test)]
mod tests;
