//! From a call message to a procedure and its reply.

pub(crate) mod dispatch;
pub(crate) mod program;
pub(crate) mod reply_cache;
