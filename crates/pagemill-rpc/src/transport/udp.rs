//! UDP transport: one call per datagram, and the reply from the address that the call was sent to.

use core::net::{Ipv6Addr, SocketAddr};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use pagemill::units::PAGE_SIZE;
use rustix::io::retry_on_intr;

use crate::rqst::pages::Frames;
use crate::rqst::reply::{Body, Reply};
use crate::rqst::rqst::Rqst;
use crate::wire::record::MARK_BYTES;

/// Maximum number of bytes in a datagram over IPv4.
pub(crate) const MAX_DATAGRAM_BYTES: usize = 65_507;

/// The source of a datagram, and the address that it was sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The source address.
    pub(crate) addr: SocketAddr,
    asked: Asked,
}

/// The address of this host that a datagram was sent to, as the system reports it.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Unknown,
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

/// Makes the system report the address that each datagram was sent to.
pub(crate) fn ask_for_addresses(socket: &UdpSocket, local: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() {
        setsockopt(socket, Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// Receives a datagram into the request's pages; `None` if there is none, or if it is truncated.
pub(crate) fn receive<S: Frames>(
    socket: &UdpSocket,
    rqst: &mut Rqst<S>,
) -> io::Result<Option<Origin>> {
    let max = rqst.max_call_bytes().min(MAX_DATAGRAM_BYTES.next_multiple_of(PAGE_SIZE));
    let mut room: Vec<_> = rqst.arg_pages().slices_mut(0, max).map(IoSliceMut::new).collect();
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let flags = MsgFlags::MSG_DONTWAIT;
    let (len, origin) = {
        let message = match recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut room,
            Some(&mut control),
            flags,
        ) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Ok(None);
        }
        let asked = message.cmsgs().into_iter().flatten().find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(asked_v4(info)),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(asked_v6(info)),
            _ => None,
        });
        let addr = message.address.as_ref().and_then(addr_of);
        (message.bytes, addr.map(|addr| Origin { addr, asked: asked.unwrap_or(Asked::Unknown) }))
    };
    drop(room);
    rqst.set_args_len(len);
    Ok(origin)
}

/// Returns the source address for a reply: `ipi_spec_dst`, which is an address of this host even if the
/// call was a broadcast. The routing table selects the interface.
fn asked_v4(info: in_pktinfo) -> Asked {
    Asked::V4(in_pktinfo { ipi_ifindex: 0, ..info })
}

/// Returns the source address for a reply: never a multicast address. Selects the same interface only
/// if the address is meaningless without it.
fn asked_v6(info: in6_pktinfo) -> Asked {
    let addr = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    if addr.is_multicast() {
        Asked::Unknown
    } else if addr.is_unicast_link_local() {
        Asked::V6(info)
    } else {
        Asked::V6(in6_pktinfo { ipi6_ifindex: 0, ..info })
    }
}

fn addr_of(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|&addr| addr.into());
    v4.or_else(|| addr.as_sockaddr_in6().map(|&addr| addr.into()))
}

/// Sends a reply from the address that the call was sent to. If the socket has no room, the reply is
/// lost, as any datagram may be.
pub(crate) fn send<S: Frames>(
    socket: &UdpSocket,
    to: &Origin,
    reply: &Reply<S>,
) -> io::Result<usize> {
    let pages = reply.pages();
    let mut pieces: Vec<_> = pages.slices(MARK_BYTES, reply.head_len()).map(IoSlice::new).collect();
    let file;
    match reply.body() {
        Body::None => {}
        Body::Pages { first, len } => {
            let start = first * PAGE_SIZE;
            pieces.extend(pages.slices(start, start + len).map(IoSlice::new));
        }
        Body::File(range) => {
            // Bytes that the file lacks stay zero: the head has announced the length.
            let mut bytes = vec![0; range.len];
            let mut at = 0;
            while at < bytes.len() {
                let nr = retry_on_intr(|| {
                    rustix::io::pread(&*range.file, &mut bytes[at..], range.offset + at as u64)
                })?;
                if nr == 0 {
                    break;
                }
                at += nr;
            }
            file = bytes;
            pieces.push(IoSlice::new(&file));
        }
    }
    pieces.push(IoSlice::new(reply.tail()));
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let from = match &to.asked {
        Asked::Unknown => None,
        Asked::V4(info) => Some(ControlMessage::Ipv4PacketInfo(info)),
        Asked::V6(info) => Some(ControlMessage::Ipv6PacketInfo(info)),
    };
    let addr = SockaddrStorage::from(to.addr);
    match sendmsg(socket.as_raw_fd(), &pieces, from.as_slice(), flags, Some(&addr)) {
        Ok(sent) => Ok(sent),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
