//! READLINK: returns the target of a symbolic link.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrWrite;

use super::answer::{Answered, answer_read};
use crate::protocol::wire::RawFh;
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.5
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    answer_read(
        nfs,
        call,
        &fh,
        |link| nfs.vfs.readlink(link),
        |reply, target| reply.opaque(&target),
    )
}
