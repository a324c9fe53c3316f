//! A library that uses pages and may be unloaded at any time: `tests/unload.rs` does that.

use pagemill::{AllocPages, Gfp};
use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

/// Allocates and frees `nr_pages` pages one after the other, from an allocator of its own, and returns how
/// many there were.
#[unsafe(no_mangle)]
pub extern "C" fn pagemill_plugin_churn(nr_pages: u64) -> u64 {
    let Ok(frames) = allocator(&AllocatorConfig::new(ArenaConfig::new(4 << 20))) else { return 0 };
    let mut got = 0;
    for _ in 0..nr_pages {
        got += u64::from((&frames).alloc_page(Gfp::KERNEL).is_some());
    }
    got
}
