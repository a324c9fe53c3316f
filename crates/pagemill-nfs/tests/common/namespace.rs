//! Tests that mount things: each runs itself again in a mount namespace of its own.

use std::env;
use std::path::Path;
use std::process::Command;

const INSIDE: &str = "PAGEMILL_TEST_IN_NAMESPACE";

/// Runs `test`, which is called `name`, with a scratch directory on a file system of its own, in a
/// process whose mounts are its own. Skips it aloud without root or `unshare`.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn with_mounts(name: &str, test: impl FnOnce(&Path)) {
    if env::var_os(INSIDE).is_some() {
        let dir = tempfile::tempdir().unwrap();
        sh(&format!("mount -t tmpfs scratch {}", dir.path().display())).unwrap();
        test(dir.path());
        sh(&format!("umount --lazy {}", dir.path().display())).unwrap();
        return;
    }
    if !rustix::process::geteuid().is_root() || sh("unshare --mount true").is_err() {
        return eprintln!("SKIPPED: {name}: needs root and unshare");
    }
    let mut again = Command::new("unshare");
    again.args(["--mount", "--propagation", "private"]).arg(env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    assert!(again.status().unwrap().success());
}

/// Runs a script of the shell; returns what it said if it fails.
pub(crate) fn sh(script: &str) -> Result<(), String> {
    let done = Command::new("sh").args(["-ec", script]).output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8(done.stderr).unwrap()) }
}
