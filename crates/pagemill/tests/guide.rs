//! The code of docs/kernel-guide.md that is not of the example kernel, and what its tables say of blocks.

use core::mem::ManuallyDrop;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use pagemill::handles::PfnError;
use pagemill::units::{Pfn, PhysAddr};
use pagemill::{AllocPages, Config, Gfp, Page};
use pagemill_testkit::{Machine, NORMAL, World, order, region, reserved};

pagemill::static_allocator! {
    static ALLOCATOR: Machine;
    pub(crate) type Frames;
}
const FRAMES: Frames = Frames::new();
type Frame = Page<Frames>;

const PRESENT: u64 = 1;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// "The metadata" and "The interface by frame number".
#[test]
fn frames_are_known_by_their_numbers() -> Result<(), Box<dyn core::error::Error>> {
    let memory = [region(NORMAL, 512, 0)];
    let loader = [reserved(NORMAL + 100, 20)];
    let config = Config { reserved: &loader, ..Config::new(&memory, 1) };
    assert!(ALLOCATOR.set(World::leaked(&config)).is_ok(), "there is one allocator");
    let page: Option<Frame> = FRAMES.alloc_page(Gfp::KERNEL);
    let page = page.expect("all is free");

    let entry = page.into_pfn().start().value() | PRESENT;
    // SAFETY: 1. the entry owns its frame, and gives it up.
    drop(unsafe { Page::from_pfn(FRAMES, PhysAddr::new(entry & ADDRESS).pfn()) }?);

    let (start, nr) = FRAMES.alloc_contig(Gfp::KERNEL, 33, 1, None)?.into_pfn();
    // SAFETY: 1. owned and given up.
    unsafe { FRAMES.free_pfn_range(start, nr) }?;

    let (start, nr) = Pfn::within(loader[0].start, loader[0].len_bytes);
    // SAFETY: 1. nothing uses the reserved frames.
    unsafe { FRAMES.hand_in(start, nr) }?;
    // SAFETY: 1. as before; it is refused.
    let again = unsafe { FRAMES.hand_in(start, nr) };
    assert!(matches!(again, Err(PfnError::NotReserved { .. })), "{again:?}");
    let allocator = ALLOCATOR.get().expect("just stored");
    assert_eq!((allocator.nr_free_pages(), allocator.validate()), (512, Ok(())));
    Ok(())
}

/// The row of a block in the table of double frees.
#[test]
#[cfg_attr(miri, ignore = "the lists of order 9 need a large zone")]
fn a_block_that_is_freed_twice_is_found_at_once_or_when_its_list_is_drained() {
    for (exponent, has_list) in [(3, true), (9, true), (4, false), (10, false)] {
        let world = World::with_memory(if exponent == 9 { 1 << 17 } else { 1 << 12 }, 1);
        let frames = world.frames();
        let order = order(exponent);
        let start = frames.alloc_pages(Gfp::KERNEL, order).expect("all is free").into_pfn();
        // SAFETY: 1. owned and given up the first time; the second free is the one to be found.
        let free = || unsafe { frames.free_pfn_range(start, order.nr_pages()) };
        free().expect("frames of the map");
        let found = match catch_unwind(AssertUnwindSafe(free)) {
            Ok(_) if has_list => catch_unwind(AssertUnwindSafe(|| frames.drain_all_pages())).err(),
            Err(panic) if !has_list => Some(panic),
            second => panic!("order {exponent}: {second:?}"),
        };
        let message = found.and_then(|panic| panic.downcast::<String>().ok()).expect("a message");
        let pfns = start.value()..start.value() + order.nr_pages() as u64;
        assert!(pfns.clone().any(|pfn| message.contains(&format!("{pfn:#x}"))), "{message}");
        // Its books are wrong from now on.
        let _leaked = ManuallyDrop::new(world);
    }
}
