//! NULL: an answer, and nothing else.

use pagemill_rpc::{Call, Frames};

use super::answer::Answered;
use crate::service::Service;

/// Answers.
pub(crate) fn call<S: Frames>(_nfs: &Service, _call: &mut Call<'_, S>) -> Answered {
    Ok(Ok(()))
}
