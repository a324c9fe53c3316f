//! What a block of each order costs, one by one and by request.

use alloc::vec::Vec;

use pagemill::{AllocPages, BulkRequest, Folio, Order};

use super::measure::{self, Shape};
use super::workload::{GFP, Workload};
use crate::frames::{FRAMES, Frames, allocator};
use crate::ticks::Clock;

/// Blocks in a batch.
const SIZES: [usize; 3] = [1, 8, 64];
/// Batches that are timed together.
const NR_BATCHES: usize = 8;

type Slot = Option<Folio<Frames>>;

/// Blocks of one order in batches of `n`, each by a call of its own.
struct Singles<'a> {
    slots: &'a mut [Slot],
    n: usize,
    order: Order,
}

impl Workload for Singles<'_> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for slot in &mut *self.slots {
            *slot = FRAMES.alloc_pages(GFP, self.order);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for slot in &mut *self.slots {
            *slot = None;
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let batch = &mut self.slots[..self.n];
        for _ in 0..times {
            for slot in &mut *batch {
                *slot = FRAMES.alloc_pages(GFP, self.order);
            }
            for slot in &mut *batch {
                *slot = None;
            }
        }
    }
}

/// Blocks of one order in batches of `n`, each batch by one request.
struct Requests<'a>(Singles<'a>);

impl Requests<'_> {
    fn request(&self) -> BulkRequest<'static> {
        BulkRequest { order: self.0.order, ..BulkRequest::new(GFP) }
    }
}

impl Workload for Requests<'_> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        let request = self.request();
        for batch in self.0.slots.chunks_exact_mut(self.0.n) {
            let _outcome = FRAMES.bulk_fill(&request, batch);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        self.0.free_batches();
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let request = self.request();
        let batch = &mut self.0.slots[..self.0.n];
        for _ in 0..times {
            let _outcome = FRAMES.bulk_fill(&request, batch);
            for slot in &mut *batch {
                *slot = None;
            }
        }
    }
}

/// Prints the table, for all orders of which the memory has enough blocks.
pub(super) fn table(clock: Clock) {
    println!("orders: allocate N blocks, free N, again and again; costs per block");
    println!("{:14} | {:^26} | {:^26} |", "", "one by one", "by request");
    print!("{:>5} {:>8}", "order", "N");
    for _ in 0..2 {
        print!(" | {:>8} {:>8} {:>8}", "alloc", "free", "both");
    }
    println!(" | {:>6}", "spread");
    for order in Order::all() {
        for n in SIZES {
            row(clock, order, n);
        }
    }
}

fn row(clock: Clock, order: Order, n: usize) {
    // What is left besides must stay above the watermarks.
    let most = allocator().nr_free_pages() / 2 / order.nr_pages() as u64;
    let nr_batches = NR_BATCHES.min(usize::try_from(most).unwrap_or(usize::MAX) / n);
    if nr_batches == 0 {
        return;
    }
    let mut slots: Vec<_> = (0..n * nr_batches).map(|_| None).collect();
    let blocks = measure::Blocks { n, nr_batches, order };
    let singles =
        measure::figures(clock, Shape::Ping, blocks, &mut Singles { slots: &mut slots, n, order });
    let requests = measure::figures(
        clock,
        Shape::Ping,
        blocks,
        &mut Requests(Singles { slots: &mut slots, n, order }),
    );
    print!("{:>5} {n:>8}", order.value());
    for row in [&singles, &requests] {
        print!(" | {:>8} {:>8} {:>8}", row.alloc, row.free, row.both);
    }
    println!(" | {:>4} %", singles.spread_percent.max(requests.spread_percent));
}
