//! Error codes of C functions, and texts of errors in the words of the header.

use core::ffi::CStr;
use core::fmt;

use pagemill::Shortage;
use pagemill::contig::ContigError;
use pagemill::handles::{InvalidRawPage, PfnError};

/// The result of a C function that can fail: zero, or one of the header's `PAGEMILL_E` constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Code(pub(crate) i32);

impl Code {
    pub(crate) const OK: Self = Self(0);
    /// `PAGEMILL_ENOMEM`
    pub(crate) const NO_MEMORY: Self = Self(1);
    /// `PAGEMILL_EFRAGMENTED`
    pub(crate) const FRAGMENTED: Self = Self(2);
    /// `PAGEMILL_ESTOPPED`
    pub(crate) const STOPPED: Self = Self(3);
    /// `PAGEMILL_EFORKED`
    pub(crate) const FORKED: Self = Self(4);
    /// `PAGEMILL_ERANGE`
    pub(crate) const RANGE: Self = Self(5);
    /// `PAGEMILL_EBUSY`
    pub(crate) const BUSY: Self = Self(6);
    /// `PAGEMILL_ECONFIG`
    pub(crate) const CONFIG: Self = Self(7);
    /// `PAGEMILL_ESYSTEM`
    pub(crate) const SYSTEM: Self = Self(8);
    /// `PAGEMILL_ENOTRESERVED`
    #[cfg(not(feature = "host"))]
    pub(crate) const NOT_RESERVED: Self = Self(9);
    /// `PAGEMILL_ECORRUPT`
    #[cfg(not(feature = "host"))]
    pub(crate) const CORRUPT: Self = Self(10);

    /// Returns a sentence for people.
    pub(crate) const fn text(self) -> &'static CStr {
        match self {
            Self::OK => c"success",
            Self::NO_MEMORY => {
                c"no zone that the flags admit has enough free memory above its watermark"
            }
            Self::FRAGMENTED => c"enough pages are free, but not that many adjacent ones",
            Self::STOPPED => c"the stop callback ended the request",
            Self::FORKED => {
                c"the allocator belongs to the process that this one was forked from: create another"
            }
            Self::RANGE => c"no zone that the flags admit can ever have such a range",
            Self::BUSY => c"pages, pools or a request of the allocator, or pages of the pool, are still in use",
            Self::CONFIG if cfg!(feature = "host") => {
                c"the configuration is invalid: see pagemill_last_error"
            }
            Self::CONFIG => c"the configuration is invalid: see config.message",
            Self::SYSTEM => c"the operating system refused: see pagemill_last_error",
            #[cfg(not(feature = "host"))]
            Self::NOT_RESERVED => c"a frame of the range is not in the memory map, or is not reserved",
            #[cfg(not(feature = "host"))]
            Self::CORRUPT => c"the allocator's data contradict each other: see the message",
            _ => c"unknown error code",
        }
    }
}

/// What is wrong with an integer that is no page of the allocator.
pub(crate) struct WrongPage(pub(crate) InvalidRawPage);

impl fmt::Display for WrongPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            InvalidRawPage::NotLive { bits } => {
                write!(f, "page {bits:#x} is not a page: no function returns an integer below 2^63")
            }
            InvalidRawPage::OrderTooLarge { bits, order } => {
                write!(f, "page {bits:#x} is not a page: its order is {order}; allowed are 0 to 10")
            }
            InvalidRawPage::Misaligned { bits, pfn, order } => write!(
                f,
                "page {bits:#x} is not a page: a block of order {order} cannot begin at frame {pfn}"
            ),
            InvalidRawPage::NotInZone { bits, pfn } => write!(
                f,
                "page {bits:#x} is not of this allocator: frame {pfn} is not in the zone that the page names"
            ),
            InvalidRawPage::NoAccount { bits } => {
                write!(f, "page {bits:#x} is not of this allocator: it is charged to an account")
            }
            other => other.fmt(f),
        }?;
        f.write_str("; allowed are pages that the allocator returned")
    }
}

/// What is wrong with frames that are known by their numbers.
pub(crate) struct WrongFrames(pub(crate) PfnError);

impl fmt::Display for WrongFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PfnError::Reserved { pfn } => write!(
                f,
                "frame {pfn} is reserved; allowed are frames that pagemill_kernel_hand_in freed"
            ),
            other => other.fmt(f),
        }
    }
}

impl From<Shortage> for Code {
    fn from(shortage: Shortage) -> Self {
        match shortage {
            Shortage::Stopped => Self::STOPPED,
            Shortage::Abandoned => Self::FORKED,
            _ => Self::NO_MEMORY,
        }
    }
}

impl From<ContigError> for Code {
    fn from(error: ContigError) -> Self {
        match error {
            ContigError::Fragmented { .. } => Self::FRAGMENTED,
            ContigError::Short { short, .. } => short.into(),
            _ => Self::RANGE,
        }
    }
}
