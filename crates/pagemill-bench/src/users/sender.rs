//! Sender: the peer of users that receive over TCP, which always has more to send.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;

use anyhow::Context as _;
use pagemill::units::CpuId;
use pagemill_host::machine::Cpus;

/// A thread that sends until the connection is closed.
#[derive(Debug)]
pub(super) struct Sender {
    /// The same socket as the receiver's.
    stream: TcpStream,
    thread: JoinHandle<io::Result<()>>,
}

impl Sender {
    /// Starts a thread on `cpu` that sends pieces of `len_bytes` over loopback, and returns the other end.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn start(cpu: CpuId, len_bytes: usize) -> anyhow::Result<(Self, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let to = TcpStream::connect(address).context("cannot connect over 127.0.0.1")?;
        let (stream, _) = listener.accept()?;
        let thread = std::thread::spawn(move || send(to, cpu, len_bytes));
        Ok((Self { stream: stream.try_clone()?, thread }, stream))
    }

    /// Closes the connection and waits for the thread.
    ///
    /// # Errors
    /// If the thread could not send.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        // The peer may have closed it already.
        let _closed = self.stream.shutdown(Shutdown::Both);
        // What has been sent and is not read makes the sender's next call fail, so that it ends.
        drop(self.stream);
        self.thread.join().ok().context("the sender panicked")?.context("the sender cannot send")
    }
}

fn send(mut to: TcpStream, cpu: CpuId, len_bytes: usize) -> io::Result<()> {
    Cpus::pin_to(cpu).map_err(io::Error::other)?;
    let piece = vec![0x5a; len_bytes];
    loop {
        match to.write_all(&piece) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
