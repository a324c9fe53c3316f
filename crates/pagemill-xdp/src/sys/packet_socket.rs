//! Packet sockets (`AF_PACKET`): send raw packets through the network stack.

use core::mem::MaybeUninit;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::syscall;

/// A socket on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket that sends on the interface with number `index`, and receives nothing.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`.
    pub(crate) fn sender(index: u32) -> io::Result<Self> {
        Self::open(index, 0)
    }

    fn open(index: u32, protocol: u16) -> io::Result<Self> {
        let fd = syscall::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).expect("a family is small"),
            sll_protocol: protocol.to_be(),
            sll_ifindex: i32::try_from(index).expect("an index is positive"),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        syscall::bind(fd.as_fd(), &address)?;
        Ok(Self { fd })
    }

    /// Sends `packets` from the first on, and returns how many the kernel took.
    ///
    /// # Errors
    /// The error of the system for the first packet: `ENOBUFS` and `EAGAIN` if a queue is full,
    /// `ENETDOWN`.
    pub(crate) fn send<T: AsRef<[u8]>>(&self, packets: &[T]) -> io::Result<usize> {
        let nr = packets.len().min(BATCH);
        let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH];
        for ((piece, message), packet) in pieces.iter_mut().zip(&mut messages).zip(packets) {
            let bytes = packet.as_ref();
            let piece = piece.write(libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
            // SAFETY: 1. Initialised: zeroes are a valid `mmsghdr`, which consists of integers and
            // raw pointers.
            let message = unsafe { message.assume_init_mut() };
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY:
        // 1. The first `nr` messages are initialised, and so is the one piece of each.
        // 2. The pieces and the bytes that they point to are borrowed for the call, which only
        //    reads them.
        let sent = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                u32::try_from(nr).expect("a batch is small"),
                libc::MSG_DONTWAIT,
            )
        };
        Ok(usize::try_from(syscall::answer(sent)?).unwrap_or(0))
    }
}

/// Maximum number of packets per call.
const BATCH: usize = 64;
