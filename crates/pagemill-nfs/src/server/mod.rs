//! The two programs that an RPC server serves: NFS and MOUNT.

pub(crate) mod mount;
pub(crate) mod nfs3;
