//! rtnetlink: reads interfaces, and creates, configures and removes virtual pairs.
//!
//! # Source
//! `linux-6.12` `include/uapi/linux/rtnetlink.h`, `include/uapi/linux/if_link.h`,
//! `include/uapi/linux/net_namespace.h`

use core::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::syscall;
use crate::name::Name;

/// Properties of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) index: u32,
    pub(crate) is_up: bool,
    /// Whether packets pass: both ends are up, and the network stack has noticed.
    pub(crate) is_running: bool,
    /// Maximum number of receive queues.
    pub(crate) nr_rx_queues: Option<u32>,
    /// Maximum length of a packet in bytes, without the Ethernet header.
    pub(crate) mtu: u32,
    /// The hardware address.
    pub(crate) address: [u8; 6],
    /// The number of the XDP program that is attached, or zero.
    pub(crate) program: u32,
    /// Whether it is one end of a virtual pair.
    pub(crate) is_veth: bool,
    /// The number of the other end, in its own namespace.
    pub(crate) peer_index: Option<u32>,
    /// The namespace of the other end; `None` if both are in the same.
    pub(crate) peer_namespace: Option<u32>,
}

/// Returns the properties of the interface called `name`.
///
/// # Errors
/// `ENODEV` if there is none.
pub(crate) fn link(name: &Name) -> io::Result<LinkInfo> {
    let mut request = Message::new(libc::RTM_GETLINK, 0, 0, 0, 0);
    request.attribute(libc::IFLA_IFNAME, name.as_bytes_with_nul());
    let reply = request.exchange()?;
    let mut info = LinkInfo::default();
    let body = reply.get(HEADER_LEN..).unwrap_or_default();
    let (Some(index), Some(flags)) = (number(body, 4), number(body, 8)) else {
        return Err(io::Error::from_raw_os_error(libc::EBADMSG));
    };
    info.index = index;
    info.is_up = flags & libc::IFF_UP.unsigned_abs() != 0;
    for (kind, value) in attributes(body.get(IFINFO_LEN..).unwrap_or_default()) {
        match kind {
            libc::IFLA_OPERSTATE => info.is_running = value.first() == Some(&OPERSTATE_UP),
            libc::IFLA_NUM_RX_QUEUES => info.nr_rx_queues = number(value, 0),
            libc::IFLA_MTU => info.mtu = number(value, 0).unwrap_or(0),
            libc::IFLA_ADDRESS => {
                if let Ok(address) = value.try_into() {
                    info.address = address;
                }
            }
            libc::IFLA_LINKINFO => {
                let kind = attributes(value).find(|(kind, _)| *kind == libc::IFLA_INFO_KIND);
                info.is_veth = kind.is_some_and(|(_, kind)| kind.starts_with(b"veth\0"));
            }
            libc::IFLA_LINK => info.peer_index = number(value, 0),
            libc::IFLA_LINK_NETNSID => info.peer_namespace = number(value, 0),
            IFLA_XDP => {
                let program = attributes(value).find(|(kind, _)| *kind == IFLA_XDP_PROG_ID);
                info.program = program.and_then(|(_, id)| number(id, 0)).unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(info)
}

/// Creates two interfaces with `nr_queues` queues each; packets sent on one are received on the other.
///
/// # Errors
/// `EEXIST` for a name in use, `EPERM` without `CAP_NET_ADMIN`.
pub(crate) fn add_veth(one: &Name, other: &Name, nr_queues: u32) -> io::Result<()> {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK).unsigned_abs();
    let mut request = Message::new(libc::RTM_NEWLINK, flags, 0, 0, 0);
    let queues = |message: &mut Message| {
        message.attribute(libc::IFLA_NUM_TX_QUEUES, &nr_queues.to_ne_bytes());
        message.attribute(libc::IFLA_NUM_RX_QUEUES, &nr_queues.to_ne_bytes());
    };
    request.attribute(libc::IFLA_IFNAME, one.as_bytes_with_nul());
    queues(&mut request);
    request.nested(libc::IFLA_LINKINFO, |info| {
        info.attribute(libc::IFLA_INFO_KIND, b"veth");
        info.nested(libc::IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.bytes.extend([0; IFINFO_LEN]);
                peer.attribute(libc::IFLA_IFNAME, other.as_bytes_with_nul());
                queues(peer);
            });
        });
    });
    request.exchange().map(drop)
}

/// Sets an interface up or down.
///
/// # Errors
/// `ENODEV` if there is none with this number, `EPERM` without `CAP_NET_ADMIN`.
pub(crate) fn set_up(index: u32, up: bool) -> io::Result<()> {
    let bit = libc::IFF_UP.unsigned_abs();
    let ack = libc::NLM_F_ACK.unsigned_abs();
    Message::new(libc::RTM_NEWLINK, ack, index, if up { bit } else { 0 }, bit).exchange().map(drop)
}

/// Sets the maximum length of a packet in bytes, without the Ethernet header.
///
/// # Errors
/// The errors of [`set_up`], and `EINVAL` for a value that the driver does not allow.
pub(crate) fn set_mtu(index: u32, mtu: u32) -> io::Result<()> {
    let ack = libc::NLM_F_ACK.unsigned_abs();
    let mut request = Message::new(libc::RTM_NEWLINK, ack, index, 0, 0);
    request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    request.exchange().map(drop)
}

/// Removes an interface, and the other end of a pair with it.
///
/// # Errors
/// The errors of [`set_up`].
pub(crate) fn delete(index: u32) -> io::Result<()> {
    let ack = libc::NLM_F_ACK.unsigned_abs();
    Message::new(libc::RTM_DELLINK, ack, index, 0, 0).exchange().map(drop)
}

/// Returns the number that this namespace has for the network namespace of the descriptor `namespace`,
/// if it has one.
///
/// # Errors
/// `EINVAL` for any other kind of descriptor.
pub(crate) fn namespace_id(namespace: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut request = Message::with_body(libc::RTM_GETNSID, 0, &[0; GENERAL_LEN]);
    request.attribute(NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes());
    let reply = request.exchange()?;
    let body = reply.get(HEADER_LEN + GENERAL_LEN..).unwrap_or_default();
    let id = attributes(body).find(|(kind, _)| *kind == NETNSA_NSID);
    // A negative number means that there is none.
    Ok(id.and_then(|(_, id)| number(id, 0)).filter(|id| id.cast_signed() >= 0))
}

/// Moves an interface to the network namespace of the descriptor `namespace`.
///
/// # Errors
/// The errors of [`set_up`].
#[cfg(test)]
pub(crate) fn move_to(index: u32, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let ack = libc::NLM_F_ACK.unsigned_abs();
    let mut request = Message::new(libc::RTM_NEWLINK, ack, index, 0, 0);
    request.attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
    request.exchange().map(drop)
}

/// Length of `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// Length of `struct ifinfomsg`.
const IFINFO_LEN: usize = 16;
/// Length of `struct rtgenmsg`, with the gap before attributes.
const GENERAL_LEN: usize = 4;
/// Length of `struct rtattr`.
const ATTRIBUTE_LEN: usize = 4;

/// `IF_OPER_UP`
const OPERSTATE_UP: u8 = 6;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// A request under construction.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a request about the interface with number `index`; zero if a name attribute identifies
    /// it.
    fn new(kind: u16, flags: u32, index: u32, values: u32, mask: u32) -> Self {
        // Family, padding and type are zero.
        let mut body = [0; IFINFO_LEN];
        for (place, word) in body.chunks_exact_mut(4).skip(1).zip([index, values, mask]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        Self::with_body(kind, flags, &body)
    }

    /// Starts a request that consists of a header, `body` and attributes.
    fn with_body(kind: u16, flags: u32, body: &[u8]) -> Self {
        let flags = flags | libc::NLM_F_REQUEST.unsigned_abs();
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(u16::try_from(flags).expect("the flags have 16 bits").to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self { bytes }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.bytes.extend(value));
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        let len = u16::try_from(self.bytes.len() - start).expect("our attributes are small");
        if let Some(field) = self.bytes.get_mut(start..start + 2) {
            field.copy_from_slice(&len.to_ne_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ATTRIBUTE_LEN), 0);
    }

    /// Sends the request and returns the kernel's first reply.
    fn exchange(mut self) -> io::Result<Vec<u8>> {
        let len = u32::try_from(self.bytes.len()).expect("our requests are small");
        if let Some(field) = self.bytes.get_mut(..4) {
            field.copy_from_slice(&len.to_ne_bytes());
        }
        let socket = syscall::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        syscall::send(socket.as_fd(), &self.bytes, 0)?;
        let mut reply = vec![0; 32 << 10];
        let len = syscall::receive(socket.as_fd(), &mut reply, 0)?;
        reply.truncate(len);
        let kind = reply.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        if kind.map(c_int::from) == Some(libc::NLMSG_ERROR) {
            match number(&reply, HEADER_LEN).map(u32::cast_signed) {
                Some(0) => {}
                Some(code) => return Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                None => return Err(io::Error::from_raw_os_error(libc::EBADMSG)),
            }
        }
        Ok(reply)
    }
}

/// Returns the 32 bits at `offset`, if `bytes` has them.
fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

/// Returns the attributes in `bytes`, up to the first one that is truncated.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Mask of an attribute's kind, without the flags in its two upper bits.
    const KIND: u16 = 0x3fff;

    core::iter::from_fn(move || {
        let &[a, b, c, d] = bytes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(ATTRIBUTE_LEN..len)?;
        let next = len.next_multiple_of(ATTRIBUTE_LEN).min(bytes.len());
        bytes = bytes.get(next..)?;
        Some((u16::from_ne_bytes([c, d]) & KIND, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_are_cut_off_end_the_list() {
        let whole = [8, 0, 4, 0, 1, 2, 3, 4, 5, 0, 7, 0x80, 9];
        let found: Vec<_> = attributes(&whole).collect();
        assert_eq!(found, [(4, &[1, 2, 3, 4][..]), (7, &[9][..])]);
        for len in 0..whole.len() {
            assert!(attributes(&whole[..len]).count() < 2, "{len}");
        }
        // A length that is too short for the attribute itself.
        assert_eq!(attributes(&[3, 0, 4, 0, 1, 2, 3, 4]).count(), 0);
        assert_eq!(attributes(&[0, 0, 4, 0]).count(), 0);
    }

    #[test]
    fn an_interface_that_is_not_there_is_told() {
        let name = Name::new("nosuchif0").unwrap();
        let error = link(&name).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_loopback_interface_is_there() {
        let info = link(&Name::new("lo").unwrap()).unwrap();
        assert!(info.index > 0 && info.mtu > 0, "{info:?}");
    }
}
