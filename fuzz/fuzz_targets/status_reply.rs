//! Feeds `status_reply` of `src/status.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::status::status_reply(data));
