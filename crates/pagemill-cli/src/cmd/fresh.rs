//! Allocators that are made for one command.

use pagemill::PageAllocator;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, HostError, allocator};

use crate::usage::UsageError;
use pagemill_bench::Size;

/// Builds an allocator that nobody has used yet.
///
/// # Errors
/// A [`UsageError`] if no machine could have such an arena, else what the system refused.
pub(super) fn fresh_allocator(arena: ArenaConfig) -> anyhow::Result<PageAllocator<Host>> {
    allocator(&AllocatorConfig::new(arena)).map_err(|error| told(arena, error))
}

/// Says which option was wrong, if one was.
pub(super) fn told(arena: ArenaConfig, error: HostError) -> anyhow::Error {
    match error {
        HostError::Config(_) | HostError::ArenaLength { .. } | HostError::PfnRange { .. } => {
            UsageError::new(format!("--arena {}: {error}", Size::of(arena.len_bytes))).into()
        }
        _ => error.into(),
    }
}
