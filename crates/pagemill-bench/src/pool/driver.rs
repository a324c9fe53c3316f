//! Driver loop: polls a receive ring whose buffers come from a pool or from the limit's stack.

use core::hint::black_box;
use core::time::Duration;

use pagemill::Page;
use pagemill_pool::config::PP_ALLOC_CACHE_REFILL;
use pagemill_pool::{PoolPage, PoolRef};

use super::case::{Case, Owner, Rx, Way};
use super::stack::Stack;
use crate::Clock;
use crate::frames::Frames;

/// Packets per poll: the budget of a network device.
pub const BUDGET: usize = 64;
/// Descriptors in the receive ring.
pub const RING: usize = 1024;
/// Polls per turn, after which held pages are freed: many more pages than the pool's ring has places.
const POLLS: usize = 128;

/// The result of one measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    ticks: u64,
    refill_ticks: u64,
    nr_turns: usize,
}

impl Timing {
    /// Returns the nanoseconds per packet, without the clock readings.
    pub fn ns_per_packet(&self, clock: Clock) -> f64 {
        // Two readings around each refill, of which the second is in its interval.
        let readings = self.nr_turns * (POLLS + 1);
        clock.net_ns(self.ticks, readings) / (self.nr_turns * POLLS * BUDGET) as f64
    }

    /// Returns the share of that time that the refill of the ring took.
    pub fn refill_share(&self, clock: Clock) -> f64 {
        let refill = clock.net_ns(self.refill_ticks, self.nr_turns * POLLS);
        refill / (self.nr_turns * POLLS * BUDGET) as f64 / self.ns_per_packet(clock)
    }
}

/// The parameters of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// What times the work.
    pub clock: Clock,
    /// Length of one measurement.
    pub slice: Duration,
    /// The case that is measured.
    pub case: Case,
    /// The work per packet.
    pub work: Work,
}

impl Driver {
    /// Polls a ring for one slice, or once if the slice is zero.
    ///
    /// # Errors
    /// If there are too few pages.
    pub fn measure(
        &mut self,
        way: Way,
        owner: &mut Owner,
        stack: &Stack,
    ) -> anyhow::Result<Timing> {
        match way {
            Way::Single | Way::Bulk => {
                // Pages that the last measurement left in the pool would be taken first.
                empty(owner)?;
                owner.set_refill(if way == Way::Bulk { PP_ALLOC_CACHE_REFILL } else { 1 });
                self.turns(&mut Pooled { owner, stack })
            }
            Way::Limit => self.turns(&mut Lifo::new(stack)),
        }
    }

    fn turns<B: Buffers>(&self, buffers: &mut B) -> anyhow::Result<Timing> {
        let mut ring = Vec::with_capacity(RING);
        for _ in 0..RING {
            ring.push(Some(take(buffers)?));
        }
        let (mut held, mut batch) =
            (Vec::with_capacity(POLLS * BUDGET), Vec::with_capacity(BUDGET));
        let start = std::time::Instant::now();
        let mut timing = Timing::default();
        // The first turn is a warm-up, and is not counted.
        let mut is_warm = false;
        while !is_warm || timing.nr_turns == 0 || start.elapsed() < self.slice {
            let turn = self.turn(buffers, &mut ring, &mut held, &mut batch)?;
            // Another CPU frees the held pages in between, while nothing is timed.
            held = buffers.free_held(held)?;
            if is_warm {
                timing.ticks += turn.ticks;
                timing.refill_ticks += turn.refill_ticks;
                timing.nr_turns += 1;
            }
            is_warm = true;
        }
        buffers.put_all(&mut ring.into_iter().flatten().collect());
        Ok(timing)
    }

    /// Times some polls. The verdict is a constant of the code, without a check per packet.
    fn turn<B: Buffers>(
        &self,
        buffers: &mut B,
        ring: &mut [Option<B::Buffer>],
        held: &mut Vec<B::Held>,
        batch: &mut Vec<B::Buffer>,
    ) -> anyhow::Result<Timing> {
        match self.case {
            Case::Drop => self.polls(buffers, ring, |buffers, buffer| buffers.put(buffer), |_| ()),
            Case::Redirect => {
                let batch = core::cell::RefCell::new(batch);
                self.polls(
                    buffers,
                    ring,
                    |_, buffer| batch.borrow_mut().push(buffer),
                    |buffers| buffers.put_all(&mut batch.borrow_mut()),
                )
            }
            Case::Hold => self.polls(
                buffers,
                ring,
                |buffers, buffer| held.push(buffers.leave(buffer)),
                |_| (),
            ),
        }
    }

    #[inline]
    fn polls<B: Buffers>(
        &self,
        buffers: &mut B,
        ring: &mut [Option<B::Buffer>],
        mut verdict: impl FnMut(&mut B, B::Buffer),
        mut flush: impl FnMut(&mut B),
    ) -> anyhow::Result<Timing> {
        let (clock, work) = (self.clock, self.work);
        let mut refill_ticks = 0;
        let start = clock.now();
        for poll in 0..POLLS {
            let first = poll * BUDGET % RING;
            let descriptors = &mut ring[first..first + BUDGET];
            for slot in &mut *descriptors {
                let Some(buffer) = slot.take() else { continue };
                work.spend();
                verdict(buffers, buffer);
            }
            flush(buffers);
            let before = clock.now();
            for slot in descriptors {
                *slot = Some(take(buffers)?);
            }
            refill_ticks += clock.now().saturating_sub(before);
        }
        Ok(Timing { ticks: clock.now().saturating_sub(start), refill_ticks, nr_turns: 1 })
    }
}

#[inline]
fn take<B: Buffers>(buffers: &mut B) -> anyhow::Result<B::Buffer> {
    match buffers.take() {
        Some(buffer) => Ok(buffer),
        None => anyhow::bail!("the experiment ran out of pages: use a larger --arena"),
    }
}

/// Takes all pages out of the pool, one at a time, and frees them.
fn empty(owner: &mut Owner) -> anyhow::Result<()> {
    owner.set_refill(1);
    while owner.pool().pool().inflight() > 0 {
        drop(owner.alloc().map(PoolPage::detach));
    }
    Ok(())
}

/// The source and destination of the driver's buffers.
trait Buffers {
    /// The buffer of a descriptor.
    type Buffer;
    /// What a stack keeps of a buffer.
    type Held;

    fn take(&mut self) -> Option<Self::Buffer>;
    fn put(&mut self, buffer: Self::Buffer);
    fn put_all(&mut self, buffers: &mut Vec<Self::Buffer>);
    fn leave(&mut self, buffer: Self::Buffer) -> Self::Held;
    fn free_held(&mut self, held: Vec<Self::Held>) -> anyhow::Result<Vec<Self::Held>>;
}

/// A page pool, and a network stack on another CPU.
struct Pooled<'a> {
    owner: &'a mut Owner,
    stack: &'a Stack,
}

impl Buffers for Pooled<'_> {
    type Buffer = PoolPage<Rx>;
    type Held = Page<Frames>;

    #[inline]
    fn take(&mut self) -> Option<Self::Buffer> {
        self.owner.alloc()
    }

    #[inline]
    fn put(&mut self, buffer: Self::Buffer) {
        self.owner.put(buffer);
    }

    #[inline]
    fn put_all(&mut self, buffers: &mut Vec<Self::Buffer>) {
        self.owner.returner().put_bulk(buffers.drain(..));
    }

    #[inline]
    fn leave(&mut self, buffer: Self::Buffer) -> Self::Held {
        buffer.detach()
    }

    fn free_held(&mut self, held: Vec<Self::Held>) -> anyhow::Result<Vec<Self::Held>> {
        self.stack.free(held)
    }
}

/// Buffers that always exist: numbers on a stack.
struct Lifo<'a> {
    buffers: Vec<u64>,
    stack: &'a Stack,
}

impl<'a> Lifo<'a> {
    fn new(stack: &'a Stack) -> Self {
        // As many as can be in the ring and held at once.
        Self { buffers: (0..(RING + POLLS * BUDGET) as u64).collect(), stack }
    }
}

impl Buffers for Lifo<'_> {
    type Buffer = u64;
    type Held = u64;

    #[inline]
    fn take(&mut self) -> Option<u64> {
        self.buffers.pop()
    }

    #[inline]
    fn put(&mut self, buffer: u64) {
        self.buffers.push(buffer);
    }

    #[inline]
    fn put_all(&mut self, buffers: &mut Vec<u64>) {
        self.buffers.append(buffers);
    }

    #[inline]
    fn leave(&mut self, buffer: u64) -> u64 {
        buffer
    }

    fn free_held(&mut self, mut held: Vec<u64>) -> anyhow::Result<Vec<u64>> {
        self.buffers.append(&mut held);
        // The scheduler favours a thread that has slept: this one sleeps as often.
        self.stack.free(Vec::new())?;
        Ok(held)
    }
}

/// The cost of a packet besides its page: a chain of multiplications, each of which depends on the
/// previous one.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Number of multiplications per nanosecond.
    per_ns: f64,
    nr: u32,
}

impl Work {
    /// Measures how long the multiplications take.
    pub fn calibrate(clock: Clock) -> Self {
        const NR: u32 = 100_000;
        let work = Self { per_ns: 0.0, nr: NR };
        // The fastest of several, to exclude interruptions.
        let ticks = (0..9).map(|_| clock.interval(|| work.spend())).min().unwrap_or(1);
        Self { per_ns: f64::from(NR) / clock.net_ns(ticks.max(1), 0).max(1.0), nr: 0 }
    }

    /// Returns work of `ns` nanoseconds.
    pub fn of(self, ns: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let nr = (f64::from(ns) * self.per_ns).round() as u32;
        Self { nr, ..self }
    }

    #[inline]
    fn spend(self) {
        if self.nr > 0 {
            multiply(self.nr);
        }
    }
}

/// Outside of any loop, so that all loops run the same code.
#[inline(never)]
fn multiply(nr: u32) {
    let mut value = black_box(1_u64);
    for _ in 0..nr {
        value = value.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7);
    }
    black_box(value);
}
