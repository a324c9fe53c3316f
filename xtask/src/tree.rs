//! The files that the checks look at, held in memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use core::fmt;

/// Hidden folders that are part of the project; every other one belongs to some tool.
const HIDDEN_FOLDERS: &[&str] = &[".cargo", ".ci", ".github"];

/// One file of a [`Tree`].
#[derive(Clone, Debug)]
pub struct File {
    /// The content; empty where the file is not text.
    pub text: String,
    /// Whether its owner may run it.
    pub executable: bool,
}

/// The files of a project by path, relative to its root, with `/` between the parts.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

impl Tree {
    /// Reads every file below `root`, except for hidden folders and build output.
    ///
    /// A link to a file is read as the file. Build output is a folder named `target` or one that holds a `CACHEDIR.TAG`.
    ///
    /// # Errors
    /// If a folder or a file cannot be read. A file that vanishes during the walk is no error.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let foreign = name.starts_with('.') && !HIDDEN_FOLDERS.contains(&name.as_str());
                let output = name == "target" || entry.path().join("CACHEDIR.TAG").exists();
                if !foreign && !output {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
            } else if kind.is_file() || (kind.is_symlink() && entry.path().is_file()) {
                match read_file(&entry.path()) {
                    Ok(file) => {
                        self.files.insert(path, file);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Adds a file, or replaces the one at `path`; a script is executable unless told otherwise.
    #[must_use]
    pub fn with(mut self, path: &str, text: &str) -> Self {
        let executable = has_extension(path, "sh") || path == ".ci/run";
        let file = File { text: text.to_owned(), executable };
        self.files.insert(path.to_owned(), file);
        self
    }

    /// Takes the right to run the file at `path` away.
    #[must_use]
    pub fn with_plain_mode(mut self, path: &str) -> Self {
        if let Some(file) = self.files.get_mut(path) {
            file.executable = false;
        }
        self
    }

    /// Returns the file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Returns the text of the file at `path`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|file| file.text.as_str())
    }

    /// Returns whether `path` is a file or a folder with files in it; the empty path is the root.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.keys().any(|other| other.starts_with(&folder))
    }

    /// Walks over all files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Walks over the texts of the files whose name ends in `.` and `extension`.
    pub fn texts<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter()
            .filter(move |(path, _)| has_extension(path, extension))
            .map(|(path, file)| (path, file.text.as_str()))
    }
}

/// Returns whether the last part of `path` ends in `.` and `extension`.
#[must_use]
pub fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().and_then(OsStr::to_str) == Some(extension)
}

fn read_file(path: &Path) -> io::Result<File> {
    let bytes = fs::read(path)?;
    let executable = fs::metadata(path)?.permissions().mode() & 0o100 != 0;
    Ok(File { text: String::from_utf8(bytes).unwrap_or_default(), executable })
}

/// A broken rule and where it is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    file: String,
    line: usize,
    rule: String,
}

impl Finding {
    /// Reports that `line` of `file`, counted from one, breaks `rule`.
    #[must_use]
    pub fn new(file: &str, line: usize, rule: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Prints findings the way the tests of the checks compare them.
#[cfg(test)]
pub(crate) fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_exists_through_its_files() {
        let tree = Tree::default().with("docs/a.md", "");
        assert!(tree.exists("docs"));
        assert!(tree.exists("docs/a.md"));
        assert!(!tree.exists("doc"));
    }

    #[test]
    fn reading_leaves_hidden_folders_and_build_output_out() {
        let root = std::env::temp_dir().join(format!("xtask-tree-{}", std::process::id()));
        for folder in ["src", ".git", ".ci", "target", "out"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("x"), "text").unwrap();
        }
        fs::write(root.join("out/CACHEDIR.TAG"), "").unwrap();
        let tree = Tree::read(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [".ci/x", "src/x"]);
    }
}
