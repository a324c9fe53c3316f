//! NFS client for single calls: mounts the export, and creates, checks and removes files.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, ensure};

use super::pattern;
use super::proto::{
    Credential, Handle, MARK_LEN, MOUNT, MOUNT_MNT, NFS, Procedure, Program, accepted, call,
    post_op_attributes, record_len, refusal, status, wcc_data,
};
use super::xdr::{Reader, Writer, padding};

/// A connection that waits for the reply to each call.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    credential: Credential,
    xid: u32,
    record: Vec<u8>,
}

/// A file of a measurement.
#[derive(Clone, Debug)]
pub struct BenchFile {
    /// Its handle on the server.
    pub handle: Handle,
    /// Its length in bytes.
    pub len: u64,
}

/// Bytes per READ or WRITE when a file is created or checked.
const BLOCK: usize = 256 << 10;
/// The longest reply: a block and its headers.
const REPLY_MAX: usize = BLOCK + 4096;
/// How long to wait for a reply.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// `NFS3ERR_NOENT`.
const NOENT: u32 = 2;
/// `NFS3ERR_STALE`: the status of a server that has a name in its cache, but no file for it.
const STALE: u32 = 70;

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// If no server listens there.
    pub fn connect(address: SocketAddr, credential: Credential) -> anyhow::Result<Self> {
        Ok(Self { socket: connect(address)?, credential, xid: 0, record: Vec::new() })
    }

    /// Returns the handle of the export `path`; this client must be one of the MOUNT program.
    ///
    /// # Errors
    /// If the server does not export it to this client.
    pub fn mount(&mut self, path: &str) -> anyhow::Result<Handle> {
        let mut reply = self.call(MOUNT, MOUNT_MNT, |writer| _ = writer.opaque(path.as_bytes()))?;
        status(&mut reply).with_context(|| format!("cannot mount {path}"))?;
        Handle::read(&mut reply)
    }

    /// Makes `name` in `folder` a file of `len` bytes that contain the pattern.
    ///
    /// A file that is long enough is assumed to contain it: a longer one was made for another
    /// measurement.
    ///
    /// # Errors
    /// The error status of the server.
    pub fn file(&mut self, folder: &Handle, name: &str, len: u64) -> anyhow::Result<BenchFile> {
        let handle = self.create(folder, name)?;
        let mut data = vec![0; BLOCK];
        let there = self.len(&handle)?;
        if there < len {
            for block in pattern::blocks(len, BLOCK) {
                pattern::fill(block.start, &mut data);
                self.write(&handle, block.start, &data)?;
            }
            self.commit(&handle)?;
        }
        Ok(BenchFile { handle, len })
    }

    /// Truncates a file to zero, so that data which is read later was written later.
    ///
    /// # Errors
    /// The error status of the server.
    pub fn cut(&mut self, file: &Handle) -> anyhow::Result<()> {
        let mut reply = self.call(NFS, Procedure::Setattr as u32, |writer| {
            writer.opaque(file.bytes());
            // Sets only the length, without a guard.
            writer.word(0).word(0).word(0).word(1).long(0).word(0).word(0).word(0);
        })?;
        status(&mut reply).context("cannot cut a file")
    }

    /// Checks that the first `len` bytes of a file, or slightly fewer, are the pattern.
    ///
    /// # Errors
    /// One that names the first difference.
    pub fn check(&mut self, file: &Handle, len: u64) -> anyhow::Result<()> {
        for block in pattern::blocks(len, BLOCK) {
            let mut reply = self.call(NFS, Procedure::Read as u32, |writer| {
                writer.opaque(file.bytes()).long(block.start).word(wire(BLOCK));
            })?;
            status(&mut reply).context("cannot read a file")?;
            post_op_attributes(&mut reply)?;
            let (count, _eof) = (reply.word()?, reply.word()?);
            ensure!(count == wire(BLOCK), "a read at {} gives {count} bytes", block.start);
            pattern::check(block.start, reply.opaque(BLOCK)?)?;
        }
        Ok(())
    }

    /// Removes a name; succeeds if it does not exist or was removed through another server.
    ///
    /// # Errors
    /// The error status of the server.
    pub fn remove(&mut self, folder: &Handle, name: &str) -> anyhow::Result<()> {
        let mut reply = self.call(NFS, Procedure::Remove as u32, |writer| {
            writer.opaque(folder.bytes()).opaque(name.as_bytes());
        })?;
        match reply.word()? {
            0 | NOENT | STALE => Ok(()),
            code => anyhow::bail!("cannot remove {name}: {}", refusal(code)),
        }
    }

    fn create(&mut self, folder: &Handle, name: &str) -> anyhow::Result<Handle> {
        let mut reply = self.call(NFS, Procedure::Create as u32, |writer| {
            writer.opaque(folder.bytes()).opaque(name.as_bytes());
            // Unchecked; the mode 0600, and no other attributes.
            writer.word(0).word(1).word(0o600).word(0).word(0).word(0).word(0).word(0);
        })?;
        status(&mut reply).with_context(|| format!("cannot make {name}"))?;
        if reply.word()? != 0 {
            return Handle::read(&mut reply);
        }
        // A server may leave the handle out.
        self.lookup(folder, name)
    }

    fn lookup(&mut self, folder: &Handle, name: &str) -> anyhow::Result<Handle> {
        let mut reply = self.call(NFS, Procedure::Lookup as u32, |writer| {
            writer.opaque(folder.bytes()).opaque(name.as_bytes());
        })?;
        status(&mut reply).with_context(|| format!("cannot find {name}"))?;
        Handle::read(&mut reply)
    }

    fn len(&mut self, file: &Handle) -> anyhow::Result<u64> {
        let mut reply =
            self.call(NFS, Procedure::Getattr as u32, |writer| _ = writer.opaque(file.bytes()))?;
        status(&mut reply).context("cannot get attributes")?;
        // Kind, mode, links, owner and group.
        reply.skip(20)?;
        reply.long()
    }

    fn write(&mut self, file: &Handle, offset: u64, data: &[u8]) -> anyhow::Result<()> {
        let mut reply = self.call(NFS, Procedure::Write as u32, |writer| {
            writer.opaque(file.bytes()).long(offset).word(wire(data.len())).word(0).opaque(data);
        })?;
        status(&mut reply).context("cannot write a file")?;
        wcc_data(&mut reply)?;
        let count = reply.word()?;
        ensure!(count == wire(data.len()), "a write of {} bytes writes {count}", data.len());
        Ok(())
    }

    fn commit(&mut self, file: &Handle) -> anyhow::Result<()> {
        let mut reply = self.call(NFS, Procedure::Commit as u32, |writer| {
            writer.opaque(file.bytes()).long(0).word(0);
        })?;
        status(&mut reply).context("cannot commit a file")
    }

    /// Calls a procedure and returns its reply after the header.
    fn call(
        &mut self,
        program: Program,
        procedure: u32,
        arguments: impl FnOnce(&mut Writer<'_>),
    ) -> anyhow::Result<Reader<'_>> {
        self.xid += 1;
        self.record.clear();
        call(&mut self.record, self.xid, (program, procedure), &self.credential, 0, arguments);
        self.socket.write_all(&self.record).context("cannot send a call")?;
        let mut mark = [0; MARK_LEN];
        self.socket.read_exact(&mut mark).map_err(no_reply)?;
        self.record.resize(record_len(mark, REPLY_MAX)?, 0);
        self.socket.read_exact(&mut self.record).map_err(no_reply)?;
        let mut reply = Reader(&self.record);
        let xid = accepted(&mut reply)?;
        ensure!(xid == self.xid, "the reply to call {} says that it is to {xid}", self.xid);
        Ok(reply)
    }
}

/// Describes why no reply came, where the system's own message would not.
fn no_reply(error: io::Error) -> anyhow::Error {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the server did not answer for {} s", PATIENCE.as_secs())
        }
        _ => return anyhow::Error::new(error).context("cannot receive a reply"),
    };
    anyhow::Error::msg(why)
}

/// Opens a connection without send delays (`TCP_NODELAY`).
///
/// # Errors
/// One that names the address.
pub fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("cannot connect to {address}"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Converts a number of bytes to the type in calls.
pub fn wire(len: usize) -> u32 {
    debug_assert_eq!(padding(len), 0, "blocks are whole words");
    u32::try_from(len).expect("a block is at most a few MiB")
}
