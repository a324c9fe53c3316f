//! Feeds `nfs3_args` of `src/nfs.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::nfs::nfs3_args(data));
