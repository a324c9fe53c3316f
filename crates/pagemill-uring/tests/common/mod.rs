//! What the tests share: pages with a leak check, rings, peers, and waiting for events with a limit.

#![allow(dead_code, reason = "each test file uses a part")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests, which tell what they skip"
)]

use alloc::sync::Arc;
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use pagemill::Page;
use pagemill_host::{HostAllocator, SharedAllocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams};
use pagemill_uring::{ConnectionId, Event, ReceiveConfig, ReceiveRing};

pub(crate) type Pool = Arc<PagePool<Page<SharedAllocator>>>;
pub(crate) type Owner = PoolOwner<Pool>;
pub(crate) type Ring = ReceiveRing<Owner>;
pub(crate) type PoolEvent = Event<PoolPage<Pool>>;

/// An allocator that checks on drop that all pages are back.
pub(crate) struct Frames {
    pub(crate) frames: SharedAllocator,
    nr_free: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self::of(128 << 20)
    }

    pub(crate) fn of(len_bytes: u64) -> Self {
        let frames = SharedAllocator::new(HostAllocator::new(len_bytes).unwrap());
        let nr_free = frames.nr_free_pages();
        Self { frames, nr_free }
    }

    /// Makes a pool, and claims it.
    pub(crate) fn owner(&self) -> Owner {
        let pool = PagePool::new(&PoolParams::new(), self.frames.clone(), NoDma).unwrap();
        PoolOwner::claim(Arc::new(pool)).unwrap()
    }

    /// Makes a ring of a new pool; `None` where io_uring cannot be used.
    pub(crate) fn ring(&self, config: &ReceiveConfig) -> Option<Ring> {
        match ReceiveRing::new(self.owner(), config) {
            Ok(ring) => Some(ring),
            Err(error) if error.is_unsupported() => {
                println!("SKIPPED: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.frames.nr_free_pages(), self.nr_free, "pages are missing");
        }
    }
}

/// Ends a ring and its pool, and checks that nothing is left.
pub(crate) fn finish(ring: Ring) {
    let (owner, shut) = ring.shutdown();
    shut.unwrap();
    assert!(owner.shutdown().is_complete(), "pages are still out");
}

/// Returns two connected sockets.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, peer)
}

/// Longest time for anything that a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Passes events to `each` until it returns true.
pub(crate) fn run(ring: &mut Ring, mut each: impl FnMut(&mut Ring, PoolEvent) -> bool) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < LIMIT, "nothing happened: {:?}", ring.stats());
        ring.wait(Some(Duration::from_millis(200))).unwrap();
        while let Some(event) = ring.next_event() {
            if each(ring, event) {
                return;
            }
        }
    }
}

/// Waits until a connection is closed.
pub(crate) fn run_until_closed(ring: &mut Ring, closed: ConnectionId) {
    run(ring, |_ring, event| matches!(event, Event::Closed { connection } if connection == closed));
}

/// The byte at each place of a stream that tests send.
pub(crate) fn byte_at(place: u64) -> u8 {
    (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Writes `len` bytes of the stream in pieces, and ends it.
pub(crate) fn write_stream(mut peer: &TcpStream, len: u64, piece: usize) {
    let mut place = 0;
    let mut bytes = Vec::with_capacity(piece);
    while place < len {
        bytes.clear();
        let end = len.min(place + piece as u64);
        bytes.extend((place..end).map(byte_at));
        peer.write_all(&bytes).unwrap();
        place = end;
    }
    peer.shutdown(std::net::Shutdown::Write).unwrap();
}

/// Reads to the end, and checks that it is the stream of `len` bytes.
pub(crate) fn read_stream(mut peer: &TcpStream, len: u64) {
    let mut place = 0;
    let mut bytes = vec![0; 64 << 10];
    loop {
        let nr = peer.read(&mut bytes).unwrap();
        if nr == 0 {
            break;
        }
        check(&bytes[..nr], &mut place);
    }
    assert_eq!(place, len);
}

/// Checks bytes of the stream from `place` on, and advances it.
pub(crate) fn check(bytes: &[u8], place: &mut u64) {
    for &byte in bytes {
        assert_eq!(byte, byte_at(*place), "at byte {place}");
        *place += 1;
    }
}
