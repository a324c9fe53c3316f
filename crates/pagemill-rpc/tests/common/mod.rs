//! A program to call, a client that says what it likes, and a server that must give every page back.

#![expect(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "each test uses a part of this"
)]

use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use pagemill::source::PageSource;
use pagemill::{AllocPages, Gfp, Page};
use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_rpc::auth::{AuthStat, Credential};
use pagemill_rpc::buffer::{FileRange, Frames};
use pagemill_rpc::program::{Blocking, Data, Peer, Procedure, Replies, Version};
use pagemill_rpc::record::mark_of;
use pagemill_rpc::xdr::{XdrError, XdrReader, XdrWrite};
use pagemill_rpc::{Call, CallError, Listener, Program, Server, ServerConfig};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// How long something is waited for that happens soon unless it never does.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) const PROG: u32 = 0x2000_0001;
pub(crate) const VERS: u32 = 3;

/// The procedures of [`TestProgram`].
pub(crate) const ECHO: u32 = 1;
pub(crate) const READ_PAGES: u32 = 2;
pub(crate) const READ_FILE: u32 = 3;
pub(crate) const COUNT: u32 = 4;
pub(crate) const GATE: u32 = 5;
pub(crate) const FAIL: u32 = 6;
pub(crate) const SUM: u32 = 7;
pub(crate) const READ_OWN: u32 = 8;
pub(crate) const QUICK_GATE: u32 = 9;
pub(crate) const LONG_HEAD: u32 = 10;
pub(crate) const PANIC: u32 = 11;
pub(crate) const STORE: u32 = 12;
pub(crate) const SLOW_PANIC: u32 = 13;
pub(crate) const REFUSE: u32 = 14;

const fn procedure(name: &'static str, blocking: Blocking, replies: Replies) -> Procedure {
    Procedure { name, blocking, replies, data: Data::InPages }
}

const PROCEDURES: &[Procedure] = &[
    procedure("NULL", Blocking::No, Replies::Forgotten),
    procedure("ECHO", Blocking::No, Replies::Forgotten),
    procedure("READ_PAGES", Blocking::Yes, Replies::Forgotten),
    procedure("READ_FILE", Blocking::Yes, Replies::Forgotten),
    procedure("COUNT", Blocking::No, Replies::Kept),
    procedure("GATE", Blocking::Yes, Replies::Kept),
    procedure("FAIL", Blocking::No, Replies::Kept),
    procedure("SUM", Blocking::Yes, Replies::Forgotten),
    procedure("READ_OWN", Blocking::Yes, Replies::Forgotten),
    procedure("QUICK_GATE", Blocking::No, Replies::Forgotten),
    procedure("LONG_HEAD", Blocking::Yes, Replies::Forgotten),
    procedure("PANIC", Blocking::No, Replies::Kept),
    Procedure { data: Data::MayBeSpliced, ..procedure("STORE", Blocking::Yes, Replies::Forgotten) },
    procedure("SLOW_PANIC", Blocking::Yes, Replies::Kept),
    procedure("REFUSE", Blocking::Yes, Replies::Kept),
];

/// The byte at `offset` of whatever is read.
pub(crate) fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

/// What the gate procedures wait for.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    is_open: bool,
    /// Calls that may pass although the gate is closed.
    nr_admitted: usize,
    /// Where the calls came from that reached the gate.
    came_from: Vec<IpAddr>,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }

    /// Lets one call pass.
    pub(crate) fn admit_one(&self) {
        self.state.lock().unwrap().nr_admitted += 1;
        self.changed.notify_all();
    }

    fn pass(&self, from: IpAddr) {
        let mut state = self.state.lock().unwrap();
        state.came_from.push(from);
        self.changed.notify_all();
        while !state.is_open && state.nr_admitted == 0 {
            state = self.changed.wait(state).unwrap();
        }
        state.nr_admitted = state.nr_admitted.saturating_sub(1);
    }

    /// Waits until `nr` calls have reached the gate, and returns where they came from.
    pub(crate) fn wait_for(&self, nr: usize) -> Vec<IpAddr> {
        let mut state = self.state.lock().unwrap();
        while state.came_from.len() < nr {
            state = self.changed.wait(state).unwrap();
        }
        state.came_from.clone()
    }
}

/// A program with a procedure of each kind.
#[derive(Default)]
pub(crate) struct TestProgram {
    pub(crate) count: AtomicU64,
    pub(crate) gate: Gate,
    pub(crate) file: Option<Arc<OwnedFd>>,
    /// Where [`STORE`] writes if it is told to write where nothing fits.
    pub(crate) full: Option<Arc<OwnedFd>>,
    /// Whether it panics when asked whom it serves.
    pub(crate) panics: bool,
    /// The only address whose callers it serves, or all.
    pub(crate) known: Option<IpAddr>,
}

impl<S: Frames> Program<S> for TestProgram {
    fn number(&self) -> u32 {
        PROG
    }

    fn name(&self) -> &'static str {
        "test"
    }

    fn versions(&self) -> &'static [Version] {
        &[Version { number: 2, procedures: &[] }, Version { number: VERS, procedures: PROCEDURES }]
    }

    fn knows(&self, addr: IpAddr) -> bool {
        self.known.is_none_or(|known| known == addr)
    }

    fn authorize(&self, _peer: &Peer, _cred: &Credential) -> Result<(), AuthStat> {
        assert!(!self.panics, "a look at who calls that panics, as a test wants it");
        Ok(())
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        match call.header.proc {
            ECHO => {
                let mut room = vec![0; 64 << 10];
                let bytes = call.args.opaque_into(&mut room)?;
                call.reply.opaque(bytes)?;
            }
            READ_PAGES | READ_FILE | READ_OWN => self.read(call)?,
            COUNT => call.reply.u64(self.count.fetch_add(1, Ordering::SeqCst))?,
            GATE | QUICK_GATE => {
                self.gate.pass(call.peer.addr.ip());
                call.reply.u64(self.count.fetch_add(1, Ordering::SeqCst))?;
            }
            FAIL => {
                call.reply.u32(7)?;
                self.count.fetch_add(1, Ordering::SeqCst);
                return Err(CallError::SystemErr);
            }
            SUM => {
                let bytes = call.args.opaque(1 << 20)?;
                let sum: u64 = bytes.slices().flatten().map(|&byte| u64::from(byte)).sum();
                call.reply.u32(bytes.len() as u32)?;
                call.reply.u64(sum)?;
            }
            PANIC | SLOW_PANIC => {
                call.reply.u32(7)?;
                self.count.fetch_add(1, Ordering::SeqCst);
                panic!("a call that panics, as a test wants it");
            }
            STORE => {
                let (how, offset) = (call.args.u32()?, call.args.u64()?);
                let file = if how == 0 { &self.file } else { &self.full };
                let len = call.args.u32()?;
                // What is not taken is nobody's.
                if how == 2 {
                    return Err(CallError::SystemErr);
                }
                let file = file.as_ref().expect("the test has both files");
                let payload = call.payload(1 << 20)?;
                if payload.len() != len as usize {
                    return Err(CallError::GarbageArgs(XdrError::Truncated));
                }
                let written = payload.write_at(file.as_fd(), offset);
                call.reply.u32(
                    written
                        .map_or_else(|errno| errno.raw_os_error().cast_unsigned(), |nr| nr as u32),
                )?;
            }
            REFUSE => {
                call.reply.u32(7)?;
                call.mark_useless();
            }
            LONG_HEAD => {
                for word in 0..call.args.u32()? {
                    call.reply.u32(word)?;
                }
            }
            _ => return Err(CallError::ProcUnavail),
        }
        Ok(())
    }
}

impl TestProgram {
    fn read<S: Frames>(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let (offset, len) = (call.args.u64()?, call.args.u32()? as usize);
        call.reply.u32(0)?;
        let count = call.reply.mark();
        call.reply.u32(0)?;
        let len = match call.header.proc {
            READ_FILE if call.reply.may_send_file() => {
                let file = Arc::clone(self.file.as_ref().expect("the test has a file"));
                Ok(call.reply.file_body(FileRange { file, offset, len }))
            }
            READ_PAGES | READ_FILE => call.reply.read_body(len, |room| {
                let mut at = offset;
                for byte in room.iter_mut().flat_map(|slice| slice.iter_mut()) {
                    *byte = pattern(at);
                    at += 1;
                }
                Ok((at - offset) as usize)
            }),
            _ => {
                let source = call.reply.source().clone();
                let pages: Vec<Page<S>> = (0..len.div_ceil(4096))
                    .filter_map(|index| {
                        let mut page = source.clone().alloc_page(Gfp::KERNEL)?;
                        let start = offset + index as u64 * 4096;
                        for (byte, at) in page.as_bytes_mut().iter_mut().zip(start..) {
                            *byte = pattern(at);
                        }
                        Some(page)
                    })
                    .collect();
                Ok(call.reply.page_body(pages, len))
            }
        };
        let len: io::Result<usize> = len;
        let len = len.map_err(|_| CallError::SystemErr)?;
        call.reply.patch_u32(count, len as u32)?;
        Ok(())
    }
}

/// A server, and the allocator that must have all its pages back at the end.
pub(crate) struct World {
    pub(crate) frames: SharedAllocator,
    pub(crate) program: Arc<TestProgram>,
    pub(crate) server: Server<SharedAllocator>,
    free: u64,
}

/// Small enough to start at once, large enough for a few requests.
pub(crate) fn small_config() -> ServerConfig {
    ServerConfig {
        nr_threads: 4,
        parked_bytes: 8 << 20,
        max_connections: 64,
        ..ServerConfig::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(small_config(), TestProgram::default())
    }

    pub(crate) fn with(config: ServerConfig, program: TestProgram) -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self::with_udp(config, program, udp)
    }

    pub(crate) fn with_udp(config: ServerConfig, program: TestProgram, udp: UdpSocket) -> Self {
        let bytes = (config.nr_pages() as u64 * 4096 * 5 / 4).next_multiple_of(4 << 20);
        let arena = ArenaConfig::new(bytes + (16 << 20));
        let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).unwrap());
        let free = frames.allocator().nr_free_pages();
        let program = Arc::new(program);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let programs: Vec<Arc<dyn Program<SharedAllocator>>> =
            vec![Arc::clone(&program) as Arc<dyn Program<SharedAllocator>>];
        let listeners = vec![Listener::Tcp(tcp), Listener::Udp(udp)];
        let server = Server::start(config, frames.clone(), programs, listeners).unwrap();
        Self { frames, program, server, free }
    }

    /// Returns how many pages were free before the server started.
    pub(crate) fn nr_free_at_start(&self) -> u64 {
        self.free
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addrs()[0]
    }

    pub(crate) fn udp_addr(&self) -> SocketAddr {
        self.server.addrs()[1]
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr())
    }

    /// Connects from an address of this host other than the usual one.
    pub(crate) fn client_from(&self, from: Ipv4Addr) -> Client {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        connect(&socket, &self.addr()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, xid: 1 }
    }

    /// Waits until `done`, which something that is under way will make true.
    pub(crate) fn await_that(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "in {PATIENCE:?} it did not happen that {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A call that must be answered, whatever happened before.
    pub(crate) fn assert_alive(&self) {
        let mut client = self.client();
        assert_eq!(client.call(ECHO, &opaque(b"alive")).unwrap(), opaque(b"alive"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Before the server stops, which it also does after a failed assertion.
        self.program.gate.open();
        if std::thread::panicking() {
            return;
        }
        self.server.stop(Duration::from_secs(5));
        assert_eq!(self.server.nr_connections(), 0);
        assert_eq!(self.server.parked_bytes(), 0, "the budget adds up");
        assert_eq!(self.frames.allocator().nr_free_pages(), self.free, "every page came back");
    }
}

/// An opaque value.
pub(crate) fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut xdr = Vec::new();
    xdr.opaque(bytes).unwrap();
    xdr
}

/// Words, one after the other.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The arguments of the read procedures.
pub(crate) fn read_args(offset: u64, len: u32) -> Vec<u8> {
    let mut xdr = Vec::new();
    xdr.u64(offset).unwrap();
    xdr.u32(len).unwrap();
    xdr
}

/// A call without its record mark.
pub(crate) fn message(xid: u32, proc: u32, args: &[u8]) -> Vec<u8> {
    let mut xdr = words(&[xid, 0, 2, PROG, VERS, proc, 0, 0, 0, 0]);
    xdr.extend_from_slice(args);
    xdr
}

/// With a record mark.
pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    [&mark_of(message.len())[..], message].concat()
}

/// A connection that says what it likes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) xid: u32,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, xid: 1 }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Receives a reply, without its mark.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        assert!(mark & 0x8000_0000 != 0, "a reply is one fragment");
        let mut reply = vec![0; (mark & 0x7fff_ffff) as usize];
        self.stream.read_exact(&mut reply)?;
        Ok(reply)
    }

    /// Makes a call and returns its results, or the words of a reply that is no success.
    pub(crate) fn call(&mut self, proc: u32, args: &[u8]) -> Result<Vec<u8>, Vec<u32>> {
        self.xid += 1;
        self.send(&record(&message(self.xid, proc, args)));
        let reply = self.receive().unwrap();
        results(&reply, self.xid)
    }

    /// Sends a message and returns the words of the reply.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> Vec<u32> {
        self.send(&record(message));
        to_words(&self.receive().unwrap())
    }

    /// Asserts that the server closes the connection, answering nothing.
    pub(crate) fn assert_closed(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }

    pub(crate) fn shutdown(&self) {
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}

/// What follows the header of a reply, if it is a success.
pub(crate) fn results(reply: &[u8], xid: u32) -> Result<Vec<u8>, Vec<u32>> {
    let mut reader = XdrReader::new(reply);
    let header: Vec<u32> = (0..6).map_while(|_| reader.u32().ok()).collect();
    assert_eq!(header[0], xid, "the reply is to another call");
    if header == [xid, 1, 0, 0, 0, 0] { Ok(reply[24..].to_vec()) } else { Err(to_words(reply)) }
}

pub(crate) fn to_words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
}

/// Asserts that `results` are those of a read of `len` bytes from `offset` on.
pub(crate) fn assert_read(results: &[u8], offset: u64, len: usize) {
    assert_eq!(to_words(&results[..8]), [0, len as u32]);
    assert_eq!(results.len(), 8 + len.next_multiple_of(4));
    for (index, (&byte, at)) in results[8..8 + len].iter().zip(offset..).enumerate() {
        assert_eq!(byte, pattern(at), "byte {index}");
    }
    assert!(results[8 + len..].iter().all(|&byte| byte == 0), "padding");
}

/// A file without a name that holds `bytes`.
pub(crate) fn file_of(bytes: &[u8]) -> Arc<OwnedFd> {
    let path = std::env::temp_dir().join(format!("pagemill-rpc-{:?}", std::thread::current().id()));
    let path = path.with_extension(std::process::id().to_string());
    let mut file =
        std::fs::File::options().create_new(true).read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file.into())
}
