//! Unsafe code lives in the modules that ARCHITECTURE.md lists, and nowhere else.
//!
//! The fenced block ` ```unsafe-modules ` has one entry per word: `package` for a package that may hold
//! unsafe code anywhere, `package/folder/module` for one module under `src` and what is below it,
//! `package/tests` for the test crates. The root of a crate without an entry forbids unsafe code, the
//! root of a crate with listed modules denies it, and each listed module is declared with
//! `#[expect(unsafe_code, reason = "...")]`. No other declaration has that attribute.

use crate::fences::fences;
use crate::layers::ARCHITECTURE;
use crate::packages::{Package, owner, packages};
use crate::tokens::{Token, tokens};
use crate::tree::{Finding, Tree};

/// One entry of the list.
struct Entry<'a> {
    line: usize,
    text: &'a str,
    package: &'a str,
    /// Path of the module below `src`, or of a folder beside it; empty for the whole package.
    module: &'a str,
}

/// Checks that unsafe code is found only in the listed modules, and that the list is right.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let document = tree.text(ARCHITECTURE).unwrap_or_default();
    let Some((_, block)) = fences(document, "unsafe-modules").into_iter().next() else {
        return vec![Finding::new(ARCHITECTURE, 1, "there is no block \"unsafe-modules\"")];
    };
    let entries: Vec<_> = block.words().map(|(line, _, text)| entry(line, text)).collect();
    let packages = packages(tree);
    let mut findings: Vec<_> =
        entries.iter().filter_map(|entry| check_entry(tree, &packages, entry)).collect();
    for (path, text) in tree.texts("rs") {
        let package = owner(&packages, path);
        let name = package.map_or("no package", |package| &package.name);
        let entries: Vec<_> = entries.iter().filter(|entry| entry.package == name).collect();
        if entries.iter().any(|entry| entry.module.is_empty()) {
            continue;
        }
        let inside = package.and_then(|package| path.strip_prefix(&package.folder)).unwrap_or(path);
        let tokens = tokens(text);
        if package.is_some_and(|package| package.is_root(path)) {
            let level = if entries.is_empty() { "forbid" } else { "deny" };
            if !has_level(&tokens, level) {
                let rule =
                    format!("the root of a crate of `{name}` needs #![{level}(unsafe_code)]");
                findings.push(Finding::new(path, 1, rule));
            }
        }
        for (line, module) in expectations(&tokens) {
            let module = child(inside, module);
            if entries.iter().all(|entry| !is_inside(&format!("{module}/"), entry.module)) {
                let rule = format!("`{name}/{module}` expects unsafe code and is not listed");
                findings.push(Finding::new(path, line, rule));
            }
        }
        if !entries.iter().any(|entry| is_inside(inside, entry.module)) {
            findings.extend(tokens.iter().filter(|token| token.text == "unsafe").map(|token| {
                Finding::new(
                    path,
                    token.line,
                    format!("unsafe code in an unlisted module of `{name}`"),
                )
            }));
        }
    }
    findings
}

/// Reports an entry whose package or module does not exist, or is declared without the expectation.
fn check_entry(tree: &Tree, packages: &[Package], entry: &Entry<'_>) -> Option<Finding> {
    let Entry { line, text, package, module } = *entry;
    let found = |rule: &str| Some(Finding::new(ARCHITECTURE, line, format!("`{text}` {rule}")));
    let Some(package) = packages.iter().find(|candidate| candidate.name == package) else {
        return found("is listed and there is no such package");
    };
    let folder = &package.folder;
    if module.is_empty() || tree.exists(&format!("{folder}{module}")) {
        return None;
    }
    let (parent, name) = module.rsplit_once('/').unwrap_or(("", module));
    let heads = match parent {
        "" => ["src/lib.rs".to_owned(), "src/main.rs".to_owned()],
        _ => [format!("src/{parent}/mod.rs"), format!("src/{parent}.rs")],
    };
    let mut heads = heads.iter().filter_map(|head| tree.text(&format!("{folder}{head}")));
    if heads.any(|head| expectations(&tokens(head)).any(|(_, module)| module == name)) {
        return None;
    }
    found("is listed, and no declaration of it expects unsafe code")
}

/// Returns the modules that are declared with `#[expect(unsafe_code, ..)]`, each with its line.
fn expectations<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = (usize, &'a str)> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    (0..tokens.len())
        .filter(move |&at| text(at) == "mod" && matches!(text(at + 2), ";" | "{"))
        .filter_map(move |at| {
            // Back over the attributes to the end of the item before.
            let start = (0..at).rev().find(|&before| matches!(text(before), ";" | "}" | "{"));
            let expects = |from: usize| text(from) == "expect" && text(from + 2) == "unsafe_code";
            (start.map_or(0, |start| start + 1)..at)
                .any(expects)
                .then(|| (tokens[at].line, text(at + 1)))
        })
}

/// Returns the path of the module `name` that the file at `path` declares.
fn child(path: &str, name: &str) -> String {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let folder = match path.rsplit_once('/') {
        _ if matches!(path, "lib.rs" | "main.rs") => "",
        Some((folder, "mod.rs")) => folder,
        _ => path.strip_suffix(".rs").unwrap_or(path),
    };
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Returns whether the file at `path` is the module `module`, or below it.
fn is_inside(path: &str, module: &str) -> bool {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn has_level(tokens: &[Token<'_>], level: &str) -> bool {
    let wanted = ["#", "!", "[", level, "(", "unsafe_code", ")", "]"];
    tokens.windows(wanted.len()).any(|window| window.iter().map(|token| token.text).eq(wanted))
}

fn entry(line: usize, text: &str) -> Entry<'_> {
    let (package, module) = text.split_once('/').unwrap_or((text, ""));
    Entry { line, text, package, module }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const DENY: &str = "//! Some.\n#![deny(unsafe_code)]\nmod folder;\n";
    const HEAD: &str =
        "#[expect(unsafe_code, reason = \"bytes\")]\npub(crate) mod deep;\nmod flat;\n";

    /// A package that may, one that must not, and one of which the module `folder/deep` may.
    fn tree() -> Tree {
        Tree::default()
            .with(ARCHITECTURE, "```unsafe-modules\nfree\nsome/folder/deep some/tests\n```\n")
            .with("free/Cargo.toml", "[package]\nname = \"free\"\n")
            .with("free/src/lib.rs", "unsafe fn a() {}\n")
            .with("safe/Cargo.toml", "[package]\nname = \"safe\"\n")
            .with("safe/src/lib.rs", "//! No unsafe.\n#![forbid(unsafe_code)]\n")
            .with("safe/src/a.rs", "// unsafe\nconst A: &str = \"unsafe\";\n")
            .with("some/Cargo.toml", "[package]\nname = \"some\"\n")
            .with("some/src/lib.rs", DENY)
            .with("some/src/folder/mod.rs", HEAD)
            .with("some/src/folder/deep.rs", "unsafe fn a() {}\n")
            .with("some/src/folder/deep/tests.rs", "unsafe fn a() {}\n")
            .with("some/tests/t.rs", "unsafe fn a() {}\n")
    }

    #[test]
    fn unsafe_code_in_listed_places_passes() {
        assert_eq!(lines(&check(&tree())), [""; 0]);
    }

    #[test]
    fn unsafe_code_elsewhere_is_reported_even_in_tests() {
        let tree = tree()
            .with("safe/src/a.rs", "fn a() {\n    unsafe { b() }\n}\n")
            .with("safe/tests/t.rs", "unsafe impl Send for A {}\n")
            .with("some/src/folder/deeper.rs", "unsafe fn a() {}\n")
            .with("some/src/folder/flat.rs", "unsafe fn a() {}\n")
            .with("some/examples/e.rs", "unsafe fn a() {}\n")
            .with("stray.rs", "unsafe fn a() {}\n");
        assert_eq!(
            lines(&check(&tree)),
            [
                "safe/src/a.rs:2: unsafe code in an unlisted module of `safe`",
                "safe/tests/t.rs:1: unsafe code in an unlisted module of `safe`",
                "some/examples/e.rs:1: unsafe code in an unlisted module of `some`",
                "some/src/folder/deeper.rs:1: unsafe code in an unlisted module of `some`",
                "some/src/folder/flat.rs:1: unsafe code in an unlisted module of `some`",
                "stray.rs:1: unsafe code in an unlisted module of `no package`",
            ]
        );
    }

    #[test]
    fn a_root_that_does_not_say_so_is_reported() {
        let tree = tree()
            .with("safe/src/lib.rs", "//! #![forbid(unsafe_code)]\n#![deny(unsafe_code)]\n")
            .with("safe/src/bin/b.rs", "fn main() {}\n")
            .with("some/src/lib.rs", "mod folder;\n");
        assert_eq!(
            lines(&check(&tree)),
            [
                "safe/src/bin/b.rs:1: the root of a crate of `safe` needs #![forbid(unsafe_code)]",
                "safe/src/lib.rs:1: the root of a crate of `safe` needs #![forbid(unsafe_code)]",
                "some/src/lib.rs:1: the root of a crate of `some` needs #![deny(unsafe_code)]",
            ]
        );
    }

    #[test]
    fn a_listed_module_without_the_expectation_is_reported() {
        let tree = tree().with("some/src/folder/mod.rs", "mod deep;\n");
        let missing = "`some/folder/deep` is listed, and no declaration of it expects unsafe code";
        assert_eq!(lines(&check(&tree)), [format!("ARCHITECTURE.md:3: {missing}")]);
    }

    #[test]
    fn an_expectation_that_is_not_listed_is_reported() {
        let head = format!("{HEAD}#[expect(unsafe_code, reason = \"more\")]\nmod more;\n");
        let tree = tree().with("some/src/folder/mod.rs", &head);
        let rule = "`some/folder/more` expects unsafe code and is not listed";
        assert_eq!(lines(&check(&tree)), [format!("some/src/folder/mod.rs:5: {rule}")]);
    }

    #[test]
    fn a_package_must_exist_and_so_must_the_block() {
        let document = "```unsafe-modules\nfree attic\nsome/folder/deep some/tests\n```\n";
        assert_eq!(
            lines(&check(&tree().with(ARCHITECTURE, document))),
            ["ARCHITECTURE.md:2: `attic` is listed and there is no such package"]
        );
        assert_eq!(
            lines(&check(&tree().with(ARCHITECTURE, ""))),
            ["ARCHITECTURE.md:1: there is no block \"unsafe-modules\""]
        );
    }
}
