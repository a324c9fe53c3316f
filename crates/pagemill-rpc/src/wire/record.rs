//! Record marking: where calls begin and end in a stream of bytes.
//!
//! # Source
//! `rfc5531` section 11

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use core::fmt;

/// Bytes in front of each fragment.
pub const MARK_BYTES: usize = 4;
/// The largest number that a mark can hold.
pub const MAX_FRAGMENT_BYTES: usize = 0x7fff_ffff;
/// Most fragments of one record: a client with the smallest buffers in use, of 400 bytes, gets
/// 1.6 MB across.
pub const MAX_NR_FRAGMENTS: u32 = 4096;
/// Most fragments without a byte in one record. They do no work, so more of them are no client's.
pub const MAX_NR_EMPTY_FRAGMENTS: u32 = 64;

const LAST_FRAGMENT: u32 = 0x8000_0000;

/// Why a stream is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// The record would be longer than is accepted.
    TooLong {
        /// Bytes that the record would have.
        len: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// The record has too many fragments.
    TooManyFragments,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => {
                write!(f, "a record has {len} bytes or more; at most {max} are accepted")
            }
            Self::TooManyFragments => write!(
                f,
                "a record has more than {MAX_NR_FRAGMENTS} fragments, or more than \
                 {MAX_NR_EMPTY_FRAGMENTS} empty ones"
            ),
        }
    }
}

impl core::error::Error for RecordError {}

/// What the stream's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// As many bytes of a mark.
    Mark(usize),
    /// As many bytes of the record.
    Data(usize),
    /// Bytes of another record: this one is complete.
    Nothing,
}

/// Follows one record through its fragments; holds none of its bytes.
#[derive(Clone, Debug)]
pub struct RecordReader {
    max_bytes: usize,
    /// Bytes of the record that have come.
    len: usize,
    /// Bytes that the fragment still has.
    left: usize,
    mark: u32,
    mark_bytes: usize,
    nr_fragments: u32,
    nr_empty: u32,
    last: bool,
}

impl RecordReader {
    /// Expects a record of at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            len: 0,
            left: 0,
            mark: 0,
            mark_bytes: 0,
            nr_fragments: 0,
            nr_empty: 0,
            last: false,
        }
    }

    /// Expects the next record.
    pub fn restart(&mut self) {
        *self = Self::new(self.max_bytes);
    }

    /// Returns how many bytes of the record have come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether no byte of the record has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tells whether no byte has come, not even of the first mark.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.nr_fragments == 0 && self.mark_bytes == 0
    }

    /// Returns how many bytes the record is known to have: what came and what the fragment has.
    #[must_use]
    pub fn known_len(&self) -> usize {
        self.len.saturating_add(self.left)
    }

    /// Tells whether the record ends with the fragment that comes.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Returns what comes next.
    #[must_use]
    pub fn expect(&self) -> Expect {
        match (self.left, self.last) {
            (0, true) => Expect::Nothing,
            (0, false) => Expect::Mark(MARK_BYTES.saturating_sub(self.mark_bytes)),
            (left, _) => Expect::Data(left),
        }
    }

    /// Takes bytes of a mark from the front of `bytes`, and returns how many.
    ///
    /// # Errors
    /// [`RecordError`]: the stream cannot be read on.
    pub fn take_mark(&mut self, bytes: &[u8]) -> Result<usize, RecordError> {
        let Expect::Mark(missing) = self.expect() else { return Ok(0) };
        let nr = missing.min(bytes.len());
        for &byte in bytes.iter().take(nr) {
            self.mark = self.mark.wrapping_shl(8) | u32::from(byte);
        }
        self.mark_bytes = self.mark_bytes.saturating_add(nr);
        if self.mark_bytes == MARK_BYTES {
            self.begin_fragment()?;
        }
        Ok(nr)
    }

    /// Notes that `nr` bytes of the record came: at most what [`expect`](Self::expect) said.
    pub fn take_data(&mut self, nr: usize) {
        let nr = nr.min(self.left);
        self.left = self.left.saturating_sub(nr);
        self.len = self.len.saturating_add(nr);
    }

    /// Goes back to the end of a complete record of `len` bytes.
    pub(crate) fn recall(&mut self, len: usize) {
        self.restart();
        (self.len, self.last, self.nr_fragments) = (len, true, 1);
    }

    fn begin_fragment(&mut self) -> Result<(), RecordError> {
        self.last = self.mark & LAST_FRAGMENT != 0;
        // Never more than 31 bits, so it fits.
        self.left = usize::try_from(self.mark & !LAST_FRAGMENT).unwrap_or(usize::MAX);
        (self.mark, self.mark_bytes) = (0, 0);
        self.nr_fragments = self.nr_fragments.saturating_add(1);
        self.nr_empty = self.nr_empty.saturating_add(u32::from(self.left == 0));
        let len = self.known_len();
        if len > self.max_bytes {
            return Err(RecordError::TooLong { len, max: self.max_bytes });
        }
        if self.nr_fragments > MAX_NR_FRAGMENTS || self.nr_empty > MAX_NR_EMPTY_FRAGMENTS {
            return Err(RecordError::TooManyFragments);
        }
        Ok(())
    }
}

/// Returns the mark of a record of `len_bytes` in one fragment.
///
/// # Panics
/// If the record is longer than [`MAX_FRAGMENT_BYTES`].
#[must_use]
pub fn mark_of(len_bytes: usize) -> [u8; MARK_BYTES] {
    let len = u32::try_from(len_bytes).ok().filter(|len| len & LAST_FRAGMENT == 0);
    (len.expect("a record of this server has less than 2 GiB") | LAST_FRAGMENT).to_be_bytes()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
