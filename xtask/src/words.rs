//! Words that mean "not finished" and must not be committed.

use crate::tree::{Finding, Tree, has_extension};

/// The words; each is put together here, so that this file does not hold it.
const BANNED: [&str; 3] = [concat!("TO", "DO"), concat!("XX", "X"), concat!("db", "g!")];

/// Checks code, manifests and scripts, comments included; documents may speak about the words.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, file) in tree.iter() {
        let checked = ["rs", "toml", "sh"].iter().any(|extension| has_extension(path, extension));
        if !checked && path != ".ci/run" {
            continue;
        }
        for (line, number) in file.text.lines().zip(1..) {
            for word in BANNED.iter().filter(|word| holds_word(line, word)) {
                let rule = format!("{word}: finish it, or say FIXME and the number of the report");
                findings.push(Finding::new(path, number, rule));
            }
        }
    }
    findings
}

/// Whether `word` stands in `line` with no letter, digit or `_` on either side.
fn holds_word(line: &str, word: &str) -> bool {
    let is_inner = |c: char| c == '_' || c.is_alphanumeric();
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_inner) && !line[at + word.len()..].starts_with(is_inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    #[test]
    fn each_word_is_reported_wherever_it_stands() {
        let [later, marker, print] = BANNED;
        let tree = Tree::default()
            .with("a.rs", &format!("// {later}: later\nlet a = {print}(b);\n"))
            .with("ci/b.sh", &format!("# {marker}\n"))
            .with("c.md", later);
        let files: Vec<_> = lines(&check(&tree))
            .iter()
            .map(|line| line.splitn(3, ':').take(2).collect::<Vec<_>>().join(":"))
            .collect();
        assert_eq!(files, ["a.rs:1", "a.rs:2", "ci/b.sh:1"]);
    }

    #[test]
    fn longer_words_pass() {
        let [later, marker, _] = BANNED;
        let text = format!("mktemp a.{marker}{marker}\n{later}S my{later}\n");
        assert_eq!(lines(&check(&Tree::default().with("a.sh", &text))), [""; 0]);
    }
}
