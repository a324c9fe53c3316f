//! Feeds `report` of `src/bench.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::bench::report(data));
