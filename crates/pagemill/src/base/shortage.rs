//! Shortage: why a request was not served, or only in part.

/// Why a request was not served, or not in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// Every zone that the request may use would go below the request's watermark: the part of the
    /// zone's memory that is reserved for more urgent requests.
    Memory,
    /// The account, or one of its ancestors, is at its limit.
    Account,
    /// The request's stop callback returned true.
    Stopped,
    /// Fault injection made the request fail.
    Fault,
    /// The allocator is a copy that must not be used; see
    /// [`Platform::is_abandoned`](crate::Platform::is_abandoned).
    Abandoned,
}

impl core::fmt::Display for Shortage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Memory => {
                "no zone that the request admits has enough memory left above its reserve"
            }
            Self::Account => "the account, or one above it, is at its limit",
            Self::Stopped => "the request was stopped by its caller",
            Self::Fault => "a fault was injected",
            Self::Abandoned => {
                "this process was forked from the one that owns the allocator: make one of its own"
            }
        })
    }
}

impl core::error::Error for Shortage {}
