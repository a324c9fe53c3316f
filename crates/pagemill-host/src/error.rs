//! `HostError`: operating system and configuration errors, with the value, the cause and a remedy.
//!
//! Each message states what was requested, with its value, the error of the system, and a remedy. The
//! error of the system is kept as the source.

use core::fmt;
use std::io;

use pagemill::setup::ConfigError;
use pagemill::units::{CpuId, Pfn};
use thiserror::Error;

/// A request that this machine, or its settings, cannot fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The allocator does not accept the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An arena's length is zero or not a multiple of its page size.
    #[error(
        "an arena cannot be {} long: allowed are multiples of {}, not zero",
        Bytes(*.len_bytes), Bytes(*.multiple_of)
    )]
    ArenaLength {
        /// The requested length.
        len_bytes: u64,
        /// The page size of the requested memory.
        multiple_of: u64,
    },
    /// Anonymous memory could not be mapped.
    #[error(
        "cannot map an arena of {} of anonymous memory: {os}; \
         ask for less, or raise vm.overcommit_memory",
        Bytes(*.len_bytes)
    )]
    Anonymous {
        /// The requested length.
        len_bytes: u64,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// A memfd could not be made, sized or mapped.
    #[error(
        "cannot map an arena of {} in a memfd: {os}; ask for less, or use anonymous memory",
        Bytes(*.len_bytes)
    )]
    Memfd {
        /// The requested length.
        len_bytes: u64,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// Pages of 2 MiB were requested explicitly and are not available.
    #[error(
        "cannot map an arena of {} of hugetlb pages: {os}; \
         have {} pages of 2 MiB free by raising /proc/sys/vm/nr_hugepages, \
         or use transparent huge pages",
        Bytes(*.len_bytes), .len_bytes / HUGE_PAGE_BYTES
    )]
    HugeTlb {
        /// The requested length.
        len_bytes: u64,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// Memory was mapped, but not all of its pages could be allocated.
    #[error(
        "cannot prefault an arena of {}: {os}; ask for less, or do not prefault",
        Bytes(*.len_bytes)
    )]
    Prefault {
        /// The requested length.
        len_bytes: u64,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// Memory was mapped, but cannot be locked.
    #[error(
        "cannot lock an arena of {}: {os}; raise RLIMIT_MEMLOCK (ulimit -l), \
         which is {}, or do not lock",
        Bytes(*.len_bytes), Limit(*.limit_bytes)
    )]
    Lock {
        /// The requested length.
        len_bytes: u64,
        /// The limit `RLIMIT_MEMLOCK`; `None` if there is none.
        limit_bytes: Option<u64>,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// An arena is registered with the kernel, so none of its memory can be returned to the system.
    #[error(
        "memory of this arena cannot be returned to the system: the arena is registered {nr_pins} times, \
         as fixed buffers of io_uring or with AF_XDP sockets; close these first"
    )]
    Pinned {
        /// The number of registrations.
        nr_pins: usize,
    },
    /// The system did not take memory back.
    #[error("cannot return {} of an arena to the system: {os}; memory that is locked stays", Bytes(*.len_bytes))]
    Discard {
        /// The length of the part.
        len_bytes: u64,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// An arena cannot be divided into that many nodes.
    #[error(
        "the arena cannot be divided into {nr_nodes} nodes: allowed are 1 to {max}, \
         each with a block of 4 MiB at least"
    )]
    NrNodes {
        /// The requested number.
        nr_nodes: u8,
        /// The largest number allowed; the smallest is 1.
        max: u8,
    },
    /// An arena's first frame would not be aligned to the largest block.
    #[error("an arena cannot begin at frame {base_pfn}: allowed are multiples of {multiple_of:#x}")]
    BasePfn {
        /// The requested frame.
        base_pfn: Pfn,
        /// The number of frames in the largest block.
        multiple_of: u64,
    },
    /// An arena's last frame would have a number that no page handle can carry.
    #[error(
        "an arena of {nr_pages:#x} frames cannot begin at frame {base_pfn}: \
         its last frame may be at most {}",
        Pfn::MAX
    )]
    PfnRange {
        /// The requested first frame.
        base_pfn: Pfn,
        /// The number of frames from there on.
        nr_pages: u64,
    },
    /// The calling thread could not be bound to a CPU.
    #[error(
        "cannot bind this thread to CPU {cpu}: {os}; \
         choose one that is online and in the thread's affinity mask (taskset -p)"
    )]
    PinTo {
        /// The requested CPU.
        cpu: CpuId,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// The CPUs that the calling thread may use could not be read.
    #[error("cannot read this thread's affinity mask: {os}")]
    AllowedCpus {
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// A region whose pages this process supplies cannot be had.
    #[error(
        "cannot {step} a fault region: {os}; this needs at least one page, memory for it, and Linux 5.11 \
         or newer with userfaultfd, also in what a container allows"
    )]
    FaultRegion {
        /// The step that failed, as a verb phrase.
        step: &'static str,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// Pages could not be moved into a fault region or out of it.
    #[error("cannot {step} a fault region: {os}; {help}")]
    MovePages {
        /// The step that failed, as a verb phrase.
        step: &'static str,
        /// What would help.
        help: &'static str,
        /// The error of the system.
        #[source]
        os: OsError,
    },
    /// The calling thread could not get its own network and files.
    #[error(
        "cannot {step} for a private network and private files: {os}; \
         this needs CAP_SYS_ADMIN or user namespaces"
    )]
    Sandbox {
        /// The step that failed, as a verb phrase.
        step: &'static str,
        /// The error of the system.
        #[source]
        os: OsError,
    },
}

/// The operating system's error for a call that it refused.
///
/// Corresponds to [`io::Error`], but can be copied and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct OsError(rustix::io::Errno);

impl From<rustix::io::Errno> for OsError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno)
    }
}

impl OsError {
    /// Makes the error with this number, as in `errno`.
    #[must_use]
    pub fn from_raw(errno: i32) -> Self {
        Self(rustix::io::Errno::from_raw_os_error(errno))
    }

    /// Returns the error number, as in `errno`.
    #[must_use]
    pub fn raw(self) -> i32 {
        self.0.raw_os_error()
    }
}

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        error.0.into()
    }
}

/// A number of bytes in the largest binary unit that shows it exactly.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

        let mut count = self.0;
        let mut unit = "bytes";
        for larger in UNITS {
            if count == 0 || !count.is_multiple_of(1024) {
                break;
            }
            count /= 1024;
            unit = larger;
        }
        write!(f, "{count} {unit}")
    }
}

/// A resource limit, or the lack of one.
struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => Bytes(bytes).fmt(f),
            None => f.write_str("unlimited"),
        }
    }
}

/// Bytes in one page of the hugetlb pool that arenas use.
pub(crate) const HUGE_PAGE_BYTES: u64 = 2 << 20;

#[cfg(test)]
mod tests {
    use core::error::Error as _;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn bytes_are_shown_exactly_in_the_largest_unit() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 bytes");
        assert_eq!(shown(4097), "4097 bytes");
        assert_eq!(shown(4096), "4 KiB");
        assert_eq!(shown((2 << 20) + 4096), "2052 KiB");
        assert_eq!(shown(1 << 60), "1 EiB");
        assert_eq!(shown(u64::MAX), "18446744073709551615 bytes");
    }

    #[test]
    fn memory_that_is_refused_names_size_answer_and_remedy() {
        let error = HostError::Anonymous { len_bytes: 64 << 40, os: Errno::NOMEM.into() };
        assert_eq!(
            error.to_string(),
            "cannot map an arena of 64 TiB of anonymous memory: \
             Cannot allocate memory (os error 12); ask for less, or raise vm.overcommit_memory"
        );
    }

    #[test]
    fn huge_pages_that_are_refused_name_the_pool() {
        let error = HostError::HugeTlb { len_bytes: 1 << 30, os: Errno::NOMEM.into() };
        assert_eq!(
            error.to_string(),
            "cannot map an arena of 1 GiB of hugetlb pages: Cannot allocate memory (os error 12); \
             have 512 pages of 2 MiB free by raising /proc/sys/vm/nr_hugepages, \
             or use transparent huge pages"
        );
    }

    #[test]
    fn lock_that_is_refused_names_the_limit() {
        let error = HostError::Lock {
            len_bytes: 64 << 20,
            limit_bytes: Some(8 << 20),
            os: Errno::NOMEM.into(),
        };
        assert_eq!(
            error.to_string(),
            "cannot lock an arena of 64 MiB: Cannot allocate memory (os error 12); \
             raise RLIMIT_MEMLOCK (ulimit -l), which is 8 MiB, or do not lock"
        );
    }

    #[test]
    fn frames_that_are_refused_name_what_is_allowed() {
        let misaligned = HostError::BasePfn { base_pfn: Pfn::new(0x10_0001), multiple_of: 1024 };
        assert_eq!(
            misaligned.to_string(),
            "an arena cannot begin at frame 0x100001: allowed are multiples of 0x400"
        );
        let too_high = HostError::PfnRange { base_pfn: Pfn::new(0xff_ffff_fc00), nr_pages: 0x401 };
        assert_eq!(
            too_high.to_string(),
            "an arena of 0x401 frames cannot begin at frame 0xfffffffc00: \
             its last frame may be at most 0xffffffffff"
        );
    }

    #[test]
    fn source_is_the_answer_of_the_system() {
        let error = HostError::AllowedCpus { os: Errno::INVAL.into() };
        let os = error.source().unwrap().downcast_ref::<OsError>().unwrap();
        assert_eq!(os.raw(), libc::EINVAL);
        assert_eq!(io::Error::from(*os).kind(), io::ErrorKind::InvalidInput);
        let length = HostError::ArenaLength { len_bytes: 1, multiple_of: 4096 };
        assert!(length.source().is_none());
    }
}
