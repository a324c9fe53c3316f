//! WRITE: writes data from the network to a file, from pages or spliced.

use std::os::fd::BorrowedFd;

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::{XdrError, XdrWrite};
use pagemill_rpc::{Call, CallError};

use super::answer::{Answered, put_status, refuse_change};
use crate::protocol::wire::{RawFh, put_wcc};
use crate::service::Service;
use crate::vfs::Stability;

/// # Source
/// `rfc1813` section 3.3.7
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let fh = RawFh::read(&mut call.args)?;
    let (offset, count) = (call.args.u64()?, call.args.u32()?);
    let stability = match call.args.u32()? {
        0 => Stability::Unstable,
        1 => Stability::DataSync,
        2 => Stability::FileSync,
        value => {
            let (name, allowed) = ("stable_how", "0, 1 or 2");
            return Err(CallError::GarbageArgs(XdrError::BadEnum { name, value, allowed }));
        }
    };
    let max = nfs.max_payload_bytes(call);
    let data = call.payload(max)?;
    let len = data.len();
    if u32::try_from(len) != Ok(count) {
        // As the kernel's server does; other servers write the bytes that exist and claim another
        // number.
        return Err(CallError::GarbageArgs(XdrError::Truncated));
    }
    let object = match nfs.resolve(call, &fh) {
        Ok(object) => object,
        Err(status) => return refuse_change(call.reply, status),
    };
    let write = |file: BorrowedFd<'_>| data.write_at(file, offset);
    let (written, wcc) = nfs.vfs.write(&object, offset, len, stability, write);
    put_status(call.reply, &written)?;
    put_wcc(call.reply, &wcc)?;
    if let Ok(committed) = &written {
        object.export.stats().written_bytes.add(committed.nr_bytes as u64);
        // At most `count`, which is a word.
        call.reply.u32(u32::try_from(committed.nr_bytes).unwrap_or(count))?;
        call.reply.u32(committed.stability as u32)?;
        call.reply.put(&committed.verifier)?;
    }
    Ok(written.map(|_| ()))
}
