//! A server over a scratch directory, a client that is not ours, and one that says what it likes.

pub(crate) mod namespace;

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use nfs3_client::io::{AsyncRead, AsyncWrite};
use nfs3_client::{MountClient, Nfs3Client};
use nfs3_types::mount::dirpath;
use nfs3_types::nfs3::nfs_fh3;
use nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_types::xdr_codec::Opaque;
use pagemill::source::PageSource;
use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_nfs::exports::{
    Access, ClientMatch, ClientRule, ExportOptions, ExportRule, Ports, Squash, SquashWho,
};
use pagemill_nfs::fh::FhKey;
use pagemill_nfs::vfs::{Actors, Vfs, VfsConfig};
use pagemill_nfs::{MOUNT_PROGRAM, MountProgram, NFS_PROGRAM, NfsConfig, NfsProgram, ReadPath};
use pagemill_rpc::record::mark_of;
use pagemill_rpc::xdr::XdrWrite;
use pagemill_rpc::{Listener, Program, Server, ServerConfig};
use tempfile::TempDir;

/// A server that must give every page back.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) frames: SharedAllocator,
    pub(crate) server: Server<SharedAllocator>,
    free: u64,
}

pub(crate) fn open_options() -> ExportOptions {
    ExportOptions {
        access: Access::ReadWrite,
        ports: Ports::Any,
        squash: Squash { who: SquashWho::Nobody, ..Squash::default() },
        ..ExportOptions::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(NfsConfig::default(), open_options())
    }

    /// Returns a server with a client and the handle of the root.
    pub(crate) fn with_client() -> (Self, Nfs3Client<Io>, nfs_fh3) {
        let world = Self::new();
        let (client, root) = (world.nfs(), world.root());
        (world, client, root)
    }

    /// Returns a server with the handle of the root and a connection.
    pub(crate) fn with_raw() -> (Self, nfs_fh3, Raw) {
        let world = Self::new();
        let (root, raw) = (world.root(), Raw::new(&world));
        (world, root, raw)
    }

    /// A server whose READs go through pages, whatever their size.
    pub(crate) fn through_pages() -> Self {
        let config = NfsConfig { read_path: ReadPath::Pages, ..NfsConfig::default() };
        Self::with(config, open_options())
    }

    pub(crate) fn with(nfs: NfsConfig, options: ExportOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let export = dir.path().join("export");
        fs::create_dir(&export).unwrap();
        fs::set_permissions(&export, fs::Permissions::from_mode(0o777)).unwrap();
        rustix::process::umask(rustix::fs::Mode::empty());
        let key = FhKey::random().unwrap();
        let (actors, max_nr_files) = (Actors::detect(), 256);
        let config = VfsConfig { key, actors, max_nr_files, nr_threads: 4 };
        let vfs = Arc::new(Vfs::new(config).unwrap());
        let clients = vec![ClientRule { client: ClientMatch::Any, options }];
        vfs.set_exports(vec![ExportRule { path: export, clients }]).unwrap();

        let rpc = ServerConfig {
            nr_threads: 4,
            parked_bytes: 8 << 20,
            max_connections: 64,
            ..ServerConfig::default()
        };
        let bytes = (rpc.nr_pages() as u64 * 4096 * 5 / 4).next_multiple_of(4 << 20) + (16 << 20);
        let arena = ArenaConfig::new(bytes);
        let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).unwrap());
        let free = frames.allocator().nr_free_pages();
        let programs: Vec<Arc<dyn Program<SharedAllocator>>> = vec![
            Arc::new(NfsProgram::new(Arc::clone(&vfs), nfs)),
            Arc::new(MountProgram::new(Arc::clone(&vfs))),
        ];
        let listener = Listener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        let server = Server::start(rpc, frames.clone(), programs, vec![listener]).unwrap();
        Self { dir, vfs, frames, server, free }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("export")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addrs()[0]
    }

    /// Returns a client of the crate `nfs3_client`, who is root.
    pub(crate) fn nfs(&self) -> Nfs3Client<Io> {
        self.nfs_as(0)
    }

    pub(crate) fn nfs_as(&self, uid: u32) -> Nfs3Client<Io> {
        Nfs3Client::new_with_auth(Io::new(self.addr()), sys(uid), opaque_auth::default())
    }

    pub(crate) fn mount(&self) -> MountClient<Io> {
        MountClient::new_with_auth(Io::new(self.addr()), sys(0), opaque_auth::default())
    }

    /// Returns the root's handle.
    pub(crate) fn root(&self) -> nfs_fh3 {
        let path = self.path();
        let path = dirpath(Opaque::borrowed(path.as_os_str().as_encoded_bytes()));
        let mounted = wait(self.mount().mnt(path)).unwrap();
        nfs_fh3 { data: Opaque::owned(mounted.fhandle.0.to_vec()) }
    }

    /// Asserts that the server still serves.
    pub(crate) fn assert_alive(&self) {
        wait(self.nfs().null()).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.server.stop(Duration::from_secs(5));
        assert_eq!(self.server.parked_bytes(), 0, "the budget adds up");
        assert_eq!(self.frames.allocator().nr_free_pages(), self.free, "every page came back");
    }
}

fn sys(uid: u32) -> opaque_auth<'static> {
    let auth =
        auth_unix { machinename: Opaque::borrowed(b"test"), uid, gid: uid, ..auth_unix::default() };
    opaque_auth::auth_unix(&auth)
}

/// A connection that waits where it is: futures over it are done at once.
pub(crate) struct Io(TcpStream);

impl Io {
    fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
        Self(stream)
    }
}

impl AsyncRead for Io {
    async fn async_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            nr_bytes => Ok(nr_bytes),
        }
    }
}

impl AsyncWrite for Io {
    async fn async_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
}

/// Runs a future that never has to wait.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a blocking connection does not make anybody wait"),
    }
}

/// A connection over which anything can be said.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) xid: u32,
    pub(crate) auth: Vec<u8>,
}

/// The results of a call, or why there are none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The results of a call that was accepted.
    Results(Vec<u8>),
    /// The words of a reply that refuses, after the transaction's number.
    Refused(Vec<u32>),
    /// The connection was closed.
    Closed,
}

/// `GARBAGE_ARGS`, as a reply has it.
pub(crate) const GARBAGE: [u32; 5] = [1, 0, 0, 0, 4];

impl Raw {
    pub(crate) fn new(world: &World) -> Self {
        let Io(stream) = Io::new(world.addr());
        let mut body = Vec::new();
        for word in [0, 0, 0, 0, 0] {
            body.u32(word).unwrap();
        }
        let mut auth = Vec::new();
        auth.u32(1).unwrap();
        auth.opaque(&body).unwrap();
        auth.u32(0).unwrap();
        auth.u32(0).unwrap();
        Self { stream, xid: 0, auth }
    }

    /// Calls a procedure of NFS with arguments of any kind.
    pub(crate) fn nfs(&mut self, proc: u32, args: &[u8]) -> Answer {
        self.call(NFS_PROGRAM, proc, args)
    }

    /// Calls a procedure of MOUNT.
    pub(crate) fn mount(&mut self, proc: u32, args: &[u8]) -> Answer {
        self.call(MOUNT_PROGRAM, proc, args)
    }

    fn call(&mut self, prog: u32, proc: u32, args: &[u8]) -> Answer {
        self.xid += 1;
        let mut message = Vec::new();
        for word in [self.xid, 0, 2, prog, 3, proc] {
            message.u32(word).unwrap();
        }
        message.extend_from_slice(&self.auth);
        message.extend_from_slice(args);
        self.exchange(&message)
    }

    /// Sends a message as one record, and receives what is answered.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> Answer {
        let record = [&mark_of(message.len())[..], message].concat();
        if self.stream.write_all(&record).is_err() {
            return Answer::Closed;
        }
        let since = Instant::now();
        let mut mark = [0; 4];
        if self.stream.read_exact(&mut mark).is_err() {
            assert!(since.elapsed() < Duration::from_mins(2), "there was no answer");
            return Answer::Closed;
        }
        let len = u32::from_be_bytes(mark) & 0x7fff_ffff;
        let mut reply = vec![0; usize::try_from(len).unwrap()];
        self.stream.read_exact(&mut reply).unwrap();
        assert_eq!(words(&reply)[0], words(message)[0], "the reply is to another call");
        match words(&reply)[..] {
            [_, 1, 0, 0, 0, 0, ..] => Answer::Results(reply[24..].to_vec()),
            _ => Answer::Refused(words(&reply)[1..].to_vec()),
        }
    }

    /// Returns the status that a procedure answers with.
    pub(crate) fn status(&mut self, proc: u32, args: &[u8]) -> u32 {
        match self.nfs(proc, args) {
            Answer::Results(results) => words(&results)[0],
            other => panic!("procedure {proc}: {other:?}"),
        }
    }
}

pub(crate) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
}

/// Arguments, put together one by one.
#[derive(Clone, Default)]
pub(crate) struct Args(pub(crate) Vec<u8>);

impl Args {
    pub(crate) fn fh(fh: &nfs_fh3) -> Self {
        Self::default().opaque(&fh.data)
    }

    pub(crate) fn opaque(mut self, bytes: &[u8]) -> Self {
        self.0.opaque(bytes).unwrap();
        self
    }

    pub(crate) fn u32(mut self, word: u32) -> Self {
        self.0.u32(word).unwrap();
        self
    }

    pub(crate) fn u64(mut self, word: u64) -> Self {
        self.0.u64(word).unwrap();
        self
    }

    /// Attributes that change nothing.
    pub(crate) fn no_sattr(self) -> Self {
        (0..6).fold(self, |args, _| args.u32(0))
    }
}
