//! A file has one noun and fits in a head: the limit on its length.

use std::collections::BTreeSet;

use crate::tokens::tokens;
use crate::tree::{Finding, Tree};

/// The most lines of code that a file may have.
///
/// A line counts if it holds code that is built outside of tests; comments, blank lines and the
/// inner lines of a string do not, so nobody saves on documentation.
pub const NR_LINES_MAX: usize = 600;

/// Files that were longer when the limit came, with the length they may not pass. It may only fall.
pub const RATCHET: &[(&str, usize)] = &[];

/// Checks the length of every Rust file against [`NR_LINES_MAX`] and `ratchet`.
#[must_use]
pub fn check(tree: &Tree, ratchet: &[(&str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("rs") {
        if path.split('/').any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let nr_lines = nr_code_lines(text);
        let excused = ratchet.iter().find(|(file, _)| *file == path);
        let limit = excused.map_or(NR_LINES_MAX, |(_, limit)| *limit);
        if nr_lines > limit {
            let rule = format!("{nr_lines} lines of code, at most {limit}: split it by its nouns");
            findings.push(Finding::new(path, 1, rule));
        } else if excused.is_some() && nr_lines < limit {
            let rule = format!("{nr_lines} lines of code: lower its limit in the ratchet");
            findings.push(Finding::new(path, 1, rule));
        }
    }
    for (path, _) in ratchet.iter().filter(|(path, _)| tree.file(path).is_none()) {
        findings.push(Finding::new(path, 1, "is in the ratchet and does not exist"));
    }
    findings
}

fn nr_code_lines(text: &str) -> usize {
    let tokens = tokens(text);
    tokens
        .iter()
        .filter(|token| !token.in_test)
        .map(|token| token.line)
        .collect::<BTreeSet<_>>()
        .len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    fn file(nr_lines: usize) -> String {
        "let a = 1;\n".repeat(nr_lines)
    }

    #[test]
    fn a_long_file_is_reported_and_a_full_one_is_not() {
        let tree = Tree::default().with("a.rs", &file(600)).with("b.rs", &file(601));
        assert_eq!(
            lines(&check(&tree, &[])),
            ["b.rs:1: 601 lines of code, at most 600: split it by its nouns"]
        );
    }

    #[test]
    fn comments_and_tests_do_not_count() {
        let text =
            format!("//! A.\n{}\n// b\n#[cfg(test)]\nmod tests {{\n{}}}\n", file(600), file(50));
        let tree = Tree::default().with("a.rs", &text).with("tests/model.rs", &file(900));
        assert_eq!(lines(&check(&tree, &[])), [""; 0]);
    }

    #[test]
    fn the_ratchet_only_falls() {
        let tree = Tree::default().with("a.rs", &file(700)).with("b.rs", &file(650));
        assert_eq!(
            lines(&check(&tree, &[("a.rs", 699), ("b.rs", 660), ("c.rs", 700)])),
            [
                "a.rs:1: 700 lines of code, at most 699: split it by its nouns",
                "b.rs:1: 650 lines of code: lower its limit in the ratchet",
                "c.rs:1: is in the ratchet and does not exist"
            ]
        );
    }
}
