//! Feeds `xdr` of `src/rpc.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pagemill_fuzz::rpc::xdr(data));
