//! A peer in one thread: what it is made to do, with a loop of its own for each peer.

use alloc::sync::Arc;
use core::hint::black_box;
use core::time::Duration;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use crate::peer::{Batch, Peer};
use crate::raw::line::{Consumer, Producer, line};
use pagemill_bench::rng::Rng;

/// Pages per call wherever it is not varied.
pub(crate) const BATCH: usize = 64;
/// Pages per call at most.
pub(crate) const N_MAX: usize = 512;
/// How long calls are repeated between two looks at the clock, about.
const CHUNK: Duration = Duration::from_micros(50);
/// Times that churn frees a tenth and takes as much again.
const NR_CHURNS: usize = 8;

/// What a peer does in one thread.
pub(crate) trait Seat {
    /// Takes and gives back `nr` pages for as long as `slice`; ns per page for both.
    ///
    /// The top of a stock is moved to another place for each `round`, the same for all peers.
    fn steady(&mut self, nr: usize, slice: Duration, round: usize) -> f64;

    /// Hands batches over for as long as `slice`.
    fn produce(&mut self, slice: Duration);

    /// Gives back what is handed over until that ends; millions of pages per second.
    fn consume(&mut self) -> f64;

    /// Takes up to `nr_pages` in batches and gives them back.
    fn drain(&mut self, nr_pages: usize, order: Order) -> Drained;

    /// Takes `nr_pages`, keeps a random half and churns it, batches of random sizes among it.
    fn age(&mut self, nr_pages: usize, seed: u64);

    /// Gives back in random order what ageing has left.
    fn end_age(&mut self, seed: u64);

    /// Gives back what the peer keeps in stock for this thread.
    fn rest(&mut self);

    /// Counts the blocks of 2 MiB that are whole, if the peer knows of such.
    fn nr_whole(&mut self) -> Option<u64>;
}

/// In which order pages go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As they came.
    Same,
    /// Shuffled, by a seed.
    Random(u64),
}

/// What a drain has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// ns per page taken.
    pub(crate) alloc_ns: f64,
    /// ns per page given back.
    pub(crate) free_ns: f64,
    /// How many pages there were.
    pub(crate) nr_pages: usize,
}

/// A peer that takes part, before there are threads.
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it is used.
    pub(crate) note: &'static str,
    /// Whether a thread may give back what another one took.
    pub(crate) crosses: bool,
    /// Makes its seat in the calling thread.
    pub(crate) open: Box<dyn Fn() -> Box<dyn Seat> + Send + Sync>,
}

impl Entry {
    /// Lets `peer` take part, for the rest of the process.
    pub(crate) fn new<P: Peer>(peer: P) -> Self {
        let peer: &'static P = Box::leak(Box::new(peer));
        let (producer, consumer) = line(|| peer.batch());
        let ends = Arc::new(Ends::<P> {
            producer: Mutex::new(producer),
            consumer: Mutex::new(consumer),
            start: Barrier::new(2),
        });
        let open = move || -> Box<dyn Seat> {
            Box::new(Place {
                peer,
                worker: peer.worker(),
                batch: Box::new(Aligned(peer.batch())),
                ends: Arc::clone(&ends),
                batches: Vec::new(),
                aged: Vec::new(),
            })
        };
        Self { name: P::NAME, note: P::NOTE, crosses: P::CROSSES, open: Box::new(open) }
    }
}

/// What the two threads of a handover share.
struct Ends<P: Peer> {
    producer: Mutex<Producer<P::Batch<BATCH>>>,
    consumer: Mutex<Consumer<P::Batch<BATCH>>>,
    start: Barrier,
}

type PageOf<P> = <<P as Peer>::Batch<BATCH> as Batch>::Page;

/// A batch that begins with a cache line, so that no peer's copies cross more of them by chance.
#[repr(align(64))]
struct Aligned<T>(T);

/// The seat of a peer.
struct Place<P: Peer> {
    peer: &'static P,
    worker: P::Worker,
    batch: Box<Aligned<P::Batch<N_MAX>>>,
    ends: Arc<Ends<P>>,
    /// For as many pages as a drain has taken.
    batches: Vec<P::Batch<BATCH>>,
    /// Pages that are held while the arena is aged.
    aged: Vec<PageOf<P>>,
}

/// Pages of a handle of 8 bytes whose handles fill a cache line.
const LINE: usize = 8;
/// In how many places a stock's top is, a cache line from each to the next.
const NR_PLACES: usize = 32;

impl<P: Peer> Place<P> {
    // A function of its own, so that no figure depends on what surrounds the loop.
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

    /// Makes sure that there are batches for `nr_pages`, and returns their number.
    fn make_batches(&mut self, nr_pages: usize) -> usize {
        let nr_batches = nr_pages / BATCH;
        let peer = self.peer;
        if self.batches.len() < nr_batches {
            self.batches.resize_with(nr_batches, || peer.batch());
        }
        nr_batches
    }

    /// Moves the pages of all batches into another order.
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

    /// Gives the last `nr` pages that are held back.
    fn give_aged(&mut self, nr: usize) {
        let mut batch = self.peer.batch::<BATCH>();
        let start = self.aged.len().saturating_sub(nr);
        let mut pages = self.aged.drain(start..).peekable();
        while pages.peek().is_some() {
            pages.by_ref().take(BATCH).for_each(|page| batch.push(page));
            self.peer.free(&mut self.worker, &mut batch);
        }
    }

    /// Takes up to `nr` pages and holds them, as many in a call as `size` says.
    fn take_aged(&mut self, nr: usize, mut size: impl FnMut() -> usize) {
        let mut batch = self.peer.batch::<BATCH>();
        let goal = self.aged.len() + nr;
        while self.aged.len() < goal {
            let wanted = size().min(goal - self.aged.len());
            if self.peer.alloc(&mut self.worker, &mut batch, wanted) == 0 {
                return;
            }
            self.aged.extend(core::iter::from_fn(|| batch.pop()));
        }
    }

    /// Takes and gives back for a slice of time, and returns the ns for a page.
    fn time_steady(&mut self, nr: usize, slice: Duration) -> f64 {
        // Warms up, too.
        let mut times = 1;
        loop {
            let start = Instant::now();
            self.repeat(nr, times);
            if start.elapsed() >= CHUNK.min(slice) {
                break;
            }
            times *= 2;
        }
        let (start, mut nr_pages) = (Instant::now(), 0);
        loop {
            self.repeat(nr, times);
            nr_pages += nr * times;
            let elapsed = start.elapsed();
            if elapsed >= slice {
                return ns(elapsed) / nr_pages as f64;
            }
        }
    }
}

impl<P: Peer> Seat for Place<P> {
    fn steady(&mut self, nr: usize, slice: Duration, round: usize) -> f64 {
        // Where the top of a stock and the batch lie at the same place of their 4 KiB, some CPUs take
        // loads from one to depend on stores to the other, which takes up to half as long again. So pages are
        // held, and the top is elsewhere each time, though at the same place of its cache line.
        let nr_held = if P::IS_STOCK { LINE * (round % NR_PLACES) } else { 0 };
        let nr_aged = self.aged.len();
        self.take_aged(nr_held, || BATCH);
        let value = self.time_steady(nr, slice);
        self.give_aged(self.aged.len() - nr_aged);
        value
    }

    fn produce(&mut self, slice: Duration) {
        let Self { peer, worker, ends, .. } = self;
        let mut producer = ends.producer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.restock(worker);
        ends.start.wait();
        let start = Instant::now();
        while start.elapsed() < slice {
            for _ in 0..BATCH {
                producer.put(|batch| {
                    while peer.alloc(worker, batch, BATCH) == 0 {
                        peer.restock(worker);
                        std::thread::yield_now();
                    }
                });
            }
        }
        producer.close();
    }

    fn consume(&mut self) -> f64 {
        let Self { peer, worker, ends, .. } = self;
        let mut consumer = ends.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.restock(worker);
        ends.start.wait();
        let (start, mut nr_batches) = (Instant::now(), 0_usize);
        while consumer.take(|batch| peer.free(worker, batch)).is_some() {
            nr_batches += 1;
        }
        (nr_batches * BATCH) as f64 * 1e3 / ns(start.elapsed())
    }

    fn drain(&mut self, nr_pages: usize, order: Order) -> Drained {
        self.rest();
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
        self.rest();
        let per_page = |time| ns(time) / taken.max(1) as f64;
        Drained { alloc_ns: per_page(alloc), free_ns: per_page(free), nr_pages: taken }
    }

    fn age(&mut self, nr_pages: usize, seed: u64) {
        let mut rng = Rng::new(seed);
        self.rest();
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
        self.rest();
    }

    fn rest(&mut self) {
        self.peer.rest(&mut self.worker);
    }

    fn nr_whole(&mut self) -> Option<u64> {
        self.peer.nr_whole()
    }
}

fn ns(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
