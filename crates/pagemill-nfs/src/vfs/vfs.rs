//! The exported trees as a whole: looking files up, on whose behalf, and what is kept of them.

use crate::sync::{AtomicU64, Ordering};
use alloc::sync::Arc;
use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use pagemill_host::FsIdentity;
use quick_cache::Lifecycle;
use quick_cache::sync::{Cache, DefaultLifecycle};
use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::process::{getegid, geteuid};

use crate::exports::{ExportOptions, ExportRule, Ports};
use crate::protocol::attr::Fattr;
use crate::protocol::fh::{BuildSpreadAlready, Fh, FhKey};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::vfs::export::{Export, ExportTable, VfsError};
use crate::vfs::node::Node;
use crate::vfs::turns::{Turn, Turns};
use crate::vfs::verifier::fresh_verifier;

/// On whose behalf files are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a process can do one or the other")]
pub enum Actors {
    /// On that of each caller, as its export squashes it: for a process that runs as root.
    Callers,
    /// On that of the user whose process this is, whoever calls.
    Server,
}

impl Actors {
    /// Finds out whether this process may act for others.
    #[must_use]
    pub fn detect() -> Self {
        // On a thread of its own: what it tries stays with it.
        let may = std::thread::spawn(|| geteuid().is_root() && FsIdentity::root().assume().is_ok());
        if may.join().unwrap_or(false) { Self::Callers } else { Self::Server }
    }
}

/// How the trees are served.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct VfsConfig {
    /// What handles are checked with.
    pub key: FhKey,
    /// On whose behalf files are touched.
    pub actors: Actors,
    /// The most files that are held by descriptors between calls; each may need two more.
    pub max_nr_files: usize,
    /// The threads that serve calls, of which the exports of one file system get three quarters at
    /// most; 0 for no limit.
    pub nr_threads: usize,
}

/// The exported trees.
///
/// # Concurrency
/// Every operation may run beside every other. The two locks of a file, around changes of its
/// directory entries or data and around its list of descriptors, are held in this order, and no
/// thread holds the first of more than two files: a rename, in the order of their handles.
#[derive(Debug)]
pub struct Vfs {
    pub(super) key: FhKey,
    pub(super) actors: Actors,
    /// Who the process is.
    pub(super) own: FsIdentity,
    /// The folder of this process's descriptors, through which they are opened again.
    pub(super) descriptors: OwnedFd,
    pub(super) table: RwLock<Arc<ExportTable>>,
    /// The one `Node` of each file: two would not keep each other's changes apart.
    pub(super) nodes: Cache<Fh, Arc<Node>, quick_cache::UnitWeighter, BuildSpreadAlready, KeepUsed>,
    /// How many threads are at work on which file system.
    pub(super) turns: Turns,
    /// What tells clients that unstable writes may have been lost.
    pub(super) verifier: AtomicU64,
    /// How often [`sweep`](Self::sweep) has been called.
    pub(super) nr_sweeps: AtomicU64,
}

/// Keeps files that are in use from being evicted, so that nobody makes a second `Node` of one.
///
/// There are no more of them than calls that are being carried out, each with its few files.
#[derive(Clone, Debug, Default)]
pub(super) struct KeepUsed(DefaultLifecycle<Fh, Arc<Node>>);

impl Lifecycle<Fh, Arc<Node>> for KeepUsed {
    /// What is evicted is dropped, and closed, outside of the cache's locks.
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

/// A file, as a caller reaches it through an export.
#[derive(Clone, Debug)]
pub struct Object {
    pub(crate) node: Arc<Node>,
    pub(crate) export: Arc<Export>,
    pub(crate) options: ExportOptions,
    pub(crate) who: FsIdentity,
}

/// Who calls: the address, and the word of the caller on who it is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Caller<'a> {
    /// The address and port.
    pub addr: SocketAddr,
    /// The user, group and groups; `None` for a caller that does not say.
    pub claims: Option<(u32, u32, &'a [u32])>,
}

impl Vfs {
    /// Makes a server of trees that has no tree yet.
    ///
    /// The process should have no umask: modes are as clients ask for them.
    ///
    /// # Errors
    /// Where `/proc` is missing.
    pub fn new(config: VfsConfig) -> Result<Self, VfsError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = openat(rustix::fs::CWD, c"/proc/self/fd", flags, Mode::empty())
            .map_err(VfsError::NoProc)?;
        // Anybody could mount something over it; what is not /proc would open other files.
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
            table: RwLock::new(Arc::default()),
            nodes: Cache::with(
                capacity,
                capacity as u64,
                quick_cache::UnitWeighter,
                BuildSpreadAlready::default(),
                KeepUsed::default(),
            ),
            turns: Turns::new(config.nr_threads),
            verifier: AtomicU64::new(fresh_verifier()),
            nr_sweeps: AtomicU64::new(0),
        })
    }

    /// Exports these directories, and no others any more.
    ///
    /// Handles of directories that stay exported go on.
    ///
    /// # Errors
    /// The first directory that cannot be exported; then all stays as it was.
    pub fn set_exports(&self, rules: Vec<ExportRule>) -> Result<(), VfsError> {
        self.act_as_server().map_err(|_refused| VfsError::NoProc(rustix::io::Errno::PERM))?;
        let table = ExportTable::open(rules, &self.key, &self.exports(), Err)?;
        self.replace_exports(table);
        Ok(())
    }

    /// Exports those of these directories that can be exported, and no others. Returns why each of
    /// the others cannot.
    ///
    /// # Errors
    /// That the process may not act for itself.
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

    /// Changes who may use the exports, and how. No directory is opened again.
    ///
    /// Changes of paths are ignored. Callers must not run this beside another change of the exports.
    pub fn change_rules(&self, change: impl Fn(&mut ExportRule)) {
        self.replace_exports(self.exports().with_rules(change));
    }

    pub(super) fn replace_exports(&self, table: ExportTable) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.forget_withdrawn();
    }

    /// Closes what is held of exports that are gone, or on another file system by now.
    ///
    /// What a call has in hand at this time is closed by the next sweep.
    pub(super) fn forget_withdrawn(&self) {
        let table = self.exports();
        let is_gone = |fh: &Fh| !table.is_current(fh);
        let gone: Vec<_> = self.nodes.iter().map(|(fh, _)| fh).filter(is_gone).collect();
        // One by one: what is removed is dropped, and closed, outside of the cache's locks.
        for fh in gone {
            self.nodes.remove(&fh);
        }
    }

    /// Returns what is exported.
    #[must_use]
    pub fn exports(&self) -> Arc<ExportTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells whether any export is for clients at `addr`.
    #[must_use]
    pub fn serves(&self, addr: IpAddr) -> bool {
        self.exports().iter().any(|export| export.rule().options_for(addr).is_some())
    }

    /// Lets this thread work on the file system of the export that an unchecked handle names; `None`
    /// if it names none.
    ///
    /// # Errors
    /// [`Jukebox`](NfsStatus::Jukebox) if the export's file system does not respond.
    pub(crate) fn enter(&self, fh: &[u8]) -> NfsResult<Option<Turn<'_>>> {
        let export = Fh::alleged(fh).and_then(|(export, _)| self.exports().by_id(export));
        let Some(export) = export else { return Ok(None) };
        self.turns.enter(export.file_system(), &export.rule().path).map(Some)
    }

    /// Finds the file that a client means by `fh`, beside another one in the same call.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); [`Xdev`](NfsStatus::Xdev) for a file of another export, which
    /// is not touched.
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

    /// Finds the file that a client means by `fh`, if it may reach it.
    ///
    /// # Errors
    /// [`Badhandle`](NfsStatus::Badhandle) for what this server has not made,
    /// [`Stale`](NfsStatus::Stale) for a file that is gone or no longer exported,
    /// [`Jukebox`](NfsStatus::Jukebox) for one that must be searched for,
    /// [`Acces`](NfsStatus::Acces) for a client that the export is not for.
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

    /// Returns what tells clients that unstable writes may have been lost since they were made.
    #[must_use]
    pub fn write_verifier(&self) -> [u8; 8] {
        // Relaxed: a client compares two values that it got in replies, each of them valid alone.
        self.verifier.load(Ordering::Relaxed).to_be_bytes()
    }

    /// Lets go of what was held for the next call and has not been needed for a while, and of
    /// files that are gone.
    ///
    /// # Cost
    /// A lock for each file that is held, and a system call for one in sixteen: whether a file is
    /// gone is asked every sixteenth time.
    pub fn sweep(&self) {
        // Relaxed: a number that tells sweeps apart.
        let turn = self.nr_sweeps.fetch_add(1, Ordering::Relaxed) % NR_TURNS;
        // Of handles, for a file in hand is a file in use.
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

    /// Returns the paths of exports whose file systems keep a thread of this process: with a call, or
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

    /// Returns how many files are held by descriptors.
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

    /// Returns whether the process's own rights pass over those of the file's owner.
    pub(crate) fn can_override(&self) -> bool {
        self.actors == Actors::Callers
    }

    /// Returns whom `caller` is served as.
    pub(crate) fn identity(&self, options: &ExportOptions, caller: &Caller<'_>) -> FsIdentity {
        match (self.actors, caller.claims) {
            (Actors::Server, _) => self.own,
            (Actors::Callers, None) => options.squash.anonymous(),
            (Actors::Callers, Some((uid, gid, gids))) => options.squash.identity(uid, gid, gids),
        }
    }

    /// Remembers a file, unless it is remembered already; whoever comes at the same time gets the
    /// same.
    pub(crate) fn keep(&self, node: Node) -> Arc<Node> {
        let fh = *node.fh();
        let kept = self.nodes.get_or_insert_with(&fh, || Ok::<_, Infallible>(Arc::new(node)));
        match kept {
            Ok(node) => node,
        }
    }

    /// Returns the folder in which the process's descriptors are names.
    pub(crate) fn descriptors(&self) -> BorrowedFd<'_> {
        self.descriptors.as_fd()
    }

    /// Tells what is known about a file.
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

/// Returns how `caller` is served.
///
/// # Errors
/// [`Acces`](NfsStatus::Acces) if it is not.
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

/// Sweeps until all files have been asked about.
pub(super) const NR_TURNS: u64 = 16;
/// The first port that a process may use without being root.
pub(super) const FIRST_UNPRIVILEGED_PORT: u16 = 1024;
/// What `statfs` says of `/proc`.
pub(super) const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;

#[cfg(test)]
mod tests;
