//! AF_XDP socket with its four rings: system calls, addresses on and off the rings, wake-ups.
//!
//! Does not know which frame an address belongs to, or who owns the frame.

use core::ptr::NonNull;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::mapping::{Offsets, RingMemory};
use crate::operation::Operation;
use crate::ring::descriptor::RawDescriptor;
use crate::ring::ring::{Broken, Consumer, Producer};
use crate::sync::Ordering;
use crate::sys::syscall::{self, AnyBits};

// SAFETY: 1. it consists of integers.
unsafe impl AnyBits for OffsetTable {}

/// `struct xdp_mmap_offsets`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct OffsetTable {
    rx: [u64; 4],
    tx: [u64; 4],
    fill: [u64; 4],
    completion: [u64; 4],
}

// SAFETY: 1. it consists of integers.
unsafe impl AnyBits for Statistics {}

/// The kernel's counters of one socket.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/if_xdp.h` `struct xdp_statistics`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Statistics {
    pub(crate) rx_dropped: u64,
    pub(crate) rx_invalid_descs: u64,
    pub(crate) tx_invalid_descs: u64,
    pub(crate) rx_ring_full: u64,
    pub(crate) rx_fill_ring_empty_descs: u64,
    pub(crate) tx_ring_empty_descs: u64,
}

/// Number of entries of each ring; powers of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingSizes {
    pub(crate) fill: u32,
    pub(crate) completion: u32,
    pub(crate) rx: u32,
    pub(crate) tx: u32,
}

/// The memory of a socket's addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) base: NonNull<u8>,
    pub(crate) len_bytes: usize,
    /// Size of a frame in bytes, and the alignment of its address.
    pub(crate) chunk_bytes: u32,
    /// Additional headroom of packets in bytes, after the kernel's own 256.
    pub(crate) headroom: u32,
}

/// A socket and its rings.
///
/// Upholds `ring-slots`: a slot is read or written only while `Producer` or `Consumer` states that
/// it belongs to this side.
#[derive(Debug)]
pub(crate) struct XskRings {
    fill: RingMemory,
    fill_side: Producer,
    completion: RingMemory,
    completion_side: Consumer,
    rx: RingMemory,
    rx_side: Consumer,
    tx: RingMemory,
    tx_side: Producer,
    /// After the rings, so that it is dropped last: a mapped ring keeps the socket open, and closing
    /// the descriptor would then not close the socket.
    fd: OwnedFd,
}

impl XskRings {
    /// Opens a socket, registers `region` for it and maps its rings; it is not bound yet.
    ///
    /// # Errors
    /// The step that failed, and the error of the system.
    pub(crate) fn open(region: &Region, sizes: &RingSizes) -> Result<Self, (Operation, io::Error)> {
        let socket = syscall::socket(libc::AF_XDP, libc::SOCK_RAW, 0)
            .map_err(|error| (Operation::OpenSocket, error))?;
        let registration = libc::xdp_umem_reg {
            addr: region.base.expose_provenance().get() as u64,
            len: region.len_bytes as u64,
            chunk_size: region.chunk_bytes,
            headroom: region.headroom,
            flags: 0,
            tx_metadata_len: 0,
        };
        let set =
            |name, value: &u32| syscall::set_option(socket.as_fd(), libc::SOL_XDP, name, value);
        syscall::set_option(socket.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
            .map_err(|error| (Operation::RegisterArena, error))?;
        set(libc::XDP_UMEM_FILL_RING, &sizes.fill)
            .and_then(|()| set(libc::XDP_UMEM_COMPLETION_RING, &sizes.completion))
            .and_then(|()| set(libc::XDP_RX_RING, &sizes.rx))
            .and_then(|()| set(libc::XDP_TX_RING, &sizes.tx))
            .map_err(|error| (Operation::MakeRings, error))?;
        Self::map_rings(socket, sizes).map_err(|error| (Operation::MapRings, error))
    }

    fn map_rings(socket: OwnedFd, sizes: &RingSizes) -> io::Result<Self> {
        let (table, len) =
            syscall::option::<OffsetTable>(socket.as_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        if len != size_of::<OffsetTable>() {
            // A kernel before 5.4, which has no flag for wake-ups.
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let fill_at = libc::XDP_UMEM_PGOFF_FILL_RING.cast_signed();
        let completion_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING.cast_signed();
        let fd = socket.as_fd();
        let fill = RingMemory::map::<u64>(fd, fill_at, offsets(table.fill), sizes.fill)?;
        let completion =
            RingMemory::map::<u64>(fd, completion_at, offsets(table.completion), sizes.completion)?;
        let rx = RingMemory::map::<RawDescriptor>(
            fd,
            libc::XDP_PGOFF_RX_RING,
            offsets(table.rx),
            sizes.rx,
        )?;
        let tx = RingMemory::map::<RawDescriptor>(
            fd,
            libc::XDP_PGOFF_TX_RING,
            offsets(table.tx),
            sizes.tx,
        )?;
        Ok(Self {
            fill,
            fill_side: Producer::new(sizes.fill, 0),
            completion,
            completion_side: Consumer::new(sizes.completion, 0),
            rx,
            rx_side: Consumer::new(sizes.rx, 0),
            tx,
            tx_side: Producer::new(sizes.tx, 0),
            fd: socket,
        })
    }

    /// Binds the socket to a queue; `flags` are those of `sockaddr_xdp`.
    ///
    /// # Errors
    /// `EBUSY` while another socket uses the queue, or did until a moment ago.
    pub(crate) fn bind(&self, interface: u32, queue: u32, flags: u16) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).expect("a family is small"),
            sxdp_flags: flags,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        syscall::bind(self.fd.as_fd(), &address)
    }

    /// Returns whether the device reads and writes the frames itself (zero-copy).
    pub(crate) fn is_zero_copy(&self) -> io::Result<bool> {
        let option = syscall::option::<i32>(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_OPTIONS);
        let zero_copy = i32::try_from(libc::XDP_OPTIONS_ZEROCOPY).expect("a bit");
        option.map(|(options, _)| options & zero_copy != 0)
    }

    /// Returns the kernel's counters.
    pub(crate) fn statistics(&self) -> io::Result<Statistics> {
        let option =
            syscall::option::<Statistics>(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS);
        option.map(|(statistics, _)| statistics)
    }

    /// Returns how many addresses can be put on the fill ring, at most `wanted`.
    #[inline]
    pub(crate) fn fill_room(&mut self, wanted: u32) -> Result<u32, Broken> {
        self.fill_side.room(self.fill.consumer(), wanted)
    }

    /// Puts `nr` addresses on the fill ring.
    ///
    /// # Safety
    /// 1. `next` returns addresses of frames in the region that nothing in the process reads or
    ///    writes until the kernel returns them or has released the queue of the closed socket.
    /// 2. `nr` is at most what the last [`fill_room`](Self::fill_room) returned.
    #[inline]
    pub(crate) unsafe fn fill(&mut self, nr: u32, mut next: impl FnMut() -> u64) {
        let first = self.fill_side.next();
        for offset in 0..nr {
            let (slot, address) = (first.wrapping_add(offset), next());
            // SAFETY:
            // 1. The fill ring was mapped with `u64`.
            // 2. The slot is within the room of the ring (`ring-slots`): guaranteed by the caller.
            unsafe { self.fill.write(slot, address) };
        }
        self.fill_side.submit(self.fill.producer(), nr);
    }

    /// Takes up to `nr` descriptors of received packets off the rx ring.
    #[inline]
    pub(crate) fn received(
        &mut self,
        nr: u32,
        mut each: impl FnMut(RawDescriptor),
    ) -> Result<u32, Broken> {
        let nr = self.rx_side.available(self.rx.producer(), nr)?;
        let first = self.rx_side.next();
        for offset in 0..nr {
            // SAFETY:
            // 1. The ring was mapped with `RawDescriptor`, for which any bytes are a valid value.
            // 2. The consumer reported the slot as available (`ring-slots`).
            each(unsafe { self.rx.read(first.wrapping_add(offset)) });
        }
        if nr > 0 {
            self.rx_side.release(self.rx.consumer(), nr);
        }
        Ok(nr)
    }

    /// Returns how many descriptors can be put on the tx ring, at most `wanted`.
    #[inline]
    pub(crate) fn send_room(&mut self, wanted: u32) -> Result<u32, Broken> {
        self.tx_side.room(self.tx.consumer(), wanted)
    }

    /// Puts `nr` descriptors on the tx ring.
    ///
    /// # Safety
    /// 1. `next` returns descriptors of frames in the region that nothing in the process writes to
    ///    until the kernel returns them or has released the queue of the closed socket.
    /// 2. `nr` is at most what the last [`send_room`](Self::send_room) returned.
    #[inline]
    pub(crate) unsafe fn send(&mut self, nr: u32, mut next: impl FnMut() -> RawDescriptor) {
        let first = self.tx_side.next();
        for offset in 0..nr {
            let (slot, descriptor) = (first.wrapping_add(offset), next());
            // SAFETY:
            // 1. The ring was mapped with `RawDescriptor`.
            // 2. The slot is within the room of the ring (`ring-slots`): guaranteed by the caller.
            unsafe { self.tx.write(slot, descriptor) };
        }
        self.tx_side.submit(self.tx.producer(), nr);
    }

    /// Takes up to `nr` addresses of sent frames off the completion ring.
    #[inline]
    pub(crate) fn completed(&mut self, nr: u32, mut each: impl FnMut(u64)) -> Result<u32, Broken> {
        let nr = self.completion_side.available(self.completion.producer(), nr)?;
        let first = self.completion_side.next();
        for offset in 0..nr {
            // SAFETY:
            // 1. The ring was mapped with `u64`.
            // 2. The consumer reported the slot as available (`ring-slots`).
            each(unsafe { self.completion.read(first.wrapping_add(offset)) });
        }
        if nr > 0 {
            self.completion_side.release(self.completion.consumer(), nr);
        }
        Ok(nr)
    }

    /// Returns whether the kernel requests a wake-up before it sends.
    #[inline]
    pub(crate) fn wants_send_wakeup(&self) -> bool {
        wants_wakeup(&self.tx)
    }

    /// Returns whether the kernel requests a wake-up before it takes frames off the fill ring.
    #[inline]
    pub(crate) fn wants_fill_wakeup(&self) -> bool {
        wants_wakeup(&self.fill)
    }

    /// Wakes the kernel up to process the tx ring.
    ///
    /// # Errors
    /// `EAGAIN`, `EBUSY` and `ENOBUFS` if it cannot process the whole ring now; `ENETDOWN`.
    pub(crate) fn wake_send(&self) -> io::Result<()> {
        syscall::send(self.fd.as_fd(), &[], libc::MSG_DONTWAIT).map(drop)
    }

    /// Wakes the kernel up to process the fill ring.
    ///
    /// # Errors
    /// The errors of [`wake_send`](Self::wake_send).
    pub(crate) fn wake_fill(&self) -> io::Result<()> {
        syscall::receive(self.fd.as_fd(), &mut [], libc::MSG_DONTWAIT).map(drop)
    }

    /// Waits for a packet, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        syscall::wait(self.fd.as_fd(), libc::POLLIN, timeout)
    }

    /// Returns, once, whether the interface was removed while the socket was bound.
    ///
    /// # Source
    /// `linux-6.12` `net/xdp/xsk.c` `xsk_notifier`
    pub(crate) fn is_unbound(&self) -> bool {
        let error = syscall::option::<i32>(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR);
        error.is_ok_and(|(error, _)| error == libc::ENETDOWN)
    }

    /// Returns the descriptor, for BPF maps.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A second socket that finds out whether a queue is free again after the first was closed.
///
/// The kernel and a zero-copy device may access frames for some time after the descriptor was closed;
/// they have stopped when another socket can be bound to the queue. The probe is opened together with
/// the first socket. So it belongs to the network namespace in which that socket was bound, whichever
/// namespace the closing thread is in, and closing requires no capability, descriptor or memory.
#[derive(Debug)]
pub(crate) struct QueueProbe {
    socket: XskRings,
}

impl QueueProbe {
    /// Opens a socket with the smallest rings over memory that no other code uses.
    ///
    /// # Errors
    /// The errors of [`XskRings::open`].
    pub(crate) fn open() -> Result<Self, (Operation, io::Error)> {
        // The kernel pins the page when it is registered; the mapping is not needed afterwards.
        let page = ScratchPage::map().map_err(|error| (Operation::RegisterArena, error))?;
        let region =
            Region { base: page.0, len_bytes: ScratchPage::LEN, chunk_bytes: 4096, headroom: 0 };
        let sizes = RingSizes { fill: 1, completion: 1, rx: 1, tx: 1 };
        Ok(Self { socket: XskRings::open(&region, &sizes)? })
    }

    /// Returns whether no socket uses the queue. Afterwards the probe itself has it, until dropped.
    ///
    /// # Errors
    /// The error of the system, if it says nothing about the queue.
    pub(crate) fn try_bind(&self, interface: u32, queue: u32) -> io::Result<bool> {
        is_released(self.socket.bind(interface, queue, libc::XDP_COPY))
    }
}

/// Returns what the result of binding a probe says about its queue: whether it is released.
///
/// Only success means that it is free. `ENODEV` means that the interface has left the namespace of the
/// probe, in which the first socket was bound: the kernel had stopped the device and unbound all its
/// sockets before it released the lock under which the probe looks for the interface.
///
/// # Source
/// `linux-6.12` `net/xdp/xsk.c` `xsk_bind`, `xsk_notifier`; `net/core/dev.c`
/// `unregister_netdevice_many_notify`, `__dev_change_net_namespace`
fn is_released(bound: io::Result<()>) -> io::Result<bool> {
    match bound.as_ref().map_err(io::Error::raw_os_error) {
        Ok(()) | Err(Some(libc::ENODEV)) => Ok(true),
        Err(Some(libc::EBUSY)) => Ok(false),
        Err(_) => bound.map(|()| true),
    }
}

/// A page whose bytes the kernel may change, because no other code uses it.
struct ScratchPage(NonNull<u8>);

impl ScratchPage {
    const LEN: usize = 4096;

    fn map() -> io::Result<Self> {
        let (prot, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY:
        // 1. Without MAP_FIXED the kernel chooses unused addresses.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), Self::LEN, prot, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(NonNull::new(base.cast()).expect("the kernel maps nothing at address zero")))
    }
}

impl Drop for ScratchPage {
    fn drop(&mut self) {
        // SAFETY:
        // 1. `self` owns the page, and there is no reference into it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::LEN) };
    }
}

#[inline]
fn wants_wakeup(ring: &RingMemory) -> bool {
    // Relaxed: a hint; a thread that misses it now sees it in the next round.
    ring.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
}

/// Returns the offsets of one ring, in the order of `struct xdp_ring_offset`.
fn offsets([producer, consumer, entries, flags]: [u64; 4]) -> Offsets {
    let offset = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    Offsets {
        producer: offset(producer),
        consumer: offset(consumer),
        entries: offset(entries),
        flags: offset(flags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bound_probe_or_a_removed_interface_means_that_a_queue_is_released() {
        let refused = |errno| is_released(Err(io::Error::from_raw_os_error(errno)));
        assert!(is_released(Ok(())).unwrap());
        assert!(refused(libc::ENODEV).unwrap());
        assert!(!refused(libc::EBUSY).unwrap());
        for errno in [libc::EPERM, libc::EINVAL, libc::ENOMEM, libc::ENETDOWN, libc::ENXIO] {
            assert_eq!(refused(errno).unwrap_err().raw_os_error(), Some(errno));
        }
    }
}
