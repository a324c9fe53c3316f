//! What interrupt handlers do here: allocate with what cannot wait, use the pages, give them back.

use core::sync::atomic::{AtomicU64, Ordering};

use pagemill::{AllocPages, Gfp};

use crate::content;
use crate::cpu::{self, MAX_CPUS};
use crate::frames::{FRAMES, Frame, allocator};
use crate::lock::SpinLock;

/// Pages that the handlers of one CPU hold at most.
pub(crate) const NR_HELD: usize = 16;
/// Pages that a handler asks for at once, when it asks in bulk.
const NR_BULK: usize = 4;

/// What the handlers of one CPU hold, and where they go on.
struct Held {
    pages: [Option<Frame>; NR_HELD],
    next: usize,
}

/// One for each CPU; only its own handlers and, between checks, the first CPU take it.
static HELD: [SpinLock<Held>; MAX_CPUS] =
    [const { SpinLock::new(Held { pages: [const { None }; NR_HELD], next: 0 }) }; MAX_CPUS];

/// What has happened in handlers, on all CPUs.
static TALLY: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

const INTERRUPTS: usize = 0;
const INSIDE: usize = 1;
const ALLOCATED: usize = 2;
const FREED: usize = 3;
const DENIED: usize = 4;

/// What has happened in handlers since the machine started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// Interrupts whose handlers allocate or free.
    pub(crate) interrupts: u64,
    /// Those that came while the interrupted code was using this CPU's lists.
    pub(crate) inside: u64,
    /// Pages allocated.
    pub(crate) allocated: u64,
    /// Pages freed.
    pub(crate) freed: u64,
    /// Requests that got nothing.
    pub(crate) denied: u64,
}

impl Tally {
    /// Returns the counts of now.
    pub(crate) fn now() -> Self {
        // Relaxed: compared only after the CPUs that count have been waited for.
        let [interrupts, inside, allocated, freed, denied] =
            [INTERRUPTS, INSIDE, ALLOCATED, FREED, DENIED]
                .map(|index| TALLY[index].load(Ordering::Relaxed));
        Self { interrupts, inside, allocated, freed, denied }
    }

    /// Returns what has happened since.
    pub(crate) fn since(self) -> Self {
        let now = Self::now();
        Self {
            interrupts: now.interrupts - self.interrupts,
            inside: now.inside - self.inside,
            allocated: now.allocated - self.allocated,
            freed: now.freed - self.freed,
            denied: now.denied - self.denied,
        }
    }
}

/// The body of a handler: one step of taking pages and giving them back.
pub(crate) fn interrupted() {
    let number = cpu::number();
    // Lists in use are passed over, and on this CPU only what was interrupted can be using them.
    let inside = allocator().pcp_info().all(|list| list.cpu.value() != number);
    HELD[number as usize].lock().step();
    count(INSIDE, u64::from(inside));
    count(INTERRUPTS, 1);
    // Relaxed: for whoever this interrupted, on this CPU.
    cpu::own().interrupts.fetch_add(1, Ordering::Relaxed);
}

/// Frees what the handlers of all CPUs hold; for when none is running.
pub(crate) fn evict() {
    for held in &HELD {
        let mut held = held.lock();
        for index in 0..NR_HELD {
            held.free(index);
        }
        held.next = 0;
    }
}

impl Held {
    /// Frees the page at the next position, or fills that position or some more.
    fn step(&mut self) {
        let next = self.next;
        if self.pages[next].is_some() {
            self.free(next);
            self.next = (next + 1) % NR_HELD;
        } else if next.is_multiple_of(2 * NR_BULK) {
            let filled =
                FRAMES.alloc_pages_bulk(Gfp::ATOMIC, &mut self.pages[next..next + NR_BULK]);
            self.filled(next, filled);
            self.next = next + NR_BULK;
        } else {
            self.pages[next] = FRAMES.alloc_page(Gfp::ATOMIC);
            self.filled(next, usize::from(self.pages[next].is_some()));
            self.next = (next + 1) % NR_HELD;
        }
    }

    /// Marks and counts the pages of `nr` positions from `first` on.
    fn filled(&mut self, first: usize, nr: usize) {
        for page in self.pages[first..first + nr].iter_mut().flatten() {
            content::mark(page, OWNER);
        }
        count(ALLOCATED, nr as u64);
        count(DENIED, u64::from(nr == 0));
    }

    fn free(&mut self, index: usize) {
        if let Some(page) = self.pages[index].take() {
            content::check(&page, OWNER);
            drop(page);
            count(FREED, 1);
        }
    }
}

/// Whom the marks in the pages of handlers name.
const OWNER: u64 = 0xffff;

fn count(index: usize, by: u64) {
    // Relaxed: see `Tally::now`.
    TALLY[index].fetch_add(by, Ordering::Relaxed);
}
