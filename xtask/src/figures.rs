//! Figures in documents that come from a file: a budget of `ci/instructions.sh`, a recorded result, or
//! the table of the kernel guide.
//!
//! A document marks such a figure with a comment before it:
//! - `<!-- budget: array 64 -->12.4`: the key is the start of a row of the script's tables, and the figure
//!   must be the row's last number.
//! - `<!-- result: bulk.json rows[op=array,n=64].both_ns -->0.59`: the figure must be this value of
//!   `docs/results/bulk.json`, rounded to as many decimals.
//! - `<!-- kernel: array 64 -->12.88`: the figure must be in this column and row of the table of costs in
//!   `docs/kernel-guide.md`, which `ci/kernel.sh` compares with the image.
//!
//! Each row of a table with the columns `figure` (the second) and `commit` (the last) needs a mark, unless
//! a test is its command or its commit is followed by "by hand".

use std::collections::BTreeMap;

use crate::results::value_at;
use crate::tree::{Finding, Tree};

const SCRIPT: &str = "ci/instructions.sh";
const RESULTS: &str = "docs/results";
const GUIDE: &str = "docs/kernel-guide.md";
/// What a mark starts with, and the kinds of marks.
const MARK: &str = "<!-- ";
const BUDGET: &str = "budget: ";
const RESULT: &str = "result: ";
const KERNEL: &str = "kernel: ";

/// Checks every marked figure against its source, and every row of a table of figures for its mark.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let budgets = budgets(tree.text(SCRIPT).unwrap_or_default());
    let costs = kernel_costs(tree.text(GUIDE).unwrap_or_default());
    let mut findings = Vec::new();
    for (path, text) in tree.texts("md") {
        let mut is_figures = false;
        for (line, number) in text.lines().zip(1..) {
            let mut is_marked = false;
            for (mark, figure) in marks(line) {
                let wrong = if let Some(key) = mark.strip_prefix(BUDGET) {
                    against_budget(&budgets, key, figure)
                } else if let Some(source) = mark.strip_prefix(RESULT) {
                    against_result(tree, source, figure)
                } else if let Some(key) = mark.strip_prefix(KERNEL) {
                    against_guide(&costs, key, figure)
                } else {
                    continue;
                };
                is_marked = true;
                findings.extend(wrong.map(|rule| Finding::new(path, number, rule)));
            }
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let is_exempt = is_marked || line.contains("by hand") || line.contains("| test `");
            match cells[..] {
                ["", _, "figure", .., "commit", ""] => is_figures = true,
                ["", first, ..] if is_figures && !is_exempt && !first.starts_with("---") => {
                    let rule = "a figure without a mark `<!-- budget: .. -->` or \
                                `<!-- result: .. -->`, and not \"by hand\"";
                    findings.push(Finding::new(path, number, rule.to_owned()));
                }
                [""] | [_] => is_figures = false,
                _ => {}
            }
        }
    }
    findings
}

/// Returns the marks of a line, each with the figure that follows it.
fn marks(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split(MARK).skip(1).filter_map(|text| text.split_once(" -->")).map(|(mark, after)| {
        let is_end = |sign: char| !sign.is_ascii_digit() && sign != '.';
        let figure = &after[..after.find(is_end).unwrap_or(after.len())];
        (mark, figure.trim_end_matches('.'))
    })
}

/// Returns what is wrong with a figure that stands for a budget.
fn against_budget(budgets: &BTreeMap<String, &str>, key: &str, figure: &str) -> Option<String> {
    match budgets.get(key) {
        None => Some(format!("there is no budget `{key}` in {SCRIPT}")),
        Some(budget) if *budget != figure => {
            Some(format!("`{figure}` is not the budget `{key}` of {SCRIPT}, which is {budget}"))
        }
        Some(_) => None,
    }
}

/// Returns what is wrong with a figure that stands for a recorded result.
fn against_result(tree: &Tree, source: &str, figure: &str) -> Option<String> {
    let Some((name, selector)) = source.split_once(' ') else {
        return Some(format!("`{source}` should be a file in {RESULTS}, a space and a selector"));
    };
    let Some(text) = tree.text(&format!("{RESULTS}/{name}")) else {
        return Some(format!("there is no file `{name}` in {RESULTS}"));
    };
    let value = match value_at(text, selector) {
        Ok(value) => value,
        Err(error) => return Some(format!("{RESULTS}/{name}: {error}")),
    };
    let nr_decimals = figure.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let rounded = format!("{value:.nr_decimals$}");
    (rounded != figure)
        .then(|| format!("`{figure}` is not `{selector}` of {RESULTS}/{name}, which is {rounded}"))
}

/// Returns what is wrong with a figure that stands for a cost in the kernel image.
fn against_guide(costs: &BTreeMap<String, &str>, key: &str, figure: &str) -> Option<String> {
    match costs.get(key) {
        None => Some(format!("there is no cost `{key}` in {GUIDE}")),
        Some(cost) if *cost != figure => {
            Some(format!("`{figure}` is not the cost `{key}` of {GUIDE}, which is {cost}"))
        }
        Some(_) => None,
    }
}

/// Returns the cells of the table with the columns N, single, list and array, by column and N.
fn kernel_costs(guide: &str) -> BTreeMap<String, &str> {
    let mut costs = BTreeMap::new();
    let header = |line: &&str| *line == "| N | single | list | array |";
    let rows = guide.lines().skip_while(|line| !header(line)).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        if let ["", n, single, list, array, ""] = cells[..] {
            for (column, cost) in [("single", single), ("list", list), ("array", array)] {
                costs.insert(format!("{column} {n}"), cost);
            }
        }
    }
    costs
}

/// Returns the last number of each row between `<<'TABLE'` and `TABLE`, by the name and, where that is a
/// number too, the pages in a call. Rows of the page pool have a word there, and those of the slab nothing.
fn budgets(script: &str) -> BTreeMap<String, &str> {
    let mut budgets = BTreeMap::new();
    let mut is_table = false;
    for line in script.lines() {
        match line {
            "TABLE" => is_table = false,
            _ if line.ends_with("<<'TABLE'") => is_table = true,
            _ if is_table => {
                let words: Vec<_> = line.split_whitespace().collect();
                let (key, budget) = match words[..] {
                    [name, budget] => (format!("slab {name}"), budget),
                    [name, second, .., budget] if second.parse::<u32>().is_ok() => {
                        (format!("{name} {second}"), budget)
                    }
                    [name, .., budget] => (format!("pool {name}"), budget),
                    _ => continue,
                };
                budgets.insert(key, budget);
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

    const TABLES: &str = "done <<'TABLE'\narray 64 1000 12.4\nTABLE\n\
        done <<'TABLE'\nfast none 15.25\nTABLE\ndone <<'TABLE'\nlarson 153\nTABLE\n";

    fn found(document: &str) -> Vec<String> {
        lines(&check(&Tree::default().with(SCRIPT, TABLES).with("a.md", document)))
    }

    #[test]
    fn figures_that_equal_their_budgets_pass() {
        let text = "It takes <!-- budget: array 64 -->12.4.\n| x | <!-- budget: pool fast -->15.25 | <!-- budget: slab larson -->153 |\n";
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
            found("<!-- budget: list 8 -->1\n"),
            ["a.md:1: there is no budget `list 8` in ci/instructions.sh"]
        );
        let table = "| claim | figure | command | commit |\n| --- | --- | --- | --- |\n\
                     | a | 3 | `bench` | 12ab |\n| b | 4 | `bench` | 12ab, by hand |\n\
                     | c | 5 | test `c` | every |\n\n| another | table |\n";
        assert_eq!(
            found(table),
            ["a.md:3: a figure without a mark `<!-- budget: .. -->` or `<!-- result: .. -->`, \
              and not \"by hand\""]
        );
    }

    #[test]
    fn figures_of_the_kernel_are_those_of_the_guide() {
        let guide = "| N | other |\n| --- | --- |\n| 64 | 1 |\n\n| N | single | list | array |\n\
                     | --- | --- | --- | --- |\n| 1 | 91.06 | 205.03 | 109.05 |\n\
                     | 64 | 81.21 | 75.81 | 12.88 |\n\ntext\n";
        let found = |document: &str| {
            lines(&check(&Tree::default().with(GUIDE, guide).with("a.md", document)))
        };
        assert_eq!(
            found("<!-- kernel: array 64 -->12.88, <!-- kernel: single 1 -->91.06."),
            [""; 0]
        );
        assert_eq!(
            found("<!-- kernel: array 64 -->14.49\n<!-- kernel: array 8 -->1\n"),
            [
                "a.md:1: `14.49` is not the cost `array 64` of docs/kernel-guide.md, which is 12.88",
                "a.md:2: there is no cost `array 8` in docs/kernel-guide.md"
            ]
        );
    }

    const RESULT: &str = r#"{"rows": [{"op": "list", "n": 64, "ns": 1.0},
        {"op": "array", "n": 1, "ns": 2.0}, {"op": "array", "n": 64, "ns": 0.5949}]}"#;

    fn found_with_result(document: &str) -> Vec<String> {
        let tree = Tree::default().with("docs/results/bulk.json", RESULT).with("a.md", document);
        lines(&check(&tree))
    }

    #[test]
    fn figures_that_equal_recorded_results_pass() {
        let mark = "<!-- result: bulk.json rows[op=array,n=64].ns -->";
        assert_eq!(found_with_result(&format!("{mark}0.59, {mark}0.595 and {mark}1.")), [""; 0]);
    }

    #[test]
    fn a_figure_that_differs_from_its_result_is_reported() {
        assert_eq!(
            found_with_result("\n<!-- result: bulk.json rows[op=array,n=64].ns -->0.6"),
            [""; 0]
        );
        assert_eq!(
            found_with_result("\n<!-- result: bulk.json rows[op=array,n=64].ns -->0.58"),
            [
                "a.md:2: `0.58` is not `rows[op=array,n=64].ns` of docs/results/bulk.json, which is 0.59"
            ]
        );
        assert_eq!(
            found_with_result("<!-- result: pool.json ns -->1"),
            ["a.md:1: there is no file `pool.json` in docs/results"]
        );
        assert_eq!(
            found_with_result("<!-- result: bulk.json rows[op=vec].ns -->1"),
            ["a.md:1: docs/results/bulk.json: nothing is at `rows[op=vec]`"]
        );
    }
}
