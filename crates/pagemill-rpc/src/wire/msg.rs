//! RPC message headers: parses those of calls, writes those of replies.
//!
//! # Source
//! `rfc5531` section 9

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::wire::auth::{AUTH_NONE, OpaqueAuth};
use crate::wire::error::{AuthStat, XdrError};
use crate::wire::xdr::{XdrReader, XdrWrite};

/// The version of the RPC protocol.
pub const RPC_VERSION: u32 = 2;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;

/// The header of a call: its transaction id, program, version and procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the words of a call header")]
pub struct CallHeader {
    /// The client's transaction id of the call.
    pub xid: u32,
    /// The program.
    pub prog: u32,
    /// The program's version.
    pub vers: u32,
    /// The procedure.
    pub proc: u32,
}

/// A received message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A call, with the credential and the verifier unchecked. The arguments follow.
    Call {
        /// The header.
        header: CallHeader,
        /// The credential.
        cred: OpaqueAuth<'a>,
        /// The verifier.
        verf: OpaqueAuth<'a>,
    },
    /// A call that gets a reply but cannot be carried out.
    Refused {
        /// The client's transaction id of the call.
        xid: u32,
        /// The status of the reply.
        status: ReplyStatus,
    },
    /// Too short for a reply.
    Short,
    /// A reply, or an unknown message type: it gets no reply.
    NotACall,
}

impl<'a> Message<'a> {
    /// Reads a message up to the arguments.
    #[must_use]
    pub fn read(reader: &mut XdrReader<'a>) -> Self {
        let (Ok(xid), Ok(direction)) = (reader.u32(), reader.u32()) else { return Self::Short };
        if direction != CALL {
            return Self::NotACall;
        }
        match reader.u32() {
            Ok(RPC_VERSION) => {}
            Ok(_) => return Self::Refused { xid, status: ReplyStatus::RpcMismatch },
            Err(_) => return Self::Short,
        }
        let (Ok(prog), Ok(vers), Ok(proc)) = (reader.u32(), reader.u32(), reader.u32()) else {
            return Self::Short;
        };
        let Ok(cred) = OpaqueAuth::read(reader) else {
            return Self::Refused { xid, status: ReplyStatus::GarbageArgs };
        };
        let Ok(verf) = OpaqueAuth::read(reader) else {
            return Self::Refused { xid, status: ReplyStatus::AuthError(AuthStat::BadVerf) };
        };
        Self::Call { header: CallHeader { xid, prog, vers, proc }, cred, verf }
    }
}

/// The status in a reply's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyStatus {
    /// `SUCCESS`: the results follow.
    Success,
    /// `PROG_UNAVAIL`
    ProgUnavail,
    /// `PROG_MISMATCH`, with the supported versions.
    ProgMismatch {
        /// The lowest version.
        low: u32,
        /// The highest version.
        high: u32,
    },
    /// `PROC_UNAVAIL`
    ProcUnavail,
    /// `GARBAGE_ARGS`
    GarbageArgs,
    /// `SYSTEM_ERR`
    SystemErr,
    /// `RPC_MISMATCH`: the call uses another version of the protocol.
    RpcMismatch,
    /// `AUTH_ERROR`
    AuthError(AuthStat),
}

impl ReplyStatus {
    /// Writes the header of the reply to the call `xid`.
    ///
    /// # Errors
    /// [`XdrError::NoRoom`].
    pub fn write(self, xid: u32, to: &mut impl XdrWrite) -> Result<(), XdrError> {
        to.u32(xid)?;
        to.u32(REPLY)?;
        let accepted = match self {
            Self::Success => 0,
            Self::ProgUnavail => 1,
            Self::ProgMismatch { .. } => 2,
            Self::ProcUnavail => 3,
            Self::GarbageArgs => 4,
            Self::SystemErr => 5,
            Self::RpcMismatch => {
                return words(to, &[MSG_DENIED, RPC_MISMATCH, RPC_VERSION, RPC_VERSION]);
            }
            Self::AuthError(stat) => return words(to, &[MSG_DENIED, AUTH_ERROR, stat.value()]),
        };
        // The verifier is empty, because neither of the accepted flavours has one.
        words(to, &[MSG_ACCEPTED, AUTH_NONE, 0, accepted])?;
        match self {
            Self::ProgMismatch { low, high } => words(to, &[low, high]),
            _ => Ok(()),
        }
    }
}

fn words(to: &mut impl XdrWrite, words: &[u32]) -> Result<(), XdrError> {
    words.iter().try_for_each(|&word| to.u32(word))
}
