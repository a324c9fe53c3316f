//! Feeds `status_body` of `src/status.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::status::status_body(data));
