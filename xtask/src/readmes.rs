//! Each published crate has a README whose example is compiled, and licences that travel with it.

use crate::packages::{Package, packages};
use crate::tree::{Finding, Tree};

/// The files that each published package has beside its manifest.
const FILES: &[&str] = &["README.md", "LICENSE-MIT", "LICENSE-APACHE"];
/// The line that makes a README the front page of a library, and its example a test.
const INCLUDE: &str = "#![doc = include_str!(\"../README.md\")]";

/// Checks the published packages and the examples of the tree's own README.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let packages = packages(tree);
    let published: Vec<_> = packages.iter().filter(|package| is_published(tree, package)).collect();
    let mut findings = Vec::new();
    for package in &published {
        for file in FILES.iter().filter(|file| !tree.exists(&format!("{}{file}", package.folder))) {
            let rule = format!("the package is published and has no {file}");
            findings.push(Finding::new(&package.manifest(), 1, rule));
        }
        let lib = format!("{}src/lib.rs", package.folder);
        if tree.text(&lib).is_some_and(|text| text.lines().all(|line| line != INCLUDE)) {
            findings.push(Finding::new(&lib, 1, format!("has no line `{INCLUDE}`")));
        }
    }
    let readmes: Vec<_> = published
        .iter()
        .filter_map(|package| tree.text(&format!("{}README.md", package.folder)))
        .collect();
    for (line, example) in examples(tree.text("README.md").unwrap_or_default()) {
        if !readmes.iter().any(|readme| readme.contains(&example)) {
            let rule = "the example is in no crate's README, where it would be compiled";
            findings.push(Finding::new("README.md", line, rule));
        }
    }
    findings
}

/// Whether a package is a product: a member of the workspace without `publish = false`.
fn is_published(tree: &Tree, package: &Package) -> bool {
    let manifest = tree.text(&package.manifest()).unwrap_or_default();
    package.member && manifest.lines().all(|line| line.trim() != "publish = false")
}

/// The blocks of Rust in a document, each with its fences and the line that it begins in.
fn examples(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = document.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if !line.starts_with("```") {
            continue;
        }
        let body = lines.by_ref().map(|(line, _)| line).take_while(|line| !line.starts_with("```"));
        let body = body.fold(String::new(), |body, line| body + line + "\n");
        if line.starts_with("```rust") {
            found.push((number, format!("{line}\n{body}```\n")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const EXAMPLE: &str = "# a\n\n```rust\nfn main() {}\n```\n";

    fn good() -> Tree {
        let lib = format!("//! A.\n{INCLUDE}\n");
        FILES
            .iter()
            .fold(Tree::default(), |tree, file| tree.with(&format!("crates/a/{file}"), EXAMPLE))
            .with("crates/a/Cargo.toml", "[package]\nname = \"a\"\n")
            .with("crates/a/src/lib.rs", &lib)
            .with("crates/kit/Cargo.toml", "[package]\nname = \"kit\"\npublish = false\n")
            .with("ci/p/Cargo.toml", "[package]\nname = \"p\"\n[workspace]\n")
            .with("README.md", &format!("{EXAMPLE}```console\nls\n```\n"))
    }

    #[test]
    fn complete_packages_pass() {
        assert_eq!(lines(&check(&good())), [""; 0]);
    }

    #[test]
    fn a_package_that_lacks_a_file_is_reported() {
        let tree = good().with("crates/kit/Cargo.toml", "[package]\nname = \"kit\"\n");
        let expected = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"].map(|file| {
            format!("crates/kit/Cargo.toml:1: the package is published and has no {file}")
        });
        assert_eq!(lines(&check(&tree)), expected);
    }

    #[test]
    fn a_front_page_of_its_own_and_an_example_that_is_compiled_nowhere_are_reported() {
        let tree = good()
            .with("crates/a/src/lib.rs", "//! A.\n")
            .with("README.md", "# a\n```rust\nfn main() {\n}\n```\n");
        assert_eq!(
            lines(&check(&tree)),
            [
                "crates/a/src/lib.rs:1: has no line `#![doc = include_str!(\"../README.md\")]`",
                "README.md:2: the example is in no crate's README, where it would be compiled"
            ]
        );
    }
}
