//! The packages of the tree, read line by line from their manifests.

use std::collections::BTreeMap;

use crate::tree::Tree;

/// A folder with a manifest that has a `[package]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The name in the manifest.
    pub name: String,
    /// The folder with a `/` at its end; empty for the root of the tree.
    pub folder: String,
    /// Whether it belongs to the workspace, having no `[workspace]` table of its own.
    pub member: bool,
    /// What it depends on in any build.
    pub dependencies: Vec<Dependency>,
}

/// A line of a manifest that names a dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The line.
    pub line: usize,
    /// The name of the package.
    pub name: String,
    /// Whether only tests, examples and benchmarks use it.
    pub dev: bool,
}

impl Package {
    /// Returns the path of the package's manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        format!("{}Cargo.toml", self.folder)
    }

    /// Returns whether `path` is the root file of one of the package's own crates.
    #[must_use]
    pub fn is_root(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix(&format!("{}src/", self.folder)) else {
            return false;
        };
        let in_bin = path.strip_prefix("bin/").is_some_and(|name| !name.contains('/'));
        path == "lib.rs" || path == "main.rs" || in_bin
    }
}

/// Returns the packages of `tree` in the order of their folders.
#[must_use]
pub fn packages(tree: &Tree) -> Vec<Package> {
    tree.texts("toml").filter_map(|(path, text)| package(path, text)).collect()
}

/// Returns the versions that the table `[workspace.dependencies]` of `manifest` requires, by name.
#[must_use]
pub fn requirements(manifest: &str) -> BTreeMap<String, String> {
    let lines = manifest.lines().map(str::trim);
    lines
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .filter_map(|(name, value)| Some((unquoted(name), requirement(value)?)))
        .collect()
}

/// Returns the version in the value of a dependency: `"1"` or `{ version = "1", .. }`.
#[must_use]
pub fn requirement(value: &str) -> Option<String> {
    let value = value.trim();
    let version = if value.starts_with('"') {
        value
    } else {
        value.split_once("version")?.1.trim_start().strip_prefix('=')?.trim_start()
    };
    Some(version.strip_prefix('"')?.split('"').next()?.to_owned())
}

/// Returns the package that the file at `path` belongs to: the innermost folder wins.
#[must_use]
pub fn owner<'a>(packages: &'a [Package], path: &str) -> Option<&'a Package> {
    packages
        .iter()
        .filter(|package| path.starts_with(&package.folder))
        .max_by_key(|package| package.folder.len())
}

fn package(path: &str, manifest: &str) -> Option<Package> {
    let folder = path.strip_suffix("Cargo.toml")?;
    if !(folder.is_empty() || folder.ends_with('/')) {
        return None;
    }
    let mut name = None;
    let mut member = true;
    let mut dependencies = Vec::new();
    let mut section = "";
    for (line, number) in manifest.lines().zip(1..) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            member &= section != "workspace";
            // `[dependencies.name]` is one dependency as a table.
            if let Some((table, key)) = section.rsplit_once('.')
                && is_dependency_table(table)
            {
                dependencies.push(Dependency::new(number, unquoted(key), table));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        // `name.workspace = true` names the dependency before the first dot.
        let key = unquoted(key.split('.').next().unwrap_or_default());
        if section == "package" && key == "name" {
            name = Some(unquoted(value));
        } else if is_dependency_table(section) && !key.starts_with('#') {
            let name = renamed(value).unwrap_or(key);
            dependencies.push(Dependency::new(number, name, section));
        }
    }
    Some(Package { name: name?, folder: folder.to_owned(), member, dependencies })
}

impl Dependency {
    fn new(line: usize, name: String, table: &str) -> Self {
        Self { line, name, dev: table.ends_with("dev-dependencies") }
    }
}

/// Whether a section lists dependencies: of a build, of a test, of a build script, of a target.
fn is_dependency_table(section: &str) -> bool {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .any(|table| section == *table || section.ends_with(&format!(".{table}")))
        && !section.starts_with("workspace")
}

/// The real name in `{ package = "real", .. }`.
fn renamed(value: &str) -> Option<String> {
    let after = value.split_once("package")?.1.trim_start().strip_prefix('=')?;
    Some(after.trim_start().strip_prefix('"')?.split('"').next()?.to_owned())
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_dependency_is_read() {
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\n\
            # c = \"1\"\nd = { package = \"e\", path = \"..\" }\n[dev-dependencies.f]\npath = \"g\"\n\
            [target.'cfg(loom)'.dependencies]\nh = \"1\"\n[lints]\nworkspace = true\n";
        let found = packages(&Tree::default().with("crates/a/Cargo.toml", manifest));
        let names: Vec<_> = found[0].dependencies.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(names, ["b", "e", "f", "h"]);
        assert_eq!(found[0].dependencies.iter().filter(|other| other.dev).count(), 1);
        assert_eq!((found[0].name.as_str(), found[0].member), ("a", true));
    }

    #[test]
    fn a_workspace_of_its_own_is_no_member_and_a_bare_workspace_no_package() {
        let tree = Tree::default()
            .with("Cargo.toml", "[workspace]\n[workspace.dependencies]\nx = \"1\"\n")
            .with("ci/p/Cargo.toml", "[package]\nname = \"p\"\n[workspace]\n");
        let found = packages(&tree);
        assert_eq!(found.len(), 1);
        assert!(!found[0].member);
    }

    #[test]
    fn a_file_belongs_to_the_innermost_package() {
        let tree = Tree::default()
            .with("Cargo.toml", "[package]\nname = \"outer\"\n")
            .with("in/Cargo.toml", "[package]\nname = \"inner\"\n");
        let found = packages(&tree);
        assert_eq!(owner(&found, "in/src/lib.rs").unwrap().name, "inner");
        assert_eq!(owner(&found, "src/lib.rs").unwrap().name, "outer");
    }
}
