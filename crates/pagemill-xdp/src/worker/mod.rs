//! The loop that moves packets, where its frames come from and where packets go.

pub(crate) mod frame_pool;
pub(crate) mod sink;
pub(crate) mod spin;
pub(crate) mod worker;
