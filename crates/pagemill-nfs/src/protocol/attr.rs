//! File attributes: `fattr3`, `sattr3`, `wcc_data` and times as clients see and set them.
//! `wire.rs` encodes them.

use rustix::fs::{FileType, Stat};

/// The type of a file.
///
/// # Source
/// `rfc1813` section 2.6 `ftype3`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these and no more")]
#[repr(u32)]
pub enum FileKind {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A block device.
    Block = 3,
    /// A character device.
    Character = 4,
    /// A symbolic link.
    Link = 5,
    /// A socket.
    Socket = 6,
    /// A named pipe.
    Fifo = 7,
}

impl FileKind {
    /// Returns the type in a mode.
    #[must_use]
    pub fn of_mode(mode: u32) -> Self {
        match FileType::from_raw_mode(mode) {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::Character,
            FileType::BlockDevice => Self::Block,
            FileType::RegularFile | FileType::Unknown => Self::Regular,
        }
    }
}

/// A protocol time: no negative seconds, and an end in 2106.
///
/// # Source
/// `rfc1813` section 2.6 `nfstime3`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct NfsTime {
    /// Seconds since 1970.
    pub secs: u32,
    /// Nanoseconds, below 10^9.
    pub nsecs: u32,
}

impl NfsTime {
    /// Converts a system time; clamps it to the range of the protocol.
    #[must_use]
    pub fn clamped(secs: i64, nsecs: u64) -> Self {
        match u32::try_from(secs) {
            Ok(secs) => Self { secs, nsecs: u32::try_from(nsecs).unwrap_or(0) },
            Err(_) if secs < 0 => Self::default(),
            Err(_) => Self { secs: u32::MAX, nsecs: 0 },
        }
    }
}

/// The attributes of a file.
///
/// # Source
/// `rfc1813` section 2.6 `fattr3`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Fattr {
    /// The type.
    pub kind: FileKind,
    /// The permissions, and the bits set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// The number of links.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size in bytes.
    pub size: u64,
    /// The bytes that it occupies on disk.
    pub used: u64,
    /// The device number of a special file, major and minor.
    pub rdev: (u32, u32),
    /// The number of the file system.
    pub fsid: u64,
    /// The number of the file.
    pub fileid: u64,
    /// When it was last read.
    pub atime: NfsTime,
    /// When it was last written.
    pub mtime: NfsTime,
    /// When any of this last changed.
    pub ctime: NfsTime,
}

impl Fattr {
    /// Converts the system's attributes; `fsid` is the export's.
    #[must_use]
    pub fn new(stat: &Stat, fsid: u64) -> Self {
        let rdev = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        Self {
            kind: FileKind::of_mode(stat.st_mode),
            mode: stat.st_mode & MODE_BITS,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            used: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            rdev,
            fsid,
            fileid: stat.st_ino,
            atime: NfsTime::clamped(stat.st_atime, stat.st_atime_nsec),
            mtime: NfsTime::clamped(stat.st_mtime, stat.st_mtime_nsec),
            ctime: NfsTime::clamped(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Returns the attributes by which a client detects that it missed a change.
    #[must_use]
    pub fn wcc(&self) -> WccAttr {
        WccAttr { size: self.size, mtime: self.mtime, ctime: self.ctime }
    }
}

/// The bits of a mode that are not its type.
pub const MODE_BITS: u32 = 0o7777;

/// Attributes of a file before a change.
///
/// # Source
/// `rfc1813` section 2.6 `wcc_attr`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct WccAttr {
    /// The size in bytes.
    pub size: u64,
    /// When it was last written.
    pub mtime: NfsTime,
    /// When anything about it last changed.
    pub ctime: NfsTime,
}

/// Attributes of a file before and after a call that may have changed it.
///
/// # Source
/// `rfc1813` section 2.6 `wcc_data`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Wcc {
    /// Before, if no other change through this server came in between.
    pub before: Option<WccAttr>,
    /// After.
    pub after: Option<Fattr>,
}

/// How one of a file's times is changed.
///
/// # Source
/// `rfc1813` section 2.6 `set_atime`, `set_mtime`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these and no more")]
pub enum SetTime {
    /// Unchanged.
    #[default]
    Keep,
    /// Set to the server's clock.
    Now,
    /// Set to the client's time.
    To(NfsTime),
}

/// Changes of a file's attributes; `None` for no change.
///
/// # Source
/// `rfc1813` section 2.6 `sattr3`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Sattr {
    /// The permissions.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The size in bytes.
    pub size: Option<u64>,
    /// When it was last read.
    pub atime: SetTime,
    /// When it was last written.
    pub mtime: SetTime,
}

impl Sattr {
    /// Returns whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_the_protocol_cannot_tell_become_the_nearest() {
        assert_eq!(NfsTime::clamped(-1, 999_999_999), NfsTime { secs: 0, nsecs: 0 });
        assert_eq!(NfsTime::clamped(5, 7), NfsTime { secs: 5, nsecs: 7 });
        let last = i64::from(u32::MAX);
        assert_eq!(NfsTime::clamped(last, 7), NfsTime { secs: u32::MAX, nsecs: 7 });
        assert_eq!(NfsTime::clamped(last + 1, 7), NfsTime { secs: u32::MAX, nsecs: 0 });
    }

    #[test]
    fn every_type_of_file_has_its_number() {
        for (mode, kind) in [
            (0o100_644, FileKind::Regular),
            (0o040_755, FileKind::Directory),
            (0o060_600, FileKind::Block),
            (0o020_600, FileKind::Character),
            (0o120_777, FileKind::Link),
            (0o140_600, FileKind::Socket),
            (0o010_600, FileKind::Fifo),
        ] {
            assert_eq!(FileKind::of_mode(mode), kind);
        }
    }
}
