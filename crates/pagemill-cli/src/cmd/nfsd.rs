//! `pagemill nfsd`: serves directories until it is told to stop.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::net::SocketAddr;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use pagemill_nfs::exports::Access;
use pagemill_nfs::vfs::Actors;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::fresh::fresh_allocator;
use super::status::serve;
use crate::args::nfsd::NfsdArgs;
use crate::interrupt::Interrupt;
use crate::nfsd::{FIRST_RETRY, LAST_RETRY, Service, Sockets, log_exported, metrics, statistics};
use crate::output;
use crate::plan::{self, nfsd::ExportSources};
use crate::usage::UsageError;

/// How often files that are not needed any more are let go of.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for calls to end when the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Longest wait for files to be closed after that.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Serves until TERM or INT; the second of them ends it at once, whatever is under way.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &NfsdArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(plan::nfsd::log_level(args))
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(wants_colour(io::stderr().is_terminal(), env::var_os("NO_COLOR").as_deref()))
        .init();
    args.die_with.map(die_with).transpose()?;
    if args.check {
        let nr_exports = plan::nfsd::check(args)?;
        let verb = if nr_exports == 1 { "export is" } else { "exports are" };
        print(format!("{nr_exports} {verb} valid\n").as_bytes());
        return Ok(());
    }
    let mut plan = plan::nfsd::nfsd(args)?;
    let stopping = Interrupt::end_when_asked()?;
    // Before anything is served: a signal that comes early must not be lost.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGXFSZ])
        .context("cannot handle signals")?;
    let frames = fresh_allocator(plan.arena)?;
    let service = Arc::new(Service::start(&mut plan, frames)?);
    announce(&service, plan.actors);
    if let Some(listener) = plan.metrics.take() {
        info!(addr = %listener.local_addr()?, "serving metrics for Prometheus");
        let service = Arc::clone(&service);
        metrics::start(listener, Arc::new(move || statistics::prometheus(&service)))?;
    }
    let status = serve(args.status.as_deref(), statistics::status(&service));
    let status = status.unwrap_or_else(|error| {
        warn!("{}; pagemill top does not find this process", output::one_line(&error.into()));
        None
    });
    let ticker = tick(Arc::clone(&service), plan.stats_every)?;
    let reloads = reload_when_asked(&service, plan.exports)?;
    notify(&[NotifyState::Ready]);
    for signal in signals.forever() {
        match signal {
            SIGHUP => ask_to_reload(&reloads),
            SIGUSR1 => survive("showing statistics", || {
                print(statistics::table(&service).as_bytes());
            }),
            // A client wanted a file to grow beyond the limit of this process; it has been told.
            SIGXFSZ => {}
            _ => break,
        }
    }
    stopping.ask();
    notify(&[NotifyState::Stopping]);
    info!("stopping");
    // It has the service too, whose last owner is to be this thread.
    drop(status);
    drop(ticker);
    match stop(&service) {
        Some(true) => {}
        Some(false) => warn!("some replies were not sent in time"),
        None => warn!("some calls still wait for a file system; the server ends without them"),
    }
    warn_of_hung_exports(&service);
    info!("{}", statistics::line(&service));
    Ok(())
}

/// Stops the server on a thread of its own: a call on a file system that hangs does not end. Returns
/// whether all replies went out; `None` if calls did not end for [`STOP_LIMIT`].
fn stop(service: &Arc<Service>) -> Option<bool> {
    let (sender, stopped) = channel();
    let stopping = Arc::clone(service);
    let started = thread::Builder::new().name("stop".into()).spawn(move || {
        let is_drained = stopping.stop();
        // The last to drop the service is the main thread, which waits for its parts to end.
        drop(stopping);
        // The receiver is gone after the limit.
        let _ended = sender.send(is_drained);
    });
    match started {
        Ok(_detached) => stopped.recv_timeout(STOP_LIMIT).ok(),
        Err(_no_thread) => Some(service.stop()),
    }
}

/// Names the exports whose file systems keep threads of this process, where they do for a while.
///
/// A thread that waits for a FUSE daemon cannot be ended, not even by KILL, once the daemon has read
/// the request. The kernel keeps the process until the daemon answers or the file system is gone.
///
/// # Source
/// `linux-7.0` `fs/fuse/dev.c` `request_wait_answer`
fn warn_of_hung_exports(service: &Service) {
    let since = Instant::now();
    let mut hung = service.vfs.exports_at_work();
    while !hung.is_empty() && since.elapsed() < CLOSE_LIMIT {
        thread::sleep(CLOSE_LIMIT / 40);
        hung = service.vfs.exports_at_work();
    }
    for path in hung {
        warn!(
            ?path,
            "the file system of an export does not respond; this process no longer serves, but the \
             kernel may keep it until the file system responds: end the process that provides the \
             file system, or unmount it with umount --force"
        );
    }
}

/// Has the kernel kill this process when the thread that started it ends.
///
/// # Errors
/// A [`UsageError`] if `parent` is not the parent, as when it has ended already.
fn die_with(parent: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot end with the parent")?;
    // It may have ended before the call: then this process belongs to another by now.
    if getppid() != Pid::from_raw(parent) {
        let line = format!("--die-with {parent}: this is not the parent process, or it has ended");
        return Err(UsageError::new(line).into());
    }
    Ok(())
}

/// Tells whether the log is in colour: on a terminal, unless `NO_COLOR` is set and not empty.
///
/// # Source
/// `no-color`
fn wants_colour(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// Shows what to type to mount each export.
fn announce(service: &Service, actors: Actors) {
    let addr = first_tcp(service.server.addrs());
    let mount_addr = first_tcp(service.mount_addrs());
    let mount_port = mount_addr.port();
    let [proto, mount_proto] = [addr, mount_addr].map(netid);
    let host = if addr.ip().is_unspecified() { "SERVER".to_owned() } else { host(addr) };
    let mut text = Vec::new();
    for export in service.vfs.exports().iter() {
        let rule = export.rule();
        log_exported(export);
        let writable = rule.clients.iter().any(|rule| rule.options.access == Access::ReadWrite);
        let mode = if writable { "rw" } else { "ro" };
        let options = format!(
            "{mode},vers=3,proto={proto},port={},mountproto={mount_proto},\
             mountport={mount_port},nolock",
            addr.port()
        );
        let source = [host.as_bytes(), b":", rule.path.as_os_str().as_bytes()].concat();
        text.extend([b"mount -t nfs -o ", options.as_bytes(), b" "].concat());
        text.extend([&quoted(&source)[..], b" /mnt\n"].concat());
    }
    let whom = match actors {
        Actors::Callers => "the user of each caller",
        Actors::Server => "the user of this process, for all callers",
    };
    let Sockets { tcp, udp } = &service.nfs_sockets;
    info!(tcp, udp, "serving; files are accessed as {whom}");
    if let Some(Sockets { tcp, udp }) = &service.mount_sockets {
        info!(tcp, udp, "serving MOUNT");
    }
    print(&text);
}

/// Quotes a word for a POSIX shell, if it needs that.
fn quoted(word: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-:@%+,=".contains(byte);
    if word.iter().all(is_plain) {
        return Cow::Borrowed(word);
    }
    let mut quoted = vec![b'\''];
    for &byte in word {
        match byte {
            // Nothing is special between quotes but the quote, which stands between two words.
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    Cow::Owned(quoted)
}

/// Writes to the standard output, if anyone listens: whether somebody does is not what ends a
/// server.
fn print(text: &[u8]) {
    if let Err(error) = output::print_bytes(text) {
        warn!("{}", output::one_line(&error.into()));
    }
}

fn first_tcp(addrs: &[SocketAddr]) -> SocketAddr {
    *addrs.first().expect("a server has a socket")
}

/// What mount.nfs calls TCP to such an address.
fn netid(addr: SocketAddr) -> &'static str {
    if addr.is_ipv4() { "tcp" } else { "tcp6" }
}

fn host(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => addr.ip().to_string(),
        SocketAddr::V6(addr) => format!("[{}]", addr.ip()),
    }
}

/// Starts the thread that reads the exports again whenever it is asked to: a directory that hangs
/// must not keep the server from taking other signals.
fn reload_when_asked(service: &Arc<Service>, sources: ExportSources) -> io::Result<SyncSender<()>> {
    let service = Arc::downgrade(service);
    // One request may wait for the end of a reload: it covers all that was written until then.
    let (sender, asked) = sync_channel(1);
    thread::Builder::new().name("reload".into()).spawn(move || {
        for () in asked {
            let Some(service) = service.upgrade() else { return };
            survive("reading the exports again", || reload(&service, &sources));
        }
    })?;
    Ok(sender)
}

fn ask_to_reload(reloads: &SyncSender<()>) {
    if reloads.try_send(()).is_err() {
        warn!(
            "the exports are still being read, and will be read once more after that: a directory \
             may be on a file system that does not respond"
        );
    }
}

/// Reads the exports again. While something cannot be read, what is exported already stays.
fn reload(service: &Service, sources: &ExportSources) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    match service.exports.set_again(sources.read()) {
        Ok(_left_out) => {
            info!(exports = service.vfs.exports().iter().count(), "exports read again");
        }
        Err(error) => error!("exports unchanged: {}", output::one_line(&error.into())),
    }
    notify(&[NotifyState::Ready]);
}

/// Does `work`; a panic in it is logged, and costs nothing else.
fn survive(what: &str, work: impl FnOnce()) {
    // What it leaves half done is behind locks that hold whole values.
    if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
        error!("{what} panicked; the server continues");
    }
}

/// Starts the thread that does what is due from time to time; it ends when the result is dropped.
fn tick(service: Arc<Service>, stats_every: Option<Duration>) -> io::Result<Sender<()>> {
    let (sender, stopped) = channel::<()>();
    let names = Arc::downgrade(&service);
    // On a thread of its own: a name server may take its time.
    thread::Builder::new().name("names".into()).spawn(move || {
        let mut wait = FIRST_RETRY;
        loop {
            thread::sleep(wait);
            let Some(service) = names.upgrade() else { return };
            let is_missing = service.exports.look_up_again();
            // Names that are fine cost nothing, and HUP may bring others.
            wait = if is_missing { (wait * 2).min(LAST_RETRY) } else { FIRST_RETRY };
        }
    })?;
    thread::Builder::new().name("ticker".into()).spawn(move || {
        let mut told = Instant::now();
        while stopped.recv_timeout(SWEEP_EVERY) == Err(RecvTimeoutError::Timeout) {
            survive("closing unused files", || service.vfs.sweep());
            if stats_every.is_some_and(|every| told.elapsed() >= every) {
                told = Instant::now();
                survive("showing statistics", || info!("{}", statistics::line(&service)));
            }
        }
    })?;
    Ok(sender)
}

/// Tells the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn colours_are_for_terminals_whose_user_does_not_refuse_them() {
        assert!(wants_colour(true, None));
        assert!(wants_colour(true, Some(OsStr::new(""))));
        assert!(!wants_colour(true, Some(OsStr::new("1"))));
        assert!(!wants_colour(false, None));
    }

    #[test]
    fn a_shell_reads_what_was_quoted() {
        assert_eq!(*quoted(b"host:/srv/a-b_c.d"), *b"host:/srv/a-b_c.d");
        assert_eq!(*quoted(b"[::1]:/srv"), *b"'[::1]:/srv'");
        for word in [&b"/a b"[..], b"/it's", b"/$(reboot)`x`", b"/a\nb", b"/\xff", b"~", b"a;b&c"] {
            let script = [b"printf %s ", &*quoted(word)].concat();
            let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output();
            assert_eq!(output.unwrap().stdout, word, "{:?}", OsStr::from_bytes(word));
        }
    }
}
