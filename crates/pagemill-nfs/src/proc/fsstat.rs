//! FSSTAT: returns the free space of the file system.

use pagemill_rpc::{Call, Frames, XdrWrite};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.18
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse(call.reply, status),
    };
    let stat = nfs.vfs.fsstat(&object);
    put_status(call.reply, &stat)?;
    put_post_op_attr(call.reply, nfs.vfs.attr(&object).ok().as_ref())?;
    if let Ok(stat) = &stat {
        for bytes in [stat.total_bytes, stat.free_bytes, stat.available_bytes] {
            call.reply.u64(bytes)?;
        }
        for files in [stat.total_files, stat.free_files, stat.available_files] {
            call.reply.u64(files)?;
        }
        // Seconds for which these values will not change: none.
        call.reply.u32(0)?;
    }
    Ok(stat.map(|_| ()))
}
