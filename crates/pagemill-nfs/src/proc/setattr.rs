//! SETATTR: changes modes, owners, times and sizes.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, answer_changed};
use crate::protocol::wire::{RawFh, read_sattr, read_time};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.2
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let sattr = read_sattr(&mut call.args)?;
    let guard = if call.args.bool()? { Some(read_time(&mut call.args)?) } else { None };
    answer_changed(nfs, call, &fh, Ok(()), |object, ()| nfs.vfs.setattr(object, &sattr, guard))
}
