//! Page pool: packets are copied into pages of a pool, leave it with them, and a stack frees them.
//!
//! The case in which a pool needs the page allocator for each packet. Packets that return to the pool
//! do not, whichever way it is refilled.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::hint::black_box;
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use pagemill::Page;
use pagemill::units::Pfn;
use pagemill_pool::config::DmaParams;
use pagemill_pool::dma::ArenaOffsets;
use pagemill_pool::providers::MemoryProvider;
use pagemill_pool::{PagePool, PoolOwner, PoolParams};

use super::pages::{self, Slot};
use super::sample::{AllocTicks, Meter};
use super::{Arm, Sample, Setup, Start, User};
use crate::Clock;
use crate::frames::Frames;

/// Packets per poll, and pages per refill.
const BUDGET: usize = 64;
/// Bytes of a packet: a full Ethernet frame without its checksum.
const PACKET_BYTES: usize = 1514;
/// Bytes that the stack looks at.
const HEADER_BYTES: usize = 64;
/// Packets that the stack holds: more than the lists of a CPU usually do.
const HELD: usize = 4096;
/// Packets that wait in memory to be copied: more bytes than the caches next to a CPU have.
const NR_SOURCES: usize = 4096;
/// Polls between two looks at the time.
const POLLS: usize = 64;

pagemill_pool::static_pool! {
    static POOL: Page<Frames>, ArenaOffsets;
    /// How pages reach the static.
    type Rx;
}

/// What the provider of the pool and the user share.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Refills>>);

/// How the pool is refilled, and what that took since the arm was set.
#[derive(Debug)]
struct Refills {
    arm: Arm,
    alloc: AllocTicks,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Refills> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the pool's pages from the page allocator by the arm that is measured.
#[derive(Debug)]
struct Provider {
    frames: Frames,
    clock: Clock,
    shared: Shared,
}

impl MemoryProvider<Page<Frames>> for Provider {
    fn alloc(&self, nr: usize, give: &mut dyn FnMut(Page<Frames>)) {
        let mut slots: [Slot; BUDGET] = [const { None }; BUDGET];
        let slots = &mut slots[..nr.min(BUDGET)];
        let mut refills = self.shared.lock();
        let arm = refills.arm;
        // The pool notices that there are fewer.
        let _is_full = refills.alloc.time(self.clock, || pages::take(self.frames, arm, slots));
        drop(refills);
        slots.iter_mut().filter_map(Option::take).for_each(give);
    }

    fn release(&self, page: Page<Frames>) -> Option<Page<Frames>> {
        Some(page)
    }
}

/// A device's driver and the stack behind it, on one CPU.
#[derive(Debug)]
struct PagePoolUser {
    owner: PoolOwner<Rx>,
    shared: Shared,
    clock: Clock,
    packets: Vec<[u8; PACKET_BYTES]>,
    held: VecDeque<Page<Frames>>,
}

pub(super) fn start(setup: &Setup) -> anyhow::Result<Start> {
    let refills = Refills { arm: Arm::Single, alloc: AllocTicks::default() };
    let shared = Shared(Arc::new(Mutex::new(refills)));
    let Setup { frames, clock, .. } = *setup;
    let provider = Provider { frames, clock, shared: shared.clone() };
    let dma = DmaParams { sync_for_device: true, max_len: PACKET_BYTES, ..PoolParams::new().dma };
    let params = PoolParams { dma, ..PoolParams::new() };
    let mapper = ArenaOffsets::new(Pfn::new(0));
    let pool = PagePool::with_provider(&params, frames, mapper, Box::new(provider))?;
    anyhow::ensure!(POOL.set(pool).is_ok(), "a process measures once");
    Ok(Start::Ready(Box::new(PagePoolUser {
        owner: PoolOwner::claim(Rx::new()).context("a process measures once")?,
        shared,
        clock,
        packets: vec![[0x5a; PACKET_BYTES]; NR_SOURCES],
        held: VecDeque::with_capacity(HELD + BUDGET),
    })))
}

impl User for PagePoolUser {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        self.shared.lock().arm = arm;
        // From the first counted packet on, the stack frees as many as it gets.
        while self.held.len() < HELD {
            self.poll(&mut AllocTicks::default())?;
        }
        self.shared.lock().alloc = AllocTicks::default();
        let mut alloc = AllocTicks::default();
        let meter = Meter::start();
        let mut nr_packets = 0;
        while nr_packets == 0 || meter.elapsed() < slice {
            for _ in 0..POLLS {
                self.poll(&mut alloc)?;
            }
            nr_packets += (POLLS * BUDGET) as u64;
        }
        alloc.add(self.shared.lock().alloc);
        let sample = meter.stop(nr_packets, Duration::ZERO, alloc);
        self.empty()?;
        Ok(sample)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.owner.shutdown().wait(|_| false)?;
        Ok(())
    }
}

impl PagePoolUser {
    /// Receives one poll's packets, and has the stack free as many of those that it held the longest.
    fn poll(&mut self, freed: &mut AllocTicks) -> anyhow::Result<()> {
        let first = self.held.len() % (NR_SOURCES - BUDGET);
        for packet in &self.packets[first..first + BUDGET] {
            let page = self.owner.alloc();
            let page = page.context("the experiment ran out of pages: use a larger --arena")?;
            let mut page = page.detach();
            page.as_bytes_mut()[..PACKET_BYTES].copy_from_slice(packet);
            let header = &page.as_bytes()[..HEADER_BYTES];
            black_box(header.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte))));
            self.held.push_back(page);
        }
        let nr_too_many = self.held.len().saturating_sub(HELD);
        freed.time(self.clock, || self.held.drain(..nr_too_many).for_each(drop));
        Ok(())
    }

    /// Frees all pages that the stack holds and the pool has cached.
    fn empty(&mut self) -> anyhow::Result<()> {
        self.held.clear();
        while self.owner.nr_cached() > 0 {
            let page = self.owner.alloc().context("a cached page cannot be had")?;
            drop(page.detach());
        }
        Ok(())
    }
}
