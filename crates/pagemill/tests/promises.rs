//! What requests promise, one test for each promise that was once broken.

extern crate alloc;

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use common::world::{Frames, World, pages, region};
use pagemill::{AllocPages, BulkRequest, Config, Effort, Folio, Gfp, Shortage};

/// First frame above 4 GiB.
const NORMAL: u64 = 1 << 20;

/// The larger pieces were handed over before it was known that the rest could not be had.
#[test]
fn all_or_nothing_holds_for_extents_too() {
    let memory = [region(NORMAL, 64, 0)];
    let world = World::new(&Config { min_free_bytes: Some(pages(8)), ..Config::new(&memory, 1) });
    let all = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) };
    let mut pieces: Vec<Folio<Frames<'_>>> = Vec::new();
    let outcome = world.frames().bulk_extents(&all, 63, |piece| pieces.push(piece));
    assert_eq!((outcome.new, outcome.short), (0, Some(Shortage::Memory)));
    assert!(pieces.is_empty());
    let outcome = world.frames().bulk_extents(&all, 55, |piece| pieces.push(piece));
    assert_eq!((outcome.new, outcome.short), (55, None));
}
