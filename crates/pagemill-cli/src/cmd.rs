//! The commands: from the options to the last line of output.

#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod info;
pub(crate) mod nfsd;
#[cfg(feature = "bench")]
mod peers;
mod progress;
pub(crate) mod xdp;

use pagemill::PageAllocator;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, HostError, allocator};

use crate::usage::UsageError;
use pagemill_bench::Size;

/// Builds an allocator that nobody has used yet.
///
/// # Errors
/// A [`UsageError`] if no machine could have such an arena, else what the system refused.
fn fresh_allocator(arena: ArenaConfig) -> anyhow::Result<PageAllocator<Host>> {
    allocator(&AllocatorConfig::new(arena)).map_err(|error| told(arena, error))
}

/// Says which option was wrong, if one was.
fn told(arena: ArenaConfig, error: HostError) -> anyhow::Error {
    match error {
        HostError::Config(_) | HostError::ArenaLength { .. } | HostError::PfnRange { .. } => {
            UsageError::new(format!("--arena {}: {error}", Size::of(arena.len_bytes))).into()
        }
        _ => error.into(),
    }
}
