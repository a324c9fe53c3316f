//! What the tests of the pool share.

pub(crate) mod naive;
pub(crate) mod player;

use pagemill_testkit::World;

/// Returns an allocator of two nodes of 8 MiB, which checks at its end that all pages came back; of
/// 2 MiB under Miri, where tests that take all of them would run for minutes.
pub(crate) fn world() -> World {
    World::with_memory(if cfg!(miri) { 1024 } else { 4096 }, 2)
}
