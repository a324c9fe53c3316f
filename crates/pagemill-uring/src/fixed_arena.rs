//! Fixed buffers: an arena that is registered with io_uring, and reads of files into its pages.

use core::fmt;
use core::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::{io, process};

use io_uring::{IoUring, Probe, opcode, squeue, types};
use pagemill::source::PageSource;
use pagemill_host::Host;
use pagemill_host::arena::ArenaPin;
use pagemill_host::os::OsError;

use crate::error::{Step, UringError};
use crate::pages::ring_page::RingPage;

/// An arena that is registered with an io_uring instance as fixed buffers, for reads of files into its
/// pages: the kernel need not look up and pin the pages for each read.
///
/// A registered arena is [pinned](pagemill_host::arena::Arena::pin), so
/// [`return_free_memory`](pagemill_host::arena::return_free_memory) refuses it until the last registration
/// is dropped: otherwise reads would succeed, into pages that nobody sees.
///
/// In a child of `fork`, calls return [`UringError::Forked`], and dropping it does nothing.
///
/// # Examples
/// ```
/// use std::fs::File;
///
/// use pagemill::{AllocPages, Gfp};
/// use pagemill_host::{HostAllocator, SharedAllocator};
/// use pagemill_uring::fixed::FixedArena;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let frames = SharedAllocator::new(HostAllocator::new(4 << 20)?);
/// let mut arena = match FixedArena::register(frames.clone()) {
///     Err(error) if error.is_unsupported() => return Ok(println!("SKIPPED: {error}")),
///     arena => arena?,
/// };
/// let pages = (0..2).map_while(|_| frames.clone().alloc_page(Gfp::KERNEL)).collect();
/// let (pages, len) = arena.read(&File::open("Cargo.toml")?, 0, pages);
/// assert!(pages[0].as_bytes()[..len?].starts_with(b"[package]"));
/// # Ok(()) }
/// ```
pub struct FixedArena<S: PageSource<Platform = Host> + 'static> {
    /// `None` while it is dropped.
    uring: Option<IoUring>,
    base: usize,
    len_bytes: usize,
    is_vectored: bool,
    process: u32,
    /// Dropped after the registration (`arena-resident`).
    pin: ArenaPin,
    /// Keeps the arena mapped.
    source: S,
}

/// Most bytes of one fixed buffer.
///
/// # Source
/// `linux-6.12` `io_uring/rsrc.c` `io_buffer_validate`
const ENTRY_BYTES: usize = 1 << 30;

/// Entries of the submission queue: one read at a time.
const NR_SUBMISSIONS: u32 = 8;

/// Most pieces of one read.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/uio.h` `UIO_MAXIOV`
const NR_PIECES_MAX: usize = 1024;

impl<S: PageSource<Platform = Host> + 'static> FixedArena<S> {
    /// Registers the whole arena of `source`, in buffers of up to 1 GiB.
    ///
    /// # Errors
    /// [`UringError::LockedMemory`] if the process may not lock that much; [`UringError::Unavailable`],
    /// [`UringError::KernelTooOld`], the error of a system call.
    ///
    /// # Cost
    /// The kernel allocates and pins every page of the arena. It counts as locked memory, once for each
    /// registration; a [clone](Self::try_clone) does not count.
    pub fn register(source: S) -> Result<Self, UringError> {
        let arena = Self::open(source)?;
        let entries: Vec<_> = (0..arena.len_bytes)
            .step_by(ENTRY_BYTES)
            .map(|start| libc::iovec {
                iov_base: core::ptr::with_exposed_provenance_mut(arena.base + start),
                iov_len: ENTRY_BYTES.min(arena.len_bytes - start),
            })
            .collect();
        // SAFETY:
        // 1. The memory stays mapped while it is registered: `source` keeps the arena
        //    (`arena-outlives-pages`), and is dropped after the instance.
        // 2. It keeps its pages (`arena-resident`): `open` pinned the arena.
        // 3. The kernel writes to pages only for reads, which own them.
        let registered = unsafe { arena.uring()?.submitter().register_buffers(&entries) };
        registered.map_err(|error| arena.refused(Step::RegisterArena, &error))?;
        Ok(arena)
    }

    /// Registers the arena with another instance, by sharing this registration: it costs no time, and does
    /// not count as locked memory again. For a second thread.
    ///
    /// # Errors
    /// [`UringError::KernelTooOld`] before Linux 6.12, the error of a system call.
    pub fn try_clone(&self) -> Result<Self, UringError> {
        let clone = Self::open(self.source.clone())?;
        let from = self.uring()?.as_raw_fd();
        let cloned = clone.uring()?.submitter().register_buffers_clone(from);
        cloned.map_err(|error| self.refused(Step::CloneArena, &error))?;
        Ok(clone)
    }

    /// Returns whether reads use the registration. Before Linux 6.15, the kernel cannot read into scattered
    /// fixed pages by one request, and reads look up their pages like any others.
    #[must_use]
    pub fn is_vectored(&self) -> bool {
        self.is_vectored
    }

    /// Reads from `file` at `offset` into `pages`, in order and one after the other in the file, and returns
    /// the pages and the number of bytes. Fewer bytes than the pages hold mean the end of the file.
    ///
    /// # Errors
    /// Beside the pages: [`UringError::NotInArena`] before anything is read; [`UringError::Os`] of the read,
    /// for instance `EINVAL` where `O_DIRECT` requires another offset. Without them: [`UringError::Leaked`]
    /// if the kernel does not complete the read.
    pub fn read<F: RingPage>(
        &mut self,
        file: &impl AsFd,
        offset: u64,
        mut pages: Vec<F>,
    ) -> (Vec<F>, Result<usize, UringError>) {
        let pieces = self.uring().and_then(|_usable| self.pieces(&mut pages));
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(error) => return (pages, Err(error)),
        };
        let mut nr_read = 0;
        for run in runs(&pieces) {
            let at = offset.saturating_add(nr_read as u64);
            let len: usize = run.iter().map(|piece| piece.iovec.iov_len).sum();
            match self.read_run(file, at, run) {
                Ok(nr) if nr >= len => nr_read += len,
                Ok(nr) => return (pages, Ok(nr_read + nr)),
                Err(UringError::Leaked { .. }) => {
                    let leaked = ManuallyDrop::new(pages);
                    return (Vec::new(), Err(UringError::Leaked { nr_pages: leaked.len() }));
                }
                Err(error) => return (pages, Err(error)),
            }
        }
        (pages, Ok(nr_read))
    }

    fn open(source: S) -> Result<Self, UringError> {
        let memory = source.allocator().platform().memory();
        let (pin, base, len_bytes) =
            (memory.pin(), memory.base().as_ptr().expose_provenance(), memory.len_bytes());
        let uring = IoUring::builder()
            .dontfork()
            .build(NR_SUBMISSIONS)
            .map_err(|error| UringError::at(Step::Setup, &error))?;
        let mut probe = Probe::new();
        let is_probed = uring.submitter().register_probe(&mut probe).is_ok();
        let is_vectored = is_probed && probe.is_supported(opcode::ReadvFixed::CODE);
        Ok(Self {
            uring: Some(uring),
            base,
            len_bytes,
            is_vectored,
            process: process::id(),
            pin,
            source,
        })
    }

    fn uring(&self) -> Result<&IoUring, UringError> {
        if self.process != process::id() {
            return Err(UringError::Forked);
        }
        self.uring.as_ref().ok_or(UringError::Shut)
    }

    /// Explains why the kernel did not register the arena.
    fn refused(&self, step: Step, error: &io::Error) -> UringError {
        match error.raw_os_error() {
            Some(libc::ENOMEM) => {
                UringError::LockedMemory { len_bytes: self.len_bytes, limit_bytes: memlock_limit() }
            }
            _ => UringError::at(step, error),
        }
    }

    /// Returns the address of each page, and the fixed buffer that it is in.
    fn pieces<F: RingPage>(&self, pages: &mut [F]) -> Result<Vec<Piece>, UringError> {
        let piece = |page: &mut F| {
            let bytes = page.bytes_mut();
            // Wraps below the arena, to more than its length.
            let start = bytes.as_ptr().addr().wrapping_sub(self.base);
            if start >= self.len_bytes || bytes.len() > self.len_bytes - start {
                return Err(UringError::NotInArena { address: bytes.as_ptr().addr() });
            }
            let iovec = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            // A block is aligned to its size in the arena, so no buffer ends within it.
            let entry = u16::try_from(start / ENTRY_BYTES);
            Ok(Piece { iovec, entry: entry.map_err(|_large| UringError::ArenaTooLarge)? })
        };
        pages.iter_mut().map(piece).collect()
    }

    /// Reads into pages of one fixed buffer.
    fn read_run(
        &mut self,
        file: &impl AsFd,
        offset: u64,
        run: &[Piece],
    ) -> Result<usize, UringError> {
        let iovecs: Vec<_> = run.iter().map(|piece| piece.iovec).collect();
        let file = types::Fd(file.as_fd().as_raw_fd());
        let nr = u32::try_from(iovecs.len()).expect("a run has at most 1024 pieces");
        let entry = run.first().map_or(0, |piece| piece.entry);
        let request: squeue::Entry = if self.is_vectored {
            opcode::ReadvFixed::new(file, iovecs.as_ptr(), nr, entry).offset(offset).build()
        } else {
            opcode::Readv::new(file, iovecs.as_ptr(), nr).offset(offset).build()
        };
        self.uring()?;
        let Some(uring) = &mut self.uring else { return Err(UringError::Shut) };
        // SAFETY:
        // 1. The array lives until the end of this function, which waits for the completion; otherwise it
        //    is leaked below, and so are the pages, by `read`.
        // 2. The pages are owned by the caller's vector, of which `read` has the only reference.
        let pushed = unsafe { uring.submission().push(&request) };
        pushed.map_err(|_full| UringError::SubmissionQueueFull)?;
        for _ in 0..NR_ATTEMPTS {
            let waited = uring.submit_and_wait(1);
            if let Some(completion) = uring.completion().next() {
                let result = completion.result();
                let failed =
                    |_| UringError::Os { step: Step::Read, os: OsError::from_raw(-result) };
                return usize::try_from(result).map_err(failed);
            }
            match waited.as_ref().map_err(io::Error::raw_os_error) {
                Ok(_) | Err(Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
                Err(_) => break,
            }
        }
        let _for_ever = ManuallyDrop::new(iovecs);
        // Nothing of this instance is used again: the request may still be in its queue.
        let _for_ever = ManuallyDrop::new(self.uring.take());
        let _for_ever = ManuallyDrop::new((self.source.clone(), self.pin.clone()));
        Err(UringError::Leaked { nr_pages: run.len() })
    }
}

/// How often a wait is repeated that a signal has interrupted.
const NR_ATTEMPTS: usize = 1 << 20;

/// A page of a read.
#[derive(Clone, Copy)]
struct Piece {
    iovec: libc::iovec,
    /// The fixed buffer that it is in.
    entry: u16,
}

/// Divides a read into runs that one request can read: of one fixed buffer, and not too long.
fn runs(pieces: &[Piece]) -> impl Iterator<Item = &[Piece]> {
    pieces.chunk_by(|one, next| one.entry == next.entry).flat_map(|run| run.chunks(NR_PIECES_MAX))
}

/// Returns how much memory the process may lock; `None` for no limit.
fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY:
    // 1. The structure is of the expected type, and borrowed.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

impl<S: PageSource<Platform = Host> + 'static> Drop for FixedArena<S> {
    fn drop(&mut self) {
        if self.process != process::id() {
            // Its memory is not mapped here, and something else may be.
            let _for_ever = ManuallyDrop::new(self.uring.take());
        }
    }
}

impl<S: PageSource<Platform = Host> + 'static> fmt::Debug for FixedArena<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedArena")
            .field("len_bytes", &self.len_bytes)
            .field("is_vectored", &self.is_vectored)
            .finish_non_exhaustive()
    }
}
