//! READLINK: returns the target of a symbolic link.

use pagemill_rpc::{Call, Frames, XdrWrite};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.5
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let link = match nfs.resolve(call, &fh) {
        Ok(link) => link,
        Err(status) => return refuse(call.reply, status),
    };
    let target = nfs.vfs.readlink(&link);
    put_status(call.reply, &target)?;
    put_post_op_attr(call.reply, nfs.vfs.attr(&link).ok().as_ref())?;
    if let Ok(target) = &target {
        call.reply.opaque(target)?;
    }
    Ok(target.map(|_| ()))
}
