//! What is exported, to whom and how: rules that a person wrote, checked.

use core::net::IpAddr;
use std::path::{Path, PathBuf};

use pagemill_host::FsIdentity;

use crate::exports::client::ClientMatch;

/// Who nobody is, unless told otherwise.
pub const ANONYMOUS: u32 = 65534;

/// An exported directory, and who may use it how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ExportRule {
    /// The directory's absolute path.
    pub path: PathBuf,
    /// Clients in order: the first that matches decides.
    pub clients: Vec<ClientRule>,
}

/// What some clients may do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ClientRule {
    /// Which clients.
    pub client: ClientMatch,
    /// How they are served.
    pub options: ExportOptions,
}

/// How clients are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ExportOptions {
    /// Whether they may change anything.
    pub access: Access,
    /// Whose word is taken for who they are.
    pub squash: Squash,
    /// Which ports they may call from.
    pub ports: Ports,
    /// When a change is answered.
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

/// Which ports a client may call from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "secure and insecure")]
pub enum Ports {
    /// `secure`: only those below 1024, for which a client needs to be root.
    Privileged,
    /// `insecure`: any.
    Any,
}

/// When a change of names or attributes is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "sync and async")]
pub enum Commit {
    /// `sync`: once it would survive a crash of the machine, as the protocol wants it.
    Before,
    /// `async`: at once.
    Later,
}

/// Which callers become the anonymous user, and who that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Squash {
    /// Which callers.
    pub who: SquashWho,
    /// `anonuid`: the anonymous user.
    pub anon_uid: u32,
    /// `anongid`: the anonymous group.
    pub anon_gid: u32,
}

/// Which callers become the anonymous user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the three of exports(5)")]
pub enum SquashWho {
    /// `no_root_squash`: nobody.
    Nobody,
    /// `root_squash`: the user 0 and the group 0.
    Root,
    /// `all_squash`: all.
    All,
}

impl Default for ExportOptions {
    /// The defaults of exports(5): read-only, root squashed, privileged ports, changes safe first.
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
    /// Returns these options without the rights that `other` does not have.
    ///
    /// Which user the anonymous one is cannot be compared: where the two differ, it is 65534.
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
    /// Returns who a caller that says to be `uid`, `gid` and `gids` is here.
    ///
    /// More groups than an identity has room for are dropped.
    #[must_use]
    pub fn identity(&self, uid: u32, gid: u32, gids: &[u32]) -> FsIdentity {
        if self.who == SquashWho::All {
            return self.anonymous();
        }
        let root = self.who == SquashWho::Root;
        let uid = if root && uid == 0 { self.anon_uid } else { uid };
        let group = |gid: u32| if root && gid == 0 { self.anon_gid } else { gid };
        let mut groups = [0; pagemill_host::MAX_NR_GROUPS];
        let mut nr = 0;
        for (slot, &gid) in groups.iter_mut().zip(gids) {
            *slot = group(gid);
            nr += 1;
        }
        FsIdentity::new(uid, group(gid), &groups[..nr]).unwrap_or_else(|| self.anonymous())
    }

    /// Returns the anonymous user.
    ///
    /// # Panics
    /// Never: what the kernel does not take for a user becomes 65534.
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
    /// such a host, it gets no right that the host has not: a name server that fails must not give
    /// anyone more rights.
    ///
    /// # Source
    /// `exports(5)` "Machine Name Formats". Differs: there, an unresolved host does not count.
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

    /// Returns what is left of `path` below the export; `None` if it is not in there.
    #[must_use]
    pub fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.path).ok()
    }
}

#[cfg(test)]
mod tests;
