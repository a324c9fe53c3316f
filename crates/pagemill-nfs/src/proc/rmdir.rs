//! RMDIR: removes an empty directory.

use pagemill_rpc::{Call, Frames};

use super::answer::{Answered, put_status, refuse_change};
use crate::protocol::wire::{put_wcc, read_dirop};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.13
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    let (dir, name) = match nfs.resolve(call, &fh).and_then(|dir| Ok((dir, name?))) {
        Ok(found) => found,
        Err(status) => return refuse_change(call.reply, status),
    };
    let changed = nfs.vfs.rmdir(&dir, &name);
    put_status(call.reply, &changed.result)?;
    put_wcc(call.reply, &changed.wcc)?;
    Ok(changed.result)
}
