//! FSINFO: returns what the file system and this server support.

use pagemill_rpc::{Call, Frames, XdrWrite};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;

/// Hard links, symbolic links, equal properties for all files, settable times.
const PROPERTIES: u32 = 0x01 | 0x02 | 0x08 | 0x10;
/// Preferred number of bytes of a directory per call.
const DIR_BYTES: u32 = 64 << 10;

/// # Source
/// `rfc1813` section 3.3.19
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse(call.reply, status),
    };
    let info = nfs.vfs.fsinfo(&object);
    put_status(call.reply, &info)?;
    put_post_op_attr(call.reply, nfs.vfs.attr(&object).ok().as_ref())?;
    if let Ok(info) = &info {
        let payload = u32::try_from(nfs.max_payload_bytes(call)).unwrap_or(u32::MAX);
        for _reading_and_writing in 0..2 {
            call.reply.u32(payload)?;
            call.reply.u32(payload)?;
            call.reply.u32(info.block_bytes)?;
        }
        call.reply.u32(DIR_BYTES.min(payload))?;
        call.reply.u64(info.max_file_bytes)?;
        // Resolution of times: nanoseconds.
        call.reply.u32(0)?;
        call.reply.u32(1)?;
        call.reply.u32(PROPERTIES)?;
    }
    Ok(info.map(|_| ()))
}
