//! A library that used the allocator is closed: the kernel must still find what the thread's
//! restartable-sequence area may name.

extern crate alloc;

use alloc::ffi::CString;
use core::time::Duration;
use std::io::{Write, stderr};
use std::thread;

/// Returns the library that `examples/plugin.rs` was built into, beside this test, if it was.
fn plugin() -> Option<CString> {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("it is in PROFILE/deps");
    let library = profile.join("examples").join("libplugin.so");
    let name = library.exists().then(|| library.into_os_string().into_encoded_bytes())?;
    Some(CString::new(name).expect("a path has no zero byte"))
}

#[test]
fn a_closed_library_stays_where_the_kernel_may_look() {
    const NR_PAGES: u64 = 1000;
    let Some(library) = plugin() else {
        // Past the capture of what tests print.
        writeln!(
            stderr(),
            "SKIPPED: unload: without the examples, which cargo test --tests leaves out"
        )
        .expect("there is a standard error");
        return;
    };
    // SAFETY: 1. The library was built by this test; loading it runs only code of Rust's standard
    // library.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null(), "{library:?} cannot be opened");
    // SAFETY: 1. The handle is of an open library.
    let churn = unsafe { libc::dlsym(handle, c"pagemill_plugin_churn".as_ptr()) };
    assert!(!churn.is_null(), "{library:?} lacks its function");
    // SAFETY: 1. The function has this type, and the library is open until after the last call.
    let churn: extern "C" fn(u64) -> u64 = unsafe { core::mem::transmute(churn) };
    assert_eq!(churn(NR_PAGES), NR_PAGES);
    // SAFETY: 1. No code or data of the library is used after this.
    assert_eq!(unsafe { libc::dlclose(handle) }, 0);
    // The thread loses its CPU, and comes back by way of the kernel's look at its area.
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(1));
    }
    let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD;
    // SAFETY: 1. The flags make the call load nothing.
    let resident = unsafe { libc::dlopen(library.as_ptr(), flags) };
    assert!(!resident.is_null(), "{library:?} was unmapped");
}
