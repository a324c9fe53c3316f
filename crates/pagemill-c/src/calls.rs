//! Functions that a process and a kernel share, for any environment, and the macros that give functions
//! their C names.
//!
//! Each function takes the name of its C function, for the line that ends the program when a call is wrong.
//!
//! `c-arguments`: a C caller keeps the rules of the header that no function can check. Arrays have as many
//! entries as the call says, and nothing else uses them during the call; pages belong to the caller; no
//! call runs while its allocator is destroyed.

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;
use core::slice;

use pagemill::handles::{InvalidRawPage, RawPage};
use pagemill::policy::Policy;
use pagemill::request::Effort;
use pagemill::units::{NodeId, Pfn, PhysAddr};
use pagemill::{AllocPages, BulkRequest, Gfp, Order, PageAllocator};

use crate::environment::Environment;
use crate::error::{Code, WrongFrames, WrongPage};
use crate::types::{
    Handle, ListView, NR_MAX, PageWord, Request, SizedStruct, VmStatView, ZoneView,
};

/// Flags that C code may pass: all but the one that charges an account.
const GFP_ALLOWED: Gfp = Gfp::all().difference(Gfp::ACCOUNT);

/// Checks the flags of a request.
#[inline]
pub(crate) fn flags<E: Environment>(call: &'static str, bits: u32) -> Gfp {
    #[cold]
    #[inline(never)]
    fn unknown<E: Environment>(call: &'static str, bits: u32) -> ! {
        let (wrong, allowed) = (bits & !GFP_ALLOWED.bits(), GFP_ALLOWED.bits());
        E::misuse(
            call,
            format_args!("flags {bits:#x} have unknown bits {wrong:#x}; allowed are {allowed:#x}"),
        )
    }
    if bits & !GFP_ALLOWED.bits() != 0 {
        unknown::<E>(call, bits);
    }
    Gfp::from_bits_truncate(bits)
}

/// Checks the order of a block.
#[inline]
pub(crate) fn order<E: Environment>(call: &'static str, order: u32) -> Order {
    match u8::try_from(order).map(Order::new) {
        Ok(Ok(order)) => order,
        _ => E::misuse(call, format_args!("order {order}; allowed are 0 to 10")),
    }
}

/// Makes slots of a C array of pages.
///
/// # Safety
/// `pages` is null, or has `nr` entries that nothing else uses while the slots exist.
#[inline]
pub(crate) unsafe fn slots<'a, E: Environment>(
    call: &'static str,
    nr: usize,
    pages: *mut PageWord,
) -> &'a mut [Option<RawPage>] {
    /// Returns if there are no entries, for which any pointer is allowed.
    #[cold]
    #[inline(never)]
    fn none_or_wrong<E: Environment>(call: &'static str, nr: usize, pages: *mut PageWord) {
        if nr == 0 {
            return;
        }
        if nr >= NR_MAX {
            E::misuse(call, format_args!("nr {nr}; allowed are 0 to {}", NR_MAX - 1));
        }
        E::misuse(
            call,
            format_args!("pages {pages:p}; allowed is an aligned array of {nr} entries"),
        )
    }
    if nr == 0 || nr >= NR_MAX || pages.is_null() || !pages.is_aligned() {
        none_or_wrong::<E>(call, nr, pages);
        return &mut [];
    }
    // SAFETY:
    // 1. Valid for `nr` entries, and used by nothing else: guaranteed by the caller.
    // 2. Aligned, not null and not longer than the largest array: checked above.
    // 3. Every integer is an `Option<RawPage>`, which has the layout of `Option<NonZeroU64>`.
    unsafe { slice::from_raw_parts_mut(pages.cast(), nr) }
}

/// Makes a block of the word that C code passes.
#[inline]
pub(crate) fn block<E: Environment>(
    call: &'static str,
    allocator: &PageAllocator<E::Platform>,
    word: PageWord,
) -> RawPage {
    match RawPage::from_bits(word).and_then(|raw| allocator.check_raw(raw).map(|()| raw)) {
        Ok(raw) => raw,
        Err(error) => wrong_page::<E>(call, error),
    }
}

/// Ends the program because an integer is no page of the allocator.
#[cold]
#[inline(never)]
fn wrong_page<E: Environment>(call: &'static str, error: InvalidRawPage) -> ! {
    E::misuse(call, format_args!("{}", WrongPage(error)))
}

/// Ends the program if the allocator records owners and one of `nr` frames is free: here, the line can name the
/// function. What another thread frees meanwhile is found by the allocator.
#[inline]
pub(crate) fn check_in_use<E: Environment>(
    call: &'static str,
    frames: &PageAllocator<E::Platform>,
    first: Pfn,
    nr: usize,
) {
    if frames.is_in_use(first).is_some() {
        check_each_in_use::<E>(call, frames, first, nr);
    }
}

#[cold]
#[inline(never)]
fn check_each_in_use<E: Environment>(
    call: &'static str,
    frames: &PageAllocator<E::Platform>,
    first: Pfn,
    nr: usize,
) {
    let end = first.value().saturating_add(nr as u64).min(Pfn::MAX.value() + 1);
    for pfn in (first.value()..end).map(Pfn::new) {
        match frames.is_in_use(pfn) {
            Some(true) => {}
            Some(false) => E::misuse(
                call,
                format_args!(
                    "frame {pfn} is free: freed twice, or never allocated; allowed are pages in use"
                ),
            ),
            // Not of the allocator, which says so itself.
            None => break,
        }
    }
}

#[inline]
fn word(raw: RawPage) -> PageWord {
    raw.to_bits().get()
}

#[inline]
pub(crate) fn alloc_page<E: Environment>(call: &'static str, handle: Handle, gfp: u32) -> PageWord {
    let frames = E::allocator(call, handle);
    frames.alloc_page(flags::<E>(call, gfp)).map_or(0, |page| word(page.into_raw()))
}

#[inline]
pub(crate) fn alloc_pages<E: Environment>(
    call: &'static str,
    handle: Handle,
    gfp: u32,
    nr_pages_log2: u32,
) -> PageWord {
    let frames = E::allocator(call, handle);
    let (gfp, order) = (flags::<E>(call, gfp), order::<E>(call, nr_pages_log2));
    frames.alloc_pages(gfp, order).map_or(0, |block| word(block.into_raw()))
}

/// # Safety
/// The caller owns the block.
#[inline]
pub(crate) unsafe fn free_page<E: Environment>(call: &'static str, handle: Handle, page: PageWord) {
    let mut page = page;
    // SAFETY:
    // 1. One entry, which nothing else uses.
    // 2. The block in it belongs to the caller, as that guarantees.
    unsafe { free_number::<E>(call, handle, 1, &raw mut page) };
}

/// Returns whether a bulk call is for a usual number of pages: several, and not more than move at once.
///
/// In code for such a number, this comparison replaces those with zero, one, the largest array and the most
/// pages that move at once.
#[inline]
fn is_usual(nr: usize) -> bool {
    nr.wrapping_sub(2) <= 256 - 2
}

/// # Safety
/// As for [`slots`].
#[inline]
pub(crate) unsafe fn alloc_pages_bulk<E: Environment>(
    call: &'static str,
    handle: Handle,
    gfp: u32,
    nr: usize,
    pages: *mut PageWord,
) -> usize {
    let (frames, gfp) = (E::allocator(call, handle), flags::<E>(call, gfp));
    if is_usual(nr) {
        // SAFETY:
        // 1. Guaranteed by the caller.
        frames.alloc_raw_bulk(gfp, unsafe { slots::<E>(call, nr, pages) })
    } else {
        // SAFETY:
        // 1. Guaranteed by the caller.
        unsafe { alloc_other_number::<E>(call, frames, gfp, nr, pages) }
    }
}

/// # Safety
/// As for [`slots`].
#[inline(never)]
unsafe fn alloc_other_number<E: Environment>(
    call: &'static str,
    frames: &PageAllocator<E::Platform>,
    gfp: Gfp,
    nr: usize,
    pages: *mut PageWord,
) -> usize {
    // SAFETY:
    // 1. Guaranteed by the caller.
    frames.alloc_raw_bulk(gfp, unsafe { slots::<E>(call, nr, pages) })
}

/// # Safety
/// As for [`slots`]; the caller owns the blocks in them.
#[inline]
pub(crate) unsafe fn free_pages_bulk<E: Environment>(
    call: &'static str,
    handle: Handle,
    nr: usize,
    pages: *mut PageWord,
) -> usize {
    // What most calls need, and nothing else: so it takes few registers. The function below checks again.
    if let Some(frames) = E::find_allocator(handle)
        && is_usual(nr)
        && !pages.is_null()
        && pages.is_aligned()
    {
        // SAFETY:
        // 1. Guaranteed by the caller.
        let slots = unsafe { slots::<E>(call, nr, pages) };
        // SAFETY:
        // 1. The caller owns the blocks, and gives them up.
        if unsafe { frames.try_release_raw(slots) } {
            return nr;
        }
    }
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { free_any_bulk::<E>(call, handle, nr, pages) }
}

/// # Safety
/// As for [`free_pages_bulk`].
#[inline(never)]
unsafe fn free_any_bulk<E: Environment>(
    call: &'static str,
    handle: Handle,
    nr: usize,
    pages: *mut PageWord,
) -> usize {
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { free_number::<E>(call, handle, nr, pages) }
}

/// # Safety
/// As for [`free_pages_bulk`].
// Always: two functions use it, and a call costs 20 instructions.
#[inline(always)]
unsafe fn free_number<E: Environment>(
    call: &'static str,
    handle: Handle,
    nr: usize,
    pages: *mut PageWord,
) -> usize {
    let frames = E::allocator(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let slots = unsafe { slots::<E>(call, nr, pages) };
    if frames.records_owners() {
        // SAFETY:
        // 1. The caller owns the blocks, and gives them up.
        return unsafe { free_each::<E>(call, frames, slots) };
    }
    // SAFETY:
    // 1. The caller owns the blocks, and gives them up.
    match unsafe { frames.release_raw(slots) } {
        Ok(nr) => nr,
        Err(error) => wrong_page::<E>(call, error),
    }
}

/// Frees the blocks of an array one by one, so that a page that is in it twice is found by [`check_in_use`].
///
/// # Safety
/// The caller owns the blocks, and gives them up.
#[cold]
#[inline(never)]
unsafe fn free_each<E: Environment>(
    call: &'static str,
    frames: &PageAllocator<E::Platform>,
    slots: &mut [Option<RawPage>],
) -> usize {
    let mut nr = 0;
    for slot in slots.iter_mut().filter(|slot| slot.is_some()) {
        let raw = block::<E>(call, frames, slot.map_or(0, word));
        check_in_use::<E>(call, frames, raw.pfn(), raw.order().nr_pages());
        // SAFETY:
        // 1. Guaranteed by the caller.
        match unsafe { frames.release_raw(slice::from_mut(slot)) } {
            Ok(freed) => nr += freed,
            Err(error) => wrong_page::<E>(call, error),
        }
    }
    nr
}

#[inline]
pub(crate) fn nr_free_pages<E: Environment>(call: &'static str, handle: Handle) -> u64 {
    E::allocator(call, handle).nr_free_pages()
}

/// Reads a structure that begins with its size. Fields that the caller's version does not have are zero.
///
/// # Safety
/// `from` is null, or valid for reads of the size that it begins with.
#[inline]
pub(crate) unsafe fn read_struct<E: Environment, T: SizedStruct>(
    call: &'static str,
    what: &str,
    from: *const T,
) -> T {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let size = unsafe { size_of_struct::<E, T>(call, what, from) };
    if size == size_of::<T>() {
        // SAFETY:
        // 1. Aligned, not null: checked above. Valid for reads of `size`: guaranteed by the caller.
        // 2. What a C caller writes into integers, pointers and functions is a value.
        return unsafe { from.read() };
    }
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { read_other_version::<E, T>(call, what, from, size) }
}

/// # Safety
/// As for [`read_struct`]; the structure has `size` bytes.
#[cold]
#[inline(never)]
unsafe fn read_other_version<E: Environment, T: SizedStruct>(
    call: &'static str,
    what: &str,
    from: *const T,
    size: usize,
) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    let (nr, bytes) = (size.min(size_of::<T>()), from.cast::<u8>());
    // SAFETY:
    // 1. Valid for reads of `size`: guaranteed by the caller. 2. Valid for writes: not more than a `T`.
    // 3. Apart: `value` is new.
    unsafe { bytes.copy_to_nonoverlapping(value.as_mut_ptr().cast(), nr) };
    for at in nr..size {
        // SAFETY:
        // 1. In the structure: below `size`.
        let byte = unsafe { bytes.add(at) };
        // SAFETY:
        // 1. Valid for reads: guaranteed by the caller.
        if unsafe { byte.read() } != 0 {
            E::misuse(
                call,
                format_args!(
                    "{what} has a field that this version does not know, at byte {at}; allowed there is 0"
                ),
            );
        }
    }
    // SAFETY:
    // 1. Zeroes are a value, and so is what a C caller writes into integers, pointers and functions.
    unsafe { value.assume_init() }
}

/// Writes as much of a structure as the caller's version has; its size stays the caller's. Fields that only the
/// caller's version has become zero.
///
/// # Safety
/// `to` is null, or valid for reads and writes of the size that it begins with.
pub(crate) unsafe fn write_struct<E: Environment, T: SizedStruct>(
    call: &'static str,
    what: &str,
    to: *mut T,
    value: &T,
) {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let size = unsafe { size_of_struct::<E, T>(call, what, to) };
    let nr = size.min(size_of::<T>()) - size_of::<usize>();
    let from = (&raw const *value).cast::<usize>().wrapping_add(1).cast::<u8>();
    let to = to.cast::<usize>().wrapping_add(1).cast::<u8>();
    // SAFETY:
    // 1. Valid for reads: the fields of a `T` behind the first.
    // 2. Valid for writes: the same fields of the caller's structure, whose size bounds them.
    // 3. Apart: a reference is apart from what the caller can write to.
    unsafe { from.copy_to_nonoverlapping(to, nr) };
    let (unknown, nr_unknown) = (to.wrapping_add(nr), size - size_of::<usize>() - nr);
    // SAFETY:
    // 1. Valid for writes: the fields behind those of a `T`, in the caller's structure, whose size bounds them.
    unsafe { unknown.write_bytes(0, nr_unknown) };
}

/// Checks a field that a later version may give a meaning.
pub(crate) fn check_reserved<E: Environment>(call: &'static str, what: &str, reserved: u32) {
    if reserved != 0 {
        E::misuse(call, format_args!("{what}.reserved {reserved}; allowed is 0"));
    }
}

/// # Safety
/// As for [`read_struct`].
unsafe fn size_of_struct<E: Environment, T>(
    call: &'static str,
    what: &str,
    structure: *const T,
) -> usize {
    /// Far more than any version of a structure has.
    const SIZE_MAX: usize = 4096;
    if structure.is_null() || !structure.is_aligned() {
        E::misuse(
            call,
            format_args!("{what} {structure:p}; allowed is a pointer to the structure"),
        );
    }
    // SAFETY:
    // 1. Aligned, not null: checked above. Valid: guaranteed by the caller.
    let size = unsafe { structure.cast::<usize>().read() };
    // Each structure had at least one field beside its size in its first version.
    if !(2 * size_of::<usize>()..=SIZE_MAX).contains(&size) {
        let expected = size_of::<T>();
        E::misuse(
            call,
            format_args!(
                "{what} has the size {size}; set the field size to sizeof, which is {expected}"
            ),
        );
    }
    size
}

/// # Safety
/// As for [`slots`].
#[inline]
unsafe fn request<E: Environment>(
    call: &'static str,
    frames: &'static PageAllocator<E::Platform>,
    request: &BulkRequest<'_>,
    nr: usize,
    pages: *mut PageWord,
) -> (usize, Code) {
    // SAFETY:
    // 1. Guaranteed by the caller.
    let slots = unsafe { slots::<E>(call, nr, pages) };
    let outcome = frames.bulk_raw(request, slots);
    (outcome.new, outcome.short.map_or(Code::OK, Code::from))
}

/// # Safety
/// As for [`slots`].
pub(crate) unsafe fn fill<E: Environment>(
    call: &'static str,
    handle: Handle,
    gfp: u32,
    nr: usize,
    pages: *mut PageWord,
) -> i32 {
    let plain = BulkRequest::new(flags::<E>(call, gfp));
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { request::<E>(call, E::allocator(call, handle), &plain, nr, pages) }.1.0
}

/// # Safety
/// As for [`slots`].
pub(crate) unsafe fn alloc_exactly<E: Environment>(
    call: &'static str,
    handle: Handle,
    gfp: u32,
    nr: usize,
    pages: *mut PageWord,
) -> i32 {
    let all = Effort::AllOrNothing;
    let all = BulkRequest { effort: all, ..BulkRequest::new(flags::<E>(call, gfp)) };
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { request::<E>(call, E::allocator(call, handle), &all, nr, pages) }.1.0
}

/// # Safety
/// As for [`slots`] and [`read_struct`]; `new` is null or valid for writes; the stop callback can be called.
pub(crate) unsafe fn alloc_request<E: Environment>(
    call: &'static str,
    handle: Handle,
    wanted: *const Request,
    nr: usize,
    pages: *mut PageWord,
    new: *mut usize,
) -> i32 {
    let frames = E::allocator(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let wanted = unsafe { read_struct::<E, _>(call, "request", wanted) };
    let stop = wanted.stop.map(|stop| {
        // SAFETY:
        // 1. Guaranteed by the caller.
        move || unsafe { stop(wanted.context) } != 0
    });
    let effort = match wanted.effort {
        0 => Effort::TryHard,
        1 => Effort::Fast,
        2 => Effort::AllOrNothing,
        other => E::misuse(call, format_args!("effort {other}; allowed are 0 to 2")),
    };
    let nr_nodes = u32::try_from(frames.nr_nodes()).unwrap_or(u32::MAX);
    let policy = match u8::try_from(wanted.node).ok().and_then(|node| node.checked_sub(1)) {
        _ if wanted.node > nr_nodes => {
            let node = wanted.node;
            E::misuse(
                call,
                format_args!("node {node}; allowed are 0, for the caller's, to {nr_nodes}"),
            )
        }
        Some(node) => Policy::Preferred(NodeId::new(node)),
        None => Policy::Local,
    };
    let gfp = flags::<E>(call, wanted.gfp);
    let all = BulkRequest {
        order: order::<E>(call, wanted.order),
        effort,
        policy,
        stop: stop.as_ref().map(|stop| -> &dyn Fn() -> bool { stop }),
        ..BulkRequest::new(gfp)
    };
    if !new.is_aligned() {
        E::misuse(
            call,
            format_args!("nr_new {new:p}; allowed are null and an aligned pointer to a size_t"),
        );
    }
    let _hold = wanted.stop.map(|_| E::hold(handle));
    // SAFETY:
    // 1. Guaranteed by the caller.
    let (nr_new, code) = unsafe { request::<E>(call, frames, &all, nr, pages) };
    if !new.is_null() {
        // SAFETY:
        // 1. Aligned, not null: checked above. Valid: guaranteed by the caller.
        unsafe { new.write(nr_new) };
    }
    code.0
}

/// # Safety
/// `first` is null or valid for writes.
pub(crate) unsafe fn alloc_contig<E: Environment>(
    call: &'static str,
    handle: Handle,
    gfp: u32,
    nr: usize,
    align: usize,
    limit: u64,
    first: *mut PageWord,
) -> i32 {
    let (frames, gfp) = (E::allocator(call, handle), flags::<E>(call, gfp));
    if nr == 0 || nr >= NR_MAX {
        E::misuse(call, format_args!("nr {nr}; allowed are 1 to {}", NR_MAX - 1));
    }
    if !align.is_power_of_two() {
        E::misuse(call, format_args!("align {align}; allowed are powers of two"));
    }
    if first.is_null() || !first.is_aligned() {
        E::misuse(call, format_args!("first {first:p}; allowed is a pointer to a page"));
    }
    let limit = (limit != 0).then(|| PhysAddr::new(limit));
    match frames.alloc_contig(gfp, nr, align, limit) {
        Ok(range) => {
            // SAFETY:
            // 1. Aligned, not null: checked above. Valid: guaranteed by the caller.
            unsafe { first.write(word(range.into_raw().0)) };
            Code::OK.0
        }
        Err(error) => Code::from(error).0,
    }
}

/// # Safety
/// The caller owns the pages.
pub(crate) unsafe fn free_contig<E: Environment>(
    call: &'static str,
    handle: Handle,
    first: PageWord,
    nr: usize,
) {
    let frames = E::allocator(call, handle);
    if nr == 0 {
        return;
    }
    let raw = block::<E>(call, frames, first);
    if raw.order() != Order::ZERO {
        E::misuse(
            call,
            format_args!("first {first:#x} is a block; allowed is the first page of a range"),
        );
    }
    check_in_use::<E>(call, frames, raw.pfn(), nr);
    // SAFETY:
    // 1. Guaranteed by the caller.
    if let Err(error) = unsafe { frames.free_pfn_range(raw.pfn(), nr) } {
        E::misuse(call, format_args!("{}", WrongFrames(error)));
    }
}

/// # Safety
/// As for [`write_struct`].
pub(crate) unsafe fn get_zone<E: Environment>(
    call: &'static str,
    handle: Handle,
    index: usize,
    zone: *mut ZoneView,
) -> c_int {
    let Some(info) = E::allocator(call, handle).zone_info().nth(index) else { return 0 };
    let view = ZoneView {
        size: 0,
        node: info.node.value().into(),
        kind: info.kind as u32,
        start_pfn: info.start_pfn,
        spanned: info.spanned,
        present: info.present,
        managed: info.managed,
        nr_free_pages: info.nr_free_pages,
        min: info.watermarks.min,
        low: info.watermarks.low,
        high: info.watermarks.high,
        free_blocks: info.buddyinfo(),
    };
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { write_struct::<E, _>(call, "zone", zone, &view) };
    1
}

/// # Safety
/// As for [`write_struct`].
pub(crate) unsafe fn get_list<E: Environment>(
    call: &'static str,
    handle: Handle,
    index: usize,
    list: *mut ListView,
) -> c_int {
    let Some(info) = E::allocator(call, handle).pcp_info().nth(index) else { return 0 };
    let view = ListView {
        size: 0,
        cpu: info.cpu.value(),
        node: info.node.value().into(),
        kind: info.kind as u32,
        migratetype: info.migratetype as u32,
        order: info.order.value().into(),
        reserved: 0,
        count: info.count as u64,
        high: info.high as u64,
        batch: info.batch as u64,
    };
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { write_struct::<E, _>(call, "list", list, &view) };
    1
}

/// # Safety
/// As for [`write_struct`].
pub(crate) unsafe fn get_vmstat<E: Environment>(
    call: &'static str,
    handle: Handle,
    vmstat: *mut VmStatView,
) {
    let stat = E::allocator(call, handle).vmstat();
    let view = VmStatView {
        size: 0,
        nr_free_pages: stat.nr_free_pages,
        pgalloc: stat.pgalloc,
        pgfree: stat.pgfree,
        numa_hit: stat.numa_hit,
        numa_miss: stat.numa_miss,
        numa_foreign: stat.numa_foreign,
        numa_local: stat.numa_local,
        numa_other: stat.numa_other,
    };
    // SAFETY:
    // 1. Guaranteed by the caller.
    unsafe { write_struct::<E, _>(call, "vmstat", vmstat, &view) };
}

pub(crate) fn strerror(_call: &'static str, error: i32) -> *const c_char {
    Code(error).text().as_ptr()
}

pub(crate) fn version(_call: &'static str) -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

pub(crate) fn drain<E: Environment>(call: &'static str, handle: Handle) -> usize {
    E::allocator(call, handle).drain_all_pages()
}

/// Exports functions for an environment.
///
/// A line is the C function's name and parameters, its result, and the function behind it, whose first
/// parameter is the C function's name.
macro_rules! export {
    ($Environment:ty; $(
        fn $name:ident($($arg:ident: $Arg:ty),* $(,)?) $(-> $Result:ty)? = $function:path;
    )*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($arg: $Arg),*) $(-> $Result)? {
                let call = stringify!($name);
                // Safe functions become unsafe ones here, so that one macro serves both.
                let function: unsafe fn(&'static str $(, $Arg)*) $(-> $Result)? = $function;
                <$Environment as $crate::environment::Environment>::run(call, || {
                    // SAFETY:
                    // 1. The caller keeps the rules of the header: `c-arguments`.
                    unsafe { function(call $(, $arg)*) }
                })
            }
        )*
    };
}
pub(crate) use export;

/// Exports the shared functions for an environment; called once in a library.
macro_rules! export_shared {
    ($Environment:ty) => {
        const _: () = {
            use core::ffi::{c_char, c_int};

            use $crate::types::{Handle, ListView, PageWord, Request, VmStatView, ZoneView};

            $crate::calls::export! { $Environment;
            fn pagemill_alloc_page(handle: Handle, gfp: u32) -> PageWord
                = $crate::calls::alloc_page::<$Environment>;
            fn pagemill_alloc_pages(handle: Handle, gfp: u32, order: u32) -> PageWord
                = $crate::calls::alloc_pages::<$Environment>;
            fn pagemill_free_page(handle: Handle, page: PageWord)
                = $crate::calls::free_page::<$Environment>;
            fn pagemill_alloc_pages_bulk(
                handle: Handle, gfp: u32, nr: usize, pages: *mut PageWord,
            ) -> usize = $crate::calls::alloc_pages_bulk::<$Environment>;
            fn pagemill_free_pages_bulk(handle: Handle, nr: usize, pages: *mut PageWord) -> usize
                = $crate::calls::free_pages_bulk::<$Environment>;
            fn pagemill_nr_free_pages(handle: Handle) -> u64
                = $crate::calls::nr_free_pages::<$Environment>;
            fn pagemill_fill(handle: Handle, gfp: u32, nr: usize, pages: *mut PageWord) -> i32
                = $crate::calls::fill::<$Environment>;
            fn pagemill_alloc_exactly(
                handle: Handle, gfp: u32, nr: usize, pages: *mut PageWord,
            ) -> i32 = $crate::calls::alloc_exactly::<$Environment>;
            fn pagemill_alloc_request(
                handle: Handle, request: *const Request, nr: usize, pages: *mut PageWord,
                new: *mut usize,
            ) -> i32 = $crate::calls::alloc_request::<$Environment>;
            fn pagemill_alloc_contig(
                handle: Handle, gfp: u32, nr: usize, align: usize, limit: u64,
                first: *mut PageWord,
            ) -> i32 = $crate::calls::alloc_contig::<$Environment>;
            fn pagemill_free_contig(handle: Handle, first: PageWord, nr: usize)
                = $crate::calls::free_contig::<$Environment>;
            fn pagemill_get_zone(handle: Handle, index: usize, zone: *mut ZoneView) -> c_int
                = $crate::calls::get_zone::<$Environment>;
            fn pagemill_get_list(handle: Handle, index: usize, list: *mut ListView) -> c_int
                = $crate::calls::get_list::<$Environment>;
            fn pagemill_get_vmstat(handle: Handle, vmstat: *mut VmStatView)
                = $crate::calls::get_vmstat::<$Environment>;
            fn pagemill_drain(handle: Handle) -> usize = $crate::calls::drain::<$Environment>;
            fn pagemill_strerror(error: i32) -> *const c_char = $crate::calls::strerror;
            fn pagemill_version() -> *const c_char = $crate::calls::version;
            }
        };
    };
}
pub(crate) use export_shared;
