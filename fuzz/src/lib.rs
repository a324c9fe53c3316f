//! What the fuzz targets do with the bytes that they are given.

#![deny(unsafe_code)]

pub mod bench;
pub mod nfs;
pub mod rpc;
#[expect(unsafe_code, reason = "objects that are raw pointers")]
pub mod slab;
pub mod status;
pub mod xdp;
