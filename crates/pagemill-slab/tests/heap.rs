//! A heap beside a naive model: random allocations of every size and alignment, reallocations and frees.

#![cfg(not(loom))]

use core::alloc::Layout;
use core::ptr::NonNull;

use pagemill::Gfp;
use pagemill::debug::FaultConfig;
use pagemill_slab::{Heap, HeapConfig, Slabs};
use pagemill_testkit::{Frames, Rng, World, play_seeds, set_cpu};

/// What was done, for the report of a failure.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "only printed")]
enum Step {
    Alloc(Layout),
    Realloc(Layout, usize),
    Free(Layout),
    Shrink,
}

/// A heap, and what a naive model says of it.
struct Player<'h, 'w> {
    heap: &'h Heap<'h, Frames<'w>>,
    /// Objects, their layouts, and the byte that each is filled with.
    objects: Vec<(NonNull<u8>, Layout, u8)>,
    next: u8,
    nr_moved: usize,
    nr_kept: usize,
}

impl Player<'_, '_> {
    fn alloc(&mut self, layout: Layout, gfp: Gfp) {
        let Some(object) = self.heap.alloc(gfp, layout) else { return };
        assert!(object.addr().get().is_multiple_of(layout.align()), "aligned");
        // SAFETY: 1. from this heap, and not freed.
        assert!(unsafe { self.heap.usable_size(object) } >= layout.size());
        if gfp.contains(Gfp::ZERO) {
            assert!(bytes(object, layout.size()).iter().all(|&byte| byte == 0), "zeroed");
        }
        self.own(object, layout);
    }

    fn own(&mut self, object: NonNull<u8>, layout: Layout) {
        let range = |object: NonNull<u8>, layout: Layout| {
            object.addr().get()..object.addr().get() + layout.size()
        };
        let new = range(object, layout);
        for &(other, layout, _) in &self.objects {
            let other = range(other, layout);
            assert!(new.end <= other.start || other.end <= new.start, "objects overlap");
        }
        // SAFETY: 1. valid for writes: an object of this size, ours.
        unsafe { object.write_bytes(self.next, layout.size()) };
        self.objects.push((object, layout, self.next));
        self.next = self.next.checked_add(1).unwrap_or(1);
    }

    fn disown(&mut self, position: usize) -> (NonNull<u8>, Layout, u8) {
        let (object, layout, fill) = self.objects.swap_remove(position);
        let is_whole = bytes(object, layout.size()).iter().all(|&byte| byte == fill);
        assert!(is_whole, "another wrote to the object");
        (object, layout, fill)
    }

    fn realloc(&mut self, position: usize, new_size: usize) {
        let (object, layout, fill) = self.disown(position);
        // SAFETY: 1. from this heap with this layout. 2. used at its old place only if it did not move.
        let moved = unsafe { self.heap.realloc(Gfp::NOWAIT, object, layout, new_size) };
        let Some(moved) = moved else {
            return self.objects.push((object, layout, fill));
        };
        let kept = bytes(moved, layout.size().min(new_size));
        assert!(kept.iter().all(|&byte| byte == fill), "the bytes move along");
        self.nr_kept += usize::from(moved == object);
        self.nr_moved += usize::from(moved != object);
        let layout = Layout::from_size_align(new_size, layout.align()).expect("small");
        assert!(moved.addr().get().is_multiple_of(layout.align()), "aligned");
        self.own(moved, layout);
    }

    fn free(&mut self, position: usize, sized: bool) {
        let (object, layout, _) = self.disown(position);
        if sized {
            // SAFETY: 1. from this heap with this layout. 2. not used again: the model forgot it.
            unsafe { self.heap.free_sized(object, layout) };
        } else {
            // SAFETY: 1. from this heap. 2. not used again: the model forgot it.
            unsafe { self.heap.free(object) };
        }
    }
}

fn bytes<'b>(object: NonNull<u8>, len: usize) -> &'b [u8] {
    // SAFETY: 1. initialised: frames are; the object is the test's, and not written while this is used.
    unsafe { core::slice::from_raw_parts(object.as_ptr(), len) }
}

fn random_layout(rng: &mut Rng) -> Layout {
    let most = 1 << rng.below(if cfg!(miri) { 14 } else { 18 });
    let align = 1 << rng.weighted(&[5, 5, 5, 40, 10, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2]);
    Layout::from_size_align(rng.below(most + 1), align).expect("small")
}

fn play(seed: u64, faults: bool, steps: &mut Vec<Step>) -> (usize, usize) {
    let mut rng = Rng::new(seed);
    let world = World::with_memory(2048, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let array = rng.pick(&[None, None, Some(1), Some(0)]);
    let heap =
        Heap::new(&slabs, &HeapConfig { array, ..HeapConfig::new() }).expect("there is memory");
    if faults {
        world.inject_faults(&FaultConfig { probability: 300_000, ..FaultConfig::EVERY });
    }
    let mut player = Player { heap: &heap, objects: Vec::new(), next: 1, nr_moved: 0, nr_kept: 0 };
    for _ in 0..if cfg!(miri) { 30 } else { 400 } {
        set_cpu(u32::try_from(rng.below(2)).expect("small"));
        let nr = player.objects.len();
        match rng.weighted(&[40, 20, 30, 1]) {
            0 => {
                let layout = random_layout(&mut rng);
                steps.push(Step::Alloc(layout));
                let zero = if rng.chance(20) { Gfp::ZERO } else { Gfp::empty() };
                player.alloc(layout, Gfp::NOWAIT | zero);
            }
            1 if nr > 0 => {
                let (position, size) = (rng.below(nr), random_layout(&mut rng).size());
                steps.push(Step::Realloc(player.objects[position].1, size));
                player.realloc(position, size);
            }
            2 if nr > 0 => {
                let position = rng.below(nr);
                steps.push(Step::Free(player.objects[position].1));
                player.free(position, rng.chance(70));
            }
            _ => {
                steps.push(Step::Shrink);
                heap.shrink();
            }
        }
    }
    world.inject_faults(&FaultConfig::NEVER);
    while !player.objects.is_empty() {
        player.free(0, true);
    }
    let counts = (player.nr_kept, player.nr_moved);
    assert_eq!(heap.info().map(|info| info.active_objs).sum::<usize>(), 0);
    drop(heap);
    drop(slabs);
    assert_eq!(world.nr_out(), 0, "memory is back to the last page");
    set_cpu(0);
    counts
}

#[test]
fn a_heap_does_what_a_list_of_objects_does() {
    let nr_runs = if cfg!(miri) { 2 } else { 150 };
    let counts = play_seeds("heap", nr_runs, |seed, steps| play(seed, false, steps));
    assert!(counts.iter().any(|&(kept, _)| kept > 0) && counts.iter().any(|&(_, moved)| moved > 0));
}

#[test]
fn a_heap_does_so_while_allocations_of_pages_fail() {
    let nr_runs = if cfg!(miri) { 2 } else { 100 };
    play_seeds("heap faults", nr_runs, |seed, steps| play(seed, true, steps));
}

/// A world with a heap, and `body`.
fn with_heap(nr_frames: u64, body: impl FnOnce(&World, &Heap<'_, Frames<'_>>)) {
    let world = World::with_memory(nr_frames, 1);
    let slabs = Slabs::new(world.frames()).expect("there is memory");
    let heap = Heap::new(&slabs, &HeapConfig::new()).expect("there is memory");
    body(&world, &heap);
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("small")
}

#[test]
fn an_object_grows_in_place_within_its_class_and_its_folio() {
    with_heap(2048, |_, heap| {
        let cases = [
            (97, 112, true),
            (112, 97, true),
            (112, 113, false),
            (5000, 8192, true),
            (8192, 4097, true),
            (8192, 4096, false),
            (8192, 8193, false),
            (8192, 100, false),
            (100, 8192, false),
        ];
        for (old, new, is_kept) in cases {
            let before = heap.alloc(Gfp::KERNEL, layout(old, 8)).expect("there is memory");
            // SAFETY: 1. from this heap with this layout. 2. not used at its old place.
            let after = unsafe { heap.realloc(Gfp::KERNEL, before, layout(old, 8), new) };
            let after = after.expect("there is memory");
            assert_eq!(after == before, is_kept, "from {old} to {new}");
            // SAFETY: 1. from this heap with this layout, and not used again.
            unsafe { heap.free_sized(after, layout(new, 8)) };
        }
    });
}

#[test]
fn objects_above_the_largest_block_have_exactly_the_pages_they_need() {
    with_heap(8192, |world, heap| {
        let before = world.nr_out();
        let size = (5 << 20) + 1;
        let object = heap.alloc(Gfp::KERNEL | Gfp::ZERO, layout(size, 8)).expect("32 MiB are free");
        assert_eq!(world.nr_out() - before, 5 * 256 + 1);
        assert!(bytes(object, size).iter().all(|&byte| byte == 0));
        // SAFETY: 1. from this heap, and not used again.
        unsafe { heap.free(object) };
        assert_eq!(world.nr_out(), before);
        assert!(heap.alloc(Gfp::KERNEL, layout(1 << 30, 8)).is_none(), "more than there is");
        assert!(heap.alloc(Gfp::KERNEL, layout(isize::MAX as usize - 7, 8)).is_none());
    });
}

#[test]
fn alignments_above_a_page_are_kept_or_refused() {
    with_heap(4096, |world, heap| {
        let before = world.nr_out();
        for shift in 12..24 {
            let align = 1 << shift;
            let Some(object) = heap.alloc(Gfp::KERNEL, layout(10, align)) else {
                // The memory of this machine is aligned to a page by chance only.
                assert!(align > 4096, "a page is always aligned");
                continue;
            };
            assert!(object.addr().get().is_multiple_of(align));
            // SAFETY: 1. from this heap with this layout, and not used again.
            unsafe { heap.free_sized(object, layout(10, align)) };
        }
        assert_eq!(world.nr_out(), before, "also what was refused");
    });
}
