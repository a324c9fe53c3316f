//! Pages of a ring: which pages the kernel may fill, where they come from, and received ones.

pub(crate) mod filled;
pub(crate) mod held;
pub(crate) mod parcel;
pub(crate) mod received;
pub(crate) mod ring_page;
pub(crate) mod supply;
