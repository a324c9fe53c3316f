//! A reply as it is built: a head written as XDR, a body of whole pages or of a file, a tail.
//!
//! As in Linux's `xdr_buf`, the body goes to the network from where it is: from pages that a file
//! was read into, from pages that somebody else hands over, or from the file.

use alloc::sync::Arc;
use core::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;

use pagemill::{AllocPages, PAGE_SIZE, Page, PageSource};

use crate::rqst::pages::{Frames, PageArray};
use crate::wire::error::XdrError;
use crate::wire::record::MARK_BYTES;
use crate::wire::xdr::{XdrWrite, padding};

/// Most bytes of a reply behind its body.
pub const MAX_TAIL_BYTES: usize = 128;

/// A part of a file that goes from the file to the network.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct FileRange {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// Where the part begins.
    pub offset: u64,
    /// How many bytes it has.
    ///
    /// If the file turns out to be shorter, zeroes are sent in place of the rest: the reply's head
    /// has promised them.
    pub len: usize,
}

/// What stands between the head and the tail.
#[derive(Clone, Debug, Default)]
pub(crate) enum Body {
    /// Nothing.
    #[default]
    None,
    /// `len` bytes in pages from number `first` on.
    Pages { first: usize, len: usize },
    /// A part of a file.
    File(FileRange),
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Pages { len, .. } => *len,
            Self::File(range) => range.len,
        }
    }
}

/// A place in a reply's head, to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// A reply that is being built.
///
/// What is written goes to the head until there is a body, and to the tail after.
pub struct Reply<S: PageSource> {
    source: S,
    pages: PageArray<S>,
    /// Bytes of the head, counted from the start of the first page; the record mark is the first.
    head_len: usize,
    /// What the head must not grow beyond.
    head_limit: usize,
    body: Body,
    tail: [u8; MAX_TAIL_BYTES],
    tail_len: usize,
    /// Whether unread replies leave room for another file.
    may_send_file: bool,
    /// Pages that others took the place of; freed together.
    displaced: Vec<Option<Page<S>>>,
}

/// How many displaced pages are freed in one call.
const DISPLACED_BATCH: usize = 64;

impl<S: Frames> Reply<S> {
    pub(crate) fn new(source: S, nr_pages: usize) -> Self {
        Self {
            source,
            pages: PageArray::new(nr_pages),
            head_len: MARK_BYTES,
            head_limit: nr_pages * PAGE_SIZE,
            body: Body::None,
            tail: [0; MAX_TAIL_BYTES],
            tail_len: 0,
            may_send_file: true,
            displaced: Vec::new(),
        }
    }

    /// Returns where the reply's pages come from, for a procedure that brings its own.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns how many bytes the reply has, without the record mark.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a reply begins with its header")]
    pub fn len(&self) -> usize {
        self.head_len - MARK_BYTES + self.body.len() + self.tail_len
    }

    /// Returns how many bytes can still be appended.
    #[must_use]
    pub fn room(&self) -> usize {
        match self.body {
            Body::None => self.head_limit - self.head_len,
            _ => MAX_TAIL_BYTES - self.tail_len,
        }
    }

    /// Returns how many bytes a body could have: whole pages behind those of the head.
    #[must_use]
    pub fn body_room(&self) -> usize {
        match self.body {
            Body::None => (self.pages.nr_slots() * PAGE_SIZE)
                .saturating_sub(self.first_body_page() * PAGE_SIZE),
            _ => 0,
        }
    }

    /// Allows at most `len_bytes` to be appended to the head, as a client's `maxcount` does.
    pub fn limit_to(&mut self, len_bytes: usize) {
        self.head_limit = self.head_limit.min(self.head_len.saturating_add(len_bytes));
    }

    /// Returns the place where the head ends now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.head_len)
    }

    /// Takes back all that was appended after `mark`, a body included.
    pub fn truncate(&mut self, mark: Mark) {
        self.head_len = self.head_len.min(mark.0);
        self.body = Body::None;
        self.tail_len = 0;
    }

    /// Overwrites the word at `mark`, which has been written.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`] if nothing has been written there.
    pub fn patch_u32(&mut self, mark: Mark, value: u32) -> Result<(), XdrError> {
        let bytes = value.to_be_bytes();
        if mark.0 + bytes.len() > self.head_len {
            return Err(XdrError::NoRoom);
        }
        self.write_at(mark.0, &bytes)
    }

    /// Appends a body of at most `max` bytes, which `read` puts into pages, and its padding.
    ///
    /// `read` gets the pages' memory, as many bytes as `max` or less where the reply has no more
    /// room, and returns how many of them it filled, from the start on. That number is returned.
    ///
    /// # Errors
    /// What `read` returns, and then there is no body.
    pub fn read_body(
        &mut self,
        max: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let first = self.first_body_page();
        let start = first * PAGE_SIZE;
        let max = max.min(self.body_room());
        let mut slices: Vec<_> =
            self.pages.slices_mut(start, start + max).map(IoSliceMut::new).collect();
        let len = read(&mut slices)?.min(max);
        self.set_body(Body::Pages { first, len });
        Ok(len)
    }

    /// Returns whether the body should be sent from a file, where that is possible: false while
    /// unread replies keep as many files open as [`ServerConfig::max_kept_files`] allows.
    ///
    /// [`ServerConfig::max_kept_files`]: crate::ServerConfig::max_kept_files
    #[must_use]
    pub fn may_send_file(&self) -> bool {
        self.may_send_file
    }

    pub(crate) fn set_may_send_file(&mut self, may_send_file: bool) {
        self.may_send_file = may_send_file;
    }

    /// Appends a body that is sent from the file, and its padding; cut to the room that pages
    /// would have. Returns how many bytes it has.
    pub fn file_body(&mut self, range: FileRange) -> usize {
        let len = range.len.min(self.body_room());
        self.set_body(Body::File(FileRange { len, ..range }));
        len
    }

    /// Appends whole pages that somebody else filled, without copying, and the padding.
    ///
    /// `len` bytes of them are the body, from the first page's first byte on. What pages the reply
    /// had in their places is freed, many at once. Returns how many bytes the body has: less than
    /// `len` if there are fewer pages, or no more room.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc.c` `svc_rqst_replace_page`
    pub fn page_body(&mut self, pages: impl IntoIterator<Item = Page<S>>, len: usize) -> usize {
        let first = self.first_body_page();
        let wanted = len.min(self.body_room()).div_ceil(PAGE_SIZE);
        let mut nr_pages = 0;
        for page in pages.into_iter().take(wanted) {
            let Ok(displaced) = self.pages.replace(first + nr_pages, page) else { break };
            nr_pages += 1;
            self.displaced.extend(displaced.map(Some));
            if self.displaced.len() >= DISPLACED_BATCH {
                self.free_displaced();
            }
        }
        self.free_displaced();
        let len = len.min(nr_pages * PAGE_SIZE);
        self.set_body(Body::Pages { first, len });
        len
    }

    /// Returns the bytes of the head, from the call's number on, in pieces.
    pub fn head(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.slices(MARK_BYTES, self.head_len)
    }

    /// Forgets what was built.
    pub(crate) fn clear(&mut self) {
        self.head_len = MARK_BYTES;
        self.head_limit = self.pages.nr_slots() * PAGE_SIZE;
        self.body = Body::None;
        self.tail_len = 0;
        self.may_send_file = true;
    }

    pub(crate) fn pages(&self) -> &PageArray<S> {
        &self.pages
    }

    pub(crate) fn pages_mut(&mut self) -> &mut PageArray<S> {
        &mut self.pages
    }

    pub(crate) fn head_len(&self) -> usize {
        self.head_len
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail[..self.tail_len]
    }

    /// Returns the number of the page after the last that the reply uses.
    pub(crate) fn next_page(&self) -> usize {
        match &self.body {
            Body::Pages { first, len } => first + len.div_ceil(PAGE_SIZE),
            _ => self.first_body_page(),
        }
    }

    /// Writes over what stands at the very front, which is the record mark.
    pub(crate) fn write_at(&mut self, at: usize, bytes: &[u8]) -> Result<(), XdrError> {
        let mut rest = bytes;
        for slice in self.pages.slices_mut(at, at + bytes.len()) {
            let (now, later) = rest.split_at(slice.len());
            slice.copy_from_slice(now);
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(XdrError::NoRoom) }
    }

    fn first_body_page(&self) -> usize {
        self.head_len.div_ceil(PAGE_SIZE)
    }

    fn set_body(&mut self, body: Body) {
        let pad = padding(body.len());
        self.body = body;
        self.tail[..pad.len()].copy_from_slice(pad);
        self.tail_len = pad.len();
    }

    fn free_displaced(&mut self) {
        self.source.clone().release_pages(&mut self.displaced);
        self.displaced.clear();
    }
}

impl<S: Frames> XdrWrite for Reply<S> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), XdrError> {
        if bytes.len() > self.room() {
            return Err(XdrError::NoRoom);
        }
        if !matches!(self.body, Body::None) {
            self.tail[self.tail_len..][..bytes.len()].copy_from_slice(bytes);
            self.tail_len += bytes.len();
            return Ok(());
        }
        let at = self.head_len % PAGE_SIZE;
        let page = self.pages.bytes_mut(self.head_len / PAGE_SIZE);
        match page.and_then(|page| page.get_mut(at..at + bytes.len())) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.write_at(self.head_len, bytes)?,
        }
        self.head_len += bytes.len();
        Ok(())
    }
}

impl<S: PageSource> fmt::Debug for Reply<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("head_len", &self.head_len)
            .field("body", &self.body)
            .field("tail_len", &self.tail_len)
            .finish_non_exhaustive()
    }
}
