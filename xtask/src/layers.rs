//! The layer tables of ARCHITECTURE.md: imports flow down and never sideways.
//!
//! A table is a fenced block with one layer per line, the lowest first: ` ```layers crates ` for
//! the crates of the workspace, ` ```layers NAME ` for the modules of crate NAME, ` ```layers
//! NAME/FOLDER ` for the modules in a folder of it. What stands on a line may use what stands on
//! earlier lines, and nothing else. A folder counts as one module outside. If it has two modules or
//! more, it has a table of its own for what is inside. Its head (`mod.rs`, or the file beside it) may
//! use all that is inside, and nothing inside may use what the head itself defines. Test code may use
//! anything.

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use crate::fences::{Fence, fences};
use crate::layers::imports::{GLOB, crate_imports, reexports, test_modules};
use crate::packages::{Dependency, Package, packages};
use crate::tokens::tokens;
use crate::tree::{Finding, Tree};

/// The document that holds the tables.
pub const ARCHITECTURE: &str = "ARCHITECTURE.md";
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
    let in_builds = |name: &str| {
        let mut all = members.iter().flat_map(|member| &member.dependencies);
        all.any(|other| other.name == name && !other.dev)
    };
    for member in &members {
        let Some(&own) = layer_of.get(member.name.as_str()) else {
            continue;
        };
        for Dependency { line, name: dependency, dev } in &member.dependencies {
            let Some(&other) = layer_of.get(dependency.as_str()) else {
                continue;
            };
            // A crate that only tests use may stand above what it is used to test.
            if other >= own && (!dev || in_builds(dependency)) {
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
    for (title, table) in fences(tree.text(ARCHITECTURE).unwrap_or_default(), "layers") {
        let name = title.split('/').next().unwrap_or_default();
        if name != "crates" && packages.iter().all(|package| package.name != name) {
            let rule = format!("a table for `{name}`, which is no crate");
            findings.push(Finding::new(ARCHITECTURE, table.line, rule));
        }
    }
    for package in packages.iter().filter(|package| package.member) {
        check_package(tree, package, &mut findings);
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

/// The modules of a crate, and what their heads re-export.
struct Crate<'a> {
    modules: Vec<Module<'a>>,
    /// By the path of the head: each name, or path in inline modules, with the path that it stands for.
    reexports: BTreeMap<Vec<&'a str>, BTreeMap<Vec<&'a str>, Vec<&'a str>>>,
}

impl<'a> Crate<'a> {
    fn new(modules: Vec<Module<'a>>) -> Self {
        let is_module = |path: &[&str]| modules.iter().any(|module| module.path == path);
        let reexports = modules
            .iter()
            .map(|module| {
                let is_child = |name: &str| {
                    let child: Vec<_> = module.path.iter().copied().chain([name]).collect();
                    is_module(&child)
                };
                let names = reexports(&tokens(module.text), &module.path, is_child);
                (module.path.clone(), names)
            })
            .collect();
        Self { modules, reexports }
    }

    fn is_module(&self, path: &[&str]) -> bool {
        self.modules.iter().any(|module| module.path == path)
    }

    /// Returns the folders, the crate itself first: all paths with modules right below them.
    fn folders(&self) -> BTreeSet<&[&'a str]> {
        self.modules.iter().filter_map(|module| Some(module.path.split_last()?.1)).collect()
    }

    /// Returns the names right below `folder`, each with a file that stands for it.
    fn children(&self, folder: &[&'a str]) -> BTreeMap<&'a str, String> {
        let mut names = BTreeMap::new();
        for module in &self.modules {
            if let Some((name, _)) =
                module.path.strip_prefix(folder).and_then(|rest| rest.split_first())
            {
                names.entry(*name).or_insert_with(|| module.file.to_owned());
            }
        }
        names
    }

    /// Replaces names that heads re-export by what they stand for.
    fn resolve(&self, parts: &[&'a str]) -> Vec<&'a str> {
        let mut path = parts.to_vec();
        // A chain of re-exports is short, and one that leads in a circle does not compile.
        for _ in 0..8 {
            let deepest = (0..path.len()).rev().find(|end| self.is_module(&path[..*end]));
            let Some(end) = deepest else { break };
            if self.is_module(&path[..=end]) {
                break;
            }
            let names = &self.reexports[&path[..end]];
            let longest = (end + 1..=path.len())
                .rev()
                .find_map(|name_end| Some((name_end, names.get(&path[end..name_end])?)));
            let Some((name_end, origin)) = longest else { break };
            if path.starts_with(origin) {
                break;
            }
            path = origin.iter().copied().chain(path[name_end..].iter().copied()).collect();
        }
        path
    }
}

fn check_package(tree: &Tree, package: &Package, findings: &mut Vec<Finding>) {
    let source = Crate::new(modules(tree, package));
    for folder in source.folders() {
        let children = source.children(folder);
        // A single module has no order.
        if children.len() < 2 {
            continue;
        }
        let title = [&[package.name.as_str()], folder].concat().join("/");
        let Some((_, table)) = table_of(tree, &title) else {
            let rule = format!("there is no block \"layers {title}\"");
            findings.push(Finding::new(ARCHITECTURE, 1, rule));
            continue;
        };
        let layer_of = layers(&table, "module", &children, findings);
        for module in &source.modules {
            let inside = module.path.strip_prefix(folder);
            if let Some((own, _)) = inside.and_then(|rest| rest.split_first()) {
                check_file(&source, folder, own, module, &layer_of, findings);
            }
        }
    }
}

/// Returns the tables that the imports of today would allow, as they stand in the document: each
/// module on the lowest line that it can have. Modules that import each other stand behind `# cycle`.
#[must_use]
pub fn suggest(tree: &Tree) -> String {
    let mut text = String::new();
    for package in packages(tree).iter().filter(|package| package.member) {
        let source = Crate::new(modules(tree, package));
        for folder in source.folders() {
            let children = source.children(folder);
            if children.len() < 2 {
                continue;
            }
            let title = [&[package.name.as_str()], folder].concat().join("/");
            text.push_str(&format!("```layers {title}\n{}```\n\n", rows(&source, folder)));
        }
    }
    text
}

/// Returns the lines of a folder's table.
fn rows(source: &Crate<'_>, folder: &[&str]) -> String {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in &source.modules {
        let Some(([own, ..], _)) = module.path.strip_prefix(folder).map(|rest| (rest, ())) else {
            continue;
        };
        let uses = left.entry(own).or_default();
        for import in crate_imports(&tokens(module.text), &module.path) {
            let path = source.resolve(&import.parts);
            let other = path.strip_prefix(folder).and_then(|rest| rest.first().copied());
            uses.extend(other.filter(|other| other != own));
        }
    }
    let names: BTreeSet<&str> = left.keys().copied().collect();
    let mut text = String::new();
    while !left.is_empty() {
        let is_free = |uses: &BTreeSet<&str>| {
            uses.iter().all(|other| !left.contains_key(other) || !names.contains(other))
        };
        let free: Vec<_> = left.iter().filter(|(_, uses)| is_free(uses)).map(|(n, _)| *n).collect();
        if free.is_empty() {
            let cycle: Vec<_> = left.keys().copied().collect();
            text.push_str(&format!("# cycle: {}\n", cycle.join(" ")));
            break;
        }
        text.push_str(&format!("{}\n", free.join(" ")));
        left.retain(|name, _| !free.contains(name));
    }
    text
}

/// Checks what one file below `folder` imports from the folder's other modules.
fn check_file(
    source: &Crate<'_>,
    folder: &[&str],
    own: &str,
    module: &Module<'_>,
    layer_of: &BTreeMap<&str, usize>,
    findings: &mut Vec<Finding>,
) {
    for import in crate_imports(&tokens(module.text), &module.path) {
        let path = source.resolve(&import.parts);
        let written = import.parts.join("::");
        let Some(rest) = path.strip_prefix(folder) else { continue };
        let rule = match rest.first() {
            None => continue,
            Some(other) if *other == own => continue,
            Some(other) => match (layer_of.get(own), layer_of.get(other)) {
                (Some(own_layer), Some(layer)) if layer >= own_layer => format!(
                    "module `{own}` (layer {own_layer}) imports `crate::{written}` from `{other}` \
                     (layer {layer}): a module may import only from lower layers"
                ),
                (_, Some(_)) => continue,
                (_, None) if *other == GLOB && folder.is_empty() => {
                    "imports everything from the crate root: name what it needs".to_owned()
                }
                (_, None) if folder.is_empty() => format!(
                    "`crate::{written}` is neither a module nor re-exported from one by the crate \
                     root"
                ),
                (_, None) => format!(
                    "module `{own}` imports `crate::{written}`, which the head of its folder \
                     defines: move that to a module of the folder"
                ),
            },
        };
        findings.push(Finding::new(module.file, import.line, rule));
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
