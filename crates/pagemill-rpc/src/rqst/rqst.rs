//! Request: the pages of a worker thread for one call's arguments and reply, reused for the next call.
//!
//! There are two arrays. With one array for both, a call that fills it leaves no room for its reply
//! (CVE-2022-43945).

use core::ops::Range;

use pagemill::Page;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;

use crate::rqst::pages::{Frames, PageArray, Refill};
use crate::rqst::payload::Behind;
use crate::rqst::reply::Reply;
use crate::rqst::splice::Splice;
use crate::stats::RefillStats;
use crate::wire::xdr::XdrReader;

/// Bytes of a call or reply besides its payload: headers, handles, attributes.
pub const OVERHEAD_BYTES: usize = PAGE_SIZE;
/// The largest payload that can be configured, as in Linux.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// Returns how many pages a request with `max_payload_bytes` of data needs in each direction.
///
/// # Source
/// `linux-7.0` `include/linux/sunrpc/svc.h` `svc_serv_maxpages`: 259 for 1 MiB, which is the payload,
/// its overhead, and two partly used pages.
#[must_use]
pub const fn nr_request_pages(max_payload_bytes: usize) -> usize {
    (max_payload_bytes + OVERHEAD_BYTES).div_ceil(PAGE_SIZE) + 2
}

/// The pages of one request at a time, kept from one request to the next.
#[derive(Debug)]
pub struct Rqst<S: PageSource> {
    source: S,
    args: PageArray<S>,
    /// Number of bytes of the call in the arguments' pages.
    args_len: usize,
    /// Number of bytes of the call before its arguments.
    header_len: usize,
    /// The part of the call that is not in the pages, if any.
    splice: Splice,
    reply: Reply<S>,
}

impl<S: Frames> Rqst<S> {
    /// Makes a request without pages; [`alloc_arg`](Self::alloc_arg) allocates them.
    #[must_use]
    pub fn new(source: S, max_payload_bytes: usize) -> Self {
        let nr_pages = nr_request_pages(max_payload_bytes.min(MAX_PAYLOAD_BYTES));
        let reply = Reply::new(source.clone(), nr_pages);
        Self {
            source,
            args: PageArray::new(nr_pages),
            args_len: 0,
            header_len: 0,
            splice: Splice::default(),
            reply,
        }
    }

    /// Replaces the pages that the last request used up; returns false if `stop` returned true.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc_xprt.c` `svc_alloc_arg`
    pub fn alloc_arg(
        &mut self,
        refill: Refill,
        stop: &dyn Fn() -> bool,
        stats: &RefillStats,
    ) -> bool {
        (self.args_len, self.header_len) = (0, 0);
        self.splice.clear();
        self.reply.clear();
        self.args.fill(&self.source, refill, stop, stats)
            && self.reply.pages_mut().fill(&self.source, refill, stop, stats)
    }

    /// Exchanges the pages of both arrays, arguments first, with other ones.
    pub(crate) fn swap_pages(&mut self, [args, reply]: &mut [PageArray<S>; 2]) {
        core::mem::swap(&mut self.args, args);
        core::mem::swap(self.reply.pages_mut(), reply);
    }

    /// Returns whether no slot lacks its page.
    pub(crate) fn is_filled(&mut self) -> bool {
        self.args.is_filled() && self.reply.pages_mut().is_filled()
    }

    /// Returns the number of slots in each direction: the end of each array, whether filled or not.
    ///
    /// # Source
    /// `series-v3` patch 1: the end does not depend on how many pages a refill got.
    #[must_use]
    pub fn page_end(&self) -> usize {
        self.args.nr_slots()
    }

    /// Returns the maximum length of a call in bytes.
    #[must_use]
    pub fn max_call_bytes(&self) -> usize {
        // One page less, as in Linux, so that a call that fits here fits there.
        (self.args.nr_slots() - 1) * PAGE_SIZE
    }

    /// Returns the pages of the arguments.
    pub fn arg_pages(&mut self) -> &mut PageArray<S> {
        &mut self.args
    }

    /// Sets how many bytes of the arguments' pages belong to the call.
    pub fn set_args_len(&mut self, len_bytes: usize) {
        self.args_len = len_bytes.min(self.args.nr_slots() * PAGE_SIZE);
    }

    /// Returns how many bytes of the call are in pages.
    #[must_use]
    pub fn args_len(&self) -> usize {
        self.args_len
    }

    /// Returns the length of the call in bytes, including those that were spliced.
    #[must_use]
    pub fn call_len(&self) -> usize {
        self.args_len + self.splice.len()
    }

    /// Returns the splice, to receive a part of the call with.
    pub(crate) fn splice(&mut self) -> &mut Splice {
        &mut self.splice
    }

    /// Returns the call, from its first byte to where a part of it was spliced, and the reply.
    pub fn parts(&mut self) -> (XdrReader<'_>, &mut Reply<S>) {
        let (call, _, reply) = self.all_parts();
        (call, reply)
    }

    /// Records how many bytes of the call come before its arguments.
    pub(crate) fn set_header_len(&mut self, len_bytes: usize) {
        self.header_len = len_bytes;
    }

    /// Returns the arguments, the part of the call after the spliced data if there is any, and the
    /// reply.
    pub(crate) fn args(&mut self) -> (XdrReader<'_>, Option<Behind<'_>>, &mut Reply<S>) {
        let header_len = self.header_len;
        let (mut call, behind, reply) = self.all_parts();
        // Never more than the call has: the header was read from it.
        let _header = call.split(header_len);
        (call, behind, reply)
    }

    /// Returns the call, its part after the spliced data if there is any, and the reply.
    fn all_parts(&mut self) -> (XdrReader<'_>, Option<Behind<'_>>, &mut Reply<S>) {
        if self.splice.len() == 0 {
            return (XdrReader::over(&self.args, self.args_len), None, &mut self.reply);
        }
        let at = self.splice.at().min(self.args_len);
        let mut after = XdrReader::over(&self.args, self.args_len);
        // Never more than the call has.
        let _head = after.split(at);
        let behind = Behind { splice: &mut self.splice, after };
        (XdrReader::over(&self.args, at), Some(behind), &mut self.reply)
    }

    /// Returns the reply.
    pub fn reply(&mut self) -> &mut Reply<S> {
        &mut self.reply
    }

    /// Moves the pages that hold the first `len_bytes` of an unfinished call out of the request.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svcsock.c` `svc_tcp_save_pages`
    pub fn save_args(&mut self, len_bytes: usize, saved: &mut Vec<Page<S>>) {
        let pages = 0..len_bytes.div_ceil(PAGE_SIZE);
        saved.extend(pages.filter_map(|index| self.args.take(index)));
    }

    /// Moves saved pages back to the front; the pages in their place are freed in one call.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svcsock.c` `svc_tcp_restore_pages`
    pub fn restore_args(&mut self, saved: &mut Vec<Page<S>>) {
        self.args.release(&self.source, saved.len());
        for (index, page) in saved.drain(..).enumerate() {
            // There are no more saved pages than were taken from the array.
            drop(self.args.replace(index, page));
        }
    }

    /// Frees the pages that the reply used in one call, and returns their number.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc.c` `svc_rqst_release_pages`
    pub fn release_pages(&mut self) -> usize {
        let used: Range<usize> = 0..self.reply.next_page();
        self.reply.pages_mut().release(&self.source, used.end)
    }
}
