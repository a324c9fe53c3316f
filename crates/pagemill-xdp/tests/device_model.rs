//! Devices, sinks and workers against a model that counts frames at each step, without any right.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests, which tell their seeds"
)]

extern crate alloc;

mod common;

use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use common::{Frames, Random, frames, number_of, numbered, packet_of};
use pagemill::{AllocPages, Gfp, Page};
use pagemill_xdp::devices::{DeviceCounters, Fault, FaultConfig, Loopback};
use pagemill_xdp::frames::{AllocatorPool, Refill};
use pagemill_xdp::headers::{Datagram, Malformed};
use pagemill_xdp::sinks::{Discard, Forward, handover};
use pagemill_xdp::{Device, Packet, Worker, XdpError};

type F<'a> = Page<&'a Frames>;

/// A device over loopback, whose queue of packets the model knows.
struct World<'a> {
    frames: &'a Frames,
    device: Loopback<F<'a>>,
    /// Packets that will be received, in order.
    coming: VecDeque<Vec<u8>>,
    /// Packets sent and not yet flushed, with the number of their frames.
    leaving: VecDeque<Vec<u8>>,
    /// Frames of packets that have left and were not collected.
    nr_done: usize,
    /// Empty frames on the ring.
    nr_empty: usize,
    hands: Vec<F<'a>>,
    packets: Vec<Packet<F<'a>>>,
}

const RING: usize = 16;

impl World<'_> {
    fn step(&mut self, random: &mut Random) {
        match random.below(6) {
            0 => {
                let nr = random.below(8);
                let (frames, before) = (self.frames, self.hands.len());
                self.hands.extend((0..nr).map_while(|_| frames.alloc_page(Gfp::KERNEL)));
                assert_eq!(self.hands.len() - before, nr, "the arena is large enough");
                let wanted = self.device.nr_wanted().unwrap();
                assert_eq!(wanted, RING - self.nr_empty);
                let expected = wanted.min(self.hands.len());
                assert_eq!(self.device.supply(&mut self.hands).unwrap(), expected);
                self.nr_empty += expected;
            }
            1 => {
                let bytes = numbered(random.next(), 60 + random.below(1000));
                let fits = self.coming.len() < RING && self.nr_empty > 0;
                assert_eq!(self.device.inject(&bytes), fits);
                if fits {
                    self.nr_empty -= 1;
                    self.coming.push_back(bytes);
                }
            }
            2 => {
                let nr_max = random.below(5);
                let before = self.packets.len();
                let nr = self.device.receive(&mut self.packets, nr_max).unwrap();
                assert_eq!(nr, nr_max.min(self.coming.len()));
                for packet in &self.packets[before..] {
                    assert_eq!(Some(packet.to_vec()), self.coming.pop_front());
                }
            }
            3 => {
                let room = RING - self.leaving.len() - self.nr_done;
                let expected = room.min(self.packets.len());
                let bytes: Vec<_> = self.packets.iter().map(|packet| packet.to_vec()).collect();
                assert_eq!(self.device.send(&mut self.packets).unwrap(), expected);
                self.leaving.extend(bytes.into_iter().take(expected));
            }
            4 => {
                self.device.flush().unwrap();
                for bytes in self.leaving.drain(..) {
                    self.nr_done += 1;
                    if self.coming.len() < RING && self.nr_empty > 0 {
                        self.nr_empty -= 1;
                        self.coming.push_back(bytes);
                    }
                }
            }
            _ => {
                assert_eq!(self.device.completed(&mut self.hands).unwrap(), self.nr_done);
                self.nr_done = 0;
                if random.below(3) == 0 {
                    self.hands.truncate(self.hands.len() / 2);
                    self.packets.truncate(self.packets.len() / 2);
                }
            }
        }
        let held = self.nr_empty + self.coming.len() + self.leaving.len() + self.nr_done;
        assert_eq!(self.device.nr_held(), held);
        let out = held + self.hands.len() + self.packets.len();
        assert_eq!(self.frames.nr_free_pages(), NR_FRAMES - out as u64);
    }
}

const NR_FRAMES: u64 = 1024;

#[test]
fn every_frame_is_where_the_model_has_it() {
    let frames = frames(4);
    for seed in Random::seeds(40) {
        let mut random = Random::new(seed);
        let mut world = World {
            frames: &frames,
            device: Loopback::new(&frames, RING as u32).unwrap(),
            coming: VecDeque::new(),
            leaving: VecDeque::new(),
            nr_done: 0,
            nr_empty: 0,
            hands: Vec::new(),
            packets: Vec::new(),
        };
        for _ in 0..500 {
            world.step(&mut random);
        }
        let held = world.device.nr_held();
        let mut back = Vec::new();
        world.device.close(&mut back).unwrap();
        assert_eq!(back.len(), held, "closing takes back what is on all four rings");
        drop((back, world.hands, world.packets));
        assert_eq!(frames.nr_free_pages(), NR_FRAMES);
    }
}

#[test]
fn a_worker_passes_each_packet_once_whatever_the_faults() {
    let frames = frames(4);
    for seed in Random::seeds(30) {
        let mut random = Random::new(seed);
        let faults = FaultConfig {
            seed,
            drop_per_mille: random.below(200) as u16,
            reorder_per_mille: random.below(300) as u16,
            delay_per_mille: random.below(300) as u16,
            delay_max: 1 + random.below(20) as u16,
            batch_max: 1 + random.below(64),
        };
        let input = Fault::new(Loopback::new(&frames, 64).unwrap(), faults);
        // A device that sends to itself: what was forwarded can be looked at.
        let out_faults = FaultConfig { batch_max: faults.batch_max, ..FaultConfig::NONE };
        let output = Fault::new(Loopback::new(&frames, 64).unwrap(), out_faults);
        let refill = if seed % 2 == 0 { Refill::Bulk } else { Refill::Single };
        let pool = AllocatorPool::new(&frames, refill);
        let mut worker = Worker::new(input, pool, Forward::new(output)).unwrap();
        let mut seen = BTreeSet::new();
        let mut injected = 0;
        let mut received = Vec::new();
        let mut empty: Vec<F<'_>> = Vec::new();
        while injected < 2000 {
            for _ in 0..random.below(64) {
                injected += u64::from(worker.input_mut().inner_mut().inject(&packet_of(injected)));
            }
            worker.step().unwrap();
            let device = worker.sink_mut().device_mut();
            empty.extend((0..64).map_while(|_| frames.alloc_page(Gfp::KERNEL)));
            device.supply(&mut empty).unwrap();
            device.receive(&mut received, 64).unwrap();
            for packet in received.drain(..) {
                let number = number_of(&packet).expect("the packet is as it was sent");
                assert!(seen.insert(number), "packet {number} came twice");
            }
            let held = worker.nr_held() + empty.len();
            assert_eq!(frames.nr_free_pages(), NR_FRAMES - held as u64);
        }
        let nr_late = injected as usize - seen.len() - worker.input_mut().nr_dropped() as usize;
        let on_the_way = worker.nr_held();
        assert!(
            nr_late <= on_the_way,
            "{nr_late} packets are missing, {on_the_way} frames are out"
        );
        assert!(seen.len() > 500, "the faults leave something");
        worker.close().1.unwrap();
        drop((empty, received));
        assert_eq!(frames.nr_free_pages(), NR_FRAMES);
    }
}

#[test]
fn malformed_packets_are_counted_and_their_frames_come_back() {
    let frames = frames(4);
    let device = Loopback::new(&frames, 64).unwrap();
    let pool = AllocatorPool::new(&frames, Refill::Bulk);
    let mut worker = Worker::new(device, pool, Discard).unwrap();
    let good = packet_of(1);
    let stack = [&good[..12], &[0x81, 0, 0, 1].repeat(5), &good[12..]].concat();
    let mut version = good.clone();
    version[14] = 0x60;
    for bytes in [&good[..], &good[..13], &good[..40], &stack, &version, &good] {
        assert!(worker.input_mut().inject(bytes));
    }
    assert_eq!(worker.step().unwrap(), 6);
    let counters = worker.counters();
    assert_eq!((counters.received, counters.passed), (6, 2));
    assert_eq!(Malformed::ALL.map(|reason| counters.malformed.of(reason)), [1; 4]);
    worker.close().1.unwrap();
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn descriptors_that_lie_are_counted_and_cost_no_frame() {
    let frames = frames(4);
    let device = Loopback::new(&frames, 64).unwrap();
    let pool = AllocatorPool::new(&frames, Refill::Bulk);
    let mut worker = Worker::new(device, pool, Discard).unwrap();
    let mine = frames.alloc_page(Gfp::KERNEL).unwrap();
    let memory = frames.platform().memory();
    let offset = mine.as_bytes().as_ptr().addr() - memory.base().addr().get();
    let lies = [
        (offset as u64, 64),        // a frame that the device does not have
        (4 << 20, 64),              // behind the arena
        (u64::MAX, u32::MAX),       // nowhere
        (1 << 47, 0),               // nowhere
        (offset as u64 + 4000, 97), // across the end of a frame
    ];
    for (address, len) in lies {
        worker.input_mut().inject_descriptor(address, len);
        worker.input_mut().inject_completion(address);
    }
    assert_eq!(worker.step().unwrap(), 0);
    let mut nothing = Vec::new();
    assert_eq!(worker.input_mut().completed(&mut nothing).unwrap(), 0);
    assert_eq!(worker.input_counters().malformed, 10);
    worker.close().1.unwrap();
    drop(mine);
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn a_consumer_that_dies_takes_no_frame_with_it() {
    let frames = frames(4);
    let device = Loopback::new(&frames, 64).unwrap();
    let pool = AllocatorPool::new(&frames, Refill::Bulk);
    let (to, inbox) = handover(4);
    let mut worker = Worker::new(device, pool, to).unwrap();
    std::thread::scope(|scope| {
        let consumer = scope.spawn(move || {
            let kept = inbox.receive().expect("a batch comes");
            let numbers: Vec<_> = kept.iter().map(|packet| number_of(packet)).collect();
            // It ends with packets in its hands, and more waiting.
            (numbers, drop(kept))
        });
        for number in 0..200 {
            assert!(worker.input_mut().inject(&packet_of(number)));
            worker.step().unwrap();
            if number == 0 {
                while worker.counters().passed == 0 {
                    worker.step().unwrap();
                }
            }
            if number == 10 {
                break;
            }
        }
        assert_eq!(consumer.join().unwrap().0, [Some(0)]);
    });
    for number in 0..100 {
        assert!(worker.input_mut().inject(&packet_of(number)));
        worker.step().unwrap();
    }
    assert!(worker.sink_mut().nr_orphaned() >= 100);
    worker.close().1.unwrap();
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn packets_outlive_their_device_on_another_thread() {
    let frames = frames(4);
    let mut device = Loopback::new(&frames, 64).unwrap();
    let mut empty: Vec<F<'_>> = (0..64).map_while(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    device.supply(&mut empty).unwrap();
    for number in 0..10 {
        assert!(device.inject(&packet_of(number)));
    }
    let mut packets = Vec::new();
    device.receive(&mut packets, 10).unwrap();
    std::thread::scope(|scope| {
        let (gone, wait) = std::sync::mpsc::channel::<()>();
        let keeper = scope.spawn(move || {
            wait.recv().unwrap();
            packets.iter().map(|packet| number_of(packet)).collect::<Vec<_>>()
        });
        device.close(&mut empty).unwrap();
        gone.send(()).unwrap();
        let expected: Vec<_> = (0..10).map(Some).collect();
        assert_eq!(keeper.join().unwrap(), expected);
    });
    drop(empty);
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn jumbo_packets_take_several_frames_all_the_way() {
    let frames = frames(4);
    let input = Loopback::new(&frames, 64).unwrap();
    let output = Loopback::new(&frames, 64).unwrap();
    let pool = AllocatorPool::new(&frames, Refill::Bulk);
    let mut worker = Worker::new(input, pool, Forward::new(output)).unwrap();
    let payload: Vec<u8> = (0..9000_u32).map(|nth| nth as u8).collect();
    let bytes = Datagram::example().packet(&payload);
    assert!(worker.input_mut().inject(&bytes));
    let device = worker.sink_mut().device_mut();
    let mut empty: Vec<F<'_>> = (0..8).map_while(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    device.supply(&mut empty).unwrap();
    assert_eq!(worker.step().unwrap(), 1);
    let mut packets = Vec::new();
    assert_eq!(worker.sink_mut().device_mut().receive(&mut packets, 8).unwrap(), 1);
    assert_eq!((packets[0].nr_frames(), packets[0].total_len()), (3, bytes.len()));
    assert_eq!(packets[0].pieces().collect::<Vec<_>>().concat(), bytes);
    drop(packets);
    worker.close().1.unwrap();
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn a_loopback_that_cannot_be_is_refused_with_the_numbers() {
    let frames = frames(4);
    for size in [0, 3, 1 << 17] {
        let error = Loopback::<F<'_>>::new(&frames, size).unwrap_err();
        assert!(matches!(error, XdpError::RingSize { size: told, .. } if told == size), "{error}");
        assert!(error.to_string().contains("power of two"), "{error}");
    }
    let error = Loopback::<F<'_>>::new(&frames, 1024).unwrap_err();
    assert_eq!(error, XdpError::ArenaTooSmall { nr_frames: 1024, nr_needed: 2048 });
}

#[test]
fn a_packet_that_the_ring_cannot_hold_is_refused_and_blocks_nothing() {
    let frames = frames(4);
    let mut device: Loopback<F<'_>> = Loopback::new(&frames, 4).unwrap();
    let piece = |len| {
        let mut packet = Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
        packet.extend(&vec![7; len]).unwrap();
        packet
    };
    let of_frames = |nr| {
        let mut packet = piece(60);
        (1..nr).for_each(|_| packet.append(piece(60)));
        packet
    };
    let mut packets = vec![of_frames(5), of_frames(4), of_frames(1)];
    assert_eq!(device.send(&mut packets).unwrap(), 2);
    assert_eq!((device.counters().dropped, packets.len()), (1, 1));
    device.flush().unwrap();
    let mut back = Vec::new();
    assert_eq!(device.completed(&mut back).unwrap(), 4);
    assert_eq!(back.len(), 9, "those of the refused packet too");
    assert_eq!(device.send(&mut packets).unwrap(), 1);
    device.close(&mut back).unwrap();
    drop(back);
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

/// A device that sleeps through the first calls that are to wake it, as one does that asks to be
/// woken at the moment at which it is looked at.
struct Drowsy<'a> {
    inner: Loopback<F<'a>>,
    nr_missed: u32,
}

impl<'a> Device for Drowsy<'a> {
    type Frame = F<'a>;

    fn receive(
        &mut self,
        packets: &mut Vec<Packet<F<'a>>>,
        nr_max: usize,
    ) -> Result<usize, XdpError> {
        if self.nr_missed > 0 { Ok(0) } else { self.inner.receive(packets, nr_max) }
    }

    fn send(&mut self, packets: &mut Vec<Packet<F<'a>>>) -> Result<usize, XdpError> {
        self.inner.send(packets)
    }

    fn nr_wanted(&mut self) -> Result<usize, XdpError> {
        self.inner.nr_wanted()
    }

    fn supply(&mut self, frames: &mut Vec<F<'a>>) -> Result<usize, XdpError> {
        self.inner.supply(frames)
    }

    fn completed(&mut self, frames: &mut Vec<F<'a>>) -> Result<usize, XdpError> {
        self.inner.completed(frames)
    }

    fn flush(&mut self) -> Result<(), XdpError> {
        self.nr_missed = self.nr_missed.saturating_sub(1);
        self.inner.flush()
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool, XdpError> {
        self.inner.wait(timeout)
    }

    fn nr_held(&self) -> usize {
        self.inner.nr_held()
    }

    fn counters(&self) -> DeviceCounters {
        self.inner.counters()
    }

    fn close(self, frames: &mut Vec<F<'a>>) -> Result<(), XdpError> {
        self.inner.close(frames)
    }
}

#[test]
fn a_device_that_missed_being_woken_is_woken_again() {
    let frames = frames(4);
    let device = Drowsy { inner: Loopback::new(&frames, 64).unwrap(), nr_missed: 3 };
    let pool = AllocatorPool::new(&frames, Refill::Bulk);
    let mut worker = Worker::new(device, pool, Discard).unwrap();
    assert!(worker.input_mut().inner.inject(&packet_of(1)));
    let nr_received: usize = (0..4).map(|_| worker.step().unwrap()).sum();
    assert_eq!(nr_received, 1);
}
