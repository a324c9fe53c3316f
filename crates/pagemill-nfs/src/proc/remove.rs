//! REMOVE: removes a name of a file other than a directory.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::{Answered, answer_changed};
use crate::protocol::wire::read_dirop;
use crate::service::Service;

/// # Source
/// `rfc1813` section 3.3.12
pub(crate) fn call<S: Frames>(nfs: &Service, call: &mut Call<'_, S>) -> Answered {
    let (fh, name) = read_dirop(&mut call.args)?;
    answer_changed(nfs, call, &fh, name, |dir, name| nfs.vfs.remove(dir, &name))
}
