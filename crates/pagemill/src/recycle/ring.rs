//! Recycle ring: a lock-free bounded queue from many producers to one consumer, in batches.

use alloc::boxed::Box;
use core::fmt;
use core::mem::MaybeUninit;

use crate::base::sync::{
    AtomicU32, AtomicU64, Lock, LockGuard, Ordering, UnsafeCell, fence_acquire,
};
use crate::recycle::stack::Stack;

/// A queue of bounded length with any number of producers and one consumer at a time.
///
/// Made for pages that return to the place that hands them out. A producer claims places for a
/// whole batch with one atomic operation; the consumer takes a batch and publishes its progress
/// once. No thread waits. A producer that is preempted between claiming a place and filling it
/// hides the later values until it continues. It delays neither the other producers nor the
/// consumer, which sees an empty ring.
///
/// `ring-claim`: places are numbered upwards from zero. Each place from `head` to `tail` is claimed
/// by one producer, and there are never more of them than slots.
/// `ring-turn`: a slot holds the turn of a place (how many times the slot was used before) exactly
/// if that place's value was written to the slot.
///
/// # Examples
/// ```
/// # use pagemill::recycling::Ring;
/// let ring = Ring::new(4);
/// assert_eq!(ring.push_bulk(3, &mut ["a", "b", "c"].into_iter()), 3);
/// assert_eq!(ring.push("d"), Ok(()));
/// assert_eq!(ring.push("e"), Err("e"));
/// let taken: Vec<_> = ring.drain().into_iter().flatten().take(2).collect();
/// assert_eq!(taken, ["a", "b"]);
/// ```
pub struct Ring<T> {
    /// Separate from the values, so that many turns can be checked at once and their values moved at
    /// once.
    turns: Box<[AtomicU32]>,
    values: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// One less than the number of slots, a power of two.
    mask: usize,
    /// The logarithm of the number of slots.
    shift: u32,
    capacity: u64,
    /// Places that were claimed and not filled.
    nr_holes: AtomicU64,
    tail: Padded<AtomicU64>,
    head: Padded<AtomicU64>,
    /// Its holder is the consumer.
    consumer: Lock<()>,
}

/// Flag in the turn of a place that was claimed and will not be filled, because its producer panicked
/// or ran out of values.
const HOLE: u32 = 1 << 31;

/// The turn of a slot that has never been used.
const UNUSED: u32 = u32::MAX;

/// Keeps the producers' and the consumer's fields on separate cache lines; two lines each, because
/// processors prefetch lines in pairs.
#[repr(align(128))]
struct Padded<T>(T);

// SAFETY: 1. values move from one thread to another: `T: Send`. 2. no thread gets a reference to a
// value in the ring, so `T` need not be `Sync`.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    /// Makes an empty ring for up to `capacity` values.
    ///
    /// # Panics
    /// If `capacity` is zero, or above 2^30.
    #[must_use]
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        assert!(
            (1..=1 << 30).contains(&capacity),
            "a ring for {capacity} values: ask for 1 to 2^30"
        );
        let nr_slots = capacity.next_power_of_two();
        Self {
            turns: (0..nr_slots).map(|_| AtomicU32::new(UNUSED)).collect(),
            values: (0..nr_slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            mask: nr_slots - 1,
            shift: nr_slots.trailing_zeros(),
            capacity: capacity as u64,
            nr_holes: AtomicU64::new(0),
            tail: Padded(AtomicU64::new(0)),
            head: Padded(AtomicU64::new(0)),
            consumer: Lock::new(()),
        }
    }

    /// Returns the capacity.
    #[must_use]
    pub fn capacity(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "it was a usize")]
        let capacity = self.capacity as usize;
        capacity
    }

    /// Returns how many values are in the ring or are being added; a snapshot.
    #[must_use]
    pub fn len(&self) -> usize {
        // Relaxed, both: the number may change at any time. Head first, so that it is not the larger
        // one.
        let head = self.head.0.load(Ordering::Relaxed);
        let tail = self.tail.0.load(Ordering::Relaxed);
        let nr = tail.saturating_sub(head).min(self.capacity);
        usize::try_from(nr).unwrap_or(usize::MAX)
    }

    /// Returns whether no value is in the ring or being added; a snapshot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the next place has been filled or left as a hole; a snapshot.
    ///
    /// Unlike [`is_empty`](Self::is_empty), it ignores values that are still being added.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        // Relaxed, both: a snapshot; the consumer that takes the value orders what follows.
        let head = self.head.0.load(Ordering::Relaxed);
        let now = self.slot(head).0.load(Ordering::Relaxed);
        let expected = self.turn(head);
        now == expected || now == expected ^ HOLE
    }

    /// Returns how many values were ever added.
    #[must_use]
    pub fn nr_pushed(&self) -> u64 {
        // Relaxed, both: statistics.
        let claimed = self.tail.0.load(Ordering::Relaxed);
        claimed.wrapping_sub(self.nr_holes.load(Ordering::Relaxed))
    }

    /// Appends a value.
    ///
    /// # Errors
    /// Returns the value if the ring is full.
    #[inline]
    pub fn push(&self, value: T) -> Result<(), T> {
        loop {
            let (tail, room) = self.room();
            if room == 0 {
                return Err(value);
            }
            // Relaxed, both: only numbers; the slots' turns order the values.
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            let end = tail.wrapping_add(1);
            // The place from the exchange's result, which is in a register; using `tail` would cost a
            // copy.
            if let Ok(place) = self.tail.0.compare_exchange_weak(tail, end, success, failure) {
                // SAFETY: 1. this call claimed the place, and fills it once.
                unsafe { self.fill(place, value) };
                return Ok(());
            }
        }
    }

    /// Appends up to `nr` values and returns how many; the other values stay in `values`.
    ///
    /// # Cost
    /// One claim for all of them.
    #[inline]
    pub fn push_bulk(&self, nr: usize, values: &mut impl Iterator<Item = T>) -> usize {
        let (place, claimed) = self.claim(nr as u64);
        let mut claim = Claim { ring: self, next: place, end: place.wrapping_add(claimed) };
        while claim.next != claim.end && claim.fill_run(values) {}
        #[expect(clippy::cast_possible_truncation, reason = "at most `nr`, a usize")]
        let filled = claim.next.wrapping_sub(place) as usize;
        filled
    }

    /// Returns a drain that takes values, oldest first; values not taken stay in the ring.
    ///
    /// # Concurrency
    /// Returns `None` while another thread takes values: there is one consumer at a time.
    #[inline]
    pub fn drain(&self) -> Option<RingDrain<'_, T>> {
        let consumer = self.consumer.try_lock()?;
        // Relaxed: written by consumers only, whom the lock orders.
        let head = self.head.0.load(Ordering::Relaxed);
        Some(RingDrain { ring: self, head, _consumer: consumer })
    }

    /// Claims up to `nr` places. Returns the first place and the number of places.
    #[inline]
    fn claim(&self, nr: u64) -> (u64, u64) {
        loop {
            let (tail, room) = self.room();
            let claimed = nr.min(room);
            if claimed == 0 {
                return (tail, 0);
            }
            let end = tail.wrapping_add(claimed);
            // Relaxed, both: as in `push`.
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            if self.tail.0.compare_exchange_weak(tail, end, success, failure).is_ok() {
                return (tail, claimed);
            }
        }
    }

    /// Returns the next place and how many places can be claimed from there on.
    #[inline]
    fn room(&self) -> (u64, u64) {
        // Acquire pairs with the Release store in `RingDrain::drop`: what the consumer did with
        // the slots before `head` is done. It also makes the load of `tail` see at least `head`.
        let head = self.head.0.load(Ordering::Acquire);
        // Relaxed: a number alone.
        let tail = self.tail.0.load(Ordering::Relaxed);
        (tail, self.capacity.saturating_sub(tail.wrapping_sub(head)))
    }

    /// Returns the index of a place's slot.
    #[inline]
    fn index(&self, place: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the mask cuts it anyway")]
        let index = place as usize & self.mask;
        index
    }

    /// Returns the turn of a place: how many times its slot was used before.
    ///
    /// It may wrap. Each slot is used, or left as a hole, once per round, so its turn is that of this
    /// round or of the previous one.
    #[inline]
    fn turn(&self, place: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "it may wrap")]
        let turn = place.wrapping_shr(self.shift) as u32;
        turn
    }

    /// Returns the slot of a place: its current turn, and the memory of its value.
    #[inline]
    fn slot(&self, place: u64) -> (&AtomicU32, &UnsafeCell<MaybeUninit<T>>) {
        let index = self.index(place);
        debug_assert!(index < self.turns.len() && index < self.values.len());
        // SAFETY: 1. in bounds: the mask is one less than the number of slots.
        let turn = unsafe { self.turns.get_unchecked(index) };
        // SAFETY: 1. in bounds: the mask is one less than the number of slots.
        (turn, unsafe { self.values.get_unchecked(index) })
    }

    /// Puts a value into a place.
    ///
    /// # Safety
    /// The caller has claimed the place, and fills it once.
    #[inline]
    unsafe fn fill(&self, place: u64, value: T) {
        let (turn, cell) = self.slot(place);
        let cell = cell.get_mut();
        // SAFETY: 1. exclusive: `head` has passed the slot's previous place, so the caller's claim
        // is the only one on the slot (`ring-claim`), and the consumer reads it only after its turn
        // is stored (`ring-turn`).
        unsafe { cell.deref() }.write(value);
        // Release pairs with the Acquire load in `RingDrain::next` and the fence in `fill`.
        turn.store(self.turn(place), Ordering::Release);
    }
}

/// Places that a producer has yet to fill; places left unfilled on drop become holes.
struct Claim<'a, T> {
    ring: &'a Ring<T>,
    next: u64,
    end: u64,
}

impl<T> Claim<'_, T> {
    /// Fills the places up to the end of the slot array; returns false if there were too few values.
    #[inline]
    fn fill_run(&mut self, values: &mut impl Iterator<Item = T>) -> bool {
        let (ring, turn) = (self.ring, self.ring.turn(self.next));
        let left = usize::try_from(self.end.wrapping_sub(self.next)).unwrap_or(usize::MAX);
        let first = ring.index(self.next);
        let cells = &ring.values[first..];
        let cells = &cells[..left.min(cells.len())];
        for (cell, turn_of) in cells.iter().zip(&ring.turns[first..]) {
            let Some(value) = values.next() else { return false };
            let cell = cell.get_mut();
            // SAFETY: 1. exclusive: as in `Ring::fill`. 2. each place is filled once: `next`
            // advances.
            unsafe { cell.deref() }.write(value);
            // Release: as in `Ring::fill`.
            turn_of.store(turn, Ordering::Release);
            self.next = self.next.wrapping_add(1);
        }
        true
    }

    #[cold]
    fn leave_holes(&mut self) {
        // Relaxed: a statistic.
        self.ring.nr_holes.fetch_add(self.end.wrapping_sub(self.next), Ordering::Relaxed);
        while self.next != self.end {
            let turn = self.ring.turn(self.next) ^ HOLE;
            // Relaxed: a hole has no value to order.
            self.ring.slot(self.next).0.store(turn, Ordering::Relaxed);
            self.next = self.next.wrapping_add(1);
        }
    }
}

impl<T> Drop for Claim<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.next != self.end {
            self.leave_holes();
        }
    }
}

/// Takes values out of a [`Ring`]; dropping it publishes the consumer's progress to producers.
pub struct RingDrain<'a, T> {
    ring: &'a Ring<T>,
    head: u64,
    _consumer: LockGuard<'a, ()>,
}

impl<T> RingDrain<'_, T> {
    /// Moves up to `nr` values onto `stack`, as far as there is room, and returns how many.
    ///
    /// # Cost
    /// A few instructions per value; taking them one by one costs approximately 20 each.
    #[inline]
    pub fn pop_into<const N: usize>(&mut self, nr: usize, stack: &mut Stack<T, N>) -> usize {
        let before = stack.len();
        loop {
            let left = nr.saturating_sub(stack.len() - before);
            let ready = self.ready(left.min(stack.room().len()));
            if ready > 0 {
                let first = self.ring.index(self.head);
                let values = &self.ring.values[first..][..ready];
                for (place, value) in stack.room().iter_mut().zip(values) {
                    let cell = value.get_mut();
                    // SAFETY: 1. exclusive: as in `RingDrain::next`.
                    let cell = unsafe { cell.deref() };
                    // SAFETY: 1. initialised: `ready` checked the turns (`ring-turn`). 2. read
                    // once: `head` advances below, and nothing before that can panic.
                    place.write(unsafe { cell.assume_init_read() });
                }
                self.head = self.head.wrapping_add(ready as u64);
                // SAFETY: 1. initialised: the loop above wrote `ready` entries.
                unsafe { stack.grow(ready) };
            } else if left == 0 || stack.is_full() {
                break;
            } else {
                // No filled place follows, or holes do.
                let Some(value) = self.next() else { break };
                let _pushed = stack.push(value).is_ok();
            }
        }
        stack.len() - before
    }

    /// Returns how many values are ready in adjacent slots from `head` on, at most `nr`.
    #[inline]
    fn ready(&self, nr: usize) -> usize {
        let turn = self.ring.turn(self.head);
        let turns = &self.ring.turns[self.ring.index(self.head)..];
        let turns = &turns[..nr.min(turns.len())];
        // Relaxed: the fence below orders all of them.
        let is_other = |slot: &AtomicU32| slot.load(Ordering::Relaxed) != turn;
        let ready = turns.iter().position(is_other).unwrap_or(turns.len());
        // Pairs with the Release stores in `Ring::fill`.
        fence_acquire();
        ready
    }
}

impl<T> Iterator for RingDrain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let cell = loop {
            let (turn, cell) = self.ring.slot(self.head);
            let expected = self.ring.turn(self.head);
            // Acquire pairs with the Release store in `Ring::fill`.
            match turn.load(Ordering::Acquire) {
                now if now == expected => break cell.get_mut(),
                now if now == expected ^ HOLE => self.head = self.head.wrapping_add(1),
                _ => return None,
            }
        };
        // SAFETY: 1. exclusive: the slot's producer has finished (`ring-turn`), no other can claim
        // the slot before `head` advances (`ring-claim`), and the lock makes this the only
        // consumer.
        let cell = unsafe { cell.deref() };
        // SAFETY: 1. initialised: `ring-turn`. 2. read once: `head` advances.
        let value = unsafe { cell.assume_init_read() };
        self.head = self.head.wrapping_add(1);
        Some(value)
    }
}

impl<T> Drop for RingDrain<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire load in `Ring::room`: the slots have been read.
        self.ring.head.0.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        if let Some(values) = self.drain() {
            values.for_each(drop);
        }
    }
}

impl<T> fmt::Debug for RingDrain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingDrain").field("head", &self.head).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::collections::VecDeque;
    use alloc::rc::Rc;
    use alloc::vec::Vec;
    use core::panic::AssertUnwindSafe;

    use super::*;

    fn pop<T>(ring: &Ring<T>, nr: usize) -> Vec<T> {
        ring.drain().expect("there is no other consumer").take(nr).collect()
    }

    #[test]
    fn it_does_what_a_deque_does() {
        let nr_steps = if cfg!(miri) { 300 } else { 30_000 };
        for capacity in [1, 2, 3, 7, 8] {
            let (ring, mut deque) = (Ring::new(capacity), VecDeque::new());
            let (mut random, mut next, mut pushed) = (capacity as u64, 0_u64, 0);
            for _ in 0..nr_steps {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let nr = usize::try_from((random >> 33) % 10).unwrap();
                match (random >> 60) % 3 {
                    0 => {
                        let room = capacity - deque.len();
                        let mut values = next..;
                        assert_eq!(ring.push_bulk(nr, &mut values), nr.min(room));
                        assert_eq!(values.start, next + nr.min(room) as u64, "none is lost");
                        deque.extend(next..values.start);
                        pushed += values.start - next;
                        next = values.start;
                    }
                    1 => {
                        let fits = deque.len() < capacity;
                        assert_eq!(ring.push(next), if fits { Ok(()) } else { Err(next) });
                        if fits {
                            deque.push_back(next);
                            (next, pushed) = (next + 1, pushed + 1);
                        }
                    }
                    _ => {
                        let expected = nr.min(deque.len());
                        assert_eq!(pop(&ring, nr), deque.drain(..expected).collect::<Vec<_>>());
                    }
                }
                assert_eq!((ring.len(), ring.nr_pushed()), (deque.len(), pushed));
                assert_eq!(ring.is_empty(), deque.is_empty());
            }
        }
    }

    #[test]
    fn what_is_left_is_dropped_with_the_ring() {
        let value = Rc::new(());
        let ring = Ring::new(8);
        ring.push_bulk(5, &mut core::iter::repeat_with(|| Rc::clone(&value)));
        drop(pop(&ring, 2));
        assert_eq!(Rc::strong_count(&value), 4);
        drop(ring);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn places_that_are_not_filled_are_passed_over() {
        let ring = Ring::new(8);
        assert_eq!(ring.push_bulk(4, &mut [1, 2].into_iter()), 2);
        let mut panics = core::iter::from_fn(|| -> Option<i32> { panic!("no value") });
        let push = AssertUnwindSafe(|| ring.push_bulk(2, &mut panics));
        assert!(std::panic::catch_unwind(push).is_err());
        ring.push(3).unwrap();
        assert!(ring.is_ready());
        assert_eq!((ring.nr_pushed(), pop(&ring, 8)), (3, [1, 2, 3].into()));
        assert!(!ring.is_ready());
        assert_eq!(ring.push_bulk(1, &mut core::iter::empty()), 0);
        assert!(ring.is_ready(), "a place to be passed over");
        assert_eq!(pop(&ring, 1), []);
        assert!(!ring.is_ready() && ring.is_empty());
        let mut is_ready_meanwhile = true;
        let mut late = core::iter::from_fn(|| {
            is_ready_meanwhile = ring.is_ready();
            Some(4)
        });
        assert_eq!(ring.push_bulk(1, &mut late), 1);
        assert!(!is_ready_meanwhile && ring.is_ready());
        assert_eq!(pop(&ring, 1), [4]);
        assert_eq!(ring.push_bulk(9, &mut (0..)), 8, "the places are free again");
    }

    #[test]
    fn a_consumer_that_panics_loses_only_what_it_had() {
        let ring = Ring::new(4);
        ring.push_bulk(3, &mut (0..));
        let take = AssertUnwindSafe(|| {
            ring.drain().unwrap().for_each(|value| assert!(value < 1, "enough"));
        });
        assert!(std::panic::catch_unwind(take).is_err());
        assert_eq!(pop(&ring, 3), [2]);
    }

    #[test]
    fn there_is_one_consumer_at_a_time() {
        let ring = Ring::new(4);
        ring.push_bulk(3, &mut (0..));
        let mut first = ring.drain().unwrap();
        assert!(ring.drain().is_none());
        assert_eq!(first.next(), Some(0));
        assert_eq!(ring.len(), 3, "reported when done");
        drop(first);
        assert_eq!((ring.len(), pop(&ring, 4)), (2, [1, 2].into()));
    }

    #[test]
    fn values_are_moved_onto_a_stack_as_they_would_be_taken() {
        let ring = Ring::new(5);
        let mut next = 0_u32;
        let mut expected = VecDeque::new();
        for step in 0..200_usize {
            let (nr, fill) = (step % 7, u32::try_from(step % 3).unwrap());
            let mut values = (next..next + fill).collect::<Vec<_>>().into_iter();
            let room = 5 - ring.len();
            // Asks for more places than there are values: the rest become holes.
            let pushed = ring.push_bulk(nr, &mut values);
            assert_eq!(pushed, nr.min(room).min(fill as usize));
            expected.extend(next..next + u32::try_from(pushed).unwrap());
            next += u32::try_from(pushed).unwrap();
            let mut stack = Stack::<u32, 4>::new();
            let wanted = (step * 5) % 6;
            let taken = ring.drain().unwrap().pop_into(wanted, &mut stack);
            assert_eq!(taken, wanted.min(4).min(expected.len()));
            let moved: Vec<_> = core::iter::from_fn(|| stack.pop()).collect();
            let front: Vec<_> = expected.drain(..taken).rev().collect();
            assert_eq!(moved, front);
        }
        assert!(next > 50, "{next}");
    }
}
