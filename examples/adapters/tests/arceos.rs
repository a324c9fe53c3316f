//! The adapter for ArceOS: what `axallocator`'s own tests check, and random calls beside its bitmap.

use axallocator::{
    AllocError, BaseAllocator, BitmapPageAllocator, ByteAllocator, PageAllocator, TlsfByteAllocator,
};
use core::alloc::Layout;
use pagemill::machine::DirectMap;
use pagemill::units::PAGE_SIZE;
use pagemill::{Config, Gfp};
use pagemill_adapters::arceos::ArceosPages;
use pagemill_testkit::{Frames, Rng, World, region, reserved};

/// Builds a machine whose frames are all reserved and can all be handed out.
fn world(first: u64, nr: u64) -> World {
    let (memory, reserved) = ([region(first, nr, 0)], [reserved(first, nr)]);
    World::new(&Config {
        reserved: &reserved,
        zone_dma32: false,
        min_free_bytes: Some(0),
        watermark_scale_factor: 0,
        // As the bitmap: a list would hand the page freed last to the next that wants one, wherever it is.
        pcp_high: Some(1),
        ..Config::new(&memory, 1)
    })
}

/// Makes the adapter, with all of the world's memory added.
fn pages_of(world: &World, first: u64, nr: u64) -> ArceosPages<Frames<'_>> {
    let mut pages = empty(world);
    pages.init(address(first), address(nr));
    (0..nr).for_each(|_| world.hand_in());
    pages
}

fn empty(world: &World) -> ArceosPages<Frames<'_>> {
    // SAFETY: 1., 2. the tests free what they allocated, and add the reserved memory once.
    unsafe { ArceosPages::new(world.frames(), Gfp::KERNEL, 0) }
}

fn address(pfn: u64) -> usize {
    usize::try_from(pfn).expect("64 bits") * PAGE_SIZE
}

/// Checks the three counters.
fn assert_counts(pages: &impl PageAllocator, total: usize, used: usize) {
    let counts = (pages.total_pages(), pages.used_pages(), pages.available_pages());
    assert_eq!(counts, (total, used, total - used));
}

/// As `axallocator`'s test of one page: there the page is the first of the memory, too.
#[test]
fn the_only_page_is_allocated_and_freed_again_and_again() {
    let world = world(1, 1);
    let mut pages = pages_of(&world, 1, 1);
    assert_counts(&pages, 1, 0);
    for _ in 0..3 {
        assert_eq!(pages.alloc_pages(1, PAGE_SIZE).unwrap(), 0x1000);
        assert_counts(&pages, 1, 1);
        assert!(matches!(pages.alloc_pages(1, PAGE_SIZE), Err(AllocError::NoMemory)));
        pages.dealloc_pages(0x1000, 1);
        assert_counts(&pages, 1, 0);
    }
}

/// As `axallocator`'s test of 2 GiB that begin one page behind a multiple of 1 GiB. That test expects the
/// lowest address, which the trait does not promise; this one expects the alignment.
#[test]
fn ranges_of_all_sizes_and_alignments_are_counted() {
    let (first, nr) = ((1 << 18) + 1, 2 << 18);
    let world = world(first, nr);
    let mut pages = pages_of(&world, first, nr);
    let total = pages.total_pages();
    assert_counts(&pages, 2 << 18, 0);
    let mut held = Vec::new();
    let mut used = 0;
    for (len, align) in SIZES {
        let start = pages.alloc_pages(len, align).unwrap();
        assert!(start.is_multiple_of(align), "{start:#x} is no multiple of {align:#x}");
        assert!(start >= address(first) && start + len * PAGE_SIZE <= address(first + nr));
        used += len;
        assert_counts(&pages, total, used);
        held.push((start, len));
    }
    for (start, len) in held {
        pages.dealloc_pages(start, len);
        used -= len;
        assert_counts(&pages, total, used);
    }
}

/// Number of pages and alignment in bytes.
const SIZES: [(usize, usize); 7] = [
    (1, PAGE_SIZE),
    (10, PAGE_SIZE),
    (100, PAGE_SIZE),
    (1000, PAGE_SIZE),
    (1, PAGE_SIZE),
    (10, PAGE_SIZE << 9),
    (100, PAGE_SIZE << 18),
];

#[test]
fn wrong_arguments_are_refused_as_by_the_bitmap() {
    let world = world(0, 64);
    let mut ours = pages_of(&world, 0, 64);
    let mut bitmap = BitmapPageAllocator::<PAGE_SIZE>::new();
    bitmap.init(0, address(64));
    for (nr, align) in [(1, 1), (1, 0), (1, PAGE_SIZE - 1), (1, 3 * PAGE_SIZE), (0, PAGE_SIZE)] {
        let error = |result| match result {
            Err(AllocError::InvalidParam) => "invalid",
            _ => "something else",
        };
        assert_eq!(error(ours.alloc_pages(nr, align)), "invalid", "{nr} {align}");
        // The bitmap counts the alignment zero as one.
        if align != 0 {
            assert_eq!(error(bitmap.alloc_pages(nr, align)), "invalid", "{nr} {align}");
        }
    }
    assert!(matches!(ours.alloc_pages(65, PAGE_SIZE), Err(AllocError::NoMemory)));
    assert!(matches!(bitmap.alloc_pages(65, PAGE_SIZE), Err(AllocError::NoMemory)));
    assert_counts(&ours, 64, 0);
}

#[test]
fn memory_outside_of_the_map_is_refused() {
    let world = world(1 << 20, 64);
    let mut pages = empty(&world);
    assert!(matches!(pages.add_memory(0, address(64)), Err(AllocError::InvalidParam)));
    assert_counts(&pages, 0, 0);
}

#[test]
#[should_panic(expected = "no page begins at 0x1001")]
fn an_address_within_a_page_is_not_freed() {
    let world = world(1, 1);
    pages_of(&world, 1, 1).dealloc_pages(0x1001, 1);
}

/// Random calls, the same for both. A range that only one of the two gives is given back at once, so both
/// hold ranges of the same lengths all the time.
#[test]
fn random_calls_get_what_the_bitmap_gives() {
    const NR: usize = 1 << 13;
    let mut nr_refused = [0; 2];
    for seed in 0..20 {
        let world = world(1 << 18, NR as u64);
        let mut ours = pages_of(&world, 1 << 18, NR as u64);
        let mut bitmap = BitmapPageAllocator::<PAGE_SIZE>::new();
        bitmap.init(address(1 << 18), NR * PAGE_SIZE);
        let mut rng = Rng::new(seed);
        let mut is_used = vec![false; NR];
        let mut held: Vec<(usize, usize, usize)> = Vec::new();
        for _ in 0..2000 {
            let bits = rng.below(8);
            let len = 1 + rng.below(1 << bits);
            // For a single page, the bitmap ignores the alignment.
            let align = if len == 1 { PAGE_SIZE } else { PAGE_SIZE << rng.below(6) };
            if rng.chance(60) {
                let one = ours.alloc_pages(len, align);
                let other = bitmap.alloc_pages(len, align);
                match (one, other) {
                    (Ok(one), Ok(other)) => {
                        assert!(one.is_multiple_of(align), "seed {seed}: {one:#x}, {align:#x}");
                        mark(&mut is_used, one, len, true);
                        held.push((one, other, len));
                    }
                    (Ok(one), Err(_)) => {
                        nr_refused[1] += 1;
                        ours.dealloc_pages(one, len);
                    }
                    (Err(_), Ok(other)) => {
                        nr_refused[0] += 1;
                        bitmap.dealloc_pages(other, len);
                    }
                    (Err(_), Err(_)) => {}
                }
            } else if !held.is_empty() {
                // A part of a range, or all of it.
                let at = rng.below(held.len());
                let (one, other, len) = held.swap_remove(at);
                let part = 1 + rng.below(len);
                ours.dealloc_pages(one, part);
                bitmap.dealloc_pages(other, part);
                mark(&mut is_used, one, part, false);
                if part < len {
                    let bytes = part * PAGE_SIZE;
                    held.push((one + bytes, other + bytes, len - part));
                }
            }
            assert_counts(&ours, bitmap.total_pages(), bitmap.used_pages());
        }
        for (one, _, len) in held {
            ours.dealloc_pages(one, len);
        }
    }
    let [ours, bitmap] = nr_refused;
    assert!(ours <= bitmap, "refused by one only: {ours} by pagemill, {bitmap} by the bitmap");
}

/// Marks frames as used or free, each of which was not before.
fn mark(is_used: &mut [bool], start: usize, len: usize, use_them: bool) {
    let first = start / PAGE_SIZE - (1 << 18);
    for frame in &mut is_used[first..first + len] {
        assert_ne!(*frame, use_them, "page {start:#x} + {len}");
        *frame = use_them;
    }
}

/// ArceOS' heap: whenever it is full, it asks for as much as it has, or for half of that, down to one
/// page.
#[test]
fn a_heap_that_doubles_reaches_all_memory() {
    const NR: usize = 64 << 20 >> 12;
    let world = World::with_memory(NR as u64, 1);
    let base = World::BASE;
    let direct_map = world.platform().frame_ptr(base).addr().get() - address(base.value());
    // SAFETY: 1., 2. the test frees what it allocated, and adds no memory.
    let mut pages = unsafe { ArceosPages::new(world.frames(), Gfp::KERNEL, direct_map) };
    let mut heap = TlsfByteAllocator::new();
    let mut pieces = Vec::new();
    let mut grow = |heap: &mut TlsfByteAllocator, wanted: usize| {
        let mut nr = wanted;
        while nr > 0 {
            if let Ok(start) = pages.alloc_pages(nr, PAGE_SIZE) {
                pieces.push((start, nr));
                return if pieces.len() == 1 {
                    heap.init(start, nr * PAGE_SIZE);
                    true
                } else {
                    heap.add_memory(start, nr * PAGE_SIZE).is_ok()
                };
            }
            nr /= 2;
        }
        false
    };
    assert!(grow(&mut heap, 8));
    let object = Layout::from_size_align(2000, 8).unwrap();
    let mut nr_objects = 0;
    loop {
        if heap.alloc(object).is_ok() {
            nr_objects += 1;
        } else {
            let nr_now = heap.total_bytes() / PAGE_SIZE;
            if !grow(&mut heap, nr_now) {
                break;
            }
        }
    }
    let nr_pages: usize = pieces.iter().map(|(_, nr)| nr).sum();
    // It doubled beyond the largest block of a buddy allocator.
    assert!(pieces.iter().any(|&(_, nr)| nr >= NR / 4), "{pieces:?}");
    // The zone keeps its min watermark and the like.
    assert!(nr_pages * 100 >= NR * 96, "{nr_pages} of {NR} pages: {pieces:?}");
    assert!(nr_objects * 2000 >= NR * PAGE_SIZE / 100 * 90);
    for (start, nr) in pieces {
        pages.dealloc_pages(start, nr);
    }
}

#[test]
fn memory_is_filled_with_ranges_of_33_pages() {
    const NR: usize = 1 << 16;
    let world = world(1 << 18, NR as u64);
    let mut pages = pages_of(&world, 1 << 18, NR as u64);
    let starts: Vec<_> = core::iter::from_fn(|| pages.alloc_pages(33, PAGE_SIZE).ok()).collect();
    let used = pages.used_pages();
    assert_eq!(used, starts.len() * 33);
    assert!(used * 100 >= NR * 99, "{used} of {NR} pages are used");
    starts.into_iter().for_each(|start| pages.dealloc_pages(start, 33));
}

/// As the last part of `axallocator`'s test of 2 GiB.
#[test]
fn pages_at_an_address_are_allocated_if_they_are_free() {
    let (first, nr) = ((1 << 18) + 1, 1 << 18);
    let world = world(first, nr);
    let mut pages = pages_of(&world, first, nr);
    let mut used = 0;
    let mut held = Vec::new();
    let mut base = address(first);
    for (len, align) in [(1, PAGE_SIZE), (10, PAGE_SIZE << 9), (100, PAGE_SIZE << 10)] {
        base = base.next_multiple_of(align);
        assert_eq!(pages.alloc_pages_at(base, len, align).unwrap(), base);
        used += len;
        assert_counts(&pages, 1 << 18, used);
        assert!(matches!(pages.alloc_pages_at(base, 1, PAGE_SIZE), Err(AllocError::NoMemory)));
        held.push((base, len));
        base += len * PAGE_SIZE;
    }
    let between = base + 1;
    for (base, align) in [(between, PAGE_SIZE), (base, 1 << 30), (base, 3)] {
        assert!(matches!(pages.alloc_pages_at(base, 1, align), Err(AllocError::InvalidParam)));
    }
    assert!(matches!(pages.alloc_pages_at(0, 1, PAGE_SIZE), Err(AllocError::NoMemory)));
    held.into_iter().for_each(|(start, len)| pages.dealloc_pages(start, len));
    assert_counts(&pages, 1 << 18, 0);
}
