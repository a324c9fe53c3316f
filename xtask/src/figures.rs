//! Figures in documents that come from the budgets of `ci/instructions.sh`.
//!
//! A document marks such a figure with a comment before it: `<!-- budget: array 64 -->12.4`. The key is the
//! start of a row of the script's tables, and the figure must be the row's last number. A row of a
//! document's table that says "at most" and names the script as its command needs a mark.

use std::collections::BTreeMap;

use crate::tree::{Finding, Tree};

const SCRIPT: &str = "ci/instructions.sh";
const MARK: &str = "<!-- budget: ";

/// Checks every marked figure against its budget.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let budgets = budgets(tree.text(SCRIPT).unwrap_or_default());
    let mut findings = Vec::new();
    for (path, text) in tree.texts("md") {
        for (line, number) in text.lines().zip(1..) {
            let mut rest = line;
            let mut is_marked = false;
            while let Some((_, after)) = rest.split_once(MARK) {
                is_marked = true;
                let (key, after) = after.split_once(" -->").unwrap_or((after, ""));
                let figure: String = after
                    .chars()
                    .take_while(|sign| sign.is_ascii_digit() || *sign == '.')
                    .collect();
                let rule = match budgets.get(key) {
                    None => Some(format!("there is no budget `{key}` in {SCRIPT}")),
                    Some(budget) if *budget != figure.trim_end_matches('.') => Some(format!(
                        "`{figure}` is not the budget `{key}` of {SCRIPT}, which is {budget}"
                    )),
                    Some(_) => None,
                };
                findings.extend(rule.map(|rule| Finding::new(path, number, rule)));
                rest = after;
            }
            if !is_marked
                && line.starts_with("|")
                && line.contains("| at most ")
                && line.contains(&format!("| `{SCRIPT}` |"))
            {
                let rule = format!("a figure from {SCRIPT} without its mark `{MARK}.. -->`");
                findings.push(Finding::new(path, number, rule));
            }
        }
    }
    findings
}

/// Returns the last number of each row between `<<'TABLE'` and `TABLE`, by the name and, where that is a
/// number too, the pages in a call.
fn budgets(script: &str) -> BTreeMap<String, &str> {
    let mut budgets = BTreeMap::new();
    let mut is_table = false;
    for line in script.lines() {
        match line {
            "TABLE" => is_table = false,
            _ if line.ends_with("<<'TABLE'") => is_table = true,
            _ if is_table => {
                let words: Vec<_> = line.split_whitespace().collect();
                if let [name, second, .., budget] = words[..] {
                    let key = match second.parse::<u32>() {
                        Ok(nr_pages) => format!("{name} {nr_pages}"),
                        Err(_) => format!("pool {name}"),
                    };
                    budgets.insert(key, budget);
                }
            }
            _ => {}
        }
    }
    budgets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const TABLES: &str =
        "done <<'TABLE'\narray 64 1000 12.4\nTABLE\ndone <<'TABLE'\nfast none 15.25\nTABLE\n";

    fn found(document: &str) -> Vec<String> {
        lines(&check(&Tree::default().with(SCRIPT, TABLES).with("a.md", document)))
    }

    #[test]
    fn figures_that_equal_their_budgets_pass() {
        let text = "It takes <!-- budget: array 64 -->12.4.\n| x | <!-- budget: pool fast -->15.25 | `ci/instructions.sh` |\n";
        assert_eq!(found(text), [""; 0]);
    }

    #[test]
    fn a_figure_that_differs_is_reported_with_the_budget() {
        assert_eq!(
            found("\nIt takes <!-- budget: array 64 -->12.5 of them.\n"),
            ["a.md:2: `12.5` is not the budget `array 64` of ci/instructions.sh, which is 12.4"]
        );
    }

    #[test]
    fn a_key_without_a_row_and_a_row_without_a_mark_are_reported() {
        assert_eq!(
            found("<!-- budget: list 8 -->1\n| at most 3 | `ci/instructions.sh` | any |\n"),
            [
                "a.md:1: there is no budget `list 8` in ci/instructions.sh",
                "a.md:2: a figure from ci/instructions.sh without its mark `<!-- budget: .. -->`",
            ]
        );
    }
}
