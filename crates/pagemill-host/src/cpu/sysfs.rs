//! Parsers of `/sys` and `/proc` files that describe the machine.
//!
//! They return `None` for whatever is absent or not as expected: in a container or under another
//! kernel, these files may be missing. Nothing depends on them for safety.

use std::fs;

/// Reads the file at `path`, without the white space at its ends.
pub(crate) fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Returns the choice in brackets, as in `always [madvise] never`.
pub(crate) fn selected(choices: &str) -> Option<&str> {
    let (_, rest) = choices.split_once('[')?;
    let (choice, _) = rest.split_once(']')?;
    Some(choice)
}

/// Returns the value of the first line `key : value`.
pub(crate) fn field<'a>(lines: &'a str, key: &str) -> Option<&'a str> {
    lines.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// A list of CPUs as the kernel writes it, such as `0-3,8-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuList {
    /// Number of CPUs on the list.
    pub(crate) count: u32,
    /// Largest number on the list.
    pub(crate) highest: u32,
}

impl CpuList {
    /// Parses a list; returns `None` for an empty or invalid one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut list: Option<Self> = None;
        for range in text.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: u32 = first.parse().ok()?;
            let last: u32 = last.parse().ok()?;
            let count = last.checked_sub(first)?.checked_add(1)?;
            list = Some(match list {
                None => Self { count, highest: last },
                Some(so_far) => Self {
                    count: so_far.count.checked_add(count)?,
                    highest: so_far.highest.max(last),
                },
            });
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted_with_their_gaps() {
        let list = |count, highest| Some(CpuList { count, highest });
        assert_eq!(CpuList::parse("0\n"), list(1, 0));
        assert_eq!(CpuList::parse("0-1"), list(2, 1));
        assert_eq!(CpuList::parse("0-3,8-11"), list(8, 11));
        assert_eq!(CpuList::parse("4,0-1"), list(3, 4));
    }

    #[test]
    fn senseless_cpu_lists_are_refused() {
        for text in ["", "-", "3-1", "0-", "0,,1", "zero", "0-4294967295"] {
            assert_eq!(CpuList::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn selection_is_what_stands_in_brackets() {
        assert_eq!(selected("always [madvise] never"), Some("madvise"));
        assert_eq!(selected("always madvise never"), None);
        assert_eq!(selected("[always"), None);
    }

    #[test]
    fn field_is_found_by_its_whole_name() {
        let lines = "model\t\t: 17\nmodel name\t: AMD: EPYC\nno colon\n";
        assert_eq!(field(lines, "model name"), Some("AMD: EPYC"));
        assert_eq!(field(lines, "name"), None);
    }

    #[test]
    fn absent_file_is_none() {
        assert_eq!(read("/proc/self/no-such-file"), None);
    }
}
