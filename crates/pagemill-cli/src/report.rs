//! Reports of the commands that are no benchmark of allocation.

pub(crate) mod info;
pub(crate) mod xdp;
