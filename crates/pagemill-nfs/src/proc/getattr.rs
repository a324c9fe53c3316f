//! GETATTR: returns the attributes of a file.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, put_status};
use crate::protocol::wire::{RawFh, put_fattr};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.1
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let attr = nfs.resolve(call, &fh).and_then(|object| nfs.vfs.attr(&object));
    put_status(call.reply, &attr)?;
    if let Ok(attr) = &attr {
        put_fattr(call.reply, attr)?;
    }
    Ok(attr.map(|_| ()))
}
