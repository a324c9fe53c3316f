//! Exported trees: resolves handles for callers, and carries out all operations on files.
//!
//! Each file is held by a descriptor that only identifies it, found by handle and never by a path from
//! a client. Each name is looked up alone in its directory, so no path can lead out of an export. The
//! kernel decides what a caller may do: if the process has the right to, the thread takes the caller's
//! identity for each operation.

mod change;
mod change_sync;
mod closer;
mod data;
mod durability;
mod export;
mod finder;
mod list;
mod mounted;
mod names;
mod naming;
mod node;
mod refusal;
mod search;
mod stats;
mod table;
mod turns;
mod verifier;
#[expect(clippy::module_inception, reason = "the type `Vfs`, beside what it consists of")]
mod vfs;

pub use change::{Changed, Created, Device, HowToCreate};
pub use data::{Committed, DataRange, Stability};
pub use export::{Export, ExportTable, VfsError};
pub use list::{Listed, MAX_LIST_BYTES};
pub use mounted::HandleLife;
pub use names::{ACCESS_ALL, FsInfo, FsStat, PathConf};
pub use node::MAX_DESCRIPTORS_PER_FILE;
pub use refusal::MountRefusal;
pub use stats::ExportStats;
pub(crate) use turns::Turn;
pub use vfs::{Actors, Caller, Object, Vfs, VfsConfig};
