//! ACCESS: returns what the caller may do with a file.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrWrite;

use super::answer::{Answered, answer_read};
use crate::protocol::wire::RawFh;
use crate::service::Service;
use crate::vfs::ACCESS_ALL;

/// # Source
/// `rfc1813` section 3.3.4
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let wanted = call.args.u32()? & ACCESS_ALL;
    answer_read(
        nfs,
        call,
        &fh,
        |object| nfs.vfs.access(object, wanted),
        |reply, granted| reply.u32(granted),
    )
}
