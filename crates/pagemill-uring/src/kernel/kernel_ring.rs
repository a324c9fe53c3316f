//! Kernel ring: an io_uring instance with its buffer ring, and everything that the kernel uses through it.

use alloc::collections::VecDeque;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;
use std::{io, process};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::config::ReceiveConfig;
use crate::error::{Step, UringError};
use crate::kernel::buffer_ring::BufferRing;
use crate::kernel::completion::{Broken, RawCompletion, RequestKind, Tag};
use crate::kernel::ledger::Ledger;
use crate::kernel::port::{Cancelled, Completion, Port};
use crate::kernel::send_request::SendRequest;
use crate::pages::filled::FilledPage;
use crate::pages::parcel::Parcel;
use crate::pages::ring_page::RingPage;

/// An io_uring instance, for the thread that made it.
///
/// Upholds `kernel-owned-until-completed`: pages on the buffer ring, and those of send requests, are owned
/// by `shared` until the kernel has reported them, or until no request is left and the buffer ring is no
/// longer registered. If that cannot be reached, or in a child of fork, they are leaked.
pub(crate) struct KernelRing<F: RingPage> {
    /// `None` once it is shut.
    shared: Option<Shared<F>>,
    completions: VecDeque<RawCompletion>,
    /// Why the kernel's completions are no longer used.
    broken: Option<Broken>,
    has_bundles: bool,
    nr_overflows: u64,
    process: u32,
    /// The kernel runs receive requests only while this thread is in a call of this ring (deferred task
    /// work), and refuses calls of other threads.
    _one_thread: PhantomData<*const ()>,
}

/// What the kernel uses.
struct Shared<F> {
    uring: IoUring,
    buffers: BufferRing,
    ledger: Ledger<F>,
}

/// The only buffer group.
const GROUP: u16 = 0;

/// Entries of the submission queue, which is submitted when it is full.
const NR_SUBMISSIONS: u32 = 256;

/// Time between two attempts to end all requests.
const CANCEL_AGAIN: Duration = Duration::from_millis(20);

/// How long dropping waits for requests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

impl<F: RingPage> KernelRing<F> {
    /// Makes an instance with an empty buffer ring.
    ///
    /// # Errors
    /// If the system has no io_uring, forbids it, or has an earlier version than is needed.
    pub(crate) fn open(config: &ReceiveConfig) -> Result<Self, UringError> {
        let uring = IoUring::builder()
            .dontfork()
            .setup_cqsize(config.nr_completions)
            .setup_clamp()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(NR_SUBMISSIONS)
            .map_err(|error| UringError::at(Step::Setup, &error))?;
        let has_bundles = config.bundles && uring.params().is_feature_recvsend_bundle();
        let buffers = BufferRing::map(config.nr_buffers)
            .map_err(|error| UringError::at(Step::MapBuffers, &error))?;
        // SAFETY:
        // 1. The memory is mapped (`buffer-ring-mapped`) until the ring is unregistered or leaked:
        //    `shut` does one or the other before `buffers` is dropped. The kernel also keeps its pages.
        // 2. It has no entries, so the kernel knows no page yet.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                buffers.address(),
                config.nr_buffers,
                GROUP,
                0,
            )
        }
        .map_err(|error| UringError::at(Step::RegisterBuffers, &error))?;
        // The kernel limits a bundle to 256 buffers and may append another one.
        let nr_per_completion = if has_bundles { config.nr_buffers } else { 1 };
        Ok(Self {
            shared: Some(Shared {
                uring,
                buffers,
                ledger: Ledger::new(config.nr_buffers, nr_per_completion),
            }),
            completions: VecDeque::new(),
            broken: None,
            has_bundles,
            nr_overflows: 0,
            process: process::id(),
            _one_thread: PhantomData,
        })
    }

    fn is_foreign(&self) -> bool {
        self.process != process::id()
    }

    /// Returns what the kernel uses, unless it is shut, broken or another process's.
    fn usable(&mut self) -> Result<&mut Shared<F>, UringError> {
        if let Some(Broken { what, value }) = self.broken {
            return Err(UringError::Broken { what, value });
        }
        if self.is_foreign() {
            return Err(UringError::Forked);
        }
        self.shared.as_mut().ok_or(UringError::Shut)
    }

    /// Queues a request.
    ///
    /// # Safety
    /// Memory that the request names by address is owned by `shared` until its last completion
    /// (`kernel-owned-until-completed`).
    unsafe fn push(&mut self, tag: Tag, entry: squeue::Entry) -> Result<(), UringError> {
        let entry = entry.user_data(tag.to_raw());
        if self.usable()?.uring.submission().is_full() {
            self.submit()?;
        }
        let mut queue = self.usable()?.uring.submission();
        // SAFETY:
        // 1. The memory stays owned: guaranteed by the caller.
        let pushed = unsafe { queue.push(&entry) };
        drop(queue);
        if pushed.is_err() {
            return Err(UringError::SubmissionQueueFull);
        }
        self.usable()?.ledger.note_request();
        Ok(())
    }

    fn nr_requests(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.ledger.nr_requests())
    }

    /// Submits all queued requests. If the completion queue is full, it is emptied in between.
    fn submit(&mut self) -> Result<(), UringError> {
        for _ in 0..NR_ATTEMPTS {
            match self.usable()?.uring.submit() {
                Ok(_nr) => return Ok(()),
                Err(error) if is_transient(&error) => self.collect(),
                Err(error) => return Err(UringError::at(Step::Submit, &error)),
            }
        }
        Ok(())
    }

    /// Moves all completions out of the queue that the kernel writes.
    fn collect(&mut self) {
        let Some(shared) = &mut self.shared else { return };
        let queue = shared.uring.completion();
        if queue.overflow() > 0 {
            // The kernel had no memory to keep a completion: its buffers are lost.
            self.broken = Some(Broken { what: "lost completions", value: queue.overflow().into() });
        }
        let raw = |entry: cqueue::Entry| RawCompletion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        };
        self.completions.extend(queue.map(raw));
    }

    /// Asks the kernel to end all requests, and waits until it has.
    fn end_requests(&mut self, patience: Duration) -> Result<(), UringError> {
        let start = Instant::now();
        let all = Tag { kind: RequestKind::Cancel, number: 0 };
        while self.nr_requests() > 0 && start.elapsed() < patience {
            let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any().all()).build();
            // SAFETY:
            // 1. The request names no memory.
            unsafe { self.push(all, cancel) }?;
            let again = Instant::now() + CANCEL_AGAIN;
            while self.nr_requests() > 0 && Instant::now() < again {
                self.wait(Some(CANCEL_AGAIN))?;
                // What the last requests bring is dropped: pages return, connections are closed.
                while self.next()?.is_some() {}
            }
        }
        if self.nr_requests() > 0 {
            Err(UringError::StillBusy { nr_requests: self.nr_requests() })
        } else {
            Ok(())
        }
    }

    /// Leaks everything that the kernel may still use; returns the number of pages.
    fn leak(&mut self) -> usize {
        let Some(shared) = self.shared.take().map(ManuallyDrop::new) else { return 0 };
        shared.ledger.nr_pages()
    }
}

/// Attempts to submit while the completion queue is full.
const NR_ATTEMPTS: usize = 100;

/// Returns whether a call can succeed once completions were read, or at once.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR))
}

/// Takes over a descriptor that an accept request returned.
fn own(descriptor: u32) -> OwnedFd {
    let descriptor = i32::try_from(descriptor).expect("a descriptor is no negative number");
    // SAFETY:
    // 1. The kernel has just made the descriptor for this process, and reports it once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

impl<F: RingPage> Port<F> for KernelRing<F> {
    fn nr_posted(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.ledger.books.nr_posted())
    }

    fn room(&self) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.ledger.books.nr_free())
    }

    fn post(&mut self, pages: &mut Vec<F>) {
        let Ok(shared) = self.usable() else { return };
        let Shared { buffers, ledger: Ledger { books, .. }, .. } = shared;
        while let Some(mut page) = pages.pop() {
            let bytes = page.bytes_mut();
            let len = u32::try_from(bytes.len()).expect("a block has at most 4 MiB");
            let address = bytes.as_mut_ptr();
            match books.put(page) {
                // SAFETY:
                // 1. The page is in the books, where no code accesses it (`page-posted`), until the
                //    kernel has reported it or `shut` has unregistered the ring; else it is leaked
                //    (`kernel-owned-until-completed`).
                // 2. The slot was empty, so the kernel has reported its last page.
                Ok(slot) => unsafe { buffers.write(slot, address, len) },
                Err(page) => {
                    pages.push(page);
                    break;
                }
            }
        }
        buffers.publish();
    }

    fn receive(&mut self, number: u64, socket: BorrowedFd<'_>) -> Result<(), UringError> {
        let socket = types::Fd(socket.as_raw_fd());
        let entry = if self.has_bundles {
            opcode::RecvMultiBundle::new(socket, GROUP).build()
        } else {
            opcode::RecvMulti::new(socket, GROUP).build()
        };
        // SAFETY:
        // 1. The request names no memory: its pages are those of the buffer ring.
        unsafe { self.push(Tag { kind: RequestKind::Receive, number }, entry) }
    }

    fn accept(&mut self, number: u64, socket: BorrowedFd<'_>) -> Result<(), UringError> {
        let socket = types::Fd(socket.as_raw_fd());
        let entry = opcode::AcceptMulti::new(socket).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY:
        // 1. The request names no memory.
        unsafe { self.push(Tag { kind: RequestKind::Accept, number }, entry) }
    }

    fn send(
        &mut self,
        number: u64,
        socket: BorrowedFd<'_>,
        parcel: Parcel<F>,
    ) -> Result<(), UringError> {
        let request = SendRequest::new(parcel);
        let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL).cast_unsigned();
        let socket = types::Fd(socket.as_raw_fd());
        let entry = opcode::SendMsg::new(socket, request.header()).flags(flags).build();
        let stored = self.usable()?.ledger.put_send(number, request);
        let twice = UringError::Broken { what: "two sends under one number", value: number };
        stored.map_err(|_dropped| twice)?;
        // SAFETY:
        // 1. The header and what it points to are owned by the request (`send-owned`), which `shared`
        //    owns until it is completed.
        let pushed = unsafe { self.push(Tag { kind: RequestKind::Send, number }, entry) };
        if let (Err(_), Some(shared)) = (&pushed, &mut self.shared) {
            shared.ledger.forget_send(number);
        }
        pushed
    }

    fn cancel(&mut self, number: u64, what: Cancelled) -> Result<(), UringError> {
        let kind = match what {
            Cancelled::Receive => RequestKind::Receive,
            Cancelled::Accept => RequestKind::Accept,
            Cancelled::Send => RequestKind::Send,
        };
        let target = Tag { kind, number }.to_raw();
        // SAFETY:
        // 1. The request names no memory.
        unsafe {
            self.push(
                Tag { kind: RequestKind::Cancel, number },
                opcode::AsyncCancel::new(target).build(),
            )
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), UringError> {
        let wait = if self.completions.is_empty() { timeout } else { Some(Duration::ZERO) };
        let shared = self.usable()?;
        let is_full = shared.uring.submission().cq_overflow();
        let time = wait.map(types::Timespec::from);
        let mut arguments = types::SubmitArgs::new();
        if let Some(time) = &time {
            arguments = arguments.timespec(time);
        }
        let waited = shared.uring.submitter().submit_with_args(1, &arguments);
        self.nr_overflows += u64::from(is_full);
        self.collect();
        match waited {
            Ok(_nr) => Ok(()),
            Err(error) if is_transient(&error) || is_timeout(&error) => Ok(()),
            Err(error) => Err(UringError::at(Step::Wait, &error)),
        }
    }

    fn next(&mut self) -> Result<Option<Completion<F>>, UringError> {
        while let Some(raw) = self.completions.pop_front() {
            let Shared { ledger, buffers, .. } = self.usable()?;
            match ledger.resolve(raw, |slot| buffers.capacity(slot), own) {
                Ok(None) => {}
                Ok(completion) => return Ok(completion),
                Err(broken) => self.broken = Some(broken),
            }
        }
        self.usable()?;
        Ok(None)
    }

    fn keep_vec(&mut self, pages: Vec<FilledPage<F>>) {
        if let Some(shared) = &mut self.shared {
            shared.ledger.keep_vec(pages);
        }
    }

    fn nr_overflows(&self) -> u64 {
        self.nr_overflows
    }

    fn has_bundles(&self) -> bool {
        self.has_bundles
    }

    fn shut(&mut self, patience: Duration, pages: &mut Vec<F>) -> Result<(), usize> {
        if self.shared.is_none() {
            return Ok(());
        }
        // If the kernel's completions were wrong, the number of requests may be, too.
        let is_trusted = self.broken.is_none() && !self.is_foreign();
        if !is_trusted || self.end_requests(patience).is_err() || self.broken.is_some() {
            return Err(self.leak());
        }
        let Some(shared) = &mut self.shared else { return Ok(()) };
        // Afterwards the kernel knows no page: no request is left, and the ring is gone.
        if shared.uring.submitter().unregister_buf_ring(GROUP).is_err() {
            return Err(self.leak());
        }
        pages.extend(shared.ledger.books.drain());
        self.shared = None;
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ETIME)
}

impl<F: RingPage> Drop for KernelRing<F> {
    fn drop(&mut self) {
        // The number of leaked pages has no reader here; `ReceiveRing::shutdown` returns it.
        let _leaked = self.shut(PATIENCE, &mut Vec::new());
    }
}

impl<F: RingPage> fmt::Debug for KernelRing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelRing")
            .field("nr_posted", &self.nr_posted())
            .field("nr_requests", &self.nr_requests())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
