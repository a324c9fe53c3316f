//! A UDP echo service in user space: answers datagrams for port 7 in the pages that they arrived in.
//!
//! Without an argument it serves a loopback device, which needs no rights. With the name of an
//! interface, it serves queue 0 of that interface by AF_XDP, until a datagram says "quit".
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::time::Duration;

use pagemill_host::HostAllocator;
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolParams};
use pagemill_xdp::devices::Loopback;
use pagemill_xdp::frames::Frame;
use pagemill_xdp::headers::{Datagram, Headers, Network, Transport, parse};
use pagemill_xdp::{
    Device, FramePool, Interface, InterfaceConfig, Packet, Socket, SocketConfig, XdpError,
};

const ECHO_PORT: u16 = 7;
const ARENA_BYTES: u64 = 64 << 20;
const BUDGET: usize = 64;

/// Packets and frames on their way through the loop, and the frames' source.
struct Echo<D: Device, P> {
    device: D,
    pool: P,
    received: Vec<Packet<D::Frame>>,
    replies: Vec<Packet<D::Frame>>,
    frames: Vec<D::Frame>,
    nr_echoed: u64,
    nr_dropped: u64,
    quit: bool,
}

impl<D: Device, P: FramePool<Frame = D::Frame>> Echo<D, P> {
    fn new(device: D, pool: P) -> Result<Self, XdpError> {
        let (received, replies, frames) = (Vec::new(), Vec::new(), Vec::new());
        let (nr_echoed, nr_dropped, quit) = (0, 0, false);
        let mut echo =
            Self { device, pool, received, replies, frames, nr_echoed, nr_dropped, quit };
        echo.step()?; // supplies the first frames
        Ok(echo)
    }

    /// Handles the packets that have arrived, at most [`BUDGET`], and returns how many.
    fn step(&mut self) -> Result<usize, XdpError> {
        // Frames of replies that have left go back to the pool.
        self.device.completed(&mut self.frames)?;
        let nr = self.device.receive(&mut self.received, BUDGET)?;
        for mut packet in self.received.drain(..) {
            if turn_round(&mut packet, &mut self.quit) {
                self.nr_echoed += 1;
                self.replies.push(packet);
            } else {
                self.nr_dropped += 1;
                self.frames.extend(packet.into_frames());
            }
        }
        // What finds no room stays in `replies` until the next step.
        self.device.send(&mut self.replies)?;
        self.pool.recycle(&mut self.frames);

        // Refill: one call to the pool, which takes 64 pages at a time from the page allocator.
        let nr_wanted = self.device.nr_wanted()?;
        self.pool.allocate(&mut self.frames, nr_wanted);
        self.device.supply(&mut self.frames)?;
        self.device.flush()?;
        Ok(nr)
    }

    /// Returns every frame to the pool.
    fn close(mut self) -> Result<P, XdpError> {
        self.frames.extend(self.replies.into_iter().flat_map(Packet::into_frames));
        let closed = self.device.close(&mut self.frames);
        self.pool.recycle(&mut self.frames);
        closed.map(|()| self.pool)
    }
}

/// Makes a datagram for the echo port its own reply; returns false for all other packets.
fn turn_round<F: Frame>(packet: &mut Packet<F>, quit: &mut bool) -> bool {
    // Every length is checked here: a malformed packet is an error.
    let Ok(headers) = parse(packet, packet.total_len()) else { return false };
    let Headers { network: Network::Ipv4, transport, nr_vlan_tags: 0, payload_start, .. } = headers
    else {
        return false;
    };
    if !matches!(transport, Transport::Udp { destination: ECHO_PORT, .. }) {
        return false;
    }
    let bytes: &mut [u8] = packet;
    *quit |= bytes[payload_start..].starts_with(b"quit");
    let (ip, udp) = (14, payload_start - 8);
    swap(bytes, 0, 6, 6); // hardware addresses
    swap(bytes, ip + 12, ip + 16, 4); // IP addresses; the header's checksum stays right
    swap(bytes, udp, udp + 2, 2); // ports
    bytes[udp + 6..udp + 8].fill(0); // no checksum, which UDP over IPv4 allows
    true
}

fn swap(bytes: &mut [u8], one: usize, other: usize, len: usize) {
    let (front, back) = bytes.split_at_mut(other);
    front[one..one + len].swap_with_slice(&mut back[..len]);
}

fn main() -> Result<(), Box<dyn Error>> {
    let frames = HostAllocator::new(ARENA_BYTES)?;
    let nr_pages = frames.nr_free_pages();
    let pool = PagePool::new(&PoolParams::new(), &frames, NoDma)?;
    let owner = PoolOwner::claim(&pool).expect("a new pool has no owner");
    let owner = match env::args().nth(1) {
        Some(name) => {
            let interface = Interface::attach(name.parse()?, InterfaceConfig::default())?;
            let notices = [interface.notice(), interface.other_queues(0)];
            notices.iter().flatten().for_each(|notice| println!("{notice}"));
            let socket = Socket::open(&interface, 0, &frames, &SocketConfig::new())?;
            println!("port {ECHO_PORT} on queue 0 of {name}");
            let mut echo = Echo::new(socket, owner)?;
            while !echo.quit {
                if echo.step()? == 0 {
                    echo.device.wait(Duration::from_millis(100))?;
                }
            }
            while !echo.replies.is_empty() {
                echo.step()?; // the last reply
            }
            finish(echo)?
        }
        None => {
            let mut echo = Echo::new(Loopback::new(&frames, 256)?, owner)?;
            let request = Datagram { ports: [9000, ECHO_PORT], ..Datagram::example() };
            for _ in 0..100 {
                echo.device.inject(&request.packet(b"hello"));
            }
            echo.device.inject(b"not a packet");
            // The device receives what it sends: the replies arrive, and are not for port 7.
            while echo.step()? > 0 {}
            finish(echo)?
        }
    };
    println!("{:?}", owner.stats().alloc);
    owner.shutdown().wait(|_still_out| false)?; // an error if a page is missing
    assert_eq!(frames.nr_free_pages(), nr_pages);
    println!("all {nr_pages} pages are free again");
    Ok(())
}

fn finish<D: Device, P: FramePool<Frame = D::Frame>>(echo: Echo<D, P>) -> Result<P, XdpError> {
    println!("{} echoed, {} dropped", echo.nr_echoed, echo.nr_dropped);
    println!("{:?}", echo.device.counters());
    echo.close()
}
