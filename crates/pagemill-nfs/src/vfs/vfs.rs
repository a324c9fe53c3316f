//! `Vfs`: the exported trees; resolves handles, assumes the caller's identity, caches open files.

use crate::sync::{AtomicU64, Ordering};
use alloc::sync::Arc;
use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use pagemill_host::os::FsIdentity;
use quick_cache::Lifecycle;
use quick_cache::sync::{Cache, DefaultLifecycle};
use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::process::{getegid, geteuid};

use crate::exports::{ExportOptions, ExportRule, Ports};
use crate::protocol::attr::Fattr;
use crate::protocol::fh::{BuildSpreadAlready, Fh, FhKey};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::closer::Closings;
use crate::vfs::durability::Durability;
use crate::vfs::export::{Export, ExportTable, VfsError};
use crate::vfs::node::Node;
use crate::vfs::turns::{Client, Turn, Turns};

/// The user as whom files are accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a process can do one or the other")]
pub enum Actors {
    /// Each caller, as its export squashes it: for a process that runs as root.
    Callers,
    /// The user of this process, whoever calls.
    Server,
}

impl Actors {
    /// Detects whether this process may act for others.
    #[must_use]
    pub fn detect() -> Self {
        // On its own thread: the identity that it tries stays there.
        let may = std::thread::spawn(|| geteuid().is_root() && FsIdentity::root().assume().is_ok());
        if may.join().unwrap_or(false) { Self::Callers } else { Self::Server }
    }
}

/// Configuration of the exported trees.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct VfsConfig {
    /// The key with which handles are checked.
    pub key: FhKey,
    /// The user as whom files are accessed.
    pub actors: Actors,
    /// Maximum number of files that are held open between calls, each with up to
    /// [`MAX_DESCRIPTORS_PER_FILE`](crate::vfs::MAX_DESCRIPTORS_PER_FILE) descriptors.
    pub max_nr_files: usize,
    /// Number of threads that serve calls, of which the exports of one file system get at most three
    /// quarters; 0 for no limit.
    pub nr_threads: usize,
}

/// The exported trees.
///
/// # Concurrency
/// All operations may run concurrently. The two locks of a file, around changes of its directory
/// entries or data and around its list of descriptors, are taken in this order. A thread holds the
/// first lock of at most two files: a rename, in the order of their handles.
#[derive(Debug)]
pub struct Vfs {
    pub(super) key: FhKey,
    pub(super) actors: Actors,
    /// The identity of the process.
    pub(super) own: FsIdentity,
    /// The folder of this process's descriptors, through which they are opened again.
    pub(super) descriptors: OwnedFd,
    pub(super) table: RwLock<Arc<ExportTable>>,
    /// The only `Node` of each file: two would not exclude each other's changes.
    pub(super) nodes: Cache<Fh, Arc<Node>, quick_cache::UnitWeighter, BuildSpreadAlready, KeepUsed>,
    /// Number of threads that work on each file system.
    pub(super) turns: Turns,
    pub(super) durability: Arc<Durability>,
    /// Number of calls of [`sweep`](Self::sweep).
    pub(super) nr_sweeps: AtomicU64,
}

/// Keeps files in use from being evicted, so that no second `Node` of a file is made.
///
/// There are no more of them than calls in progress, each with its few files.
#[derive(Clone, Debug, Default)]
pub(super) struct KeepUsed(DefaultLifecycle<Fh, Arc<Node>>);

impl Lifecycle<Fh, Arc<Node>> for KeepUsed {
    /// Evicted nodes are dropped, and closed, outside of the cache's locks.
    type RequestState = <DefaultLifecycle<Fh, Arc<Node>> as Lifecycle<Fh, Arc<Node>>>::RequestState;

    fn is_pinned(&self, _fh: &Fh, node: &Arc<Node>) -> bool {
        Arc::strong_count(node) > 1
    }

    fn begin_request(&self) -> Self::RequestState {
        self.0.begin_request()
    }

    fn on_evict(&self, state: &mut Self::RequestState, fh: Fh, node: Arc<Node>) {
        self.0.on_evict(state, fh, node);
    }
}

/// A file, with the caller and the export through which it is reached.
#[derive(Clone, Debug)]
pub struct Object {
    pub(crate) node: Arc<Node>,
    pub(crate) export: Arc<Export>,
    pub(crate) options: ExportOptions,
    pub(crate) who: FsIdentity,
}

/// The caller: its address, and the identity that it claims.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Caller<'a> {
    /// Address and port.
    pub addr: SocketAddr,
    /// The claimed user, group and groups; `None` for a caller without a claim.
    pub claims: Option<(u32, u32, &'a [u32])>,
}

impl Vfs {
    /// Makes a server without any tree.
    ///
    /// The process should have umask 0: modes are set as clients request them.
    ///
    /// # Errors
    /// If `/proc` is missing.
    pub fn new(config: VfsConfig) -> Result<Self, VfsError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = openat(rustix::fs::CWD, c"/proc/self/fd", flags, Mode::empty())
            .map_err(VfsError::NoProc)?;
        // Another user could mount something over it; a folder other than /proc would open other files.
        let is_proc = fstatfs(&descriptors).is_ok_and(|stat| stat.f_type == PROC_SUPER_MAGIC);
        if !is_proc {
            return Err(VfsError::NoProc(rustix::io::Errno::NOENT));
        }
        let own = FsIdentity::new(geteuid().as_raw(), getegid().as_raw(), &[]);
        let capacity = config.max_nr_files.max(1);
        Ok(Self {
            key: config.key,
            actors: config.actors,
            own: own.ok_or(VfsError::NoProc(rustix::io::Errno::PERM))?,
            descriptors,
            // One for each file: see `MAX_DESCRIPTORS_PER_FILE`.
            table: RwLock::new(Arc::new(ExportTable::new(Closings::new(capacity as u64)))),
            nodes: Cache::with(
                capacity,
                capacity as u64,
                quick_cache::UnitWeighter,
                BuildSpreadAlready::default(),
                KeepUsed::default(),
            ),
            turns: Turns::new(config.nr_threads),
            durability: Arc::new(Durability::new()),
            nr_sweeps: AtomicU64::new(0),
        })
    }

    /// Replaces the exports by these directories.
    ///
    /// Handles of directories that stay exported remain valid.
    ///
    /// # Errors
    /// The first directory that cannot be exported; nothing changes then.
    pub fn set_exports(&self, rules: Vec<ExportRule>) -> Result<(), VfsError> {
        self.act_as_server().map_err(|_refused| VfsError::NoProc(rustix::io::Errno::PERM))?;
        let table = ExportTable::open(rules, &self.key, &self.exports(), Err)?;
        self.replace_exports(table);
        Ok(())
    }

    /// Replaces the exports by those of these directories that can be exported. Returns the errors of
    /// the others.
    ///
    /// # Errors
    /// The process cannot assume its own identity.
    pub fn set_good_exports(&self, rules: Vec<ExportRule>) -> Result<Vec<VfsError>, VfsError> {
        self.act_as_server().map_err(|_refused| VfsError::NoProc(rustix::io::Errno::PERM))?;
        let mut bad = Vec::new();
        let table = ExportTable::open(rules, &self.key, &self.exports(), |error| {
            bad.push(error);
            Ok(())
        })?;
        self.replace_exports(table);
        Ok(bad)
    }

    /// Changes the rules of the exports, without opening any directory again.
    ///
    /// Changes of paths are ignored. Must not run concurrently with another change of the exports.
    pub fn change_rules(&self, change: impl Fn(&mut ExportRule)) {
        self.replace_exports(self.exports().with_rules(change));
    }

    pub(super) fn replace_exports(&self, table: ExportTable) {
        self.turns.set_exported(table.iter().map(|export| export.file_system()));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.forget_withdrawn();
    }

    /// Closes the files of exports that are gone, or are now on another file system.
    ///
    /// Files in use by a call are closed by the next sweep.
    pub(super) fn forget_withdrawn(&self) {
        let table = self.exports();
        let is_gone = |fh: &Fh| !table.is_current(fh);
        let gone: Vec<_> = self.nodes.iter().map(|(fh, _)| fh).filter(is_gone).collect();
        // One by one: removed nodes are dropped, and closed, outside of the cache's locks.
        for fh in gone {
            self.nodes.remove(&fh);
        }
    }

    /// Returns the exports.
    #[must_use]
    pub fn exports(&self) -> Arc<ExportTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether any export serves clients at `addr`.
    #[must_use]
    pub fn serves(&self, addr: IpAddr) -> bool {
        self.exports().iter().any(|export| export.rule().options_for(addr).is_some())
    }

    /// Admits this thread, for a call from `addr`, to the file system of the export in an unchecked
    /// handle; `None` if it names none.
    ///
    /// # Errors
    /// [`Jukebox`](NfsStatus::Jukebox) if the export's file system does not respond.
    pub(crate) fn enter(&self, fh: &[u8], addr: IpAddr) -> NfsResult<Option<Turn<'_>>> {
        let export = Fh::alleged(fh).and_then(|(export, _)| self.exports().by_id(export));
        let Some(export) = export else { return Ok(None) };
        let (fs, path) = (export.file_system(), &export.rule().path);
        self.turns.enter(fs, Client::of(addr), path).map(Some)
    }

    /// Resolves the second handle `fh` of a call.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve); [`Xdev`](NfsStatus::Xdev) for a file of another export,
    /// which is not accessed.
    pub(crate) fn resolve_beside(
        &self,
        other: &Object,
        fh: &[u8],
        caller: &Caller<'_>,
    ) -> NfsResult<Object> {
        match Fh::parse(&self.key, fh)?.1.export == other.export.id() {
            true => self.resolve(fh, caller),
            false => Err(NfsStatus::Xdev),
        }
    }

    /// Resolves the handle `fh` for a caller.
    ///
    /// # Errors
    /// [`Badhandle`](NfsStatus::Badhandle) for a handle that this server did not make,
    /// [`Stale`](NfsStatus::Stale) for a file that is gone or no longer exported,
    /// [`Jukebox`](NfsStatus::Jukebox) for one that must be searched for, [`Acces`](NfsStatus::Acces)
    /// for a client that the export does not serve.
    pub fn resolve(&self, fh: &[u8], caller: &Caller<'_>) -> NfsResult<Object> {
        let (fh, parts) = Fh::parse(&self.key, fh)?;
        let export = self.exports().by_id(parts.export);
        // Another file system may be mounted at the export's path by now.
        let export = export.filter(|export| export.is_stamped(parts.stamp));
        let export = export.ok_or(NfsStatus::Stale)?;
        let object = parts.object;
        let options = options_for(&export, caller)?;
        let node = match self.nodes.get(&fh) {
            Some(node) => node,
            None => {
                self.act_as_server()?;
                let path = export.finder.open(export.root(), &object)?;
                self.keep(Node::new(fh, object, path)?)
            }
        };
        Ok(Object { node, export, options, who: self.identity(&options, caller) })
    }

    /// Returns the write verifier, which changes if unstable writes may have been lost.
    #[must_use]
    pub fn write_verifier(&self) -> [u8; 8] {
        self.durability.verifier().to_be_bytes()
    }

    /// Closes descriptors that have not been used for a while, and files that are gone.
    ///
    /// # Cost
    /// One lock per open file, and a system call for one in 16: each file is checked every 16th time.
    pub fn sweep(&self) {
        // Relaxed: only distinguishes sweeps.
        let turn = self.nr_sweeps.fetch_add(1, Ordering::Relaxed) % NR_TURNS;
        // Iterates over handles: a reference to a node would count as a use.
        self.forget_withdrawn();
        let fhs: Vec<_> = self.nodes.iter().map(|(fh, _)| fh).collect();
        for (fh, index) in fhs.iter().zip(0..) {
            let Some(node) = self.nodes.peek(fh) else { continue };
            node.close_idle();
            if index % NR_TURNS == turn && node.is_gone() {
                self.nodes.remove(node.fh());
            }
        }
    }

    /// Returns the paths of exports whose file systems occupy a thread of this process, with a call or
    /// with a file that is being closed. Withdrawn exports may be among them.
    ///
    /// A path that stays in the result belongs to a file system that does not respond.
    #[must_use]
    pub fn exports_at_work(&self) -> Vec<PathBuf> {
        let table = self.exports();
        let mut paths = table.closings.paths();
        let at_work = table.iter().filter(|export| self.turns.are_at_work(export.file_system()));
        paths.extend(at_work.map(|export| export.rule().path.clone()));
        paths.sort();
        paths.dedup();
        paths
    }

    /// Returns the number of open files.
    #[must_use]
    pub fn nr_files(&self) -> usize {
        self.nodes.len()
    }

    #[cfg(test)]
    pub(super) fn replace_table(&self, table: ExportTable) {
        *self.table.write().unwrap() = Arc::new(table);
    }

    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        self.nodes.clear();
    }

    /// Makes the thread act for the caller.
    pub(crate) fn act_for(&self, object: &Object) -> NfsResult<()> {
        self.act(&object.who)
    }

    /// Makes the thread act for the process's own user.
    pub(crate) fn act_as_server(&self) -> NfsResult<()> {
        self.act(&self.own)
    }

    pub(super) fn act(&self, who: &FsIdentity) -> NfsResult<()> {
        match self.actors {
            Actors::Callers => Ok(who.assume()?),
            Actors::Server => Ok(()),
        }
    }

    /// Returns whether the process's own rights exceed those of the file's owner.
    pub(crate) fn can_override(&self) -> bool {
        self.actors == Actors::Callers
    }

    /// Returns the identity with which `caller` is served, after squashing.
    pub(crate) fn identity(&self, options: &ExportOptions, caller: &Caller<'_>) -> FsIdentity {
        match (self.actors, caller.claims) {
            (Actors::Server, _) => self.own,
            (Actors::Callers, None) => options.squash.anonymous(),
            (Actors::Callers, Some((uid, gid, gids))) => options.squash.identity(uid, gid, gids),
        }
    }

    /// Caches a file, unless it is cached already; concurrent callers get the same node.
    pub(crate) fn keep(&self, node: Node) -> Arc<Node> {
        let fh = *node.fh();
        let kept = self.nodes.get_or_insert_with(&fh, || Ok::<_, Infallible>(Arc::new(node)));
        match kept {
            Ok(node) => node,
        }
    }

    /// Returns the folder of the process's descriptors.
    pub(crate) fn descriptors(&self) -> BorrowedFd<'_> {
        self.descriptors.as_fd()
    }

    /// Returns the attributes of a file.
    ///
    /// # Errors
    /// [`Stale`](NfsStatus::Stale) if it is gone.
    pub fn attr(&self, object: &Object) -> NfsResult<Fattr> {
        self.attr_of(&object.node, &object.export)
    }

    pub(crate) fn attr_of(&self, node: &Node, export: &Export) -> NfsResult<Fattr> {
        match node.stat() {
            Ok(stat) => Ok(Fattr::new(&stat, export.fsid())),
            Err(status) => {
                self.nodes.remove(node.fh());
                Err(status)
            }
        }
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        self.durability.end();
    }
}

impl Object {
    /// Returns the handle.
    #[must_use]
    pub fn fh(&self) -> &Fh {
        self.node.fh()
    }

    /// Returns another file that the same caller reaches through the same export.
    pub(crate) fn sibling(&self, node: Arc<Node>) -> Self {
        Self { node, ..self.clone() }
    }
}

/// Returns the options with which `caller` is served.
///
/// # Errors
/// [`Acces`](NfsStatus::Acces) if it is not served.
pub(crate) fn options_for(export: &Export, caller: &Caller<'_>) -> NfsResult<ExportOptions> {
    let options = export.rule().options_for(ip_of(caller)).ok_or(NfsStatus::Acces)?;
    if options.ports == Ports::Privileged && caller.addr.port() >= FIRST_UNPRIVILEGED_PORT {
        return Err(NfsStatus::Acces);
    }
    Ok(options)
}

pub(super) fn ip_of(caller: &Caller<'_>) -> IpAddr {
    caller.addr.ip().to_canonical()
}

/// Number of sweeps in which each file is checked once.
pub(super) const NR_TURNS: u64 = 16;
/// The first port that a process can bind without being root.
pub(super) const FIRST_UNPRIVILEGED_PORT: u16 = 1024;
/// Magic number of `/proc` in `statfs`.
pub(super) const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;

#[cfg(test)]
mod tests;
