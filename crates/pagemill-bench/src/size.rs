//! Memory sizes as people write them: `64M`, `1GiB`, `4096`.

use core::fmt;
use core::str::FromStr;

use pagemill::units::PAGE_SIZE;

/// A number of bytes that is a multiple of the page size, and not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// Makes the size of existing memory.
    pub const fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of pages.
    pub const fn nr_pages(self) -> u64 {
        self.0 / PAGE_SIZE as u64
    }
}

/// The units, each 1024 times the previous one.
const UNITS: [&str; 4] = ["K", "M", "G", "T"];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unreadable = || {
            format!("'{text}' is not a size: write a number and K, M, G or T, such as 64M or 1G")
        };
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let count: u64 = digits.parse().map_err(|_not_a_number| unreadable())?;
        let bytes = count.checked_mul(factor(unit).ok_or_else(unreadable)?);
        match bytes {
            None => Err(format!("{text} does not fit into 64 bits: use a smaller size")),
            Some(0) => Err("a size of 0 has no pages: use 64M or 1G".to_owned()),
            Some(bytes) if !bytes.is_multiple_of(PAGE_SIZE as u64) => Err(format!(
                "{text} is not a multiple of the page size, 4096 bytes: use one, such as 64M or 1G"
            )),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

/// Returns the bytes in a unit: none, one letter, or the letter and `iB`; case does not matter.
fn factor(unit: &str) -> Option<u64> {
    if unit.is_empty() {
        return Some(1);
    }
    let unit = unit.to_ascii_uppercase();
    let letter = unit.strip_suffix("IB").unwrap_or(&unit);
    let position = UNITS.iter().position(|known| *known == letter)?;
    Some((0..=position).fold(1, |bytes, _| bytes * 1024))
}

impl fmt::Display for Size {
    /// Writes the size in the largest unit that shows it exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut count = self.0 / 1024;
        let mut unit = UNITS[0];
        for larger in &UNITS[1..] {
            if !count.is_multiple_of(1024) {
                break;
            }
            count /= 1024;
            unit = larger;
        }
        write!(f, "{count} {unit}iB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_size_is_read() {
        let bytes = |text: &str| text.parse::<Size>().unwrap().bytes();
        assert_eq!(bytes("4096"), 4096);
        assert_eq!(bytes("4K"), 4096);
        assert_eq!(bytes("64M"), 64 << 20);
        assert_eq!(bytes("64MiB"), 64 << 20);
        assert_eq!(bytes("1g"), 1 << 30);
        assert_eq!(bytes("2TiB"), 2 << 40);
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        let refused = |text: &str| text.parse::<Size>().unwrap_err();
        assert!(refused("5").contains("multiple of the page size"));
        assert!(refused("0").contains("no pages"));
        assert!(refused("99999999999T").contains("64 bits"));
        for text in ["", "M", "1X", "-1M", "1 G", "1MB", "1.5G", "1iB", "1é"] {
            assert!(refused(text).contains("is not a size"), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_exact_unit() {
        let shown = |text: &str| text.parse::<Size>().unwrap().to_string();
        assert_eq!(shown("4096"), "4 KiB");
        assert_eq!(shown("1024M"), "1 GiB");
        assert_eq!(shown("1028K"), "1028 KiB");
        assert_eq!(shown("2048T"), "2048 TiB");
    }
}
