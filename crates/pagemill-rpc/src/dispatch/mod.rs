//! Dispatch: finds the procedure of a call, runs it, and keeps replies for retransmitted calls.

pub(crate) mod dispatch;
pub(crate) mod program;
pub(crate) mod reply_cache;
