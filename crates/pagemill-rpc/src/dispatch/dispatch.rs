//! Dispatcher: from a call message to its program, version and procedure, and from there to the reply.
//!
//! No I/O and no threads: works on bytes that have been received.

use alloc::sync::Arc;
use core::fmt;
use core::net::IpAddr;
use std::time::Instant;

use pagemill::units::PAGE_SIZE;

use crate::dispatch::program::{Blocking, Call, Data, Peer, Procedure, Program, Replies};
use crate::dispatch::reply_cache::{CallKey, ReplyCache, ReplyCacheLimits, Seen};
use crate::panics::caught;
use crate::rqst::pages::Frames;
use crate::rqst::reply::Body;
use crate::rqst::rqst::Rqst;
use crate::stats::{ProcedureStats, Stats};
use crate::wire::auth::Credential;
use crate::wire::error::CallError;
use crate::wire::msg::{CallHeader, Message, ReplyStatus};
use crate::wire::record::MARK_BYTES;
use crate::wire::xdr::XdrWrite;

/// `NULL`, procedure 0 of every version of every program.
const NULL: Procedure = Procedure::quick("NULL");

/// The largest reply that the cache keeps for retransmitted calls.
const MAX_KEPT_BYTES: usize = PAGE_SIZE;

/// What the worker does with a message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Route {
    /// Runs a procedure.
    Run(Target),
    /// Replies with a status.
    Refuse {
        /// The client's transaction id of the call.
        xid: u32,
        /// The status.
        status: ReplyStatus,
    },
    /// Sends no reply.
    Ignore,
    /// Sends no reply and closes the connection: its stream cannot be trusted any more, or the program
    /// panicked.
    Close,
}

impl Route {
    /// Returns how long the message may occupy its thread.
    #[must_use]
    pub fn blocking(&self) -> Blocking {
        match self {
            Self::Run(target) => target.procedure.blocking,
            _ => Blocking::No,
        }
    }
}

/// A procedure and its caller.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    header: CallHeader,
    cred: Credential,
    program: usize,
    version: usize,
    procedure: &'static Procedure,
}

/// What to send for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is one or not")]
pub enum Verdict {
    /// The reply is complete and is sent.
    Reply,
    /// Nothing is sent.
    Silence,
    /// Nothing is sent, and the connection is closed: the procedure panicked.
    Close,
}

/// The result of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// Whether a procedure other than `NULL` ran for the message and succeeded, also in the program's
    /// own terms. Such a call counts as useful work of the connection.
    pub(crate) is_useful: bool,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, is_useful: false }
    }
}

struct Served<S: Frames> {
    program: Arc<dyn Program<S>>,
    /// Indexed by version, then by procedure.
    stats: Vec<Vec<ProcedureStats>>,
}

/// The programs of a server, and its reply cache.
pub struct Dispatcher<S: Frames> {
    programs: Vec<Served<S>>,
    replies: ReplyCache,
    stats: Stats,
    start: Instant,
}

impl<S: Frames> Dispatcher<S> {
    /// Makes a dispatcher for `programs`.
    #[must_use]
    pub fn new(programs: Vec<Arc<dyn Program<S>>>, limits: ReplyCacheLimits) -> Self {
        let serve = |program: Arc<dyn Program<S>>| {
            let counters = |nr: usize| (0..nr.max(1)).map(|_| ProcedureStats::default()).collect();
            let versions = program.versions();
            let stats = versions.iter().map(|version| counters(version.procedures.len())).collect();
            Served { program, stats }
        };
        Self {
            programs: programs.into_iter().map(serve).collect(),
            replies: ReplyCache::new(limits),
            stats: Stats::default(),
            start: Instant::now(),
        }
    }

    /// Returns the programs.
    pub fn programs(&self) -> impl Iterator<Item = &Arc<dyn Program<S>>> {
        self.programs.iter().map(|served| &served.program)
    }

    /// Returns the server's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns the reply cache.
    #[must_use]
    pub fn replies(&self) -> &ReplyCache {
        &self.replies
    }

    /// Returns the counters of each procedure, with the program's name, the version's number and the
    /// procedure's name.
    pub fn procedure_stats(
        &self,
    ) -> impl Iterator<Item = (&'static str, u32, &'static str, &ProcedureStats)> {
        self.programs.iter().flat_map(|served| {
            let name = served.program.name();
            let versions = served.program.versions().iter().zip(&served.stats);
            versions.flat_map(move |(version, stats)| {
                stats.iter().enumerate().map(move |(number, stats)| {
                    let proc = version.procedures.get(number).map_or(NULL.name, |proc| proc.name);
                    (name, version.number, proc, stats)
                })
            })
        })
    }

    /// Returns whether any program serves callers at `addr`.
    pub(crate) fn knows(&self, addr: IpAddr) -> bool {
        self.programs.iter().any(|served| {
            let program = served.program.name();
            let report = |message: &str| {
                self.stats.panicked.bump();
                tracing::error!(program, client = %addr, message, "a look at a client panicked");
            };
            // Each call is authorized separately, so a panic here decides nothing.
            caught(|| served.program.knows(addr), report).unwrap_or(true)
        })
    }

    /// Returns whether data of the call that begins in the request's pages may be spliced.
    pub(crate) fn may_splice(&self, rqst: &mut Rqst<S>) -> bool {
        let (mut reader, _) = rqst.parts();
        let Message::Call { header, .. } = Message::read(&mut reader) else { return false };
        self.procedure(&header).is_ok_and(|(_, _, procedure)| procedure.data == Data::MayBeSpliced)
    }

    /// Reads a message up to the arguments, whose place the request then knows, and decides what to do
    /// with it.
    pub fn route(&self, rqst: &mut Rqst<S>, peer: &Peer) -> Route {
        let (mut reader, _) = rqst.parts();
        let len = reader.remaining();
        let message = Message::read(&mut reader);
        let header_len = len - reader.remaining();
        let (header, cred) = match message {
            Message::Call { header, cred, verf } => (header, Credential::check(&cred, &verf)),
            Message::Refused { xid, status } => return self.refuse(xid, status),
            Message::NotACall => {
                self.stats.ignored.bump();
                return Route::Ignore;
            }
            Message::Short => {
                self.stats.ignored.bump();
                self.stats.misbehaved.bump();
                return Route::Close;
            }
        };
        rqst.set_header_len(header_len);
        self.stats.calls.bump();
        let cred = match cred {
            Ok(cred) => cred,
            Err(stat) => return self.refuse(header.xid, ReplyStatus::AuthError(stat)),
        };
        match self.find(&header, peer, &cred) {
            Ok((program, version, procedure)) => {
                Route::Run(Target { header, cred, program, version, procedure })
            }
            Err(Some(status)) => self.refuse(header.xid, status),
            Err(None) => Route::Close,
        }
    }

    /// Carries out the decision; what is sent is the request's reply.
    pub fn run(&self, rqst: &mut Rqst<S>, peer: &Peer, route: &Route) -> Verdict {
        self.judge(rqst, peer, route).verdict
    }

    /// Does what [`run`](Self::run) does, and returns whether the call was useful.
    pub(crate) fn judge(&self, rqst: &mut Rqst<S>, peer: &Peer, route: &Route) -> Outcome {
        match route {
            Route::Run(target) => self.carry_out(rqst, peer, target),
            &Route::Refuse { xid, status } => answer(rqst, xid, status).into(),
            Route::Ignore | Route::Close => Verdict::Silence.into(),
        }
    }

    fn refuse(&self, xid: u32, status: ReplyStatus) -> Route {
        self.stats.refused.bump();
        Route::Refuse { xid, status }
    }

    /// Returns the procedure that is called, or the status to refuse the call with; `None` after a
    /// panic.
    fn find(
        &self,
        header: &CallHeader,
        peer: &Peer,
        cred: &Credential,
    ) -> Result<(usize, usize, &'static Procedure), Option<ReplyStatus>> {
        let (program, version, procedure) = self.procedure(header)?;
        if header.proc != 0 {
            let served = &self.programs[program].program;
            self.guarded(&**served, procedure, header, peer, || served.authorize(peer, cred))
                .ok_or(None)?
                .map_err(ReplyStatus::AuthError)?;
        }
        Ok((program, version, procedure))
    }

    fn procedure(
        &self,
        header: &CallHeader,
    ) -> Result<(usize, usize, &'static Procedure), ReplyStatus> {
        let number = |served: &Served<S>| served.program.number() == header.prog;
        let program = self.programs.iter().position(number).ok_or(ReplyStatus::ProgUnavail)?;
        let served = &self.programs[program].program;
        let versions = served.versions();
        let Some(version) = versions.iter().position(|version| version.number == header.vers)
        else {
            let low = versions.first().map_or(0, |version| version.number);
            let high = versions.last().map_or(0, |version| version.number);
            return Err(ReplyStatus::ProgMismatch { low, high });
        };
        if header.proc == 0 {
            return Ok((program, version, &NULL));
        }
        let index = usize::try_from(header.proc).unwrap_or(usize::MAX);
        let procedure = versions[version].procedures.get(index).ok_or(ReplyStatus::ProcUnavail)?;
        Ok((program, version, procedure))
    }

    fn carry_out(&self, rqst: &mut Rqst<S>, peer: &Peer, target: &Target) -> Outcome {
        let begun = Instant::now();
        let key = (target.procedure.replies == Replies::Kept).then(|| self.key(rqst, peer, target));
        if let Some(key) = &key {
            match self.replies.begin(key, self.start.elapsed()) {
                Seen::New => {}
                Seen::InProgress => return Verdict::Silence.into(),
                // Not useful: the first call was counted when it was carried out.
                Seen::Done(reply) => {
                    let verdict = match rqst.reply().put(&reply) {
                        Ok(()) => Verdict::Reply,
                        Err(_) => Verdict::Silence,
                    };
                    return verdict.into();
                }
            }
        }
        let status = self.invoke(rqst, peer, target);
        if let Some(key) = &key {
            self.keep(rqst, key, status.is_ok());
        }
        let served = &self.programs[target.program];
        let index = usize::try_from(target.header.proc).unwrap_or(usize::MAX);
        if let Some(stats) = served.stats[target.version].get(index) {
            stats.ran(begun.elapsed(), status.is_ok());
        }
        status.unwrap_or_else(Outcome::from)
    }

    /// Runs the procedure. An error is a call without results, with or without a reply.
    fn invoke(&self, rqst: &mut Rqst<S>, peer: &Peer, target: &Target) -> Result<Outcome, Verdict> {
        let xid = target.header.xid;
        let (args, behind, reply) = rqst.args();
        let before = reply.mark();
        if ReplyStatus::Success.write(xid, reply).is_err() {
            return Err(Verdict::Silence);
        }
        if target.header.proc == 0 {
            return Ok(Verdict::Reply.into());
        }
        let (header, peer_of, cred) = (target.header, *peer, target.cred);
        let mut call = Call { header, peer: peer_of, cred, args, reply, behind, is_useful: true };
        let program = &*self.programs[target.program].program;
        let done = self
            .guarded(program, target.procedure, &target.header, peer, || program.call(&mut call));
        let status = match done.ok_or(Verdict::Close)? {
            Ok(()) => return Ok(Outcome { verdict: Verdict::Reply, is_useful: call.is_useful }),
            Err(CallError::GarbageArgs(_)) => ReplyStatus::GarbageArgs,
            Err(CallError::ProcUnavail) => ReplyStatus::ProcUnavail,
            Err(CallError::SystemErr) => ReplyStatus::SystemErr,
            Err(CallError::Auth(stat)) => ReplyStatus::AuthError(stat),
            Err(CallError::Drop) => return Err(Verdict::Silence),
        };
        rqst.reply().truncate(before);
        Err(answer(rqst, xid, status))
    }

    /// Runs `work` of a program; `None` if it panics.
    fn guarded<T>(
        &self,
        program: &dyn Program<S>,
        procedure: &Procedure,
        header: &CallHeader,
        peer: &Peer,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        caught(work, |message| {
            self.stats.panicked.bump();
            tracing::error!(
                program = program.name(),
                procedure = procedure.name,
                xid = header.xid,
                client = %peer.addr,
                message,
                "a call panicked"
            );
        })
    }

    fn key(&self, rqst: &mut Rqst<S>, peer: &Peer, target: &Target) -> CallKey {
        // The key does not depend on how the call was received.
        let behind_len = rqst.call_len() - rqst.parts().0.remaining();
        let (args, ..) = rqst.args();
        self.replies.key(peer.addr, target.header, args, behind_len)
    }

    fn keep(&self, rqst: &mut Rqst<S>, key: &CallKey, ok: bool) {
        let reply = rqst.reply();
        let head = reply.head_len();
        if !ok || !matches!(reply.body(), Body::None) || head > MAX_KEPT_BYTES {
            return self.replies.forget(key);
        }
        let bytes: Vec<u8> = reply.pages().slices(MARK_BYTES, head).flatten().copied().collect();
        self.replies.finish(key, bytes.into_boxed_slice());
    }
}

fn answer<S: Frames>(rqst: &mut Rqst<S>, xid: u32, status: ReplyStatus) -> Verdict {
    match status.write(xid, rqst.reply()) {
        Ok(()) => Verdict::Reply,
        Err(_) => Verdict::Silence,
    }
}

impl<S: Frames> fmt::Debug for Dispatcher<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.programs().map(|program| program.name()).collect();
        f.debug_struct("Dispatcher").field("programs", &names).finish_non_exhaustive()
    }
}
