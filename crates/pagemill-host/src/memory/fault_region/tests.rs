//! Regions against a set of the pages that are there.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

use alloc::collections::BTreeSet;
use std::io::Write as _;
use std::thread;

use super::*;

const NR_PAGES: usize = 64;
/// Longest wait for a fault that a thread is about to have.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes a region, unless the kernel has none, which is said.
fn region() -> Option<FaultRegion> {
    region_of(NR_PAGES)
}

fn region_of(nr_pages: usize) -> Option<FaultRegion> {
    match FaultRegion::new(nr_pages) {
        Ok(region) => Some(region),
        Err(error) => {
            // Shown even if tests capture what they print.
            let _told = writeln!(std::io::stderr(), "SKIPPED: fault_region: {error}");
            None
        }
    }
}

/// Returns the bytes of pages whose bytes are all `value`, `value + 1`, and so on.
fn bytes(nr_pages: usize, value: u8) -> Vec<u8> {
    (0..nr_pages * PAGE_SIZE).map(|at| value.wrapping_add((at / PAGE_SIZE) as u8)).collect()
}

#[test]
fn a_reader_waits_for_its_page_and_gets_those_around_it() {
    let Some(region) = region() else { return };
    thread::scope(|scope| {
        let reader = scope.spawn(|| region.read(21 * PAGE_SIZE + 5));
        assert_eq!(region.wait(PATIENCE).unwrap(), Some(21));
        assert_eq!(region.copy(16, &bytes(16, 100)).unwrap(), 16);
        assert_eq!(reader.join().unwrap(), 105);
    });
    // Nobody waits for these.
    assert_eq!((region.read(16 * PAGE_SIZE), region.read(32 * PAGE_SIZE - 1)), (100, 115));
    assert_eq!(region.wait(Duration::ZERO).unwrap(), None);
}

/// One step of 2,000: pages that are there stay as they are, and all others get what is supplied.
#[test]
fn pages_equal_a_naive_table() {
    let Some(region) = region() else { return };
    let mut model = [None; NR_PAGES];
    let mut random = 1_u64;
    let mut below = |end: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % end
    };
    for step in 0..2000 {
        let first = below(NR_PAGES);
        let nr = below(NR_PAGES - first + 1);
        let nr_missing = model[first..first + nr].iter().filter(|page| page.is_none()).count();
        let value = below(256) as u8;
        match below(20) {
            0 => {
                region.clear().unwrap();
                model = [None; NR_PAGES];
            }
            1..10 => {
                assert_eq!(region.zero(first, nr).unwrap(), nr_missing, "step {step}");
                model[first..first + nr].iter_mut().for_each(|page| *page = page.or(Some(0)));
            }
            _ => {
                assert_eq!(
                    region.copy(first, &bytes(nr, value)).unwrap(),
                    nr_missing,
                    "step {step}"
                );
                for (page, index) in model[first..first + nr].iter_mut().zip(0_u8..) {
                    *page = page.or(Some(value.wrapping_add(index)));
                }
            }
        }
        for (page, wanted) in model.iter().enumerate() {
            let Some(wanted) = wanted else { continue };
            assert_eq!(region.read(page * PAGE_SIZE + below(PAGE_SIZE)), *wanted, "step {step}");
        }
    }
}

#[test]
fn several_threads_supply_the_same_pages_once() {
    let Some(region) = region() else { return };
    for _ in 0..100 {
        let nr_supplied: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|first| {
                    scope.spawn({
                        let region = &region;
                        move || region.copy(first, &bytes(NR_PAGES - first, first as u8)).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(nr_supplied, NR_PAGES);
        let pages: BTreeSet<_> = (0..NR_PAGES).map(|page| region.read(page * PAGE_SIZE)).collect();
        assert_eq!(pages.len(), NR_PAGES, "each page has the number that it has in all copies");
        region.clear().unwrap();
    }
}

#[test]
fn each_page_is_reported_whoever_waits() {
    let Some(region) = region() else { return };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|page| {
                scope.spawn({
                    let region = &region;
                    move || region.read(page * PAGE_SIZE)
                })
            })
            .collect();
        let mut reported = BTreeSet::new();
        while reported.len() < 4 {
            reported.extend(region.wait(PATIENCE).unwrap());
        }
        assert_eq!(reported, BTreeSet::from([0, 1, 2, 3]));
        assert_eq!(region.zero(0, 4).unwrap(), 4);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == 0));
    });
}

#[test]
fn messages_about_anything_else_are_no_faults() {
    let Some(region) = region() else { return };
    let base = region.mapping.base().addr().get() as u64;
    let message = |event: u8, address: u64| {
        let mut message = [0; MESSAGE_BYTES];
        message[0] = event;
        message[ADDRESS_AT..ADDRESS_AT + 8].copy_from_slice(&address.to_ne_bytes());
        region.page_of(&message)
    };
    let end = base + (NR_PAGES * PAGE_SIZE) as u64;
    assert_eq!(message(EVENT_PAGEFAULT, base), Some(0));
    assert_eq!(message(EVENT_PAGEFAULT, end - 1), Some(NR_PAGES - 1));
    assert_eq!(message(EVENT_PAGEFAULT, end), None);
    assert_eq!(message(EVENT_PAGEFAULT, base - 1), None);
    assert_eq!(message(EVENT_PAGEFAULT + 1, base), None);
}

#[test]
fn regions_that_cannot_be_mapped_say_so() {
    for nr_pages in [0, usize::MAX / PAGE_SIZE, usize::MAX] {
        let error = FaultRegion::new(nr_pages).unwrap_err().to_string();
        assert!(error.starts_with("cannot map a fault region: "), "{error}");
    }
}

#[test]
#[should_panic(expected = "byte 262144 of a region of 262144 bytes")]
fn bytes_behind_the_end_are_refused() {
    let Some(region) = region() else { panic!("byte 262144 of a region of 262144 bytes") };
    let _byte = region.read(NR_PAGES * PAGE_SIZE);
}

#[test]
#[should_panic(expected = "pages 60..70 of 64")]
fn pages_behind_the_end_are_refused() {
    let Some(region) = region() else { panic!("pages 60..70 of 64") };
    let _supplied = region.zero(60, 10);
}

mod moves;
