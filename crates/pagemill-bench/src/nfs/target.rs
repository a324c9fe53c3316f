//! The servers that take turns: those that were named, our own, and the sink.

use core::net::SocketAddr;

use anyhow::Context as _;

use super::client::{BenchFile, Client};
use super::meter::Meter;
use super::proto::{Credential, Handle};

/// A server under load.
#[derive(Debug)]
pub struct Target {
    /// What reports call it.
    pub name: String,
    /// Where it serves NFS.
    pub address: SocketAddr,
    /// Where it serves MOUNT.
    pub mount_address: SocketAddr,
    /// The path of what it exports.
    pub export: String,
    /// Who asks.
    pub credential: Credential,
    /// What it costs, if its process is known.
    pub meter: Option<Meter>,
    /// Whether it does nothing.
    pub kind: TargetKind,
}

/// What is behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A server that keeps files.
    Server,
    /// One that does next to nothing.
    Sink,
}

impl Target {
    /// Describes a sink that listens at `address`.
    pub fn sink(name: &str, address: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            address,
            mount_address: address,
            export: "/".to_owned(),
            credential: Credential::unix(0, 0),
            // It is in this process, whose first thread makes the load.
            meter: Some(Meter::other_threads()),
            kind: TargetKind::Sink,
        }
    }

    /// Tells whether this server keeps nothing, so that nothing can be compared.
    pub fn is_sink(&self) -> bool {
        self.kind == TargetKind::Sink
    }

    /// Opens a connection for single calls.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.address, self.credential.clone())
    }

    /// Returns `nr_files` files of `len` bytes each, and makes those that are not there.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn files(&self, nr_files: usize, len: u64) -> anyhow::Result<Vec<BenchFile>> {
        let folder = self.folder()?;
        let mut client = self.client()?;
        (0..nr_files).map(|number| client.file(&folder, &name(number), len)).collect()
    }

    /// Removes the first `nr_files` files.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn remove_files(&self, nr_files: usize) -> anyhow::Result<()> {
        let folder = self.folder()?;
        let mut client = self.client()?;
        (0..nr_files).try_for_each(|number| client.remove(&folder, &name(number)))
    }

    /// Returns the export's folder.
    fn folder(&self) -> anyhow::Result<Handle> {
        let mut mount = Client::connect(self.mount_address, self.credential.clone())?;
        let cannot = || format!("cannot mount {} from {}", self.export, self.name);
        mount.mount(&self.export).with_context(cannot)
    }
}

fn name(number: usize) -> String {
    format!("pagemill-bench.{number}")
}
