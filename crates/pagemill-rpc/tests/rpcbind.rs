//! Registration, with a small rpcbind of our own at the other end; and `rpcinfo` where it is
//! installed.

#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "what tests share, of which each uses a part"
)]
mod common;

extern crate alloc;

use alloc::sync::Arc;

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Mutex;

use common::{PROG, VERS, World, small_config};
use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_rpc::{
    Call, CallError, Data, Frames, Listener, Mapping, Pace, Procedure, Program, Registration,
    Replies, RpcbindError, Server, Transport, Version, XdrWrite, port_of,
};

/// What rpcbind keeps.
#[derive(Default)]
struct Portmapper {
    map: Mutex<HashMap<[u32; 3], u32>>,
    /// The ports that changes were asked for from.
    ports: Mutex<Vec<u16>>,
}

const fn procedure(name: &'static str) -> Procedure {
    Procedure { name, pace: Pace::Quick, replies: Replies::Forgotten, data: Data::InPages }
}

impl<S: Frames> Program<S> for Portmapper {
    fn number(&self) -> u32 {
        100_000
    }

    fn name(&self) -> &'static str {
        "portmapper"
    }

    fn versions(&self) -> &'static [Version] {
        const PROCEDURES: &[Procedure] =
            &[procedure("NULL"), procedure("SET"), procedure("UNSET"), procedure("GETPORT")];
        &[Version { number: 2, procedures: PROCEDURES }]
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let key = [call.args.u32()?, call.args.u32()?, call.args.u32()?];
        let port = call.args.u32()?;
        if call.header.proc < 3 {
            self.ports.lock().expect("nobody panics with it").push(call.peer.addr.port());
        }
        let mut map = self.map.lock().expect("nobody panics with it");
        let result = match call.header.proc {
            1 if map.contains_key(&key) || key[0] == 7 => 0,
            1 => u32::from(map.insert(key, port).is_none()),
            2 => u32::from(map.remove(&key).is_some()),
            _ => map.get(&key).copied().unwrap_or(0),
        };
        Ok(call.reply.u32(result)?)
    }
}

#[test]
fn mappings_are_there_until_the_registration_is_dropped() {
    let arena = ArenaConfig::new(64 << 20);
    let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).unwrap());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let listeners = vec![Listener::Tcp(tcp), Listener::Udp(UdpSocket::bind(at).unwrap())];
    let program = Arc::new(Portmapper::default());
    let programs = vec![Arc::clone(&program) as Arc<dyn Program<SharedAllocator>>];
    let _server = Server::start(small_config(), frames, programs, listeners).unwrap();

    let mapping = |prog, transport| Mapping { prog, vers: 3, transport, port: 2049 };
    let both = [mapping(100_003, Transport::Tcp), mapping(100_003, Transport::Udp)];
    assert_eq!(port_of(at, 100_003, 3, Transport::Tcp).unwrap(), None);
    let registration = Registration::new(at, &both).unwrap();
    for transport in [Transport::Tcp, Transport::Udp] {
        assert_eq!(port_of(at, 100_003, 3, transport).unwrap(), Some(2049));
    }
    // What is there already is replaced.
    let later = [Mapping { port: 4000, ..both[0] }];
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
fn without_rpcbind_the_error_says_so() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mapping = Mapping { prog: 1, vers: 1, transport: Transport::Tcp, port: 1 };
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
