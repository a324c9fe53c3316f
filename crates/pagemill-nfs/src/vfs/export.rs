//! Opened exports: the exported directories, their descriptors, and the table of them.

use alloc::sync::Arc;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use thiserror::Error;

use crate::exports::ExportRule;
use crate::protocol::fh::{ExportId, Fh, FhKey, FhParts, ObjectId, Stamp};
use crate::protocol::status::NfsStatus;
use crate::vfs::closer::{Closer, Closings};
use crate::vfs::finder::Finder;
use crate::vfs::mounted::{HandleLife, Location, Mounted};
use crate::vfs::stats::ExportStats;
use crate::vfs::turns::FileSystem;

/// Why trees cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VfsError {
    /// The folder of the process's descriptors cannot be opened.
    #[error("cannot open /proc/self/fd: {0}; mount /proc")]
    NoProc(#[source] Errno),
    /// A directory cannot be exported.
    #[error(
        "cannot export {}: {errno}; it must be a directory that this user can read",
        .path.display()
    )]
    Root {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        #[source]
        errno: Errno,
    },
    /// A directory that is already exported cannot be opened again.
    #[error(
        "cannot open {} again: {errno}; the directory that was opened before stays exported",
        .path.display()
    )]
    Kept {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        #[source]
        errno: Errno,
    },
    /// A directory occurs twice.
    #[error("{} is exported twice: name it once, with all clients", .path.display())]
    Twice {
        /// Its path.
        path: PathBuf,
    },
    /// Two paths have the same number, by a chance of one in 2^32.
    #[error(
        "{} and {} would have the same number in handles: export one of them by another path",
        .path.display(), .other.display()
    )]
    SameId {
        /// One path.
        path: PathBuf,
        /// The other path.
        other: PathBuf,
    },
}

/// An exported directory.
#[derive(Debug)]
pub struct Export {
    id: ExportId,
    rule: ExportRule,
    root: Arc<OwnedFd>,
    root_fh: Fh,
    pub(crate) root_object: ObjectId,
    /// Identity of the root's mount and directory.
    at: Location,
    fs: Mounted,
    pub(crate) finder: Arc<Finder>,
    stats: Arc<ExportStats>,
    /// Closes the data descriptors of files.
    pub(crate) closer: Arc<Closer>,
}

impl Export {
    fn open(rule: ExportRule, key: &FhKey, before: &ExportTable) -> Result<Self, VfsError> {
        let failed = |errno| VfsError::Root { path: rule.path.clone(), errno };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(&rule.path, flags, Mode::empty()).map_err(failed)?;
        let at = Location::of(root.as_fd()).map_err(failed)?;
        let fs = Mounted::of(root.as_fd()).map_err(failed)?;
        let id = ExportId::of_path(rule.path.as_os_str().as_bytes());
        // Known locations of files are kept if it is the same tree.
        let is_same = |export: &Arc<Self>| export.at == at && export.fs.stamp == fs.stamp;
        let finder = match before.by_id(id).filter(is_same) {
            Some(export) => Arc::clone(&export.finder),
            None => Arc::new(Finder::probe(root.as_fd(), &fs).map_err(failed)?),
        };
        let known = before.by_id(id);
        let stats = known.as_ref().map(|export| Arc::clone(&export.stats)).unwrap_or_default();
        let closer = known.map(|export| Arc::clone(&export.closer)).unwrap_or_else(|| {
            Arc::new(Closer::new(rule.path.clone(), Arc::clone(&before.closings)))
        });
        let refused = |_status: NfsStatus| failed(Errno::STALE);
        let root_object = finder.name_of(root.as_fd(), c"").map_err(refused)?;
        Ok(Self {
            id,
            root_fh: Fh::new(key, &FhParts { export: id, stamp: fs.stamp, object: root_object }),
            root_object,
            root: Arc::new(root),
            at,
            fs,
            finder,
            stats,
            closer,
            rule,
        })
    }

    /// Returns the same directory with another rule, without accessing its file system.
    fn with_rule(&self, rule: ExportRule) -> Self {
        Self {
            id: self.id,
            rule,
            root: Arc::clone(&self.root),
            root_fh: self.root_fh,
            root_object: self.root_object,
            at: self.at,
            fs: self.fs,
            finder: Arc::clone(&self.finder),
            stats: Arc::clone(&self.stats),
            closer: Arc::clone(&self.closer),
        }
    }

    /// Returns the export's number in handles.
    #[must_use]
    pub fn id(&self) -> ExportId {
        self.id
    }

    /// Returns the export's rule.
    #[must_use]
    pub fn rule(&self) -> &ExportRule {
        &self.rule
    }

    /// Returns the export's counters.
    #[must_use]
    pub fn stats(&self) -> &ExportStats {
        &self.stats
    }

    /// Returns the root's handle.
    #[must_use]
    pub fn root_fh(&self) -> &Fh {
        &self.root_fh
    }

    /// Returns the number of the file system.
    #[must_use]
    pub fn fsid(&self) -> u64 {
        self.fs.fsid
    }

    /// Returns how long handles stay valid.
    #[must_use]
    pub fn handle_life(&self) -> HandleLife {
        self.fs.life
    }

    /// Returns whether the directory was mounted read-only when it was opened.
    ///
    /// # Cost
    /// Does not access the file system, which may not respond.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.fs.is_read_only
    }

    /// Returns the handle of a file.
    pub(crate) fn fh_of(&self, key: &FhKey, object: &ObjectId) -> Fh {
        Fh::new(key, &FhParts { export: self.id, stamp: self.fs.stamp, object: *object })
    }

    /// Returns whether a handle with this stamp was made for the current file system.
    pub(crate) fn is_stamped(&self, stamp: Stamp) -> bool {
        self.fs.stamp == stamp
    }

    /// Returns whether the kernel finds files by handle; if not, a table is kept.
    #[must_use]
    pub fn kernel_finds(&self) -> bool {
        self.finder.kernel_finds()
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.fs.is_volatile
    }

    /// Returns whether the kernel alone serves the file system.
    pub(crate) fn is_local(&self) -> bool {
        self.fs.is_local
    }

    /// Returns whether the file with this device and inode is the root.
    pub(crate) fn is_root(&self, dev: u64, ino: u64) -> bool {
        self.at.place == (dev, ino)
    }

    /// Returns the file system that its calls may have to wait for.
    pub(crate) fn file_system(&self) -> FileSystem {
        FileSystem(self.at.place.0)
    }

    /// Returns the identity of the root's mount and directory.
    pub(crate) fn location(&self) -> Location {
        self.at
    }
}

/// All exported directories.
#[derive(Debug, Default)]
pub struct ExportTable {
    exports: Vec<Arc<Export>>,
    by_id: HashMap<ExportId, Arc<Export>>,
    /// Shared by all tables of a server.
    pub(crate) closings: Arc<Closings>,
}

impl ExportTable {
    /// Makes the first table of a server, without exports.
    pub(crate) fn new(closings: Closings) -> Self {
        Self { closings: Arc::new(closings), ..Self::default() }
    }

    /// Opens the directory of each rule. A rule is left out if `refuse` accepts its error.
    pub(crate) fn open(
        rules: Vec<ExportRule>,
        key: &FhKey,
        before: &Self,
        mut refuse: impl FnMut(VfsError) -> Result<(), VfsError>,
    ) -> Result<Self, VfsError> {
        let mut table = Self { closings: Arc::clone(&before.closings), ..Self::default() };
        for mut rule in rules {
            // Treats a path with a trailing slash as the same export as one without.
            rule.path = rule.path.components().collect();
            let export = match Export::open(rule.clone(), key, before) {
                Ok(export) => Arc::new(export),
                Err(error) => match before.kept(rule, &error) {
                    Some((export, kept)) => {
                        refuse(kept)?;
                        Arc::new(export)
                    }
                    None => {
                        refuse(error)?;
                        continue;
                    }
                },
            };
            if let Some(other) = table.by_id.get(&export.id) {
                let [path, other] = [&export, other].map(|export| export.rule.path.clone());
                refuse(match path == other {
                    true => VfsError::Twice { path },
                    false => VfsError::SameId { path, other },
                })?;
                continue;
            }
            table.by_id.insert(export.id, Arc::clone(&export));
            table.exports.push(export);
        }
        Ok(table)
    }

    /// Returns an export as it was opened before, if it cannot be opened now for a reason that may be
    /// temporary, and the error to report.
    fn kept(&self, rule: ExportRule, error: &VfsError) -> Option<(Export, VfsError)> {
        let VfsError::Root { path, errno } = error else { return None };
        if [Errno::NOENT, Errno::NOTDIR].contains(errno) {
            return None;
        }
        let export = self.by_id(ExportId::of_path(path.as_os_str().as_bytes()))?;
        let kept = VfsError::Kept { path: path.clone(), errno: *errno };
        Some((export.with_rule(rule), kept))
    }

    /// Returns the same directories, without opening any of them again, with the rules changed by
    /// `change`. It must not change their paths.
    pub(crate) fn with_rules(&self, change: impl Fn(&mut ExportRule)) -> Self {
        let mut table = Self { closings: Arc::clone(&self.closings), ..Self::default() };
        for export in &self.exports {
            let mut rule = export.rule.clone();
            change(&mut rule);
            rule.path.clone_from(&export.rule.path);
            let export = Arc::new(export.with_rule(rule));
            table.by_id.insert(export.id, Arc::clone(&export));
            table.exports.push(export);
        }
        table
    }

    /// Opens a directory without using the kernel's handles to find files.
    #[cfg(test)]
    pub(crate) fn open_searching(rule: ExportRule, key: &FhKey, room: usize) -> Self {
        let mut export = Export::open(rule, key, &Self::default()).unwrap();
        export.finder = Arc::new(Finder::searching(export.root(), room));
        let export = Arc::new(export);
        Self {
            by_id: HashMap::from([(export.id, Arc::clone(&export))]),
            exports: vec![export],
            closings: Arc::default(),
        }
    }

    /// Returns the exports in the order of their rules.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Export>> {
        self.exports.iter()
    }

    /// Returns the innermost export that contains `path`, and the rest of the path below it.
    #[must_use]
    pub fn at_path<'a>(&self, path: &'a Path) -> Option<(&Arc<Export>, &'a Path)> {
        let matching = self.exports.iter().filter_map(|export| {
            let below = export.rule.below(path)?;
            Some((export, below))
        });
        matching.max_by_key(|(export, _)| export.rule.path.as_os_str().len())
    }

    /// Returns whether a handle of this server belongs to a current export.
    pub(crate) fn is_current(&self, fh: &Fh) -> bool {
        let said = Fh::alleged(fh.as_bytes());
        said.is_some_and(|(id, stamp)| self.by_id.get(&id).is_some_and(|it| it.is_stamped(stamp)))
    }

    pub(crate) fn by_id(&self, id: ExportId) -> Option<Arc<Export>> {
        self.by_id.get(&id).cloned()
    }
}
