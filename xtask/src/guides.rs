//! Each guide shows its whole program: the blocks of docs/guides equal the files of examples/guides.

use crate::tree::{Finding, Tree};

const GUIDES: &str = "docs/guides/";
const PROGRAMS: &str = "examples/guides/";

/// Checks that a block whose second info word is a path, such as `rust src/main.rs`, equals that file
/// of the guide's program, and that every file is shown, except tests, `.gitignore` and `Cargo.lock`.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("md") {
        let Some(name) = path.strip_prefix(GUIDES).and_then(|path| path.strip_suffix(".md")) else {
            continue;
        };
        for block in blocks(text) {
            let shown = format!("{PROGRAMS}{name}/{}", block.path);
            if let Some(rule) = difference(&shown, tree.text(&shown), &block.body) {
                findings.push(Finding::new(path, block.line, rule));
            }
        }
    }
    for (path, _) in tree.iter() {
        let Some((name, file)) = path.strip_prefix(PROGRAMS).and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        if matches!(file, ".gitignore" | "Cargo.lock") || file.starts_with("tests/") {
            continue;
        }
        let guide = format!("{GUIDES}{name}.md");
        if !blocks(tree.text(&guide).unwrap_or_default()).iter().any(|block| block.path == file) {
            findings.push(Finding::new(path, 1, format!("is not shown in {guide}")));
        }
    }
    findings
}

/// Says how a block differs from the file that it shows.
fn difference(path: &str, file: Option<&str>, body: &str) -> Option<String> {
    let Some(file) = file else {
        return Some(format!("shows {path}, which does not exist"));
    };
    if body == file {
        return None;
    }
    let same = file.lines().zip(body.lines()).take_while(|(one, other)| one == other).count();
    Some(format!("differs from {path}, from line {} of the file on", same + 1))
}

/// A block that shows a file.
struct Block<'a> {
    /// The line of its opening fence.
    line: usize,
    /// The file's path in its program.
    path: &'a str,
    body: String,
}

fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut lines = document.lines().zip(1..);
    while let Some((opening, line)) = lines.next() {
        let Some(info) = opening.strip_prefix("```") else {
            continue;
        };
        let body = lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```");
        let body = body.fold(String::new(), |body, line| body + line + "\n");
        if let Some(path) = info.split_whitespace().nth(1) {
            found.push(Block { line, path, body });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    fn good() -> Tree {
        Tree::default()
            .with("docs/guides/a.md", "# A\n\n```rust src/main.rs\na\n\nb\n```\n\n```sh\nls\n```\n")
            .with("examples/guides/a/src/main.rs", "a\n\nb\n")
            .with("examples/guides/a/tests/t.rs", "t\n")
            .with("examples/guides/a/.gitignore", "target\n")
            .with("docs/b.md", "```rust src/other.rs\n```\n")
    }

    #[test]
    fn a_guide_that_shows_its_program_passes() {
        assert_eq!(lines(&check(&good())), [""; 0]);
    }

    #[test]
    fn a_block_that_is_not_the_file_is_reported() {
        let tree = good().with("examples/guides/a/src/main.rs", "a\n\nc\n");
        let rule = "differs from examples/guides/a/src/main.rs, from line 3 of the file on";
        assert_eq!(lines(&check(&tree)), [format!("docs/guides/a.md:3: {rule}")]);
        let tree = good().with("examples/guides/a/src/main.rs", "a\n\nb\nc\n");
        let rule = "differs from examples/guides/a/src/main.rs, from line 4 of the file on";
        assert_eq!(lines(&check(&tree)), [format!("docs/guides/a.md:3: {rule}")]);
    }

    #[test]
    fn a_file_that_is_not_shown_and_a_block_without_a_file_are_reported() {
        let tree = good()
            .with("examples/guides/a/Cargo.toml", "x\n")
            .with("docs/guides/c.md", "```c main.c\n```\n");
        assert_eq!(
            lines(&check(&tree)),
            [
                "docs/guides/c.md:1: shows examples/guides/c/main.c, which does not exist",
                "examples/guides/a/Cargo.toml:1: is not shown in docs/guides/a.md",
            ]
        );
    }
}
