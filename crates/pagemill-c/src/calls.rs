//! Functions that a process and a kernel share, for any environment, and the macros that give functions
//! their C names.
//!
//! Each function takes the name of its C function, for the line that ends the program when a call is wrong.
//!
//! `c-arguments`: a C caller keeps the rules of the header that no function can check. Arrays have as many
//! entries as the call says, and nothing else uses them during the call; pages belong to the caller; no
//! call runs while its allocator is destroyed.

use core::slice;

use pagemill::handles::RawPage;
use pagemill::{AllocPages, Gfp, Order, PageAllocator};

use crate::environment::Environment;
use crate::types::{Handle, NR_MAX, PageWord};

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
    #[cold]
    #[inline(never)]
    fn wrong<E: Environment>(call: &'static str, nr: usize, pages: *mut PageWord) -> ! {
        if nr >= NR_MAX {
            E::misuse(call, format_args!("nr {nr}; allowed are 0 to {}", NR_MAX - 1));
        }
        E::misuse(
            call,
            format_args!("pages {pages:p}; allowed is an aligned array of {nr} entries"),
        )
    }
    if nr == 0 {
        return &mut [];
    }
    if nr >= NR_MAX || pages.is_null() || !pages.is_aligned() {
        wrong::<E>(call, nr, pages);
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
    #[cold]
    #[inline(never)]
    fn wrong<E: Environment>(call: &'static str, error: &dyn core::fmt::Display) -> ! {
        E::misuse(call, format_args!("page {error}"))
    }
    match RawPage::from_bits(word).and_then(|raw| allocator.check_raw(raw).map(|()| raw)) {
        Ok(raw) => raw,
        Err(error) => wrong::<E>(call, &error),
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
    unsafe { free_pages_bulk::<E>(call, handle, 1, &raw mut page) };
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
    let frames = E::allocator(call, handle);
    let gfp = flags::<E>(call, gfp);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let slots = unsafe { slots::<E>(call, nr, pages) };
    frames.alloc_raw_bulk(gfp, slots)
}

/// # Safety
/// As for [`slots`]; the caller owns the blocks in them.
// Always: two functions use it, and a call costs 20 instructions.
#[inline(always)]
pub(crate) unsafe fn free_pages_bulk<E: Environment>(
    call: &'static str,
    handle: Handle,
    nr: usize,
    pages: *mut PageWord,
) -> usize {
    #[cold]
    #[inline(never)]
    fn wrong<E: Environment>(call: &'static str, error: &dyn core::fmt::Display) -> ! {
        E::misuse(call, format_args!("page {error}"))
    }
    let frames = E::allocator(call, handle);
    // SAFETY:
    // 1. Guaranteed by the caller.
    let slots = unsafe { slots::<E>(call, nr, pages) };
    // SAFETY:
    // 1. The caller owns the blocks, and gives them up.
    match unsafe { frames.release_raw(slots) } {
        Ok(nr) => nr,
        Err(error) => wrong::<E>(call, &error),
    }
}

#[inline]
pub(crate) fn nr_free_pages<E: Environment>(call: &'static str, handle: Handle) -> u64 {
    E::allocator(call, handle).nr_free_pages()
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
        $crate::calls::export! { $Environment;
            fn pagemill_alloc_page(handle: Handle, gfp: u32) -> PageWord
                = calls::alloc_page::<$Environment>;
            fn pagemill_alloc_pages(handle: Handle, gfp: u32, order: u32) -> PageWord
                = calls::alloc_pages::<$Environment>;
            fn pagemill_free_page(handle: Handle, page: PageWord)
                = calls::free_page::<$Environment>;
            fn pagemill_alloc_pages_bulk(
                handle: Handle, gfp: u32, nr: usize, pages: *mut PageWord,
            ) -> usize = calls::alloc_pages_bulk::<$Environment>;
            fn pagemill_free_pages_bulk(handle: Handle, nr: usize, pages: *mut PageWord) -> usize
                = calls::free_pages_bulk::<$Environment>;
            fn pagemill_nr_free_pages(handle: Handle) -> u64
                = calls::nr_free_pages::<$Environment>;
        }
    };
}
pub(crate) use export_shared;
