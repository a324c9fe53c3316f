//! An NFS server over directory trees: version 3 of the protocol, and MOUNT.
#![doc = include_str!("../README.md")]
//!
//! # Structure
//! [`NfsProgram`] and [`MountProgram`] are programs for a server of `pagemill-rpc`; both serve the
//! trees of one [`Vfs`]. Data of READ goes from the file to the network, through the reply's pages or
//! directly; data of WRITE goes to the file from the pages that it arrived in.
//!
//! # Getting started
//! 1. Read rules with [`parse_exports`], or write [`ExportRule`]s.
//! 2. Make a [`Vfs`] with a secret from [`FhKey::load_or_create`] and [`Actors::detect`], and give
//!    it the rules with [`Vfs::set_exports`].
//! 3. Start a `pagemill_rpc::Server` with the two programs.
//! 4. Call [`Vfs::sweep`] approximately once per second.
//!
//! The program `pagemill nfsd` does this; its guide (`docs/nfsd.md` in the repository) describes the
//! service for clients.
//!
//! # Invariants
//! - `one-component`: a name from a client is a [`Name`], which no system call can read as a path.
//!   Each is looked up alone, in a directory that is held by descriptor.
//! - `no-follow`: no symbolic link is followed. A file that is opened by name is opened as what it is
//!   (`O_PATH`, `O_NOFOLLOW`, `RESOLVE_NO_SYMLINKS`), and the server resolves `..` itself.
//! - `sealed-handles`: a handle that was not made with the server's secret is refused before any part
//!   of it is used.
//! - `as-caller`: a thread takes the caller's identity before each operation that checks rights, and
//!   never relies on the identity that an earlier call left behind.
//! - `alive`: a file whose last name is gone is stale, even while a descriptor keeps it open.
//! - `nothing-kept`: apart from files, there is no state between calls that a client may rely on;
//!   cached state (descriptors, replies, mounts) can be lost at any time.
//!
//! [`Actors::detect`]: vfs::Actors::detect
//! [`ExportRule`]: exports::ExportRule
//! [`FhKey::load_or_create`]: fh::FhKey::load_or_create
//! [`Name`]: types::Name
//! [`Vfs`]: vfs::Vfs
//! [`Vfs::set_exports`]: vfs::Vfs::set_exports
//! [`Vfs::sweep`]: vfs::Vfs::sweep
//! [`parse_exports`]: exports::parse_exports
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod exports;
mod proc;
mod protocol;
mod server;
mod service;
mod sync;
pub mod vfs;

/// File handles, their parts, and the key that protects them against forgery.
pub mod fh {
    pub use crate::protocol::fh::{
        ExportId, Fh, FhKey, FhParts, MAX_FH_BYTES, MAX_OBJECT_BYTES, ObjectId, Stamp,
    };
}

/// Attributes, names and status codes of the protocol.
pub mod types {
    pub use crate::protocol::attr::{
        Fattr, FileKind, MODE_BITS, NfsTime, Sattr, SetTime, Wcc, WccAttr,
    };
    pub use crate::protocol::name::{MAX_NAME_BYTES, Name};
    pub use crate::protocol::status::{NfsResult, NfsStatus};
}

pub use server::mount::{MOUNT_PROGRAM, MountProgram};
pub use server::nfs3::{NFS_PROGRAM, NR_PROCEDURES, NfsProgram};
pub use service::{NfsConfig, ReadPath};
