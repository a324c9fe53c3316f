//! READ: sends the bytes of a file, from the file where [`Service::may_send_file`] allows it, otherwise
//! through the reply's pages.

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;

use pagemill_rpc::buffer::{FileRange, Frames, Mark};
use pagemill_rpc::xdr::{XdrError, XdrWrite};
use pagemill_rpc::{Call, Reply};
use rustix::io::{Errno, preadv, retry_on_intr};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::status::NfsStatus;
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;
use crate::vfs::{DataRange, Object};

/// # Source
/// `rfc1813` section 3.3.6
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let (offset, count) = (call.args.u64()?, call.args.u32()?);
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse(call.reply, status),
    };
    // The requested length is cut to the room of a reply first.
    let max = usize::try_from(count).unwrap_or(usize::MAX);
    let max = max.min(nfs.max_payload_bytes(call)).min(call.reply.body_room());
    let start = call.reply.mark();
    let (range, attr) = match nfs.vfs.read(&object, offset, max) {
        Ok(found) => found,
        Err(status) => return answer_failed(nfs, call.reply, &object, status),
    };
    put_status(call.reply, &Ok(()))?;
    put_post_op_attr(call.reply, Some(&attr))?;
    object.export.stats().read_bytes.add(range.len as u64);
    let sent = if call.reply.may_send_file() && nfs.may_send_file(&object.export, &range) {
        send_file(call.reply, &range)?
    } else {
        send_pages(call.reply, &range)?
    };
    if let Err(status) = sent {
        call.reply.truncate(start);
        return answer_failed(nfs, call.reply, &object, status);
    }
    Ok(Ok(()))
}

/// Replies with a status and the file's attributes, if it still has any.
fn answer_failed<S: Frames>(
    nfs: &Service,
    reply: &mut Reply<S>,
    object: &Object,
    status: NfsStatus,
) -> Answered {
    reply.u32(status.code())?;
    put_post_op_attr(reply, nfs.vfs.attr(object).ok().as_ref())?;
    Ok(Err(status))
}

/// Appends the counts, and then the file's data as a file range.
fn send_file<S: Frames>(
    reply: &mut Reply<S>,
    range: &DataRange,
) -> Result<Result<(), NfsStatus>, XdrError> {
    put_counts(reply, range.len, range.eof)?;
    let file = FileRange { file: range.file.clone(), offset: range.offset, len: range.len };
    let len = reply.file_body(file);
    Ok(if len == range.len { Ok(()) } else { Err(NfsStatus::Serverfault) })
}

/// Reads into the reply's pages, and appends the counts of the bytes that were read.
fn send_pages<S: Frames>(
    reply: &mut Reply<S>,
    range: &DataRange,
) -> Result<Result<(), NfsStatus>, XdrError> {
    let count = reply.mark();
    let [eof, length] = put_counts(reply, range.len, range.eof)?;
    if range.len == 0 {
        return Ok(Ok(()));
    }
    let filled = reply.read_body(range.len, |slices| fill(&range.file, range.offset, slices));
    let len = match filled {
        Ok(len) => len,
        Err(error) => return Ok(Err(status_of(&error))),
    };
    if len < range.len {
        // The file was truncated after it was measured: it ends here.
        let nr_bytes = u32::try_from(len).map_err(|_| XdrError::NoRoom)?;
        reply.patch_u32(count, nr_bytes)?;
        reply.patch_u32(eof, 1)?;
        reply.patch_u32(length, nr_bytes)?;
    }
    Ok(Ok(()))
}

/// Appends the number of bytes, whether the file ends with them, and their length as XDR. Returns the
/// positions of the latter two.
fn put_counts<S: Frames>(
    reply: &mut Reply<S>,
    len: usize,
    eof: bool,
) -> Result<[Mark; 2], XdrError> {
    let nr_bytes = u32::try_from(len).map_err(|_| XdrError::NoRoom)?;
    reply.u32(nr_bytes)?;
    let eof_at = reply.mark();
    reply.bool(eof)?;
    let length_at = reply.mark();
    reply.u32(nr_bytes)?;
    Ok([eof_at, length_at])
}

/// Reads until the slices are full or the file ends.
fn fill(file: &OwnedFd, offset: u64, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let mut rest = slices;
    let mut len = 0;
    while rest.iter().any(|slice| !slice.is_empty()) {
        let more = retry_on_intr(|| preadv(file, rest, offset.saturating_add(len as u64)))?;
        if more == 0 {
            break;
        }
        len += more;
        IoSliceMut::advance_slices(&mut rest, more);
    }
    Ok(len)
}

fn status_of(error: &io::Error) -> NfsStatus {
    error.raw_os_error().map_or(NfsStatus::Io, |code| Errno::from_raw_os_error(code).into())
}
