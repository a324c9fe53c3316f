//! Links between the documents lead somewhere.

use std::collections::BTreeSet;

use crate::tree::{Finding, Tree, has_extension};

/// Checks every link of every document that does not leave the project.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts("md") {
        for (line, content) in prose(text) {
            for target in targets(&content) {
                if let Some(rule) = broken(tree, path, target) {
                    findings.push(Finding::new(path, line, rule));
                }
            }
        }
    }
    findings
}

/// Says what is wrong with the link from the document at `path` to `target`, if anything is.
fn broken(tree: &Tree, path: &str, target: &str) -> Option<String> {
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    if elsewhere || target.is_empty() {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let resolved = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
    let Some(resolved) = resolved.filter(|resolved| tree.exists(resolved)) else {
        return Some(format!("the link to `{target}` leads nowhere"));
    };
    if anchor.is_empty() || !has_extension(&resolved, "md") {
        return None;
    }
    let headings = anchors(tree.text(&resolved).unwrap_or_default());
    (!headings.contains(anchor)).then(|| format!("`{resolved}` has no heading `#{anchor}`"))
}

/// The path of `file` as seen from the document at `from`; none if it leaves the tree.
fn resolve(from: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The lines of `text` outside of fenced blocks, numbered, with code between backticks left out.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut fenced = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then(|| (number, line.split('`').step_by(2).collect()))
    })
}

/// The targets of the links in one line: `[text](target)` and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let mut targets: Vec<_> = line
        .split("](")
        .skip(1)
        .filter_map(|after| after.split(')').next()?.split_whitespace().next())
        .collect();
    let definition = line.strip_prefix('[').and_then(|line| line.split_once("]: "));
    targets.extend(definition.and_then(|(_, target)| target.split_whitespace().next()));
    targets
}

/// The anchors of the headings of `text`, as GitHub spells them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            fenced ^= line.starts_with("```");
            !fenced && line.starts_with('#')
        })
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::default()
            .with("README.md", "# Top\n\n## The `bulk` engine: how\n```\n# No heading\n```\n")
            .with("docs/a.md", "")
            .with(path, text);
        lines(&check(&tree))
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[a](a.md) [b](../README.md#the-bulk-engine-how) [c](https://x.org/y) [d](../docs)\n\
            ```\n[e](gone.md)\n```\n`[f](gone.md)` [here](#t)\n# T\n[h]: ./a.md\n";
        assert_eq!(findings("docs/b.md", text), [""; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_reported() {
        assert_eq!(
            findings(
                "docs/b.md",
                "[a](README.md)\n[b]: gone.md\n[c](../../up.md)\n[d](../docs2/)\n"
            ),
            [
                "docs/b.md:1: the link to `README.md` leads nowhere",
                "docs/b.md:2: the link to `gone.md` leads nowhere",
                "docs/b.md:3: the link to `../../up.md` leads nowhere",
                "docs/b.md:4: the link to `../docs2/` leads nowhere"
            ]
        );
    }

    #[test]
    fn anchors_without_a_heading_are_reported() {
        assert_eq!(
            findings("docs/b.md", "[a](../README.md#no-heading) [b](#here)\n"),
            [
                "docs/b.md:1: `README.md` has no heading `#no-heading`",
                "docs/b.md:1: `docs/b.md` has no heading `#here`"
            ]
        );
    }
}
