//! FSSTAT: returns the free space of the file system.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrWrite;

use super::answer::{Answered, answer_read};
use crate::protocol::wire::RawFh;
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.18
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    answer_read(
        nfs,
        call,
        &fh,
        |object| nfs.vfs.fsstat(object),
        |reply, stat| {
            for bytes in [stat.total_bytes, stat.free_bytes, stat.available_bytes] {
                reply.u64(bytes)?;
            }
            for files in [stat.total_files, stat.free_files, stat.available_files] {
                reply.u64(files)?;
            }
            // Seconds for which these values will not change: none.
            reply.u32(0)
        },
    )
}
