//! Completions as the kernel writes them, and their checks.
//!
//! A length, a buffer's number and a tag come from outside: nothing is used before it is checked here,
//! in `books.rs` (whether the kernel has these buffers) or in `ring/connections.rs` (whether there is
//! such a connection).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use pagemill_host::os::OsError;

/// One completion, as it was read from the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawCompletion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Receive,
    Accept,
    Send,
    Cancel,
}

/// Names a request in its completions: its kind and a number of 56 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: RequestKind,
    pub(crate) number: u64,
}

/// Bits of a tag's number.
pub(crate) const TAG_BITS: u32 = 56;

impl Tag {
    pub(crate) fn to_raw(self) -> u64 {
        let kind = match self.kind {
            RequestKind::Receive => 1,
            RequestKind::Accept => 2,
            RequestKind::Send => 3,
            RequestKind::Cancel => 4,
        };
        (kind << TAG_BITS) | (self.number & NUMBER_MASK)
    }

    /// Returns the tag; `None` for a word that no tag has.
    pub(crate) fn from_raw(raw: u64) -> Option<Self> {
        let kind = match raw >> TAG_BITS {
            1 => RequestKind::Receive,
            2 => RequestKind::Accept,
            3 => RequestKind::Send,
            4 => RequestKind::Cancel,
            _ => return None,
        };
        Some(Self { kind, number: raw & NUMBER_MASK })
    }
}

const NUMBER_MASK: u64 = (1 << TAG_BITS) - 1;

/// The kernel wrote a completion that no correct kernel writes; the ring stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// What was wrong.
    pub(crate) what: &'static str,
    /// The value.
    pub(crate) value: u64,
}

/// A completion of a receive request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// `len` bytes, in the buffers from `first` on, in the order of the ring.
    Bytes { first: u16, len: usize },
    /// The peer has ended the stream. The kernel may return one buffer without bytes.
    End { unused: Option<u16> },
    /// The request failed.
    Failed { error: OsError, unused: Option<u16> },
}

/// A buffer's number is in the upper half of the flags.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/io_uring.h` `IORING_CQE_F_BUFFER`, `IORING_CQE_F_MORE`
const F_BUFFER: u32 = 1;
const F_MORE: u32 = 2;
const BUFFER_SHIFT: u32 = 16;

impl RawCompletion {
    /// Returns whether the request has more completions.
    pub(crate) fn has_more(&self) -> bool {
        self.flags & F_MORE != 0
    }

    /// Returns the number of the first buffer, if the kernel used one.
    pub(crate) fn buffer(&self) -> Option<u16> {
        let number = u16::try_from(self.flags >> BUFFER_SHIFT).unwrap_or(u16::MAX);
        (self.flags & F_BUFFER != 0).then_some(number)
    }

    /// Returns the value or the error of a request that uses no buffers.
    pub(crate) fn value(&self) -> Result<u32, OsError> {
        u32::try_from(self.result).map_err(|_negative| OsError::from_raw(self.errno()))
    }

    /// Interprets the completion of a receive request.
    pub(crate) fn delivery(&self) -> Result<Delivery, Broken> {
        let unused = self.buffer();
        let len = match usize::try_from(self.result) {
            Ok(0) => return Ok(Delivery::End { unused }),
            Ok(len) => len,
            Err(_negative) => {
                let error = OsError::from_raw(self.errno());
                return Ok(Delivery::Failed { error, unused });
            }
        };
        match unused {
            Some(first) => Ok(Delivery::Bytes { first, len }),
            None => Err(Broken { what: "bytes without a buffer", value: len as u64 }),
        }
    }

    fn errno(&self) -> i32 {
        // An errno is at most 4095; `i32::MIN` is none.
        self.result.checked_neg().unwrap_or(libc::EIO).clamp(1, 4095)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(result: i32, flags: u32) -> RawCompletion {
        RawCompletion { user_data: 0, result, flags }
    }

    #[test]
    fn a_tag_survives_its_word() {
        for kind in
            [RequestKind::Receive, RequestKind::Accept, RequestKind::Send, RequestKind::Cancel]
        {
            for number in [0, 1, NUMBER_MASK] {
                let tag = Tag { kind, number };
                assert_eq!(Tag::from_raw(tag.to_raw()), Some(tag));
            }
        }
        assert_eq!(Tag::from_raw(0), None);
        assert_eq!(Tag::from_raw(5 << TAG_BITS), None);
        assert_eq!(Tag::from_raw(u64::MAX), None);
    }

    #[test]
    fn bytes_are_in_a_buffer() {
        let delivery = raw(8193, (7 << 16) | 1).delivery();
        assert_eq!(delivery, Ok(Delivery::Bytes { first: 7, len: 8193 }));
        assert!(raw(1, 7 << 16).delivery().is_err());
    }

    #[test]
    fn the_end_and_errors_may_return_a_buffer() {
        assert_eq!(raw(0, 0).delivery(), Ok(Delivery::End { unused: None }));
        assert_eq!(raw(0, 0x3_0001).delivery(), Ok(Delivery::End { unused: Some(3) }));
        let error = OsError::from_raw(libc::ENOBUFS);
        let failed = raw(-libc::ENOBUFS, 0).delivery();
        assert_eq!(failed, Ok(Delivery::Failed { error, unused: None }));
        assert!(matches!(raw(i32::MIN, 0).delivery(), Ok(Delivery::Failed { .. })));
    }
}
