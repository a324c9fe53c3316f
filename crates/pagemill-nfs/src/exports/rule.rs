//! Export rule: clients and options of an exported directory; decides which users are squashed.

use core::net::IpAddr;
use std::path::{Path, PathBuf};

use pagemill_host::os::FsIdentity;

use crate::exports::client::ClientMatch;

/// Default user and group id of the anonymous user.
pub const ANONYMOUS: u32 = 65534;

/// An exported directory, its clients and their options.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ExportRule {
    /// The directory's absolute path.
    pub path: PathBuf,
    /// Clients in order: the first match decides.
    pub clients: Vec<ClientRule>,
}

/// The options of some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ClientRule {
    /// The clients.
    pub client: ClientMatch,
    /// Their options.
    pub options: ExportOptions,
}

/// How clients are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ExportOptions {
    /// Whether they may change anything.
    pub access: Access,
    /// Which users are mapped to the anonymous user.
    pub squash: Squash,
    /// The ports that they may call from.
    pub ports: Ports,
    /// When the server replies to a change.
    pub commit: Commit,
}

/// Whether a client may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "ro and rw")]
pub enum Access {
    /// `ro`: no.
    ReadOnly,
    /// `rw`: yes.
    ReadWrite,
}

/// The ports that a client may call from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "secure and insecure")]
pub enum Ports {
    /// `secure`: only ports below 1024, which a client can bind only as root.
    Privileged,
    /// `insecure`: any port.
    Any,
}

/// When the server replies to a change of names or attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "sync and async")]
pub enum Commit {
    /// `sync`: once it would survive a crash of the machine, as the protocol requires.
    Before,
    /// `async`: at once.
    Later,
}

/// Which callers are mapped to the anonymous user, and the ids of that user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Squash {
    /// Which callers are mapped.
    pub who: SquashWho,
    /// `anonuid`: the anonymous user.
    pub anon_uid: u32,
    /// `anongid`: the anonymous group.
    pub anon_gid: u32,
}

/// Which callers are mapped to the anonymous user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the three of exports(5)")]
pub enum SquashWho {
    /// `no_root_squash`: none.
    Nobody,
    /// `root_squash`: user 0 and group 0.
    Root,
    /// `all_squash`: all callers.
    All,
}

impl Default for ExportOptions {
    /// The defaults of exports(5): read-only, root squashed, privileged ports, changes synchronous.
    fn default() -> Self {
        Self {
            access: Access::ReadOnly,
            squash: Squash::default(),
            ports: Ports::Privileged,
            commit: Commit::Before,
        }
    }
}

impl ExportOptions {
    /// Returns these options without the rights that `other` lacks.
    ///
    /// Anonymous users cannot be ranked: if the two differ, the result has 65534.
    #[must_use]
    pub fn limited_to(&self, other: &Self) -> Self {
        let access = match (self.access, other.access) {
            (Access::ReadWrite, Access::ReadWrite) => Access::ReadWrite,
            _ => Access::ReadOnly,
        };
        let ports = match (self.ports, other.ports) {
            (Ports::Any, Ports::Any) => Ports::Any,
            _ => Ports::Privileged,
        };
        let who = match (self.squash.who, other.squash.who) {
            (SquashWho::All, _) | (_, SquashWho::All) => SquashWho::All,
            (SquashWho::Root, _) | (_, SquashWho::Root) => SquashWho::Root,
            (SquashWho::Nobody, SquashWho::Nobody) => SquashWho::Nobody,
        };
        let squash = match self.squash == other.squash {
            true => self.squash,
            false => Squash { who, ..Squash::default() },
        };
        Self { access, squash, ports, commit: self.commit }
    }
}

impl Default for Squash {
    fn default() -> Self {
        Self { who: SquashWho::Root, anon_uid: ANONYMOUS, anon_gid: ANONYMOUS }
    }
}

impl Squash {
    /// Returns the identity, after squashing, of a caller that claims `uid`, `gid` and `gids`.
    ///
    /// Drops groups beyond the maximum of an identity.
    #[must_use]
    pub fn identity(&self, uid: u32, gid: u32, gids: &[u32]) -> FsIdentity {
        if self.who == SquashWho::All {
            return self.anonymous();
        }
        let root = self.who == SquashWho::Root;
        let uid = if root && uid == 0 { self.anon_uid } else { uid };
        let group = |gid: u32| if root && gid == 0 { self.anon_gid } else { gid };
        let mut groups = [0; pagemill_host::os::MAX_NR_GROUPS];
        let mut nr = 0;
        for (slot, &gid) in groups.iter_mut().zip(gids) {
            *slot = group(gid);
            nr += 1;
        }
        FsIdentity::new(uid, group(gid), &groups[..nr]).unwrap_or_else(|| self.anonymous())
    }

    /// Returns the anonymous user's identity.
    ///
    /// # Panics
    /// Never: an id that the kernel does not accept is replaced by 65534.
    #[must_use]
    pub fn anonymous(&self) -> FsIdentity {
        FsIdentity::new(self.anon_uid, self.anon_gid, &[]).unwrap_or_else(|| {
            FsIdentity::new(ANONYMOUS, ANONYMOUS, &[]).expect("65534 is an ordinary number")
        })
    }
}

impl ExportRule {
    /// Returns how a client is served; `None` if it is not.
    ///
    /// A client of a network or of `*` may be a host whose address is not known yet. While there is
    /// such a host, the client gets no right that the host lacks: a failing name server must not give
    /// any client more rights.
    ///
    /// # Source
    /// `exports(5)` "Machine Name Formats". Differs: there, an unresolved host has no effect.
    #[must_use]
    pub fn options_for(&self, client: IpAddr) -> Option<ExportOptions> {
        let client = client.to_canonical();
        let place = self.clients.iter().position(|rule| rule.client.matches(client))?;
        let found = &self.clients[place];
        if !found.client.is_wide() {
            return Some(found.options);
        }
        let unresolved = self.clients[..place].iter().filter(|rule| rule.client.is_unresolved());
        Some(unresolved.fold(found.options, |options, rule| options.limited_to(&rule.options)))
    }

    /// Returns the rest of `path` below the export; `None` if it is not in the export.
    #[must_use]
    pub fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.path).ok()
    }
}

#[cfg(test)]
mod tests;
