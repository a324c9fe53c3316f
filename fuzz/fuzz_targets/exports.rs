//! Feeds `exports` of `src/nfs.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::nfs::exports(data));
