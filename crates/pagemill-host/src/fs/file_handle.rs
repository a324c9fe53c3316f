//! Kernel file handles (`name_to_handle_at`): names of files that outlive descriptors, paths and
//! processes.
//!
//! The kernel makes a handle from the inode's number and generation, and finds the file by it even
//! after a rename. Neither `std` nor rustix wraps the two calls.

use core::ffi::{CStr, c_int, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};

/// Maximum number of bytes in a kernel handle.
///
/// # Source
/// `man-pages` `open_by_handle_at(2)` `MAX_HANDLE_SZ`
pub const MAX_FILE_HANDLE_BYTES: usize = ROOM_BYTES as usize;
const ROOM_BYTES: c_uint = 128;

/// # Source
/// `linux-7.0` `include/uapi/linux/fcntl.h`; the C library's headers have it not everywhere.
const AT_HANDLE_FID: c_int = 0x200;

/// A file's name within its file system, as the kernel knows it.
///
/// It conveys no rights: a caller that opens by it must check that the file may be accessed.
#[derive(Clone, Copy)]
pub struct FileHandle {
    raw: RawHandle,
}

/// The head of `struct file_handle`, and the buffer after it.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawHandle {
    handle_bytes: c_uint,
    handle_type: c_int,
    f_handle: [u8; MAX_FILE_HANDLE_BYTES],
}

impl FileHandle {
    /// Makes a handle from its parts; `None` if `bytes` has more bytes than a kernel handle can have.
    #[must_use]
    pub fn new(kind: i32, bytes: &[u8]) -> Option<Self> {
        let mut f_handle = [0; MAX_FILE_HANDLE_BYTES];
        f_handle.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let handle_bytes = c_uint::try_from(bytes.len()).ok()?;
        Some(Self { raw: RawHandle { handle_bytes, handle_type: kind, f_handle } })
    }

    /// Returns the kernel's number for the format of the bytes.
    #[must_use]
    pub fn kind(&self) -> i32 {
        self.raw.handle_type
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let len = usize::try_from(self.raw.handle_bytes).unwrap_or(usize::MAX);
        &self.raw.f_handle[..len.min(MAX_FILE_HANDLE_BYTES)]
    }

    /// Returns the handle of `name` in `dir`, and the number of its mount.
    ///
    /// An empty name stands for `dir` itself. A symbolic link at the end is not followed.
    ///
    /// # Errors
    /// The error of `name_to_handle_at`: `EOPNOTSUPP` if the file system has no handles.
    pub fn of(dir: BorrowedFd<'_>, name: &CStr) -> Result<(Self, i32)> {
        Self::ask(dir, name, 0)
    }

    /// Returns a handle as [`of`](Self::of) does, but one that only identifies the file: the file
    /// system need not be able to open files by it.
    ///
    /// # Errors
    /// The error of `name_to_handle_at`: `EINVAL` before Linux 6.5.
    ///
    /// # Source
    /// `man-pages` `open_by_handle_at(2)` `AT_HANDLE_FID`
    pub fn id_of(dir: BorrowedFd<'_>, name: &CStr) -> Result<(Self, i32)> {
        Self::ask(dir, name, AT_HANDLE_FID)
    }

    fn ask(dir: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<(Self, i32)> {
        let mut raw = RawHandle {
            handle_bytes: ROOM_BYTES,
            handle_type: 0,
            f_handle: [0; MAX_FILE_HANDLE_BYTES],
        };
        let mut mount_id: c_int = 0;
        let flags = flags | if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        // SAFETY:
        // 1. The name is a `CStr`, which ends with a zero byte.
        // 2. `raw` has the layout of `struct file_handle` with `handle_bytes` bytes after its head,
        //    and is borrowed uniquely.
        // 3. `mount_id` is a `c_int`, and is borrowed uniquely.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                dir.as_raw_fd(),
                name.as_ptr(),
                &raw mut raw,
                &raw mut mount_id,
                flags,
            )
        };
        if answer == -1 { Err(last_errno()) } else { Ok((Self { raw }, mount_id)) }
    }

    /// Opens the file with this handle on the file system that `mount` is on.
    ///
    /// `mount` must not be open with `O_PATH`.
    ///
    /// # Errors
    /// The error of `open_by_handle_at`: `ESTALE` if the file is gone, `EPERM` without the capability
    /// `CAP_DAC_READ_SEARCH`. A file that was just removed may still be opened.
    pub fn open(&self, mount: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let mut raw = self.raw;
        let flags = (flags | OFlags::CLOEXEC).bits();
        // SAFETY:
        // 1. `raw` has the layout of `struct file_handle`, and its head states at most as many
        //    bytes as follow it.
        let fd = unsafe {
            libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut raw, flags)
        };
        let Ok(fd @ 0..) = c_int::try_from(fd) else {
            return Err(last_errno());
        };
        // SAFETY:
        // 1. The kernel has just opened the descriptor, and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl PartialEq for FileHandle {
    fn eq(&self, other: &Self) -> bool {
        (self.kind(), self.as_bytes()) == (other.kind(), other.as_bytes())
    }
}

impl Eq for FileHandle {}

impl core::fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "FileHandle({}, {:02x?})", self.kind(), self.as_bytes())
    }
}

/// Returns the error of the last system call through the C library.
pub(crate) fn last_errno() -> Errno {
    let code = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(code.unwrap_or(libc::EIO))
}

#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use rustix::fs::{CWD, Mode, fstat, open};

    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("pagemill-fh-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_handle_finds_its_file_after_a_rename_and_not_after_removal() {
        let dir = scratch("rename");
        fs::write(dir.join("a"), "a").unwrap();
        let fd = open(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (handle, mount) = match FileHandle::of(fd.as_fd(), c"a") {
            Err(Errno::OPNOTSUPP) => return eprintln!("SKIPPED: no handles on this file system"),
            handle => handle.unwrap(),
        };
        assert_eq!(FileHandle::of(fd.as_fd(), c"").unwrap().1, mount);
        assert_eq!(FileHandle::new(handle.kind(), handle.as_bytes()), Some(handle));
        fs::rename(dir.join("a"), dir.join("b")).unwrap();
        match handle.open(fd.as_fd(), OFlags::PATH) {
            Err(Errno::PERM) => return eprintln!("SKIPPED: no right to open by handle"),
            found => {
                let ino = fstat(found.unwrap()).unwrap().st_ino;
                assert_eq!(ino, rustix::fs::stat(dir.join("b")).unwrap().st_ino);
            }
        }
        fs::remove_file(dir.join("b")).unwrap();
        // While the kernel still writes it back, a removed file can be opened, and has no links.
        match handle.open(fd.as_fd(), OFlags::PATH) {
            Ok(found) => assert_eq!(fstat(found).unwrap().st_nlink, 0),
            Err(errno) => assert_eq!(errno, Errno::STALE),
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_named_and_not_followed() {
        let dir = scratch("link");
        std::os::unix::fs::symlink("/nowhere", dir.join("l")).unwrap();
        let fd = open(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        match FileHandle::of(fd.as_fd(), c"l") {
            Err(Errno::OPNOTSUPP) => eprintln!("SKIPPED: no handles on this file system"),
            handle => assert!(!handle.unwrap().0.as_bytes().is_empty()),
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn more_bytes_than_the_kernel_makes_are_refused() {
        assert!(FileHandle::new(1, &[0; MAX_FILE_HANDLE_BYTES]).is_some());
        assert_eq!(FileHandle::new(1, &[0; MAX_FILE_HANDLE_BYTES + 1]), None);
        assert_eq!(FileHandle::of(CWD, c"no such file").unwrap_err(), Errno::NOENT);
    }
}
