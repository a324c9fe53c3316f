//! Text of a thread: its last error, or the message of its panic.
//!
//! In a buffer, not a `String`: a thread-local variable with a destructor cannot be used in destructors of a
//! thread or in atexit handlers, where C code may call this library.

use core::fmt::{self, Write};

/// Bytes of a text, with the zero at its end.
const SIZE: usize = 1024;

/// A text that is cut off if it is too long.
#[derive(Clone, Copy)]
pub(super) struct Text {
    /// Zeroes behind the text, at least one.
    bytes: [u8; SIZE],
    len: usize,
}

impl Text {
    pub(super) const EMPTY: Self = Self { bytes: [0; SIZE], len: 0 };

    pub(super) fn new(what: &dyn fmt::Display) -> Self {
        let mut text = Self::EMPTY;
        // It fails if the text is cut off.
        let _all = write!(text, "{what}");
        text
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).expect("it is made of strings")
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let nr = part.floor_char_boundary(SIZE - 1 - self.len);
        self.bytes[self.len..][..nr].copy_from_slice(&part.as_bytes()[..nr]);
        self.len += nr;
        if nr == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_off_between_characters() {
        let text = Text::new(&format_args!("{}{}", "x".repeat(SIZE - 2), "\u{e9}"));
        assert_eq!(text.as_str(), "x".repeat(SIZE - 2));
        assert_eq!(text.bytes[SIZE - 1], 0);
        assert_eq!(Text::new(&"two\nlines").as_str(), "two\nlines");
    }
}
