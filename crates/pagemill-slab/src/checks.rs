//! Red zones and poison: bytes in and behind objects that show what was written where nothing should be.

use core::ptr::NonNull;

use crate::config::Checks;
use crate::geometry::{Geometry, LINK_BYTES};

/// The red zone of an object in use.
///
/// # Source
/// `linux-6.12` `include/linux/poison.h` `SLUB_RED_ACTIVE`
const RED_ACTIVE: u8 = 0xcc;
/// The red zone of a free object.
///
/// # Source
/// `linux-6.12` `include/linux/poison.h` `SLUB_RED_INACTIVE`
const RED_INACTIVE: u8 = 0xbb;
/// The bytes of a free object.
///
/// # Source
/// `linux-6.12` `include/linux/poison.h` `POISON_FREE`
const POISON_FREE: u8 = 0x6b;

/// The object to check, and what there is to say about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) name: &'static str,
    pub(crate) geometry: &'a Geometry,
    pub(crate) checks: Checks,
    pub(crate) object: NonNull<u8>,
}

impl Checked<'_> {
    /// Checks an object that leaves its slab, and marks it as in use. An object that is fresh has no
    /// marks.
    ///
    /// # Panics
    /// If its red zone or its bytes were written while it was free.
    ///
    /// # Safety
    /// `object` is an object of a slab with this geometry, the caller's own, and not fresh unless `is_fresh`.
    #[inline]
    pub(crate) unsafe fn take(self, is_fresh: bool) {
        if self.checks.has_red_zones() {
            // SAFETY: 1. the caller's obligation.
            unsafe { self.check_taken(is_fresh) };
        }
    }

    /// # Safety
    /// As for [`take`](Self::take).
    #[cold]
    #[inline(never)]
    unsafe fn check_taken(self, is_fresh: bool) {
        let (size, zone) = (self.geometry.size, self.zone());
        if !is_fresh && self.checks == Checks::Poison {
            // SAFETY: 1. the object's own bytes: the caller's obligation; `put` filled them.
            if let Some(at) = unsafe { self.find_other(0, size, POISON_FREE) } {
                self.complain("was written after it was freed", at);
            }
        }
        if !is_fresh {
            // SAFETY: 1. as above.
            if let Some(at) = unsafe { self.find_other(size, zone, RED_INACTIVE) } {
                self.complain("was written behind its end while it was free", at);
            }
        }
        // SAFETY: 1. as above.
        unsafe { self.fill(size, zone, RED_ACTIVE) };
    }

    /// Checks an object that returns to its slab, and marks it as free.
    ///
    /// # Panics
    /// If it is free already, or was written behind its end.
    ///
    /// # Safety
    /// `object` is an object of a slab with this geometry that was handed out before, and no other thread
    /// uses it.
    #[inline]
    pub(crate) unsafe fn put(self) {
        if self.checks.has_red_zones() {
            // SAFETY: 1. the caller's obligation.
            unsafe { self.check_put() };
        }
    }

    /// # Safety
    /// As for [`put`](Self::put).
    #[cold]
    #[inline(never)]
    unsafe fn check_put(self) {
        let (size, zone) = (self.geometry.size, self.zone());
        // SAFETY: 1. the object's own bytes: the caller's obligation; `take` filled the red zone.
        if let Some(at) = unsafe { self.find_other(size, zone, RED_ACTIVE) } {
            // SAFETY: 1. as above.
            let is_free = unsafe { self.find_other(size, zone, RED_INACTIVE) }.is_none();
            if is_free {
                self.complain("is freed twice", 0);
            }
            self.complain("was written behind its end", at);
        }
        // SAFETY: 1. as above.
        unsafe { self.fill(0, size, POISON_FREE) };
        // SAFETY: 1. as above.
        unsafe { self.fill(size, zone, RED_INACTIVE) };
    }

    /// Bytes of the red zone: from the object's end to the link.
    fn zone(&self) -> usize {
        debug_assert!(self.geometry.link_at >= self.geometry.size + LINK_BYTES);
        self.geometry.link_at - self.geometry.size
    }

    /// Returns the position of a byte other than `expected`.
    ///
    /// # Safety
    /// The `len` bytes from `at` on are initialised bytes of the object and its red zone, and not written
    /// meanwhile.
    unsafe fn find_other(&self, at: usize, len: usize, expected: u8) -> Option<usize> {
        (at..at + len).find(|&at| {
            // SAFETY: 1. in the object: the caller's obligation.
            let byte = unsafe { self.object.add(at) };
            // SAFETY: 1. initialised, and not written meanwhile: the caller's obligation.
            unsafe { byte.read() != expected }
        })
    }

    /// Fills bytes of the object or its red zone.
    ///
    /// # Safety
    /// They are the caller's own.
    unsafe fn fill(&self, at: usize, len: usize, value: u8) {
        // SAFETY: 1. in the object: the caller's obligation.
        let from = unsafe { self.object.add(at) };
        // SAFETY: 1. the caller's own.
        unsafe { from.write_bytes(value, len) };
    }

    #[cold]
    fn complain(&self, what: &str, at: usize) -> ! {
        panic!(
            "cache {}: the object of {} bytes at {:p} {what}, at byte {at}",
            self.name, self.geometry.size, self.object
        )
    }
}
