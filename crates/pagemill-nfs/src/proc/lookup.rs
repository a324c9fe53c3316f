//! LOOKUP: returns the handle of a name in a directory.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, put_status, refuse};
use crate::protocol::wire::{put_fh, put_post_op_attr, read_dirop};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.3
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    let dir = match nfs.resolve(call, &fh) {
        Ok(dir) => dir,
        Err(status) => return refuse(call.reply, status),
    };
    let found = name.and_then(|name| nfs.vfs.lookup(&dir, &name));
    let found = found.and_then(|found| Ok((nfs.vfs.attr(&found)?, found)));
    put_status(call.reply, &found)?;
    if let Ok((attr, found)) = &found {
        put_fh(call.reply, found.fh())?;
        put_post_op_attr(call.reply, Some(attr))?;
    }
    put_post_op_attr(call.reply, nfs.vfs.attr(&dir).ok().as_ref())?;
    Ok(found.map(|_| ()))
}
