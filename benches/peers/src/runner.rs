//! Runner: one peer in one thread, with loops that are compiled for that peer.

use alloc::sync::Arc;
use core::hint::black_box;
use core::time::Duration;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use crate::peer::{Batch, Peer};
use crate::raw::line::{Consumer, Producer, line};
use pagemill_bench::rng::Rng;

/// Pages per call in scenarios that do not vary it.
pub(crate) const BATCH: usize = 64;
/// Maximum number of threads.
pub(crate) const THREADS_MAX: usize = 16;
/// Maximum number of pages per call.
pub(crate) const N_MAX: usize = 512;
/// Approximate time between two readings of the clock.
const CHUNK: Duration = Duration::from_micros(50);
/// How many times churn frees a tenth of the pages and allocates as many again.
const NR_CHURNS: usize = 8;

/// The measurements of a peer in one thread.
pub(crate) trait Runner {
    /// Allocates and frees `nr` pages at a time for the duration `slice`; returns ns per page for
    /// both.
    ///
    /// In each `round`, the top of a peer's stack of pages has another offset, the same for all
    /// peers.
    fn steady(&mut self, nr: usize, slice: Duration, round: usize) -> f64;

    /// Passes batches through line `pair` for the duration `slice`.
    fn produce(&mut self, pair: usize, slice: Duration);

    /// Frees the batches that come through line `pair` until the other thread stops; returns millions of
    /// pages per second.
    fn consume(&mut self, pair: usize) -> f64;

    /// Allocates up to `nr` blocks of 2^`power` pages, one by one, then frees them. Returns ns per block,
    /// or `None` if the peer has no blocks.
    fn blocks(&mut self, power: u8, nr: usize, order: Order) -> Option<Drained>;

    /// Allocates one block of 2^`power` pages and frees it, for the duration `slice`. Returns ns for both,
    /// or `None` if the peer has no blocks.
    fn repeat_block(&mut self, power: u8, slice: Duration) -> Option<f64>;

    /// Allocates up to `nr_pages` in batches, then frees them.
    fn drain(&mut self, nr_pages: usize, order: Order) -> Drained;

    /// Allocates `nr_pages`, frees a random half, and then frees and allocates at random, partly in
    /// batches of random sizes.
    fn age(&mut self, nr_pages: usize, seed: u64);

    /// Frees the pages that ageing has left, in random order.
    fn end_age(&mut self, seed: u64);

    /// Frees the pages that the peer caches for this thread.
    fn flush(&mut self);

    /// Returns the number of free blocks of 2 MiB, if the peer has such blocks.
    fn nr_whole(&mut self) -> Option<u64>;
}

/// The order in which pages are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of allocation.
    Same,
    /// Random, by a seed.
    Random(u64),
}

/// The result of a drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// ns per page allocated.
    pub(crate) alloc_ns: f64,
    /// ns per page freed.
    pub(crate) free_ns: f64,
    /// Number of pages that were allocated.
    pub(crate) nr_pages: usize,
}

/// A peer of the run, which makes a runner in each thread.
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it is called.
    pub(crate) note: &'static str,
    /// Whether a thread may free pages that another thread allocated.
    pub(crate) crosses: bool,
    /// Makes its runner for the calling thread.
    pub(crate) open: Box<dyn Fn() -> Box<dyn Runner> + Send + Sync>,
}

impl Entry {
    /// Makes the entry of `peer`, which lives until the process ends.
    pub(crate) fn new<P: Peer>(peer: P) -> Self {
        let peer: &'static P = Box::leak(Box::new(peer));
        let ends: Arc<[Ends<P>]> = (0..THREADS_MAX / 2).map(|_| Ends::new()).collect();
        let open = move || -> Box<dyn Runner> {
            Box::new(PeerRunner {
                peer,
                worker: peer.worker(),
                batch: Box::new(Aligned(P::Batch::new())),
                ends: Arc::clone(&ends),
                batches: Vec::new(),
                aged: Vec::new(),
                blocks: Vec::new(),
            })
        };
        Self { name: P::NAME, note: P::NOTE, crosses: P::CROSSES, open: Box::new(open) }
    }
}

/// State that the two threads of a handover share.
struct Ends<P: Peer> {
    producer: Mutex<Producer<P::Batch<BATCH>>>,
    consumer: Mutex<Consumer<P::Batch<BATCH>>>,
    start: Barrier,
}

impl<P: Peer> Ends<P> {
    fn new() -> Self {
        let (producer, consumer) = line(P::Batch::new);
        let (producer, consumer) = (Mutex::new(producer), Mutex::new(consumer));
        Self { producer, consumer, start: Barrier::new(2) }
    }
}

type PageOf<P> = <<P as Peer>::Batch<BATCH> as Batch>::Page;

/// A batch that begins on a cache line, so that copies touch the same number of lines for all
/// peers.
#[repr(align(64))]
struct Aligned<T>(T);

/// The runner of one peer.
struct PeerRunner<P: Peer> {
    peer: &'static P,
    worker: P::Worker,
    batch: Box<Aligned<P::Batch<N_MAX>>>,
    /// One for each pair of threads.
    ends: Arc<[Ends<P>]>,
    /// Room for as many pages as a drain allocates.
    batches: Vec<P::Batch<BATCH>>,
    /// Pages that stay allocated while the arena is aged.
    aged: Vec<PageOf<P>>,
    /// Room for as many blocks as [`blocks`](Runner::blocks) allocates.
    blocks: Vec<P::Block>,
}

/// Number of handles of 8 bytes in a cache line.
const LINE: usize = 8;
/// Number of offsets of the top of a stack, one cache line apart.
const NR_OFFSETS: usize = 32;

impl<P: Peer> PeerRunner<P> {
    // A separate function, so that the code around the loop does not affect the figures.
    #[inline(never)]
    fn repeat(&mut self, nr: usize, times: usize) {
        for _ in 0..times {
            self.peer.alloc(&mut self.worker, &mut self.batch.0, nr);
            black_box(&mut self.batch.0);
            self.peer.free(&mut self.worker, &mut self.batch.0);
        }
    }

    #[inline(never)]
    fn take_batches(&mut self, nr_batches: usize) -> usize {
        let mut nr_pages = 0;
        for batch in &mut self.batches[..nr_batches] {
            let nr = self.peer.alloc(&mut self.worker, batch, BATCH);
            nr_pages += nr;
            if nr < BATCH {
                break;
            }
        }
        nr_pages
    }

    #[inline(never)]
    fn give_batches(&mut self, nr_batches: usize) {
        for batch in &mut self.batches[..nr_batches] {
            self.peer.free(&mut self.worker, batch);
        }
    }

    #[inline(never)]
    fn take_blocks(&mut self, power: u8, nr: usize) {
        while self.blocks.len() < nr {
            let Some(block) = self.peer.alloc_block(power) else { break };
            self.blocks.push(block);
        }
    }

    #[inline(never)]
    fn give_blocks(&mut self) {
        self.blocks.drain(..).for_each(|block| self.peer.free_block(block));
    }

    #[inline(never)]
    fn repeat_blocks(&mut self, power: u8, times: usize) {
        for _ in 0..times {
            if let Some(block) = black_box(self.peer.alloc_block(power)) {
                self.peer.free_block(block);
            }
        }
    }

    /// Makes batches for `nr_pages` if they are missing, and returns their number.
    fn make_batches(&mut self, nr_pages: usize) -> usize {
        let nr_batches = nr_pages / BATCH;
        if self.batches.len() < nr_batches {
            self.batches.resize_with(nr_batches, P::Batch::new);
        }
        nr_batches
    }

    /// Shuffles the pages of all batches.
    fn shuffle_batches(&mut self, rng: &mut Rng) {
        let mut pages = Vec::new();
        for batch in &mut self.batches {
            pages.extend(core::iter::from_fn(|| batch.pop()));
        }
        rng.shuffle(&mut pages);
        for batch in &mut self.batches {
            let start = pages.len().saturating_sub(BATCH);
            pages.drain(start..).for_each(|page| batch.push(page));
        }
    }

    /// Frees the last `nr` pages that ageing holds.
    fn give_aged(&mut self, nr: usize) {
        let mut batch = P::Batch::<BATCH>::new();
        let start = self.aged.len().saturating_sub(nr);
        let mut pages = self.aged.drain(start..).peekable();
        while pages.peek().is_some() {
            pages.by_ref().take(BATCH).for_each(|page| batch.push(page));
            self.peer.free(&mut self.worker, &mut batch);
        }
    }

    /// Allocates up to `nr` pages and holds them; `size` returns the number for each call.
    fn take_aged(&mut self, nr: usize, mut size: impl FnMut() -> usize) {
        let mut batch = P::Batch::<BATCH>::new();
        let goal = self.aged.len() + nr;
        while self.aged.len() < goal {
            let wanted = size().min(goal - self.aged.len());
            if self.peer.alloc(&mut self.worker, &mut batch, wanted) == 0 {
                return;
            }
            self.aged.extend(core::iter::from_fn(|| batch.pop()));
        }
    }
}

/// Calls `repeat` with a number of repetitions for the duration `slice`, and returns ns per repetition.
fn time_repeated(slice: Duration, mut repeat: impl FnMut(usize)) -> f64 {
    // Finds how many repetitions take `CHUNK`; this also warms up the caches.
    let mut times = 1;
    loop {
        let start = Instant::now();
        repeat(times);
        if start.elapsed() >= CHUNK.min(slice) {
            break;
        }
        times *= 2;
    }
    let (start, mut nr) = (Instant::now(), 0);
    loop {
        repeat(times);
        nr += times;
        let elapsed = start.elapsed();
        if elapsed >= slice {
            return ns(elapsed) / nr as f64;
        }
    }
}

impl<P: Peer> Runner for PeerRunner<P> {
    fn steady(&mut self, nr: usize, slice: Duration, round: usize) -> f64 {
        // If the top of a stack and the batch have the same offset within 4 KiB, some CPUs assume
        // that loads from one depend on stores to the other, which costs up to 50 % more time. So
        // the runner holds some pages, and the top has another offset each time, but the same one
        // within its cache line.
        let nr_held = if P::IS_STACK { LINE * (round % NR_OFFSETS) } else { 0 };
        let nr_aged = self.aged.len();
        self.take_aged(nr_held, || BATCH);
        let value = time_repeated(slice, |times| self.repeat(nr, times)) / nr as f64;
        self.give_aged(self.aged.len() - nr_aged);
        value
    }

    fn produce(&mut self, pair: usize, slice: Duration) {
        let Self { peer, worker, ends, .. } = self;
        let ends = &ends[pair];
        let mut producer = ends.producer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.refill(worker);
        ends.start.wait();
        let start = Instant::now();
        while start.elapsed() < slice {
            for _ in 0..BATCH {
                producer.put(|batch| {
                    while peer.alloc(worker, batch, BATCH) == 0 {
                        peer.refill(worker);
                        std::thread::yield_now();
                    }
                });
            }
        }
        producer.close();
    }

    fn consume(&mut self, pair: usize) -> f64 {
        let Self { peer, worker, ends, .. } = self;
        let ends = &ends[pair];
        let mut consumer = ends.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.refill(worker);
        ends.start.wait();
        let (start, mut nr_batches) = (Instant::now(), 0_usize);
        while consumer.take(|batch| peer.free(worker, batch)).is_some() {
            nr_batches += 1;
        }
        (nr_batches * BATCH) as f64 * 1e3 / ns(start.elapsed())
    }

    fn drain(&mut self, nr_pages: usize, order: Order) -> Drained {
        self.flush();
        let nr_batches = self.make_batches(nr_pages);
        let start = Instant::now();
        let taken = self.take_batches(nr_batches);
        let alloc = start.elapsed();
        if let Order::Random(seed) = order {
            self.shuffle_batches(&mut Rng::new(seed));
        }
        let start = Instant::now();
        self.give_batches(nr_batches);
        let free = start.elapsed();
        self.flush();
        let per_page = |time| ns(time) / taken.max(1) as f64;
        Drained { alloc_ns: per_page(alloc), free_ns: per_page(free), nr_pages: taken }
    }

    fn blocks(&mut self, power: u8, nr: usize, order: Order) -> Option<Drained> {
        if !P::HAS_BLOCKS {
            return None;
        }
        self.blocks.reserve(nr);
        let start = Instant::now();
        self.take_blocks(power, nr);
        let alloc = start.elapsed();
        let taken = self.blocks.len();
        if let Order::Random(seed) = order {
            Rng::new(seed).shuffle(&mut self.blocks);
        }
        let start = Instant::now();
        self.give_blocks();
        let free = start.elapsed();
        let per_block = |time| ns(time) / taken.max(1) as f64;
        Some(Drained {
            alloc_ns: per_block(alloc),
            free_ns: per_block(free),
            nr_pages: taken << power,
        })
    }

    fn repeat_block(&mut self, power: u8, slice: Duration) -> Option<f64> {
        P::HAS_BLOCKS.then(|| time_repeated(slice, |times| self.repeat_blocks(power, times)))
    }

    fn age(&mut self, nr_pages: usize, seed: u64) {
        let mut rng = Rng::new(seed);
        self.flush();
        self.take_aged(nr_pages, || BATCH);
        rng.shuffle(&mut self.aged);
        self.give_aged(self.aged.len() / 2);
        for _ in 0..NR_CHURNS {
            let nr = self.aged.len() / 10;
            rng.shuffle(&mut self.aged);
            self.give_aged(nr);
            self.take_aged(nr, || 1 + rng.below(BATCH));
        }
    }

    fn end_age(&mut self, seed: u64) {
        Rng::new(seed).shuffle(&mut self.aged);
        self.give_aged(self.aged.len());
        self.flush();
    }

    fn flush(&mut self) {
        self.peer.flush(&mut self.worker);
    }

    fn nr_whole(&mut self) -> Option<u64> {
        self.peer.nr_whole()
    }
}

fn ns(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
