//! What a server serves: programs, their versions and procedures as tables, and the call that a
//! procedure gets.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use pagemill::PageSource;

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
    /// It hardly ever waits. One thread carries out calls that arrive together and sends their replies
    /// together; if one of them takes long after all, another thread processes the connection.
    No,
    /// It may wait, as for a disk. The thread first leaves further calls of the connection to other threads.
    Yes,
}

/// What becomes of a reply once it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a reply is kept or not")]
pub enum Replies {
    /// Nothing: the call can be carried out again.
    Forgotten,
    /// It is kept for the client that asks again: the call must not be carried out twice. A reply
    /// with a body is not kept.
    Kept,
}

/// Where the data of a call may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is in pages or not")]
pub enum Data {
    /// In the request's pages, with the other arguments.
    InPages,
    /// A part of it may be in a pipe, so that it goes to a file without a copy: for a
    /// procedure whose last argument is an opaque value that it takes with [`Call::payload`].
    MayBeSpliced,
}

/// A procedure, as its program's table lists it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row of a table that programs write")]
pub struct Procedure {
    /// The name, in statistics and logs.
    pub name: &'static str,
    /// How long it may keep its thread.
    pub blocking: Blocking,
    /// What becomes of its replies.
    pub replies: Replies,
    /// Where the data of its calls may be.
    pub data: Data,
}

/// A version of a program.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row of a table that programs write")]
pub struct Version {
    /// The version's number.
    pub number: u32,
    /// The procedures, each at its number. Number 0 is `NULL`, which the server itself answers.
    pub procedures: &'static [Procedure],
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// The way that the call came.
    pub transport: Transport,
}

/// A way that calls come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the two transports of the RFC")]
pub enum Transport {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A call, as its procedure gets it.
pub struct Call<'a, S: PageSource> {
    /// What is called.
    pub header: CallHeader,
    /// Who is at the other end.
    pub peer: Peer,
    /// Who calls.
    pub cred: Credential,
    /// The arguments. What they return is borrowed from the request's pages, which stay where they
    /// are until the procedure returns.
    pub args: XdrReader<'a>,
    /// The results; the header has been written.
    pub reply: &'a mut Reply<S>,
    /// What follows `args`, for a procedure that takes it from there.
    pub(crate) behind: Option<Behind<'a>>,
    /// Whether the call shows that its client is of use, if it succeeds.
    pub(crate) is_useful: bool,
}

impl<'a, S: PageSource> Call<'a, S> {
    /// Reads the last argument, an opaque value of at most `max` bytes, wherever its bytes are.
    ///
    /// # Errors
    /// As [`XdrReader::opaque`].
    pub fn payload(&mut self, max: usize) -> Result<Payload<'a>, XdrError> {
        Payload::read(&mut self.args, self.behind.take(), max)
    }

    /// Says that the call does not show that its client is of use, although it is answered: the
    /// answer is a refusal in the program's own terms, or anyone may make the call.
    ///
    /// Of connections that have completed no other calls, the server closes one for a new
    /// connection when all places are taken.
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
/// Where panics unwind, one in [`authorize`](Self::authorize) or [`call`](Self::call) closes the
/// connection without an answer, and the thread continues; a datagram is not answered. Where panics
/// abort, one ends the process.
///
/// # Concurrency
/// Called from many threads at once.
pub trait Program<S: Frames>: Send + Sync {
    /// Returns the program's number.
    fn number(&self) -> u32;

    /// Returns the program's name, for statistics and logs.
    fn name(&self) -> &'static str;

    /// Returns the versions, lowest first.
    fn versions(&self) -> &'static [Version];

    /// Tells whether any caller at this address is served. Asked once for each connection.
    ///
    /// Connections from addresses that no program knows are served, but share the memory and the
    /// places of one client, and give way to all others.
    fn knows(&self, addr: IpAddr) -> bool {
        let _ = addr;
        true
    }

    /// Says whether this caller is served at all.
    ///
    /// Not asked for `NULL`.
    ///
    /// # Errors
    /// The status that the call is refused with.
    fn authorize(&self, peer: &Peer, cred: &Credential) -> Result<(), AuthStat> {
        let _ = (peer, cred);
        Ok(())
    }

    /// Carries out a call whose program, version and procedure are in the tables, and writes its
    /// results to [`Call::reply`].
    ///
    /// # Errors
    /// What to answer instead; what was written is taken back.
    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError>;
}
