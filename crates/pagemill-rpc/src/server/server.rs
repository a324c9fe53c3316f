//! Server handle: starts the sockets and threads, changes the number of threads, stops and drains.

use alloc::sync::Arc;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::dispatch::dispatch::Dispatcher;
use crate::dispatch::program::Program;
use crate::rqst::pages::Frames;
use crate::server::config::{MAX_THREADS, ServerConfig};
use crate::server::server_state::ServerState;
use crate::server::supervisor;
use crate::server::worker;
use crate::stats::ClientInfo;
use crate::transport::listener::{Listener, Socket};
use crate::wire::error::ConfigError;
use crate::wire::sync::{Mutex, Ordering, lock};

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A configuration field is out of range.
    Config(ConfigError),
    /// A system call failed.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Io(error) => {
                write!(f, "the system refused a socket, a thread or memory: {error}")
            }
        }
    }
}

impl core::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running server; it runs until it is stopped or dropped.
///
/// # Concurrency
/// All methods may be called from any thread.
pub struct Server<S: Frames> {
    state: Arc<ServerState<S>>,
    addrs: Vec<SocketAddr>,
    /// Guards the handles of the threads, including those that have ended.
    threads: Mutex<Vec<JoinHandle<()>>>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Frames> Server<S> {
    /// Starts to serve `programs` on `listeners`, with pages from `source`.
    ///
    /// # Errors
    /// A field out of range, fewer free pages than [`ServerConfig::nr_pages`], or the error of a system
    /// call.
    pub fn start(
        config: ServerConfig,
        source: S,
        programs: Vec<Arc<dyn Program<S>>>,
        listeners: Vec<Listener>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        check_memory(&source, config.nr_pages())?;
        let dispatcher = Dispatcher::new(programs, config.replies);
        let mut addrs = Vec::new();
        let mut sockets = Vec::new();
        for listener in listeners {
            let (socket, addr) = Socket::new(listener)?;
            sockets.push(socket);
            addrs.push(addr);
        }
        let state = Arc::new(ServerState::new(config, source, dispatcher, sockets)?);
        let server =
            Self { state, addrs, threads: Mutex::new(Vec::new()), supervisor: Mutex::new(None) };
        server.grow(config.nr_threads)?;
        let state = Arc::clone(&server.state);
        let supervisor = thread::Builder::new().name("rpc-supervisor".into()).spawn(move || {
            supervisor::run(&state);
        })?;
        *lock(&server.supervisor) = Some(supervisor);
        Ok(server)
    }

    /// Returns the addresses of the listeners, in the same order.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Returns the dispatcher and its counters.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher<S> {
        &self.state.dispatcher
    }

    /// Returns the number of connections.
    #[must_use]
    pub fn nr_connections(&self) -> usize {
        self.state.nr_connections()
    }

    /// Returns the addresses that have connections.
    ///
    /// # Cost
    /// Copies them under the lock of the table of connections, which is taken for each new connection.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientInfo> {
        self.state.clients()
    }

    /// Returns how many bytes of pages connections hold.
    #[must_use]
    pub fn parked_bytes(&self) -> usize {
        self.state.scheduler.budget.used()
    }

    /// Returns how many files are kept open for replies that have not been read.
    #[must_use]
    pub fn nr_kept_files(&self) -> usize {
        self.state.scheduler.kept_files.load(Ordering::Relaxed)
    }

    /// Returns the number of worker threads.
    #[must_use]
    pub fn nr_threads(&self) -> usize {
        self.state.workers.nr_alive()
    }

    /// Changes the number of threads. Surplus threads end after their current call.
    ///
    /// # Errors
    /// A number outside of 1 to [`MAX_THREADS`], more than the allocator has pages for, or the error of
    /// a system call.
    pub fn set_threads(&self, nr_threads: usize) -> Result<(), StartError> {
        if !(1..=MAX_THREADS).contains(&nr_threads) {
            let allowed = 1..=MAX_THREADS as u64;
            let value = nr_threads as u64;
            return Err(ConfigError { field: "nr_threads", value, allowed }.into());
        }
        let more = nr_threads.saturating_sub(self.state.workers.nr_alive());
        check_memory(&self.state.source, self.state.config.nr_thread_pages(more))?;
        self.grow(nr_threads)?;
        // Sleeping threads check the number when they wake.
        self.state.scheduler.poller.wake(self.state.workers.nr_alive() as u64);
        Ok(())
    }

    /// Stops: takes no new calls, and finishes and replies to the calls in progress.
    ///
    /// Returns true if all replies were sent within `drain`. After that time, connections are closed,
    /// and all pages are freed.
    pub fn stop(&self, drain: Duration) -> bool {
        let deadline = Instant::now() + drain;
        self.state.stop();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has logged it already.
            drop(thread.join());
        }
        if let Some(supervisor) = lock(&self.supervisor).take() {
            supervisor.thread().unpark();
            drop(supervisor.join());
        }
        self.state.drain(deadline)
    }

    fn grow(&self, nr_threads: usize) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        self.state.workers.set_target(nr_threads);
        while self.state.workers.try_start() {
            let state = Arc::clone(&self.state);
            let name = format!("rpc-{}", threads.len());
            match thread::Builder::new().name(name).spawn(move || worker::run(&state)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    self.state.workers.on_exit();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl<S: Frames> Drop for Server<S> {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl<S: Frames> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.addrs)
            .field("dispatcher", &self.state.dispatcher)
            .finish_non_exhaustive()
    }
}

fn check_memory<S: Frames>(source: &S, nr_pages: usize) -> Result<(), ConfigError> {
    let free = source.allocator().nr_free_pages();
    let needed = nr_pages as u64;
    if needed > free {
        return Err(ConfigError { field: "pages needed", value: needed, allowed: 0..=free });
    }
    Ok(())
}
