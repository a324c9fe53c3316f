//! Reply: a head written as XDR, a body of whole pages or a part of a file, and a tail.
//!
//! As in Linux's `xdr_buf`, the body goes to the network from where it is: from pages that a file was
//! read into, from pages that the procedure hands over, or from the file.

use alloc::sync::Arc;
use core::fmt;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;

use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Page};

use crate::rqst::pages::{Frames, PageArray};
use crate::wire::error::XdrError;
use crate::wire::record::MARK_BYTES;
use crate::wire::xdr::{XdrWrite, padding};

/// Maximum number of bytes after the body.
pub const MAX_TAIL_BYTES: usize = 128;

/// A part of a file that is sent directly from the file.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct FileRange {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// Offset of the part in the file.
    pub offset: u64,
    /// Length of the part in bytes.
    ///
    /// If the file turns out to be shorter, zeroes are sent for the missing bytes: the reply's head has
    /// already announced the length.
    pub len: usize,
}

/// The part between the head and the tail.
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

/// A position in a reply's head, to return to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// A reply under construction.
///
/// Bytes are appended to the head until there is a body, and to the tail afterwards.
pub struct Reply<S: PageSource> {
    source: S,
    pages: PageArray<S>,
    /// Length of the head in bytes from the start of the first page, including the record mark.
    head_len: usize,
    /// Maximum length of the head.
    head_limit: usize,
    body: Body,
    tail: [u8; MAX_TAIL_BYTES],
    tail_len: usize,
    /// Whether another file may be kept open for unread replies.
    may_send_file: bool,
    /// Pages that were replaced by others, kept to be freed together.
    displaced: Vec<Option<Page<S>>>,
}

/// Number of displaced pages that are freed in one call.
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

    /// Returns the source of the reply's pages, for a procedure that allocates its own.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns the length of the reply in bytes, without the record mark.
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

    /// Returns how many bytes a body could have: whole pages after those of the head.
    #[must_use]
    pub fn body_room(&self) -> usize {
        match self.body {
            Body::None => (self.pages.nr_slots() * PAGE_SIZE)
                .saturating_sub(self.first_body_page() * PAGE_SIZE),
            _ => 0,
        }
    }

    /// Limits the bytes that can still be appended to the head, as a client's `maxcount` does.
    pub fn limit_to(&mut self, len_bytes: usize) {
        self.head_limit = self.head_limit.min(self.head_len.saturating_add(len_bytes));
    }

    /// Returns the current end of the head.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.head_len)
    }

    /// Removes everything that was appended after `mark`, including a body.
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

    /// Appends a body of up to `max` bytes, which `read` puts into pages, and its padding.
    ///
    /// `read` receives the pages' memory, `max` bytes or fewer if the reply has less room. It returns
    /// how many bytes it filled from the start on, and so does this function.
    ///
    /// # Errors
    /// The error of `read`; the reply has no body then.
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

    /// Returns whether to send the body from a file, if possible. False while unread replies keep as
    /// many files open as [`ServerConfig::max_kept_files`] allows.
    ///
    /// [`ServerConfig::max_kept_files`]: crate::ServerConfig::max_kept_files
    #[must_use]
    pub fn may_send_file(&self) -> bool {
        self.may_send_file
    }

    pub(crate) fn set_may_send_file(&mut self, may_send_file: bool) {
        self.may_send_file = may_send_file;
    }

    /// Appends a body that is sent from a file, and its padding. The body is cut to the room that pages
    /// would have. Returns its length in bytes.
    pub fn file_body(&mut self, range: FileRange) -> usize {
        let len = range.len.min(self.body_room());
        self.set_body(Body::File(FileRange { len, ..range }));
        len
    }

    /// Appends whole pages that the procedure filled, without copying, and the padding.
    ///
    /// The body is their first `len` bytes. The reply's own pages in their places are freed, many at
    /// once. Returns the length of the body: less than `len` if there are fewer pages or less room.
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

    /// Returns the bytes of the head, from the transaction id on, as slices.
    pub fn head(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.slices(MARK_BYTES, self.head_len)
    }

    /// Discards the reply.
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

    /// Returns the index after the last page that the reply uses.
    pub(crate) fn next_page(&self) -> usize {
        match &self.body {
            Body::Pages { first, len } => first + len.div_ceil(PAGE_SIZE),
            _ => self.first_body_page(),
        }
    }

    /// Overwrites the bytes before the head, which are the record mark.
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
