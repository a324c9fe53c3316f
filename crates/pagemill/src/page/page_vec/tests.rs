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

const NR_FRAMES: u64 = 4096;

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
                match random(&mut state) % 7 {
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
                    5 => {
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
    with_frames(|frames| {
        let mut vec = PageVec::<_, 16>::new(frames);
        for gfp in [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL | Gfp::RECLAIMABLE] {
            assert_eq!(frames.alloc_pages_bulk_vec(gfp, 4, &mut vec), 4);
        }
        let in_lists = |frames: &PageAllocator<Alone>| {
            frames.pcp_info().map(|list| list.count).collect::<Vec<_>>()
        };
        let before = in_lists(frames);
        assert_eq!(vec.clear(), 12);
        let grown: Vec<_> =
            in_lists(frames).iter().zip(before).map(|(now, then)| now - then).collect();
        assert_eq!(grown.iter().filter(|&&nr| nr == 4).count(), 3, "{grown:?}");
    });
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
