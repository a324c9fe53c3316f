//! What a file imports from its own crate, read from its tokens.

use std::collections::BTreeMap;

use crate::tokens::Token;

/// The name of an import that takes everything from a module.
pub(crate) const GLOB: &str = "*";

/// A path into the crate, from its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import<'a> {
    pub(crate) line: usize,
    /// The names from the crate root on; [`GLOB`] at the end for all of a module.
    pub(crate) parts: Vec<&'a str>,
}

/// Returns what `tokens`, the file of the module at `module`, names from the rest of its crate.
///
/// Paths that begin with `crate` or `super` count, whether they stand in a `use` or in an
/// expression. A call of an exported macro does not: `$crate::name!` has no module.
pub(crate) fn crate_imports<'a>(tokens: &[Token<'a>], module: &[&'a str]) -> Vec<Import<'a>> {
    let mut imports = Vec::new();
    // The depths in braces at which inline modules opened: `super` climbs out of them first.
    let mut inline = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
        match token.text {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    inline.push(depth);
                }
            }
            "}" => {
                inline.retain(|opened| *opened != depth);
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        let continues = at > 0 && text(at - 1) == "::";
        let is_macro = at > 0 && text(at - 1) == "$" && text(at + 3) == "!";
        if token.in_test || continues || is_macro || text(at + 1) != "::" {
            continue;
        }
        let (from, leaves) = match token.text {
            "crate" => (&module[..0], use_tree(tokens, at + 2)),
            "super" => {
                let climbs = (at..).step_by(2).take_while(|index| text(*index) == "super").count();
                // A path that stays in this file, or one that the compiler refuses.
                let Some(kept) = (module.len() + inline.len()).checked_sub(climbs) else {
                    continue;
                };
                if kept >= module.len() {
                    continue;
                }
                (&module[..kept], use_tree(tokens, at + 2 * climbs))
            }
            _ => continue,
        };
        imports.extend(leaves.into_iter().filter_map(|leaf| {
            let parts: Vec<_> = from.iter().copied().chain(leaf.parts).collect();
            let names_itself = parts.first().is_none_or(|name| *name == "self");
            (!names_itself).then_some(Import { line: leaf.line, parts })
        }));
    }
    imports
}

/// Returns for each name that the module at `module` re-exports from its children, or from
/// elsewhere in the crate, the path that it stands for. Names of inline modules come with the path of
/// these.
pub(crate) fn reexports<'a>(
    tokens: &[Token<'a>],
    module: &[&'a str],
    is_child: impl Fn(&str) -> bool,
) -> BTreeMap<Vec<&'a str>, Vec<&'a str>> {
    let mut origins = BTreeMap::new();
    // The inline modules around a token, each with the depth in braces at which it opened.
    let mut inline: Vec<(usize, &str)> = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
        match token.text {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    inline.push((depth, text(at - 1)));
                }
            }
            "}" => {
                inline.retain(|(opened, _)| *opened != depth);
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        if token.text != "use" || token.in_test {
            continue;
        }
        let inside: Vec<_> = inline.iter().map(|(_, name)| *name).collect();
        let here: Vec<_> = module.iter().chain(&inside).copied().collect();
        let (from, start) = match (text(at + 1), text(at + 2)) {
            ("crate", "::") => (&module[..0], at + 3),
            ("self", "::") => (here.as_slice(), at + 3),
            _ => (here.as_slice(), at + 1),
        };
        for leaf in use_tree(tokens, start) {
            let is_of_crate = start == at + 3 || leaf.parts.first().is_some_and(|n| is_child(n));
            if is_of_crate {
                let name = inside.iter().copied().chain([leaf.name]).collect();
                origins.insert(name, from.iter().copied().chain(leaf.parts).collect());
            }
        }
    }
    origins
}

/// Returns the modules in files of their own that only a test build has.
pub(crate) fn test_modules<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    tokens
        .windows(3)
        .filter(|window| window[0].in_test && window[0].text == "mod" && window[2].text == ";")
        .map(|window| window[1].text)
        .collect()
}

/// One path out of a tree of paths such as `a::{b, c as d}`.
struct Leaf<'a> {
    line: usize,
    parts: Vec<&'a str>,
    /// What the path is called where the tree stands.
    name: &'a str,
}

/// Returns the paths of the tree that begins at `at`.
fn use_tree<'a>(tokens: &[Token<'a>], at: usize) -> Vec<Leaf<'a>> {
    let mut leaves = Vec::new();
    take_tree(tokens, at, &[], &mut leaves);
    leaves
}

/// Appends the paths of the tree at `at` to `leaves` and returns the index after the tree.
fn take_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    leaves: &mut Vec<Leaf<'a>>,
) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
    if text(at) == "{" {
        at += 1;
        while !matches!(text(at), "}" | "") {
            at = if text(at) == "," { at + 1 } else { take_tree(tokens, at, prefix, leaves) };
        }
        return at + 1;
    }
    let mut parts = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        let is_word = token.text.starts_with(|c: char| c == '_' || c.is_alphanumeric());
        if is_word || token.text == "*" {
            parts.push(token.text);
        }
        at += 1;
        if !is_word || text(at) != "::" {
            break;
        }
        at += 1;
        if text(at) == "{" {
            return take_tree(tokens, at, &parts, leaves);
        }
    }
    let mut name = parts.last().copied().unwrap_or_default();
    if text(at) == "as" {
        name = text(at + 1);
        at += 2;
    }
    leaves.push(Leaf { line, parts, name });
    at
}
