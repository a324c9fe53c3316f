//! A server of one procedure, which answers with what it was sent; it prints how to ask whether it
//! lives.

extern crate alloc;

use alloc::sync::Arc;
use std::net::{TcpListener, UdpSocket};

use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::program::{Procedure, Version};
use pagemill_rpc::xdr::XdrWrite;
use pagemill_rpc::{Call, CallError, Listener, Program, Server, ServerConfig};

struct Echo;

const PROCEDURES: &[Procedure] = &[Procedure::quick("NULL"), Procedure::quick("ECHO")];

impl<S: Frames> Program<S> for Echo {
    fn number(&self) -> u32 {
        0x2000_0000
    }

    fn name(&self) -> &'static str {
        "echo"
    }

    fn versions(&self) -> &'static [Version] {
        &[Version { number: 1, procedures: PROCEDURES }]
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let text = call.args.opaque(1024)?;
        call.reply.opaque(text.copy_to(&mut [0; 1024]).unwrap_or_default())?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let arena = ArenaConfig::new(256 << 20);
    let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena))?);
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let udp = UdpSocket::bind(tcp.local_addr()?)?;
    let listeners = vec![Listener::Tcp(tcp), Listener::Udp(udp)];
    let server = Server::start(ServerConfig::default(), frames, vec![Arc::new(Echo)], listeners)?;
    let port = server.addrs()[0].port();
    #[expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]
    {
        println!("rpcinfo -a 127.0.0.1.{}.{} -T tcp 536870912 1", port >> 8, port & 0xff);
    }
    std::thread::park();
    Ok(())
}
