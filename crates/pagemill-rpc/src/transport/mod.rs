//! Transports: TCP connections, UDP datagrams, the epoll set, and the scheduling of connections.

pub(crate) mod busy;
pub(crate) mod input;
pub(crate) mod listener;
pub(crate) mod low_water;
pub(crate) mod poller;
pub(crate) mod receive;
pub(crate) mod run_queue;
pub(crate) mod scheduler;
pub(crate) mod send_queue;
pub(crate) mod tcp;
pub(crate) mod udp;
