//! Sandbox for benchmarks: a loopback network and an in-memory file system of one process's own.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::error::HostError;

/// Gives the calling thread its own loopback network and an empty in-memory file system, and returns
/// the folder on which that is mounted.
///
/// Threads and processes that it starts from now on share both. No other process reaches them, not even
/// one of the same user. The kernel removes them when the last of these processes has ended, for
/// whatever reason: there is nothing to clean up. The previous contents of the folder are hidden from
/// these processes.
///
/// # Errors
/// [`HostError::Sandbox`] if neither this process nor a user namespace may create namespaces, as in
/// most containers. A process without `CAP_SYS_ADMIN` needs a user namespace, which only a process with
/// one thread can enter.
///
/// # Concurrency
/// Threads that exist already keep their network and files.
pub fn enter_sandbox() -> core::result::Result<&'static Path, HostError> {
    let step = |step| move |errno: Errno| HostError::Sandbox { step, os: errno.into() };
    let namespaces = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    match unshare(namespaces) {
        Err(Errno::PERM) => {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            unshare(namespaces | UnshareFlags::NEWUSER).map_err(step("make namespaces"))?;
            keep_ids(uid, gid).map_err(|error| {
                step("map the user to itself")(Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })?;
        }
        made => made.map_err(step("make namespaces"))?,
    }
    // With shared mounts, as under systemd, new mounts would also appear in the namespace that the
    // thread left.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("keep mounts private"))?;
    let folder = FOLDERS.map(Path::new).into_iter().find(|folder| folder.is_dir());
    let folder = folder.ok_or(Errno::NOENT).map_err(step("find a folder to mount on"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("pagemill", folder, "tmpfs", flags, c"mode=0700")
        .map_err(step("mount a file system in memory"))?;
    take_loopback_up().map_err(step("take the loopback interface up"))?;
    Ok(folder)
}

/// Possible mount points: folders that every system has and no program needs during a measurement.
const FOLDERS: [&str; 4] = ["/dev/shm", "/mnt", "/media", "/srv"];

fn unshare(flags: UnshareFlags) -> Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY:
    // 1. All threads continue to share file descriptors: neither caller passes `FILES`, and new
    //    namespaces do not imply it.
    unsafe { unshare_unsafe(flags) }
}

/// Maps the previous user and group to the same numbers in a user namespace.
fn keep_ids(uid: u32, gid: u32) -> io::Result<()> {
    // An unprivileged user may map a group only once groups cannot be changed.
    fs::write("/proc/thread-self/setgroups", "deny")?;
    fs::write("/proc/thread-self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/thread-self/gid_map", format!("{gid} {gid} 1"))
}

/// # Source
/// `linux-6.12` `include/uapi/linux/rtnetlink.h` `struct ifinfomsg`; `net/core/dev.c`: the loopback
/// interface has the number 1 in every network namespace.
fn take_loopback_up() -> Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST: u16 = 1;
    const NLM_F_ACK: u16 = 4;
    const LOOPBACK: u32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = 32_u32.to_ne_bytes().to_vec();
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Message number and sender; family and type; interface, flags, and the mask of flags to change.
    message.extend([1, 0, 0, LOOPBACK, IFF_UP, IFF_UP].map(u32::to_ne_bytes).as_flattened());
    let socket: OwnedFd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE, which is zero.
        None,
    )?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, len) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // After the header of 16 bytes: the negative error number, or zero.
    let errno = answer[..len.min(256)].get(16..).and_then(|rest| rest.first_chunk());
    match errno.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno.wrapping_neg())),
        None => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn nobody_outside_reaches_what_is_inside() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = listener.local_addr().unwrap();
        let namespace = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = namespace();
        // The namespaces are those of one thread and end with it.
        let inside = thread::spawn(move || {
            let folder = match enter_sandbox() {
                Ok(folder) => folder,
                Err(error) => return Err(error),
            };
            assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "it begins empty");
            fs::write(folder.join("pagemill-sandbox-test"), "x").unwrap();
            let ours = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(ours.local_addr().unwrap()).unwrap();
            assert!(TcpStream::connect(outside).is_err(), "its network is another");
            Ok((namespace(), folder))
        });
        match inside.join().unwrap() {
            Ok((namespace, folder)) => {
                assert_ne!(namespace, before);
                assert!(!folder.join("pagemill-sandbox-test").exists());
            }
            // A test runs beside others, so a user namespace is not to be had.
            Err(error) => eprintln!("SKIPPED: nobody_outside_reaches_what_is_inside: {error}"),
        }
        assert_eq!(namespace(), before);
    }
}
