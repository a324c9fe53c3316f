//! An ONC RPC server core, built like Linux's sunrpc, whose request pages come from pagemill.
#![doc = include_str!("../README.md")]
//!
//! # Structure
//! A [`Server`] receives calls from connections and datagrams; a pool of threads carries them out with
//! its [`Program`]s. Each thread has a [`Rqst`] with two arrays of pages: calls are received into one,
//! and replies are built in the other. Before the next call, one bulk call refills the pages that were
//! used up; the other slots are not checked.
//!
//! Data is not copied. A call stays in the pages that the network filled, and its [`Bytes`] can go to a
//! file from there. The body of a [`Reply`] consists of pages that a file was read into, of pages that
//! the procedure owned, or of a part of a file.
//!
//! # Layers
//! [`XdrReader`], [`RecordReader`], [`Message`], [`ReplyCache`] and [`Dispatcher`] work on bytes in
//! memory and do no I/O. A request ([`Rqst`]) does I/O for the data of its call: it moves data from
//! the socket into a pipe, and [`Payload::write_at`] writes it to a file. Sockets and threads are in
//! the layers above the dispatcher.
//!
//! # Limits on clients
//! Every length is checked against a limit before memory is allocated for it. A connection may hold
//! pages for a call that is incomplete and for replies that the client has not read. Both count against
//! one budget ([`ServerConfig::parked_bytes`]), a call with the bytes that have arrived, not with the
//! length announced. The server does not read from a connection with unread replies. Pages of calls in
//! progress belong to threads, whose number is fixed.
//!
//! The budget and the places for connections are shared by client. A client is an IPv4 address or an
//! IPv6 network of 64 bits; addresses that no program knows ([`Program::knows`]) count as one client
//! together. When the budget is used up, the client that holds least is served first, and the server
//! closes connections that hold more than their client's share, make no progress or take long. When all
//! places are taken, the least useful connection is closed for a new one.
//!
//! # Panics in procedures
//! A panic in a procedure closes the connection that the call came on. It is counted
//! ([`Stats::panicked`]) and logged; the thread, its pages and all other connections continue. The same
//! holds for a panic anywhere else in a worker thread. Where panics abort, it ends the process.
//!
//! # Threads
//! All threads wait on one epoll set. A thread that receives a call continues with the same connection
//! as long as its calls are [`Blocking::No`], and sends their replies together: with several calls
//! outstanding, a call costs a fraction of a system call. Before a [`Blocking::Yes`] call, the thread
//! passes the connection to other threads, so that many calls of one connection run concurrently. If a
//! quick call takes longer than 10 ms, another thread takes the connection over.
//!
//! Clients take turns, however many connections each has, and the addresses of a client take turns in
//! the same way. A turn is up to 64 quick calls of one connection, or up to 10 ms of them, or one
//! blocking call. A client may have all threads while no other client has a call; a call of another
//! client then waits until one thread is free. Calls by UDP arrive in one socket, which has turns like
//! one client, and are taken in the order in which they came.
//!
//! [`Blocking::No`]: program::Blocking::No
//! [`Blocking::Yes`]: program::Blocking::Yes
//! [`Bytes`]: xdr::Bytes
//! [`Dispatcher`]: program::Dispatcher
//! [`Message`]: msg::Message
//! [`RecordReader`]: record::RecordReader
//! [`ReplyCache`]: reply_cache::ReplyCache
//! [`Rqst`]: buffer::Rqst
//! [`Stats::panicked`]: stats::Stats::panicked
//! [`XdrReader`]: xdr::XdrReader

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

extern crate alloc;

mod dispatch;
mod limits;
mod panics;
pub mod rpcbind;
mod rqst;
mod server;
pub mod stats;
mod transport;
mod wire;

/// Credentials of a call.
pub mod auth {
    pub use crate::wire::auth::{
        AUTH_NONE, AUTH_SYS, Credential, MAX_AUTH_BYTES, MAX_GIDS, MAX_MACHINENAME_BYTES,
        OpaqueAuth, SysCredential,
    };
    pub use crate::wire::error::AuthStat;
}

/// Pages of a request: arguments, reply and their refill.
pub mod buffer {
    pub use crate::rqst::pages::{Frames, PageArray, Refill, RefillCalls, RefillScan};
    pub use crate::rqst::reply::{FileRange, MAX_TAIL_BYTES, Mark};
    pub use crate::rqst::rqst::{MAX_PAYLOAD_BYTES, OVERHEAD_BYTES, Rqst, nr_request_pages};
}

/// The maximum number of threads of a [`ServerConfig`], and the error for an invalid one.
pub mod config {
    pub use crate::server::config::MAX_THREADS;
    pub use crate::wire::error::ConfigError;
}

/// Message headers of calls and replies.
pub mod msg {
    pub use crate::wire::msg::{CallHeader, Message, RPC_VERSION, ReplyStatus};
}

/// What a [`Program`] consists of, and how a call finds its procedure.
pub mod program {
    pub use crate::dispatch::dispatch::{Dispatcher, Route, Target, Verdict};
    pub use crate::dispatch::program::{
        Blocking, Data, Peer, Procedure, Replies, Transport, Version,
    };
}

/// Record marking: messages in a byte stream (RFC 5531, section 11).
pub mod record {
    pub use crate::wire::record::{
        Expect, MARK_BYTES, MAX_FRAGMENT_BYTES, MAX_NR_EMPTY_FRAGMENTS, MAX_NR_FRAGMENTS,
        RecordError, RecordReader, mark_of,
    };
}

/// The reply cache: keeps replies, to send them again when a client repeats a call.
pub mod reply_cache {
    pub use crate::dispatch::reply_cache::{
        CallKey, REPLY_LIFETIME, ReplyCache, ReplyCacheLimits, Seen,
    };
}

/// XDR, the encoding of arguments and results (RFC 4506).
pub mod xdr {
    pub use crate::wire::error::XdrError;
    pub use crate::wire::xdr::{Bytes, Chunks, SliceWriter, XdrReader, XdrWrite, padding};
}

pub use dispatch::program::{Call, Program};
pub use rqst::payload::Payload;
pub use rqst::reply::Reply;
pub use server::config::ServerConfig;
pub use server::server::{Server, StartError};
pub use transport::listener::Listener;
pub use wire::error::CallError;
