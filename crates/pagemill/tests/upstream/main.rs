//! The bugs that Linux shipped in its bulk allocator and around it, one test each, by number.
//!
//! Each says what went wrong there, with the commit that mended it where that is known. Numbers
//! without a test:
//!
//! - 18 (memory that was not accepted or initialised yet was not seen by bulk): all memory is
//!   there from the start.
//! - 20 (the list family was dropped): a decision, not a bug; here both families are kept.
//! - 24 (a page pool refilled its cache while it was not empty): `tests/behaviour.rs` of
//!   `pagemill-pool` has it, and what a pool makes of 10 and 23.
//! - 25 (the single-page path was un-inlined) and 26 (a warning's code at the head of the hot
//!   path): speed, which `ci/instructions.sh` holds to a budget.

mod allocator;
mod users;

use pagemill::{AllocPages, Config, Gfp};
use pagemill_testkit::{Frames, NORMAL, Slots, World, region};

/// Pages that the zone of [`exact`] keeps above its min and low watermarks.
const LOW: u64 = 125;

/// One zone in which a list holds one page, so that every frame's place is known.
fn exact() -> World {
    let world = World::exact();
    let marks = world.frames().zone_info().next().expect("one zone").watermarks;
    assert_eq!((marks.min, marks.low), (100, LOW));
    world
}

fn roomy() -> World {
    let memory = [region(NORMAL, 4096, 0)];
    World::new(&Config::new(&memory, 2))
}

/// Takes pages until `nr_free` are left, whatever the watermarks say.
fn take_until(world: &World, nr_free: u64) -> Slots<'_> {
    let mut taken = Vec::new();
    loop {
        // Asked seldom: it adds up what all lists count. A page from a list leaves the zone as it is.
        let surplus = world.frames().vmstat().nr_free_pages.saturating_sub(nr_free);
        if surplus == 0 {
            break;
        }
        let page = || world.frames().alloc_page(Gfp::KERNEL | Gfp::MEMALLOC);
        taken.extend((0..surplus).map(|_| page()));
    }
    assert_eq!(world.frames().nr_free_pages(), nr_free);
    taken
}

/// Makes slots from a picture: `P` is a page, anything else a hole.
fn slots<'w>(frames: Frames<'w>, picture: &str) -> Slots<'w> {
    let page = |slot| (slot == 'P').then(|| frames.alloc_page(Gfp::KERNEL).expect("a page"));
    picture.chars().map(page).collect()
}

fn picture(slots: &Slots<'_>) -> String {
    slots.iter().map(|slot| if slot.is_some() { 'P' } else { '.' }).collect()
}
