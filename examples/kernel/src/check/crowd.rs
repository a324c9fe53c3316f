//! All CPUs at once, under interrupts, passing pages to each other.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use pagemill::{AllocPages, Gfp, PageList};

use crate::frames::{FRAMES, Frame};
use crate::lock::SpinLock;
use crate::random::Random;
use crate::tenant::{self, Tally};
use crate::{content, lapic, reentry, smp};

/// Rounds of each CPU.
const ROUNDS: u64 = 400;
/// Most pages that a CPU holds.
const NR_SLOTS: usize = 700;
/// Places where pages change hands.
const NR_PLACES: usize = 64;

/// Pages that one CPU leaves for another to take.
static EXCHANGE: [SpinLock<Option<Frame>>; NR_PLACES] = [const { SpinLock::new(None) }; NR_PLACES];
/// Pages that were taken by a CPU that had not allocated them, or not lately.
static EXCHANGED: AtomicU64 = AtomicU64::new(0);

/// Whom the marks in the pages of this check name.
const OWNER: u64 = 4;

/// Lets all CPUs work.
pub(super) fn check() {
    let before = Tally::now();
    lapic::begin_storm();
    smp::on_all(work);
    smp::on_all(|_| lapic::end_storm());
    for place in &EXCHANGE {
        if let Some(page) = place.lock().take() {
            content::check(&page, OWNER);
        }
    }
    tenant::evict();
    let tally = before.since();
    assert!(tally.denied == 0, "{tally:?}");
    println!(
        "{} CPUs, {} pages exchanged, {} interrupts, {} inside the lists",
        smp::nr_cpus(),
        // Relaxed: the CPUs have been waited for.
        EXCHANGED.load(Ordering::Relaxed),
        tally.interrupts,
        tally.inside
    );
}

/// What each CPU does: in turns by array, by list and one by one.
fn work(number: u32) {
    let mut random = Random::new(u64::from(number) + 7);
    let mut slots: Vec<Option<Frame>> = (0..NR_SLOTS).map(|_| None).collect();
    lapic::rearm();
    for round in 0..ROUNDS {
        reentry::set(random.below(4) == 0);
        let nr = 1 + random.length_below(NR_SLOTS);
        take(&mut slots[..nr], round);
        for page in slots[..nr].iter_mut().flatten() {
            content::mark(page, OWNER);
        }
        for slot in &mut slots[..nr] {
            if random.below(8) == 0 {
                exchange(slot, random.length_below(NR_PLACES));
            }
        }
        slots[..nr].iter().flatten().for_each(|page| content::check(page, OWNER));
        if round % 2 == 0 {
            FRAMES.release_pages(&mut slots[..nr]);
        } else {
            slots[..nr].fill_with(|| None);
        }
    }
    reentry::set(false);
}

fn take(slots: &mut [Option<Frame>], round: u64) {
    match round % 3 {
        0 => {
            FRAMES.alloc_pages_bulk(Gfp::KERNEL, slots);
        }
        1 => {
            let mut list = PageList::new(FRAMES);
            FRAMES.alloc_pages_bulk_list(Gfp::KERNEL, slots.len(), &mut list);
            slots.iter_mut().zip(list).for_each(|(slot, page)| *slot = Some(page));
        }
        _ => slots.fill_with(|| FRAMES.alloc_page(Gfp::KERNEL)),
    }
    assert!(slots.iter().all(Option::is_some), "no slot stays empty in round {round}");
}

fn exchange(slot: &mut Option<Frame>, place: usize) {
    core::mem::swap(slot, &mut EXCHANGE[place].lock());
    // Relaxed: a count.
    EXCHANGED.fetch_add(u64::from(slot.is_some()), Ordering::Relaxed);
}
