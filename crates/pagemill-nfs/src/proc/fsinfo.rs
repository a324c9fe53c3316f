//! FSINFO: returns what the file system and this server support.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrWrite;

use super::answer::{Answered, answer_read};
use crate::protocol::wire::RawFh;
use crate::service::Service;

/// Hard links, symbolic links, equal properties for all files, settable times.
const PROPERTIES: u32 = 0x01 | 0x02 | 0x08 | 0x10;
/// Preferred number of bytes of a directory per call.
const DIR_BYTES: u32 = 64 << 10;

/// # Source
/// `rfc1813` section 3.3.19
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let payload = u32::try_from(nfs.max_payload_bytes(call)).unwrap_or(u32::MAX);
    answer_read(
        nfs,
        call,
        &fh,
        |object| nfs.vfs.fsinfo(object),
        |reply, info| {
            for _reading_and_writing in 0..2 {
                reply.u32(payload)?;
                reply.u32(payload)?;
                reply.u32(info.block_bytes)?;
            }
            reply.u32(DIR_BYTES.min(payload))?;
            reply.u64(info.max_file_bytes)?;
            // Resolution of times: nanoseconds.
            reply.u32(0)?;
            reply.u32(1)?;
            reply.u32(PROPERTIES)
        },
    )
}
