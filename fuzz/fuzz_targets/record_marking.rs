//! Feeds `record_marking` of `src/rpc.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::rpc::record_marking(data));
