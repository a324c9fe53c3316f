//! Registration with rpcbind, so that clients find a server without being told its port.
//!
//! # Source
//! `rfc1833` section 3, version 2 of the protocol

use core::fmt;
use core::hash::BuildHasher;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};

use crate::msg::RPC_VERSION;
use crate::program::Transport;
use crate::record::{MARK_BYTES, mark_of};
use crate::xdr::{XdrReader, XdrWrite};

/// Where rpcbind listens.
pub const RPCBIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 111);

const PMAP_PROG: u32 = 100_000;
const PMAP_VERS: u32 = 2;
const PMAPPROC_SET: u32 = 1;
const PMAPPROC_UNSET: u32 = 2;
const PMAPPROC_GETPORT: u32 = 3;

/// Ports that only the superuser gets, less those that services are known by.
const RESERVED_PORTS: RangeInclusive<u16> = 665..=1023;
/// How long one try waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(700);
/// How often a datagram is sent before rpcbind counts as silent.
const NR_TRIES: usize = 3;
/// Most bytes of an answer: a header and a word.
const MAX_ANSWER_BYTES: usize = 512;

/// A version of a program, and where it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the words of a mapping")]
pub struct Mapping {
    /// The program.
    pub prog: u32,
    /// Its version.
    pub vers: u32,
    /// The way that calls come.
    pub transport: Transport,
    /// The port that they come to.
    pub port: u16,
}

/// Why a mapping could not be made or asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum RpcbindError {
    /// The system refused, or nobody answered.
    Io(io::Error),
    /// The answer is none.
    BadAnswer,
    /// The program is registered already, or the caller may not register it.
    Refused(Mapping),
}

impl fmt::Display for RpcbindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "rpcbind cannot be asked: {error}; is it running?"),
            Self::BadAnswer => f.write_str("what rpcbind answered cannot be read"),
            Self::Refused(Mapping { prog, vers, transport, port }) => write!(
                f,
                "rpcbind refused to register program {prog} version {vers} over {transport:?} at \
                 port {port}: somebody else has registered it, or it takes the superuser"
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

/// Mappings that rpcbind has until this is dropped.
#[derive(Debug)]
pub struct Registration {
    rpcbind: SocketAddr,
    mappings: Vec<Mapping>,
}

impl Registration {
    /// Registers `mappings` with the rpcbind at `rpcbind`, usually [`RPCBIND`], by datagrams.
    ///
    /// What a server left behind that was killed is replaced.
    ///
    /// # Errors
    /// What rpcbind or the system says. Nothing stays registered then.
    pub fn new(rpcbind: SocketAddr, mappings: &[Mapping]) -> Result<Self, RpcbindError> {
        let mut registration = Self { rpcbind, mappings: Vec::new() };
        for mapping in mappings {
            if !ask(rpcbind, PMAPPROC_SET, mapping)? {
                ask(rpcbind, PMAPPROC_UNSET, mapping)?;
                if !ask(rpcbind, PMAPPROC_SET, mapping)? {
                    return Err(RpcbindError::Refused(*mapping));
                }
            }
            registration.mappings.push(*mapping);
        }
        Ok(registration)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for mapping in &self.mappings {
            if let Err(error) = ask(self.rpcbind, PMAPPROC_UNSET, mapping) {
                tracing::warn!(%error, ?mapping, "a mapping stays with rpcbind");
                return;
            }
        }
    }
}

/// Asks at which port a program is served; `None` if it is not registered.
///
/// # Errors
/// What the system says, or an answer that is none.
pub fn port_of(
    rpcbind: SocketAddr,
    prog: u32,
    vers: u32,
    transport: Transport,
) -> Result<Option<u16>, RpcbindError> {
    let mapping = Mapping { prog, vers, transport, port: 0 };
    let port = by_tcp(rpcbind, PMAPPROC_GETPORT, &mapping)?;
    Ok(u16::try_from(port).ok().filter(|&port| port != 0))
}

fn ask(rpcbind: SocketAddr, proc: u32, mapping: &Mapping) -> Result<bool, RpcbindError> {
    Ok(by_udp(rpcbind, proc, mapping)? != 0)
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

/// Makes a socket at a port that shows that the superuser asks, where that is so: rpcbind lets
/// nobody else register. Otherwise, or if all are taken, at any port.
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
    const IPPROTO_TCP: u32 = 6;
    const IPPROTO_UDP: u32 = 17;
    let protocol = match mapping.transport {
        Transport::Tcp => IPPROTO_TCP,
        Transport::Udp => IPPROTO_UDP,
    };
    let header = [xid, 0, RPC_VERSION, PMAP_PROG, PMAP_VERS, proc, 0, 0, 0, 0];
    let arguments = [mapping.prog, mapping.vers, protocol, u32::from(mapping.port)];
    let mut call = Vec::with_capacity(64);
    for word in header.into_iter().chain(arguments) {
        // A vector takes whatever it is given.
        let _written = call.u32(word);
    }
    call
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

/// A number that no earlier call is likely to have had.
fn next_xid() -> u32 {
    let random = RandomState::new().hash_one(());
    u32::try_from(random >> 32).unwrap_or_default()
}
