//! Real AF_XDP sockets on virtual pairs, each test in a network namespace of its own.
//!
//! They need root, or the capabilities `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_BPF` and
//! `CAP_SYS_ADMIN`; without them each says that it was skipped.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests, which tell their seeds and what they skip"
)]

extern crate alloc;

mod common;
#[path = "common/network.rs"]
mod network;

use alloc::collections::BTreeSet;
use core::time::Duration;
use std::time::Instant;

use common::{Frames, Random, frames, number_of, packet_of};
use network::{name, private_network, small, veth};
use pagemill::{AllocPages, Gfp, Page};
use pagemill_host::HostError;
use pagemill_host::arena::return_free_memory;
use pagemill_xdp::attach::{AttachMode, CopyMode, Name};
use pagemill_xdp::frames::{AllocatorPool, Refill};
use pagemill_xdp::headers::Datagram;
use pagemill_xdp::sinks::{Discard, Forward};
use pagemill_xdp::testing::{LiveFrames, PacketSender, VethPair};
use pagemill_xdp::{Device, Interface, InterfaceConfig, Socket, SocketConfig, Worker, XdpError};

type F<'a> = Page<&'a Frames>;

/// How long a packet may take before the test fails.
const PATIENCE: Duration = Duration::from_mins(3);

fn attach(name: Name, mode: AttachMode) -> Interface {
    Interface::attach(name, InterfaceConfig { mode, ..InterfaceConfig::default() }).unwrap()
}

fn open<'a>(interface: &Interface, frames: &'a Frames) -> Socket<F<'a>> {
    Socket::open(interface, 0, frames, &small()).unwrap()
}

/// Gives a device all frames that it has room for.
fn supply<'a>(device: &mut impl Device<Frame = F<'a>>, frames: &'a Frames) {
    let nr = device.nr_wanted().unwrap();
    let mut empty: Vec<F<'_>> = (0..nr).map_while(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    device.supply(&mut empty).unwrap();
    device.flush().unwrap();
}

/// Repeats `step` until it is true.
fn until(what: &str, mut step: impl FnMut() -> bool) {
    let start = Instant::now();
    while !step() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
    }
}

/// Gives the test a network with the pair `a0` and `a1`, and an arena of so many MiB.
fn network(mib: u64) -> Option<(Frames, VethPair)> {
    private_network().map(|()| (frames(mib), veth("a0", "a1")))
}

/// Sends all of `packets`.
fn send_all(sender: &PacketSender, packets: &[Vec<u8>]) {
    let mut nr = 0;
    until("sending", || {
        nr += sender.send(&packets[nr..]).unwrap();
        nr == packets.len()
    });
}

#[test]
fn packets_arrive_as_they_were_sent_in_driver_and_in_stack() {
    let Some((frames, pair)) = network(8) else { return };
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let interface = attach(pair.name(1), mode);
        assert_eq!(interface.is_native(), Some(mode == AttachMode::Native));
        let mut socket = open(&interface, &frames);
        assert!(!socket.is_zero_copy());
        let notice = socket.notice().expect("a virtual pair cannot do without copies").to_string();
        assert!(notice.contains("a1") && notice.contains("zero-copy"), "{notice}");
        let sender = PacketSender::to(pair.index(0)).unwrap();
        let mut next = 0;
        let mut packets = Vec::new();
        while next < 2000 {
            supply(&mut socket, &frames);
            let batch: Vec<_> = (next..next + 50).map(packet_of).collect();
            send_all(&sender, &batch);
            until("receiving", || {
                if socket.wait(Duration::from_millis(100)).unwrap() {
                    socket.receive(&mut packets, 64).unwrap();
                }
                packets.len() == 50
            });
            for packet in packets.drain(..) {
                assert!(packet.headroom() >= 256);
                assert_eq!(number_of(&packet), Some(next));
                next += 1;
            }
        }
        assert_eq!(socket.counters().received, 2000);
        let held = socket.nr_held();
        let mut back = Vec::new();
        socket.close(&mut back).unwrap();
        assert_eq!(back.len(), held);
        drop(back);
        assert_eq!(frames.nr_free_pages(), 2048);
    }
}

/// The way of the end-to-end tests: packets go into `a0`, a worker takes them off `a1` and sends
/// them out of `b0`, and a socket on `b1` receives them.
struct Chain<'a> {
    frames: &'a Frames,
    sender: PacketSender,
    worker: Worker<Socket<F<'a>>, AllocatorPool<&'a Frames>, Forward<Socket<F<'a>>>>,
    receiver: Socket<F<'a>>,
    seen: BTreeSet<u64>,
}

impl<'a> Chain<'a> {
    fn new(a: &VethPair, b: &VethPair, frames: &'a Frames, refill: Refill) -> Self {
        let input = open(&attach(a.name(1), AttachMode::Native), frames);
        let out_port = Interface::to_send(b.name(0), InterfaceConfig::default()).unwrap();
        let output = Forward::new(open(&out_port, frames));
        let worker = Worker::new(input, AllocatorPool::new(frames, refill), output).unwrap();
        let receiver = open(&attach(b.name(1), AttachMode::Native), frames);
        let sender = PacketSender::to(a.index(0)).unwrap();
        Self { frames, sender, worker, receiver, seen: BTreeSet::new() }
    }

    /// Sends packets with these numbers, and waits until each has come out once.
    fn pass(&mut self, numbers: core::ops::Range<u64>) {
        let mut packets = Vec::new();
        for first in numbers.clone().step_by(64) {
            let batch: Vec<_> = (first..numbers.end.min(first + 64)).map(packet_of).collect();
            let expected = self.seen.len() + batch.len();
            supply(&mut self.receiver, self.frames);
            send_all(&self.sender, &batch);
            until("passing", || {
                self.worker.step().unwrap();
                self.receiver.receive(&mut packets, 64).unwrap();
                for packet in packets.drain(..) {
                    let number = number_of(&packet).expect("the packet is as it was sent");
                    assert!(self.seen.insert(number), "packet {number} came twice");
                }
                self.seen.len() == expected
            });
            let held = self.worker.nr_held() + self.receiver.nr_held();
            let free = self.frames.nr_free_pages();
            assert_eq!(free + held as u64, NR_FRAMES, "every frame is somewhere");
        }
        assert!(numbers.into_iter().all(|number| self.seen.contains(&number)));
    }

    fn close(self) {
        self.worker.close().1.unwrap();
        self.receiver.close(&mut Vec::new()).unwrap();
        assert_eq!(self.frames.nr_free_pages(), NR_FRAMES);
    }
}

const NR_FRAMES: u64 = 2048;

#[test]
fn each_of_100_000_packets_is_redirected_once_and_unchanged() {
    let Some(()) = private_network() else { return };
    let frames = frames(8);
    let (a, b) = (veth("a0", "a1"), veth("b0", "b1"));
    for (refill, nr) in [(Refill::Bulk, 100_000), (Refill::Single, 10_000)] {
        let mut chain = Chain::new(&a, &b, &frames, refill);
        chain.pass(0..nr);
        let counters = chain.worker.counters();
        assert_eq!((counters.received, counters.passed), (nr, nr));
        assert_eq!(counters.malformed.total(), 0);
        chain.close();
    }
}

#[test]
fn redirection_goes_on_after_the_interfaces_were_down() {
    let Some(()) = private_network() else { return };
    let frames = frames(8);
    let (a, b) = (veth("a0", "a1"), veth("b0", "b1"));
    let mut chain = Chain::new(&a, &b, &frames, Refill::Bulk);
    chain.pass(0..1000);
    for (pair, end) in [(&a, 1), (&b, 0)] {
        pair.set_up(end, false).unwrap();
        // The worker may run while the interface is down.
        for _ in 0..10 {
            chain.worker.step().unwrap();
        }
        pair.set_up(end, true).unwrap();
    }
    chain.pass(1000..2000);
    chain.close();
}

#[test]
fn what_is_sent_while_the_interface_is_down_leaves_when_it_is_up() {
    let Some(()) = private_network() else { return };
    let frames = frames(8);
    let pair = veth("b0", "b1");
    let interface = Interface::to_send(pair.name(0), InterfaceConfig::default()).unwrap();
    let mut output = open(&interface, &frames);
    let mut receiver = open(&attach(pair.name(1), AttachMode::Native), &frames);
    supply(&mut receiver, &frames);
    pair.set_up(0, false).unwrap();
    let mut packet = pagemill_xdp::Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
    packet.extend(&packet_of(7)).unwrap();
    assert_eq!(output.send(&mut vec![packet]).unwrap(), 1);
    output.flush().unwrap();
    assert!(output.counters().down > 0);
    assert_eq!(output.nr_held(), 1);
    pair.set_up(0, true).unwrap();
    let (mut packets, mut back) = (Vec::new(), Vec::new());
    until("leaving", || {
        output.flush().unwrap();
        output.completed(&mut back).unwrap();
        receiver.receive(&mut packets, 8).unwrap();
        packets.len() == 1 && back.len() == 1
    });
    assert_eq!(number_of(&packets[0]), Some(7));
}

#[test]
fn sockets_closed_in_any_order_give_all_frames_back() {
    let Some(()) = private_network() else { return };
    let frames = frames(16);
    let pairs = [veth("a0", "a1"), veth("b0", "b1")];
    let nr_frames = frames.nr_free_pages();
    for seed in Random::seeds(6) {
        let mut random = Random::new(seed);
        let mut sockets: Vec<Option<Socket<F<'_>>>> = Vec::new();
        for pair in &pairs {
            for end in 0..2 {
                let interface = attach(pair.name(end), AttachMode::Native);
                sockets.push(Some(open(&interface, &frames)));
            }
        }
        // Something is on each ring: empty frames, packets that came, packets that go, and some
        // that have gone.
        for socket in sockets.iter_mut().flatten() {
            supply(socket, &frames);
        }
        for round in 0..2 {
            for socket in sockets.iter_mut().flatten() {
                let page = |_| frames.alloc_page(Gfp::KERNEL);
                let mut packets: Vec<_> = (0..20).map_while(page).collect();
                let mut packets = packets
                    .drain(..)
                    .map(|page| {
                        let mut packet = pagemill_xdp::Packet::new(page);
                        packet.extend(&packet_of(round)).unwrap();
                        packet
                    })
                    .collect();
                socket.send(&mut packets).unwrap();
                if round == 0 {
                    socket.flush().unwrap();
                }
            }
        }
        let mut nr_left = sockets.len();
        while nr_left > 0 {
            let Some(socket) = sockets[random.below(4)].take() else {
                continue;
            };
            nr_left -= 1;
            if random.below(2) == 0 {
                let (held, mut back) = (socket.nr_held(), Vec::new());
                socket.close(&mut back).unwrap();
                assert_eq!((back.len(), held), (296, 296));
            } else {
                drop(socket);
            }
        }
        assert_eq!(frames.nr_free_pages(), nr_frames, "seed {seed}");
    }
}

#[test]
fn a_queue_can_be_had_again_at_once_and_by_one_socket_only() {
    let Some((frames, pair)) = network(8) else { return };
    let interface = attach(pair.name(1), AttachMode::Native);
    for _ in 0..4 {
        let socket = open(&interface, &frames);
        let hasty = SocketConfig { patience: Duration::from_millis(20), ..small() };
        let error = Socket::<F<'_>>::open(&interface, 0, &frames, &hasty).unwrap_err();
        assert_eq!(error, XdpError::QueueBusy { name: name("a1"), queue: 0 });
        drop(socket);
    }
}

#[test]
fn memory_of_the_arena_is_not_returned_while_a_socket_has_it() {
    let Some((frames, pair)) = network(16) else { return };
    let (block, ports) = (2 << 20, [0, 1].map(|end| attach(pair.name(end), AttachMode::Generic)));
    assert_eq!(return_free_memory(&frames, block), Ok(block));
    let [one, other] = ports.each_ref().map(|port| open(port, &frames));
    drop(one);
    let refused = return_free_memory(&frames, block);
    assert_eq!(refused, Err(HostError::Pinned { nr_pins: 1 }));
    drop(other);
    assert_eq!(return_free_memory(&frames, block), Ok(block));
}

#[test]
fn packets_are_good_after_their_socket_on_another_thread() {
    let Some((frames, pair)) = network(8) else { return };
    let mut socket = open(&attach(pair.name(1), AttachMode::Native), &frames);
    supply(&mut socket, &frames);
    let numbers: Vec<u64> = (0..100).collect();
    let batch: Vec<_> = numbers.iter().map(|&number| packet_of(number)).collect();
    send_all(&PacketSender::to(pair.index(0)).unwrap(), &batch);
    let mut packets = Vec::new();
    until("receiving", || {
        socket.receive(&mut packets, 64).unwrap();
        packets.len() == 100
    });
    std::thread::scope(|scope| {
        let (closed, wait) = std::sync::mpsc::channel::<()>();
        let keeper = scope.spawn(move || {
            wait.recv().unwrap();
            packets.iter().map(|packet| number_of(packet).unwrap()).collect::<Vec<_>>()
        });
        drop(socket);
        // Packets that arrive now do not reach the frames that are kept.
        send_all(&PacketSender::to(pair.index(0)).unwrap(), &batch);
        closed.send(()).unwrap();
        assert_eq!(keeper.join().unwrap(), numbers);
    });
    assert_eq!(frames.nr_free_pages(), NR_FRAMES);
}

#[test]
fn packets_without_a_frame_for_them_are_counted() {
    let Some((frames, pair)) = network(8) else { return };
    let mut socket = open(&attach(pair.name(1), AttachMode::Native), &frames);
    let mut empty: Vec<F<'_>> = (0..8).map_while(|_| frames.alloc_page(Gfp::KERNEL)).collect();
    socket.supply(&mut empty).unwrap();
    let batch: Vec<_> = (0..20).map(packet_of).collect();
    send_all(&PacketSender::to(pair.index(0)).unwrap(), &batch);
    let mut packets = Vec::new();
    until("losing", || {
        socket.receive(&mut packets, 64).unwrap();
        packets.len() == 8 && socket.counters().no_frame == 12
    });
    assert_eq!(socket.counters().lost(), 12, "{:?}", socket.counters());
}

#[test]
fn jumbo_packets_come_in_several_frames() {
    let Some((frames, pair)) = network(8) else { return };
    pair.set_mtu(9000).unwrap();
    let error = Interface::attach(pair.name(1), InterfaceConfig::default())
        .and_then(|interface| Socket::<F<'_>>::open(&interface, 0, &frames, &small()).map(drop))
        .unwrap_err();
    assert_eq!(error, XdpError::Mtu { name: name("a1"), mtu: 9000, mtu_max: 3818 });
    // The error is about the MTU, regardless of the driver's error. An interface that only sends
    // may have any MTU.
    let native = InterfaceConfig { mode: AttachMode::Native, ..InterfaceConfig::default() };
    assert_eq!(Interface::attach(pair.name(1), native).unwrap_err(), error);
    let to_send = Interface::to_send(pair.name(0), InterfaceConfig::default()).unwrap();
    drop(Socket::<F<'_>>::open(&to_send, 0, &frames, &small()).unwrap());
    let config = InterfaceConfig { multi_buffer: true, ..InterfaceConfig::default() };
    let mut socket: Socket<F<'_>> =
        Socket::open(&Interface::attach(pair.name(1), config).unwrap(), 0, &frames, &small())
            .unwrap();
    let output_port = Interface::to_send(pair.name(0), config).unwrap();
    let mut output: Socket<F<'_>> = Socket::open(&output_port, 0, &frames, &small()).unwrap();
    supply(&mut socket, &frames);
    let payload: Vec<u8> = (0..8900_u32).map(|nth| nth as u8).collect();
    let bytes = Datagram::example().packet(&payload);
    send_all(&PacketSender::to(pair.index(0)).unwrap(), core::slice::from_ref(&bytes));
    // And once more from our own frames, in three pieces.
    let piece = |bytes: &[u8]| {
        let mut packet = pagemill_xdp::Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
        packet.extend(bytes).unwrap();
        packet
    };
    let mut packet = piece(&bytes[..3000]);
    packet.append(piece(&bytes[3000..6000]));
    packet.append(piece(&bytes[6000..]));
    assert_eq!(output.send(&mut vec![packet]).unwrap(), 1);
    let mut packets = Vec::new();
    until("receiving", || {
        output.flush().unwrap();
        socket.receive(&mut packets, 8).unwrap();
        packets.len() == 2
    });
    for packet in &packets {
        assert_eq!(packet.nr_frames(), 3);
        assert_eq!(packet.pieces().collect::<Vec<_>>().concat(), bytes);
    }
    let mut back = Vec::new();
    until("completing", || {
        output.completed(&mut back).unwrap();
        back.len() == 3
    });
}

#[test]
fn millions_of_packets_of_the_kernel_come_in() {
    let Some((frames, pair)) = network(32) else { return };
    let interface = attach(pair.name(1), AttachMode::Native);
    let socket = Socket::open(&interface, 0, &frames, &SocketConfig::new()).unwrap();
    let pool = AllocatorPool::new(&frames, Refill::Bulk);
    let mut worker = Worker::new(socket, pool, Discard).unwrap();
    let (bytes, index) = (Datagram::example().packet(&[7; 22]), pair.index(0));
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || LiveFrames::to(index).unwrap().send(&bytes, 1 << 19));
        while !sender.is_finished() {
            if worker.step().unwrap() == 0 {
                std::thread::yield_now();
            }
        }
        sender.join().unwrap().unwrap();
    });
    while worker.step().unwrap() > 0 {}
    let (counters, device) = (worker.counters(), worker.input_counters());
    assert_eq!(counters.received, counters.passed);
    assert!(counters.received > 1000, "{counters:?}");
    // What did not come in is accounted for, but for what the interface itself could not take.
    assert!(counters.received + device.lost() <= 1 << 19, "{counters:?} {device:?}");
    worker.close().1.unwrap();
    assert_eq!(frames.nr_free_pages(), 8192);
}

#[test]
fn nothing_stays_attached_even_after_a_panic() {
    let Some((frames, pair)) = network(8) else { return };
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let outcome = std::thread::scope(|scope| {
            let victim = scope.spawn(|| -> Result<(), XdpError> {
                let interface = attach(pair.name(1), mode);
                let _socket = open(&interface, &frames);
                let again =
                    Interface::attach(pair.name(1), InterfaceConfig::default()).unwrap_err();
                let XdpError::ProgramAttached { name: told, program } = again else {
                    return Err(again);
                };
                assert!(told == name("a1") && program > 0);
                panic!("as planned");
            });
            victim.join()
        });
        assert!(outcome.is_err(), "the thread panicked: {outcome:?}");
        drop(attach(pair.name(1), mode));
        assert_eq!(frames.nr_free_pages(), NR_FRAMES);
    }
}

#[test]
fn a_socket_keeps_its_program_when_the_port_is_gone() {
    let Some((frames, pair)) = network(8) else { return };
    let interface = attach(pair.name(1), AttachMode::Native);
    let mut socket = open(&interface, &frames);
    drop(interface);
    supply(&mut socket, &frames);
    send_all(&PacketSender::to(pair.index(0)).unwrap(), &[packet_of(1)]);
    let mut packets = Vec::new();
    until("receiving", || socket.receive(&mut packets, 1).unwrap() == 1);
}

#[test]
fn what_cannot_be_opened_is_told_and_leaves_nothing_behind() {
    let Some((frames, pair)) = network(8) else { return };
    let missing = Interface::attach(name("nosuch"), InterfaceConfig::default()).unwrap_err();
    assert_eq!(missing, XdpError::NoInterface { name: name("nosuch") });
    let down = Interface::attach(name("lo"), InterfaceConfig::default()).unwrap_err();
    assert_eq!(down, XdpError::InterfaceDown { name: name("lo") });

    let interface = attach(pair.name(1), AttachMode::Auto);
    let open = |queue, config: SocketConfig| {
        Socket::<F<'_>>::open(&interface, queue, &frames, &config).map(drop).unwrap_err()
    };
    let no_queue = XdpError::NoQueue { name: name("a1"), queue: 1, nr_queues: 1 };
    assert_eq!(open(1, small()), no_queue);
    assert_eq!(
        open(u32::MAX, small()),
        XdpError::NoQueue { name: name("a1"), queue: u32::MAX, nr_queues: 1 }
    );
    for size in [0, 3, 1000, 1 << 17, u32::MAX] {
        for (ring, config) in [
            ("fill", SocketConfig { fill_size: size, ..small() }),
            ("completion", SocketConfig { completion_size: size, ..small() }),
            ("rx", SocketConfig { rx_size: size, ..small() }),
            ("tx", SocketConfig { tx_size: size, ..small() }),
        ] {
            assert_eq!(open(0, config), XdpError::RingSize { ring, size, size_max: 65536 });
        }
    }
    let large = SocketConfig { fill_size: 2048, tx_size: 1024, ..small() };
    assert_eq!(open(0, large), XdpError::ArenaTooSmall { nr_frames: 2048, nr_needed: 3072 });
    let headroom = SocketConfig { headroom: 4000, ..small() };
    assert_eq!(open(0, headroom), XdpError::Headroom { headroom: 4000, headroom_max: 3826 });
    let headroom = SocketConfig { headroom: 3000, ..small() };
    assert_eq!(open(0, headroom), XdpError::Mtu { name: name("a1"), mtu: 1500, mtu_max: 818 });
    let zero_copy = SocketConfig { copy: CopyMode::ZeroCopy, ..small() };
    let error = open(0, zero_copy);
    assert!(matches!(error, XdpError::NoZeroCopy { queue: 0, .. }), "{error}");
    // All of that left the queue free.
    let copy = SocketConfig { copy: CopyMode::Copy, headroom: 128, ..small() };
    let mut socket: Socket<F<'_>> = Socket::open(&interface, 0, &frames, &copy).unwrap();
    assert_eq!(socket.notice(), None);
    supply(&mut socket, &frames);
    send_all(&PacketSender::to(pair.index(0)).unwrap(), &[packet_of(1)]);
    let mut packets = Vec::new();
    until("receiving", || socket.receive(&mut packets, 1).unwrap() == 1);
    assert_eq!(packets[0].headroom(), 256 + 128);
}

#[test]
fn several_queues_feed_several_sockets_on_one_arena() {
    let Some(()) = private_network() else { return };
    let frames = frames(8);
    let pair = VethPair::new(name("a0"), name("a1"), 2).unwrap();
    let interface = attach(pair.name(1), AttachMode::Native);
    let nr_queues = interface.nr_queues().expect("the driver says it");
    assert_eq!(nr_queues, 2);
    let mut sockets: Vec<Socket<F<'_>>> = (0..nr_queues)
        .map(|queue| Socket::open(&interface, queue, &frames, &small()).unwrap())
        .collect();
    sockets.iter_mut().for_each(|socket| supply(socket, &frames));
    let batch: Vec<_> = (0..60).map(packet_of).collect();
    send_all(&PacketSender::to(pair.index(0)).unwrap(), &batch);
    let mut packets = Vec::new();
    until("receiving", || {
        for socket in &mut sockets {
            socket.receive(&mut packets, 64).unwrap();
        }
        packets.len() == 60
    });
    let seen: BTreeSet<_> = packets.iter().filter_map(|packet| number_of(packet)).collect();
    assert_eq!(seen.len(), 60);
}

#[test]
fn an_interface_that_is_removed_is_told_and_the_frames_come_back() {
    let Some((frames, pair)) = network(8) else { return };
    let mut input = open(&attach(pair.name(1), AttachMode::Native), &frames);
    let interface = Interface::to_send(pair.name(0), InterfaceConfig::default()).unwrap();
    let mut output = open(&interface, &frames);
    supply(&mut input, &frames);
    drop(pair);
    until("noticing", || match input.wait(Duration::from_millis(1)) {
        Ok(_) => false,
        Err(error) => error == XdpError::InterfaceGone { name: name("a1") },
    });
    assert!(input.wait(Duration::ZERO).is_err(), "it stays so");
    let mut packet = pagemill_xdp::Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
    packet.extend(&packet_of(7)).unwrap();
    output.send(&mut vec![packet]).unwrap();
    assert_eq!(output.flush(), Err(XdpError::InterfaceGone { name: name("a0") }));
    let mut back = Vec::new();
    input.close(&mut back).unwrap();
    output.close(&mut back).unwrap();
    assert_eq!(back.len(), 257);
}
