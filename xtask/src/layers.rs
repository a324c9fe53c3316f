//! The layer tables of ARCHITECTURE.md: imports flow down and never sideways.
//!
//! A table is a fenced block with one layer per line, the lowest first: ` ```layers crates ` for
//! the crates of the workspace, ` ```layers NAME ` for the modules of crate NAME. What stands on a
//! line may use what stands on earlier lines, and nothing else. A folder of modules counts as one
//! module: inside it, files may use each other as they like. Test code is free.

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use crate::fences::{Fence, fences};
use crate::layers::imports::{ROOT_GLOB, crate_imports, reexports, test_modules};
use crate::packages::{Package, packages};
use crate::tokens::tokens;
use crate::tree::{Finding, Tree};

/// The document that holds the tables.
pub const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// The crates whose modules must have a table.
pub const LAYERED_CRATES: &[&str] = &["pagemill", "pagemill-rpc", "pagemill-nfs"];

/// Checks the table of the crates against the manifests.
#[must_use]
pub fn check_crates(tree: &Tree) -> Vec<Finding> {
    let Some((_, table)) = table_of(tree, "crates") else {
        return vec![Finding::new(ARCHITECTURE, 1, "there is no block \"layers crates\"")];
    };
    let mut members = packages(tree);
    members.retain(|package| package.member);
    let names = members.iter().map(|member| (member.name.as_str(), member.manifest())).collect();
    let mut findings = Vec::new();
    let layer_of = layers(&table, "crate", &names, &mut findings);
    for member in &members {
        let Some(&own) = layer_of.get(member.name.as_str()) else {
            continue;
        };
        for (line, dependency) in &member.dependencies {
            let Some(&other) = layer_of.get(dependency.as_str()) else {
                continue;
            };
            if other >= own {
                let rule = format!(
                    "crate `{}` (layer {own}) depends on `{dependency}` (layer {other}): \
                     a crate may depend only on crates of lower layers",
                    member.name
                );
                findings.push(Finding::new(&member.manifest(), *line, rule));
            }
        }
    }
    findings
}

/// Checks the tables of the modules against the imports of each file.
#[must_use]
pub fn check_modules(tree: &Tree) -> Vec<Finding> {
    let packages = packages(tree);
    let mut findings = Vec::new();
    for name in LAYERED_CRATES {
        let exists = packages.iter().any(|package| package.name == *name);
        if exists && table_of(tree, name).is_none() {
            let rule = format!("there is no block \"layers {name}\"");
            findings.push(Finding::new(ARCHITECTURE, 1, rule));
        }
    }
    for (name, table) in fences(tree.text(ARCHITECTURE).unwrap_or_default(), "layers") {
        if name == "crates" {
            continue;
        }
        match packages.iter().find(|package| package.name == name) {
            Some(package) => check_package(tree, package, &table, &mut findings),
            None => {
                let rule = format!("a table for `{name}`, which is no crate");
                findings.push(Finding::new(ARCHITECTURE, table.line, rule));
            }
        }
    }
    findings
}

fn table_of<'a>(tree: &'a Tree, name: &str) -> Option<(&'a str, Fence<'a>)> {
    let document = tree.text(ARCHITECTURE).unwrap_or_default();
    fences(document, "layers").into_iter().find(|(title, _)| *title == name)
}

/// Numbers the layers of `table` from one, and compares its names with those that `exist`.
fn layers<'a>(
    table: &Fence<'a>,
    noun: &str,
    exist: &BTreeMap<&str, String>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<&'a str, usize> {
    let mut layer_of = BTreeMap::new();
    for (line, row, name) in table.words() {
        if !exist.contains_key(name) {
            let rule = format!("the layer table names {noun} `{name}`, which does not exist");
            findings.push(Finding::new(ARCHITECTURE, line, rule));
        }
        if layer_of.contains_key(name) {
            let rule = format!("the layer table names {noun} `{name}` twice");
            findings.push(Finding::new(ARCHITECTURE, line, rule));
        } else {
            layer_of.insert(name, row + 1);
        }
    }
    for (name, file) in exist {
        if !layer_of.contains_key(name) {
            let rule = format!("{noun} `{name}` is not in the layer table of {ARCHITECTURE}");
            findings.push(Finding::new(file, 1, rule));
        }
    }
    layer_of
}

/// A file of a crate as a module: `["bulk", "engine"]` for `src/bulk/engine.rs`, `[]` for the root.
struct Module<'a> {
    path: Vec<&'a str>,
    file: &'a str,
    text: &'a str,
}

fn check_package(tree: &Tree, package: &Package, table: &Fence<'_>, findings: &mut Vec<Finding>) {
    let modules = modules(tree, package);
    let mut names = BTreeMap::new();
    for module in &modules {
        if let Some(top) = module.path.first() {
            names.entry(*top).or_insert_with(|| module.file.to_owned());
        }
    }
    let layer_of = layers(table, "module", &names, findings);
    let root = modules.iter().find(|module| module.path.is_empty());
    let reexports = root.map(|root| reexports(&tokens(root.text), &names)).unwrap_or_default();
    for module in &modules {
        let Some(own) = module.path.first() else {
            continue;
        };
        for import in crate_imports(&tokens(module.text), &module.path) {
            let origin = if names.contains_key(import.name) {
                Some(import.name)
            } else {
                reexports.get(import.name).copied()
            };
            let rule = match origin {
                None if import.name == ROOT_GLOB => {
                    "imports everything from the crate root: name what it needs".to_owned()
                }
                None => format!(
                    "`crate::{}` is neither a module nor re-exported from one by the crate root",
                    import.path
                ),
                Some(other) if other == *own => continue,
                Some(other) => match (layer_of.get(own), layer_of.get(other)) {
                    (Some(own_layer), Some(layer)) if layer >= own_layer => format!(
                        "module `{own}` (layer {own_layer}) imports `crate::{}` from `{other}` \
                         (layer {layer}): a module may import only from lower layers",
                        import.path
                    ),
                    _ => continue,
                },
            };
            findings.push(Finding::new(module.file, import.line, rule));
        }
    }
}

/// The files below `src` that a build other than a test build sees, the root among them.
fn modules<'a>(tree: &'a Tree, package: &Package) -> Vec<Module<'a>> {
    let source = format!("{}src/", package.folder);
    let mut modules = Vec::new();
    let mut of_tests = BTreeSet::new();
    for (file, text) in tree.texts("rs") {
        let Some(path) = file.strip_prefix(&source).and_then(|path| path.strip_suffix(".rs"))
        else {
            continue;
        };
        let mut path: Vec<_> = path.split('/').collect();
        match path.as_slice() {
            ["lib" | "main"] => path.clear(),
            ["bin", ..] => continue,
            [.., "mod"] => path.truncate(path.len() - 1),
            _ => {}
        }
        for name in test_modules(&tokens(text)) {
            let mut of_test = path.clone();
            of_test.push(name);
            of_tests.insert(of_test);
        }
        modules.push(Module { path, file, text });
    }
    modules.retain(|module| {
        let in_test = (1..=module.path.len()).any(|end| of_tests.contains(&module.path[..end]));
        !in_test && module.path.last() != Some(&"tests")
    });
    modules
}

#[cfg(test)]
mod tests;
