//! Feeds `packet` of `src/xdp.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::xdp::packet(data));
