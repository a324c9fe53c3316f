//! CREATE: creates a regular file, in one of three modes.

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::XdrError;
use pagemill_rpc::{Call, CallError};

use super::answer::{Answered, answer_created};
use crate::protocol::wire::{read_dirop, read_sattr};
use crate::service::Service;
use crate::vfs::HowToCreate;

/// # Source
/// `rfc1813` section 3.3.8
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    let how = match call.args.u32()? {
        0 => HowToCreate::Unchecked(read_sattr(&mut call.args)?),
        1 => HowToCreate::Guarded(read_sattr(&mut call.args)?),
        2 => HowToCreate::Exclusive(call.args.fixed()?),
        value => {
            let (name, allowed) = ("createmode3", "0, 1 or 2");
            return Err(CallError::GarbageArgs(XdrError::BadEnum { name, value, allowed }));
        }
    };
    answer_created(nfs, call, &fh, name, |dir, name| nfs.vfs.create(dir, &name, &how))
}
