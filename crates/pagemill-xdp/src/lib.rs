//! Packets in pages: AF_XDP over pagemill's arenas, and devices that behave like it.
#![doc = include_str!("../README.md")]
//!
//! # Structure
//! The memory that a kernel's AF_XDP sockets read and write (the UMEM) is the arena of a page
//! allocator, and each frame is one of its pages. So the rings are filled from the allocator in bulk,
//! and a received packet is an owned page. A [`Packet`] may be kept, changed in place with room on both
//! sides, sent to another thread, or sent out of any device of the same arena, which takes it over.
//! Dropping it frees its pages. It cannot be sent twice, lost, or accessed while the kernel has it.
//!
//! An [`Interface`] is an interface with our program on it, a [`Socket`] one of its queues. A socket is
//! one kind of [`Device`]: [`Loopback`] needs no privileges and no network, [`Fault`] loses, delays and
//! reorders the packets of another device. A [`Worker`] moves packets from a device into a [`Sink`]:
//! out of another device ([`Forward`]), to another thread ([`handover`]), or nowhere ([`Discard`]); its
//! frames come from a [`FramePool`]. [`parse`] checks headers.
//!
//! # A real interface
//! With frames from a page pool:
//! ```no_run
//! use core::time::Duration;
//!
//! use pagemill_host::HostAllocator;
//! use pagemill_pool::dma::NoDma;
//! use pagemill_pool::{PagePool, PoolOwner, PoolParams};
//! use pagemill_xdp::sinks::Discard;
//! use pagemill_xdp::{Interface, InterfaceConfig, Socket, SocketConfig, Worker};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let frames = HostAllocator::new(64 << 20)?;
//! let pool = PagePool::new(&PoolParams::new(), &frames, NoDma)?;
//! let owner = PoolOwner::claim(&pool).expect("a new pool has no owner"); // the FramePool
//! let interface = Interface::attach("eth0".parse()?, InterfaceConfig::default())?;
//! let socket = Socket::open(&interface, 0, &frames, &SocketConfig::new())?; // queue 0
//! let mut worker = Worker::new(socket, owner, Discard)?;
//! while worker.counters().received < 1_000_000 {
//!     if worker.step()? == 0 {
//!         worker.wait(Duration::from_millis(100))?;
//!     }
//! }
//! let (owner, closed) = worker.close();
//! closed?;
//! owner.shutdown().wait(|_still_out| false)?; // an error if packets are kept
//! # Ok(())
//! # }
//! ```
//!
//! # Capabilities
//! `CAP_NET_RAW` to open a socket, `CAP_BPF` and `CAP_NET_ADMIN` for the program, in the first user
//! namespace. The error names missing ones ([`XdpError::Capability`]). The arena counts as locked
//! memory, once for each socket: if the limit (`ulimit -l`) is lower, `CAP_IPC_LOCK` is needed too
//! ([`XdpError::LockedMemory`]).
//!
//! # The arena is pinned
//! Registering an arena makes the kernel keep every page of it until the last socket is closed. Until
//! then no page of it may be returned to the system; each socket has an
//! [`ArenaPin`](pagemill_host::arena::ArenaPin), which excludes that (`arena-resident`). Each socket registers the arena separately: the kernel's way to share one
//! registration ties all sockets to the modes and the lifetime of the first.
//!
//! # Child processes
//! Rings are kept out of children, and the descriptor of a socket is closed on exec. Between fork and
//! exec, however, a child has the socket, and the kernel uses its frames. So closing a socket also waits
//! until no process has it, and the kernel has released its queue. A child that never calls exec must
//! close the descriptors that it inherited: otherwise closing fails after a minute with
//! [`XdpError::FramesStuck`], and the frames are leaked.
//!
//! # Invariants
//! SAFETY comments cite these invariants by name; all unsafe code is in `sys` and `xsk`.
//!
//! - `frame-in-flight` (`ring/in_flight.rs`): a frame that was put in is neither read nor written
//!   through this crate until it is taken out.
//! - `in-flight-first` (`xsk/queue.rs`): an address is put on a ring only after its frame was put
//!   into the table of frames in flight. The frame is taken out when the ring returns it, or after
//!   the kernel has released the queue of the closed socket.
//! - `ring-slots` (`xsk/rings.rs`): a slot of a ring is read or written only while it belongs to
//!   this side by the ring's protocol.
//! - `ring-mapped` (`xsk/mapping.rs`): while the memory of a ring lives, it is mapped.
//!
//! [`Discard`]: sinks::Discard
//! [`Fault`]: devices::Fault
//! [`Forward`]: sinks::Forward
//! [`Loopback`]: devices::Loopback
//! [`handover`]: sinks::handover
//! [`parse`]: headers::parse
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

extern crate alloc;

mod capability;
mod device;
mod error;
mod name;
mod operation;
mod packet;
mod ring;
mod socket;
mod sync;
mod sys;
mod testbed;
mod worker;
mod xsk;

/// Attaching to an interface: its name, the modes, the capabilities of the process, and the operations
/// that the system may refuse.
pub mod attach {
    pub use crate::capability::Capabilities;
    pub use crate::name::{InvalidName, Name};
    pub use crate::operation::Operation;
    pub use crate::socket::interface::{AttachMode, Notice};
    pub use crate::socket::socket::CopyMode;
}

/// Devices for tests, which need no hardware and no rights, and the counters of every [`Device`].
pub mod devices {
    pub use crate::device::device::DeviceCounters;
    pub use crate::device::fault::{Fault, FaultConfig};
    pub use crate::device::loopback::Loopback;
}

/// The frames of a [`Packet`], and a [`FramePool`] that takes them from the page allocator.
pub mod frames {
    pub use crate::packet::frame::Frame;
    pub use crate::packet::packet::{DEFAULT_HEADROOM, NoRoom};
    pub use crate::worker::frame_pool::{AllocatorPool, Refill};
}

/// Packet headers: a parser, and a builder of UDP datagrams.
pub mod headers {
    pub use crate::packet::datagram::{DATAGRAM_HEADERS_LEN, Datagram};
    pub use crate::packet::headers::{
        Headers, Malformed, MalformedCounters, NR_VLAN_TAGS_MAX, Network, Transport, parse,
    };
}

/// Sinks: a [`Worker`] passes its packets to another device, to another thread, or drops them.
pub mod sinks {
    pub use crate::worker::sink::{Discard, Forward, Handover, Inbox, NoBatch, handover};
}

/// A private network with virtual interfaces, and traffic, for tests and benchmarks.
pub mod testing {
    pub use crate::testbed::traffic::{LiveFrames, PacketSender, ThreadClock};
    pub use crate::testbed::veth::{VethPair, enter_private_network};
}

/// Counters of a [`Worker`], the packets that it takes in one step, and how long it polls.
pub mod workers {
    pub use crate::worker::spin::SpinBudget;
    pub use crate::worker::worker::{BUDGET, WorkerCounters};
}

pub use device::device::Device;
pub use error::XdpError;
pub use packet::packet::Packet;
pub use socket::interface::{Interface, InterfaceConfig};
pub use socket::socket::{Socket, SocketConfig};
pub use worker::frame_pool::FramePool;
pub use worker::sink::Sink;
pub use worker::worker::Worker;
