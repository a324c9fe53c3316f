//! The program `pagemill`.
fn main() {}
