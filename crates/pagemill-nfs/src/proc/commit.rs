//! COMMIT: makes unstable writes durable.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrWrite;

use super::answer::{Answered, put_status, refuse_change};
use crate::protocol::wire::{RawFh, put_wcc};
use crate::service::Service;

/// Ignores the range: makes the whole file durable.
///
/// # Source
/// `rfc1813` section 3.3.21
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let _range = (call.args.u64()?, call.args.u32()?);
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse_change(call.reply, status),
    };
    let (result, wcc) = nfs.vfs.commit(&object);
    put_status(call.reply, &result)?;
    put_wcc(call.reply, &wcc)?;
    if result.is_ok() {
        call.reply.put(&nfs.vfs.write_verifier())?;
    }
    Ok(result)
}
