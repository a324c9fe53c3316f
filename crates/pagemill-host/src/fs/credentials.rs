//! Per-thread file system identity: user, group and supplementary groups that the kernel checks.
//!
//! The C library changes the identity of all threads at once, so these functions make the system calls
//! themselves.

use core::cell::{Cell, RefCell};
use core::ffi::{c_long, c_uint};

use rustix::io::{Errno, Result};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Maximum number of supplementary groups of an identity; `AUTH_SYS` has the same limit.
pub const MAX_NR_GROUPS: usize = 16;

/// A user, a group and supplementary groups, for the kernel's checks on files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FsIdentity {
    uid: u32,
    gid: u32,
    groups: [u32; MAX_NR_GROUPS],
    nr_groups: u8,
}

/// The number that the kernel reads as "leave it as it is", and which belongs to no user.
const NOBODY_AT_ALL: u32 = u32::MAX;

thread_local! {
    /// The identity that the thread has assumed; `None` while it has its original one.
    static ASSUMED: RefCell<Option<FsIdentity>> = const { RefCell::new(None) };
    /// Whether the thread is subject to quotas and reserved blocks; `None` until it is set.
    static LIMITED: Cell<Option<bool>> = const { Cell::new(None) };
}

impl FsIdentity {
    /// Makes an identity; `None` if there are too many groups, or for a number that the kernel
    /// reserves.
    #[must_use]
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> Option<Self> {
        if uid == NOBODY_AT_ALL || gid == NOBODY_AT_ALL || groups.contains(&NOBODY_AT_ALL) {
            return None;
        }
        let mut kept = [0; MAX_NR_GROUPS];
        kept.get_mut(..groups.len())?.copy_from_slice(groups);
        Some(Self { uid, gid, groups: kept, nr_groups: u8::try_from(groups.len()).ok()? })
    }

    /// Makes the identity of user 0 with group 0 and no others.
    #[must_use]
    pub const fn root() -> Self {
        Self { uid: 0, gid: 0, groups: [0; MAX_NR_GROUPS], nr_groups: 0 }
    }

    /// Returns the user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Returns the supplementary groups.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups[..usize::from(self.nr_groups)]
    }

    /// Makes the kernel check this thread's next accesses to files as those of this identity.
    ///
    /// A user other than 0 lacks the privileges over files that user 0 has, such as ignoring modes,
    /// quotas and the blocks that a file system reserves; assuming user 0 again restores them. Real and
    /// effective numbers stay as they are, and other threads are not affected. A thread that is started
    /// inherits the identity.
    ///
    /// # Errors
    /// `EPERM` if the process may not change identities. The thread's identity is undefined then, and
    /// it must assume one before it accesses files.
    ///
    /// # Cost
    /// Nothing if the thread has this identity already; else three system calls, and two more between
    /// user 0 and others.
    ///
    /// # Source
    /// `linux-7.0` `fs/nfsd/auth.c` `nfsd_setuser`, `include/linux/capability.h` `CAP_NFSD_SET`
    pub fn assume(&self) -> Result<()> {
        if ASSUMED.with_borrow(|assumed| assumed.as_ref() == Some(self)) {
            return Ok(());
        }
        ASSUMED.set(None);
        self.switch()?;
        ASSUMED.set(Some(*self));
        Ok(())
    }

    fn switch(&self) -> Result<()> {
        let groups = self.groups();
        // SAFETY:
        // 1. The kernel reads `groups.len()` numbers from the slice.
        let answer = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        if answer == -1 {
            return Err(Errno::PERM);
        }
        set_and_check(libc::SYS_setfsgid, self.gid)?;
        set_and_check(libc::SYS_setfsuid, self.uid)?;
        limit(self.uid != 0)
    }
}

/// Subjects the thread to quotas and reserved blocks, or exempts it where it is allowed to ignore them.
///
/// The kernel does not count this privilege among those that come and go with the user.
fn limit(limited: bool) -> Result<()> {
    if LIMITED.get() == Some(limited) {
        return Ok(());
    }
    LIMITED.set(None);
    let mut sets = capabilities(None)?;
    let wanted = !limited && sets.permitted.contains(CapabilitySet::SYS_RESOURCE);
    if sets.effective.contains(CapabilitySet::SYS_RESOURCE) != wanted {
        sets.effective.set(CapabilitySet::SYS_RESOURCE, wanted);
        set_capabilities(None, sets)?;
    }
    LIMITED.set(Some(limited));
    Ok(())
}

/// Sets one of the numbers; the calls do not report success, so a second call checks.
fn set_and_check(call: c_long, id: u32) -> Result<()> {
    // SAFETY:
    // 1. The call takes a number and accesses no memory of the process.
    unsafe { libc::syscall(call, c_long::from(id)) };
    // SAFETY:
    // 1. The call takes a number and accesses no memory of the process. -1 is no identity, so
    //    nothing changes.
    let now = unsafe { libc::syscall(call, c_long::from(-1)) };
    if c_uint::try_from(now) == Ok(id) { Ok(()) } else { Err(Errno::PERM) }
}

#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn identity(uid: u32, gid: u32, groups: &[u32]) -> FsIdentity {
        FsIdentity::new(uid, gid, groups).unwrap()
    }

    #[test]
    fn identities_that_the_kernel_does_not_know_are_refused() {
        assert!(FsIdentity::new(0, 0, &[7; MAX_NR_GROUPS]).is_some());
        assert_eq!(FsIdentity::new(0, 0, &[7; MAX_NR_GROUPS + 1]), None);
        assert_eq!(FsIdentity::new(u32::MAX, 0, &[]), None);
        assert_eq!(FsIdentity::new(0, u32::MAX, &[]), None);
        assert_eq!(FsIdentity::new(0, 0, &[1, u32::MAX]), None);
    }

    #[test]
    fn only_user_0_passes_over_quotas_and_reserved_blocks() {
        let may = || capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE);
        let worker = std::thread::spawn(move || {
            if !may() || identity(0, 0, &[]).assume().is_err() {
                return eprintln!("SKIPPED: this process lacks CAP_SYS_RESOURCE or CAP_SETUID");
            }
            for _ in 0..2 {
                identity(1000, 1000, &[]).assume().unwrap();
                assert!(!may(), "user 1000 is held to quotas");
                // A started thread inherits this thread's identity, and can assume it again.
                let inherits = move || {
                    assert!(!may());
                    identity(0, 0, &[]).assume().unwrap();
                    assert!(may());
                };
                std::thread::spawn(inherits).join().unwrap();
                identity(1001, 1001, &[]).assume().unwrap();
                assert!(!may(), "so is user 1001");
                identity(0, 0, &[]).assume().unwrap();
                assert!(may(), "user 0 is not");
            }
        });
        worker.join().unwrap();
    }

    #[test]
    fn files_belong_to_whom_the_thread_acts_for_and_other_threads_are_left_alone() {
        let root = identity(0, 0, &[]);
        let tried = std::thread::spawn(move || root.assume()).join().unwrap();
        if tried.is_err() {
            return eprintln!("SKIPPED: this process may not change identities");
        }
        let dir = std::env::temp_dir().join(format!("pagemill-id-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(dir.join("secret"), "").unwrap();
        fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        let other = dir.clone();
        let worker = std::thread::spawn(move || {
            identity(1000, 1001, &[]).assume().unwrap();
            let made = File::create(other.join("made")).unwrap().metadata().unwrap();
            assert_eq!((made.uid(), made.gid()), (1000, 1001));
            let refused = File::open(other.join("secret")).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            identity(1000, 1001, &[0]).assume().unwrap();
            File::open(other.join("secret")).unwrap();
            identity(0, 0, &[]).assume().unwrap();
            fs::set_permissions(other.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
            File::open(other.join("secret")).unwrap();
        });
        worker.join().unwrap();
        let made = File::create(dir.join("mine")).unwrap().metadata().unwrap();
        assert_eq!(made.uid(), 0);
        fs::remove_dir_all(dir).unwrap();
    }
}
