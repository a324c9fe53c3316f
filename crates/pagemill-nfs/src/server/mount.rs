//! MOUNT program, version 3: returns the root handle of an export.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::net::IpAddr;
use core::time::Duration;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pagemill_rpc::auth::AUTH_SYS;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::program::{Blocking, Data, Procedure, Replies, Version};
use pagemill_rpc::xdr::{XdrError, XdrWrite};
use pagemill_rpc::{Call, CallError, Program};
use tracing::{debug, info, warn};

use crate::protocol::status::{NfsResult, NfsStatus};
use crate::protocol::wire::{OK, put_fh};
use crate::service::caller_of;
use crate::vfs::{MountRefusal, Vfs};

/// The program's number.
pub const MOUNT_PROGRAM: u32 = 100_005;

/// Maximum number of bytes in a path to mount.
///
/// # Source
/// `rfc1813` section 5.1.1 `MNTPATHLEN`
const MAX_PATH_BYTES: usize = 1024;
/// Maximum number of mounts that DUMP remembers; the oldest are dropped first.
const MAX_NR_MOUNTS: usize = 1024;
/// Shortest time between two warnings of refused mounts of one client for one reason.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Maximum number of warnings about refused mounts in this time.
const MAX_NR_WARNINGS: usize = 64;
/// Maximum number of bytes in the list that EXPORT and DUMP return.
const MAX_LIST_BYTES: usize = 64 << 10;

/// The number of procedure MNT, which returns a handle.
const MNT: u32 = 1;

const MOUNT_V3: Version = Version {
    number: 3,
    procedures: &[
        procedure("NULL"),
        procedure("MNT"),
        procedure("DUMP"),
        procedure("UMNT"),
        procedure("UMNTALL"),
        procedure("EXPORT"),
    ],
};

const fn procedure(name: &'static str) -> Procedure {
    Procedure { name, blocking: Blocking::Yes, replies: Replies::Forgotten, data: Data::InPages }
}

/// The MOUNT program over exported trees.
///
/// It remembers mounts only to list them: nothing depends on the list, and a client that never unmounts
/// leaves its entry until it is the oldest of 1024.
#[derive(Debug)]
pub struct MountProgram {
    vfs: Arc<Vfs>,
    mounts: Mutex<VecDeque<Mount>>,
    refusals: Mutex<Refusals>,
}

/// Refused mounts that were recently logged as warnings, the oldest first.
#[derive(Debug, Default)]
struct Refusals(VecDeque<(IpAddr, NfsStatus, Instant)>);

impl Refusals {
    /// Returns whether to log a warning about a refusal: once per [`WARN_EVERY`] for each client and
    /// reason, and at most [`MAX_NR_WARNINGS`] times for all clients.
    fn is_news(&mut self, client: IpAddr, status: NfsStatus) -> bool {
        while self.0.front().is_some_and(|(.., at)| at.elapsed() >= WARN_EVERY) {
            self.0.pop_front();
        }
        let is_known = self.0.iter().any(|&(ip, why, _)| (ip, why) == (client, status));
        let is_news = !is_known && self.0.len() < MAX_NR_WARNINGS;
        if is_news {
            self.0.push_back((client, status, Instant::now()));
        }
        is_news
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    client: String,
    path: Vec<u8>,
}

impl MountProgram {
    /// Makes a program that serves `vfs`.
    #[must_use]
    pub fn new(vfs: Arc<Vfs>) -> Self {
        Self { vfs, mounts: Mutex::default(), refusals: Mutex::default() }
    }

    fn mnt<S: Frames>(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let path = read_path(call)?;
        let shown = Path::new(OsStr::from_bytes(&path));
        let client = call.peer.addr;
        match self.mount(shown, call) {
            Ok(fh) => {
                // Quoted, with escapes: a client can put any bytes into a path, including newlines.
                info!(%client, path = ?shown, "mounted");
                self.remember(Mount { client: client.ip().to_string(), path });
                call.reply.u32(OK)?;
                put_fh(call.reply, &fh)?;
                // The authentication flavours that NFS accepts with this handle.
                call.reply.u32(1)?;
                call.reply.u32(AUTH_SYS)?;
            }
            Err(status) => {
                let is_news = self.lock_refusals().is_news(client.ip(), status);
                if is_news {
                    let why = self.vfs.mount_refusal(shown, &caller_of(call), status);
                    let MountRefusal { reason, remedy } = &why;
                    warn!(%client, path = ?shown, ?reason, ?remedy, "mount refused");
                } else {
                    debug!(%client, path = ?shown, %status, "mount refused");
                }
                call.reply.u32(mount_code(status))?;
                call.mark_useless();
            }
        }
        Ok(())
    }

    fn mount<S: Frames>(
        &self,
        path: &Path,
        call: &Call<'_, S>,
    ) -> NfsResult<crate::protocol::fh::Fh> {
        self.vfs.mount(path, &caller_of(call))
    }

    fn dump<S: Frames>(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let mounts: Vec<_> = self.lock_mounts().iter().cloned().collect();
        put_list(call, mounts, |reply, mount| {
            reply.opaque(mount.client.as_bytes())?;
            reply.opaque(&mount.path)
        })
    }

    fn umnt<S: Frames>(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let path = read_path(call)?;
        let client = call.peer.addr.ip().to_string();
        debug!(%client, path = ?OsStr::from_bytes(&path), "unmounted");
        self.lock_mounts().retain(|mount| mount.client != client || mount.path != path);
        Ok(())
    }

    fn umntall<S: Frames>(&self, call: &Call<'_, S>) {
        let client = call.peer.addr.ip().to_string();
        self.lock_mounts().retain(|mount| mount.client != client);
    }

    fn export<S: Frames>(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let table = self.vfs.exports();
        put_list(call, table.iter(), |reply, export| {
            reply.opaque(export.rule().path.as_os_str().as_bytes())?;
            for rule in &export.rule().clients {
                reply.bool(true)?;
                reply.opaque(rule.client.to_string().as_bytes())?;
            }
            reply.bool(false)
        })
    }

    fn remember(&self, mount: Mount) {
        let mut mounts = self.lock_mounts();
        mounts.retain(|other| *other != mount);
        if mounts.len() >= MAX_NR_MOUNTS {
            mounts.pop_front();
        }
        mounts.push_back(mount);
    }

    fn lock_refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mounts(&self) -> MutexGuard<'_, VecDeque<Mount>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Frames> Program<S> for MountProgram {
    fn number(&self) -> u32 {
        MOUNT_PROGRAM
    }

    fn name(&self) -> &'static str {
        "mount"
    }

    fn versions(&self) -> &'static [Version] {
        const { &[MOUNT_V3] }
    }

    fn knows(&self, addr: IpAddr) -> bool {
        self.vfs.serves(addr)
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        // Any client may make calls other than MNT.
        if call.header.proc != MNT {
            call.mark_useless();
        }
        match call.header.proc {
            0 => Ok(()),
            MNT => self.mnt(call),
            2 => self.dump(call),
            3 => self.umnt(call),
            4 => {
                self.umntall(call);
                Ok(())
            }
            5 => self.export(call),
            _ => Err(CallError::ProcUnavail),
        }
    }
}

fn read_path<S: Frames>(call: &mut Call<'_, S>) -> Result<Vec<u8>, CallError> {
    let mut room = [0; MAX_PATH_BYTES];
    Ok(call.args.opaque_into(&mut room)?.to_vec())
}

/// Appends a list: each element after a 1, and a 0 at the end.
///
/// A list that exceeds the limit is cut.
fn put_list<S: Frames, T>(
    call: &mut Call<'_, S>,
    elements: impl IntoIterator<Item = T>,
    put: impl Fn(&mut pagemill_rpc::Reply<S>, T) -> Result<(), XdrError>,
) -> Result<(), CallError> {
    let first = call.reply.len();
    for element in elements {
        let before = call.reply.mark();
        call.reply.bool(true)?;
        if put(call.reply, element).is_err() || call.reply.len() - first > MAX_LIST_BYTES {
            call.reply.truncate(before);
            break;
        }
    }
    Ok(call.reply.bool(false)?)
}

/// Returns the MOUNT status for `status`.
fn mount_code(status: NfsStatus) -> u32 {
    match status {
        NfsStatus::Perm
        | NfsStatus::Noent
        | NfsStatus::Io
        | NfsStatus::Acces
        | NfsStatus::Notdir
        | NfsStatus::Inval
        | NfsStatus::Nametoolong
        | NfsStatus::Notsupp => status.code(),
        _ => SERVERFAULT,
    }
}

/// `MNT3ERR_SERVERFAULT`
const SERVERFAULT: u32 = 10006;

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_refusal_is_warned_of_once_by_client_and_reason() {
        let mut refusals = Refusals::default();
        let client = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(number));
        assert!(refusals.is_news(client(0), NfsStatus::Noent));
        assert!(!refusals.is_news(client(0), NfsStatus::Noent));
        assert!(refusals.is_news(client(0), NfsStatus::Acces));
        // Many clients, or one with many addresses, do not fill the log either.
        let nr_warnings =
            (1..10_000).filter(|&number| refusals.is_news(client(number), NfsStatus::Acces));
        assert_eq!(nr_warnings.count(), MAX_NR_WARNINGS - 2);
    }
}
