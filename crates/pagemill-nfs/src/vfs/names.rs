//! Read-only operations: mount, lookup, access, readlink, and file system information.

use alloc::sync::Arc;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Access as Rights, AtFlags, Mode, OFlags, accessat, fstatvfs, openat};
use rustix::io::Errno;

use crate::exports::Access;
use crate::protocol::attr::FileKind;
use crate::protocol::fh::{Fh, ObjectId};
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::export::Export;
use crate::vfs::mounted::Location;
use crate::vfs::naming::open_path;
use crate::vfs::node::Node;
use crate::vfs::turns::Client;
use crate::vfs::vfs::{Caller, Object, Vfs, options_for};

/// The bits of ACCESS.
///
/// # Source
/// `rfc1813` section 3.3.4
const ACCESS_READ: u32 = 0x01;
const ACCESS_LOOKUP: u32 = 0x02;
const ACCESS_MODIFY: u32 = 0x04;
const ACCESS_EXTEND: u32 = 0x08;
const ACCESS_DELETE: u32 = 0x10;
const ACCESS_EXECUTE: u32 = 0x20;
/// All the bits of ACCESS.
pub const ACCESS_ALL: u32 = 0x3f;

/// Number of look-ups of a name that other callers keep changing.
const NR_TRIES: usize = 16;
/// Maximum number of directories between a directory and its export's root.
const MAX_DEPTH: usize = 4096;

/// Capacity and free space of a file system.
///
/// # Source
/// `rfc1813` section 3.3.18
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct FsStat {
    /// Total bytes.
    pub total_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes that are free for ordinary users.
    pub available_bytes: u64,
    /// Total files.
    pub total_files: u64,
    /// Files that can still be created.
    pub free_files: u64,
    /// Files that ordinary users can still create.
    pub available_files: u64,
}

/// Properties of a file system.
///
/// # Source
/// `rfc1813` section 3.3.19
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct FsInfo {
    /// The size of a block, of which transfers should be multiples.
    pub block_bytes: u32,
    /// Maximum size of a file, as far as the system's interface allows.
    pub max_file_bytes: u64,
}

/// Limits of names.
///
/// # Source
/// `rfc1813` section 3.3.20
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct PathConf {
    /// Maximum number of links to a file.
    pub max_links: u32,
    /// Maximum number of bytes in a name.
    pub max_name_bytes: u32,
}

impl Vfs {
    /// Returns the directory at `path`, which a client wants to mount, and its handle.
    ///
    /// # Errors
    /// [`Noent`](NfsStatus::Noent) for a path that is not exported, or does not exist;
    /// [`Acces`](NfsStatus::Acces) for a client that the export does not serve, and for a path through
    /// a symbolic link or a mount point.
    pub fn mount(&self, path: &Path, caller: &Caller<'_>) -> NfsResult<Fh> {
        let table = self.exports();
        // `..` is never followed; a path that contains it cannot be compared with those of exports.
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(NfsStatus::Noent);
        }
        let (export, below) = table.at_path(path).ok_or(NfsStatus::Noent)?;
        let options = options_for(export, caller)?;
        let client = Client::of(caller.addr.ip());
        let _turn = self.turns.enter(export.file_system(), client, &export.rule().path)?;
        self.act_as_server()?;
        let root = openat(export.root(), c".", PATH_DIRECTORY, Mode::empty())?;
        let root = self.keep(Node::new(*export.root_fh(), export.root_object, root)?);
        let export = Arc::clone(export);
        let mut at = Object { node: root, export, options, who: self.identity(&options, caller) };
        for part in below.components() {
            let Component::Normal(part) = part else { continue };
            let name = Name::new(part.as_encoded_bytes())?;
            at = at.sibling(self.child(&at.node, &at.export, &name)?);
            match at.node.kind() {
                FileKind::Directory => {}
                FileKind::Link => return Err(NfsStatus::Acces),
                _ => return Err(NfsStatus::Notdir),
            }
        }
        Ok(*at.fh())
    }

    /// Looks up `name` in a directory.
    ///
    /// `..` at the root of the export is the root. Links are returned, never followed.
    ///
    /// # Errors
    /// [`Noent`](NfsStatus::Noent); [`Acces`](NfsStatus::Acces) if the caller may not search the
    /// directory, and for mount points.
    pub fn lookup(&self, dir: &Object, name: &Name) -> NfsResult<Object> {
        dir.node.check_directory()?;
        self.act_for(dir)?;
        let node = match name.as_bytes() {
            b"." | b".." => {
                self.check(dir, Rights::EXEC_OK)?;
                if name.as_bytes() == b"." { Arc::clone(&dir.node) } else { self.parent(dir)? }
            }
            _ => self.child(&dir.node, &dir.export, name)?,
        };
        Ok(dir.sibling(node))
    }

    /// Looks up `name`, which is not `.` or `..`, in `dir`.
    pub(crate) fn child(&self, dir: &Node, export: &Export, name: &Name) -> NfsResult<Arc<Node>> {
        for _ in 0..NR_TRIES {
            let object = export.finder.name_of(dir.fd(), name.as_c_str())?;
            export.finder.seen(&object, dir.object(), name);
            let fh = export.fh_of(&self.key, &object);
            if let Some(known) = self.nodes.get(&fh) {
                return Ok(known);
            }
            let path = open_path(dir.fd(), name.as_c_str())?;
            // Another file may have got the name between the two calls.
            if export.finder.name_of(path.as_fd(), c"")? == object {
                return Ok(self.keep(Node::new(fh, object, path)?));
            }
        }
        Err(NfsStatus::Jukebox)
    }

    /// Returns the handle of `name` in a directory, without keeping the file open.
    pub(crate) fn child_fh(&self, dir: &Object, name: &Name) -> NfsResult<(Fh, ObjectId)> {
        let object = dir.export.finder.name_of(dir.node.fd(), name.as_c_str())?;
        dir.export.finder.seen(&object, dir.node.object(), name);
        Ok((dir.export.fh_of(&self.key, &object), object))
    }

    /// Returns the parent of `dir`, which must be in the export too.
    fn parent(&self, dir: &Object) -> NfsResult<Arc<Node>> {
        let export = &dir.export;
        let stat = dir.node.stat()?;
        if export.is_root(stat.st_dev, stat.st_ino) {
            return Ok(Arc::clone(&dir.node));
        }
        let parent = openat(dir.node.fd(), c"..", PATH_DIRECTORY, Mode::empty())?;
        self.act_as_server()?;
        check_beneath(export, &parent)?;
        let object = export.finder.name_of(parent.as_fd(), c"")?;
        let fh = export.fh_of(&self.key, &object);
        Ok(self.keep(Node::new(fh, object, parent)?))
    }

    /// Returns which of the `wanted` bits the caller has.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale); a missing permission is not an error.
    pub fn access(&self, object: &Object, wanted: u32) -> NfsResult<u32> {
        self.act_for(object)?;
        let may_write = object.options.access == Access::ReadWrite;
        let is_dir = object.node.kind() == FileKind::Directory;
        let groups = if is_dir {
            [
                (ACCESS_READ, Rights::READ_OK),
                (ACCESS_LOOKUP, Rights::EXEC_OK),
                (CHANGES, Rights::WRITE_OK | Rights::EXEC_OK),
            ]
        } else {
            [
                (ACCESS_READ, Rights::READ_OK),
                (ACCESS_MODIFY | ACCESS_EXTEND, Rights::WRITE_OK),
                (ACCESS_EXECUTE, Rights::EXEC_OK),
            ]
        };
        let mut granted = 0;
        for (bits, rights) in groups {
            let asked = wanted & bits;
            if asked == 0 || (rights.contains(Rights::WRITE_OK) && !may_write) {
                continue;
            }
            match self.check(object, rights) {
                Ok(()) => granted |= asked,
                Err(NfsStatus::Acces | NfsStatus::Perm | NfsStatus::Rofs) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(granted)
    }

    /// Checks that the caller has `rights` on a file.
    pub(crate) fn check(&self, object: &Object, rights: Rights) -> NfsResult<()> {
        self.act_for(object)?;
        let name = object.node.fd_name();
        Ok(accessat(self.descriptors(), name, rights, AtFlags::EACCESS)?)
    }

    /// Returns the target of a symbolic link, which the client follows.
    ///
    /// # Errors
    /// [`Inval`](NfsStatus::Inval) if the file is not a link.
    pub fn readlink(&self, link: &Object) -> NfsResult<Vec<u8>> {
        if link.node.kind() != FileKind::Link {
            return Err(NfsStatus::Inval);
        }
        let target = rustix::fs::readlinkat(link.node.fd(), c"", Vec::new())?;
        Ok(target.into_bytes())
    }

    /// Returns the capacity and free space of the file system.
    ///
    /// # Errors
    /// The error of the system.
    pub fn fsstat(&self, object: &Object) -> NfsResult<FsStat> {
        let stat = fstatvfs(object.node.fd())?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(FsStat {
            total_bytes: bytes(stat.f_blocks),
            free_bytes: bytes(stat.f_bfree),
            available_bytes: bytes(stat.f_bavail),
            total_files: stat.f_files,
            free_files: stat.f_ffree,
            available_files: stat.f_favail,
        })
    }

    /// Returns the properties of the file system.
    ///
    /// # Errors
    /// The error of the system.
    pub fn fsinfo(&self, object: &Object) -> NfsResult<FsInfo> {
        let stat = fstatvfs(object.node.fd())?;
        let block_bytes = u32::try_from(stat.f_bsize).unwrap_or(4096);
        Ok(FsInfo { block_bytes, max_file_bytes: i64::MAX.unsigned_abs() })
    }

    /// Returns the limits of names.
    ///
    /// # Errors
    /// The error of the system.
    pub fn pathconf(&self, object: &Object) -> NfsResult<PathConf> {
        let stat = fstatvfs(object.node.fd())?;
        let max_name_bytes = u32::try_from(stat.f_namemax).unwrap_or(255).min(255);
        Ok(PathConf { max_links: max_links(object), max_name_bytes })
    }
}

/// Checks that a directory is in the export, at the root or below it.
fn check_beneath(export: &Export, dir: &OwnedFd) -> NfsResult<()> {
    let root = export.location();
    let mut at = Location::of(dir.as_fd())?;
    let mut above: Option<OwnedFd> = None;
    for _ in 0..MAX_DEPTH {
        if at.place == root.place {
            return Ok(());
        }
        // Not the device: the directories of one mount may have several, as on btrfs.
        if at.mount != root.mount {
            break;
        }
        let dir = above.as_ref().unwrap_or(dir);
        let next = openat(dir, c"..", PATH_DIRECTORY, Mode::empty())?;
        let next_at = Location::of(next.as_fd())?;
        if next_at == at {
            break;
        }
        (above, at) = (Some(next), next_at);
    }
    Err(Errno::NOENT.into())
}

/// Returns the maximum number of links to a file, by the type of the file system.
///
/// # Source
/// `man-pages` `pathconf(3)`; the C library, too, decides by the type of the file system
fn max_links(object: &Object) -> u32 {
    match rustix::fs::fstatfs(object.node.fd()).map(|stat| stat.f_type) {
        Ok(EXT4_MAGIC) => 65_000,
        Ok(BTRFS_MAGIC) => 65_535,
        Ok(XFS_MAGIC) => 2_147_483_647,
        // The kernel's own limit, for file systems without another one.
        _ => 4_294_967_295,
    }
}

/// The bits of ACCESS for changing a directory.
const CHANGES: u32 = ACCESS_MODIFY | ACCESS_EXTEND | ACCESS_DELETE;

/// Flags to open a directory only as a reference, without reading it.
const PATH_DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const EXT4_MAGIC: rustix::fs::FsWord = 0xef53;
const BTRFS_MAGIC: rustix::fs::FsWord = 0x9123_683e;
const XFS_MAGIC: rustix::fs::FsWord = 0x5846_5342;
