//! Page vectors compared with a naive model.

use alloc::alloc::{alloc, dealloc};
use alloc::vec::Vec;
use core::ptr::NonNull;

use super::*;
use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::base::units::{CpuId, NodeId, PAGE_SHIFT, Pfn, PhysAddr};
use crate::config::config::{Config, MemoryRegion};
use crate::page_alloc::allocator::PageAllocator;
use crate::platform::platform::Platform;
use crate::reserve::local::LocalPages;

struct Alone;

impl Platform for Alone {
    fn nr_cpus(&self) -> u32 {
        1
    }
    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }
    unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {}
}

const NR_FRAMES: u64 = if cfg!(miri) { 1024 } else { 4096 };

/// Runs `test` with an allocator, and checks that all pages came back.
fn with_frames(test: impl FnOnce(&PageAllocator<Alone>)) {
    let memory = [MemoryRegion {
        start: PhysAddr::new(1 << 32),
        len_bytes: NR_FRAMES << PAGE_SHIFT,
        node: NodeId::new(0),
    }];
    let config = Config::new(&memory, 1);
    let layout = PageAllocator::<Alone>::metadata_layout(&config).unwrap();
    // SAFETY: 1. size above zero: every allocator has metadata.
    let metadata = NonNull::new(unsafe { alloc(layout) }).unwrap();
    // SAFETY: 1. valid for writes: just allocated with this size.
    unsafe { metadata.write_bytes(0, layout.size()) };
    let slice = NonNull::slice_from_raw_parts(metadata, layout.size());
    // SAFETY: 1. initialised, valid, not used otherwise: just allocated. 2. no access to frames:
    // they have no memory.
    let frames = unsafe { PageAllocator::new(&config, slice, Alone) }.unwrap();
    test(&frames);
    assert_eq!(frames.nr_free_pages(), NR_FRAMES, "all pages came back");
    let stat = frames.vmstat();
    assert_eq!(stat.pgalloc.iter().sum::<u64>(), stat.pgfree);
    let _over = frames;
    // SAFETY: 1. allocated above with this layout. 2. not used any more: the allocator is gone.
    unsafe { dealloc(metadata.as_ptr(), layout) };
}

/// Numbers that come again with their seed.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 20) as usize
}

fn pfns<const N: usize>(vec: &PageVec<&PageAllocator<Alone>, N>) -> Vec<u64> {
    vec.as_raw().iter().map(|raw| raw.pfn().value()).collect()
}

/// Drains pages into eight slots, of which slot `full` holds a page, and compares.
fn drain_into_slots<const N: usize>(
    vec: &mut PageVec<&PageAllocator<Alone>, N>,
    naive: &mut Vec<u64>,
    full: Option<usize>,
) {
    let mut slots = [const { None }; 8];
    let there = full.and_then(|full| {
        slots[full] = vec.source.alloc_page(Gfp::KERNEL);
        slots[full].as_ref().map(Page::pfn)
    });
    let moved = vec.drain_into(&mut slots);
    assert_eq!(moved, (8 - usize::from(full.is_some())).min(naive.len()));
    let mut out = naive.split_off(naive.len() - moved).into_iter();
    for (index, slot) in slots.iter().enumerate() {
        let pfn = slot.as_ref().map(Page::pfn);
        let expected = if Some(index) == full { there } else { out.next().map(Pfn::new) };
        assert_eq!(pfn, expected, "slot {index}");
    }
}

#[test]
fn random_operations_equal_those_on_plain_vectors() {
    const STEPS: usize = if cfg!(miri) { 60 } else { 2000 };
    for seed in 1..=if cfg!(miri) { 1 } else { 8 } {
        with_frames(|frames| {
            let mut state = seed;
            let mut vec = PageVec::<_, 32>::new(frames);
            let mut other = PageVec::<_, 8>::new(frames);
            let (mut naive, mut naive_other) = (Vec::new(), Vec::new());
            for _ in 0..STEPS {
                let nr = random(&mut state) % 12;
                let kinds = [Gfp::KERNEL, Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE];
                let gfp = kinds[random(&mut state) % 3];
                match random(&mut state) % 10 {
                    0 | 1 => {
                        let got = frames.alloc_pages_bulk_vec(gfp, nr, &mut vec);
                        assert_eq!(got, nr.min(32 - naive.len()), "there is plenty");
                        naive = pfns(&vec);
                    }
                    2 => {
                        let moved = other.append(&mut vec, nr);
                        assert_eq!(moved, nr.min(naive.len()).min(8 - naive_other.len()));
                        naive_other.extend(naive.split_off(naive.len() - moved));
                    }
                    3 => assert_eq!(vec.pop().map(|page| page.pfn().value()), naive.pop()),
                    4 => match vec.push(frames.alloc_page(gfp).unwrap()) {
                        Ok(()) => naive = pfns(&vec),
                        Err(_page) => assert!(naive.len() == 32 && vec.is_full()),
                    },
                    5 => drain_into_slots(&mut vec, &mut naive, (nr < 8).then_some(nr)),
                    6 => {
                        let start = random(&mut state) % (naive.len() + 1);
                        let end = start + random(&mut state) % (naive.len() - start + 1);
                        let drained = vec.drain(start..end);
                        assert_eq!(drained.len(), end - start);
                        let out: Vec<_> = naive.drain(start..end).take(nr).collect();
                        let taken = drained.take(nr).map(|page| page.pfn().value());
                        assert_eq!(taken.collect::<Vec<_>>(), out);
                    }
                    7 => {
                        let all = core::mem::replace(&mut vec, PageVec::new(frames));
                        let taken = all.into_iter().take(nr).map(|page| page.pfn().value());
                        let out: Vec<_> = naive.drain(..).take(nr).collect();
                        assert_eq!(taken.collect::<Vec<_>>(), out);
                    }
                    8 => {
                        assert_eq!(other.clear(), naive_other.len());
                        naive_other.clear();
                    }
                    _ => {
                        assert_eq!(vec.append(&mut other, nr), {
                            let moved = nr.min(naive_other.len()).min(32 - naive.len());
                            naive.extend(naive_other.split_off(naive_other.len() - moved));
                            moved
                        });
                    }
                }
                assert_eq!((pfns(&vec), pfns(&other)), (naive.clone(), naive_other.clone()));
                let held = (naive.len() + naive_other.len()) as u64;
                assert_eq!(frames.nr_free_pages() + held, NR_FRAMES);
                assert_eq!(vec.room(), 32 - naive.len());
            }
        });
    }
}

#[test]
fn pages_of_several_kinds_return_to_their_own_lists() {
    type Pages<'a> = PageVec<&'a PageAllocator<Alone>, 16>;
    let ways: [fn(&mut Pages<'_>); 4] = [
        |vec| assert_eq!(vec.clear(), 12),
        |vec| drop(vec.drain(..)),
        |vec| {
            let mut other = PageVec::<_, 16>::new(vec.source);
            while other.append(vec, 1) > 0 {}
        },
        |vec| {
            let mut other = PageVec::<_, 16>::new(vec.source);
            assert_eq!(other.append(vec, 12), 12);
        },
    ];
    for way in ways {
        with_frames(|frames| {
            let mut vec = PageVec::<_, 16>::new(frames);
            for gfp in [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE] {
                assert_eq!(frames.alloc_pages_bulk_vec(gfp, 4, &mut vec), 4);
            }
            let in_lists = |frames: &PageAllocator<Alone>| {
                frames.pcp_info().map(|list| list.count).collect::<Vec<_>>()
            };
            let before = in_lists(frames);
            way(&mut vec);
            let grown: Vec<_> =
                in_lists(frames).iter().zip(before).map(|(now, then)| now - then).collect();
            assert_eq!(grown.iter().filter(|&&nr| nr == 4).count(), 3, "{grown:?}");
        });
    }
}

#[test]
fn a_local_stock_serves_refills_and_spills() {
    with_frames(|frames| {
        let mut local = LocalPages::<_, 64>::new(frames);
        let mut vec = PageVec::<_, 256>::new(frames);
        assert_eq!(local.alloc_bulk(Gfp::KERNEL, 10, &mut vec), 10);
        assert_eq!((local.len(), vec.len()), (22, 10), "half of the reserve was filled");
        assert_eq!(local.alloc_bulk(Gfp::KERNEL, 200, &mut vec), 200);
        assert_eq!(local.alloc_bulk(Gfp::KERNEL, 200, &mut vec), 46, "no more fit");
        assert_eq!(local.free_bulk(&mut vec), 256);
        assert!(vec.is_empty() && local.len() <= 64);
        let pages: Vec<_> = (0..100).map(|_| local.alloc(Gfp::KERNEL).unwrap()).collect();
        pages.into_iter().for_each(|page| local.free(page));
        let nr = local.len();
        assert!((32..=64).contains(&nr));
        assert_eq!(local.drain(), nr);
    });
}

#[test]
fn an_empty_allocator_leaves_a_local_stock_empty() {
    with_frames(|frames| {
        let mut held = Vec::new();
        held.extend(core::iter::from_fn(|| frames.alloc_page(Gfp::ATOMIC)));
        let mut local = LocalPages::<_, 64>::new(frames);
        assert!(local.alloc(Gfp::ATOMIC).is_none() && local.is_empty());
        let mut vec = PageVec::<_, 8>::new(frames);
        assert_eq!(local.alloc_bulk(Gfp::ATOMIC, 8, &mut vec), 0);
        local.free(held.pop().unwrap());
        assert!(local.alloc(Gfp::ATOMIC).is_some());
    });
}

#[test]
fn pages_are_freed_once_if_the_code_that_drains_them_panics_or_leaks_them() {
    with_frames(|frames| {
        let held = |frames: &PageAllocator<Alone>| NR_FRAMES - frames.nr_free_pages();
        let mut vec = PageVec::<_, 16>::new(frames);
        assert_eq!(frames.alloc_pages_bulk_vec(Gfp::KERNEL, 10, &mut vec), 10);
        let drain = core::panic::AssertUnwindSafe(|| {
            for (nth, page) in vec.drain(2..9).enumerate() {
                assert!(nth < 3, "the fourth page, {page:?}");
            }
        });
        assert!(std::panic::catch_unwind(drain).is_err());
        assert_eq!((vec.len(), held(frames)), (3, 3), "what was in front and behind is there");
        let leaked = core::mem::ManuallyDrop::new(vec.drain(..2));
        assert_eq!((vec.len(), leaked.len(), held(frames)), (1, 2, 3));
        drop(core::mem::ManuallyDrop::into_inner(leaked));
        assert_eq!((vec.len(), held(frames)), (1, 1));
    });
}

#[test]
fn drained_ranges_are_those_of_slices() {
    use Bound::{Excluded, Included, Unbounded};
    with_frames(|frames| {
        let nr = |range: (Bound<usize>, Bound<usize>)| {
            let mut vec = PageVec::<_, 8>::new(frames);
            assert_eq!(frames.alloc_pages_bulk_vec(Gfp::KERNEL, 6, &mut vec), 6);
            let drained = vec.drain(range).map(|page| page.pfn().value()).collect::<Vec<_>>();
            (drained.len(), pfns(&vec).len())
        };
        assert_eq!(nr((Unbounded, Unbounded)), (6, 0));
        assert_eq!(nr((Included(1), Included(3))), (3, 3));
        assert_eq!(nr((Excluded(1), Excluded(6))), (4, 2));
        assert_eq!(nr((Included(6), Unbounded)), (0, 6));
    });
}

#[test]
#[should_panic(expected = "pages 1..7 of a vector of 6 pages")]
fn a_range_beyond_the_end_is_refused() {
    with_frames(|frames| {
        let mut vec = PageVec::<_, 8>::new(frames);
        assert_eq!(frames.alloc_pages_bulk_vec(Gfp::KERNEL, 6, &mut vec), 6);
        drop(vec.drain(1..7));
    });
}
