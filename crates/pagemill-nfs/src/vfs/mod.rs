//! The exported trees: from a handle and a caller to a file, and everything that can be done to it.
//!
//! Files are held by descriptors that say only which file it is, found by handle and never by a
//! path from outside. Each name is looked up alone in its directory, so there is no path that could
//! lead out of an export. What a caller may do is the kernel's decision: the thread takes the
//! caller's identity for each operation, where the process has the right to.

mod change;
mod closer;
mod data;
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
