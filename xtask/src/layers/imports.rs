//! What a file imports from its own crate, read from its tokens.

use std::collections::BTreeMap;

use crate::tokens::Token;

/// The name of an import that takes everything from the crate root.
pub(crate) const ROOT_GLOB: &str = "*";

/// A path into the crate, from its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import<'a> {
    pub(crate) line: usize,
    /// The first part, a module or a name of the root; [`ROOT_GLOB`] for all of it.
    pub(crate) name: &'a str,
    /// The parts as written, after `crate::`.
    pub(crate) path: String,
}

/// Returns what `tokens`, the file of the module at `module`, names from the rest of its crate.
///
/// Paths that begin with `crate` or that climb to the root with `super` count, whether they stand
/// in a `use` or in an expression.
pub(crate) fn crate_imports<'a>(tokens: &[Token<'a>], module: &[&str]) -> Vec<Import<'a>> {
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
        if token.in_test || continues || text(at + 1) != "::" {
            continue;
        }
        let leaves = match token.text {
            "crate" => use_tree(tokens, at + 2),
            "super" => {
                let climbs = (at..).step_by(2).take_while(|index| text(*index) == "super").count();
                if climbs != module.len() + inline.len() {
                    continue;
                }
                use_tree(tokens, at + 2 * climbs)
            }
            _ => continue,
        };
        imports.extend(leaves.into_iter().filter_map(|leaf| {
            let name = leaf.parts.first()?;
            (*name != "self").then(|| Import { line: leaf.line, name, path: leaf.parts.join("::") })
        }));
    }
    imports
}

/// Returns for each name that the crate root re-exports the module among `modules` it is from.
pub(crate) fn reexports<'a>(
    root: &[Token<'a>],
    modules: &BTreeMap<&str, String>,
) -> BTreeMap<&'a str, &'a str> {
    let mut origins = BTreeMap::new();
    for at in (0..root.len()).filter(|at| root[*at].text == "use") {
        let text = |index: usize| root.get(index).map_or("", |token| token.text);
        let from_root = matches!(text(at + 1), "crate" | "self") && text(at + 2) == "::";
        for leaf in use_tree(root, if from_root { at + 3 } else { at + 1 }) {
            if let Some(module) = leaf.parts.first().filter(|module| modules.contains_key(*module))
            {
                origins.insert(leaf.name, *module);
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
