//! Messages in memory of a fixed size.

use core::fmt::{self, Write};

/// A line of text in a buffer. What does not fit is left out.
pub(super) struct Line<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Line<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Appends text; a line break in it becomes a space.
    pub(super) fn push(&mut self, what: fmt::Arguments<'_>) {
        let _fits = self.write_fmt(what);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.buffer.len() - self.len;
        for (slot, byte) in self.buffer[self.len..].iter_mut().zip(text.bytes()) {
            *slot = if byte == b'\n' { b' ' } else { byte };
        }
        self.len += text.len().min(room);
        if text.len() <= room { Ok(()) } else { Err(fmt::Error) }
    }
}
