//! Both sides of a ring against each other: in turns, in every order, and with a side that lies.

use alloc::collections::VecDeque;
use core::cell::Cell;

use super::*;

/// A word that one thread uses.
#[derive(Default)]
struct Plain(Cell<u32>);

impl Word for Plain {
    fn load_acquire(&self) -> u32 {
        self.0.get()
    }

    fn store_release(&self, value: u32) {
        self.0.set(value);
    }
}

struct Ring {
    producer_word: Plain,
    consumer_word: Plain,
    slots: Vec<u32>,
    producer: Producer,
    consumer: Consumer,
}

impl Ring {
    fn new(nr_slots: u32, start: u32) -> Self {
        Self {
            producer_word: Plain(Cell::new(start)),
            consumer_word: Plain(Cell::new(start)),
            slots: vec![u32::MAX; nr_slots as usize],
            producer: Producer::new(nr_slots, start),
            consumer: Consumer::new(nr_slots, start),
        }
    }

    fn mask(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap() - 1
    }

    fn produce(&mut self, values: &[u32]) -> usize {
        let wanted = u32::try_from(values.len()).unwrap();
        let room = self.producer.room(&self.consumer_word, wanted).unwrap();
        let mask = self.mask();
        for (offset, value) in (0..room).zip(values) {
            let slot = self.producer.next().wrapping_add(offset) & mask;
            self.slots[slot as usize] = *value;
        }
        self.producer.submit(&self.producer_word, room);
        room as usize
    }

    fn consume(&mut self, wanted: u32) -> Vec<u32> {
        let nr = self.consumer.available(&self.producer_word, wanted).unwrap();
        let mask = self.mask();
        let first = self.consumer.next();
        let values = (0..nr).map(|offset| self.slots[(first.wrapping_add(offset) & mask) as usize]);
        let values = values.collect();
        self.consumer.release(&self.consumer_word, nr);
        values
    }
}

#[test]
fn every_sequence_of_six_steps_agrees_with_a_queue_across_the_wrap() {
    // Steps 0..=3 produce that many entries, 4..=7 consume up to that many less four.
    for nr_slots in [1, 2, 4] {
        for code in 0..8_u32.pow(6) {
            let mut ring = Ring::new(nr_slots, u32::MAX - 2);
            let mut model = VecDeque::new();
            let mut next = 0;
            let mut rest = code;
            for _ in 0..6 {
                let (step, nr) = (rest % 8 / 4, rest % 4);
                rest /= 8;
                if step == 0 {
                    let values: Vec<u32> = (next..next + nr).collect();
                    let room = (nr_slots as usize - model.len()).min(values.len());
                    assert_eq!(ring.produce(&values), room, "{code}");
                    model.extend(&values[..room]);
                    next += nr;
                } else {
                    // What a consumer knows of may be less than there is, never more, and none
                    // only if there is none.
                    let got = ring.consume(nr);
                    assert_eq!(got.is_empty(), nr == 0 || model.is_empty(), "{code}");
                    for value in got {
                        assert_eq!(Some(value), model.pop_front(), "{code}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_side_that_lies_is_found_out_and_nothing_moves() {
    let mut producer = Producer::new(4, 0);
    let word = Plain::default();
    producer.submit(&word, 4);
    // The consumer claims to have consumed what was never produced, or less than before.
    for lie in [5, 100, u32::MAX, 1 << 31] {
        assert_eq!(producer.room(&Plain(Cell::new(lie)), 1), Err(Broken), "{lie}");
    }
    assert_eq!(producer.room(&Plain(Cell::new(3)), 4), Ok(3));

    let mut consumer = Consumer::new(4, u32::MAX);
    for lie in [4, 1000, u32::MAX - 1, 1 << 31] {
        assert_eq!(consumer.available(&Plain(Cell::new(lie)), 1), Err(Broken), "{lie}");
    }
    assert_eq!(consumer.available(&Plain(Cell::new(3)), 9), Ok(4));
}

#[test]
#[should_panic(expected = "no power of two")]
fn a_ring_of_three_slots_is_refused() {
    let _producer = Producer::new(3, 0);
}

mod interleaved {
    //! Every interleaving of a producer and a consumer. The slots are loom's atomics, read and
    //! written `Relaxed`: only the words of the ring order them, as they do plain memory.

    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as LoomWord;
    use loom::thread;

    use super::super::*;

    impl Word for LoomWord {
        fn load_acquire(&self) -> u32 {
            self.load(Ordering::Acquire)
        }

        fn store_release(&self, value: u32) {
            self.store(value, Ordering::Release);
        }
    }

    struct Shared {
        producer: LoomWord,
        consumer: LoomWord,
        slots: [LoomWord; 2],
    }

    impl Shared {
        fn slot(&self, index: u32) -> &LoomWord {
            &self.slots[(index & 1) as usize]
        }
    }

    const START: u32 = u32::MAX;
    const NR: u32 = 3;

    #[test]
    fn no_slot_is_touched_by_two_and_no_entry_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let shared = Arc::new(Shared {
                producer: LoomWord::new(START),
                consumer: LoomWord::new(START),
                slots: [LoomWord::new(9), LoomWord::new(9)],
            });
            let theirs = Arc::clone(&shared);
            let thread = thread::spawn(move || produce(&theirs));
            consume(&shared);
            thread.join().unwrap();
        });
    }

    fn produce(shared: &Shared) {
        let mut producer = Producer::new(2, START);
        let mut next = 0;
        while next < NR {
            let room = producer.room(&shared.consumer, NR - next).unwrap();
            if room == 0 {
                thread::yield_now();
                continue;
            }
            for offset in 0..room {
                let slot = shared.slot(producer.next().wrapping_add(offset));
                slot.store(next, Ordering::Relaxed);
                next += 1;
            }
            producer.submit(&shared.producer, room);
        }
    }

    fn consume(shared: &Shared) {
        let mut consumer = Consumer::new(2, START);
        let mut next = 0;
        while next < NR {
            let nr = consumer.available(&shared.producer, 2).unwrap();
            if nr == 0 {
                thread::yield_now();
                continue;
            }
            for offset in 0..nr {
                let slot = shared.slot(consumer.next().wrapping_add(offset));
                assert_eq!(slot.load(Ordering::Relaxed), next);
                next += 1;
            }
            consumer.release(&shared.consumer, nr);
        }
    }
}
