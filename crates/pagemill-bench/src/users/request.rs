//! SUNRPC request: the pages of a request are filled before each call, as an RPC server does, and its data
//! arrive in them over TCP.

use core::time::Duration;
use std::io::IoSliceMut;
use std::net::TcpStream;

use pagemill::units::PAGE_SIZE;
use pagemill_rpc::buffer::nr_request_pages;

use super::pages::{Slot, Taker};
use super::sample::Meter;
use super::sender::Sender;
use super::{Arm, Sample, Setup, Start, User};

/// Bytes of data in a request.
const DATA_BYTES: usize = 1 << 20;
/// Bytes of a request: with headers and arguments of a WRITE.
const REQUEST_BYTES: usize = DATA_BYTES + 140;
/// Pages of a request.
pub(super) const NR_PAGES: usize = nr_request_pages(DATA_BYTES);

/// A worker of a server, and a client that always has the next request.
#[derive(Debug)]
struct RequestUser {
    setup: Setup,
    stream: TcpStream,
    slots: Vec<Slot>,
    client: Sender,
}

pub(super) fn start(setup: &Setup) -> anyhow::Result<Start> {
    let (client, stream) = Sender::start(setup.peer_cpu, REQUEST_BYTES)?;
    let slots = (0..NR_PAGES).map(|_| None).collect();
    Ok(Start::Ready(Box::new(RequestUser { setup: setup.clone(), stream, slots, client })))
}

impl User for RequestUser {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        let mut taker = Taker::new(self.setup.frames, self.setup.clock, arm);
        let meter = Meter::start();
        let mut nr_requests = 0;
        while nr_requests == 0 || meter.elapsed() < slice {
            taker.take(&mut self.slots)?;
            receive(&self.stream, &mut self.slots)?;
            taker.give_back(&mut self.slots);
            nr_requests += 1;
        }
        Ok(meter.stop(nr_requests, Duration::ZERO, taker.alloc))
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        drop(self.stream);
        self.client.stop()
    }
}

/// Receives one request into pages.
fn receive(stream: &TcpStream, slots: &mut [Slot]) -> anyhow::Result<()> {
    let mut left = REQUEST_BYTES;
    let mut buffers = Vec::with_capacity(slots.len());
    for page in slots.iter_mut().flatten() {
        let len = left.min(PAGE_SIZE);
        left -= len;
        if len > 0 {
            buffers.push(IoSliceMut::new(&mut page.as_bytes_mut()[..len]));
        }
    }
    let mut buffers = &mut buffers[..];
    while !buffers.is_empty() {
        let nr = rustix::io::retry_on_intr(|| rustix::io::readv(stream, buffers))?;
        anyhow::ensure!(nr > 0, "the client closed the connection");
        IoSliceMut::advance_slices(&mut buffers, nr);
    }
    Ok(())
}
