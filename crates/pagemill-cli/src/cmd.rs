//! The commands: from the options to the last line of output.

pub(crate) mod bench;
pub(crate) mod info;
pub(crate) mod nfsd;
mod peers;
pub(crate) mod xdp;

use pagemill::PageAllocator;
use pagemill_host::{
    AllocatorConfig, ArenaConfig, Host, HostError, Traced, Tracer, allocator, traced_allocator,
};

use crate::usage::UsageError;
use pagemill_bench::Size;

/// Builds an allocator that nobody has used yet.
///
/// # Errors
/// A [`UsageError`] if no machine could have such an arena, else what the system refused.
fn fresh_allocator(arena: ArenaConfig) -> anyhow::Result<PageAllocator<Host>> {
    allocator(&AllocatorConfig::new(arena)).map_err(|error| told(arena, error))
}

/// As [`fresh_allocator`], and tells `tracer` what happens in it.
///
/// # Errors
/// As [`fresh_allocator`].
fn traced<T: Tracer>(arena: ArenaConfig, tracer: T) -> anyhow::Result<PageAllocator<Traced<T>>> {
    let traced = traced_allocator(&AllocatorConfig::new(arena), tracer);
    traced.map_err(|error| told(arena, error))
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
