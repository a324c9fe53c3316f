//! Write verifiers: numbers by which clients detect that the server restarted.

/// Returns a random number that practically no other start of a server has.
pub(crate) fn fresh_verifier() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => pagemill_host::machine::monotonic_ns(),
    }
}
