//! Interface to programs: the `Program` trait, tables of versions and procedures, and the call that a
//! procedure receives.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use pagemill::source::PageSource;

use crate::rqst::pages::Frames;
use crate::rqst::payload::{Behind, Payload};
use crate::rqst::reply::Reply;
use crate::wire::auth::Credential;
use crate::wire::error::{AuthStat, CallError, XdrError};
use crate::wire::msg::CallHeader;
use crate::wire::xdr::XdrReader;

/// Whether a procedure may block its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two ways of scheduling")]
pub enum Blocking {
    /// It rarely waits. One thread carries out calls that arrive together and sends their replies
    /// together. If a call takes longer than 10 ms, another thread processes the connection.
    No,
    /// It may wait, for instance for a disk. The thread first passes the connection to other threads.
    Yes,
}

/// Whether a reply is kept after it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a reply is kept or not")]
pub enum Replies {
    /// Not kept: a retransmitted call can be carried out again.
    Forgotten,
    /// Kept in the reply cache: a retransmitted call must not be carried out twice. A reply with a body
    /// is not kept.
    Kept,
}

/// Where the data of a call may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is in pages or not")]
pub enum Data {
    /// In the request's pages, with the other arguments.
    InPages,
    /// A part of it may be in a pipe, so that it goes to a file without a copy. For a procedure whose
    /// last argument is an opaque value that it takes with [`Call::payload`].
    MayBeSpliced,
}

/// A procedure, as a row of its program's table.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row of a table that programs write")]
pub struct Procedure {
    /// The name, in statistics and logs.
    pub name: &'static str,
    /// Whether it may block its thread.
    pub blocking: Blocking,
    /// Whether its replies are kept.
    pub replies: Replies,
    /// Where the data of its calls may be.
    pub data: Data,
}

impl Procedure {
    /// Makes the row of a procedure that does not block and may be repeated: it runs on the thread that
    /// received the call, and its replies are not kept. Its data, if any, is in pages.
    #[must_use]
    pub const fn quick(name: &'static str) -> Self {
        Self { name, blocking: Blocking::No, replies: Replies::Forgotten, data: Data::InPages }
    }
}

/// A version of a program.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row of a table that programs write")]
pub struct Version {
    /// The version's number.
    pub number: u32,
    /// The procedures, indexed by number. The server itself replies to number 0, `NULL`.
    pub procedures: &'static [Procedure],
}

/// The client at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// The transport of the call.
    pub transport: Transport,
}

/// The transport of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the two transports of the RFC")]
pub enum Transport {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A call, as its procedure receives it.
pub struct Call<'a, S: PageSource> {
    /// Program, version, procedure and transaction id.
    pub header: CallHeader,
    /// The client at the other end.
    pub peer: Peer,
    /// The caller's credential.
    pub cred: Credential,
    /// The arguments. Values read from them borrow from the request's pages, which stay in place until
    /// the procedure returns.
    pub args: XdrReader<'a>,
    /// The results; the header has been written.
    pub reply: &'a mut Reply<S>,
    /// The data after `args`, for a procedure that takes it from there.
    pub(crate) behind: Option<Behind<'a>>,
    /// Whether a success of the call counts as useful work of its connection.
    pub(crate) is_useful: bool,
}

impl<'a, S: PageSource> Call<'a, S> {
    /// Reads the last argument, an opaque value of up to `max` bytes, in pages or spliced.
    ///
    /// # Errors
    /// The errors of [`XdrReader::opaque`].
    pub fn payload(&mut self, max: usize) -> Result<Payload<'a>, XdrError> {
        Payload::read(&mut self.args, self.behind.take(), max)
    }

    /// Marks the call as useless although it gets a reply: because the reply is a refusal in the
    /// program's own terms, or because any client may make the call.
    ///
    /// When all places for connections are taken, the server closes one that has completed only such
    /// calls to accept a new one.
    pub fn mark_useless(&mut self) {
        self.is_useful = false;
    }
}

impl<S: PageSource> fmt::Debug for Call<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("header", &self.header)
            .field("peer", &self.peer)
            .field("cred", &self.cred)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// A program that a server serves.
///
/// Where panics unwind, a panic in [`authorize`](Self::authorize) or [`call`](Self::call) closes the
/// connection without a reply, and the thread continues; a datagram gets no reply. Where panics abort,
/// it ends the process.
///
/// # Concurrency
/// Called from many threads concurrently.
pub trait Program<S: Frames>: Send + Sync {
    /// Returns the program's number.
    fn number(&self) -> u32;

    /// Returns the program's name, for statistics and logs.
    fn name(&self) -> &'static str;

    /// Returns the versions, lowest first.
    fn versions(&self) -> &'static [Version];

    /// Returns whether any caller at this address is served. Called once per connection.
    ///
    /// Connections from addresses that no program knows are served, but share the turns, the memory and
    /// the places of one client, and are the first to be closed for others.
    fn knows(&self, addr: IpAddr) -> bool {
        let _ = addr;
        true
    }

    /// Checks whether this caller is served.
    ///
    /// Not called for `NULL`.
    ///
    /// # Errors
    /// The status with which the call is refused.
    fn authorize(&self, peer: &Peer, cred: &Credential) -> Result<(), AuthStat> {
        let _ = (peer, cred);
        Ok(())
    }

    /// Carries out a call whose program, version and procedure are in the tables, and writes its
    /// results to [`Call::reply`].
    ///
    /// # Errors
    /// The reason to reply with instead; the results written so far are removed.
    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError>;
}
