//! What the fuzz targets do with the bytes that they are given.

#![forbid(unsafe_code)]

pub mod bench;
pub mod nfs;
pub mod rpc;
pub mod status;
pub mod xdp;
