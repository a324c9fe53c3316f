//! Misuse of a public function panics at the line that calls it, not inside of the crate.

use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, set_hook, take_hook};

use pagemill::fragment::Carver;
use pagemill::policy::{NodeMask, Policy};
use pagemill::reserves::LocalPages;
use pagemill::units::{CpuId, NodeId, Pfn, PhysAddr};
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, PageList, PageVec};
use pagemill_testkit::{Frames, Machine, NORMAL, World, holes, order, region};

thread_local! {
    /// File and line of the last panic.
    static PANICKED_AT: Cell<Option<(String, u32)>> = const { Cell::new(None) };
}

pagemill::static_allocator! {
    /// A static that no thread fills.
    static UNSET: Machine;
    type Unset;
}

/// Checks that `misuse` panics on `line` of this file.
#[track_caller]
fn check(line: u32, misuse: impl FnOnce()) {
    PANICKED_AT.take();
    assert!(catch_unwind(AssertUnwindSafe(misuse)).is_err(), "line {line} does not panic");
    assert_eq!(PANICKED_AT.take(), Some((file!().to_owned(), line)));
}

/// Calls [`check`] with the line of its argument, which is one line.
macro_rules! check {
    ($misuse:expr) => {
        check(line!(), || {
            let _result = $misuse;
        })
    };
}

#[test]
fn misuse_panics_at_the_line_that_calls() {
    let before = take_hook();
    set_hook(Box::new(|panic| {
        let at = panic.location().expect("a panic has a location");
        PANICKED_AT.set(Some((at.file().to_owned(), at.line())));
    }));
    let result = catch_unwind(AssertUnwindSafe(|| {
        check_numbers();
        let memory = [region(NORMAL, 512, 0)];
        let (one, other) =
            (World::new(&Config::new(&memory, 1)), World::new(&Config::new(&memory, 1)));
        check_nodes(one.frames());
        check_handles(one.frames(), other.frames());
    }));
    set_hook(before);
    result.unwrap_or_else(|_| panic!("a panic at {:?}", PANICKED_AT.take()));
}

fn check_numbers() {
    check!(Pfn::new(u64::MAX));
    check!(Pfn::MAX.offset(1));
    check!(PhysAddr::new(u64::MAX).pfn());
    check!(Pfn::within(PhysAddr::new(u64::MAX), 1));
    check!(Pfn::within(PhysAddr::new(0), u64::MAX));
    check!(NodeMask::of(&[NodeId::new(64)]));
}

fn check_nodes(frames: Frames<'_>) {
    let node = NodeId::new(9);
    let mut slots = holes(4);
    let mut list = PageList::<Page<_>>::new(frames);
    check!(frames.alloc_page_node(node, Gfp::KERNEL));
    check!(frames.alloc_pages_node(node, Gfp::KERNEL, order(1)));
    check!(frames.alloc_pages_bulk_node(node, Gfp::KERNEL, &mut slots));
    check!(frames.alloc_pages_bulk_list_node(node, Gfp::KERNEL, 4, &mut list));
    let policy = Policy::Preferred(node);
    check!(frames.alloc_pages_bulk_mempolicy(policy, Gfp::KERNEL, &mut slots));
    let request = BulkRequest { policy, ..BulkRequest::new(Gfp::KERNEL) };
    check!(frames.bulk_fill(&request, &mut slots));
    check!(frames.bulk_list(&request, 4, &mut list));
    check!(frames.bulk_each(&request, 4, drop::<Page<_>>));
    check!(frames.bulk_extents(&request, 4, drop));
    let folios = BulkRequest { order: order(1), ..BulkRequest::new(Gfp::KERNEL) };
    check!(frames.bulk_fill(&folios, &mut slots));
    check!(frames.drain_pages(CpuId::new(9)));
}

fn check_handles(one: Frames<'_>, other: Frames<'_>) {
    let page = || one.alloc_page(Gfp::KERNEL).expect("512 frames");
    let mut list = PageList::<Page<_>>::new(other);
    let mut vec = PageVec::<_, 4>::new(other);
    let mut local = LocalPages::<_, 4>::new(other);
    check!(list.push(page()));
    check!(PageList::new(one).append(&mut list));
    check!(PageList::new(other).try_push(page().share()));
    check!(one.alloc_pages_bulk_list(Gfp::KERNEL, 4, &mut list));
    check!(vec.push(page()));
    check!(one.alloc_pages_bulk_vec(Gfp::KERNEL, 4, &mut vec));
    check!(PageVec::<_, 4>::new(one).append(&mut vec, 1));
    check!(local.free_bulk(&mut PageVec::<_, 4>::new(one)));
    check!(Carver::new(page()).carve(1, 3));
    check!(Unset::new().alloc_page(Gfp::KERNEL));
}
