//! Wait queue of requests that no zone can serve yet.

pub(crate) mod queue;
