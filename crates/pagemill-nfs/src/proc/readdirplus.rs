//! READDIRPLUS: lists a directory with handles and attributes.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::Answered;
use super::readdir::{Limits, list};
use crate::protocol::wire::{RawFh, put_post_op_attr, put_post_op_fh};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.17
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let (cookie, verifier) = (call.args.u64()?, call.args.fixed()?);
    let (dir_bytes, reply_bytes) = (call.args.u32()?, call.args.u32()?);
    let limits = Limits { reply_bytes, dir_bytes };
    list(nfs, call, &fh, (cookie, verifier), limits, |reply, dir, entry| {
        let known = nfs.vfs.entry(dir, entry);
        put_post_op_attr(reply, known.as_ref().map(|(_, attr)| attr))?;
        put_post_op_fh(reply, known.as_ref().map(|(fh, _)| fh))
    })
}
