//! The parts of the NFS server, put together and running.

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;

use anyhow::Context as _;
use pagemill::PageAllocator;
use pagemill_host::Host;
use pagemill_nfs::fh::FhKey;
use pagemill_nfs::vfs::{Vfs, VfsConfig};
use pagemill_nfs::{MOUNT_PROGRAM, MountProgram, NFS_PROGRAM, NfsProgram};
use pagemill_rpc::rpcbind::{Mapping, RPCBIND, Registration};
use pagemill_rpc::{Listener, Program, Server, ServerConfig};
use rustix::fs::Mode;
use rustix::process::umask;
use tracing::info;

use crate::nfsd::exports::Exports;
use crate::plan::nfsd::{MAX_NR_MOUNT_CONNECTIONS, NfsdPlan};

pagemill::static_allocator! {
    /// The frames that requests get their pages from.
    static ALLOCATOR: Host;
    /// How pages reach the static.
    pub(crate) type Source;
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Service {
    /// The exported trees.
    pub(crate) vfs: Arc<Vfs>,
    /// What is exported.
    pub(crate) exports: Exports,
    /// The program NFS.
    pub(crate) nfs: Arc<NfsProgram>,
    /// Serves NFS, and MOUNT unless that has a server of its own.
    pub(crate) server: Server<Source>,
    mount_server: Option<Server<Source>>,
    /// Where NFS is served.
    pub(crate) nfs_sockets: Sockets,
    /// Where MOUNT is served, if not where NFS is.
    pub(crate) mount_sockets: Option<Sockets>,
    /// What rpcbind has been told, until it is dropped.
    _registration: Option<Registration>,
}

/// The addresses of a server by transport, with blanks between them; `None` if it has none.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For connections.
    pub(crate) tcp: Option<String>,
    /// For datagrams.
    pub(crate) udp: Option<String>,
}

impl Sockets {
    fn of(listeners: &[Listener]) -> io::Result<Self> {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for listener in listeners {
            match listener {
                Listener::Tcp(listener) => tcp.push(listener.local_addr()?.to_string()),
                Listener::Udp(socket) => udp.push(socket.local_addr()?.to_string()),
            }
        }
        let joined = |addrs: Vec<String>| (!addrs.is_empty()).then(|| addrs.join(" "));
        Ok(Self { tcp: joined(tcp), udp: joined(udp) })
    }
}

/// How long replies may take to go out when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Threads for MOUNT where it has a server of its own.
const NR_MOUNT_THREADS: usize = 2;

impl Service {
    /// Exports the trees and starts to serve.
    ///
    /// # Errors
    /// What cannot be exported, and what the system refuses.
    pub(crate) fn start(plan: &mut NfsdPlan, frames: PageAllocator<Host>) -> anyhow::Result<Self> {
        let key_file = plan.key_file.display().to_string();
        let key = FhKey::load_or_create(&plan.key_file)
            .with_context(|| format!("cannot use the secret in {key_file} (see --key-file)"))?;
        // From here on modes are as clients ask for them; what the server keeps for itself is made
        // before.
        umask(Mode::empty());
        let max_nr_files = plan.max_nr_files;
        let nr_threads = plan.rpc.nr_threads;
        let config = VfsConfig { key, actors: plan.actors, max_nr_files, nr_threads };
        let vfs = Arc::new(Vfs::new(config)?);
        let exports = Exports::new(Arc::clone(&vfs));
        let bad = exports.set(core::mem::take(&mut plan.first))?;
        // These were typed on the command line.
        if let Some(error) = bad.into_iter().find(|error| plan.exports.is_typed(error)) {
            return Err(error.into());
        }
        anyhow::ensure!(vfs.exports().iter().next().is_some(), "no export can be served");
        ALLOCATOR.set(frames).ok().context("this process already runs a server")?;
        let source = Source::new();
        let nfs = Arc::new(NfsProgram::new(Arc::clone(&vfs), plan.nfs));
        let mount: Arc<dyn Program<Source>> = Arc::new(MountProgram::new(Arc::clone(&vfs)));
        let mut programs: Vec<Arc<dyn Program<Source>>> = vec![Arc::<NfsProgram>::clone(&nfs)];
        let nfs_sockets = Sockets::of(&plan.listeners)?;
        let mount_listeners = core::mem::take(&mut plan.mount_listeners);
        let mount_sockets = (!mount_listeners.is_empty()).then(|| Sockets::of(&mount_listeners));
        let mount_sockets = mount_sockets.transpose()?;
        let mut mappings = mappings(NFS_PROGRAM, &plan.listeners)?;
        let mount_at = if mount_listeners.is_empty() { &plan.listeners } else { &mount_listeners };
        mappings.extend(self::mappings(MOUNT_PROGRAM, mount_at)?);
        let mount_server = if mount_listeners.is_empty() {
            programs.push(mount);
            None
        } else {
            let config = ServerConfig {
                nr_threads: NR_MOUNT_THREADS,
                max_payload_bytes: 64 << 10,
                parked_bytes: 1 << 20,
                max_connections: MAX_NR_MOUNT_CONNECTIONS.min(plan.rpc.max_connections),
                ..plan.rpc
            };
            Some(Server::start(config, source, vec![mount], mount_listeners)?)
        };
        let listeners = core::mem::take(&mut plan.listeners);
        let server = Server::start(plan.rpc, source, programs, listeners)?;
        let told = plan.rpcbind.then(|| Registration::new(RPCBIND, &mappings));
        let told = told
            .transpose()
            .context("cannot register with rpcbind; start rpcbind, or omit --rpcbind")?;
        if let Some(told) = &told {
            info!(programs = names_of(told.mappings()), "registered with rpcbind");
        }
        Ok(Self {
            vfs,
            exports,
            nfs,
            server,
            mount_server,
            nfs_sockets,
            mount_sockets,
            _registration: told,
        })
    }

    /// Returns where MOUNT is served.
    pub(crate) fn mount_addrs(&self) -> &[SocketAddr] {
        self.mount_server.as_ref().unwrap_or(&self.server).addrs()
    }

    /// Takes no more calls, and waits for a while until the last replies are out. Returns whether
    /// they are.
    pub(crate) fn stop(&self) -> bool {
        let drained = self.server.stop(DRAIN);
        self.mount_server.as_ref().is_none_or(|server| server.stop(DRAIN)) && drained
    }
}

/// Returns programs with their transports and ports, under the names of rpcinfo(8).
fn names_of(mappings: &[Mapping]) -> String {
    let programs = mappings.iter().map(|mapping| {
        let name = if mapping.prog == NFS_PROGRAM { "nfs" } else { "mountd" };
        format!("{name} {} {}", mapping.netid(), mapping.addr.port())
    });
    programs.collect::<Vec<_>>().join(", ")
}

/// Returns where a program's third version is served, for rpcbind.
fn mappings(prog: u32, listeners: &[Listener]) -> anyhow::Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    for listener in listeners {
        for mapping in Mapping::of(prog, 3, listener)? {
            // Of two sockets for one transport, rpcbind keeps one: the first.
            let is_same = |other: &Mapping| other.netid() == mapping.netid();
            if !mappings.iter().any(is_same) {
                mappings.push(mapping);
            }
        }
    }
    Ok(mappings)
}
