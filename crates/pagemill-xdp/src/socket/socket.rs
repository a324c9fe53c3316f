//! AF_XDP socket as a `Device`: opens one queue of an interface, moves packets, and wakes the kernel
//! up.

use core::mem::ManuallyDrop;
use core::time::Duration;
use std::io;
use std::thread;
use std::time::Instant;

use pagemill::source::PageSource;
use pagemill_host::arena::ArenaPin;

use crate::capability::{self, Capabilities};
use crate::device::device::{Device, DeviceCounters};
use crate::error::{XdpError, os_error};
use crate::operation::Operation;
use crate::packet::frame::Frame;
use crate::packet::packet::{DEFAULT_HEADROOM, PAGE_BYTES, Packet, mtu_max};
use crate::ring::ring::Broken;
use crate::ring::tx::NR_FRAMES_MAX;
use crate::socket::interface::{Interface, Notice};
use crate::xsk::queue::Queue;
use crate::xsk::rings::{QueueProbe, Region, RingSizes};

/// Whether the device or the kernel moves the bytes to and from our frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two, and the choice between them")]
pub enum CopyMode {
    /// The device if it supports that, else the kernel.
    #[default]
    Auto,
    /// The kernel.
    Copy,
    /// The device; an error if it does not support that.
    ZeroCopy,
}

/// The configuration of a socket; start from [`SocketConfig::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct SocketConfig {
    /// Entries of the fill ring (empty frames); a power of two.
    pub fill_size: u32,
    /// Entries of the rx ring (received packets); a power of two.
    pub rx_size: u32,
    /// Entries of the tx ring (packets to send); a power of two.
    pub tx_size: u32,
    /// Entries of the completion ring (sent frames); a power of two.
    pub completion_size: u32,
    /// Headroom of a received packet in bytes, in addition to the 256 that the kernel leaves.
    pub headroom: u16,
    /// Whether packets are copied.
    pub copy: CopyMode,
    /// Whether the kernel requests wake-ups when it needs them, instead of being woken each time.
    pub need_wakeup: bool,
    /// How long to wait for a queue whose socket was just closed: the kernel takes tens of milliseconds
    /// to release it.
    pub patience: Duration,
}

impl SocketConfig {
    /// Configures rings of 2048 entries, and the best available modes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            fill_size: 2048,
            rx_size: 2048,
            tx_size: 2048,
            completion_size: 2048,
            headroom: 0,
            copy: CopyMode::Auto,
            need_wakeup: true,
            patience: Duration::from_secs(3),
        }
    }

    fn ring_sizes(&self, nr_frames: usize) -> Result<RingSizes, XdpError> {
        let sizes = RingSizes {
            fill: self.fill_size,
            completion: self.completion_size,
            rx: self.rx_size,
            tx: self.tx_size,
        };
        for (ring, size) in [
            ("fill", sizes.fill),
            ("completion", sizes.completion),
            ("rx", sizes.rx),
            ("tx", sizes.tx),
        ] {
            if !size.is_power_of_two() || size > RING_SIZE_MAX {
                return Err(XdpError::RingSize { ring, size, size_max: RING_SIZE_MAX });
            }
        }
        // Frames stay on these rings for a long time; the other rings carry the same frames.
        let nr_needed = sizes.fill as usize + sizes.tx as usize;
        if nr_frames < nr_needed {
            return Err(XdpError::ArenaTooSmall { nr_frames, nr_needed });
        }
        Ok(sizes)
    }

    fn mtu_max(&self) -> Result<u32, XdpError> {
        let headroom_max = PAGE_BYTES - DEFAULT_HEADROOM - LEN_MIN;
        if self.headroom > headroom_max {
            return Err(XdpError::Headroom { headroom: self.headroom, headroom_max });
        }
        Ok(mtu_max(self.headroom))
    }
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// An AF_XDP socket over the arena that its frames come from.
///
/// Each socket registers the arena separately, so that sockets on any queues of any interfaces can pass
/// frames to each other, and be opened and closed in any order.
#[derive(Debug)]
pub struct Socket<F: Frame> {
    queue: Queue<F>,
    /// `None` once the socket is closed.
    probe: Option<QueueProbe>,
    counters: DeviceCounters,
    notice: Option<Notice>,
    need_wakeup: bool,
    zero_copy: bool,
    number: u32,
    interface: Interface,
    is_closed: bool,
    is_gone: bool,
    /// Keeps the memory of the arena where it is while the kernel has it registered; leaked with the frames.
    pin: Option<ArenaPin>,
    /// Keeps the arena alive.
    _source: F::Source,
}

impl<F: Frame> Socket<F> {
    /// Opens queue `number` of `interface`, with frames of the arena of `source`.
    ///
    /// # Errors
    /// An invalid configuration ([`XdpError::RingSize`], [`XdpError::Headroom`],
    /// [`XdpError::ArenaTooSmall`], [`XdpError::Mtu`], [`XdpError::NoQueue`]), a mode that the device
    /// does not support ([`XdpError::NoZeroCopy`]), [`XdpError::QueueBusy`], and other errors of the
    /// system.
    ///
    /// # Cost
    /// The kernel allocates and pins every page of the arena: approximately one second per GiB that was
    /// not accessed before. A registered arena must not change until the socket is closed: pages that
    /// were returned to the system would be replaced by others on the next access, and packets would be
    /// written to the old ones.
    pub fn open(
        interface: &Interface,
        number: u32,
        source: F::Source,
        config: &SocketConfig,
    ) -> Result<Self, XdpError> {
        let name = interface.name();
        if let Some(nr_queues) = interface.nr_queues().filter(|&nr| number >= nr) {
            return Err(XdpError::NoQueue { name, queue: number, nr_queues });
        }
        let memory = source.allocator().platform().memory();
        let sizes = config.ring_sizes(memory.nr_pages())?;
        interface.fits(config.mtu_max()?)?;
        // Before the registration (`arena-resident`).
        let pin = Some(memory.pin());
        let region = Region {
            base: memory.base(),
            len_bytes: memory.len_bytes(),
            chunk_bytes: PAGE_BYTES.into(),
            headroom: config.headroom.into(),
        };
        let nr_frames_max = if interface.config().multi_buffer { NR_FRAMES_MAX } else { 1 };
        let queue = Queue::open(&region, sizes, nr_frames_max)
            .map_err(|(operation, error)| refused(region.len_bytes, operation, &error))?;
        let probe = QueueProbe::open()
            .map_err(|(operation, error)| refused(region.len_bytes, operation, &error))?;
        bind(&queue, interface, number, config)?;
        let zero_copy = queue
            .is_zero_copy()
            .map_err(|error| XdpError::system(Operation::AskCopies, &error).on(name))?;
        interface
            .route(number, queue.fd())
            .map_err(|error| XdpError::system(Operation::Route, &error).on(name))?;
        let copies = config.copy == CopyMode::Auto && !zero_copy;
        Ok(Self {
            queue,
            probe: Some(probe),
            counters: DeviceCounters::default(),
            notice: copies.then_some(Notice::Copies { name, queue: number }),
            need_wakeup: config.need_wakeup,
            zero_copy,
            number,
            interface: interface.clone(),
            is_closed: false,
            is_gone: false,
            pin,
            _source: source,
        })
    }

    /// Returns whether the device uses our frames directly (zero-copy).
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Returns a notice about a limitation, if there is one.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        self.notice
    }

    /// Leaks all frames that the kernel may use, and the pin of the arena; returns the number of frames.
    fn abandon(&mut self) -> usize {
        let _for_ever = ManuallyDrop::new(self.pin.take());
        self.queue.abandon()
    }

    /// Closes the socket, and waits until the kernel no longer uses its frames.
    ///
    /// Waits also if the kernel copies: a child process that another thread has just started has the
    /// socket until it calls exec, and the kernel writes to the frames until then.
    ///
    /// # Errors
    /// [`XdpError::FramesStuck`], [`XdpError::ReleaseUnknown`]; the frames are leaked then.
    fn shut(&mut self) -> Result<(), XdpError> {
        let Some(probe) = self.probe.take() else { return Ok(()) };
        if !self.zero_copy {
            self.queue.settle(SEND_PATIENCE);
        }
        // The kernel's counters are gone with the socket.
        self.counters = self.counters();
        self.is_closed = true;
        self.queue.close();
        let (name, queue) = (self.interface.name(), self.number);
        let start = Instant::now();
        loop {
            match probe.try_bind(self.interface.index(), queue) {
                Ok(true) => return Ok(()),
                Ok(false) if start.elapsed() < RELEASE_PATIENCE => thread::sleep(RETRY),
                Ok(false) => return Err(XdpError::FramesStuck { nr_frames: self.abandon() }),
                Err(error) => {
                    let (nr_frames, os) = (self.abandon(), os_error(&error));
                    return Err(XdpError::ReleaseUnknown { name, queue, nr_frames, os });
                }
            }
        }
    }
}

impl<F: Frame> Device for Socket<F> {
    type Frame = F;

    #[inline]
    fn receive(&mut self, packets: &mut Vec<Packet<F>>, nr_max: usize) -> Result<usize, XdpError> {
        let before = packets.len();
        self.queue.receive(packets, u32::try_from(nr_max).unwrap_or(u32::MAX))?;
        let nr = packets.len() - before;
        self.counters.received += nr as u64;
        Ok(nr)
    }

    #[inline]
    fn send(&mut self, packets: &mut Vec<Packet<F>>) -> Result<usize, XdpError> {
        let nr = self.queue.send(packets)?;
        self.counters.sent += nr as u64;
        Ok(nr)
    }

    #[inline]
    fn nr_wanted(&mut self) -> Result<usize, XdpError> {
        Ok(self.queue.nr_wanted()? as usize)
    }

    #[inline]
    fn supply(&mut self, frames: &mut Vec<F>) -> Result<usize, XdpError> {
        Ok(self.queue.supply(frames)? as usize)
    }

    #[inline]
    fn completed(&mut self, frames: &mut Vec<F>) -> Result<usize, XdpError> {
        let nr = self.queue.completed(frames)?;
        self.counters.completed += nr as u64;
        Ok(nr)
    }

    fn flush(&mut self) -> Result<(), XdpError> {
        if self.need_wakeup && self.queue.wants_fill_wakeup() {
            self.passes(self.queue.wake_fill())?;
        }
        if !self.queue.is_sending() {
            return Ok(());
        }
        let mut nr_unsent = self.queue.nr_unsent()?;
        // The kernel sends a few dozen packets per call, and reports if there are more.
        while nr_unsent > 0 && (!self.need_wakeup || self.queue.wants_send_wakeup()) {
            self.passes(self.queue.wake_send())?;
            let nr_left = self.queue.nr_unsent()?;
            if nr_left >= nr_unsent {
                break;
            }
            nr_unsent = nr_left;
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool, XdpError> {
        let is_ready = self
            .queue
            .wait(timeout)
            .map_err(|error| XdpError::system(Operation::Wait, &error).on(self.interface.name()))?;
        if !is_ready {
            self.is_there()?;
        }
        Ok(is_ready)
    }

    fn nr_held(&self) -> usize {
        self.queue.nr_held()
    }

    fn counters(&self) -> DeviceCounters {
        if self.is_closed {
            return self.counters;
        }
        let kernel = self.queue.statistics();
        DeviceCounters {
            no_frame: kernel.rx_fill_ring_empty_descs,
            ring_full: kernel.rx_ring_full,
            dropped: kernel
                .rx_dropped
                .saturating_sub(kernel.rx_fill_ring_empty_descs)
                .saturating_add(kernel.rx_invalid_descs)
                .saturating_add(kernel.tx_invalid_descs)
                .saturating_add(self.queue.nr_refused()),
            malformed: self.queue.nr_malformed(),
            ..self.counters
        }
    }

    fn close(mut self, frames: &mut Vec<F>) -> Result<(), XdpError> {
        self.shut()?;
        frames.extend(self.queue.drain());
        Ok(())
    }
}

impl<F: Frame> Socket<F> {
    /// Filters temporary errors; returns all others.
    fn passes(&mut self, result: io::Result<()>) -> Result<(), XdpError> {
        let Err(error) = result else {
            return Ok(());
        };
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => Ok(()),
            Some(libc::ENETDOWN | libc::ENXIO) => {
                self.counters.down += 1;
                self.is_there()
            }
            _ => Err(XdpError::system(Operation::Wake, &error).on(self.interface.name())),
        }
    }

    /// Returns an error if the interface is gone for good.
    fn is_there(&mut self) -> Result<(), XdpError> {
        // The kernel reports it only once.
        self.is_gone |= self.queue.is_unbound();
        if self.is_gone {
            return Err(XdpError::InterfaceGone { name: self.interface.name() });
        }
        Ok(())
    }
}

impl<F: Frame> Drop for Socket<F> {
    fn drop(&mut self) {
        // The frames that are stuck were left to the device; drop cannot report that.
        let _reported_by_close = self.shut();
    }
}

impl From<Broken> for XdpError {
    fn from(_: Broken) -> Self {
        Self::RingBroken
    }
}

/// Makes the error for an operation that failed while a socket was opened over `len_bytes` bytes.
fn refused(len_bytes: usize, operation: Operation, error: &io::Error) -> XdpError {
    // ENOBUFS means that the memory limit was exceeded; it has other causes if the process has no
    // limit.
    if error.raw_os_error() == Some(libc::ENOBUFS)
        && !(Capabilities::effective().has(Capabilities::IPC_LOCK)
            && capability::is_in_first_user_namespace())
        && let Some(limit_bytes) = capability::locked_memory_max()
    {
        return XdpError::LockedMemory { len_bytes, limit_bytes };
    }
    XdpError::system(operation, error)
}

fn bind<F: Frame>(
    queue: &Queue<F>,
    interface: &Interface,
    number: u32,
    config: &SocketConfig,
) -> Result<(), XdpError> {
    let name = interface.name();
    let mut flags = match config.copy {
        CopyMode::Auto => 0,
        CopyMode::Copy => libc::XDP_COPY,
        CopyMode::ZeroCopy => libc::XDP_ZEROCOPY,
    };
    if config.need_wakeup {
        flags |= libc::XDP_USE_NEED_WAKEUP;
    }
    if interface.config().multi_buffer {
        flags |= libc::XDP_USE_SG;
    }
    let start = Instant::now();
    loop {
        let Err(error) = queue.bind(interface.index(), number, flags) else {
            return Ok(());
        };
        return Err(match error.raw_os_error() {
            Some(libc::EBUSY) if start.elapsed() < config.patience => {
                thread::sleep(RETRY);
                continue;
            }
            Some(libc::EBUSY) => XdpError::QueueBusy { name, queue: number },
            Some(libc::EOPNOTSUPP) if config.copy == CopyMode::ZeroCopy => {
                XdpError::NoZeroCopy { name, queue: number, os: os_error(&error) }
            }
            Some(libc::ENETDOWN) => XdpError::InterfaceDown { name },
            _ => XdpError::system(Operation::Bind, &error).on(name),
        });
    }
}

/// Maximum number of entries of a ring, so that its frames fit into an arena that can be pinned at
/// once.
const RING_SIZE_MAX: u32 = 1 << 16;

/// Length of the smallest packet in bytes.
const LEN_MIN: u16 = 14;

/// Pause between attempts to get a queue.
const RETRY: Duration = Duration::from_millis(2);

/// How long packets in transit may take to leave when a socket is closed. Frames of packets that take
/// longer are reclaimed nevertheless; what is then sent of them is arbitrary.
const SEND_PATIENCE: Duration = Duration::from_secs(1);

/// How long kernel and device may take to release a queue. The kernel does it on a thread of its own and
/// under its network lock, which others hold for seconds on a busy machine.
const RELEASE_PATIENCE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use pagemill::{Page, PageAllocator};
    use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

    use super::*;
    use crate::name::Name;
    use crate::socket::interface::InterfaceConfig;
    use crate::testbed::veth::{VethPair, enter_private_network};

    #[test]
    #[expect(clippy::print_stderr, reason = "skipped tests are reported")]
    fn a_queue_is_free_some_time_after_its_socket_is_closed() {
        if let Err(error) = enter_private_network() {
            eprintln!("SKIPPED: {:?}: {error}", thread::current().name());
            return;
        }
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(8 << 20))).unwrap();
        let name = |text| Name::new(text).unwrap();
        let pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
        let interface = Interface::to_send(pair.name(1), InterfaceConfig::default()).unwrap();
        let config = SocketConfig { fill_size: 64, tx_size: 64, ..SocketConfig::new() };
        let open = || -> Socket<Page<&PageAllocator<Host>>> {
            Socket::open(&interface, 0, &frames, &config).unwrap()
        };
        let probe = QueueProbe::open().unwrap();
        let socket = open();
        assert!(!probe.try_bind(pair.index(1), 0).unwrap());
        // A child that has not called exec yet holds the socket in the same way.
        let child = socket.queue.fd().try_clone_to_owned().unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            let closing = scope.spawn(|| drop(socket));
            thread::sleep(Duration::from_millis(100));
            assert!(!closing.is_finished(), "closed while another process has the socket");
            drop(child);
        });
        assert!(start.elapsed() < RELEASE_PATIENCE, "the queue was never free");
        // Another thread sees other interfaces, and may close the socket nevertheless.
        let socket = open();
        thread::scope(|scope| {
            scope.spawn(|| {
                enter_private_network().unwrap();
                let elsewhere = socket.probe.as_ref().unwrap();
                assert!(!elsewhere.try_bind(pair.index(1), 0).unwrap());
                socket.close(&mut Vec::new()).unwrap();
            });
        });
    }
}
