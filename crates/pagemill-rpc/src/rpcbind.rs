//! Registration with rpcbind, so that clients find the server's port.
//!
//! # Source
//! `rfc1833` section 3 (version 2 of the protocol, for IPv4 only) and section 2 (version 4, for IPv6)

use core::fmt;
use core::hash::BuildHasher;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::sockopt;

use crate::dispatch::program::Transport;
use crate::transport::listener::Listener;
use crate::wire::error::XdrError;
use crate::wire::msg::RPC_VERSION;
use crate::wire::record::{MARK_BYTES, mark_of};
use crate::wire::xdr::{XdrReader, XdrWrite};

/// The address on which rpcbind listens.
pub const RPCBIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 111);

const RPCB_PROG: u32 = 100_000;
const PMAP_VERS: u32 = 2;
const RPCB_VERS: u32 = 4;
/// The same number in both versions.
const SET: u32 = 1;
/// The same number in both versions.
const UNSET: u32 = 2;
const PMAPPROC_GETPORT: u32 = 3;

/// Ports that only the superuser can bind, without those of well-known services.
const RESERVED_PORTS: RangeInclusive<u16> = 665..=1023;
/// How long one attempt waits for a reply.
const TIMEOUT: Duration = Duration::from_millis(700);
/// Number of attempts before rpcbind counts as unreachable.
const NR_TRIES: usize = 3;
/// Maximum size of a reply in bytes: a header and one word.
const MAX_ANSWER_BYTES: usize = 512;

/// A version of a program, and the address at which it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the words of a mapping")]
pub struct Mapping {
    /// The program.
    pub prog: u32,
    /// Its version.
    pub vers: u32,
    /// The transport of its calls.
    pub transport: Transport,
    /// The address of its calls. For an IPv4 address, rpcbind registers only the port.
    pub addr: SocketAddr,
}

impl Mapping {
    /// Returns the mappings of a program version that `listener` serves: with an IPv4 address, an IPv6
    /// address, or both if an IPv6 socket accepts both.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn of(prog: u32, vers: u32, listener: &Listener) -> io::Result<Vec<Self>> {
        let (transport, addr, fd) = match listener {
            Listener::Tcp(listener) => (Transport::Tcp, listener.local_addr()?, listener.as_fd()),
            Listener::Udp(socket) => (Transport::Udp, socket.local_addr()?, socket.as_fd()),
        };
        let mut addrs = vec![addr];
        if addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !sockopt::ipv6_v6only(fd)? {
            addrs.push((Ipv4Addr::UNSPECIFIED, addr.port()).into());
        }
        Ok(addrs.into_iter().map(|addr| Self { prog, vers, transport, addr }).collect())
    }

    /// Returns the network id that rpcbind uses for the transport.
    ///
    /// # Source
    /// `rfc5665` section 5.1
    #[must_use]
    pub fn netid(&self) -> &'static str {
        match (self.transport, self.addr) {
            (Transport::Tcp, SocketAddr::V4(_)) => "tcp",
            (Transport::Tcp, SocketAddr::V6(_)) => "tcp6",
            (Transport::Udp, SocketAddr::V4(_)) => "udp",
            (Transport::Udp, SocketAddr::V6(_)) => "udp6",
        }
    }
}

/// Why a mapping could not be registered or looked up.
#[derive(Debug)]
#[non_exhaustive]
pub enum RpcbindError {
    /// A system call failed, or rpcbind did not reply.
    Io(io::Error),
    /// The reply could not be parsed.
    BadAnswer,
    /// rpcbind does not support the protocol version that the mapping needs.
    NoIpv6(Mapping),
    /// The program is registered already, or the caller may not register it.
    Refused(Mapping),
}

impl fmt::Display for RpcbindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "rpcbind cannot be asked: {error}; is it running?"),
            Self::BadAnswer => f.write_str("what rpcbind answered cannot be read"),
            Self::NoIpv6(Mapping { addr, .. }) => write!(
                f,
                "rpcbind cannot register {addr}: it does not speak version 4 of its protocol, \
                 which IPv6 takes; listen on IPv4 alone, or use a newer rpcbind"
            ),
            Self::Refused(mapping @ Mapping { prog, vers, addr, .. }) => write!(
                f,
                "rpcbind refused to register program {prog} version {vers} over {} at {addr}: \
                 another process has registered it, or only the superuser may",
                mapping.netid()
            ),
        }
    }
}

impl core::error::Error for RpcbindError {}

impl From<io::Error> for RpcbindError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Mappings that stay registered with rpcbind until this is dropped.
#[derive(Debug)]
pub struct Registration {
    rpcbind: SocketAddr,
    mappings: Vec<Mapping>,
}

impl Registration {
    /// Registers `mappings` with the rpcbind at `rpcbind`, usually [`RPCBIND`], over UDP.
    ///
    /// Replaces mappings left behind by a server that was killed. Skips an IPv6 mapping that rpcbind
    /// refuses, with a warning, if rpcbind accepts another mapping: it may run without IPv6.
    ///
    /// # Errors
    /// The error from rpcbind or the system. Nothing stays registered then.
    pub fn new(rpcbind: SocketAddr, mappings: &[Mapping]) -> Result<Self, RpcbindError> {
        let mut registration = Self { rpcbind, mappings: Vec::new() };
        let mut left_out = Vec::new();
        for mapping in mappings {
            match register(rpcbind, mapping) {
                Ok(()) => registration.mappings.push(*mapping),
                Err(error @ (RpcbindError::NoIpv6(_) | RpcbindError::Refused(_)))
                    if mapping.addr.is_ipv6() =>
                {
                    left_out.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        if registration.mappings.is_empty()
            && let Some(error) = left_out.pop()
        {
            return Err(error);
        }
        for error in left_out {
            tracing::warn!(%error, "rpcbind does not tell clients of an IPv6 address");
        }
        Ok(registration)
    }

    /// Returns the mappings that rpcbind accepted.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }
}

fn register(rpcbind: SocketAddr, mapping: &Mapping) -> Result<(), RpcbindError> {
    if !ask(rpcbind, SET, mapping)? {
        ask(rpcbind, UNSET, mapping)?;
        if !ask(rpcbind, SET, mapping)? {
            return Err(RpcbindError::Refused(*mapping));
        }
    }
    Ok(())
}

impl Drop for Registration {
    fn drop(&mut self) {
        for mapping in &self.mappings {
            if let Err(error) = ask(self.rpcbind, UNSET, mapping) {
                tracing::warn!(%error, ?mapping, "a mapping stays with rpcbind");
                return;
            }
        }
    }
}

/// Looks up the port at which a program is served over IPv4; `None` if it is not registered.
///
/// # Errors
/// The error of a system call, or a reply that could not be parsed.
pub fn port_of(
    rpcbind: SocketAddr,
    prog: u32,
    vers: u32,
    transport: Transport,
) -> Result<Option<u16>, RpcbindError> {
    let mapping = Mapping { prog, vers, transport, addr: (Ipv4Addr::UNSPECIFIED, 0).into() };
    let port = by_tcp(rpcbind, PMAPPROC_GETPORT, &mapping)?;
    Ok(u16::try_from(port).ok().filter(|&port| port != 0))
}

fn ask(rpcbind: SocketAddr, proc: u32, mapping: &Mapping) -> Result<bool, RpcbindError> {
    match by_udp(rpcbind, proc, mapping) {
        Err(RpcbindError::BadAnswer) if mapping.addr.is_ipv6() => {
            Err(RpcbindError::NoIpv6(*mapping))
        }
        answer => Ok(answer? != 0),
    }
}

fn by_udp(rpcbind: SocketAddr, proc: u32, mapping: &Mapping) -> Result<u32, RpcbindError> {
    let socket = reserved_socket(rpcbind)?;
    socket.connect(rpcbind)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let xid = next_xid();
    let call = call(xid, proc, mapping);
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..NR_TRIES {
        socket.send(&call)?;
        let mut room = [0; MAX_ANSWER_BYTES];
        match socket.recv(&mut room) {
            Ok(len) => return answer(room.get(..len).unwrap_or_default(), xid),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => last = error,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// Makes a socket on a reserved port if the process may bind one, because rpcbind lets only the
/// superuser register. Otherwise, or if all are taken, the socket is on any port.
fn reserved_socket(rpcbind: SocketAddr) -> io::Result<UdpSocket> {
    let local: IpAddr =
        if rpcbind.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    for port in RESERVED_PORTS.rev() {
        match UdpSocket::bind((local, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(_) => break,
            bound => return bound,
        }
    }
    UdpSocket::bind((local, 0))
}

fn by_tcp(rpcbind: SocketAddr, proc: u32, mapping: &Mapping) -> Result<u32, RpcbindError> {
    let mut stream = TcpStream::connect_timeout(&rpcbind, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let xid = next_xid();
    let call = call(xid, proc, mapping);
    stream.write_all(&[&mark_of(call.len())[..], &call].concat())?;
    let mut mark = [0; MARK_BYTES];
    stream.read_exact(&mut mark)?;
    let len = u32::from_be_bytes(mark) & 0x7fff_ffff;
    let mut room = [0; MAX_ANSWER_BYTES];
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let reply = room.get_mut(..len).ok_or(RpcbindError::BadAnswer)?;
    stream.read_exact(reply)?;
    answer(reply, xid)
}

fn call(xid: u32, proc: u32, mapping: &Mapping) -> Vec<u8> {
    let vers = if mapping.addr.is_ipv4() { PMAP_VERS } else { RPCB_VERS };
    let header =
        [xid, 0, RPC_VERSION, RPCB_PROG, vers, proc, 0, 0, 0, 0, mapping.prog, mapping.vers];
    let mut call = Vec::with_capacity(128);
    for word in header {
        put(call.u32(word));
    }
    match mapping.addr {
        SocketAddr::V4(addr) => {
            put(call.u32(match mapping.transport {
                Transport::Tcp => IPPROTO_TCP,
                Transport::Udp => IPPROTO_UDP,
            }));
            put(call.u32(u32::from(addr.port())));
        }
        SocketAddr::V6(addr) => {
            put(call.opaque(mapping.netid().as_bytes()));
            // RFC 5665 section 5.2.3: the port's two bytes, in decimal, after the address.
            let [high, low] = addr.port().to_be_bytes();
            put(call.opaque(format!("{}.{high}.{low}", addr.ip()).as_bytes()));
            // The owner is empty: rpcbind determines the caller itself.
            put(call.opaque(b""));
        }
    }
    call
}

const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;

/// Asserts that a write succeeded: a vector has no limit.
fn put(written: Result<(), XdrError>) {
    debug_assert!(written.is_ok());
}

fn answer(reply: &[u8], xid: u32) -> Result<u32, RpcbindError> {
    let mut reader = XdrReader::new(reply);
    let mut next = || reader.u32().map_err(|_| RpcbindError::BadAnswer);
    let header = [next()?, next()?, next()?, next()?, next()?, next()?];
    if header != [xid, 1, 0, 0, 0, 0] {
        return Err(RpcbindError::BadAnswer);
    }
    next()
}

/// Returns a transaction id that no earlier call is likely to have used.
fn next_xid() -> u32 {
    let random = RandomState::new().hash_one(());
    u32::try_from(random >> 32).unwrap_or_default()
}
