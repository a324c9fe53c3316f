//! Mount refusal: the reason and the remedy, for the operator's log.

use core::fmt;
use std::path::{Component, Path};

use crate::exports::{ClientMatch, Ports};
use crate::protocol::status::NfsStatus;
use crate::vfs::vfs::{Caller, FIRST_UNPRIVILEGED_PORT, Vfs, ip_of};

/// Why a client could not mount a path, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct MountRefusal {
    /// The reason.
    pub reason: String,
    /// What the operator or the client can do.
    pub remedy: String,
}

impl MountRefusal {
    fn new(reason: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), remedy: remedy.to_string() }
    }
}

impl Vfs {
    /// Determines why [`mount`](Self::mount) refused a path with `status`.
    #[must_use]
    pub fn mount_refusal(
        &self,
        path: &Path,
        caller: &Caller<'_>,
        status: NfsStatus,
    ) -> MountRefusal {
        let table = self.exports();
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            let reason = "the path is relative or has '..' in it";
            return MountRefusal::new(reason, "mount an absolute path without '..'");
        }
        let Some((export, below)) = table.at_path(path) else {
            let reason = "the path is neither exported nor below an export";
            return MountRefusal::new(reason, "export it with --export or --exports-file");
        };
        let (rule, ip, port) = (export.rule(), ip_of(caller), caller.addr.port());
        let exported = rule.path.display();
        let Some(options) = rule.options_for(ip) else {
            let is_unknown = |client: &ClientMatch| matches!(client, ClientMatch::Host { addrs, .. } if addrs.is_empty());
            let unknown = rule.clients.iter().map(|rule| &rule.client).find(|one| is_unknown(one));
            let reason = format!("{ip} is not among the clients of {exported}");
            return match unknown {
                Some(host) => MountRefusal::new(
                    format!("{reason}, of which {host} has no address yet"),
                    format!("check the name {host}, or add {ip} to the clients"),
                ),
                None => MountRefusal::new(reason, format!("add {ip} to the clients")),
            };
        };
        if options.ports == Ports::Privileged && port >= FIRST_UNPRIVILEGED_PORT {
            return MountRefusal::new(
                format!("{exported} is secure, and the client's port {port} is above 1023"),
                "mount as root, or export it with 'insecure'",
            );
        }
        let below = below.display();
        match status {
            NfsStatus::Noent => MountRefusal::new(
                format!("there is no directory {below} in {exported}"),
                "mount an existing directory",
            ),
            NfsStatus::Notdir => MountRefusal::new(
                format!("{below} in {exported} is not a directory"),
                "mount a directory",
            ),
            NfsStatus::Acces => MountRefusal::new(
                format!("{below} in {exported} leads through a symbolic link or a mount point"),
                "mount the directory that the link names, or export what is mounted there",
            ),
            NfsStatus::Jukebox => MountRefusal::new(
                format!("the file system of {exported} does not respond"),
                "check it on the server, and mount again",
            ),
            other => MountRefusal::new(
                format!("{exported} cannot be used: {other}"),
                "check the directory on the server",
            ),
        }
    }
}
