//! Send queue: the parts of replies that a connection has not sent yet because its socket was full.

use alloc::collections::VecDeque;
use core::fmt;
use core::ops::Range;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use pagemill::Page;
use pagemill::units::PAGE_SIZE;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::rqst::pages::Frames;
use crate::rqst::reply::{Body, FileRange, Reply};
use crate::wire::record::{MARK_BYTES, mark_of};

/// Maximum number of slices in one system call. A reply with 4 MiB of pages has more.
///
/// # Source
/// `linux-7.0` `include/uapi/linux/uio.h` `UIO_MAXIOV`: `sendmsg` refuses more with `EMSGSIZE`.
const MAX_PIECES: usize = 1024;

static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// A part of a reply to be sent.
enum Part<S: Frames> {
    Bytes(Vec<u8>, Range<usize>),
    Page(Page<S>, Range<usize>),
    File(FileRange),
    /// Zeroes in place of bytes that a file turned out to lack.
    Zeroes(usize),
}

/// The parts that a connection has yet to send, in order.
pub(crate) struct SendQueue<S: Frames> {
    parts: VecDeque<Part<S>>,
    nr_pages: usize,
    nr_files: usize,
}

/// The result of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes that were sent.
    pub(crate) bytes: usize,
    /// Whether nothing is left to send.
    pub(crate) all: bool,
}

impl<S: Frames> SendQueue<S> {
    pub(crate) fn new() -> Self {
        Self { parts: VecDeque::new(), nr_pages: 0, nr_files: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns how many pages wait to be sent.
    pub(crate) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// Returns how many files wait to be sent from.
    pub(crate) fn nr_files(&self) -> usize {
        self.nr_files
    }

    /// Discards all parts.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        (self.nr_pages, self.nr_files) = (0, 0);
    }

    /// Sends `batch`, which is complete replies with their marks, and then `reply`. Keeps the bytes
    /// that the socket does not accept, and the reply's pages with them.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        batch: &[u8],
        reply: Option<&mut Reply<S>>,
    ) -> io::Result<Sent> {
        if !self.is_empty() {
            self.push(batch, reply, 0);
            return self.flush(socket);
        }
        let Some(reply) = reply else {
            let bytes = send_pieces(socket, &[IoSlice::new(batch)], SendFlags::empty())?;
            self.push_bytes(batch, bytes);
            return Ok(Sent { bytes, all: self.is_empty() });
        };
        reply.seal();
        let file = matches!(reply.body(), Body::File(_));
        let (bytes, total) = send_reply(socket, batch, reply, file)?;
        if bytes < total || file {
            self.push(batch, Some(reply), bytes);
            if file && bytes == total {
                let sent = self.flush(socket)?;
                return Ok(Sent { bytes: bytes + sent.bytes, ..sent });
            }
        }
        Ok(Sent { bytes, all: self.is_empty() })
    }

    /// Sends the parts that were kept.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<Sent> {
        let mut bytes = 0;
        while let Some(part) = self.parts.front_mut() {
            let sent = match part {
                Part::File(range) => send_file(socket, range)?,
                _ => self.send_memory(socket)?,
            };
            let Some(sent) = sent else { return Ok(Sent { bytes, all: false }) };
            if sent == 0 {
                self.pad_file();
            }
            bytes += sent;
            self.advance(sent);
        }
        Ok(Sent { bytes, all: true })
    }

    /// Keeps `batch` and `reply` without their first `sent` bytes.
    fn push(&mut self, batch: &[u8], reply: Option<&mut Reply<S>>, sent: usize) {
        self.push_bytes(batch, sent);
        let mut skip = sent.saturating_sub(batch.len());
        let Some(reply) = reply else { return };
        if !reply.is_sealed() {
            reply.seal();
        }
        let head = reply.head_len();
        self.push_pages(reply, 0, head, &mut skip);
        match reply.body().clone() {
            Body::None => {}
            Body::Pages { first, len } => self.push_pages(reply, first, len, &mut skip),
            Body::File(range) => {
                // The file is never among the bytes that were sent with the head.
                if range.len > 0 {
                    self.parts.push_back(Part::File(range));
                    self.nr_files += 1;
                }
            }
        }
        self.push_bytes(reply.tail(), skip);
    }

    fn push_bytes(&mut self, bytes: &[u8], skip: usize) {
        if skip < bytes.len() {
            let bytes = bytes[skip..].to_vec();
            let all = 0..bytes.len();
            self.parts.push_back(Part::Bytes(bytes, all));
        }
    }

    /// Moves the pages that hold `len` bytes, from index `first` on, out of the reply.
    fn push_pages(&mut self, reply: &mut Reply<S>, first: usize, len: usize, skip: &mut usize) {
        let mut left = len;
        for index in first.. {
            let here = left.min(PAGE_SIZE);
            if here == 0 {
                break;
            }
            left -= here;
            let sent = here.min(*skip);
            *skip -= sent;
            if sent < here
                && let Some(page) = reply.pages_mut().take(index)
            {
                self.parts.push_back(Part::Page(page, sent..here));
                self.nr_pages += 1;
            }
        }
    }

    /// Sends parts from the front up to the next file; `None` if the socket is full.
    fn send_memory(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<usize>> {
        let in_memory = self.parts.iter().map_while(|part| match part {
            Part::Bytes(bytes, range) => Some(&bytes[range.clone()]),
            Part::Page(page, range) => Some(&page.as_bytes()[range.clone()]),
            Part::Zeroes(len) => Some(&ZEROES[..(*len).min(PAGE_SIZE)]),
            Part::File(_) => None,
        });
        // A slice of zeroes that is cut to one page must be the last one.
        let mut pieces = Vec::with_capacity(self.parts.len().min(MAX_PIECES));
        for (piece, part) in in_memory.zip(&self.parts).take(MAX_PIECES) {
            pieces.push(IoSlice::new(piece));
            if matches!(part, Part::Zeroes(len) if *len > PAGE_SIZE) {
                break;
            }
        }
        let more = self.parts.get(pieces.len()).is_some();
        let flags = if more { SendFlags::MORE } else { SendFlags::empty() };
        let sent = send_pieces(socket, &pieces, flags)?;
        Ok((sent > 0).then_some(sent))
    }

    /// Puts zeroes in place of the missing end of a file that is shorter than its range.
    fn pad_file(&mut self) {
        if let Some(part) = self.parts.front_mut()
            && let Part::File(range) = part
        {
            *part = Part::Zeroes(range.len);
            self.nr_files -= 1;
        }
    }

    /// Removes the first `sent` bytes.
    fn advance(&mut self, mut sent: usize) {
        while let Some(part) = self.parts.front_mut() {
            let done = match part {
                Part::Bytes(_, range) | Part::Page(_, range) => {
                    let step = sent.min(range.len());
                    range.start += step;
                    sent -= step;
                    range.start == range.end
                }
                Part::Zeroes(len) => {
                    let step = sent.min(*len);
                    *len -= step;
                    sent -= step;
                    *len == 0
                }
                Part::File(range) => {
                    let step = sent.min(range.len);
                    range.len -= step;
                    range.offset += step as u64;
                    sent -= step;
                    range.len == 0
                }
            };
            if !done {
                return;
            }
            match self.parts.pop_front() {
                Some(Part::Page(..)) => self.nr_pages -= 1,
                Some(Part::File(_)) => self.nr_files -= 1,
                _ => {}
            }
        }
    }
}

impl<S: Frames> fmt::Debug for SendQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nr_parts = self.parts.len();
        f.debug_struct("SendQueue")
            .field("nr_parts", &nr_parts)
            .field("nr_pages", &self.nr_pages)
            .field("nr_files", &self.nr_files)
            .finish()
    }
}

impl<S: Frames> Reply<S> {
    /// Writes the record mark: the reply is complete.
    pub(crate) fn seal(&mut self) {
        let mark = mark_of(self.len());
        // The first page exists: it holds the reply's header.
        let written = self.write_at(0, &mark);
        debug_assert!(written.is_ok());
    }

    fn is_sealed(&self) -> bool {
        self.pages().bytes(0).is_some_and(|page| page[..MARK_BYTES] == mark_of(self.len()))
    }
}

/// Sends `batch` and the part of the reply that is in memory and before a file. Returns how many bytes
/// were sent, and of how many.
fn send_reply<S: Frames>(
    socket: BorrowedFd<'_>,
    batch: &[u8],
    reply: &Reply<S>,
    file: bool,
) -> io::Result<(usize, usize)> {
    let head = reply.head_len();
    let flags = if file { SendFlags::MORE } else { SendFlags::empty() };
    if head <= PAGE_SIZE && !matches!(reply.body(), Body::Pages { .. }) {
        let first = reply.pages().bytes(0).map_or(&[][..], |page| &page[..head]);
        let tail = if file { &[] } else { reply.tail() };
        let pieces = [IoSlice::new(batch), IoSlice::new(first), IoSlice::new(tail)];
        return Ok((send_pieces(socket, &pieces, flags)?, batch.len() + head + tail.len()));
    }
    let mut pieces = Vec::with_capacity(reply.next_page() + 2);
    pieces.push(IoSlice::new(batch));
    pieces.extend(reply.pages().slices(0, head).map(IoSlice::new));
    if let Body::Pages { first, len } = *reply.body() {
        let start = first * PAGE_SIZE;
        pieces.extend(reply.pages().slices(start, start + len).map(IoSlice::new));
    }
    if !file {
        pieces.push(IoSlice::new(reply.tail()));
    }
    let total = pieces.iter().map(|piece| piece.len()).sum();
    Ok((send_pieces(socket, &pieces, flags)?, total))
}

/// Sends slices, at most [`MAX_PIECES`] of them; returns zero if the socket is full.
fn send_pieces(
    socket: BorrowedFd<'_>,
    pieces: &[IoSlice<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    let mut flags = flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if pieces.len() > MAX_PIECES {
        flags |= SendFlags::MORE;
    }
    let pieces = &pieces[..pieces.len().min(MAX_PIECES)];
    let mut ancillary = SendAncillaryBuffer::default();
    match retry_on_intr(|| rustix::net::sendmsg(socket, pieces, &mut ancillary, flags)) {
        Err(Errno::AGAIN) => Ok(0),
        sent => Ok(sent?),
    }
}

/// Sends from a file; `None` if the socket is full, zero if the file ends early.
fn send_file(socket: BorrowedFd<'_>, range: &FileRange) -> io::Result<Option<usize>> {
    let mut offset = range.offset;
    let send = || rustix::fs::sendfile(socket, &*range.file, Some(&mut offset), range.len);
    match retry_on_intr(send) {
        Err(Errno::AGAIN) => Ok(None),
        sent => Ok(Some(sent?)),
    }
}
