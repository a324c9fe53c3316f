//! Functions that know a frame by its number.

use core::mem::MaybeUninit;
use core::slice;

use pagemill::units::Pfn;
use pagemill::{AllocPages, Folio, Order};

use super::allocator::Kernel;
use super::fail;
use crate::calls::{self, export};
use crate::environment::Environment;
use crate::error::{Code, WrongFrames};
use crate::types::{Handle, NR_MAX, PageWord};

/// Frame numbers that are converted at a time, on the stack.
const CHUNK: usize = 64;

fn number(call: &'static str, pfn: u64) -> Pfn {
    if pfn > Pfn::MAX.value() {
        fail::misuse(call, format_args!("pfn {pfn:#x}; allowed are 0 to {:#x}", Pfn::MAX.value()));
    }
    Pfn::new(pfn)
}

/// Checks an array of frame numbers of C code.
fn check_array(call: &'static str, nr: usize, pfns: *const u64) {
    if nr >= NR_MAX {
        fail::misuse(call, format_args!("nr {nr}; allowed are 0 to {}", NR_MAX - 1));
    }
    if nr != 0 && (pfns.is_null() || !pfns.is_aligned()) {
        fail::misuse(
            call,
            format_args!("pfns {pfns:p}; allowed is an aligned array of {nr} entries"),
        );
    }
}

/// Makes a slice of a C array of frame numbers, which may be in memory that cannot be written.
///
/// # Safety
/// `pfns` is null, or has `nr` entries that nothing changes while the slice exists.
unsafe fn numbers<'a>(call: &'static str, nr: usize, pfns: *const u64) -> &'a [u64] {
    check_array(call, nr, pfns);
    if nr == 0 {
        return &[];
    }
    // SAFETY:
    // 1. Valid for reads of `nr` entries, and constant meanwhile: guaranteed by the caller.
    // 2. Aligned, not null and not longer than the largest array: checked above.
    unsafe { slice::from_raw_parts(pfns, nr) }
}

/// Makes slots of a C array for frame numbers. C code need not have initialised it.
///
/// # Safety
/// `pfns` is null, or valid for writes of `nr` entries, which nothing else uses while the slots exist.
unsafe fn slots<'a>(call: &'static str, nr: usize, pfns: *mut u64) -> &'a mut [MaybeUninit<u64>] {
    check_array(call, nr, pfns);
    if nr == 0 {
        return &mut [];
    }
    // SAFETY:
    // 1. Valid for `nr` entries, and used by nothing else: guaranteed by the caller. No entry must be
    //    initialised.
    // 2. Aligned, not null and not longer than the largest array: checked above.
    unsafe { slice::from_raw_parts_mut(pfns.cast(), nr) }
}

/// # Safety
/// The caller owns the block.
unsafe fn page_of_pfn(call: &'static str, handle: Handle, pfn: u64, order: u32) -> PageWord {
    let frames = Kernel::allocator(call, handle);
    let (pfn, order): (Pfn, Order) = (number(call, pfn), calls::order::<Kernel>(call, order));
    if pfn.is_aligned(order) {
        calls::check_in_use::<Kernel>(call, frames, pfn, order.nr_pages());
    }
    // SAFETY:
    // 1. Guaranteed by the caller. The handle gives the block up below: the caller is its owner.
    match unsafe { Folio::from_pfn(frames, pfn, order) } {
        Ok(block) => block.into_raw().to_bits().get(),
        Err(error) => fail::misuse(call, format_args!("{}", WrongFrames(error))),
    }
}

/// # Safety
/// As for [`slots`].
unsafe fn alloc_pfns_bulk(
    call: &'static str,
    handle: Handle,
    gfp: u32,
    nr: usize,
    pfns: *mut u64,
) -> usize {
    let frames = Kernel::allocator(call, handle);
    let gfp = calls::flags::<Kernel>(call, gfp);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let out = unsafe { slots(call, nr, pfns) };
    let mut done = 0;
    for chunk in out.chunks_mut(CHUNK) {
        let mut numbers = [Pfn::new(0); CHUNK];
        let nr = frames.alloc_pfns_bulk(gfp, &mut numbers[..chunk.len()]);
        for (slot, number) in chunk.iter_mut().zip(&numbers[..nr]) {
            slot.write(number.value());
        }
        done += nr;
        if nr < chunk.len() {
            break;
        }
    }
    done
}

/// # Safety
/// As for [`numbers`]; the caller owns the frames.
unsafe fn free_pfns(call: &'static str, handle: Handle, nr: usize, pfns: *const u64) {
    let frames = Kernel::allocator(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let all = unsafe { numbers(call, nr, pfns) };
    // One by one if owners are recorded, so that a number that is there twice is found by `check_in_use`.
    for chunk in all.chunks(if frames.records_owners() { 1 } else { CHUNK }) {
        let mut numbers = [Pfn::new(0); CHUNK];
        for (slot, &pfn) in numbers.iter_mut().zip(chunk) {
            *slot = number(call, pfn);
            calls::check_in_use::<Kernel>(call, frames, *slot, 1);
        }
        // SAFETY:
        // 1. Guaranteed by the caller.
        if let Err(error) = unsafe { frames.free_pfns(&numbers[..chunk.len()]) } {
            fail::misuse(call, format_args!("{}", WrongFrames(error)));
        }
    }
}

/// # Safety
/// The caller owns the frames.
unsafe fn free_pfn_range(call: &'static str, handle: Handle, first: u64, nr: usize) {
    let (frames, first) = (Kernel::allocator(call, handle), number(call, first));
    calls::check_in_use::<Kernel>(call, frames, first, nr);
    // SAFETY:
    // 1. Guaranteed by the caller.
    if let Err(error) = unsafe { frames.free_pfn_range(first, nr) } {
        fail::misuse(call, format_args!("{}", WrongFrames(error)));
    }
}

/// # Safety
/// Nothing uses the frames.
unsafe fn hand_in(call: &'static str, handle: Handle, first: u64, nr: usize) -> i32 {
    let frames = Kernel::allocator(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    match unsafe { frames.hand_in(number(call, first), nr) } {
        Ok(()) => Code::OK.0,
        Err(_) => Code::NOT_RESERVED.0,
    }
}

export! { Kernel;
    fn pagemill_kernel_page_of_pfn(handle: Handle, pfn: u64, order: u32) -> PageWord = page_of_pfn;
    fn pagemill_kernel_alloc_pfns_bulk(handle: Handle, gfp: u32, nr: usize, pfns: *mut u64) -> usize
        = alloc_pfns_bulk;
    fn pagemill_kernel_free_pfns(handle: Handle, nr: usize, pfns: *const u64) = free_pfns;
    fn pagemill_kernel_free_pfn_range(handle: Handle, first: u64, nr: usize) = free_pfn_range;
    fn pagemill_kernel_hand_in(handle: Handle, first: u64, nr: usize) -> i32 = hand_in;
}
