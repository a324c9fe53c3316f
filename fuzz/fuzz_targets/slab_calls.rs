//! Feeds `calls` of `src/slab.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::slab::calls(data));
