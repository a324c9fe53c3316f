//! Devices whose frames come from a page pool: against a naive model of the pool over loopback, and
//! on a virtual pair with packets that another thread keeps.
//!
//! The last needs root, or the capabilities `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_BPF` and
//! `CAP_SYS_ADMIN`; without them it says that it was skipped.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests, which tell their seeds and what they skip"
)]

mod common;
#[path = "common/network.rs"]
mod network;

use core::time::Duration;
use std::time::Instant;

use common::{Frames, Random, frames, number_of, packet_of};
use network::{name, private_network, small, veth};
use pagemill::Page;
use pagemill_pool::config::{PP_ALLOC_CACHE_REFILL, PP_ALLOC_CACHE_SIZE};
use pagemill_pool::dma::NoDma;
use pagemill_pool::stats::PoolStats;
use pagemill_pool::{PagePool, PoolOwner, PoolPage, PoolParams, Returner};
use pagemill_xdp::devices::Loopback;
use pagemill_xdp::frames::Refill;
use pagemill_xdp::sinks::{Discard, Forward, handover};
use pagemill_xdp::testing::PacketSender;
use pagemill_xdp::{Device, FramePool, Interface, InterfaceConfig, Packet, Socket, Worker};

type Pool<'a> = PagePool<Page<&'a Frames>>;
type F<'p, 'f> = PoolPage<&'p Pool<'f>>;

const NR_FRAMES: u64 = 1024;
/// Places in the pool's ring: few, so that it is full now and then.
const POOL_RING: usize = 40;
/// Entries of a device's ring.
const RING: usize = 64;

fn pool(frames: &Frames, refill: Refill) -> Pool<'_> {
    let params =
        PoolParams { pool_size: POOL_RING, refill: refill.nr_pages(), ..PoolParams::new() };
    PagePool::new(&params, frames, NoDma).unwrap()
}

/// Ends the pool, of which no page may be out.
fn end(owner: PoolOwner<&Pool<'_>>, frames: &Frames) {
    let pool = *owner.pool();
    owner.shutdown().wait(|out| panic!("{out}")).unwrap();
    assert_eq!((pool.inflight(), frames.nr_free_pages()), (0, frames.platform().nr_pages()));
}

/// What a pool is, in numbers: pages in cache and ring, pages that have left the page allocator,
/// and what was counted.
#[derive(Debug)]
struct Model {
    cache: usize,
    ring: usize,
    inflight: usize,
    refill: usize,
    stats: PoolStats,
}

impl Model {
    fn alloc(&mut self) {
        if self.cache > 0 {
            self.cache -= 1;
            self.stats.alloc.fast += 1;
            return;
        }
        let from_ring = self.ring.min(PP_ALLOC_CACHE_REFILL);
        self.ring -= from_ring;
        if from_ring > 0 {
            self.stats.alloc.refill += 1;
            self.cache = from_ring - 1;
        } else {
            self.stats.alloc.empty += 1;
            self.stats.alloc.slow += 1;
            self.inflight += self.refill;
            self.cache = self.refill - 1;
        }
    }

    /// Pages come back to the owner.
    fn put_bulk(&mut self, nr: usize) {
        let to_cache = nr.min(PP_ALLOC_CACHE_SIZE - self.cache);
        self.cache += to_cache;
        self.stats.recycle.cached += to_cache as u64;
        self.stats.recycle.cache_full += (nr - to_cache) as u64;
        self.return_bulk(nr - to_cache);
    }

    /// Pages come back from elsewhere, up to 64 at once.
    fn return_bulk(&mut self, mut nr: usize) {
        while nr > 0 {
            let batch = nr.min(64);
            let to_ring = batch.min(POOL_RING - self.ring);
            self.ring += to_ring;
            self.stats.recycle.ring += to_ring as u64;
            self.stats.recycle.ring_full += u64::from(to_ring < batch);
            self.inflight -= batch - to_ring;
            nr -= batch;
        }
    }

    /// A page is dropped.
    fn drop_one(&mut self) {
        self.return_bulk(1);
    }
}

struct World<'p, 'f> {
    frames: &'f Frames,
    pool: &'p Pool<'f>,
    owner: PoolOwner<&'p Pool<'f>>,
    device: Loopback<F<'p, 'f>>,
    model: Model,
    hands: Vec<F<'p, 'f>>,
    packets: Vec<Packet<F<'p, 'f>>>,
}

impl<'p, 'f> World<'p, 'f> {
    fn new(frames: &'f Frames, pool: &'p Pool<'f>, refill: Refill) -> Self {
        Self {
            frames,
            pool,
            owner: PoolOwner::claim(pool).unwrap(),
            device: Loopback::new(frames, RING as u32).unwrap(),
            model: Model {
                cache: 0,
                ring: 0,
                inflight: 0,
                refill: refill.nr_pages(),
                stats: PoolStats::default(),
            },
            hands: Vec::new(),
            packets: Vec::new(),
        }
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(8) {
            0 | 1 => {
                let nr = self.device.nr_wanted().unwrap().saturating_sub(self.hands.len());
                assert_eq!(self.owner.allocate(&mut self.hands, nr), nr);
                (0..nr).for_each(|_| self.model.alloc());
                self.device.supply(&mut self.hands).unwrap();
            }
            2 => {
                let nr = random.below(2 * RING) as u64;
                // Until the device has no room.
                let _all = (0..nr).all(|number| self.device.inject(&packet_of(number)));
            }
            3 => {
                self.device.receive(&mut self.packets, random.below(2 * RING)).unwrap();
            }
            4 => {
                self.device.send(&mut self.packets).unwrap();
                self.device.flush().unwrap();
                let nr = self.device.completed(&mut self.hands).unwrap();
                let first = self.hands.len() - nr;
                self.owner.recycle(&mut self.hands.split_off(first));
                self.model.put_bulk(nr);
            }
            5 => {
                // The owner drops what came in.
                let mut spent: Vec<_> =
                    self.packets.drain(..).flat_map(Packet::into_frames).collect();
                self.model.put_bulk(spent.len());
                self.owner.recycle(&mut spent);
            }
            6 => {
                // Another thread does, one by one.
                let kept = core::mem::take(&mut self.packets);
                kept.iter().for_each(|_| self.model.drop_one());
                std::thread::scope(|scope| scope.spawn(move || drop(kept)).join().unwrap());
            }
            _ => {
                // Another thread does, many at once.
                let kept = core::mem::take(&mut self.packets);
                self.model.return_bulk(kept.len());
                let returner = self.owner.returner();
                std::thread::scope(|scope| {
                    let frames = kept.into_iter().flat_map(Packet::into_frames);
                    scope.spawn(move || returner.put_bulk(frames)).join().unwrap();
                });
            }
        }
        self.check();
    }

    fn check(&self) {
        let model = &self.model;
        assert_eq!(self.owner.stats(), model.stats, "{model:?}");
        assert_eq!(self.owner.nr_cached(), model.cache);
        assert_eq!(usize::try_from(self.pool.inflight()), Ok(model.inflight));
        let nr_out = self.device.nr_held() + self.hands.len() + self.packets.len();
        assert_eq!(model.inflight, nr_out + model.cache + model.ring, "{model:?}");
        assert_eq!(self.frames.nr_free_pages(), NR_FRAMES - model.inflight as u64);
    }
}

#[test]
fn a_device_over_the_pool_counts_as_the_model_does() {
    let frames = frames(4);
    for seed in Random::seeds(40) {
        let mut random = Random::new(seed);
        let refill = if seed % 2 == 0 { Refill::Bulk } else { Refill::Single };
        let pool = pool(&frames, refill);
        let mut world = World::new(&frames, &pool, refill);
        for _ in 0..300 {
            world.step(&mut random);
        }
        let alloc = world.model.stats.alloc;
        assert!(alloc.slow > 0 && alloc.refill > 0 && world.model.stats.recycle.ring_full > 0);
        let World { mut owner, device, mut hands, packets, .. } = world;
        device.close(&mut hands).unwrap();
        hands.extend(packets.into_iter().flat_map(Packet::into_frames));
        owner.recycle(&mut hands);
        end(owner, &frames);
    }
}

#[test]
fn what_a_worker_drops_is_recycled_directly() {
    let frames = frames(4);
    for refill in [Refill::Single, Refill::Bulk] {
        let pool = pool(&frames, refill);
        let owner = PoolOwner::claim(&pool).unwrap();
        let device = Loopback::new(&frames, RING as u32).unwrap();
        let mut worker = Worker::new(device, owner, Discard).unwrap();
        for number in 0..1000 {
            assert!(worker.input_mut().inject(&packet_of(number)));
            assert_eq!(worker.step().unwrap(), 1);
        }
        let stats = worker.pool_mut().stats();
        // Never more than the ring of the device: each page came from the allocator once.
        let nr_first = if refill == Refill::Single { RING } else { 1 };
        assert!((nr_first..=2 * nr_first).contains(&(stats.alloc.slow as usize)), "{stats:?}");
        assert_eq!((stats.recycle.cached, stats.recycle.ring), (1000, 0));
        let (owner, closed) = worker.close();
        closed.unwrap();
        end(owner, &frames);
    }
}

#[test]
fn redirected_packets_come_back_by_completion() {
    let frames = frames(4);
    let pool = pool(&frames, Refill::Bulk);
    let owner = PoolOwner::claim(&pool).unwrap();
    let input = Loopback::new(&frames, RING as u32).unwrap();
    let output = Loopback::new(&frames, RING as u32).unwrap();
    let mut worker = Worker::new(input, owner, Forward::new(output)).unwrap();
    for number in 0..1000 {
        assert!(worker.input_mut().inject(&packet_of(number)));
        assert_eq!(worker.step().unwrap(), 1);
    }
    worker.step().unwrap();
    assert_eq!(worker.output_counters().completed, 1000);
    let stats = worker.pool_mut().stats();
    assert_eq!((stats.recycle.cached, stats.recycle.ring), (1000, 0));
    let (owner, closed) = worker.close();
    closed.unwrap();
    end(owner, &frames);
}

#[test]
fn more_packets_than_the_ring_is_deep_go_to_the_allocator() {
    let frames = frames(4);
    let pool = pool(&frames, Refill::Bulk);
    let owner = PoolOwner::claim(&pool).unwrap();
    let device = Loopback::new(&frames, RING as u32).unwrap();
    let (to, inbox) = handover(64);
    let mut worker = Worker::new(device, owner, to).unwrap();
    // One in a batch, and room for all.
    let nr_kept = 60_u64;
    for number in 0..nr_kept {
        assert!(worker.input_mut().inject(&packet_of(number)));
        assert_eq!(worker.step().unwrap(), 1);
    }
    assert_eq!(worker.counters().passed, nr_kept);
    let inflight_before = pool.inflight();
    let returner = Returner::new(&pool);
    std::thread::scope(|scope| {
        let keeper = scope.spawn(move || {
            let mut kept = Vec::new();
            while (kept.len() as u64) < nr_kept {
                kept.extend(inbox.receive().expect("a batch comes"));
            }
            let in_order = kept.iter().map(|packet| number_of(packet)).eq((0..nr_kept).map(Some));
            returner.put_bulk(kept.into_iter().flat_map(Packet::into_frames));
            in_order
        });
        assert!(keeper.join().unwrap(), "packets are unchanged");
    });
    let stats = pool.stats().recycle;
    assert_eq!((stats.ring, stats.ring_full), (POOL_RING as u64, 1), "once a batch");
    let nr_freed = inflight_before - pool.inflight();
    assert_eq!(
        u64::try_from(nr_freed),
        Ok(nr_kept - POOL_RING as u64),
        "the others went to the allocator"
    );
    let (owner, closed) = worker.close();
    closed.unwrap();
    end(owner, &frames);
}

#[test]
fn a_page_that_is_kept_is_told_at_the_end() {
    let frames = frames(4);
    let pool = pool(&frames, Refill::Bulk);
    let owner = PoolOwner::claim(&pool).unwrap();
    let device = Loopback::new(&frames, RING as u32).unwrap();
    let mut worker = Worker::new(device, owner, Discard).unwrap();
    assert!(worker.input_mut().inject(&packet_of(1)));
    let mut kept = Vec::new();
    worker.input_mut().receive(&mut kept, 1).unwrap();
    let (owner, closed) = worker.close();
    closed.unwrap();
    let mut draining = owner.shutdown();
    assert_eq!(draining.poll().map(|out| out.inflight), Some(1));
    assert_eq!(number_of(&kept[0]), Some(1), "it outlives device and pool");
    drop(kept);
    assert!(draining.is_complete());
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn packets_of_the_kernel_are_kept_by_another_thread_and_none_is_lost() {
    let Some(()) = private_network() else { return };
    const NR: u64 = 20_000;
    let frames = frames(8);
    let pool = pool(&frames, Refill::Bulk);
    let pair = veth("p0", "p1");
    let interface = Interface::attach(name("p1"), InterfaceConfig::default()).unwrap();
    let socket: Socket<F<'_, '_>> = Socket::open(&interface, 0, &frames, &small()).unwrap();
    let sender = PacketSender::to(pair.index(0)).unwrap();
    // Few batches on the way, so that frames suffice however late the other thread is.
    let (to, inbox) = handover(4);
    let mut worker = Worker::new(socket, PoolOwner::claim(&pool).unwrap(), to).unwrap();
    let (owner, numbers) = std::thread::scope(|scope| {
        // Keeps 300 packets, more than the ring of the pool takes, and drops them at once.
        let keeper = scope.spawn(move || {
            let (mut numbers, mut kept) = (Vec::new(), Vec::new());
            while let Some(mut batch) = inbox.receive() {
                kept.append(&mut batch);
                inbox.give_back(batch);
                if kept.len() >= 300 {
                    numbers.extend(kept.drain(..).map(|packet: Packet<_>| number_of(&packet)));
                }
            }
            numbers.extend(kept.iter().map(|packet| number_of(packet)));
            numbers
        });
        let start = Instant::now();
        let mut sent = 0;
        while worker.counters().passed < NR {
            let counters = worker.input_counters();
            assert_eq!(counters.lost(), 0, "{counters:?}");
            assert!(start.elapsed() < Duration::from_mins(3), "packets are missing: {counters:?}");
            // No more under way than the ring of the socket holds.
            if sent - worker.counters().passed < 64 && sent < NR {
                let batch: Vec<_> = (sent..NR.min(sent + 64)).map(packet_of).collect();
                sent += sender.send(&batch).unwrap() as u64;
            }
            worker.step().unwrap();
        }
        let (owner, closed) = worker.close();
        closed.unwrap();
        (owner, keeper.join().unwrap())
    });
    assert!(numbers.into_iter().eq((0..NR).map(Some)), "each once, unchanged and in order");
    let stats = owner.stats();
    assert!(stats.recycle.ring > 0 && stats.alloc.refill > 0, "{stats:?}");
    end(owner, &frames);
}
