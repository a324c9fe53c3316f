//! `pagemill nfsd`: serves directories until it is told to stop.

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use pagemill_nfs::{Access, Actors};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::fresh_allocator;
use crate::args::nfsd::NfsdArgs;
use crate::interrupt::Interrupt;
use crate::nfsd::{Service, metrics, statistics};
use crate::output;
use crate::plan::{self, nfsd::ExportSources};

/// How often files that are not needed any more are let go of.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Serves until TERM or INT; the second of them ends it at once, whatever is under way.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &NfsdArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(plan::nfsd::log_level(args))
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let mut plan = plan::nfsd::nfsd(args)?;
    let stopping = Interrupt::end_when_asked()?;
    // Before anything is served: a signal that comes early must not be lost.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGXFSZ])?;
    let frames = fresh_allocator(plan.arena)?;
    let service = Arc::new(Service::start(&mut plan, frames)?);
    announce(&service, plan.actors);
    if let Some(listener) = plan.metrics.take() {
        info!(addr = %listener.local_addr()?, "statistics for Prometheus");
        let service = Arc::clone(&service);
        thread::Builder::new().name("metrics".into()).spawn(move || {
            metrics::serve(&listener, || statistics::prometheus(&service));
        })?;
    }
    let ticker = tick(Arc::clone(&service), plan.stats_every)?;
    notify(&[NotifyState::Ready]);
    for signal in signals.forever() {
        match signal {
            SIGHUP => reload(&service, &plan.exports),
            SIGUSR1 => print(&statistics::table(&service)),
            // A client wanted a file to grow beyond the limit of this process; it has been told.
            SIGXFSZ => {}
            _ => break,
        }
    }
    stopping.ask();
    notify(&[NotifyState::Stopping]);
    info!("stopping");
    drop(ticker);
    if !service.stop() {
        warn!("some replies did not go out in time");
    }
    info!("{}", statistics::line(&service));
    Ok(())
}

/// Shows what to type to mount each export.
fn announce(service: &Service, actors: Actors) {
    let addr = first_tcp(service.server.addrs());
    let mount_addr = first_tcp(service.mount_addrs());
    let mount_port = mount_addr.port();
    let [proto, mount_proto] = [addr, mount_addr].map(netid);
    let host = if addr.ip().is_unspecified() { "SERVER".to_owned() } else { host(addr) };
    let mut text = String::new();
    for export in service.vfs.exports().iter() {
        let rule = export.rule();
        let path = rule.path.display();
        let writable = rule.clients.iter().any(|rule| rule.options.access == Access::ReadWrite);
        let mode = if writable { "rw" } else { "ro" };
        info!(%path, mode, handles = export.kernel_finds(), "exported");
        text += &format!(
            "mount -t nfs -o {mode},vers=3,proto={proto},port={},mountproto={mount_proto},\
             mountport={mount_port},nolock {host}:{path} /mnt\n",
            addr.port()
        );
    }
    let whom = match actors {
        Actors::Callers => "each caller's own user",
        Actors::Server => "this process's user, whoever calls",
    };
    info!(addrs = ?service.server.addrs(), "serving; files are touched as {whom}");
    print(&text);
}

/// Writes to the standard output, if anyone listens: whether somebody does is not what ends a
/// server.
fn print(text: &str) {
    if let Err(error) = output::print(text) {
        warn!(%error, "cannot write to the standard output");
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

/// Reads the exports again; what cannot be read or exported leaves all as it is.
fn reload(service: &Service, sources: &ExportSources) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    let exported = sources.read().and_then(|rules| Ok(service.vfs.set_exports(rules)?));
    match exported {
        Ok(()) => info!(exports = service.vfs.exports().iter().count(), "exports read again"),
        Err(error) => error!("exports stay as they were: {error:#}"),
    }
    notify(&[NotifyState::Ready]);
}

/// Starts the thread that does what is due from time to time; it ends when the result is dropped.
fn tick(service: Arc<Service>, stats_every: Option<Duration>) -> io::Result<Sender<()>> {
    let (sender, stopped) = channel::<()>();
    thread::Builder::new().name("ticker".into()).spawn(move || {
        let mut told = Instant::now();
        while stopped.recv_timeout(SWEEP_EVERY) == Err(RecvTimeoutError::Timeout) {
            service.vfs.sweep();
            if stats_every.is_some_and(|every| told.elapsed() >= every) {
                told = Instant::now();
                info!("{}", statistics::line(&service));
            }
        }
    })?;
    Ok(sender)
}

/// Tells the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager could not be told");
    }
}
