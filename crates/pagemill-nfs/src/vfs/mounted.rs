//! Mounted file system of an export: its stamp, whether it is local, and how long handles stay valid.
//!
//! A handle carries a [`Stamp`] of its file system. Another file system that is mounted at the export's
//! path later has another stamp, so none of its files is mistaken for one of the first.

use core::fmt;
use core::hash::Hasher;
use std::fs;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, FsWord, StatVfsMountFlags, StatxFlags, fstatfs, fstatvfs, makedev, statx,
};
use rustix::io::Result;
use siphasher::sip::SipHasher24;

use crate::protocol::fh::Stamp;

/// How long clients may use the handles of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleLife {
    /// Until their files are removed; across restarts and remounts.
    File,
    /// Until the file system is unmounted, and only as long as it remembers its files.
    Mount,
    /// Until the server stops.
    Server,
}

impl fmt::Display for HandleLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "survive restarts",
            Self::Mount => {
                "may not survive a restart: they become stale when the file system is unmounted or \
                 forgets a file"
            }
            Self::Server => "do not survive a restart",
        })
    }
}

/// A mounted file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mounted {
    pub(crate) stamp: Stamp,
    pub(crate) life: HandleLife,
    /// Whether names that the kernel makes may later denote other files.
    pub(crate) reuses_names: bool,
    /// Whether it exists only in memory.
    pub(crate) is_volatile: bool,
    /// Whether the kernel alone serves it, from memory or a local disk.
    pub(crate) is_local: bool,
    /// Whether it was mounted read-only when the export was opened.
    pub(crate) is_read_only: bool,
    pub(crate) fsid: u64,
}

impl Mounted {
    /// Detects the file system that `root` is on.
    pub(crate) fn of(root: BorrowedFd<'_>) -> Result<Self> {
        let f_type = fstatfs(root)?.f_type;
        let state = fstatvfs(root)?;
        let (fsid, is_read_only) = (state.f_fsid, state.f_flag.contains(StatVfsMountFlags::RDONLY));
        let at = Location::of(root)?;
        let is_volatile = matches!(f_type, TMPFS_MAGIC | RAMFS_MAGIC);
        let fuse = f_type == FUSE_SUPER_MAGIC;
        // FUSE numbers files anew for each mount, and does not identify the file system.
        let (words, life) = match (fuse, fsid) {
            (true, _) => match unique_mount(root) {
                Some([high, low, mount]) => ([high, low, mount], HandleLife::Mount),
                None => ([0, 0, this_process()], HandleLife::Server),
            },
            (false, 0) => ([0, 0, at.place.0], HandleLife::File),
            (false, fsid) => ([0, fsid, 0], HandleLife::File),
        };
        let mut hasher = SipHasher24::new();
        hasher.write_i64(f_type);
        words.into_iter().for_each(|word| hasher.write_u64(word));
        let fsid = if fsid == 0 { at.place.0 } else { fsid };
        let stamp = Stamp::of_hash(hasher.finish());
        let is_local = is_local(f_type);
        Ok(Self { stamp, life, reuses_names: fuse, is_volatile, is_local, is_read_only, fsid })
    }
}

/// Returns whether the kernel alone serves file systems of a type. Another process or machine may serve
/// any type that is not listed, and may stop responding at any time. That includes overlayfs, whose
/// layers may be on any file system.
fn is_local(f_type: FsWord) -> bool {
    LOCAL_MAGICS.contains(&f_type)
}

/// The identity of a file: its mount, device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the mount; that of the device if the kernel does not report it (before 5.8).
    pub(crate) mount: u64,
    /// Device and inode.
    pub(crate) place: (u64, u64),
}

impl Location {
    /// Returns the location of an open file.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Self> {
        let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
        let stat = statx(file, c"", AtFlags::EMPTY_PATH, wanted)?;
        let device = makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let told = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let mount = if told { stat.stx_mnt_id } else { device };
        Ok(Self { mount, place: (device, stat.stx_ino) })
    }
}

/// Returns a number of the mount that no other mount ever has, in three words; `None` before Linux 6.8.
fn unique_mount(root: BorrowedFd<'_>) -> Option<[u64; 3]> {
    // The kernel counts mounts from its start on.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16).ok()?;
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let stat = statx(root, c"", AtFlags::EMPTY_PATH, unique).ok()?;
    let told = stat.stx_mask & STATX_MNT_ID_UNIQUE != 0;
    let [high, low] = [boot >> 64, boot & u128::from(u64::MAX)];
    told.then_some([u64::try_from(high).ok()?, u64::try_from(low).ok()?, stat.stx_mnt_id])
}

/// Returns a number that practically no other process has.
fn this_process() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    *NUMBER.get_or_init(crate::vfs::verifier::fresh_verifier)
}

/// # Source
/// `linux-7.0` `include/uapi/linux/stat.h`
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// Magic numbers in `statfs` of file systems that exist only in memory.
const TMPFS_MAGIC: FsWord = 0x0102_1994;
const RAMFS_MAGIC: FsWord = 0x8584_58f6;
const FUSE_SUPER_MAGIC: FsWord = 0x6573_5546;
/// Bcachefs, btrfs, exFAT, ext2 to ext4, F2FS, ISO 9660, ramfs, tmpfs, XFS and ZFS.
const LOCAL_MAGICS: [FsWord; 10] = [
    0xca45_1a4e,
    0x9123_683e,
    0x2011_bab0,
    0xef53,
    0xf2f5_2010,
    0x9660,
    RAMFS_MAGIC,
    TMPFS_MAGIC,
    0x5846_5342,
    0x2fc1_2fc1,
];
