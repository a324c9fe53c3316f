//! The program `pagemill`.
#![forbid(unsafe_code)]

fn main() {}
