//! The commands: from the options to the last line of output.

#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod completions;
mod fresh;
pub(crate) mod info;
pub(crate) mod man;
pub(crate) mod nfsd;
#[cfg(feature = "bench")]
mod peers;
mod progress;
#[cfg(feature = "bench")]
mod saved;
mod status;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod xdp;
