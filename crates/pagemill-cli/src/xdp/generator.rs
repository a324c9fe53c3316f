//! Traffic for the benchmark: a thread that makes packets until it is told to stop.

use std::thread;

use pagemill::source::PageSource;
use pagemill_host::Host;
use pagemill_xdp::frames::{AllocatorPool, Refill};
use pagemill_xdp::headers::Datagram;
use pagemill_xdp::testing::{LiveFrames, PacketSender, VethPair};
use pagemill_xdp::{
    Device, FramePool, Interface, InterfaceConfig, Packet, Socket, SocketConfig, XdpError,
};

use crate::interrupt::Interrupt;
use crate::plan::xdp::Traffic;

/// Something that makes packets.
#[derive(Debug)]
pub(crate) enum Generator<S: PageSource<Platform = Host>> {
    /// The kernel.
    Live(LiveFrames),
    /// A packet socket.
    Packet(PacketSender),
    /// An AF_XDP socket.
    Xsk(Box<(Socket<pagemill::Page<S>>, AllocatorPool<S>)>),
}

impl<S: PageSource<Platform = Host>> Generator<S> {
    /// Prepares traffic out of the first end of `pair`, whose other end has a program already.
    ///
    /// # Errors
    /// What the system refuses; with [`Traffic::Auto`], only if it refuses a packet socket too.
    pub(crate) fn new(traffic: Traffic, pair: &VethPair, source: S) -> Result<Self, XdpError> {
        let live = || -> Result<Self, XdpError> {
            let frames = LiveFrames::to(pair.index(0))?;
            // A few, to see whether the kernel can.
            frames.send(&packet(64), 1)?;
            Ok(Self::Live(frames))
        };
        let packet = || PacketSender::to(pair.index(0)).map(Self::Packet);
        match traffic {
            Traffic::Auto => live().or_else(|_no_live_frames| packet()),
            Traffic::Live => live(),
            Traffic::Packet => packet(),
            Traffic::Xsk => {
                let interface = Interface::to_send(pair.name(0), InterfaceConfig::default())?;
                let config = SocketConfig { fill_size: 64, rx_size: 64, ..SocketConfig::new() };
                let socket = Socket::open(&interface, 0, source.clone(), &config)?;
                let pool = AllocatorPool::new(source, Refill::Bulk);
                Ok(Self::Xsk(Box::new((socket, pool))))
            }
        }
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Live(_) => "live frames of the kernel",
            Self::Packet(_) => "a packet socket",
            Self::Xsk(_) => "an AF_XDP socket",
        }
    }

    /// Makes packets of `len` bytes until `stop`.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn run(self, len: usize, stop: &Interrupt) -> Result<(), XdpError> {
        let bytes = packet(len);
        match self {
            Self::Live(frames) => {
                while !stop.is_asked() {
                    frames.send(&bytes, LIVE_FRAMES)?;
                }
            }
            Self::Packet(sender) => {
                let batch = vec![&bytes; 64];
                while !stop.is_asked() {
                    if sender.send(&batch)? == 0 {
                        thread::yield_now();
                    }
                }
            }
            Self::Xsk(parts) => {
                let (mut socket, mut pool) = *parts;
                let mut empty = Vec::new();
                let mut packets = Vec::new();
                while !stop.is_asked() {
                    socket.completed(&mut empty)?;
                    if empty.len() < 64 {
                        pool.allocate(&mut empty, 64);
                    }
                    while packets.len() < 64 {
                        let Some(frame) = empty.pop() else {
                            break;
                        };
                        let mut packet = Packet::new(frame);
                        packet.extend(&bytes).expect("a packet fits its frame");
                        packets.push(packet);
                    }
                    socket.send(&mut packets)?;
                    socket.flush()?;
                }
                socket.close(&mut empty)?;
                pool.recycle(&mut empty);
            }
        }
        Ok(())
    }
}

/// Returns a packet of `len` bytes, headers included.
fn packet(len: usize) -> Vec<u8> {
    let payload = vec![0x5a; len.saturating_sub(pagemill_xdp::headers::DATAGRAM_HEADERS_LEN)];
    Datagram::example().packet(&payload)
}

/// Packets in one call to the kernel: each call takes some 30 ms at its end, whatever it sends.
const LIVE_FRAMES: u32 = 1 << 19;
