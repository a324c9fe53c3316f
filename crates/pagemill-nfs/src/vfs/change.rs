//! Changes of names and attributes: create, remove, rename, link, and SETATTR.

use alloc::sync::Arc;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    Access as Rights, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, Uid, chmodat, chownat, fstat, ftruncate, linkat, makedev, mkdirat, mknodat, openat,
    renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::protocol::attr::{FileKind, MODE_BITS, NfsTime, Sattr, SetTime, Wcc};
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::change_sync::ChangeSync;
use crate::vfs::data::check_writable;
use crate::vfs::durability::DataFile;
use crate::vfs::node::{Need, Node};
use crate::vfs::vfs::{Object, Vfs};

/// The result of a change, with the attributes of the directory or file before and after.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Changed<T> {
    /// The result.
    pub result: NfsResult<T>,
    /// The attributes.
    pub wcc: Wcc,
}

/// A new entry, and what its directory was like.
pub type Created = Changed<Object>;

/// What CREATE does if the name exists.
///
/// # Source
/// `rfc1813` section 3.3.8 `createhow3`
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these and no more")]
pub enum HowToCreate {
    /// Uses the existing file.
    Unchecked(Sattr),
    /// Fails.
    Guarded(Sattr),
    /// Fails, unless the file was created by the same call, which is being retransmitted.
    Exclusive([u8; 8]),
}

/// A special file to be created.
///
/// # Source
/// `rfc1813` section 3.3.11 `mknoddata3`
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Device {
    /// The type.
    pub kind: FileKind,
    /// The device's number, major and minor.
    pub rdev: (u32, u32),
    /// The mode, and other attributes.
    pub sattr: Sattr,
}

/// A file that a call made or found, and its sync.
type Made = (Object, ChangeSync);

impl Vfs {
    /// Changes attributes, if `guard` is absent or equals the time of the last change.
    pub fn setattr(&self, object: &Object, sattr: &Sattr, guard: Option<NfsTime>) -> Changed<()> {
        let changes = object.node.lock_changes();
        let before = self.attr(object).ok();
        let result = check_writable(object).and_then(|()| {
            let attr = before.ok_or(NfsStatus::Stale)?;
            if guard.is_some_and(|guard| guard != attr.ctime) {
                return Err(NfsStatus::NotSync);
            }
            let sync = self.before_change(object)?;
            self.apply(object, sattr)?;
            Ok(sync)
        });
        let after = self.attr(object).ok();
        drop(changes);
        let result = result.and_then(|sync| self.finish(sync));
        Changed { result, wcc: Wcc { before: before.map(|attr| attr.wcc()), after } }
    }

    /// Creates a regular file.
    pub fn create(&self, dir: &Object, name: &Name, how: &HowToCreate) -> Created {
        // Before the directory is locked: this may block.
        dir.export.closer.make_room();
        self.change(dir, || {
            refuse_dots(name, NfsStatus::Exist)?;
            let sattr = match how {
                HowToCreate::Unchecked(sattr) | HowToCreate::Guarded(sattr) => *sattr,
                HowToCreate::Exclusive(verifier) => sattr_of_verifier(verifier),
            };
            match self.create_new(dir, name, &sattr) {
                Err(NfsStatus::Exist) => self.create_over(dir, name, how),
                created => created,
            }
        })
    }

    fn create_new(&self, dir: &Object, name: &Name, sattr: &Sattr) -> NfsResult<Made> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = mode_of(sattr, DEFAULT_FILE_MODE);
        let file = openat(dir.node.fd(), name.as_c_str(), flags, mode)?;
        let made = fstat(&file)?;
        let taken = self.take_new(dir, name, sattr, file);
        if taken.is_err() {
            self.unmake(dir, name, &made, AtFlags::empty());
        }
        taken
    }

    /// Sets up a file that was just created.
    fn take_new(&self, dir: &Object, name: &Name, sattr: &Sattr, file: OwnedFd) -> NfsResult<Made> {
        let object = dir.export.finder.name_of(file.as_fd(), c"")?;
        dir.export.finder.seen(&object, dir.node.object(), name);
        let path = openat(
            self.descriptors(),
            rustix::path::DecInt::from_fd(&file),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let fh = dir.export.fh_of(&self.key, &object);
        let created = dir.sibling(self.keep(Node::new(fh, object, path)?));
        // The creator of a file may write to it once, whatever its mode; the descriptor grants that.
        let file = self.durability.watch(*created.fh(), file);
        let sync = Self::before_change_of_new(&created, &file);
        created.node.keep_open(dir.who, Need::Read, Arc::clone(&file), &dir.export.closer);
        created.node.keep_open(dir.who, Need::Write, file, &dir.export.closer);
        let sattr = self.sattr_of_new(&created, sattr);
        self.apply_to_new(&created, &sattr)?;
        Ok((created, sync))
    }

    /// Replies to a CREATE whose name exists.
    fn create_over(&self, dir: &Object, name: &Name, how: &HowToCreate) -> NfsResult<Made> {
        let found = || self.child(&dir.node, &dir.export, name).map(|node| dir.sibling(node));
        match how {
            HowToCreate::Guarded(_) => Err(NfsStatus::Exist),
            HowToCreate::Unchecked(sattr) => {
                let found = found()?;
                if found.node.kind() != FileKind::Regular {
                    return Err(NfsStatus::Exist);
                }
                // If the size is kept too: the call that made the file may not have ended yet.
                let sync = self.before_change(&found)?;
                if let Some(size) = sattr.size {
                    self.resize(&found, size)?;
                }
                Ok((found, sync))
            }
            HowToCreate::Exclusive(verifier) => {
                let found = found()?;
                let stat = found.node.stat()?;
                let ours = found.node.kind() == FileKind::Regular
                    && stat.st_size == 0
                    && verifier_of(&stat) == masked(verifier);
                if !ours {
                    return Err(NfsStatus::Exist);
                }
                // The call that made it may not have ended yet.
                let sync = self.before_change(&found)?;
                Ok((found, sync))
            }
        }
    }

    /// Creates a directory.
    pub fn mkdir(&self, dir: &Object, name: &Name, sattr: &Sattr) -> Created {
        self.change(dir, || {
            refuse_dots(name, NfsStatus::Exist)?;
            mkdirat(dir.node.fd(), name.as_c_str(), mode_of(sattr, DEFAULT_DIR_MODE))?;
            self.made(dir, name, sattr, AtFlags::REMOVEDIR)
        })
    }

    /// Creates a symbolic link; the target is not checked.
    pub fn symlink(&self, dir: &Object, name: &Name, sattr: &Sattr, target: &[u8]) -> Created {
        self.change(dir, || {
            refuse_dots(name, NfsStatus::Exist)?;
            symlinkat(target, dir.node.fd(), name.as_c_str())?;
            self.made(dir, name, sattr, AtFlags::empty())
        })
    }

    /// Creates a device, a socket or a pipe, if the caller may.
    pub fn mknod(&self, dir: &Object, name: &Name, device: &Device) -> Created {
        self.change(dir, || {
            refuse_dots(name, NfsStatus::Exist)?;
            let kind = match device.kind {
                FileKind::Character => FileType::CharacterDevice,
                FileKind::Block => FileType::BlockDevice,
                FileKind::Socket => FileType::Socket,
                FileKind::Fifo => FileType::Fifo,
                _ => return Err(NfsStatus::Badtype),
            };
            let mode = mode_of(&device.sattr, DEFAULT_FILE_MODE);
            let rdev = makedev(device.rdev.0, device.rdev.1);
            mknodat(dir.node.fd(), name.as_c_str(), kind, mode, rdev)?;
            self.made(dir, name, &device.sattr, AtFlags::empty())
        })
    }

    /// Removes the name of a file other than a directory.
    pub fn remove(&self, dir: &Object, name: &Name) -> Changed<()> {
        self.change(dir, || {
            refuse_dots(name, NfsStatus::Acces)?;
            self.unlink(dir, name, AtFlags::empty())?;
            Ok(((), ChangeSync::Omitted))
        })
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, dir: &Object, name: &Name) -> Changed<()> {
        self.change(dir, || {
            let dots = if name.as_bytes() == b"." { NfsStatus::Inval } else { NfsStatus::Exist };
            refuse_dots(name, dots)?;
            self.unlink(dir, name, AtFlags::REMOVEDIR)?;
            Ok(((), ChangeSync::Omitted))
        })
    }

    fn unlink(&self, dir: &Object, name: &Name, flags: AtFlags) -> NfsResult<()> {
        let gone = self.child_fh(dir, name).ok();
        unlinkat(dir.node.fd(), name.as_c_str(), flags)?;
        if let Some((fh, _)) = gone {
            self.forget_if_gone(&fh);
        }
        Ok(())
    }

    /// Renames a file; replaces a file that has the new name.
    ///
    /// Returns the attributes of both directories, the old one first.
    pub fn rename(
        &self,
        (from, name): (&Object, &Name),
        (to, new_name): (&Object, &Name),
    ) -> (Changed<()>, Wcc) {
        let same = from.fh() == to.fh();
        // In the order of their handles, so that two renames cannot wait for each other.
        let (first, second) =
            if from.fh().as_bytes() <= to.fh().as_bytes() { (from, to) } else { (to, from) };
        let locks = (first.node.lock_changes(), (!same).then(|| second.node.lock_changes()));
        let before = [from, to].map(|dir| self.attr(dir).ok().map(|attr| attr.wcc()));
        let result = self.try_rename((from, name), (to, new_name));
        let after = [from, to].map(|dir| self.attr(dir).ok());
        drop(locks);
        let result = result.and_then(|syncs| syncs.into_iter().try_for_each(|it| self.finish(it)));
        let [from, to] = [0, 1].map(|at| Wcc { before: before[at], after: after[at] });
        (Changed { result, wcc: from }, to)
    }

    /// Returns the syncs of the directories, in the order in which to finish them: the new name first,
    /// so that a crash between the two leaves both names rather than none.
    ///
    /// # Source
    /// `linux-7.0` `fs/nfsd/vfs.c` `nfsd_rename`
    fn try_rename(
        &self,
        (from, name): (&Object, &Name),
        (to, new_name): (&Object, &Name),
    ) -> NfsResult<[ChangeSync; 2]> {
        check_writable(from)?;
        check_writable(to)?;
        from.node.check_directory()?;
        to.node.check_directory()?;
        refuse_dots(name, NfsStatus::Inval)?;
        refuse_dots(new_name, NfsStatus::Inval)?;
        if from.export.id() != to.export.id() {
            return Err(NfsStatus::Xdev);
        }
        let syncs = match from.fh() == to.fh() {
            true => [self.before_change(to)?, ChangeSync::Omitted],
            false => [self.before_change(to)?, self.before_change(from)?],
        };
        self.act_for(from)?;
        let moved = self.child_fh(from, name).ok();
        let replaced = self.child_fh(to, new_name).ok();
        renameat(from.node.fd(), name.as_c_str(), to.node.fd(), new_name.as_c_str())?;
        if let Some((_, object)) = moved {
            to.export.finder.seen(&object, to.node.object(), new_name);
        }
        if let Some((fh, _)) = replaced {
            self.forget_if_gone(&fh);
        }
        Ok(syncs)
    }

    /// Adds a name in `dir` to a file.
    pub fn link(&self, file: &Object, dir: &Object, name: &Name) -> Changed<()> {
        self.change(dir, || {
            refuse_dots(name, NfsStatus::Exist)?;
            if file.node.kind() == FileKind::Directory {
                return Err(NfsStatus::Isdir);
            }
            if file.export.id() != dir.export.id() {
                return Err(NfsStatus::Xdev);
            }
            // The number of names. A file that cannot be opened depends on its directory alone, as one
            // that is created does: see `made`.
            let sync = match file.node.kind() {
                FileKind::Regular => self.before_change(file)?,
                _ => ChangeSync::Omitted,
            };
            self.act_for(dir)?;
            let (folder, fd_name) = (self.descriptors(), file.node.fd_name());
            let flags = AtFlags::SYMLINK_FOLLOW;
            linkat(folder, fd_name, dir.node.fd(), name.as_c_str(), flags)?;
            dir.export.finder.seen(file.node.object(), dir.node.object(), name);
            Ok(((), sync))
        })
    }

    /// Runs `does` on a directory for the caller, with the steps that every such change needs. Finishes
    /// the sync that it returns, and makes the directory durable after that: a name that is durable
    /// leads to a file that is.
    fn change<T>(
        &self,
        dir: &Object,
        does: impl FnOnce() -> NfsResult<(T, ChangeSync)>,
    ) -> Changed<T> {
        let changes = dir.node.lock_changes();
        let before = self.attr(dir).ok().map(|attr| attr.wcc());
        let result = check_writable(dir).and_then(|()| {
            dir.node.check_directory()?;
            let sync_of_dir = self.before_change(dir)?;
            self.act_for(dir)?;
            let (value, sync) = does()?;
            Ok((value, [sync, sync_of_dir]))
        });
        let after = self.attr(dir).ok();
        drop(changes);
        let result = result.and_then(|(value, syncs)| {
            syncs.into_iter().try_for_each(|sync| self.finish(sync))?;
            Ok(value)
        });
        Changed { result, wcc: Wcc { before, after } }
    }

    /// Opens a file that was just created, and sets its remaining attributes; removes it if either
    /// fails.
    fn made(&self, dir: &Object, name: &Name, sattr: &Sattr, flags: AtFlags) -> NfsResult<Made> {
        let made = Self::stat_entry(dir, name)?;
        let found = self.child(&dir.node, &dir.export, name).and_then(|node| {
            let object = dir.sibling(node);
            let sattr = self.sattr_of_new(&object, sattr);
            // Links and special files cannot be opened. To sync the file system for each would cost too
            // much, so without further attributes they become durable with their directory.
            let sync = match object.node.kind() {
                FileKind::Regular | FileKind::Directory => self.before_change(&object)?,
                _ if sattr.is_empty() => ChangeSync::Omitted,
                _ => self.before_change(&object)?,
            };
            self.apply_to_new(&object, &sattr)?;
            Ok((object, sync))
        });
        if found.is_err() {
            self.unmake(dir, name, &made, flags);
        }
        found
    }

    /// Removes the file that this call created: a call that fails leaves nothing behind.
    ///
    /// Keeps the name if another process has given it to another file.
    pub(super) fn unmake(&self, dir: &Object, name: &Name, made: &Stat, flags: AtFlags) {
        let removed = self.act_for(dir).and_then(|()| {
            let at = Self::stat_entry(dir, name)?;
            match (at.st_dev, at.st_ino) == (made.st_dev, made.st_ino) {
                true => Ok(unlinkat(dir.node.fd(), name.as_c_str(), flags)?),
                false => Err(NfsStatus::Stale),
            }
        });
        if let Err(status) = removed {
            tracing::warn!(%status, "a failed call could not remove the entry that it created");
        }
    }

    fn stat_entry(dir: &Object, name: &Name) -> NfsResult<Stat> {
        Ok(statat(dir.node.fd(), name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the attributes to set of a new file, which was created with its mode. Its owner is the
    /// caller, unless the caller is root.
    fn sattr_of_new(&self, object: &Object, sattr: &Sattr) -> Sattr {
        let is_root = self.can_override() && object.who.uid() == 0;
        let mut sattr = Sattr { mode: None, ..*sattr };
        if !is_root {
            (sattr.uid, sattr.gid) = (None, None);
        }
        if sattr.size == Some(0) || object.node.kind() != FileKind::Regular {
            sattr.size = None;
        }
        sattr
    }

    fn apply_to_new(&self, object: &Object, sattr: &Sattr) -> NfsResult<()> {
        if sattr.is_empty() { Ok(()) } else { self.apply(object, sattr) }
    }

    /// Sets attributes for the caller.
    ///
    /// Checks first everything that the kernel is known to refuse. If the kernel refuses a later part,
    /// the earlier parts of the change remain, which RFC 1813 allows: undoing them would write values
    /// that another process may have changed since. The size is set last because it alone destroys
    /// data.
    ///
    /// # Source
    /// `rfc1813` section 3.3.2: "A failed SETATTR may partially change a file's attributes."
    fn apply(&self, object: &Object, sattr: &Sattr) -> NfsResult<()> {
        let change = self.check_change(object, sattr)?;
        self.apply_checked(object, &change)
    }

    /// Checks what can be checked without changing anything.
    ///
    /// The kernel, and file systems with their own rules, decide whether the caller may set owner, mode
    /// and times: that is known only when they are set.
    fn check_change(&self, object: &Object, sattr: &Sattr) -> NfsResult<Change> {
        let (uid, gid) = (sattr.uid, sattr.gid);
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(NfsStatus::Inval);
        }
        // A new size sets the modification time to now, which any caller that may write may do. Only
        // the owner may set that time alone.
        let is_set_by_size = sattr.size.is_some() && sattr.mtime == SetTime::Now;
        let mtime = if is_set_by_size { SetTime::Keep } else { sattr.mtime };
        let times = Times::new(sattr.atime, mtime)?;
        let size = match sattr.size {
            Some(size) => Some((self.open_to_resize(object, size)?, size)),
            None => None,
        };
        // These times are set after the size. The descriptor may be older than the current mode, so it
        // proves no right to set them.
        if size.is_some() && times.are_now && object.node.stat()?.st_uid != object.who.uid() {
            self.check(object, Rights::WRITE_OK)?;
        }
        let is_dir = object.node.kind() == FileKind::Directory;
        let changes_hands = !is_dir && (uid.is_some() || gid.is_some());
        // A symbolic link has no mode of its own: as in `nfsd_setattr`, a mode is ignored.
        let is_link = object.node.kind() == FileKind::Link;
        let mode = sattr.mode.filter(|_| !is_link).map(|mode| match mode & MODE_BITS {
            mode if changes_hands => without_set_ids(mode),
            mode => mode,
        });
        Ok(Change { uid, gid, mode, size, times })
    }

    /// Carries out a checked change.
    fn apply_checked(&self, object: &Object, change: &Change) -> NfsResult<()> {
        self.act_for(object)?;
        if change.uid.is_some() || change.gid.is_some() {
            self.set_owner(object, change.uid, change.gid)?;
            self.forget_permissions(object);
        }
        if let Some(mode) = change.mode {
            self.set_mode(object, mode)?;
            self.forget_permissions(object);
        }
        if change.size.is_none() || change.times.are_given {
            self.set_times(object, &change.times)?;
        }
        if let Some((file, size)) = &change.size {
            ftruncate(file, *size)?;
            // The new size has cleared bits of the mode and set a time.
            if let Some(mode) = change.mode.filter(|mode| mode & SET_IDS != 0) {
                self.set_mode(object, mode)?;
            }
            self.set_times(object, &change.times)?;
        }
        Ok(())
    }

    fn set_owner(&self, object: &Object, uid: Option<u32>, gid: Option<u32>) -> NfsResult<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(chownat(object.node.fd(), c"", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    fn set_mode(&self, object: &Object, mode: u32) -> NfsResult<()> {
        let (mode, flags) = (Mode::from_raw_mode(mode & MODE_BITS), AtFlags::empty());
        Ok(chmodat(self.descriptors(), object.node.fd_name(), mode, flags)?)
    }

    fn set_times(&self, object: &Object, times: &Times) -> NfsResult<()> {
        let Some(stamps) = &times.stamps else { return Ok(()) };
        let set = || utimensat(self.descriptors(), object.node.fd_name(), stamps, AtFlags::empty());
        match set() {
            Err(Errno::PERM) if times.are_now => {
                // The kernel lets callers other than the owner set both times to now, but not one of
                // them. The protocol lets every caller that may write do either.
                self.check(object, Rights::WRITE_OK)?;
                self.act_as_server()?;
                let set = set();
                self.act_for(object)?;
                Ok(set?)
            }
            set => Ok(set?),
        }
    }

    /// Drops descriptors that were opened under an earlier owner or mode.
    fn forget_permissions(&self, object: &Object) {
        if self.can_override() {
            object.node.forget_opens();
        }
    }

    fn forget_if_gone(&self, fh: &crate::protocol::fh::Fh) {
        if self.nodes.get(fh).is_some_and(|node| node.stat().is_err()) {
            self.nodes.remove(fh);
        }
    }
}

fn refuse_dots(name: &Name, status: NfsStatus) -> NfsResult<()> {
    if name.is_dot() { Err(status) } else { Ok(()) }
}

fn mode_of(sattr: &Sattr, default: u32) -> Mode {
    Mode::from_raw_mode(sattr.mode.unwrap_or(default) & MODE_BITS)
}

/// A checked SETATTR, with the data to carry it out.
struct Change {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    /// The file, open for writing, and its new size.
    size: Option<(Arc<DataFile>, u64)>,
    times: Times,
}

/// Times to set.
struct Times {
    /// In the system's format; `None` to leave both unchanged.
    stamps: Option<Timestamps>,
    /// Whether one of them is the client's, which only the file's owner may set.
    are_given: bool,
    /// Whether at least one is set to now, and none is the client's.
    are_now: bool,
}

impl Times {
    fn new(atime: SetTime, mtime: SetTime) -> NfsResult<Self> {
        let both = [atime, mtime];
        let are_given = both.iter().any(|time| matches!(time, SetTime::To(_)));
        let are_kept = both.iter().all(|time| *time == SetTime::Keep);
        let stamps =
            Timestamps { last_access: timespec(atime)?, last_modification: timespec(mtime)? };
        Ok(Self {
            stamps: (!are_kept).then_some(stamps),
            are_given,
            are_now: !are_kept && !are_given,
        })
    }
}

/// Returns a mode for a file that gets another owner in the same call, without set-id bits.
///
/// # Source
/// `linux-7.0` `fs/nfsd/vfs.c` `nfsd_sanitize_attrs`
fn without_set_ids(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}

/// The bits set-user-id and set-group-id.
const SET_IDS: u32 = 0o6000;

fn timespec(time: SetTime) -> NfsResult<Timespec> {
    Ok(match time {
        SetTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        // Two nanosecond values above 10^9 have special meanings for the system.
        SetTime::To(time) if time.nsecs >= NSEC_PER_SEC => return Err(NfsStatus::Inval),
        SetTime::To(time) => Timespec { tv_sec: time.secs.into(), tv_nsec: time.nsecs.into() },
    })
}

const NSEC_PER_SEC: u32 = 1_000_000_000;

/// Stores a verifier in the times of the new file, where it survives a restart.
///
/// # Source
/// `linux-7.0` `fs/nfsd/nfs3proc.c` `nfsd3_create_file`: the sign bits are left out, as not every
/// file system stores them.
fn sattr_of_verifier(verifier: &[u8; 8]) -> Sattr {
    let [atime, mtime] = masked(verifier).map(|secs| SetTime::To(NfsTime { secs, nsecs: 0 }));
    Sattr { atime, mtime, ..Sattr::default() }
}

fn masked(verifier: &[u8; 8]) -> [u32; 2] {
    let word = u64::from_be_bytes(*verifier);
    [word & 0x7fff_ffff, (word >> 32) & 0x7fff_ffff]
        .map(|half| u32::try_from(half).expect("31 bits"))
}

fn verifier_of(stat: &Stat) -> [u32; 2] {
    [stat.st_atime, stat.st_mtime].map(|secs| u32::try_from(secs).unwrap_or(u32::MAX))
}

/// Mode of a file whose creator gives none: only the owner may read and write.
const DEFAULT_FILE_MODE: u32 = 0o600;
/// Mode of a directory whose creator gives none.
const DEFAULT_DIR_MODE: u32 = 0o700;
