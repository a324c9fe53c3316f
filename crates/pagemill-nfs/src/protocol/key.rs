//! Key file: the secret behind file handles, kept in a file so that handles survive a restart.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::protocol::fh::FhKey;

const SECRET_BYTES: usize = 16;

impl FhKey {
    /// Makes a random key, for handles that end with the process.
    ///
    /// # Errors
    /// The error of the system's random source.
    pub fn random() -> io::Result<Self> {
        Ok(Self::new(fresh()?))
    }

    /// Reads the key from a file, or creates the file with a random key.
    ///
    /// Only the owner can access the file (mode 0600); it holds 16 bytes, and is created atomically: of
    /// two servers that start at once, both use the file that was there first. Missing folders are
    /// created for the owner only, whatever the umask.
    ///
    /// # Errors
    /// The error of the system; `InvalidData` for anything other than a file of 16 bytes that belongs
    /// to this user, and for a file that others may read, write or replace: with the key, anyone can
    /// make handles.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        check_folders(folder)?;
        match Self::load(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let secret = fresh::<SECRET_BYTES>()?;
        // Not named after the process id: ids are reused, in a container at once, and a file left
        // behind by a crash would be in the way.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{:016x}", u64::from_ne_bytes(fresh()?)));
        let temporary = Path::new(&temporary);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        let made = file
            .write_all(&secret)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(temporary, path));
        fs::remove_file(temporary)?;
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Self::load(path),
        }
    }

    fn load(path: &Path) -> io::Result<Self> {
        // A pipe must not block the server, and a link may be another user's choice.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("flags are those of the C library");
        let file =
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
                match Errno::from_io_error(&error) {
                    Some(Errno::LOOP) => {
                        refused("it is a symbolic link: name the file itself".into())
                    }
                    _ => error,
                }
            })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(refused("it is not a regular file: name another".into()));
        }
        let (owner, user) = (metadata.uid(), geteuid().as_raw());
        if owner != user {
            return Err(refused(format!(
                "it belongs to user {owner}, and the server runs as user {user}: chown it, or name \
                 another"
            )));
        }
        let mode = metadata.mode();
        if mode & 0o077 != 0 {
            let mode = mode & 0o7777;
            return Err(refused(format!(
                "other users have access to it (mode {mode:04o}): use chmod 600"
            )));
        }
        let mut bytes = Vec::new();
        file.take(SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        let secret = <[u8; SECRET_BYTES]>::try_from(bytes).map_err(|_other_length| {
            refused("it must have 16 bytes: remove it, and the server creates a new one".into())
        })?;
        Ok(Self::new(secret))
    }
}

/// Checks that no other user can replace a file in `folder`.
///
/// Checks the parent folders too, up to the root. There, groups may write: a group that may write to
/// `/home` is trusted with more than this.
fn check_folders(folder: &Path) -> io::Result<()> {
    let folder = fs::canonicalize(folder)?;
    for (at, depth) in folder.ancestors().zip(0_u32..) {
        let metadata = fs::metadata(at)?;
        let mode = metadata.mode() & 0o7777;
        let others = if depth == 0 { 0o022 } else { 0o002 };
        let (shown, owner) = (at.display(), metadata.uid());
        // With the sticky bit, as in /tmp, others cannot remove files that they do not own.
        if mode & others != 0 && mode & 0o1000 == 0 {
            return Err(refused(format!(
                "other users can write to its directory {shown} (mode {mode:04o}): use chmod go-w \
                 on it"
            )));
        }
        if depth == 0 && owner != 0 && owner != geteuid().as_raw() {
            return Err(refused(format!(
                "its directory {shown} belongs to user {owner}: chown it, or name another file"
            )));
        }
    }
    Ok(())
}

fn refused(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Returns random bytes.
fn fresh<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let nr_bytes = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if nr_bytes == N { Ok(bytes) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::protocol::fh::{ExportId, Fh, FhParts, ObjectId, Stamp};

    fn sample(key: &FhKey) -> Fh {
        let object = ObjectId::new(0, 1, b"file").unwrap();
        Fh::new(key, &FhParts { export: ExportId(1), stamp: Stamp(2), object })
    }

    #[test]
    fn a_secret_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/key");
        let first = FhKey::load_or_create(&path).unwrap();
        let again = FhKey::load_or_create(&path).unwrap();
        assert_eq!(sample(&first), sample(&again));
        assert_ne!(sample(&first), sample(&FhKey::random().unwrap()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_know_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        FhKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = FhKey::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("mode 0640"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [0; 17]).unwrap();
        assert_eq!(FhKey::load_or_create(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    fn refusal(path: &Path) -> String {
        let error = FhKey::load_or_create(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        error.to_string()
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let path = inner.join("key");
        let made = FhKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o7777, 0o700);
        let set = |folder: &Path, mode| {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o777, 0o770, 0o702] {
            set(&inner, mode);
            let told = format!("(mode {mode:04o}): use chmod go-w on it");
            assert!(refusal(&path).ends_with(&told), "{}", refusal(&path));
        }
        set(&inner, 0o700);
        set(dir.path(), 0o777);
        assert!(refusal(&path).contains("(mode 0777)"));
        // As /tmp is: others can add to it, and take nothing away.
        set(dir.path(), 0o1777);
        assert_eq!(sample(&FhKey::load_or_create(&path).unwrap()), sample(&made));
    }

    #[test]
    fn what_is_not_a_file_of_this_users_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        FhKey::load_or_create(&path).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(&link).contains("symbolic link"));
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(refusal(&folder).contains("not a regular file"));
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(refusal(&pipe).contains("not a regular file"));
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(refusal(&path).contains("belongs to user 65534"));
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
            assert!(refusal(&path).contains("belongs to user 65534"));
        }
    }
}
