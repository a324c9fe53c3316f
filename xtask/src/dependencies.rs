//! The table of dependencies equals what the manifests ask for.
//!
//! A row of docs/dependencies.md begins with the name of a crate between backticks. Its other cells
//! are the version, the licence (which `ci/deny.sh` compares), the users, the reason and what the
//! dependency brings with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::packages::{Package, packages, requirement, requirements};
use crate::tree::{Finding, Tree};

/// The document with the table.
pub const DOCUMENT: &str = "docs/dependencies.md";
/// Cells of a row: name, version, licence, users, reason, what it brings.
const NR_CELLS: usize = 6;

/// What the manifests say about one dependency.
#[derive(Debug, Default)]
struct Use {
    /// The versions that the manifests require.
    versions: BTreeSet<String>,
    /// The packages that depend on it, each with whether only its tests do.
    users: BTreeMap<String, bool>,
}

/// Checks that each direct dependency has a row, and each row is true.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut used = used(tree);
    let mut findings = Vec::new();
    for (line, cells) in rows(tree.text(DOCUMENT).unwrap_or_default()) {
        let mut report = |rule: String| findings.push(Finding::new(DOCUMENT, line, rule));
        let name = cells[0].trim_matches('`');
        let Some(found) = used.remove(name) else {
            report(format!("no manifest depends on `{name}`, or it has two rows"));
            continue;
        };
        if cells.len() != NR_CELLS || cells.iter().any(|cell| cell.is_empty()) {
            report(format!("the row of `{name}` needs {NR_CELLS} cells, none of them empty"));
            continue;
        }
        let versions = join(found.versions.into_iter());
        if cells[1] != versions {
            report(format!("the manifests require `{name}` {versions}, the row says {}", cells[1]));
        }
        let users = join(found.users.iter().map(user));
        if cells[3] != users {
            report(format!("`{name}` is used by {users}; the row says {}", cells[3]));
        }
    }
    for (name, found) in used {
        let users = join(found.users.iter().map(user));
        findings.push(Finding::new(DOCUMENT, 1, format!("no row for `{name}`, used by {users}")));
    }
    findings
}

/// A user as a row spells it.
fn user((name, only_tests): (&String, &bool)) -> String {
    format!("`{name}`{}", if *only_tests { " (tests)" } else { "" })
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

/// The dependencies of all packages that are not themselves packages of the tree.
fn used(tree: &Tree) -> BTreeMap<String, Use> {
    let packages = packages(tree);
    let shared = requirements(tree.text("Cargo.toml").unwrap_or_default());
    let is_ours = |name: &str| packages.iter().any(|package| package.name == name);
    let mut used = BTreeMap::<String, Use>::new();
    for package in &packages {
        for other in package.dependencies.iter().filter(|other| !is_ours(&other.name)) {
            let entry = used.entry(other.name.clone()).or_default();
            let only_tests = entry.users.entry(package.name.clone()).or_insert(true);
            *only_tests &= other.dev;
            let own = own_requirement(tree, package, other.line);
            entry.versions.extend(own.or_else(|| shared.get(&other.name).cloned()));
        }
    }
    used
}

/// The version that line `line` of the package's manifest requires, if it names one.
fn own_requirement(tree: &Tree, package: &Package, line: usize) -> Option<String> {
    let text = tree.text(&package.manifest())?.lines().nth(line - 1)?;
    requirement(text.split_once('=')?.1)
}

/// The rows of all tables whose first cell is a name between backticks, each with its line.
fn rows(document: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    document.lines().zip(1..).filter_map(|(line, number)| {
        let row = line.strip_prefix("| `")?;
        let row = row.strip_suffix('|').unwrap_or(row);
        Some((number, row.split('|').map(str::trim).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::lines;

    const ROOT: &str = "[workspace]\n[workspace.dependencies]\na = { path = \"crates/a\" }\n\
        x = \"1\"\ny = { version = \"0.2\", default-features = false }\n";
    const A: &str = "[package]\nname = \"a\"\n[dependencies]\nx.workspace = true\n\
        [dev-dependencies]\ny.workspace = true\n";
    const B: &str = "[package]\nname = \"b\"\n[workspace]\n[dependencies]\na = { path = \"..\" }\n\
        y = \"=0.2.1\"\n[build-dependencies]\nx = { optional = true, version = \"1\" }\n";

    fn tree(table: &str) -> Tree {
        Tree::default()
            .with("Cargo.toml", ROOT)
            .with("crates/a/Cargo.toml", A)
            .with("b/Cargo.toml", B)
            .with(DOCUMENT, &format!("# Table\n| crate | version |\n| --- | --- |\n{table}"))
    }

    #[test]
    fn a_true_table_passes() {
        let table = "| `x` | 1 | MIT | `a`, `b` | x | nothing |\n\
            | `y` | 0.2, =0.2.1 | MIT | `a` (tests), `b` | y | nothing |\n";
        assert_eq!(lines(&check(&tree(table))), [""; 0]);
    }

    #[test]
    fn rows_that_are_missing_stale_or_repeated_are_reported() {
        let table = "| `x` | 1 | MIT | `a`, `b` | x | nothing |\n\
            | `x` | 1 | MIT | `a`, `b` | x | nothing |\n| `z` | 1 | MIT | `a` | z | nothing |\n";
        assert_eq!(
            lines(&check(&tree(table))),
            [
                "docs/dependencies.md:5: no manifest depends on `x`, or it has two rows",
                "docs/dependencies.md:6: no manifest depends on `z`, or it has two rows",
                "docs/dependencies.md:1: no row for `y`, used by `a` (tests), `b`"
            ]
        );
    }

    #[test]
    fn wrong_cells_are_reported() {
        let table =
            "| `x` | 2 | MIT | `a` | x | nothing |\n| `y` | 0.2 | MIT | `a` |  | nothing |\n";
        assert_eq!(
            lines(&check(&tree(table))),
            [
                "docs/dependencies.md:4: the manifests require `x` 1, the row says 2",
                "docs/dependencies.md:4: `x` is used by `a`, `b`; the row says `a`",
                "docs/dependencies.md:5: the row of `y` needs 6 cells, none of them empty"
            ]
        );
    }
}
