//! MKDIR: creates a directory.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, answer_created};
use crate::protocol::wire::{read_dirop, read_sattr};
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.9
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    let sattr = read_sattr(&mut call.args)?;
    answer_created(nfs, call, &fh, name, |dir, name| nfs.vfs.mkdir(dir, &name, &sattr))
}
