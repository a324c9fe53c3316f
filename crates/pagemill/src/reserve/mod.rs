//! Pages set aside for one user.

pub(crate) mod local;
pub(crate) mod mempool;
