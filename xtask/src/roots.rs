//! The root of each crate shows the names that ARCHITECTURE.md lists, and no others.
//!
//! Each row of the fenced block ` ```crate-roots ` is a package and the names that its root exports.
//! Names in public modules are not listed.

use crate::fences::fences;
use crate::layers::ARCHITECTURE;
use crate::packages::packages;
use crate::tokens::{Token, tokens};
use crate::tree::{Finding, Tree};

/// Libraries under `crates/` that only tests import.
const FOR_TESTS: [&str; 1] = ["pagemill-testkit"];

/// Checks that each listed root exports the listed names, and that every library under `crates/` but
/// those for tests is listed.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let document = tree.text(ARCHITECTURE).unwrap_or_default();
    let Some((_, block)) = fences(document, "crate-roots").into_iter().next() else {
        return vec![Finding::new(ARCHITECTURE, 1, "there is no block \"crate-roots\"")];
    };
    let mut findings = Vec::new();
    let packages = packages(tree);
    for (line, row) in &block.rows {
        let (name, listed) = (row[0], &row[1..]);
        let path = packages
            .iter()
            .find(|package| package.name == name)
            .map(|package| format!("{}src/lib.rs", package.folder));
        let Some((path, root)) = path.and_then(|path| Some((tree.text(&path)?, path))) else {
            let rule = format!("`{name}` is listed and is no library");
            findings.push(Finding::new(ARCHITECTURE, *line, rule));
            continue;
        };
        let tokens = tokens(path);
        let exported = exports(&tokens);
        for &(at, export) in exported.iter().filter(|(_, export)| !listed.contains(export)) {
            let rule = format!("`{export}` is exported and not listed for `{name}`");
            findings.push(Finding::new(&root, at, rule));
        }
        for listed in listed.iter().filter(|word| !exported.iter().any(|(_, e)| e == *word)) {
            let rule = format!("`{listed}` is listed for `{name}` and not exported");
            findings.push(Finding::new(ARCHITECTURE, *line, rule));
        }
    }
    for package in packages.iter().filter(|package| package.folder.starts_with("crates/")) {
        let root = format!("{}src/lib.rs", package.folder);
        let name = package.name.as_str();
        let is_known =
            FOR_TESTS.contains(&name) || block.rows.iter().any(|(_, row)| row[0] == name);
        if tree.exists(&root) && !is_known {
            let rule = format!("the names at the root of `{}` are not listed", package.name);
            findings.push(Finding::new(&root, 1, rule));
        }
    }
    findings
}

/// Returns the last word of each path that `pub use` exports outside of any module, with its line.
fn exports<'a>(tokens: &'a [Token<'a>]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "pub" if depth == 0 && tokens.get(at + 1).is_some_and(|next| next.text == "use") => {
                let end = tokens[at..].iter().position(|token| token.text == ";");
                let end = end.map_or(tokens.len(), |len| at + len);
                let is_last = |at: &usize| {
                    matches!(tokens.get(at + 1).map(|t| t.text), Some("," | "}" | ";"))
                };
                let is_name = |at: &usize| tokens[*at].text.starts_with(char::is_alphabetic);
                found.extend(
                    (at..end)
                        .filter(|at| is_last(at) && is_name(at))
                        .map(|at| (tokens[at].line, tokens[at].text)),
                );
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const MANIFEST: &str = "[package]\nname = \"some\"\n";

    fn tree(list: &str, root: &str) -> Tree {
        Tree::default()
            .with("crates/some/Cargo.toml", MANIFEST)
            .with("crates/some/src/lib.rs", root)
            .with(ARCHITECTURE, &format!("```crate-roots\n{list}\n```\n"))
    }

    #[test]
    fn a_root_exports_what_is_listed() {
        let root = "mod a;\npub mod m {\n    pub use crate::a::Inner;\n}\n\
                    pub use a::{A, b::B};\n#[cfg(x)]\npub use a::C as D;\n";
        assert_eq!(check(&tree("some A B D", root)), []);
    }

    #[test]
    fn names_too_many_and_too_few_are_found() {
        let found = check(&tree("some A B", "pub use a::{A, C};\n"));
        assert_eq!(
            lines(&found),
            [
                "crates/some/src/lib.rs:1: `C` is exported and not listed for `some`",
                "ARCHITECTURE.md:2: `B` is listed for `some` and not exported",
            ]
        );
    }

    #[test]
    fn a_library_without_a_row_and_a_row_without_a_library_are_found() {
        let found = check(&tree("other A", "pub use a::A;\n"));
        assert_eq!(
            lines(&found),
            [
                "ARCHITECTURE.md:2: `other` is listed and is no library",
                "crates/some/src/lib.rs:1: the names at the root of `some` are not listed",
            ]
        );
    }
}
