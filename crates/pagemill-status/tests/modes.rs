//! Modes of a socket's file, whatever the umask; alone in its file, because the umask is the process's.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use pagemill_status::Status;
use rustix::fs::Mode;
use rustix::process::umask;

#[test]
fn a_socket_is_private_whatever_the_umask() {
    let directory = tempfile::tempdir().unwrap();
    for mask in [0, 0o022, 0o077] {
        umask(Mode::from_raw_mode(mask));
        let path = directory.path().join("test.sock");
        let server = Status::of("modes", "1").serve_at(&path).unwrap();
        let facts = fs::symlink_metadata(server.path()).unwrap();
        assert!(facts.file_type().is_socket());
        assert_eq!(facts.permissions().mode() & 0o7777, 0o600, "umask {mask:o}");
        // Nothing else was left, under no other name.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
