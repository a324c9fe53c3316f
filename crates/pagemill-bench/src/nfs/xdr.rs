//! Minimal XDR for the client: words, opaques, and the record around a call.

use anyhow::{Context as _, ensure};

/// Appends to a buffer, which is reused for the next calls.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// Appends an unsigned 32-bit number.
    pub fn word(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends an unsigned 64-bit number.
    pub fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends bytes, preceded by their length and padded with zeroes to a multiple of four.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        self.word(u32::try_from(bytes.len()).expect("a client's own texts are short"));
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(&[0; 3][..padding(bytes.len())]);
        self
    }
}

/// Reads words from the front of received data.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads an unsigned 32-bit number.
    ///
    /// # Errors
    /// If the message ends early.
    pub fn word(&mut self) -> anyhow::Result<u32> {
        let (word, rest) = self.0.split_first_chunk().context("a reply ends too early")?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    /// Reads an unsigned 64-bit number.
    ///
    /// # Errors
    /// If the message ends early.
    pub fn long(&mut self) -> anyhow::Result<u64> {
        let (high, low) = (self.word()?, self.word()?);
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    /// Reads bytes preceded by their length, at most `max`.
    ///
    /// # Errors
    /// If there are more, or the message ends early.
    pub fn opaque(&mut self, max: usize) -> anyhow::Result<&'a [u8]> {
        let len = usize::try_from(self.word()?)?;
        ensure!(len <= max, "a reply has {len} bytes where at most {max} are allowed");
        let bytes = self.skip(len)?;
        self.skip(padding(len))?;
        Ok(bytes)
    }

    /// Reads `len` bytes without interpreting them.
    ///
    /// # Errors
    /// If the message ends early.
    pub fn skip(&mut self, len: usize) -> anyhow::Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).context("a reply ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// Returns the length of the padding after `len` bytes.
pub const fn padding(len: usize) -> usize {
    len.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut bytes = Vec::new();
        Writer(&mut bytes).word(7).opaque(b"hello").long(1 << 40).opaque(b"");
        assert_eq!(bytes[..8], [0, 0, 0, 7, 0, 0, 0, 5]);
        assert_eq!(bytes.len() % 4, 0);
        let mut reader = Reader(&bytes);
        assert_eq!(reader.word().unwrap(), 7);
        assert_eq!(reader.opaque(5).unwrap(), b"hello");
        assert_eq!(reader.long().unwrap(), 1 << 40);
        assert_eq!(reader.opaque(0).unwrap(), b"");
        assert!(reader.word().is_err());
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        assert!(Reader(&[0xff; 8]).opaque(64).unwrap_err().to_string().contains("at most 64"));
        assert!(Reader(&[0, 0, 0, 5, 1, 2, 3, 4]).opaque(64).is_err());
        // The zeros are missing.
        assert!(Reader(&[0, 0, 0, 1, 1]).opaque(64).is_err());
    }
}
