//! Allocators that are built in the first memory that their framework adds.

use core::alloc::Layout;

use axallocator::{BaseAllocator, PageAllocator};
use pagemill::setup::ConfigError;
use pagemill::units::{PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{Config, Gfp};
use pagemill_adapters::arceos::ArceosPages;
use pagemill_adapters::asterinas::{GlobalFrameAllocator, OstdFrames, Paddr};
use pagemill_adapters::late::{self, BuildError};
use pagemill_testkit::{Machine, region, reserved};

const FIRST: usize = 1 << 20;
const NR: usize = 1 << 13;

/// Builds the allocator of `$ALLOCATOR` in the frames `$first` to `$first + $nr - 1`.
macro_rules! build {
    ($ALLOCATOR:expr, $first:expr, $nr:expr) => {{
        let memory = [region(FIRST as u64, NR as u64, 0)];
        let all = [reserved(0, 1 << 40)];
        let config = Config { reserved: &all, min_free_bytes: Some(0), ..Config::new(&memory, 1) };
        let machine = Machine::with_memory(1, FIRST as u64, NR);
        // SAFETY: 1., 2. the memory is the machine's own, and the map reserves all of it.
        unsafe { late::build($ALLOCATOR, machine, &config, $first, $nr) }
    }};
}

pagemill::static_allocator! {
    static OSTD_ALLOCATOR: Machine;
    type OstdSource;
}

/// The frame allocator of a kernel on `ostd`.
struct KernelFrames;

// SAFETY: 1., 2. the test frees what it allocated, and adds reserved memory once.
static OSTD: OstdFrames<OstdSource> = unsafe { OstdFrames::new(OstdSource::new(), Gfp::ATOMIC) };

impl GlobalFrameAllocator for KernelFrames {
    fn alloc(&self, layout: Layout) -> Option<Paddr> {
        OSTD.alloc(layout)
    }

    fn dealloc(&self, addr: Paddr, size: usize) {
        OSTD.dealloc(addr, size);
    }

    fn add_free_memory(&self, addr: Paddr, size: usize) {
        if OSTD_ALLOCATOR.get().is_some() {
            return OSTD.add_free_memory(addr, size);
        }
        let (first, nr) = Pfn::within(PhysAddr::new(addr as u64), size as u64);
        let (first, nr) = build!(&OSTD_ALLOCATOR, first, nr).expect("enough memory");
        let start = usize::try_from(first.start().value()).expect("64 bits");
        OSTD.add_free_memory(start, nr * PAGE_SIZE);
    }
}

#[test]
fn ostd_builds_the_allocator_in_its_first_memory() {
    let frames: &dyn GlobalFrameAllocator = &KernelFrames;
    // Not whole frames at both ends.
    frames.add_free_memory(FIRST * PAGE_SIZE + 1, NR / 2 * PAGE_SIZE - 1);
    let allocator = OSTD_ALLOCATOR.get().unwrap();
    let nr_added = usize::try_from(allocator.nr_free_pages()).unwrap();
    // One frame is not whole; the metadata has 13 bytes per frame and the lists of a CPU.
    let needed = NR / 2 - 1 - nr_added;
    assert!((NR * 13 / PAGE_SIZE..NR * 13 / PAGE_SIZE + 16).contains(&needed), "{needed}");
    frames.add_free_memory((FIRST + NR / 2) * PAGE_SIZE, NR / 2 * PAGE_SIZE);
    assert_eq!(allocator.nr_free_pages(), (nr_added + NR / 2) as u64);

    // No frame of the metadata is handed out.
    let page = Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).unwrap();
    let held: Vec<_> = core::iter::from_fn(|| frames.alloc(page)).collect();
    assert!(held.len() > NR / 2);
    let first_added = (FIRST + 1 + needed) * PAGE_SIZE;
    assert!(held.iter().all(|start| (first_added..(FIRST + NR) * PAGE_SIZE).contains(start)));
    held.into_iter().for_each(|start| frames.dealloc(start, PAGE_SIZE));
    assert_eq!(allocator.validate(), Ok(()));
}

pagemill::static_allocator! {
    static ARCEOS_ALLOCATOR: Machine;
    type ArceosSource;
}

#[test]
fn arceos_builds_the_allocator_in_init() {
    // SAFETY: 1., 2. the test frees what it allocated, and adds reserved memory once.
    let mut pages = unsafe { ArceosPages::new(ArceosSource::new(), Gfp::KERNEL, 0) };
    let start = PhysAddr::new((FIRST * PAGE_SIZE) as u64);
    let (first, nr) = Pfn::within(start, (NR * PAGE_SIZE) as u64);
    let (first, nr) = build!(&ARCEOS_ALLOCATOR, first, nr).unwrap();
    pages.init(usize::try_from(first.start().value()).unwrap(), nr * PAGE_SIZE);
    assert_eq!((pages.total_pages(), pages.used_pages()), (nr, 0));
    let start = pages.alloc_pages(33, PAGE_SIZE).unwrap();
    assert_eq!(pages.used_pages(), 33);
    pages.dealloc_pages(start, 33);
    let again = build!(&ARCEOS_ALLOCATOR, first, nr);
    assert_eq!(again, Err(BuildError::Built));
}

pagemill::static_allocator! {
    static UNBUILT: Machine;
    type Unbuilt;
}

#[test]
fn too_little_memory_is_refused_with_the_number_that_is_needed() {
    let first = Pfn::new(FIRST as u64);
    let Err(BuildError::TooSmall { nr: 3, needed }) = build!(&UNBUILT, first, 3) else {
        panic!("3 frames are not enough")
    };
    let error = build!(&UNBUILT, first, needed - 1).unwrap_err();
    assert_eq!(error, BuildError::TooSmall { nr: needed - 1, needed });
    assert!(error.to_string().contains(&format!("of {needed} frames or more")), "{error}");
    // A wrong configuration is reported, too.
    let machine = Machine::with_memory(1, FIRST as u64, 1);
    // SAFETY: 1., 2. there is no memory.
    let error = unsafe { late::build(&UNBUILT, machine, &Config::new(&[], 1), first, 1) };
    assert_eq!(error, Err(BuildError::Config(ConfigError::NoMemory)));
    let _source = Unbuilt::new();
    assert!(UNBUILT.get().is_none());
}
