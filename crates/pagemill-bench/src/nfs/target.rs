//! Targets: the measured servers, which are named ones, our own, and the sinks.

use core::net::SocketAddr;

use anyhow::Context as _;

use super::client::{BenchFile, Client};
use super::meter::Meter;
use super::proto::{Credential, Handle};

/// A measured server.
#[derive(Debug)]
pub struct Target {
    /// Its name in reports.
    pub name: String,
    /// Its NFS address.
    pub address: SocketAddr,
    /// Its MOUNT address.
    pub mount_address: SocketAddr,
    /// The path of its export.
    pub export: String,
    /// The credential of the calls.
    pub credential: Credential,
    /// Measures its process, if that is known.
    pub meter: Option<Meter>,
    /// The kind of server.
    pub kind: TargetKind,
}

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A server that stores files.
    Server,
    /// A server that does almost nothing.
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
            // It runs in this process, whose first thread makes the load.
            meter: Some(Meter::other_threads()),
            kind: TargetKind::Sink,
        }
    }

    /// Returns whether this server stores no data, so that nothing can be compared.
    pub fn is_sink(&self) -> bool {
        self.kind == TargetKind::Sink
    }

    /// Opens a connection for single calls.
    ///
    /// # Errors
    /// If no server listens there.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::connect(self.address, self.credential.clone())
    }

    /// Returns `nr_files` files of `len` bytes each; creates those that do not exist.
    ///
    /// # Errors
    /// The error status of the server.
    pub fn files(&self, nr_files: usize, len: u64) -> anyhow::Result<Vec<BenchFile>> {
        let folder = self.folder()?;
        let mut client = self.client()?;
        (0..nr_files).map(|number| client.file(&folder, &name(number), len)).collect()
    }

    /// Removes the first `nr_files` files.
    ///
    /// # Errors
    /// The error status of the server.
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
