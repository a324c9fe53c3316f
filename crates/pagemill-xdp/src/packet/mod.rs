//! Packets, their frames, and a parser of their headers.

pub(crate) mod datagram;
pub(crate) mod frame;
pub(crate) mod headers;
pub(crate) mod packet;
