//! What the tests of devices share: arenas, numbered packets, random choices.

mod random;

use pagemill::PageAllocator;
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_xdp::headers::{Datagram, parse};
pub(crate) use random::Random;

/// The allocator of a test.
pub(crate) type Frames = PageAllocator<Host>;

/// Makes an allocator over an arena of so many MiB.
pub(crate) fn frames(mib: u64) -> Frames {
    allocator(&AllocatorConfig::new(ArenaConfig::new(mib << 20))).unwrap()
}

/// Returns a packet of `len` bytes whose headers hold together, and which tells its number.
pub(crate) fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    let filler = (0..).map(|nth: u64| (number.wrapping_mul(31).wrapping_add(nth)) as u8);
    payload.extend(filler.take(len.saturating_sub(50)));
    Datagram::example().packet(&payload)
}

/// Returns the packet with this number, of a length that follows from it.
pub(crate) fn packet_of(number: u64) -> Vec<u8> {
    numbered(number, 60 + (number % 400) as usize)
}

/// Returns the number that a packet tells, if it is as [`packet_of`] made it.
pub(crate) fn number_of(bytes: &[u8]) -> Option<u64> {
    let headers = parse(bytes, bytes.len()).ok()?;
    let payload = bytes.get(headers.payload_start..)?.get(..headers.payload_len)?;
    let number = u64::from_le_bytes(*payload.first_chunk()?);
    (packet_of(number) == bytes).then_some(number)
}
