//! Pages that are moved into regions and out again, against a table of all bytes.

use std::sync::Barrier;

use super::*;
use crate::memory::arena::{ArenaConfig, HugePages};

/// Pages of the arena: two huge pages.
const NR_HOMES: usize = 1024;

/// An arena whose bytes the test owns.
struct Memory {
    arena: Arena,
}

impl Memory {
    fn new(huge: HugePages) -> Self {
        let config = ArenaConfig { huge, ..ArenaConfig::new((NR_HOMES * PAGE_SIZE) as u64) };
        Self { arena: Arena::map(&config).unwrap() }
    }

    /// Returns all bytes.
    fn bytes(&mut self) -> &mut [u8] {
        let (base, len_bytes) = (self.arena.base(), self.arena.len_bytes());
        // SAFETY:
        // 1. The arena is mapped, initialised and writable (`arena-initialised`).
        // 2. This borrows the only way to its bytes.
        unsafe { core::slice::from_raw_parts_mut(base.as_ptr(), len_bytes) }
    }

    /// Returns the bytes of some pages.
    fn pages(&mut self, pages: core::ops::Range<usize>) -> &mut [u8] {
        &mut self.bytes()[pages.start * PAGE_SIZE..pages.end * PAGE_SIZE]
    }
}

/// Makes a region to which pages can be moved, unless the kernel has none, which is said.
fn region() -> Option<FaultRegion> {
    region_of(NR_PAGES)
}

fn region_of(nr_pages: usize) -> Option<FaultRegion> {
    let region = super::region_of(nr_pages)?;
    if !region.can_move {
        let _told = writeln!(std::io::stderr(), "SKIPPED: fault_region moves: before Linux 6.8");
        return None;
    }
    Some(region)
}

#[test]
fn a_reader_waits_for_a_page_that_is_moved() {
    let Some(region) = region() else { return };
    let mut memory = Memory::new(HugePages::Never);
    region.lend(&memory.arena).unwrap();
    memory.pages(8..24).copy_from_slice(&bytes(16, 100));
    thread::scope(|scope| {
        let reader = scope.spawn(|| region.read(21 * PAGE_SIZE + 5));
        assert_eq!(region.wait(PATIENCE).unwrap(), Some(21));
        assert_eq!(region.move_in(16, memory.pages(8..24)).unwrap(), 16);
        assert_eq!(reader.join().unwrap(), 105);
    });
    assert_eq!((region.read(16 * PAGE_SIZE), region.read(32 * PAGE_SIZE - 1)), (100, 115));
    assert_eq!(region.move_out(16, memory.pages(8..24)).unwrap(), 16);
    assert_eq!(memory.pages(8..24), bytes(16, 100));
    // They are missing again.
    assert_eq!(region.zero(16, 16).unwrap(), 16);
}

/// One step of 4,000: what is where equals two tables, pages without memory included.
#[test]
fn moves_equal_naive_tables() {
    const NR: usize = 64;

    let Some(region) = region() else { return };
    let mut memory = Memory::new(HugePages::Never);
    region.lend(&memory.arena).unwrap();
    let mut inside: [Option<u8>; NR_PAGES] = [None; NR_PAGES];
    // A page that was never touched, or was moved, has no memory.
    let mut homes: [Option<u8>; NR] = [None; NR];
    let mut random = 7_u64;
    let mut below = |end: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % end
    };
    for step in 0..4000 {
        let (first, at) = (below(NR_PAGES), below(NR));
        let nr = below(NR_PAGES.min(NR) - first.max(at) + 1).min(12);
        let pairs = inside[first..first + nr].iter_mut().zip(&mut homes[at..at + nr]);
        let home = memory.pages(at..at + nr);
        match below(12) {
            0 => {
                region.clear().unwrap();
                inside = [None; NR_PAGES];
            }
            1..6 => {
                let moved = region.move_in(first, home).unwrap();
                let mut wanted = 0;
                for (page, home) in pairs.filter(|(page, _)| page.is_none()) {
                    *page = Some(home.take().unwrap_or(0));
                    wanted += 1;
                }
                assert_eq!(moved, wanted, "step {step}");
            }
            6..10 => {
                let moved = region.move_out(first, home).unwrap();
                let mut wanted = 0;
                for (page, home) in pairs.filter(|(page, home)| page.is_some() && home.is_none()) {
                    *home = page.take();
                    wanted += 1;
                }
                assert_eq!(moved, wanted, "step {step}");
            }
            _ => {
                let value = below(256) as u8;
                home.fill(value);
                homes[at..at + nr].fill(Some(value));
            }
        }
        for (page, wanted) in inside.iter().enumerate() {
            let Some(wanted) = wanted else { continue };
            assert_eq!(region.read(page * PAGE_SIZE + below(PAGE_SIZE)), *wanted, "step {step}");
        }
        // A page without memory would have some after this.
        for (page, wanted) in homes.iter().enumerate() {
            let Some(wanted) = wanted else { continue };
            let byte = memory.pages(page..page + 1)[below(PAGE_SIZE)];
            assert_eq!(byte, *wanted, "step {step}");
        }
    }
    for (page, wanted) in homes.iter().enumerate() {
        let bytes = memory.pages(page..page + 1);
        assert!(bytes.iter().all(|byte| *byte == wanted.unwrap_or(0)), "page {page}");
    }
}

#[test]
fn a_huge_page_moves_in_and_out() {
    let Some(region) = region_of(NR_HOMES) else { return };
    let mut memory = Memory::new(HugePages::Transparent);
    region.lend(&memory.arena).unwrap();
    memory.bytes().copy_from_slice(&bytes(NR_HOMES, 3));
    for _ in 0..3 {
        assert_eq!(region.move_in(512, memory.pages(0..512)).unwrap(), 512);
        assert_eq!(region.read(512 * PAGE_SIZE), 3);
        assert_eq!(region.read(NR_HOMES * PAGE_SIZE - 1), 3_u8.wrapping_add(255));
        assert_eq!(region.move_out(512, memory.pages(0..512)).unwrap(), 512);
        // And a part of it, which splits it.
        assert_eq!(region.move_in(5, memory.pages(9..10)).unwrap(), 1);
        assert_eq!(region.move_out(5, memory.pages(9..10)).unwrap(), 1);
    }
    assert_eq!(memory.bytes(), bytes(NR_HOMES, 3));
}

#[test]
fn a_place_that_was_touched_keeps_its_page() {
    let Some(region) = region() else { return };
    let mut memory = Memory::new(HugePages::Never);
    region.lend(&memory.arena).unwrap();
    memory.pages(0..1).fill(1);
    assert_eq!(region.move_in(0, memory.pages(0..1)).unwrap(), 1);
    assert_eq!(memory.pages(0..1)[17], 0);
    assert_eq!(region.move_out(0, memory.pages(0..1)).unwrap(), 0);
    assert_eq!((region.read(17), memory.pages(0..1)[17]), (1, 0));
}

#[test]
fn several_threads_move_into_the_same_pages_once() {
    let Some(region) = region() else { return };
    let mut memory = Memory::new(HugePages::Never);
    for round in 0..50 {
        memory.bytes().fill(1);
        let barrier = Barrier::new(3);
        let homes = memory.pages(0..3 * NR_PAGES).chunks_exact_mut(NR_PAGES * PAGE_SIZE);
        let moved: Vec<usize> = thread::scope(|scope| {
            let move_in = |home: &mut [u8]| {
                barrier.wait();
                region.move_in(0, home).unwrap()
            };
            let threads: Vec<_> = homes.map(|home| scope.spawn(move || move_in(home))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(moved.iter().sum::<usize>(), NR_PAGES, "round {round}");
        // Who came second has its bytes.
        let nr_left = memory.pages(0..3 * NR_PAGES).iter().step_by(PAGE_SIZE);
        assert_eq!(nr_left.filter(|byte| **byte == 1).count(), 2 * NR_PAGES, "round {round}");
        region.clear().unwrap();
    }
}

#[test]
fn memory_that_cannot_be_moved_says_why() {
    let Some(region) = region() else { return };
    let memory = Memory::new(HugePages::Never);
    region.lend(&memory.arena).unwrap();
    // Again is the same.
    region.lend(&memory.arena).unwrap();
    let other = FaultRegion::new(1).unwrap();
    let error = other.lend(&memory.arena).unwrap_err().to_string();
    assert!(error.contains("that belongs to another region cannot be moved: copy it"), "{error}");
    drop(region);
    other.lend(&memory.arena).unwrap();

    let memfd = Arena::map(&ArenaConfig {
        backing: Backing::Memfd,
        huge: HugePages::Never,
        ..ArenaConfig::new(PAGE_SIZE as u64)
    });
    let error = other.lend(&memfd.unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("cannot lend an arena to a fault region: "), "{error}");
    assert!(error.contains("pages can be moved if they are anonymous memory"), "{error}");
}

#[test]
fn pages_return_to_lent_arenas_only() {
    let Some(region) = region() else { return };
    let mut memory = Memory::new(HugePages::Never);
    memory.pages(0..1).fill(1);
    assert_eq!(region.move_in(0, memory.pages(0..1)).unwrap(), 1);
    let error = region.move_out(0, memory.pages(0..1)).unwrap_err().to_string();
    assert!(error.starts_with("cannot move pages out of a fault region: "), "{error}");
    assert!(error.contains("moved out to an arena that was lent to the region"), "{error}");
    region.lend(&memory.arena).unwrap();
    assert_eq!(region.move_out(0, memory.pages(0..1)).unwrap(), 1);
    assert_eq!(memory.pages(0..1)[0], 1);
}

#[test]
fn arenas_and_regions_end_in_any_order() {
    let Some(region) = region() else { return };
    let mut memory = Memory::new(HugePages::Never);
    region.lend(&memory.arena).unwrap();
    memory.pages(0..2).fill(9);
    assert_eq!(region.move_in(0, memory.pages(0..2)).unwrap(), 2);
    drop(memory);
    assert_eq!(region.read(PAGE_SIZE), 9);
    let mut memory = Memory::new(HugePages::Never);
    region.lend(&memory.arena).unwrap();
    assert_eq!(region.move_out(0, memory.pages(4..6)).unwrap(), 2);
    assert_eq!(region.move_in(0, memory.pages(4..6)).unwrap(), 2);
    drop(region);
    assert!(memory.bytes().iter().all(|byte| *byte == 0), "pages left with the region");
}

#[test]
#[should_panic(expected = "are no whole pages")]
fn parts_of_pages_are_refused() {
    let Some(region) = region() else { panic!("are no whole pages") };
    let mut memory = Memory::new(HugePages::Never);
    let _moved = region.move_in(0, &mut memory.bytes()[1..=PAGE_SIZE]);
}
