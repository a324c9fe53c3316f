//! PATHCONF: returns the limits and rules of file names.

use pagemill_rpc::{Call, Frames, XdrWrite};

use super::answer::{Answered, put_status, refuse};
use crate::protocol::wire::{RawFh, put_post_op_attr};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.20
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse(call.reply, status),
    };
    let conf = nfs.vfs.pathconf(&object);
    put_status(call.reply, &conf)?;
    put_post_op_attr(call.reply, nfs.vfs.attr(&object).ok().as_ref())?;
    if let Ok(conf) = &conf {
        call.reply.u32(conf.max_links)?;
        call.reply.u32(conf.max_name_bytes)?;
        // `no_trunc`, `chown_restricted`, not `case_insensitive`, `case_preserving`.
        for truth in [true, true, false, true] {
            call.reply.bool(truth)?;
        }
    }
    Ok(conf.map(|_| ()))
}
