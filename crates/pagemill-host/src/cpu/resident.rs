//! Resident code: keeps this library mapped, because the kernel may read its sequence descriptors
//! later.
//!
//! `code-resident`: after [`keep`] has returned true, nothing unmaps the object (program or library)
//! that contains this code. Inlined or generic code is compiled where it is used and may be in another
//! object: an object that uses a host made by another one must not be unloaded, as
//! [`Host`](crate::Host) documents.

use core::ffi::c_void;
use core::mem::MaybeUninit;

/// Keeps this code mapped for the life of the process, and returns whether it succeeded.
pub(crate) fn keep() -> bool {
    let Some(here) = object_of(keep as *const c_void) else { return false };
    // SAFETY: 1. The call takes a number, and reads the vector that the kernel passed to the
    // process.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) };
    #[expect(clippy::cast_possible_truncation, reason = "an address")]
    let program = object_of(core::ptr::without_provenance(entry as usize));
    // The program itself is never unmapped, and cannot be opened like a library.
    program.is_some_and(|program| program.dli_fbase == here.dli_fbase) || {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
        // SAFETY:
        // 1. The name is a C string that the loader keeps while the object is loaded, and this code
        //    is part of the object.
        // 2. The object is loaded already, so the call loads nothing and runs no foreign code.
        !unsafe { libc::dlopen(here.dli_fname, flags) }.is_null()
    }
}

/// Returns the loader's information about the object that contains an address.
fn object_of(address: *const c_void) -> Option<libc::Dl_info> {
    let mut info = MaybeUninit::uninit();
    // SAFETY:
    // 1. Any address is allowed: the loader compares it and does not read from it.
    // 2. `info` has room for the structure that the call writes.
    let is_found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
    // SAFETY: 1. Initialised: the loader found the object, and wrote `info`.
    is_found.then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "asks the loader")]
    fn a_program_stays_and_addresses_outside_are_of_no_object() {
        // A static musl has no loader to ask, and no area for sequences either.
        assert!(keep() || cfg!(target_env = "musl"));
        assert!(object_of(core::ptr::without_provenance(1)).is_none());
    }
}
