//! The commands: from the options to the last line of output.

pub(crate) mod bench;
pub(crate) mod info;

use pagemill::PageAllocator;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, HostError, allocator};

use crate::size::Size;
use crate::usage::UsageError;

/// Builds an allocator that nobody has used yet.
///
/// # Errors
/// A [`UsageError`] if no machine could have such an arena, else what the system refused.
fn fresh_allocator(arena: ArenaConfig) -> anyhow::Result<PageAllocator<Host>> {
    allocator(&AllocatorConfig::new(arena)).map_err(|error| match error {
        HostError::Config(_) | HostError::ArenaLength { .. } | HostError::PfnRange { .. } => {
            UsageError::new(format!("--arena {}: {error}", Size::of(arena.len_bytes))).into()
        }
        _ => error.into(),
    })
}
