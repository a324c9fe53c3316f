//! Poller: one epoll set for all threads of a server, and an eventfd to wake them.

use core::mem::MaybeUninit;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// Maximum number of events per poll.
const MAX_EVENTS: usize = 256;
/// The token of the wake-up event; all other tokens are larger.
const WAKE: u64 = 0;

/// The kind of event to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Input to read.
    Read,
    /// Room to write.
    Write,
}

/// The epoll set, and the means to wake threads that wait on it.
///
/// Each event goes to one thread, which must arm the socket for the next one.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // A semaphore: each read consumes one wake-up.
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, wake })
    }

    /// Adds a socket, armed for input.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags(Interest::Read))?)
    }

    /// Adds a socket without arming it. An error or a hang-up is reported nevertheless.
    pub(crate) fn add_unarmed(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), EventFlags::ONESHOT)?)
    }

    /// Arms a socket: asks for its next event.
    pub(crate) fn arm(&self, socket: impl AsFd, token: u64, what: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token), flags(what))?)
    }

    /// Removes a socket.
    pub(crate) fn remove(&self, socket: impl AsFd) {
        // It does not matter if the socket was not in the set.
        let _gone = epoll::delete(&self.epoll, socket);
    }

    /// Wakes `nr` threads that wait now or will wait next.
    pub(crate) fn wake(&self, nr: u64) {
        // Fails only if the count is full, and then all threads are awake.
        let _written = rustix::io::write(&self.wake, &nr.to_ne_bytes());
    }

    /// Returns the tokens of sockets that have an event, the longest ready first, without waiting.
    ///
    /// Leaves wake-ups to sleeping threads.
    pub(crate) fn poll(&self) -> Vec<u64> {
        let mut events = [MaybeUninit::<Event>::uninit(); MAX_EVENTS];
        match epoll::wait(&self.epoll, &mut events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok((events, _)) => {
                events.iter().map(|event| event.data.u64()).filter(|&token| token != WAKE).collect()
            }
            Err(Errno::INTR) => Vec::new(),
            Err(error) => {
                tracing::error!(%error, "asking for events failed");
                Vec::new()
            }
        }
    }

    /// Waits for an event and returns its socket's token; `None` for a wake-up. `keep_wake` is called
    /// after the wait and returns whether the wake-up is for all threads and stays pending.
    pub(crate) fn wait(&self, keep_wake: impl Fn() -> bool) -> Option<u64> {
        let mut events = [MaybeUninit::<Event>::uninit(); 1];
        let token = match epoll::wait(&self.epoll, &mut events, None) {
            Ok((events, _)) => events.first()?.data.u64(),
            Err(Errno::INTR) => return None,
            Err(error) => {
                tracing::error!(%error, "waiting for events failed");
                return None;
            }
        };
        if token != WAKE {
            return Some(token);
        }
        if !keep_wake() {
            // Another thread may have consumed it first.
            let _taken = rustix::io::read(&self.wake, &mut [0_u8; 8]);
        }
        None
    }
}

fn flags(what: Interest) -> EventFlags {
    let what = match what {
        Interest::Read => EventFlags::IN | EventFlags::RDHUP,
        Interest::Write => EventFlags::OUT,
    };
    what | EventFlags::ONESHOT
}
