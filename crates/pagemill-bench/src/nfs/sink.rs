//! Sinks: servers that do almost nothing, whose results are the limit of the load and the sockets.
//!
//! Both have one file of any length in one folder, and reply to READ with the pattern straight from
//! memory: no server that sends the same bytes through the same socket can be cheaper. One drops
//! written data in the kernel. The other receives it into memory and writes it to a memfd, which are
//! the two copies that a server makes unless it has a way around its pages.

use alloc::sync::Arc;
use core::net::{Ipv4Addr, SocketAddr};
use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use std::thread;

use anyhow::{Context as _, ensure};
use rustix::fs::sendfile;
use rustix::io::pwrite;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::load;
use super::proto::{ATTRIBUTES_LEN, LAST_FRAGMENT, MARK_LEN, MOUNT, record_len};
use super::xdr::{Reader, Writer};

/// What a sink does with written data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Drops it.
    Dropped,
    /// Copies it to memory, and from there to a file.
    Copied,
}

/// Serves for the life of the process, with one thread per connection.
///
/// `source` is the content of all files; it is `len` bytes long.
///
/// # Errors
/// If no port or no memory for a file is available.
pub fn start(source: OwnedFd, len: u64, written: Written) -> anyhow::Result<SocketAddr> {
    let file = match written {
        Written::Dropped => None,
        Written::Copied => Some(Arc::new(load::source(len)?)),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the sink")?;
    let address = listener.local_addr()?;
    let source = Arc::new(source);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let source = Arc::clone(&source);
            let file = file.clone();
            // A broken connection affects only its client, which notices it too.
            thread::spawn(move || Served { socket, source, len, file, out: Vec::new() }.serve());
        }
    });
    Ok(address)
}

/// Maximum length of a call without written data: its header and arguments.
const HEAD: usize = 256;
/// Maximum length of a call.
const CALL_MAX: usize = (4 << 20) + HEAD;
/// Maximum length of a READ.
const BLOCK_MAX: usize = 4 << 20;

/// Bytes received at once if calls are small, or nothing is dropped.
const ROOM: usize = 1 << 20;
/// Bytes received at once if most of them are dropped.
const LITTLE: usize = 4096;

/// A connection.
#[derive(Debug)]
struct Served {
    socket: TcpStream,
    source: Arc<OwnedFd>,
    len: u64,
    /// The file to which written data is copied.
    file: Option<Arc<OwnedFd>>,
    out: Vec<u8>,
}

/// The data of a call besides its reply: a number of bytes of the file, from an offset on.
#[derive(Clone, Copy, Debug)]
enum Data {
    None,
    Read(u64, usize),
    Write(u64, usize),
}

impl Served {
    fn serve(mut self) -> anyhow::Result<()> {
        self.socket.set_nodelay(true)?;
        let mut bytes = vec![0; CALL_MAX + ROOM];
        let mut there = 0;
        let mut room = ROOM;
        loop {
            let got = self.socket.read(&mut bytes[there..][..room])?;
            if got == 0 {
                return Ok(());
            }
            there += got;
            let mut at = 0;
            while let Some(mark) = bytes[at..there].first_chunk::<MARK_LEN>() {
                let record = record_len(*mark, CALL_MAX)?;
                let start = at + MARK_LEN;
                let head = record.min(HEAD);
                if there - start < head {
                    break;
                }
                let end = start + record;
                match self.answer(&bytes[start..start + head])? {
                    Data::None => {}
                    Data::Read(offset, len) => self.send_data(offset, len)?,
                    Data::Write(offset, len) => {
                        self.take_data(&mut bytes[start..], record, there - start, (offset, len))?;
                        there = there.max(if self.file.is_some() { end } else { 0 });
                        room = if self.file.is_none() && len > LITTLE { LITTLE } else { ROOM };
                    }
                }
                at = end.min(there);
            }
            self.send(SendFlags::empty())?;
            bytes.copy_within(at..there, 0);
            there -= at;
        }
    }

    /// Appends the reply to a call to the pending replies.
    fn answer(&mut self, head: &[u8]) -> anyhow::Result<Data> {
        let mut call = Reader(head);
        let xid = call.word()?;
        call.skip(8)?;
        let (program, _version, procedure) = (call.word()?, call.word()?, call.word()?);
        for _credential_and_verifier in 0..2 {
            call.word()?;
            call.opaque(HEAD)?;
        }
        let start = self.out.len();
        let mut reply = Writer(&mut self.out);
        // An accepted, successful reply without a verifier.
        reply.word(0).word(xid).word(1).word(0).word(0).word(0).word(0);
        let mut data = Data::None;
        match (program == MOUNT.0, procedure) {
            (_, 0) => {}
            (true, _) => _ = reply.word(0).opaque(b"root").word(1).word(1),
            (false, 1) => attributes(reply.word(0), self.len),
            (false, 3) => _ = reply.word(0).opaque(b"file").word(0).word(0),
            (false, 6) => {
                call.opaque(64)?;
                let (offset, count) = (call.long()?, call.word()?);
                let len = usize::try_from(count)?;
                ensure!(len <= BLOCK_MAX && len.is_multiple_of(4), "a read of {len} bytes");
                attributes(reply.word(0).word(1), self.len);
                reply.word(count).word(0).word(count);
                data = Data::Read(offset, len);
            }
            (false, 7) => {
                call.opaque(64)?;
                let (offset, count) = (call.long()?, call.word()?);
                data = Data::Write(offset, usize::try_from(count)?);
                reply.word(0).word(0).word(0).word(count).word(0).long(0);
            }
            (false, 8) => _ = reply.word(0).word(1).opaque(b"file").word(0).word(0).word(0),
            // The other procedures return absent attributes, and a verifier.
            _ => _ = reply.word(0).word(0).word(0).long(0),
        }
        let follows = if let Data::Read(_, len) = data { len } else { 0 };
        let len = self.out.len() - start - MARK_LEN + follows;
        let mark = LAST_FRAGMENT | u32::try_from(len)?;
        self.out[start..start + MARK_LEN].copy_from_slice(&mark.to_be_bytes());
        Ok(data)
    }

    /// Sends the pending replies.
    fn send(&mut self, more: SendFlags) -> io::Result<()> {
        let mut left = &self.out[..];
        while !left.is_empty() {
            left = &left[send(&self.socket, left, SendFlags::NOSIGNAL | more)?..];
        }
        self.out.clear();
        Ok(())
    }

    /// Sends the pending replies, and then `left` bytes of the file from `offset` on.
    fn send_data(&mut self, mut offset: u64, mut left: usize) -> anyhow::Result<()> {
        self.send(SendFlags::MORE)?;
        while left > 0 {
            let sent = sendfile(&self.socket, &*self.source, Some(&mut offset), left)?;
            ensure!(sent > 0, "a read past the end");
            left -= sent;
        }
        Ok(())
    }

    /// Receives the rest of a WRITE, of which `there` bytes of `record` have arrived, and copies or
    /// drops its data.
    fn take_data(
        &mut self,
        bytes: &mut [u8],
        record: usize,
        there: usize,
        (offset, len): (u64, usize),
    ) -> anyhow::Result<()> {
        let Some(file) = &self.file else {
            return Ok(self.discard(bytes, record.saturating_sub(there))?);
        };
        if there < record {
            self.socket.read_exact(&mut bytes[there..record])?;
        }
        // The data is the end of the record, except for its padding.
        let start = record.checked_sub(len.next_multiple_of(4)).context("a call is too short")?;
        // Otherwise any process that reaches the sink could exhaust the memory.
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len);
        ensure!(end.is_some(), "a write of {len} bytes at {offset} ends behind the file");
        let written = pwrite(&**file, &bytes[start..start + len], offset)?;
        ensure!(written == len, "{written} of {len} bytes could be written");
        Ok(())
    }

    /// Drops the next `left` bytes; the length of `room` sets how many at a time.
    fn discard(&self, room: &mut [u8], mut left: usize) -> io::Result<()> {
        while left > 0 {
            let most = left.min(room.len());
            let (_, dropped) = recv(&self.socket, &mut room[..most], RecvFlags::TRUNC)?;
            if dropped == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= dropped;
        }
        Ok(())
    }
}

/// Appends the attributes of a file, of which only the length is meaningful.
fn attributes(reply: &mut Writer<'_>, len: u64) {
    let start = reply.0.len();
    reply.word(1).word(0o600).word(1).word(0).word(0).long(len);
    reply.0.resize(start + ATTRIBUTES_LEN, 0);
}
