//! Unsafe code has few addresses, and ARCHITECTURE.md lists them.
//!
//! The fenced block ` ```unsafe-rooms ` names the packages that may hold unsafe code. The root of
//! every crate of every other package forbids it, and no other file has the word.

use crate::fences::fences;
use crate::layers::ARCHITECTURE;
use crate::packages::{owner, packages};
use crate::tokens::{Token, tokens};
use crate::tree::{Finding, Tree};

/// `#![forbid(unsafe_code)]` as tokens.
const FORBID: [&str; 8] = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];

/// Checks that unsafe code stands only in the packages that the document names.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let document = tree.text(ARCHITECTURE).unwrap_or_default();
    let Some((_, block)) = fences(document, "unsafe-rooms").into_iter().next() else {
        return vec![Finding::new(ARCHITECTURE, 1, "there is no block \"unsafe-rooms\"")];
    };
    let packages = packages(tree);
    let mut findings = Vec::new();
    for (line, _, room) in block.words() {
        if packages.iter().all(|package| package.name != room) {
            let rule = format!("`{room}` is an unsafe room and no package");
            findings.push(Finding::new(ARCHITECTURE, line, rule));
        }
    }
    for (path, text) in tree.texts("rs") {
        let package = owner(&packages, path);
        let name = package.map(|package| package.name.as_str());
        if block.words().any(|(_, _, room)| Some(room) == name) {
            continue;
        }
        let tokens = tokens(text);
        if package.is_some_and(|package| package.is_root(path)) && !forbids_unsafe(&tokens) {
            let rule = "the root of a crate that is no unsafe room needs #![forbid(unsafe_code)]";
            findings.push(Finding::new(path, 1, rule));
        }
        let named = name.unwrap_or("no package");
        findings.extend(tokens.iter().filter(|token| token.text == "unsafe").map(|token| {
            let rule = format!("unsafe code in `{named}`, which is no unsafe room");
            Finding::new(path, token.line, rule)
        }));
    }
    findings
}

fn forbids_unsafe(tokens: &[Token<'_>]) -> bool {
    tokens.windows(FORBID.len()).any(|window| window.iter().map(|token| token.text).eq(FORBID))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    fn tree() -> Tree {
        Tree::default()
            .with(ARCHITECTURE, "```unsafe-rooms\nroom\n```\n")
            .with("room/Cargo.toml", "[package]\nname = \"room\"\n")
            .with("room/src/lib.rs", "unsafe fn a() {}\n")
            .with("safe/Cargo.toml", "[package]\nname = \"safe\"\n")
            .with("safe/src/lib.rs", "//! No unsafe.\n#![forbid(unsafe_code)]\n")
            .with("safe/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";\n")
    }

    #[test]
    fn unsafe_code_in_a_room_passes() {
        assert_eq!(lines(&check(&tree())), [""; 0]);
    }

    #[test]
    fn unsafe_code_outside_is_reported_even_in_tests() {
        let tree = tree()
            .with("safe/src/a.rs", "fn a() {\n    unsafe { b() }\n}\n")
            .with("safe/tests/t.rs", "unsafe impl Send for A {}\n")
            .with("stray.rs", "unsafe fn a() {}\n");
        assert_eq!(
            lines(&check(&tree)),
            [
                "safe/src/a.rs:2: unsafe code in `safe`, which is no unsafe room",
                "safe/tests/t.rs:1: unsafe code in `safe`, which is no unsafe room",
                "stray.rs:1: unsafe code in `no package`, which is no unsafe room"
            ]
        );
    }

    #[test]
    fn a_root_that_does_not_forbid_is_reported() {
        let tree = tree()
            .with("safe/src/lib.rs", "//! #![forbid(unsafe_code)]\n#![deny(unsafe_code)]\n")
            .with("safe/src/bin/b.rs", "fn main() {}\n");
        let rule = "1: the root of a crate that is no unsafe room needs #![forbid(unsafe_code)]";
        let expected =
            ["safe/src/bin/b.rs", "safe/src/lib.rs"].map(|file| format!("{file}:{rule}"));
        assert_eq!(lines(&check(&tree)), expected);
    }

    #[test]
    fn a_room_must_exist_and_so_must_the_block() {
        let document = "```unsafe-rooms\nroom\nattic\n```\n";
        assert_eq!(
            lines(&check(&tree().with(ARCHITECTURE, document))),
            ["ARCHITECTURE.md:3: `attic` is an unsafe room and no package"]
        );
        assert_eq!(
            lines(&check(&tree().with(ARCHITECTURE, ""))),
            ["ARCHITECTURE.md:1: there is no block \"unsafe-rooms\""]
        );
    }
}
