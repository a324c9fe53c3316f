//! READDIR: lists a directory.

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::{XdrError, XdrWrite};
use pagemill_rpc::{Call, Reply};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::attr::Fattr;
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;
use crate::vfs::{Listed, Object};

/// The cookie verifier of all listings: positions stay valid while a directory changes, so no client
/// has to start a listing again.
const VERIFIER: [u8; 8] = [0; 8];
/// Bytes after the entries: the end-of-list marker, and whether the directory ends there.
const END_BYTES: usize = 8;

/// # Source
/// `rfc1813` section 3.3.16
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let (cookie, verifier) = (call.args.u64()?, call.args.fixed()?);
    let count = call.args.u32()?;
    let limits = Limits { reply_bytes: count, dir_bytes: u32::MAX };
    list(nfs, call, &fh, (cookie, verifier), limits, |_, _, _| Ok(()))
}

/// A client's limits on a listing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of results in total.
    pub(crate) reply_bytes: u32,
    /// Bytes of names, file numbers and cookies.
    pub(crate) dir_bytes: u32,
}

/// Replies with entries, and with the data that `more` appends to each.
pub(crate) fn list<S: Frames>(
    nfs: &Service,
    call: &mut Call<'_, S>,
    fh: &RawFh,
    (cookie, verifier): (u64, [u8; 8]),
    limits: Limits,
    more: impl Fn(&mut Reply<S>, &Object, &Listed<'_>) -> Result<(), XdrError>,
) -> Answered {
    let dir = match nfs.resolve(call, fh) {
        Ok(dir) => dir,
        Err(status) => return refuse(call.reply, status),
    };
    let attr = nfs.vfs.attr(&dir).ok();
    let start = call.reply.mark();
    let max = usize::try_from(limits.reply_bytes).unwrap_or(usize::MAX);
    let max = max.min(nfs.max_payload_bytes(call));
    let page = Page { max, dir_bytes: limits.dir_bytes, first: call.reply.len() };
    let listed = if cookie != 0 && verifier != VERIFIER {
        Err(NfsStatus::BadCookie)
    } else {
        page.fill(nfs, call.reply, &dir, attr.as_ref(), cookie, more)
    };
    if let Err(status) = listed {
        call.reply.truncate(start);
        put_status(call.reply, &listed)?;
        put_post_op_attr(call.reply, attr.as_ref())?;
        return Ok(Err(status));
    }
    Ok(Ok(()))
}

/// The room that a client's limits leave.
struct Page {
    max: usize,
    dir_bytes: u32,
    /// Bytes of the reply before the results.
    first: usize,
}

impl Page {
    fn fill<S: Frames>(
        &self,
        nfs: &Service,
        reply: &mut Reply<S>,
        dir: &Object,
        attr: Option<&Fattr>,
        cookie: u64,
        more: impl Fn(&mut Reply<S>, &Object, &Listed<'_>) -> Result<(), XdrError>,
    ) -> NfsResult<()> {
        let no_room = |_: XdrError| NfsStatus::Toosmall;
        put_status(reply, &Ok(())).map_err(no_room)?;
        put_post_op_attr(reply, attr).map_err(no_room)?;
        reply.put(&VERIFIER).map_err(no_room)?;
        let (mut nr_entries, mut dir_bytes) = (0_usize, 0_usize);
        let dir_max = usize::try_from(self.dir_bytes).unwrap_or(usize::MAX);
        let eof = nfs.vfs.list(dir, cookie, self.max.min(dir_max), |entry| {
            let before = reply.mark();
            let size = ENTRY_BYTES + entry.name.len().next_multiple_of(4);
            let put = put_entry(reply, entry).and_then(|()| more(reply, dir, entry));
            let fits = put.is_ok()
                && self.used(reply) + END_BYTES <= self.max
                && (nr_entries == 0 || dir_bytes + size <= dir_max);
            if fits {
                nr_entries += 1;
                dir_bytes += size;
            } else {
                reply.truncate(before);
            }
            Ok(fits)
        })?;
        if nr_entries == 0 && !eof || self.used(reply) + END_BYTES > self.max {
            return Err(NfsStatus::Toosmall);
        }
        reply.bool(false).and_then(|()| reply.bool(eof)).map_err(no_room)
    }

    /// Returns the number of bytes of results, without the status.
    fn used<S: Frames>(&self, reply: &Reply<S>) -> usize {
        (reply.len() - self.first).saturating_sub(4)
    }
}

/// Bytes of an entry besides its name: the list marker, file number, length of the name, cookie.
const ENTRY_BYTES: usize = 4 + 8 + 4 + 8;

fn put_entry<S: Frames>(reply: &mut Reply<S>, entry: &Listed<'_>) -> Result<(), XdrError> {
    reply.bool(true)?;
    reply.u64(entry.fileid)?;
    reply.opaque(entry.name)?;
    reply.u64(entry.cookie)
}
