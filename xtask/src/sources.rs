//! What a doc comment says about its origin can be looked up.
//!
//! The text under a `# Source` heading of a doc comment begins with a key of docs/SOURCES.md, and
//! so does each point of a list there. A kernel version, a revision of the series or an RFC that
//! is named further on must have its key too.

use std::collections::BTreeSet;

use crate::tree::{Finding, Tree};

/// The document whose table has the keys in its first column.
pub const SOURCES: &str = "docs/SOURCES.md";

/// Checks the `# Source` sections of all doc comments.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let keys = keys(tree.text(SOURCES).unwrap_or_default());
    if keys.is_empty() {
        return vec![Finding::new(SOURCES, 1, "there is no table of keys")];
    }
    let mut findings = Vec::new();
    for (path, text) in tree.texts("rs") {
        let mut section = Section::Elsewhere;
        for (line, number) in text.lines().zip(1..) {
            section = section.step(line);
            let Some(words) = section.words() else {
                continue;
            };
            let unknown = matches!(section, Section::Opens(_)) && !begins_with_key(words, &keys);
            if unknown {
                let rule =
                    format!("under # Source: `{words}` does not begin with a key of {SOURCES}");
                findings.push(Finding::new(path, number, rule));
            } else if let Some(name) = unknown_name(words, &keys) {
                let rule = format!("under # Source: `{name}` is no key of {SOURCES}");
                findings.push(Finding::new(path, number, rule));
            }
        }
    }
    findings
}

/// Where in a doc comment a line stands.
#[derive(Clone, Copy)]
enum Section<'a> {
    /// Not under `# Source`.
    Elsewhere,
    /// The heading itself, or an empty line after it.
    Heading,
    /// The first line under the heading, or the first of a point.
    Opens(&'a str),
    /// Any other line.
    Continues(&'a str),
}

impl<'a> Section<'a> {
    /// Returns where `line` stands, the one before it standing at `self`.
    fn step(self, line: &'a str) -> Self {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            return Self::Elsewhere;
        };
        let doc = doc.trim();
        let point = doc.strip_prefix("- ").or_else(|| doc.strip_prefix("* "));
        match (self, doc) {
            (_, "# Source") => Self::Heading,
            (_, heading) if heading.starts_with("# ") => Self::Elsewhere,
            (Self::Elsewhere, _) => Self::Elsewhere,
            (Self::Heading, "") => Self::Heading,
            (Self::Heading, text) => Self::Opens(point.unwrap_or(text)),
            (_, text) => point.map_or(Self::Continues(text), Self::Opens),
        }
    }

    fn words(self) -> Option<&'a str> {
        match self {
            Self::Elsewhere | Self::Heading => None,
            Self::Opens(words) | Self::Continues(words) => Some(words),
        }
    }
}

/// The first column of the table, without the heading and the rule under it.
fn keys(document: &str) -> BTreeSet<&str> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .map(|cell| cell.trim().trim_matches('`'))
        .filter(|key| *key != "key" && !key.trim_matches([':', '-']).is_empty())
        .collect()
}

/// Whether the first words of `text`, with or without backticks, are a key.
fn begins_with_key(text: &str, keys: &BTreeSet<&str>) -> bool {
    let text = text.trim_start_matches(['`', '[']);
    keys.iter().any(|key| text.strip_prefix(key).is_some_and(|rest| !rest.starts_with(is_in_key)))
}

/// Finds a name in `text` that has the form of a key of the same family and is not one.
fn unknown_name(text: &str, keys: &BTreeSet<&str>) -> Option<String> {
    let words: Vec<_> = text.split(|c| !is_in_key(c)).filter(|word| !word.is_empty()).collect();
    for (at, word) in words.iter().enumerate() {
        let word = word.trim_end_matches('.');
        if word == "RFC"
            && let Some(number) = words.get(at + 1).map(|number| number.trim_end_matches('.'))
            && number.starts_with(|c: char| c.is_ascii_digit())
            && !keys.contains(format!("RFC {number}").as_str())
        {
            return Some(format!("RFC {number}"));
        }
        if let Some((family, version)) = word.split_once('-')
            && version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit())
            && keys.iter().any(|key| key.split_once('-').is_some_and(|(other, _)| other == family))
            && !keys.contains(word)
        {
            return Some(word.to_owned());
        }
    }
    None
}

fn is_in_key(c: char) -> bool {
    c.is_alphanumeric() || "-_.".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const TABLE: &str = "Keys.\n\n| key | what |\n| --- | :-- |\n| `linux-6.12` | a |\n\
        | `llfree` | b |\n| `RFC 5531` | c |\n";

    fn findings(text: &str) -> Vec<String> {
        lines(&check(&Tree::default().with(SOURCES, TABLE).with("a.rs", text)))
    }

    #[test]
    fn sections_with_known_keys_pass() {
        let text = "/// Fills.\n///\n/// # Source\n/// `linux-6.12` mm/page_alloc.c, order-0 pages of\n\
            /// RFC 5531, on linux-mm. Differs: no mask.\n/// # Errors\n/// linux-9.9\n\
            fn a() {}\n//! # Source\n//!\n//! - linux-6.12: a\n//! - `llfree` section 4\n";
        assert_eq!(findings(text), [""; 0]);
    }

    #[test]
    fn a_section_without_a_key_is_reported() {
        assert_eq!(
            findings("    /// # Source\n    /// The kernel.\n    /// linux-6.12\n"),
            ["a.rs:2: under # Source: `The kernel.` does not begin with a key of docs/SOURCES.md"]
        );
        assert_eq!(
            findings("/// # Source\n/// - llfree\n/// - linux-6.120\n").len(),
            1,
            "a key is a whole word"
        );
    }

    #[test]
    fn an_unknown_name_of_a_known_family_is_reported() {
        assert_eq!(
            findings("//! # Source\n//! llfree, after linux-6.13\n//! and `RFC 1813`.\n"),
            [
                "a.rs:2: under # Source: `linux-6.13` is no key of docs/SOURCES.md",
                "a.rs:3: under # Source: `RFC 1813` is no key of docs/SOURCES.md"
            ]
        );
    }

    #[test]
    fn a_missing_table_is_reported() {
        assert_eq!(
            lines(&check(&Tree::default())),
            ["docs/SOURCES.md:1: there is no table of keys"]
        );
    }
}
