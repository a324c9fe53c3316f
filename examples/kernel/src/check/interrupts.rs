//! Interrupt handlers allocate, wherever they hit: at random moments, and at the worst ones.

use alloc::vec::Vec;

use pagemill::{AllocPages, Gfp};

use crate::frames::{FRAMES, Frame};
use crate::tenant::{self, Tally};
use crate::{content, cpu, lapic, reentry};

/// Interrupts that the storm goes on for.
const STORM: u64 = 1000;
/// Rounds after which a storm without interrupts is a failure.
const ROUNDS_MAX: u64 = 1_000_000;
/// Pages taken at once where zones are to be locked: more than a CPU's list holds.
const MANY: usize = 3000;

/// Runs the loops that are interrupted.
pub(super) fn check() {
    let storm = storm();
    let worst = at_every_zone_lock();
    tenant::evict();
    println!(
        "{} at random, {} of them inside the lists; {} as a zone was to be locked, {} inside",
        storm.interrupts, storm.inside, worst.interrupts, worst.inside
    );
}

/// Allocates and frees in bulk while the timer's handler does, too.
fn storm() -> Tally {
    let before = Tally::now();
    lapic::begin_storm();
    lapic::rearm();
    let mut slots = [const { None }; 64];
    let mut rounds = 0;
    while before.since().interrupts < STORM {
        take_check_release(&mut slots);
        let kept = cpu::through_vector_register(rounds, 10_000);
        assert!(kept == rounds, "a handler left {kept:#x} in a register");
        rounds += 1;
        assert!(rounds < ROUNDS_MAX, "{} timer interrupts", before.since().interrupts);
    }
    lapic::end_storm();
    let storm = before.since();
    assert!(storm.denied == 0 && storm.allocated > 0, "{storm:?}");
    storm
}

/// Interrupts itself each time the lists are about to be filled from a zone or emptied into it.
fn at_every_zone_lock() -> Tally {
    let mut slots: Vec<Option<Frame>> = (0..MANY).map(|_| None).collect();
    let before = Tally::now();
    reentry::set(true);
    for _ in 0..10 {
        take_check_release(&mut slots);
    }
    for slot in &mut slots {
        *slot = FRAMES.alloc_page(Gfp::KERNEL);
    }
    slots.fill_with(|| None);
    reentry::set(false);
    let worst = before.since();
    assert!(worst.inside > 0 && worst.inside == worst.interrupts, "all inside: {worst:?}");
    assert!(worst.denied == 0 && worst.allocated > 0 && worst.freed > 0, "{worst:?}");
    worst
}

fn take_check_release(slots: &mut [Option<Frame>]) {
    const OWNER: u64 = 3;
    let filled = FRAMES.alloc_pages_bulk(Gfp::KERNEL, slots);
    assert!(filled == slots.len(), "{filled} of {} slots are filled", slots.len());
    for page in slots.iter_mut().flatten() {
        content::mark(page, OWNER);
    }
    slots.iter().flatten().for_each(|page| content::check(page, OWNER));
    FRAMES.release_pages(slots);
}
