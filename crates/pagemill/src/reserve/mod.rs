//! Pages set aside for one user: a local reserve without a lock, and a mempool.

pub(crate) mod local;
pub(crate) mod mempool;
