//! All of memory at one place: what turns a physical address into a pointer.
//!
//! `direct-map`: every byte of memory that the map calls usable is mapped, writable, at [`BASE`]
//! plus its address. The boot code does so for the first 4 GiB; [`cover`] for the rest.

use core::ptr::{self, NonNull};

use crate::memory::Map;

/// Where physical address zero is mapped: the first address of the upper half.
pub(crate) const BASE: u64 = 0xffff_8000_0000_0000;

/// What one table of pointers covers, and so the end of the direct map.
const END: u64 = 512 * GIB;
const GIB: u64 = 1 << 30;
/// What the boot code has mapped.
const MAPPED_AT_BOOT: u64 = 4 * GIB;

/// A table entry that is present and writable.
pub(crate) const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 1 << 7;

unsafe extern "C" {
    /// The table of the second level from the top: one entry for each GiB.
    static mut boot_pointers: [u64; 512];
}

/// Returns where the byte at `address` is mapped.
#[inline]
pub(crate) fn pointer(address: u64) -> NonNull<u8> {
    assert!(address < END, "{address:#x} is beyond the direct map");
    let mapped = usize::try_from(BASE + address).expect("addresses have 64 bits");
    let pointer = ptr::with_exposed_provenance_mut(mapped);
    NonNull::new(pointer).expect("the upper half begins above zero")
}

/// Maps the memory above 4 GiB, with tables carved out of the memory below.
pub(crate) fn cover(map: &mut Map) {
    assert!(map.end() <= END, "memory ends at {:#x}: at most 512 GiB are mapped", map.end());
    for (gib, index) in (MAPPED_AT_BOOT..END).step_by(1 << 30).zip(4..) {
        if map.has_memory_in(gib, gib + GIB) {
            let table = map.carve(4096, MAPPED_AT_BOOT).value();
            let entries = pointer(table).cast::<[u64; 512]>();
            // SAFETY: 1. valid: the boot code has mapped it, and integers may hold any bytes. 2.
            // exclusive: it was carved out for this.
            let entries = unsafe { &mut *entries.as_ptr() };
            for (entry, page) in entries.iter_mut().zip((gib..).step_by(2 << 20)) {
                *entry = page | PRESENT_WRITABLE | LARGE;
            }
            let pointers = &raw mut boot_pointers;
            // SAFETY: 1. valid: the boot code's table, 512 entries. 2. exclusive: no other CPU runs
            // yet. The entry was absent, so no CPU remembers a translation.
            unsafe { (*pointers)[index] = table | PRESENT_WRITABLE };
        }
    }
}
