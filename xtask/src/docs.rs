//! Each source file says in its first line what it is for.

use crate::tree::{Finding, Tree};

/// Checks that every Rust file but `tests.rs` begins with `//!` and a sentence.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts("rs")
        .filter(|(path, _)| *path != "tests.rs" && !path.ends_with("/tests.rs"))
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("//! ").is_none_or(|words| words.trim().is_empty())
        })
        .map(|(path, _)| {
            Finding::new(path, 1, "the first line must be `//!` and what the file is for")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    #[test]
    fn a_file_that_does_not_introduce_itself_is_reported() {
        let tree = Tree::default()
            .with("a.rs", "//! Units.\n")
            .with("b.rs", "use x;\n//! Late.\n")
            .with("c.rs", "//!\n//! Late.\n")
            .with("d.rs", "")
            .with("d/tests.rs", "use super::*;\n");
        let rule = "1: the first line must be `//!` and what the file is for";
        let expected = ["b.rs", "c.rs", "d.rs"].map(|file| format!("{file}:{rule}"));
        assert_eq!(lines(&check(&tree)), expected);
    }
}
