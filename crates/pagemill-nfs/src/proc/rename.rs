//! RENAME: moves a name within a directory or to another.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, put_status, refuse_change};
use crate::protocol::attr::Wcc;
use crate::protocol::wire::{put_wcc, read_dirop};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.14
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (from_fh, from_name) = read_dirop(&mut call.args)?;
    let (to_fh, to_name) = read_dirop(&mut call.args)?;
    let found = nfs.resolve(call, &from_fh).and_then(|from| {
        let to = nfs.resolve_beside(call, &from, &to_fh)?;
        Ok((from, from_name?, to, to_name?))
    });
    let (from, from_name, to, to_name) = match found {
        Ok(found) => found,
        Err(status) => {
            let answered = refuse_change(call.reply, status)?;
            put_wcc(call.reply, &Wcc::default())?;
            return Ok(answered);
        }
    };
    let (changed, to_wcc) = nfs.vfs.rename((&from, &from_name), (&to, &to_name));
    put_status(call.reply, &changed.result)?;
    put_wcc(call.reply, &changed.wcc)?;
    put_wcc(call.reply, &to_wcc)?;
    Ok(changed.result)
}
