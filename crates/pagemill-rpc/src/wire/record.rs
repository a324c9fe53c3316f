//! Record marking: finds the boundaries of calls in a TCP byte stream.
//!
//! # Source
//! `rfc5531` section 11

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use core::fmt;

/// Bytes of the mark before each fragment.
pub const MARK_BYTES: usize = 4;
/// The largest length that a mark can hold.
pub const MAX_FRAGMENT_BYTES: usize = 0x7fff_ffff;
/// Maximum number of fragments of one record: a client with the smallest known buffers, of 400 bytes,
/// can send 1.6 MB.
pub const MAX_NR_FRAGMENTS: u32 = 4096;
/// Maximum number of empty fragments in one record. They carry no data, so no regular client sends
/// more.
pub const MAX_NR_EMPTY_FRAGMENTS: u32 = 64;

const LAST_FRAGMENT: u32 = 0x8000_0000;

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// The record would be longer than the limit.
    TooLong {
        /// Length of the record in bytes.
        len: usize,
        /// Maximum length in bytes.
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

/// What the next bytes of the stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// This many bytes of a mark.
    Mark(usize),
    /// This many bytes of the record.
    Data(usize),
    /// Bytes of another record: this one is complete.
    Nothing,
}

/// Follows one record through its fragments; does not store its bytes.
#[derive(Clone, Debug)]
pub struct RecordReader {
    max_bytes: usize,
    /// Bytes of the record that have arrived.
    len: usize,
    /// Bytes of the current fragment that have not arrived.
    left: usize,
    mark: u32,
    mark_bytes: usize,
    nr_fragments: u32,
    nr_empty: u32,
    last: bool,
}

impl RecordReader {
    /// Makes a reader for a record of up to `max_bytes`.
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

    /// Starts with the next record.
    pub fn restart(&mut self) {
        *self = Self::new(self.max_bytes);
    }

    /// Returns how many bytes of the record have arrived.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no byte of the record has arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether no byte has arrived, not even of the first mark.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.nr_fragments == 0 && self.mark_bytes == 0
    }

    /// Returns the known length of the record: the bytes that have arrived, and those the fragment
    /// lacks.
    #[must_use]
    pub fn known_len(&self) -> usize {
        self.len.saturating_add(self.left)
    }

    /// Returns whether the current fragment is the record's last.
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

    /// Takes bytes of a mark from the front of `bytes`, and returns how many it took.
    ///
    /// # Errors
    /// [`RecordError`]: the stream cannot be read any further.
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

    /// Records that `nr` bytes of the record arrived: at most the number from [`expect`](Self::expect).
    pub fn take_data(&mut self, nr: usize) {
        let nr = nr.min(self.left);
        self.left = self.left.saturating_sub(nr);
        self.len = self.len.saturating_add(nr);
    }

    /// Returns to the end of a complete record of `len` bytes.
    pub(crate) fn recall(&mut self, len: usize) {
        self.restart();
        (self.len, self.last, self.nr_fragments) = (len, true, 1);
    }

    fn begin_fragment(&mut self) -> Result<(), RecordError> {
        self.last = self.mark & LAST_FRAGMENT != 0;
        // At most 31 bits, so it fits.
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
