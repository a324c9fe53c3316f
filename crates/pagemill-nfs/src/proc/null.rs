//! NULL: replies without doing anything.

use pagemill_rpc::Call;
use pagemill_rpc::buffer::Frames;

use super::answer::Answered;
use crate::service::Service;

/// Replies.
pub(crate) fn call<S: Frames>(_nfs: &Service, _call: &mut Call<'_, S>) -> Answered {
    Ok(Ok(()))
}
