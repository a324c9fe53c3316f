//! Unsafe code has few addresses, and ARCHITECTURE.md lists them.
//!
//! The fenced block ` ```unsafe-rooms ` names the packages that may hold unsafe code, or
//! `package/module` for a package of which one module alone may. The root of every crate of every
//! other package forbids it, and no other file has the word; the root of a package with such a
//! module denies it, so that the module can say that it is the exception.

use crate::fences::fences;
use crate::layers::ARCHITECTURE;
use crate::packages::{owner, packages};
use crate::tokens::{Token, tokens};
use crate::tree::{Finding, Tree};

/// Returns `#![level(unsafe_code)]` as tokens.
const fn attribute(level: &'static str) -> [&'static str; 8] {
    ["#", "!", "[", level, "(", "unsafe_code", ")", "]"]
}

/// Checks that unsafe code stands only in the packages that the document names.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let document = tree.text(ARCHITECTURE).unwrap_or_default();
    let Some((_, block)) = fences(document, "unsafe-rooms").into_iter().next() else {
        return vec![Finding::new(ARCHITECTURE, 1, "there is no block \"unsafe-rooms\"")];
    };
    let packages = packages(tree);
    let mut findings = Vec::new();
    let rooms: Vec<(&str, Option<&str>)> =
        block.words().map(|(_, _, room)| split_room(room)).collect();
    for (line, _, room) in block.words() {
        let (owner, _) = split_room(room);
        if packages.iter().all(|package| package.name != owner) {
            let rule = format!("`{room}` is an unsafe room and no package");
            findings.push(Finding::new(ARCHITECTURE, line, rule));
        }
    }
    for (path, text) in tree.texts("rs") {
        let package = owner(&packages, path);
        let name = package.map(|package| package.name.as_str());
        let mut of_package = rooms.iter().filter(|(owner, _)| Some(*owner) == name);
        let has_rooms = of_package.clone().next().is_some();
        let in_room = |module: &str| {
            let folder = package.map_or("", |package| &package.folder);
            let inside = path.strip_prefix(folder).and_then(|path| path.strip_prefix("src/"));
            inside
                .and_then(|path| path.strip_prefix(module))
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if of_package.any(|(_, module)| module.is_none_or(in_room)) {
            continue;
        }
        let tokens = tokens(text);
        if package.is_some_and(|package| package.is_root(path)) {
            let level = if has_rooms { "deny" } else { "forbid" };
            if !has_attribute(&tokens, level) {
                let kind = if has_rooms { "has one" } else { "is no" };
                let rule = format!(
                    "the root of a crate that {kind} unsafe room needs #![{level}(unsafe_code)]"
                );
                findings.push(Finding::new(path, 1, rule));
            }
        }
        let named = name.unwrap_or("no package");
        findings.extend(tokens.iter().filter(|token| token.text == "unsafe").map(|token| {
            let rule = format!("unsafe code in `{named}`, which is no unsafe room");
            Finding::new(path, token.line, rule)
        }));
    }
    findings
}

fn has_attribute(tokens: &[Token<'_>], level: &'static str) -> bool {
    let wanted = attribute(level);
    tokens.windows(wanted.len()).any(|window| window.iter().map(|token| token.text).eq(wanted))
}

/// Splits `package/module`.
fn split_room(room: &str) -> (&str, Option<&str>) {
    match room.split_once('/') {
        Some((package, module)) => (package, Some(module)),
        None => (room, None),
    }
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
    fn a_room_may_be_one_module() {
        let document = "```unsafe-rooms\nroom\nsafe/rim\n```\n";
        let tree = tree()
            .with(ARCHITECTURE, document)
            .with("safe/src/rim.rs", "unsafe fn a() {}\n")
            .with("safe/src/rim/deep.rs", "unsafe fn a() {}\n")
            .with("safe/src/rimless.rs", "unsafe fn a() {}\n")
            .with("safe/tests/rim.rs", "unsafe fn a() {}\n");
        let root = "the root of a crate that has one unsafe room needs #![deny(unsafe_code)]";
        let unsafe_code = "unsafe code in `safe`, which is no unsafe room";
        assert_eq!(
            lines(&check(&tree)),
            [
                format!("safe/src/lib.rs:1: {root}"),
                format!("safe/src/rimless.rs:1: {unsafe_code}"),
                format!("safe/tests/rim.rs:1: {unsafe_code}")
            ]
        );
        let tree = tree
            .with("safe/src/lib.rs", "//! Some.\n#![deny(unsafe_code)]\n")
            .with("safe/src/rimless.rs", "")
            .with("safe/tests/rim.rs", "");
        assert_eq!(lines(&check(&tree)), [""; 0]);
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
