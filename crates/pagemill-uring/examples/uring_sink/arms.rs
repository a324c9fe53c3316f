//! The ways to receive that are compared.

use alloc::sync::Arc;
use core::error::Error;
use std::io::Read;
use std::net::TcpStream;

use pagemill::Order;
use pagemill_host::{HostAllocator, SharedAllocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolParams};
use pagemill_uring::supply::{AllocatorSupply, PageSupply, Refill};
use pagemill_uring::{Event, ReceiveConfig, ReceiveRing};

/// A way to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// `read(2)` into one buffer of this length.
    Read(usize),
    /// A ring of folios of 1 MiB from a page pool, one for each completion.
    Folios,
    /// A ring of pages from a page pool, with or without bundles.
    Pool { bundles: bool },
    /// A ring of pages from the page allocator, to which they return, with bundles.
    Allocator(Refill),
}

impl Arm {
    pub(crate) const ALL: [Self; 8] = [
        Self::Read(128 << 10),
        Self::Read(1 << 20),
        Self::Folios,
        Self::Pool { bundles: false },
        Self::Pool { bundles: true },
        Self::Allocator(Refill::Single),
        Self::Allocator(Refill::Bulk),
        Self::Allocator(Refill::Split),
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Read(len) => format!("read(2), {} KiB", len >> 10),
            Self::Folios => "ring, 1 MiB buffers".to_owned(),
            Self::Pool { bundles: false } => "ring, 4 KiB, pool, no bundles".to_owned(),
            Self::Pool { bundles: true } => "ring, 4 KiB, pool".to_owned(),
            Self::Allocator(refill) => format!("ring, 4 KiB, allocator, {refill}"),
        }
    }

    /// Receives to the end of the stream, and returns the number of bytes and of completions or reads.
    pub(crate) fn receive(
        self,
        socket: TcpStream,
        nr_buffers: u16,
        frames: &SharedAllocator,
    ) -> Result<(u64, u64), Box<dyn Error>> {
        let new = ReceiveConfig { nr_buffers, ..ReceiveConfig::new() };
        match self {
            Self::Read(len) => read(socket, len),
            Self::Folios => {
                let order = Order::new(8)?;
                let params = PoolParams { order, ..PoolParams::new() };
                let pool = PagePool::of_folios(&params, frames.clone(), NoDma)?;
                let owner = PoolOwner::claim(Arc::new(pool)).ok_or("a new pool has no owner")?;
                drain(socket, owner, &ReceiveConfig { nr_buffers: 16, bundles: false, ..new })
            }
            Self::Pool { bundles } => {
                let pool = PagePool::new(&PoolParams::new(), frames.clone(), NoDma)?;
                let owner = PoolOwner::claim(Arc::new(pool)).ok_or("a new pool has no owner")?;
                drain(socket, owner, &ReceiveConfig { bundles, ..new })
            }
            Self::Allocator(refill) => {
                drain(socket, AllocatorSupply::new(frames.clone(), refill), &new)
            }
        }
    }
}

/// Makes the arena: all arms use the same one.
pub(crate) fn frames() -> Result<SharedAllocator, Box<dyn Error>> {
    Ok(SharedAllocator::new(HostAllocator::new(256 << 20)?))
}

fn read(mut socket: TcpStream, len: usize) -> Result<(u64, u64), Box<dyn Error>> {
    let mut buffer = vec![0; len];
    let (mut nr_bytes, mut nr_reads) = (0, 0);
    loop {
        let nr = socket.read(&mut buffer)?;
        if nr == 0 {
            return Ok((nr_bytes, nr_reads));
        }
        nr_bytes += nr as u64;
        nr_reads += 1;
    }
}

fn drain<P: PageSupply>(
    socket: TcpStream,
    supply: P,
    config: &ReceiveConfig,
) -> Result<(u64, u64), Box<dyn Error>> {
    let mut ring = ReceiveRing::new(supply, config)?;
    ring.add(socket)?;
    loop {
        ring.wait(None)?;
        while let Some(event) = ring.next_event() {
            match event {
                Event::Data { received, .. } => ring.put(received),
                Event::End { .. } => {
                    let stats = ring.stats();
                    ring.shutdown().1?;
                    return Ok((stats.bytes_received, stats.nr_deliveries));
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
    }
}
