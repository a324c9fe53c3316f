//! The threads that measure, each bound to its CPU and with a seat for every peer.

use alloc::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use pagemill::CpuId;
use pagemill_host::{Cpus, HostError};

use crate::seat::{Entry, Seat};

type Order = Box<dyn FnOnce(&mut [Box<dyn Seat>]) + Send>;

/// One thread for each CPU, waiting for orders; the thread that leads them sleeps meanwhile.
#[derive(Debug)]
pub(crate) struct Crew {
    orders: Vec<Sender<Order>>,
}

impl Crew {
    /// Starts a thread on each of `cpus` and lets it make its seats.
    ///
    /// # Errors
    /// [`HostError::PinTo`] if a thread cannot be bound to its CPU.
    pub(crate) fn new(cpus: &[CpuId], entries: &Arc<Vec<Entry>>) -> anyhow::Result<Self> {
        let mut crew = Self { orders: Vec::new() };
        for &cpu in cpus {
            let (orders, inbox) = channel();
            let (answer, bound) = channel();
            let entries = Arc::clone(entries);
            thread::spawn(move || serve(cpu, &entries, &answer, &inbox));
            bound.recv()??;
            crew.orders.push(orders);
        }
        Ok(crew)
    }

    /// Returns the number of threads.
    pub(crate) fn nr_threads(&self) -> usize {
        self.orders.len()
    }

    /// Lets one thread do `work` at the seat of a peer, and returns what it found.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        thread: usize,
        peer: usize,
        work: impl FnOnce(&mut dyn Seat) -> R + Send + 'static,
    ) -> R {
        answered(&self.begin(thread, peer, work))
    }

    /// Lets the first two threads work at the seats of a peer at the same time.
    pub(crate) fn ask_two<A: Send + 'static, B: Send + 'static>(
        &self,
        peer: usize,
        first: impl FnOnce(&mut dyn Seat) -> A + Send + 'static,
        second: impl FnOnce(&mut dyn Seat) -> B + Send + 'static,
    ) -> (A, B) {
        let found = (self.begin(0, peer, first), self.begin(1, peer, second));
        (answered(&found.0), answered(&found.1))
    }

    fn begin<R: Send + 'static>(
        &self,
        thread: usize,
        peer: usize,
        work: impl FnOnce(&mut dyn Seat) -> R + Send + 'static,
    ) -> Receiver<R> {
        let (answer, found) = channel();
        let order: Order = Box::new(move |seats| {
            // Nobody listens if another thread of the crew has panicked.
            drop(answer.send(work(seats[peer].as_mut())));
        });
        self.orders[thread].send(order).expect("a thread waits for orders");
        found
    }
}

fn answered<R>(found: &Receiver<R>) -> R {
    found.recv().expect("a thread answers each order")
}

/// Carries out orders until there is nobody to give them.
fn serve(
    cpu: CpuId,
    entries: &[Entry],
    answer: &Sender<Result<(), HostError>>,
    inbox: &Receiver<Order>,
) {
    let pinned = Cpus::pin_to(cpu);
    let is_pinned = pinned.is_ok();
    let mut seats: Vec<_> = entries.iter().map(|entry| (entry.open)()).collect();
    if answer.send(pinned).is_err() || !is_pinned {
        return;
    }
    for order in inbox {
        order(&mut seats);
    }
}
