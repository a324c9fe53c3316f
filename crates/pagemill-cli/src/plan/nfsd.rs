//! What the options of `nfsd` mean on this machine.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use listenfd::ListenFd;
use pagemill::units::PAGE_SIZE;
use pagemill_host::ArenaConfig;
use pagemill_host::arena::HugePages;
use pagemill_nfs::exports::{
    Access, ExportOptions, ExportRule, Ports, parse_export_arg, parse_good_exports,
};
use pagemill_nfs::fh::FhKey;
use pagemill_nfs::vfs::{Actors, MAX_DESCRIPTORS_PER_FILE, Vfs, VfsConfig, VfsError};
use pagemill_nfs::{NfsConfig, ReadPath};
use pagemill_rpc::buffer::{Refill, RefillCalls};
use pagemill_rpc::{Listener, ServerConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::level_filters::LevelFilter;
use tracing::warn;

use crate::args::nfsd::{LogArg, NfsdArgs, ReadArg, RefillArg};
use crate::usage::UsageError;

/// Everything that `nfsd` needs.
#[derive(Debug)]
pub(crate) struct NfsdPlan {
    /// Where exports are written down.
    pub(crate) exports: ExportSources,
    /// What they said at the start.
    pub(crate) first: LoadedExports,
    /// On whose behalf files are touched.
    pub(crate) actors: Actors,
    /// Sockets for NFS, and for MOUNT unless that has its own.
    pub(crate) listeners: Vec<Listener>,
    /// Sockets for MOUNT.
    pub(crate) mount_listeners: Vec<Listener>,
    /// The RPC server.
    pub(crate) rpc: ServerConfig,
    /// NFS.
    pub(crate) nfs: NfsConfig,
    /// The memory that request pages are made of.
    pub(crate) arena: ArenaConfig,
    /// The secret behind file handles.
    pub(crate) key_file: PathBuf,
    /// Most files that are kept open.
    pub(crate) max_nr_files: usize,
    /// Time between lines with statistics.
    pub(crate) stats_every: Option<Duration>,
    /// Where statistics are offered.
    pub(crate) metrics: Option<TcpListener>,
    /// Whether rpcbind is told.
    pub(crate) rpcbind: bool,
}

/// What is to be exported, and what of it cannot be.
#[derive(Debug, Default)]
pub(crate) struct LoadedExports {
    /// What can be read. Hosts whose names have no address match no client.
    pub(crate) rules: Vec<ExportRule>,
    /// Where each of the rules was written, and its directory.
    pub(crate) places: Vec<(PathBuf, String)>,
    /// Lines and files that cannot be read, with file and line.
    pub(crate) problems: Vec<String>,
    /// Hosts whose names have no address, with file and line.
    pub(crate) unresolved: Vec<String>,
    /// Whether a whole file cannot be read.
    pub(crate) is_file_missing: bool,
    /// The directories of lines that cannot be read.
    pub(crate) unread: Vec<PathBuf>,
}

impl LoadedExports {
    /// Describes an error of an export with every place that names its directory.
    pub(crate) fn located(places: &[(PathBuf, String)], error: &VfsError) -> String {
        let at = match error {
            VfsError::Root { path, .. }
            | VfsError::Kept { path, .. }
            | VfsError::Twice { path }
            | VfsError::SameId { path, .. } => {
                let named = places.iter().filter(|(other, _)| other == path);
                named.map(|(_, place)| place.as_str()).collect::<Vec<_>>().join(" and ")
            }
            _ => String::new(),
        };
        let hint = match error {
            VfsError::Root { path, errno } => hidden_hint(path, errno.kind()),
            _ => "",
        };
        if at.is_empty() { format!("{error}{hint}") } else { format!("{at}: {error}{hint}") }
    }
}

/// Where exports are written down: read at the start, and again when asked to.
#[derive(Clone, Debug)]
pub(crate) struct ExportSources {
    typed: Vec<ExportRule>,
    files: Vec<PathBuf>,
    /// What the options in files begin with.
    defaults: ExportOptions,
}

/// The port of NFS.
const NFS_PORT: u16 = 2049;
/// Where those listen who may not use that port.
const HIGH_PORT: u16 = 20490;
/// Name of the file with the secret of file handles.
const KEY_FILE: &str = "nfsd.key";
/// Descriptors of a connection: its socket, and a file that an unread reply keeps open.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Descriptors for all that is neither a file nor a connection.
const OTHER_DESCRIPTORS: u64 = 64;
/// Most connections for MOUNT where it has a server of its own.
pub(crate) const MAX_NR_MOUNT_CONNECTIONS: usize = 64;
/// Most files that are kept open unless told otherwise.
const MAX_NR_FILES: u64 = 16384;
/// Fewest files, however few descriptors there are.
const MIN_NR_FILES: u64 = 16;
/// Memory beside the pages that the server says it needs: what stays in lists and reserves.
const SPARE_BYTES: u64 = 16 << 20;

/// Finds out what the options of `nfsd` mean, and opens its sockets.
///
/// # Errors
/// A [`UsageError`] for what cannot be exported, and what the system answers where a socket cannot
/// be opened.
pub(crate) fn nfsd(args: &NfsdArgs) -> anyhow::Result<NfsdPlan> {
    let actors = Actors::detect();
    let exports = ExportSources::new(args, actors)?;
    let first = exports.read_first()?;
    let descriptors = Descriptors::plan(args);
    let rpc = ServerConfig {
        nr_threads: args.threads.into(),
        max_payload_bytes: usize::from(args.max_payload) << 10,
        max_connections: usize::try_from(descriptors.connections)?,
        max_kept_files: usize::try_from(descriptors.connections)?,
        refill: Refill {
            calls: match args.refill {
                RefillArg::Bulk => RefillCalls::Bulk,
                RefillArg::Single => RefillCalls::Single,
            },
            ..Refill::default()
        },
        ..ServerConfig::default()
    };
    rpc.validate()?;
    let default = NfsConfig::default();
    let nfs = NfsConfig {
        max_payload_bytes: rpc.max_payload_bytes,
        read_path: match args.read {
            ReadArg::Auto => default.read_path,
            ReadArg::Pages => ReadPath::Pages,
            ReadArg::File => ReadPath::File { min_bytes: 1 },
        },
    };
    let len_bytes = (rpc.nr_pages() * PAGE_SIZE) as u64 * 5 / 4 + SPARE_BYTES;
    Ok(NfsdPlan {
        exports,
        first,
        actors,
        listeners: listeners(args, actors)?,
        mount_listeners: bind_all("--mount-listen", &args.mount_listen, args.udp)?,
        rpc,
        nfs,
        arena: ArenaConfig {
            // What is not used takes no memory; huge pages would be used whole.
            huge: HugePages::Never,
            ..ArenaConfig::new(len_bytes.next_multiple_of(2 << 20))
        },
        key_file: key_file(args, actors)?,
        max_nr_files: usize::try_from(descriptors.files)?,
        stats_every: (args.stats_every > 0).then(|| Duration::from_secs(args.stats_every.into())),
        metrics: args.metrics.map(|addr| bind("--metrics", addr)).transpose()?,
        rpcbind: args.rpcbind,
    })
}

/// Returns the level that is logged.
pub(crate) fn log_level(args: &NfsdArgs) -> LevelFilter {
    match args.log {
        LogArg::Error => LevelFilter::ERROR,
        LogArg::Warn => LevelFilter::WARN,
        LogArg::Info => LevelFilter::INFO,
        LogArg::Debug => LevelFilter::DEBUG,
    }
}

impl ExportSources {
    /// # Errors
    /// The first export on the command line that is not one.
    fn new(args: &NfsdArgs, actors: Actors) -> Result<Self, UsageError> {
        let (sources, refused) = Self::new_good(args, actors);
        refused.into_iter().next().map_or(Ok(sources), |line| Err(UsageError::new(line)))
    }

    /// Returns also what is wrong with exports on the command line, which are left out.
    fn new_good(args: &NfsdArgs, actors: Actors) -> (Self, Vec<String>) {
        let in_files = ExportOptions {
            ports: match actors {
                Actors::Callers => Ports::Privileged,
                // Whoever calls acts as this user: that a client is root proves nothing.
                Actors::Server => Ports::Any,
            },
            ..ExportOptions::default()
        };
        let defaults = ExportOptions { access: Access::ReadWrite, ..in_files };
        let (mut typed, mut refused) = (Vec::new(), Vec::new());
        for text in &args.exports {
            match typed_export(text, defaults) {
                Ok(rule) => typed.push(rule),
                Err(what) => refused.push(format!("--export {}: {what}", text.to_string_lossy())),
            }
        }
        (Self { typed, files: args.exports_file.clone(), defaults: in_files }, refused)
    }

    /// Reads what is to be exported now, as far as it can be read.
    pub(crate) fn read(&self) -> LoadedExports {
        let typed = self.typed.iter().map(|rule| (rule.path.clone(), "--export".to_owned()));
        let mut loaded = LoadedExports {
            rules: self.typed.clone(),
            places: typed.collect(),
            ..LoadedExports::default()
        };
        for file in &self.files {
            let shown = file.display();
            let text = match fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) => {
                    loaded.problems.push(format!("cannot read {shown}: {error}"));
                    loaded.is_file_missing = true;
                    continue;
                }
            };
            let (rules, errors) = parse_good_exports(&text, self.defaults);
            loaded.problems.extend(errors.iter().map(|error| format!("{shown}, {error}")));
            loaded.unread.extend(errors.into_iter().filter_map(|error| error.path));
            for (line, rule) in rules {
                loaded.places.push((rule.path.clone(), format!("{shown}, line {line}")));
                loaded.rules.push(rule);
            }
        }
        for (rule, (_, at)) in loaded.rules.iter_mut().zip(&loaded.places) {
            for client in &mut rule.clients {
                if let Err(error) = client.client.look_up() {
                    loaded.unresolved.push(format!("{at}: {error}"));
                }
            }
        }
        loaded
    }

    /// Returns whether an error is about an export that was named on the command line.
    pub(crate) fn is_typed(&self, error: &VfsError) -> bool {
        match error {
            VfsError::Root { path, .. }
            | VfsError::Twice { path }
            | VfsError::SameId { path, .. } => self.typed.iter().any(|rule| rule.path == *path),
            _ => false,
        }
    }

    /// Says what to do where no export is written.
    fn missing(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        match &files[..] {
            [] => "name a directory with --export DIR".to_owned(),
            files => format!(
                "{} has no export: add a line such as `/srv/data 10.0.0.0/8(rw)`",
                files.join(" and ")
            ),
        }
    }

    /// Reads what is to be exported at the start.
    ///
    /// # Errors
    /// A [`UsageError`] if there is nothing, with the reasons.
    pub(crate) fn read_first(&self) -> anyhow::Result<LoadedExports> {
        let loaded = self.read();
        if loaded.rules.is_empty() {
            let why = match &loaded.problems[..] {
                [] => self.missing(),
                problems => problems.join("; "),
            };
            return Err(nothing_to_serve(&why).into());
        }
        Ok(loaded)
    }
}

/// Checks what `--check` checks: that all that is asked for can be exported.
///
/// # Errors
/// A [`UsageError`] with a line for everything that cannot.
pub(crate) fn check(args: &NfsdArgs) -> anyhow::Result<usize> {
    let actors = Actors::detect();
    let (sources, mut problems) = ExportSources::new_good(args, actors);
    let mut loaded = sources.read();
    let nr_exports = loaded.rules.len();
    if nr_exports == 0 && problems.is_empty() && loaded.problems.is_empty() {
        return Err(nothing_to_serve(&sources.missing()).into());
    }
    let config = VfsConfig { key: FhKey::random()?, actors, max_nr_files: 1, nr_threads: 0 };
    let vfs = Vfs::new(config)?;
    let bad = vfs.set_good_exports(core::mem::take(&mut loaded.rules))?;
    warn_of_read_only(&vfs);
    problems.append(&mut loaded.problems);
    problems.append(&mut loaded.unresolved);
    problems.extend(bad.iter().map(|error| LoadedExports::located(&loaded.places, error)));
    if problems.is_empty() {
        return Ok(nr_exports);
    }
    Err(UsageError::of_lines(problems).into())
}

/// Warns of exports that clients may write to by their options, but that are mounted read-only here.
///
/// Does not access their file systems: one that stops responding must not delay the start.
pub(crate) fn warn_of_read_only(vfs: &Vfs) {
    for export in vfs.exports().iter().filter(|export| export.is_read_only()) {
        let ExportRule { path, clients, .. } = export.rule();
        if clients.iter().any(|rule| rule.options.access == Access::ReadWrite) {
            let path = path.display();
            warn!(
                "`{path}`: exported rw, but mounted read-only here: clients cannot write; under \
                 systemd add `ReadWritePaths={path}` to the unit"
            );
        }
    }
}

fn nothing_to_serve(why: &str) -> UsageError {
    UsageError::new(format!("nothing to serve: {why}"))
}

/// Parses an argument of `--export`, and finds its directory.
///
/// # Errors
/// What is wrong with the argument.
fn typed_export(text: &OsStr, defaults: ExportOptions) -> Result<ExportRule, String> {
    let mut rule = parse_export_arg(text, defaults).map_err(|error| error.to_string())?;
    rule.path = fs::canonicalize(&rule.path).map_err(|error| {
        if let Some(what) = misread_options(&rule.path, defaults) {
            return what;
        }
        let hint = hidden_hint(&rule.path, error.kind());
        match error.kind() {
            io::ErrorKind::NotFound => format!("{error}: name an existing directory{hint}"),
            _ => format!("{error}: name a directory that this user can reach{hint}"),
        }
    })?;
    Ok(rule)
}

/// Directories that a unit can hide from its processes, with the settings that do.
const HIDDEN_BY_UNITS: [(&str, &str); 5] = [
    ("/home", "; or the unit hides it: ProtectHome="),
    ("/root", "; or the unit hides it: ProtectHome="),
    ("/run/user", "; or the unit hides it: ProtectHome="),
    ("/tmp", "; or the unit hides it: PrivateTmp="),
    ("/var/tmp", "; or the unit hides it: PrivateTmp="),
];

/// Returns the end of a message about a directory that cannot be opened, if systemd started this process
/// and the sandbox of a unit may be the reason.
fn hidden_hint(path: &Path, kind: io::ErrorKind) -> &'static str {
    let may_hide = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied].contains(&kind);
    if !may_hide || env::var_os("INVOCATION_ID").is_none() {
        return "";
    }
    let hidden = HIDDEN_BY_UNITS.iter().find(|(dir, _)| path.starts_with(dir));
    hidden.map_or("", |&(_, hint)| hint)
}

/// Returns what is wrong with the options that were taken for the end of a path, if a directory is
/// before them.
fn misread_options(path: &Path, defaults: ExportOptions) -> Option<String> {
    let text = path.to_str()?;
    if let Some((dir, options)) = text.split_once(',').filter(|(dir, _)| Path::new(dir).is_dir()) {
        return Some(format!("write a colon before the options, as in {dir}:{options}"));
    }
    let (dir, options) = text.rsplit_once(':').filter(|(dir, _)| Path::new(dir).is_dir())?;
    let is_read = parse_export_arg(text.as_ref(), defaults);
    Some(match is_read.is_ok_and(|rule| rule.path == Path::new(dir)) {
        true => format!("write a comma between options, as in {dir}:{options},..."),
        false => format!(
            "'{options}' does not begin with an option: after the colon, write ro, rw or an option \
             of --exports-file"
        ),
    })
}

/// Takes the sockets that systemd passes, or else opens those asked for.
fn listeners(args: &NfsdArgs, actors: Actors) -> anyhow::Result<Vec<Listener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        // A socket of the other kind is an error here, and stays for the next line.
        if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
            listeners.push(Listener::Tcp(listener));
        } else if let Some(socket) = passed
            .take_udp_socket(index)
            .with_context(|| format!("socket {index} that systemd passed is neither TCP nor UDP"))?
        {
            listeners.push(Listener::Udp(socket));
        }
    }
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    let port = if actors == Actors::Callers { NFS_PORT } else { HIGH_PORT };
    let default = [SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    bind_all("--listen", if args.listen.is_empty() { &default } else { &args.listen }, args.udp)
}

fn bind_all(
    option: &'static str,
    addrs: &[SocketAddr],
    udp: bool,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for &addr in addrs {
        let listener = bind(option, addr)?;
        // Port 0 becomes the same for both.
        let addr = listener.local_addr()?;
        listeners.push(Listener::Tcp(listener));
        if udp {
            let socket = UdpSocket::bind(addr).map_err(|error| refused(option, addr, error))?;
            listeners.push(Listener::Udp(socket));
        }
    }
    Ok(listeners)
}

fn bind(option: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).map_err(|error| refused(option, addr, error))
}

/// Says for which option an address cannot be listened on, why, and what to do.
fn refused(option: &str, addr: SocketAddr, error: io::Error) -> anyhow::Error {
    let line = format!("cannot listen on {addr} for {option}: {error}");
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another socket listens there; choose another address",
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has this address; choose one that `ip address` shows"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port"
        }
        _ => return anyhow::Error::new(error).context(line),
    };
    anyhow::Error::new(error).context(format!("{line}; {hint}"))
}

fn key_file(args: &NfsdArgs, actors: Actors) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.key_file {
        return Ok(path.clone());
    }
    // The directories of a unit's StateDirectory=, with colons between them.
    let state = env::var_os("STATE_DIRECTORY").unwrap_or_default();
    if let Some(first) = env::split_paths(&state).find(|path| path.is_absolute()) {
        return Ok(first.join(KEY_FILE));
    }
    if actors == Actors::Callers {
        return Ok(Path::new("/var/lib/pagemill").join(KEY_FILE));
    }
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".local/state"))
    });
    let state =
        state.ok_or_else(|| UsageError::new("$HOME is not set: name a file with --key-file"))?;
    Ok(state.join("pagemill").join(KEY_FILE))
}

/// How the descriptors that this process may have are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptors {
    connections: u64,
    files: u64,
}

impl Descriptors {
    /// Raises the limit on descriptors as far as this process may, and divides them.
    fn plan(args: &NfsdArgs) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(u64::MAX).min(1 << 20);
        // Where it is refused, what there is has to do.
        let _kept =
            setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(most);
        let mount = if args.mount_listen.is_empty() { 0 } else { MAX_NR_MOUNT_CONNECTIONS as u64 };
        // Each thread has a pipe and up to two descriptors by which a change is made durable, and may
        // exceed the number of files that unread replies keep open.
        let others = OTHER_DESCRIPTORS + mount + 5 * u64::from(args.threads);
        let asked = u64::from(args.connections);
        let fitting = Self::divide(allowed, others, asked);
        if fitting.connections < asked {
            warn!(
                "serving at most {} connections instead of {asked}: this process may have \
                 {allowed} descriptors; raise the limit with ulimit -n or LimitNOFILE=",
                fitting.connections
            );
        }
        let files = args.max_files.map_or(fitting.files, |asked| u64::from(asked).max(1));
        Self { files, ..fitting }
    }

    /// Divides `allowed` descriptors, `others` of which are for neither: connections get what was
    /// asked for, but leave files a quarter, and what [`MIN_NR_FILES`] take.
    fn divide(allowed: u64, others: u64, asked: u64) -> Self {
        let left = allowed.saturating_sub(others);
        let fewest = MIN_NR_FILES * MAX_DESCRIPTORS_PER_FILE as u64;
        let most = (left / 4 * 3).min(left.saturating_sub(fewest));
        let connections = asked.min(most / DESCRIPTORS_PER_CONNECTION).max(1);
        let left = left.saturating_sub(connections * DESCRIPTORS_PER_CONNECTION);
        let files = left / MAX_DESCRIPTORS_PER_FILE as u64;
        Self { connections, files: files.clamp(MIN_NR_FILES, MAX_NR_FILES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_files_together_fit_into_the_limit() {
        for allowed in [500, 1024, 2048, 4096, 65536, 1 << 20] {
            for asked in [1, 100, 1024, 100_000] {
                let Descriptors { connections, files } = Descriptors::divide(allowed, 80, asked);
                let taken = files * MAX_DESCRIPTORS_PER_FILE as u64
                    + connections * DESCRIPTORS_PER_CONNECTION
                    + 80;
                assert!(taken <= allowed, "{connections} and {files} files of {allowed}");
                assert!(connections == asked || connections >= (allowed - 80) / 4);
            }
        }
        assert_eq!(Descriptors::divide(1 << 20, 80, 1024).files, MAX_NR_FILES);
        // However few there are, something is served.
        let few = Descriptors { connections: 1, files: MIN_NR_FILES };
        assert_eq!(Descriptors::divide(64, 80, 1024), few);
    }
}
