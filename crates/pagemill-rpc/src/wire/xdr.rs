//! XDR: a reader over borrowed chunks of bytes, and writers that check their room.
//!
//! Nothing here allocates. Each length from the wire is checked against the caller's limit and the
//! bytes that have arrived before anything is read.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use core::fmt;
use core::iter;

use crate::wire::error::XdrError;

/// Bytes in chunks, such as those of a request in pages.
pub trait Chunks {
    /// Returns chunk `index`; `None` after the last.
    fn chunk(&self, index: usize) -> Option<&[u8]>;
}

/// No chunks.
impl Chunks for () {
    fn chunk(&self, _index: usize) -> Option<&[u8]> {
        None
    }
}

/// Reads XDR from the front of a byte sequence; values are copied or borrow from it.
///
/// It consists of a position and lengths, so a copy can be used to look ahead.
///
/// # Examples
/// ```
/// use pagemill_rpc::xdr::{XdrError, XdrReader};
///
/// let mut args = XdrReader::new(&[0, 0, 0, 7, 0, 0, 0, 3, b'a', b'b', b'c', 0]);
/// assert_eq!(args.u32()?, 7);
/// assert_eq!(args.opaque(255)?.contiguous(), Some(&b"abc"[..]));
/// assert!(args.is_empty());
/// # Ok::<(), XdrError>(())
/// ```
#[derive(Clone, Copy)]
pub struct XdrReader<'a> {
    /// The unread part of the current chunk.
    chunk: &'a [u8],
    rest: &'a dyn Chunks,
    /// Index of the chunk after `chunk`.
    next: usize,
    /// Bytes in later chunks that belong to the stream.
    rest_len: usize,
}

impl<'a> XdrReader<'a> {
    /// Reads from contiguous bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { chunk: bytes, rest: &(), next: 0, rest_len: 0 }
    }

    /// Reads the first `len_bytes` of `chunks`.
    ///
    /// If the chunks hold fewer bytes, so does the stream.
    #[must_use]
    pub fn over(chunks: &'a dyn Chunks, len_bytes: usize) -> Self {
        let mut reader = Self { chunk: &[], rest: chunks, next: 0, rest_len: len_bytes };
        reader.advance();
        reader
    }

    /// Returns how many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.chunk.len().saturating_add(self.rest_len)
    }

    /// Returns whether all bytes have been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Reads an unsigned word.
    ///
    /// # Errors
    /// [`XdrError::Truncated`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// Reads a signed word.
    ///
    /// # Errors
    /// [`XdrError::Truncated`].
    #[inline]
    pub fn i32(&mut self) -> Result<i32, XdrError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Reads an unsigned double word.
    ///
    /// # Errors
    /// [`XdrError::Truncated`].
    #[inline]
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// [`XdrError::BadBool`] for anything but 0 and 1, [`XdrError::Truncated`].
    #[inline]
    pub fn bool(&mut self) -> Result<bool, XdrError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(XdrError::BadBool { value }),
        }
    }

    /// Reads the length of an array or an opaque value of up to `max` elements.
    ///
    /// # Errors
    /// [`XdrError::TooLong`], [`XdrError::Truncated`].
    #[inline]
    pub fn length(&mut self, max: usize) -> Result<usize, XdrError> {
        let len = self.u32()?;
        usize::try_from(len).ok().filter(|&len| len <= max).ok_or(XdrError::TooLong { len, max })
    }

    /// Reads `N` bytes. `N` must be a multiple of 4, or the caller must also read the padding.
    ///
    /// # Errors
    /// [`XdrError::Truncated`].
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        if let Some((bytes, rest)) = self.chunk.split_first_chunk::<N>() {
            self.chunk = rest;
            return Ok(*bytes);
        }
        self.fixed_across()
    }

    /// Reads an opaque value of fixed length, and its padding.
    ///
    /// # Errors
    /// [`XdrError::Truncated`].
    pub fn fixed_bytes(&mut self, len: usize) -> Result<Bytes<'a>, XdrError> {
        let padded = len.checked_next_multiple_of(4).ok_or(XdrError::Truncated)?;
        if padded > self.remaining() {
            return Err(XdrError::Truncated);
        }
        let bytes = Bytes(self.first(len));
        self.skip(padded)?;
        Ok(bytes)
    }

    /// Reads an opaque value or a string of up to `max` bytes, and its padding.
    ///
    /// # Errors
    /// [`XdrError::TooLong`], [`XdrError::Truncated`].
    pub fn opaque(&mut self, max: usize) -> Result<Bytes<'a>, XdrError> {
        let len = self.length(max)?;
        self.fixed_bytes(len)
    }

    /// Reads an opaque value or a string into `room`, and returns the filled part.
    ///
    /// # Errors
    /// [`XdrError::TooLong`] if it has more bytes than `room`, [`XdrError::Truncated`].
    pub fn opaque_into<'b>(&mut self, room: &'b mut [u8]) -> Result<&'b mut [u8], XdrError> {
        let max = room.len();
        self.opaque(max)?.copy_to(room).ok_or(XdrError::Truncated)
    }

    /// Skips `len` bytes.
    ///
    /// # Errors
    /// [`XdrError::Truncated`]; nothing is skipped then.
    pub fn skip(&mut self, len: usize) -> Result<(), XdrError> {
        if len > self.remaining() {
            return Err(XdrError::Truncated);
        }
        let mut left = len;
        while left > 0 {
            if self.chunk.is_empty() && !self.advance() {
                return Err(XdrError::Truncated);
            }
            let step = left.min(self.chunk.len());
            self.chunk = self.chunk.get(step..).unwrap_or_default();
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    /// Takes up to `len` bytes, without padding.
    pub(crate) fn split(&mut self, len: usize) -> Bytes<'a> {
        let len = len.min(self.remaining());
        let bytes = Bytes(self.first(len));
        // Never more than are left.
        let _skipped = self.skip(len);
        bytes
    }

    /// Returns a reader of only the next `len` bytes, which must exist.
    fn first(&self, len: usize) -> Self {
        match self.chunk.get(..len) {
            Some(chunk) => Self { chunk, rest: &(), next: 0, rest_len: 0 },
            None => Self { rest_len: len.saturating_sub(self.chunk.len()), ..*self },
        }
    }

    #[cold]
    fn fixed_across<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        if N > self.remaining() {
            return Err(XdrError::Truncated);
        }
        let mut bytes = [0; N];
        self.first(N).copy_out(&mut bytes);
        self.skip(N)?;
        Ok(bytes)
    }

    fn copy_out(mut self, mut room: &mut [u8]) {
        while !room.is_empty() && (!self.chunk.is_empty() || self.advance()) {
            let step = room.len().min(self.chunk.len());
            let (Some((from, later)), Some((to, rest))) =
                (self.chunk.split_at_checked(step), room.split_at_mut_checked(step))
            else {
                return;
            };
            to.copy_from_slice(from);
            (self.chunk, room) = (later, rest);
        }
    }

    /// Advances to the next chunk that has bytes; returns false if there is none.
    fn advance(&mut self) -> bool {
        while self.rest_len > 0 {
            let Some(chunk) = self.rest.chunk(self.next) else {
                self.rest_len = 0;
                return false;
            };
            let chunk = chunk.get(..self.rest_len).unwrap_or(chunk);
            self.next = self.next.saturating_add(1);
            self.rest_len = self.rest_len.saturating_sub(chunk.len());
            self.chunk = chunk;
            if !chunk.is_empty() {
                return true;
            }
        }
        false
    }
}

impl fmt::Debug for XdrReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdrReader").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

/// An opaque value where it arrived, in one chunk or more.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(XdrReader<'a>);

impl<'a> Bytes<'a> {
    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.remaining()
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes if they are contiguous.
    #[must_use]
    pub fn contiguous(&self) -> Option<&'a [u8]> {
        (self.0.rest_len == 0).then_some(self.0.chunk)
    }

    /// Returns the slices, in order; none is empty.
    ///
    /// For a vectored write to a file: the bytes go to the file from where the network put them.
    pub fn slices(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = self.0;
        iter::from_fn(move || {
            if reader.chunk.is_empty() && !reader.advance() {
                return None;
            }
            Some(core::mem::take(&mut reader.chunk))
        })
    }

    /// Copies the bytes to the start of `room` and returns that part; `None` if they do not fit.
    #[must_use]
    pub fn copy_to<'b>(&self, room: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let room = room.get_mut(..self.len())?;
        self.0.copy_out(room);
        Some(room)
    }

    /// Returns an XDR reader of the bytes, for instance of a credential's body.
    #[must_use]
    pub fn reader(&self) -> XdrReader<'a> {
        self.0
    }
}

/// A destination for XDR.
pub trait XdrWrite {
    /// Appends bytes without padding.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`]; nothing is appended then.
    fn put(&mut self, bytes: &[u8]) -> Result<(), XdrError>;

    /// Appends an unsigned word.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`].
    #[inline]
    fn u32(&mut self, value: u32) -> Result<(), XdrError> {
        self.put(&value.to_be_bytes())
    }

    /// Appends an unsigned double word.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`].
    #[inline]
    fn u64(&mut self, value: u64) -> Result<(), XdrError> {
        self.put(&value.to_be_bytes())
    }

    /// Appends a boolean.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`].
    #[inline]
    fn bool(&mut self, value: bool) -> Result<(), XdrError> {
        self.u32(u32::from(value))
    }

    /// Appends bytes and the padding to a multiple of four.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`]; the bytes may have been appended without their padding.
    fn fixed_bytes(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        self.put(bytes)?;
        self.put(padding(bytes.len()))
    }

    /// Appends an opaque value or a string: its length, its bytes, their padding.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`]; a part of the value may have been appended.
    fn opaque(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        self.u32(u32::try_from(bytes.len()).map_err(|_| XdrError::NoRoom)?)?;
        self.fixed_bytes(bytes)
    }
}

/// Returns the padding after an opaque value of `len` bytes.
#[must_use]
pub fn padding(len: usize) -> &'static [u8] {
    const ZEROES: [u8; 3] = [0; 3];
    let nr = len.wrapping_neg() & 3;
    ZEROES.get(..nr).unwrap_or_default()
}

/// Writes XDR into a slice.
#[derive(Debug)]
pub struct SliceWriter<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl<'a> SliceWriter<'a> {
    /// Writes from the start of `room`.
    #[must_use]
    pub fn new(room: &'a mut [u8]) -> Self {
        Self { room, len: 0 }
    }

    /// Returns how many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl XdrWrite for SliceWriter<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        let end = self.len.checked_add(bytes.len()).ok_or(XdrError::NoRoom)?;
        self.room.get_mut(self.len..end).ok_or(XdrError::NoRoom)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

/// Appends without a limit, to build outgoing messages.
impl XdrWrite for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
