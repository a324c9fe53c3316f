//! Directory entry name: one component of a path, never a path.

use core::ffi::CStr;
use core::fmt;

use crate::protocol::status::{NfsResult, NfsStatus};

/// Maximum number of bytes in a name, on every Linux file system.
pub const MAX_NAME_BYTES: usize = 255;

/// A name that can neither leave its directory nor be parsed as two: 1 to 255 bytes without `/` and
/// zero bytes.
///
/// `.` and `..` are valid names; the caller decides what they mean.
#[derive(Clone)]
pub struct Name {
    /// The bytes, followed by at least one zero byte.
    bytes: [u8; MAX_NAME_BYTES + 1],
    len: u8,
}

impl Name {
    /// Checks a name from a client.
    ///
    /// # Errors
    /// [`Nametoolong`](NfsStatus::Nametoolong), and [`Inval`](NfsStatus::Inval) for an invalid name.
    pub fn new(allegation: &[u8]) -> NfsResult<Self> {
        let len = u8::try_from(allegation.len()).map_err(|_too_long| NfsStatus::Nametoolong)?;
        if len == 0 || allegation.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(NfsStatus::Inval);
        }
        let mut bytes = [0; MAX_NAME_BYTES + 1];
        bytes[..allegation.len()].copy_from_slice(allegation);
        Ok(Self { bytes, len })
    }

    /// Returns the name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the name as a C string.
    ///
    /// # Panics
    /// Never: a zero byte follows every name.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).expect("a zero byte follows the name")
    }

    /// Returns whether this is `.` or `..`.
    #[must_use]
    pub fn is_dot(&self) -> bool {
        matches!(self.as_bytes(), b"." | b"..")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_component() {
        for good in [&b"a"[..], b".", b"..", b"...", b"\xff\x01", &[b'x'; 255]] {
            let name = Name::new(good).unwrap();
            assert_eq!(name.as_bytes(), good);
            assert_eq!(name.as_c_str().to_bytes(), good);
        }
        for bad in [&b""[..], b"/", b"a/b", b"../b", b"a\0", b"\0"] {
            assert_eq!(Name::new(bad).unwrap_err(), NfsStatus::Inval);
        }
        assert_eq!(Name::new(&[b'x'; 256]).unwrap_err(), NfsStatus::Nametoolong);
        assert!(Name::new(b"..").unwrap().is_dot() && !Name::new(b"..a").unwrap().is_dot());
    }
}
