//! SETATTR: changes modes, owners, times and sizes.

use pagemill_rpc::{Call, Frames};

use super::answer::{Answered, put_status, refuse_change};
use crate::protocol::wire::{RawFh, put_wcc, read_sattr, read_time};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.2
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let sattr = read_sattr(&mut call.args)?;
    let guard = if call.args.bool()? { Some(read_time(&mut call.args)?) } else { None };
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse_change(call.reply, status),
    };
    let changed = nfs.vfs.setattr(&object, &sattr, guard);
    put_status(call.reply, &changed.result)?;
    put_wcc(call.reply, &changed.wcc)?;
    Ok(changed.result)
}
