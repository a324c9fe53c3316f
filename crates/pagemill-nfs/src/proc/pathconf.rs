//! PATHCONF: returns the limits and rules of file names.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrWrite;

use super::answer::{Answered, answer_read};
use crate::protocol::wire::RawFh;
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.20
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    answer_read(
        nfs,
        call,
        &fh,
        |object| nfs.vfs.pathconf(object),
        |reply, conf| {
            reply.u32(conf.max_links)?;
            reply.u32(conf.max_name_bytes)?;
            // `no_trunc`, `chown_restricted`, not `case_insensitive`, `case_preserving`.
            [true, true, false, true].into_iter().try_for_each(|truth| reply.bool(truth))
        },
    )
}
