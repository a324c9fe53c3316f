//! Status codes of NFS and MOUNT, and their mapping from system errors.

use core::error::Error;
use core::fmt;

use rustix::io::Errno;

/// Declares the statuses and the list of all of them.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// An error status of NFS and MOUNT, which share numbers; success is not included.
        ///
        /// # Source
        /// `rfc1813` sections 2.6 and 5.1.2
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum NfsStatus {
            $($(#[$doc])* $name = $code,)*
        }

        impl NfsStatus {
            /// Every error status, in the order of their numbers.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$name),*];
        }
    };
}

statuses! {
    /// `NFS3ERR_PERM`: only the owner or a privileged user may do this.
    Perm = 1,
    /// `NFS3ERR_NOENT`: there is no such name.
    Noent = 2,
    /// `NFS3ERR_IO`: the device failed, or the error has no status of its own.
    Io = 5,
    /// `NFS3ERR_NXIO`: there is no such device.
    Nxio = 6,
    /// `NFS3ERR_ACCES`: the caller lacks the permission.
    Acces = 13,
    /// `NFS3ERR_EXIST`: the name is taken.
    Exist = 17,
    /// `NFS3ERR_XDEV`: the two names are on different file systems.
    Xdev = 18,
    /// `NFS3ERR_NODEV`: the device does not support this.
    Nodev = 19,
    /// `NFS3ERR_NOTDIR`: what must be a directory is none.
    Notdir = 20,
    /// `NFS3ERR_ISDIR`: what must not be a directory is one.
    Isdir = 21,
    /// `NFS3ERR_INVAL`: an argument is out of range, or not for this type of file.
    Inval = 22,
    /// `NFS3ERR_FBIG`: the file would exceed the maximum size.
    Fbig = 27,
    /// `NFS3ERR_NOSPC`: the file system is full.
    Nospc = 28,
    /// `NFS3ERR_ROFS`: the file system, or the export, is read-only.
    Rofs = 30,
    /// `NFS3ERR_MLINK`: the file has the maximum number of links.
    Mlink = 31,
    /// `NFS3ERR_NAMETOOLONG`: the name is longer than the maximum.
    Nametoolong = 63,
    /// `NFS3ERR_NOTEMPTY`: the directory is not empty.
    Notempty = 66,
    /// `NFS3ERR_DQUOT`: the user's quota is used up.
    Dquot = 69,
    /// `NFS3ERR_STALE`: the handle names a file that is gone, or no longer exported.
    Stale = 70,
    /// `NFS3ERR_BADHANDLE`: the handle was not made by this server.
    Badhandle = 10001,
    /// `NFS3ERR_NOT_SYNC`: the file has changed since the caller read its attributes.
    NotSync = 10002,
    /// `NFS3ERR_BAD_COOKIE`: the cookie is not a valid position in the directory.
    BadCookie = 10003,
    /// `NFS3ERR_NOTSUPP`: the file system cannot do this.
    Notsupp = 10004,
    /// `NFS3ERR_TOOSMALL`: the caller's limit is too small for one entry.
    Toosmall = 10005,
    /// `NFS3ERR_SERVERFAULT`: an error of the server without a status of its own.
    Serverfault = 10006,
    /// `NFS3ERR_BADTYPE`: a node of this type cannot be created.
    Badtype = 10007,
    /// `NFS3ERR_JUKEBOX`: temporarily unavailable, for lack of memory, descriptors or threads; the
    /// client retries.
    Jukebox = 10008,
}

/// The result of a procedure, or an error status.
pub type NfsResult<T> = Result<T, NfsStatus>;

impl NfsStatus {
    /// Returns the status with this number, if there is one.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// Returns the number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }
}

impl From<Errno> for NfsStatus {
    /// Maps a system error to exactly one status.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PERM => Self::Perm,
            Errno::NOENT => Self::Noent,
            Errno::NXIO => Self::Nxio,
            // BUSY is a mount point or a swap file here; LOOP is a link where none is followed.
            Errno::ACCESS | Errno::BUSY | Errno::LOOP => Self::Acces,
            Errno::EXIST => Self::Exist,
            Errno::XDEV => Self::Xdev,
            Errno::NODEV => Self::Nodev,
            Errno::NOTDIR => Self::Notdir,
            Errno::ISDIR => Self::Isdir,
            Errno::INVAL | Errno::OVERFLOW => Self::Inval,
            Errno::FBIG => Self::Fbig,
            Errno::NOSPC => Self::Nospc,
            Errno::ROFS => Self::Rofs,
            Errno::MLINK => Self::Mlink,
            Errno::NAMETOOLONG => Self::Nametoolong,
            Errno::NOTEMPTY => Self::Notempty,
            Errno::DQUOT => Self::Dquot,
            Errno::STALE => Self::Stale,
            Errno::OPNOTSUPP | Errno::NOSYS => Self::Notsupp,
            Errno::NOMEM | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::TIMEDOUT => {
                Self::Jukebox
            }
            _ => Self::Io,
        }
    }
}

impl fmt::Display for NfsStatus {
    /// Writes the status as the RFC spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::NotSync => "NOT_SYNC".to_owned(),
            Self::BadCookie => "BAD_COOKIE".to_owned(),
            other => format!("{other:?}").to_ascii_uppercase(),
        };
        write!(f, "NFS3ERR_{name}")
    }
}

impl Error for NfsStatus {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_tried_again_is_told_apart_from_what_failed() {
        for errno in [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN] {
            assert_eq!(NfsStatus::from(errno), NfsStatus::Jukebox, "{errno}");
        }
        assert_eq!(NfsStatus::from(Errno::IO), NfsStatus::Io);
        assert_eq!(NfsStatus::from(Errno::TXTBSY), NfsStatus::Io);
    }

    #[test]
    fn numbers_of_the_system_and_of_the_protocol_agree_where_the_rfc_took_them_over() {
        for number in [1, 2, 5, 6, 13, 17, 18, 19, 20, 21, 22, 27, 28, 30, 31] {
            let status = NfsStatus::from(Errno::from_raw_os_error(number));
            assert_eq!(i32::try_from(status.code()), Ok(number));
        }
        assert_eq!(NfsStatus::from(Errno::NAMETOOLONG).code(), 63);
        assert_eq!(NfsStatus::from(Errno::NOTEMPTY).code(), 66);
        assert_eq!(NfsStatus::from(Errno::DQUOT).code(), 69);
        assert_eq!(NfsStatus::from(Errno::STALE).code(), 70);
    }

    #[test]
    fn each_reason_is_found_by_its_number() {
        assert!(NfsStatus::ALL.map(NfsStatus::code).is_sorted());
        for status in NfsStatus::ALL {
            assert_eq!(NfsStatus::from_code(status.code()), Some(status));
        }
        assert_eq!(NfsStatus::from_code(0), None);
    }

    #[test]
    fn reasons_are_spelled_as_in_the_rfc() {
        assert_eq!(NfsStatus::Nametoolong.to_string(), "NFS3ERR_NAMETOOLONG");
        assert_eq!(NfsStatus::BadCookie.to_string(), "NFS3ERR_BAD_COOKIE");
    }
}
