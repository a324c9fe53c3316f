//! SYMLINK: creates a symbolic link; only clients interpret its target.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, answer_created};
use crate::protocol::wire::{read_dirop, read_path, read_sattr};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.10
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    let sattr = read_sattr(&mut call.args)?;
    let target = read_path(&mut call.args)?;
    let args = name.and_then(|name| Ok((name, target?)));
    answer_created(nfs, call, &fh, args, |dir, (name, target)| {
        nfs.vfs.symlink(dir, &name, &sattr, &target)
    })
}
