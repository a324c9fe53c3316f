//! LINK: adds a name to a file.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, put_status};
use crate::protocol::attr::Wcc;
use crate::protocol::wire::{RawFh, put_post_op_attr, put_wcc, read_dirop};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.15
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let file = RawFh::read(&mut call.args)?;
    let (dir, name) = read_dirop(&mut call.args)?;
    let found = nfs.resolve(call, &file).and_then(|file| {
        let dir = nfs.resolve_beside(call, &file, &dir)?;
        Ok((file, dir, name?))
    });
    let (result, attr, wcc) = match found {
        Ok((file, dir, name)) => {
            let changed = nfs.vfs.link(&file, &dir, &name);
            (changed.result, nfs.vfs.attr(&file).ok(), changed.wcc)
        }
        Err(status) => (Err(status), None, Wcc::default()),
    };
    put_status(call.reply, &result)?;
    put_post_op_attr(call.reply, attr.as_ref())?;
    put_wcc(call.reply, &wcc)?;
    Ok(result)
}
