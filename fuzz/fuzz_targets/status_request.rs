//! Feeds `status_request` of `src/status.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::status::status_request(data));
