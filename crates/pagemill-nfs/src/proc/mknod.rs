//! MKNOD: creates devices, sockets and pipes.

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::xdr::{XdrError, XdrReader};
use pagemill_rpc::{Call, CallError};

use super::answer::{Answered, answer_created};
use crate::protocol::attr::{FileKind, Sattr};
use crate::protocol::status::{NfsResult, NfsStatus};
use crate::protocol::wire::{read_dirop, read_sattr};
use crate::service::Service;
use crate::vfs::Device;

/// # Source
/// `rfc1813` section 3.3.11
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    let device = read_device(&mut call.args)?;
    let args = name.and_then(|name| Ok((name, device?)));
    answer_created(nfs, call, &fh, args, |dir, (name, device)| nfs.vfs.mknod(dir, &name, &device))
}

fn read_device(args: &mut XdrReader<'_>) -> Result<NfsResult<Device>, CallError> {
    let kind = match args.u32()? {
        3 => FileKind::Block,
        4 => FileKind::Character,
        6 => FileKind::Socket,
        7 => FileKind::Fifo,
        // Types that other procedures create; no further arguments follow.
        1 | 2 | 5 => return Ok(Err(NfsStatus::Badtype)),
        value => {
            let (name, allowed) = ("ftype3", "1 to 7");
            return Err(CallError::GarbageArgs(XdrError::BadEnum { name, value, allowed }));
        }
    };
    let sattr: Sattr = read_sattr(args)?;
    let rdev = match kind {
        FileKind::Block | FileKind::Character => (args.u32()?, args.u32()?),
        _ => (0, 0),
    };
    Ok(Ok(Device { kind, rdev, sattr }))
}
