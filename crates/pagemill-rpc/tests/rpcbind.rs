//! Registration, with a small rpcbind of our own at the other end; and `rpcinfo` where it is
//! installed.

mod common;

extern crate alloc;

use alloc::sync::Arc;

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Mutex;

use common::{PROG, VERS, World, small_config};
use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::program::{Procedure, Transport, Version};
use pagemill_rpc::rpcbind::{Mapping, Registration, RpcbindError, port_of};
use pagemill_rpc::xdr::XdrWrite;
use pagemill_rpc::{Call, CallError, Listener, Program, Server};

/// What rpcbind keeps.
#[derive(Default)]
struct Portmapper {
    map: Mutex<HashMap<[u32; 3], u32>>,
    /// What version 4 of the protocol keeps: addresses by program, version and transport.
    addrs: Mutex<HashMap<(u32, u32, String), String>>,
    /// Whether it speaks that version.
    knows_ipv6: bool,
    /// Whether it refuses IPv6 addresses although it speaks that version, as where it runs without
    /// IPv6.
    refuses_ipv6: bool,
    /// The ports that changes were asked for from.
    ports: Mutex<Vec<u16>>,
}

impl<S: Frames> Program<S> for Portmapper {
    fn number(&self) -> u32 {
        100_000
    }

    fn name(&self) -> &'static str {
        "portmapper"
    }

    fn versions(&self) -> &'static [Version] {
        const PROCEDURES: &[Procedure] = &[
            Procedure::quick("NULL"),
            Procedure::quick("SET"),
            Procedure::quick("UNSET"),
            Procedure::quick("GETPORT"),
        ];
        const BOTH: &[Version] = &[
            Version { number: 2, procedures: PROCEDURES },
            Version { number: 4, procedures: PROCEDURES },
        ];
        if self.knows_ipv6 { BOTH } else { &BOTH[..1] }
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        if call.header.vers == 4 {
            return self.change_addr(call);
        }
        let key = [call.args.u32()?, call.args.u32()?, call.args.u32()?];
        let port = call.args.u32()?;
        if call.header.proc < 3 {
            self.ports.lock().expect("no thread panics with it").push(call.peer.addr.port());
        }
        let mut map = self.map.lock().expect("no thread panics with it");
        let result = match call.header.proc {
            1 if map.contains_key(&key) || key[0] == 7 => 0,
            1 => u32::from(map.insert(key, port).is_none()),
            2 => u32::from(map.remove(&key).is_some()),
            _ => map.get(&key).copied().unwrap_or(0),
        };
        Ok(call.reply.u32(result)?)
    }
}

impl Portmapper {
    /// `RPCBPROC_SET` and `RPCBPROC_UNSET`.
    fn change_addr<S: Frames>(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let (prog, vers) = (call.args.u32()?, call.args.u32()?);
        let mut texts = [(); 3].map(|()| String::new());
        for text in &mut texts {
            let mut room = [0; 128];
            *text = String::from_utf8(call.args.opaque_into(&mut room)?.to_vec()).expect("ASCII");
        }
        let [netid, addr, _owner] = texts;
        let mut addrs = self.addrs.lock().expect("no thread panics with it");
        let key = (prog, vers, netid);
        let done = match call.header.proc {
            1 if self.refuses_ipv6 || addrs.contains_key(&key) => false,
            1 => addrs.insert(key, addr).is_none(),
            _ => addrs.remove(&key).is_some(),
        };
        Ok(call.reply.u32(done.into())?)
    }
}

/// Starts a portmapper.
fn serve(program: &Arc<Portmapper>) -> (Server<SharedAllocator>, SocketAddr) {
    let arena = ArenaConfig::new(64 << 20);
    let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).expect("it starts"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("it starts");
    let at = tcp.local_addr().expect("it starts");
    let listeners =
        vec![Listener::Tcp(tcp), Listener::Udp(UdpSocket::bind(at).expect("it starts"))];
    let programs = vec![Arc::clone(program) as Arc<dyn Program<SharedAllocator>>];
    (Server::start(small_config(), frames, programs, listeners).expect("it starts"), at)
}

/// The address of a socket that takes calls for all addresses.
fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

#[test]
fn mappings_are_there_until_the_registration_is_dropped() {
    let program = Arc::new(Portmapper::default());
    let (_server, at) = serve(&program);
    let mapping = |prog, transport| Mapping { prog, vers: 3, transport, addr: any(2049) };
    let both = [mapping(100_003, Transport::Tcp), mapping(100_003, Transport::Udp)];
    assert_eq!(port_of(at, 100_003, 3, Transport::Tcp).unwrap(), None);
    let registration = Registration::new(at, &both).unwrap();
    for transport in [Transport::Tcp, Transport::Udp] {
        assert_eq!(port_of(at, 100_003, 3, transport).unwrap(), Some(2049));
    }
    // What is there already is replaced.
    let later = [Mapping { addr: any(4000), ..both[0] }];
    let again = Registration::new(at, &later).unwrap();
    assert_eq!(port_of(at, 100_003, 3, Transport::Tcp).unwrap(), Some(4000));
    drop((registration, again));
    assert_eq!(port_of(at, 100_003, 3, Transport::Udp).unwrap(), None);

    // One of two is refused: neither stays.
    let refused = [both[0], mapping(7, Transport::Tcp)];
    let error = Registration::new(at, &refused).unwrap_err();
    assert!(matches!(error, RpcbindError::Refused(Mapping { prog: 7, .. })), "{error}");
    assert_eq!(port_of(at, 100_003, 3, Transport::Tcp).unwrap(), None);

    // Where this process may have them, all changes came from reserved ports.
    let may = UdpSocket::bind("127.0.0.1:999").is_ok();
    let ports = program.ports.lock().unwrap();
    assert!(ports.iter().all(|&port| (port < 1024) == may), "{ports:?}");
}

#[test]
fn sockets_for_ipv6_are_registered_for_ipv6_and_for_ipv4_if_they_take_both() {
    let program = Arc::new(Portmapper { knows_ipv6: true, ..Portmapper::default() });
    let (_server, at) = serve(&program);
    let Ok(tcp) = TcpListener::bind("[::]:0") else {
        use std::io::Write;
        std::io::stderr().write_all(b"\nSKIPPED: rpcbind.rs: no IPv6 here\n").unwrap();
        return;
    };
    let port = tcp.local_addr().unwrap().port();
    let [high, low] = port.to_be_bytes();
    let udp = UdpSocket::bind("[::1]:0").unwrap();
    let udp_port = udp.local_addr().unwrap().port();
    let mut mappings = Mapping::of(9, 3, &Listener::Tcp(tcp)).unwrap();
    mappings.extend(Mapping::of(9, 3, &Listener::Udp(udp)).unwrap());
    let registration = Registration::new(at, &mappings).unwrap();
    // And again, as after a server that was killed.
    let again = Registration::new(at, &mappings).unwrap();
    let addr = |netid: &str| program.addrs.lock().unwrap().get(&(9, 3, netid.into())).cloned();
    assert_eq!(addr("tcp6"), Some(format!("::.{high}.{low}")));
    let [high, low] = udp_port.to_be_bytes();
    assert_eq!(addr("udp6"), Some(format!("::1.{high}.{low}")));
    // The first takes calls over IPv4 too, the second does not.
    assert_eq!(port_of(at, 9, 3, Transport::Tcp).unwrap(), Some(port));
    assert_eq!(port_of(at, 9, 3, Transport::Udp).unwrap(), None);
    drop((registration, again));
    assert!(program.addrs.lock().unwrap().is_empty());
    assert_eq!(port_of(at, 9, 3, Transport::Tcp).unwrap(), None);

    // Without IPv6, rpcbind has the address for IPv4 alone, and no error.
    let old = Portmapper::default();
    let refusing = Portmapper { knows_ipv6: true, refuses_ipv6: true, ..Portmapper::default() };
    for (program, reason) in [(old, "version 4"), (refusing, "refused")] {
        let (_server, at) = serve(&Arc::new(program));
        let registration = Registration::new(at, &mappings).unwrap();
        assert_eq!(port_of(at, 9, 3, Transport::Tcp).unwrap(), Some(port));
        drop(registration);
        assert_eq!(port_of(at, 9, 3, Transport::Tcp).unwrap(), None);
        // Nothing would be left for it to have.
        let [first, ..] = mappings[..] else { unreachable!("there are three") };
        let error = Registration::new(at, &[first]).unwrap_err().to_string();
        assert!(first.addr.is_ipv6() && error.contains(reason), "{error}");
    }
}

#[test]
fn without_rpcbind_the_error_says_so() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mapping = Mapping { prog: 1, vers: 1, transport: Transport::Tcp, addr: any(1) };
    let error = Registration::new(nobody, &[mapping]).unwrap_err().to_string();
    assert!(error.contains("is it running?"), "{error}");
}

#[test]
fn rpcinfo_finds_the_server_alive() {
    let world = World::new();
    for (way, port) in [("tcp", world.addr().port()), ("udp", world.udp_addr().port())] {
        // With -n rather than -a, the rpcinfo of Debian 12 asks rpcbind all the same.
        let address = format!("127.0.0.1.{}.{}", port >> 8, port & 0xff);
        let (prog, vers) = (PROG.to_string(), VERS.to_string());
        let arguments = ["-a", &address, "-T", way, &prog, &vers];
        let Ok(output) = Command::new("rpcinfo").args(arguments).output() else {
            use std::io::Write;
            let line = "\nSKIPPED: rpcbind.rs: rpcinfo is not installed\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("ready and waiting"), "{arguments:?}: {text}");
    }
}
