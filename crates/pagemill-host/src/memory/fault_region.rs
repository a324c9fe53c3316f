//! Fault regions: memory whose missing pages are supplied by this process, by userfaultfd.

use core::marker::PhantomData;
use core::time::Duration;
use std::os::fd::{AsFd, OwnedFd};

use pagemill::units::{PAGE_SIZE, PAGEBLOCK_NR_PAGES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice, UserfaultfdFlags, madvise, userfaultfd};

use crate::error::HostError;
use crate::memory::arena::{Arena, ArenaPages, Backing};
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
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use pagemill::{AllocPages, Gfp};
/// use pagemill_host::HostAllocator;
/// use pagemill_host::fault::FaultRegion;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let Ok(region) = FaultRegion::new(64) else { return Ok(()) };
/// let frames = HostAllocator::new(16 << 20)?;
/// let mut page = frames.alloc_page(Gfp::KERNEL).ok_or("no page")?;
/// let byte = std::thread::scope(|scope| {
///     let reader = scope.spawn(|| region.read(0));
///     if let Some(first) = region.wait(Duration::from_secs(60))? {
///         page.as_bytes_mut().fill(7);
///         region.copy(first, page.as_bytes())?;
///     }
///     Ok::<_, std::io::Error>(reader.join())
/// })?;
/// assert_eq!(byte.ok(), Some(7));
/// # Ok(())
/// # }
/// ```
///
/// # Source
/// `linux-6.12` `fs/userfaultfd.c`
#[derive(Debug)]
pub struct FaultRegion {
    // Before the mapping: a fault after the descriptor is closed is an ordinary one.
    fd: OwnedFd,
    mapping: Mapping,
    nr_pages: usize,
    can_move: bool,
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
        // Aligned so that a huge page can be moved whole.
        let mapping = Mapping::reserve(len_bytes, ALIGN, Commit::Lazily).map_err(step("map"))?;
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
        // Without a wish for features, the kernel answers with all that it has.
        let can_move = api.features & FEATURE_MOVE != 0;
        let region = Self { fd, mapping, nr_pages, can_move };
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
        let nr_missing = self.supply(first..end, |page, nr_pages| {
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
        })?;
        Ok(nr_missing)
    }

    /// Supplies `nr_pages` from `first` on with zeroes, as [`copy`](Self::copy) does with bytes.
    ///
    /// # Errors
    /// As [`copy`](Self::copy).
    ///
    /// # Panics
    /// If the region has no such pages.
    pub fn zero(&self, first: usize, nr_pages: usize) -> std::io::Result<usize> {
        let zero = |page, nr_pages| self.zero_pages(page, nr_pages);
        Ok(self.supply(first..first + nr_pages, zero)?)
    }

    /// Allows pages of `arena` to return to it by [`move_out`](Self::move_out), until this region or the
    /// arena is dropped.
    ///
    /// Nothing else changes for the arena: only a region's own memory has pages that are waited for.
    ///
    /// # Errors
    /// [`HostError::MovePages`] for memory whose pages cannot be moved (a memfd, hugetlb pages, locked
    /// memory), an arena that another region may move pages into, or a kernel before Linux 6.8.
    pub fn lend(&self, arena: &Arena) -> Result<(), HostError> {
        let step = "lend an arena to";
        let kind = arena.kind();
        let is_movable =
            kind.backing == Backing::Anonymous && kind.pages != ArenaPages::HugeTlb && !kind.locked;
        if !is_movable || !self.can_move {
            return Err(self.cannot_move(step, Errno::INVAL));
        }
        let range =
            Range { start: arena.base().addr().get() as u64, len: arena.len_bytes() as u64 };
        let mut register = Register { range, mode: MODE_WRITE_PROTECT, ioctls: 0 };
        // SAFETY:
        // 1. The opcode is that of the structure (`uffd-layout`).
        // 2. The mode changes no access to the range: faults of missing pages are not reported, and no
        //    page of it is ever protected, for which there is no call in this file.
        unsafe { call::<UFFDIO_REGISTER, _>(&self.fd, &mut register) }
            .map_err(|errno| self.cannot_move(step, errno))
    }

    /// Supplies the pages from `first` on by the very memory of `bytes`, without a copy; returns how many
    /// of the pages were missing.
    ///
    /// Bytes whose pages were missing in the region read as zeroes afterwards, and cost a page fault if
    /// they are touched; all others are as they were. One system call, as long as none of the pages is
    /// there already. A transparent huge page stays whole if all of it is moved, to a multiple of 512
    /// pages; otherwise it becomes base pages for ever.
    ///
    /// # Errors
    /// [`HostError::MovePages`] for memory that is pinned by a device or shared with a child process,
    /// memory as in [`lend`](Self::lend), or a kernel before Linux 6.8. Pages before the one that failed
    /// are moved. [`copy`](Self::copy) supplies pages in all these cases.
    ///
    /// # Panics
    /// If `bytes` does not consist of whole pages, or the region has no such pages.
    pub fn move_in(&self, first: usize, bytes: &mut [u8]) -> Result<usize, HostError> {
        let home = Home::of(bytes);
        self.supply(first..first + home.nr_pages, |page, nr_pages| {
            let (done, count) = self.move_pages(Way::In, page, &home, page - first, nr_pages);
            // Memory that was never touched has no page, but a value.
            if done == Err(Errno::NOENT) { self.zero_pages(page, 1) } else { (done, count) }
        })
        .map_err(|errno| self.cannot_move("move pages into", errno))
    }

    /// Moves the pages from `first` on back to where `bytes` is, which must be in an arena that was
    /// [lent](Self::lend); returns how many were moved.
    ///
    /// Pages that are missing in the region are left out, and so are those whose place has been touched
    /// since its page was moved: the place has another page then, with its bytes, and the region keeps
    /// its own.
    ///
    /// # Errors
    /// [`HostError::MovePages`] as for [`move_in`](Self::move_in), or if the arena was not lent. Pages
    /// before the one that failed are moved.
    ///
    /// # Panics
    /// As [`move_in`](Self::move_in).
    pub fn move_out(&self, first: usize, bytes: &mut [u8]) -> Result<usize, HostError> {
        let home = Home::of(bytes);
        self.supply(first..first + home.nr_pages, |page, nr_pages| {
            let (done, count) = self.move_pages(Way::Out, page, &home, page - first, nr_pages);
            // Left out like a page that is there.
            let done = if done == Err(Errno::NOENT) { Err(Errno::EXIST) } else { done };
            (done, count)
        })
        .map_err(|errno| self.cannot_move("move pages out of", errno))
    }

    /// Removes all pages: they are missing again.
    ///
    /// Pages that were moved in go to the system, and their arena has others at the next touch.
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
    ) -> Result<usize, Errno> {
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
                Err(errno) => return Err(errno),
            }
            page += nr_done;
            nr_missing += nr_done;
        }
        Ok(nr_missing)
    }

    fn zero_pages(&self, page: usize, nr_pages: usize) -> (Result<(), Errno>, i64) {
        let mut zero = Zero { range: self.range(page, nr_pages), mode: 0, zeroed: 0 };
        // SAFETY:
        // 1. The opcode is that of the structure (`uffd-layout`).
        // 2. The kernel fills pages of the mapping that are missing; no other page changes.
        let done = unsafe { call::<UFFDIO_ZEROPAGE, _>(&self.fd, &mut zero) };
        (done, zero.zeroed)
    }

    /// Moves pages between the mapping, from `page` on, and `home`, from its page `index` on.
    fn move_pages(
        &self,
        way: Way,
        page: usize,
        home: &Home<'_>,
        index: usize,
        nr_pages: usize,
    ) -> (Result<(), Errno>, i64) {
        let (ours, theirs) = (self.range(page, nr_pages), home.range(index, nr_pages));
        let (to, from) = match way {
            Way::In => (ours, theirs),
            Way::Out => (theirs, ours),
        };
        let mut pages = Move { dst: to.start, src: from.start, len: to.len, mode: 0, moved: 0 };
        // SAFETY:
        // 1. The opcode is that of the structure (`uffd-layout`).
        // 2. Missing pages of `to` get the bytes of those of `from`, which become missing. There is no
        //    reference to bytes of the mapping (`mapping-no-refs`), and nobody but the caller has one to
        //    bytes of the home (`home-borrowed`), where missing pages read as zeroes.
        // 3. The kernel moves only pages of private anonymous memory that nothing has pinned, so no
        //    device loses a page that it was given (`arena-resident`).
        let done = unsafe { call::<UFFDIO_MOVE, _>(&self.fd, &mut pages) };
        (done, pages.moved)
    }

    fn cannot_move(&self, step: &'static str, errno: Errno) -> HostError {
        let help = match errno {
            _ if !self.can_move => "this kernel cannot move pages: use Linux 6.8 or newer, or copy",
            Errno::BUSY => {
                "memory that a device has pinned, that a child process shares, or that belongs to another \
                 region cannot be moved: copy it"
            }
            Errno::INVAL => {
                "pages can be moved if they are anonymous memory, neither locked nor of a hugetlb pool, \
                 and moved out to an arena that was lent to the region"
            }
            _ => "the system may be short of memory",
        };
        HostError::MovePages { step, help, os: errno.into() }
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

/// Where pages move, seen from the region.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Memory outside the region, of whole pages.
///
/// Upholds `home-borrowed`: nothing else refers to its bytes.
struct Home<'a> {
    start: u64,
    nr_pages: usize,
    _bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> Home<'a> {
    fn of(bytes: &'a mut [u8]) -> Self {
        let (start, len) = (bytes.as_mut_ptr().expose_provenance(), bytes.len());
        let is_whole = start.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        assert!(is_whole, "{len} bytes at {start:#x} are no whole pages");
        Self { start: start as u64, nr_pages: len / PAGE_SIZE, _bytes: PhantomData }
    }

    /// Returns the addresses of some pages.
    fn range(&self, first: usize, nr_pages: usize) -> Range {
        assert!(first + nr_pages <= self.nr_pages, "{nr_pages} pages from {first} on");
        let (at, len) = ((first * PAGE_SIZE) as u64, (nr_pages * PAGE_SIZE) as u64);
        Range { start: self.start + at, len }
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

/// Alignment of a region: that of an arena.
const ALIGN: usize = PAGEBLOCK_NR_PAGES * PAGE_SIZE;

// `uffd-layout`: the structures and numbers of `linux/userfaultfd.h`, which the kernel never changes. The
// number of a call contains the size of its structure.

/// `UFFD_USER_MODE_ONLY`.
const USER_MODE_ONLY: u32 = 1;
/// `UFFD_API`.
const API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MODE_MISSING: u64 = 1;
/// `UFFDIO_REGISTER_MODE_WP`.
const MODE_WRITE_PROTECT: u64 = 2;
/// `UFFD_FEATURE_MOVE`.
const FEATURE_MOVE: u64 = 1 << 16;
/// `sizeof(struct uffd_msg)`, and the offsets of the fields that are read.
const MESSAGE_BYTES: usize = 32;
const ADDRESS_AT: usize = 16;
/// `UFFD_EVENT_PAGEFAULT`.
const EVENT_PAGEFAULT: u8 = 0x12;

const UFFDIO_API: Opcode = opcode::read_write::<Api>(0xaa, 0x3f);
const UFFDIO_REGISTER: Opcode = opcode::read_write::<Register>(0xaa, 0x00);
const UFFDIO_COPY: Opcode = opcode::read_write::<Copy>(0xaa, 0x03);
const UFFDIO_ZEROPAGE: Opcode = opcode::read_write::<Zero>(0xaa, 0x04);
const UFFDIO_MOVE: Opcode = opcode::read_write::<Move>(0xaa, 0x05);

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
struct Move {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    moved: i64,
}

#[repr(C)]
struct Zero {
    range: Range,
    mode: u64,
    zeroed: i64,
}

#[cfg(test)]
mod tests;
