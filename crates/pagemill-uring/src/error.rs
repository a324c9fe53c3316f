//! `UringError`: why a ring cannot be made or used, with the values and the remedy.

use core::fmt;
use std::io;

use pagemill_host::os::OsError;
use thiserror::Error;

/// Why a ring cannot be made, or stopped working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UringError {
    /// The system has no io_uring, or does not let this process use it.
    #[error(
        "this process cannot use io_uring: {os}. The kernel lacks it, the setting \
         kernel.io_uring_disabled is not 0, or a container's seccomp profile forbids it; allow \
         io_uring_setup, io_uring_enter and io_uring_register there"
    )]
    Unavailable {
        /// The error of the system.
        os: OsError,
    },
    /// The kernel's io_uring lacks what the ring needs.
    #[error("{step} is not supported by this kernel ({os}): use Linux {} or later", .step.since())]
    KernelTooOld {
        /// What was refused.
        step: Step,
        /// The error of the system.
        os: OsError,
    },
    /// The system refused an operation.
    #[error("{step}: {os}")]
    Os {
        /// The operation.
        step: Step,
        /// The error of the system.
        os: OsError,
    },
    /// A field of the configuration is no power of two, or not in its range.
    #[error("{field} of {value}: use a power of two from {min} to {max}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The smallest allowed value.
        min: u32,
        /// The largest allowed value.
        max: u32,
    },
    /// The configured number of connections is zero or too large.
    #[error("nr_connections_max of {nr}: use 1 to {max}")]
    NrConnections {
        /// The number.
        nr: u32,
        /// The largest allowed number.
        max: u32,
    },
    /// A limit of held pages is zero, so nothing could be received.
    #[error("{field} of 0: use at least 1 page")]
    NothingHeld {
        /// The field.
        field: &'static str,
    },
    /// The ring has as many connections and listeners as it may have.
    #[error("the ring has {max} connections already: close some, or raise nr_connections_max")]
    TooManyConnections {
        /// The limit.
        max: u32,
    },
    /// There is no such connection, or it was closed.
    #[error("the ring has no such connection: it was closed")]
    NoConnection,
    /// The connection is being closed, or is a listener, so nothing can be sent on it.
    #[error("nothing can be sent on this connection: it is being closed, or is a listener")]
    NotSending,
    /// The arena is larger than the memory that the process may lock.
    #[error(
        "an arena of {} KiB cannot be registered with io_uring: this process may lock {}, and each \
         registration counts; raise the limit (ulimit -l), use a smaller arena, add CAP_IPC_LOCK, or clone \
         a registration instead of making a second one",
        .len_bytes >> 10, limit(*.limit_bytes)
    )]
    LockedMemory {
        /// Bytes in the arena.
        len_bytes: usize,
        /// The limit `RLIMIT_MEMLOCK`; `None` if there is none, and the machine has too little memory.
        limit_bytes: Option<u64>,
    },
    /// A page is not in the arena that is registered.
    #[error("the page at {address:#x} is not in the registered arena: allocate it from that one")]
    NotInArena {
        /// The address of the page.
        address: usize,
    },
    /// The arena has more than 65,536 fixed buffers of 1 GiB.
    #[error("an arena of more than 64 TiB cannot be registered")]
    ArenaTooLarge,
    /// The submission queue is full, because the kernel takes no requests while completions wait.
    #[error("the kernel takes no requests before completions are read: call wait first")]
    SubmissionQueueFull,
    /// The ring belongs to the parent of this process.
    #[error("this ring belongs to the parent of this process: make one here")]
    Forked,
    /// The ring was shut.
    #[error("this ring was shut")]
    Shut,
    /// The kernel did not end its requests in time. Their pages are leaked.
    #[error("{nr_requests} requests did not end in time")]
    StillBusy {
        /// The number of requests.
        nr_requests: usize,
    },
    /// The kernel did not end its requests in time, so the pages that it may use are leaked.
    #[error("the kernel still uses {nr_pages} pages, which are leaked")]
    Leaked {
        /// The number of pages.
        nr_pages: usize,
    },
    /// The kernel reported what it cannot report. The ring stops, and its pages are leaked.
    #[error("the kernel reported {what} ({value}): the ring has stopped")]
    Broken {
        /// What was wrong.
        what: &'static str,
        /// The value.
        value: u64,
    },
}

/// An operation that the system can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Making an io_uring instance.
    Setup,
    /// Mapping the memory of the buffer ring.
    MapBuffers,
    /// Registering the buffer ring.
    RegisterBuffers,
    /// Submitting requests.
    Submit,
    /// Waiting for completions.
    Wait,
    /// Registering an arena as fixed buffers.
    RegisterArena,
    /// Sharing the registration of an arena with another instance.
    CloneArena,
    /// Reading a file into pages.
    Read,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "making an io_uring instance with deferred task work",
            Self::MapBuffers => "mapping the memory of the buffer ring",
            Self::RegisterBuffers => "registering the buffer ring",
            Self::Submit => "submitting requests",
            Self::Wait => "waiting for completions",
            Self::RegisterArena => "registering an arena as fixed buffers",
            Self::CloneArena => "sharing the registration of an arena",
            Self::Read => "reading a file into pages",
        })
    }
}

impl Step {
    /// Returns the first version of Linux in which the operation is there.
    fn since(self) -> &'static str {
        if self == Self::CloneArena { "6.12" } else { "6.1" }
    }
}

/// Writes a limit on locked memory.
fn limit(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "any amount".to_owned(), |bytes| format!("{} KiB", bytes >> 10))
}

impl UringError {
    /// Makes the error of an operation that the system refused.
    pub(crate) fn at(step: Step, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let os = OsError::from_raw(errno);
        match (step, errno) {
            (Step::Setup, libc::ENOSYS | libc::EPERM | libc::EACCES) => Self::Unavailable { os },
            (Step::Setup | Step::RegisterBuffers | Step::CloneArena, libc::EINVAL) => {
                Self::KernelTooOld { step, os }
            }
            (Step::Submit | Step::Wait, libc::EBADR) => {
                Self::Broken { what: "lost completions", value: 0 }
            }
            _ => Self::Os { step, os },
        }
    }

    /// Returns whether this process cannot use io_uring at all, or the kernel is too old.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::KernelTooOld { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: Step, errno: i32) -> UringError {
        UringError::at(step, &io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn refusals_of_the_system_say_what_to_do() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let error = at(Step::Setup, errno);
            assert!(error.is_unsupported());
            assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
        }
        for step in [Step::Setup, Step::RegisterBuffers, Step::CloneArena] {
            let error = at(step, libc::EINVAL);
            assert!(error.is_unsupported());
            assert!(error.to_string().contains("use Linux 6.1"), "{error}");
        }
        assert!(!at(Step::Setup, libc::ENOMEM).is_unsupported());
        assert!(at(Step::Wait, libc::EBADF).to_string().starts_with("waiting for completions: "));
        assert!(matches!(at(Step::Wait, libc::EBADR), UringError::Broken { .. }));
    }

    #[test]
    fn the_limit_of_locked_memory_is_named() {
        let error = UringError::LockedMemory { len_bytes: 64 << 20, limit_bytes: Some(8 << 20) };
        let text = error.to_string();
        assert!(text.contains("65536 KiB") && text.contains("may lock 8192 KiB"), "{text}");
        assert!(text.contains("ulimit -l") && text.contains("clone"), "{text}");
    }
}
