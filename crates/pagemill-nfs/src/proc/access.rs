//! ACCESS: returns what the caller may do with a file.

use pagemill_rpc::{Call, Frames, XdrWrite};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;
use crate::vfs::ACCESS_ALL;

/// # Source
/// `rfc1813` section 3.3.4
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let wanted = call.args.u32()? & ACCESS_ALL;
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse(call.reply, status),
    };
    let granted = nfs.vfs.access(&object, wanted);
    put_status(call.reply, &granted)?;
    put_post_op_attr(call.reply, nfs.vfs.attr(&object).ok().as_ref())?;
    if let Ok(granted) = granted {
        call.reply.u32(granted)?;
    }
    Ok(granted.map(|_| ()))
}
