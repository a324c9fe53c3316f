//! Validated names of network interfaces.

use core::fmt;
use core::str::FromStr;

/// The name of a network interface: 1 to 15 bytes without slash, colon or white space.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; MAX_LEN + 1]);

/// The name is not valid for an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidName {
    /// Its length in bytes.
    pub len_bytes: usize,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a name of {} bytes is no interface: 1 to 15 bytes are allowed, \
             without slash, colon or space",
            self.len_bytes
        )
    }
}

impl core::error::Error for InvalidName {}

/// Maximum length of a name in bytes.
const MAX_LEN: usize = 15;

impl Name {
    /// Makes a name of `text`.
    ///
    /// # Errors
    /// [`InvalidName`] if no interface can have this name.
    ///
    /// # Source
    /// `linux-6.12` `net/core/dev.c` `dev_valid_name`
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let forbidden = |byte: u8| matches!(byte, b'/' | b':' | 0) || byte.is_ascii_whitespace();
        let valid = (1..=MAX_LEN).contains(&text.len())
            && !matches!(text, "." | "..")
            && !text.bytes().any(forbidden);
        if !valid {
            return Err(InvalidName { len_bytes: text.len() });
        }
        let mut name = [0; MAX_LEN + 1];
        for (to, from) in name.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Ok(Self(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.as_bytes_with_nul();
        let text = bytes.get(..bytes.len() - 1).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }

    pub(crate) fn as_bytes_with_nul(&self) -> &[u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(MAX_LEN);
        self.0.get(..=len).unwrap_or_default()
    }

    pub(crate) fn as_array(&self) -> &[u8; MAX_LEN + 1] {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_kernel_has_them() {
        for good in ["a", "veth0", "enp3s0f1np1", "abcdefghijklmno", "bücher"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "abcdefghijklmnop", "a b", "a/b", "a:1", ".", "..", "a\0", "tab\t"] {
            let error = Name::new(bad).unwrap_err();
            assert_eq!(error, InvalidName { len_bytes: bad.len() }, "{bad:?}");
        }
    }
}
