//! Errors of XDR data, of calls, and of a server's configuration.

use core::fmt;

/// Why bytes could not be read or written as XDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdrError {
    /// The bytes end before the value does.
    Truncated,
    /// A length exceeds the limit for its field.
    TooLong {
        /// The length on the wire.
        len: u32,
        /// The largest allowed length.
        max: usize,
    },
    /// A boolean is neither 0 nor 1.
    BadBool {
        /// The word on the wire.
        value: u32,
    },
    /// A word is not a value of its enumeration.
    BadEnum {
        /// The enumeration, as its RFC spells it.
        name: &'static str,
        /// The word on the wire.
        value: u32,
        /// The values of the enumeration.
        allowed: &'static str,
    },
    /// A reply has no room for the appended bytes.
    NoRoom,
}

impl fmt::Display for XdrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends in the middle of a value"),
            Self::TooLong { len, max } => {
                write!(f, "a value says that it has {len} elements; at most {max} are allowed here")
            }
            Self::BadBool { value } => write!(f, "a truth value is {value}; it must be 0 or 1"),
            Self::BadEnum { name, value, allowed } => {
                write!(f, "{name} is {value}; it must be {allowed}")
            }
            Self::NoRoom => f.write_str("the reply has no room for what is to be appended"),
        }
    }
}

impl core::error::Error for XdrError {}

/// Why a procedure returns no results; each variant maps to exactly one reply status, or to no reply.
///
/// # Source
/// `rfc5531` section 9
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The arguments could not be decoded: `GARBAGE_ARGS`.
    GarbageArgs(XdrError),
    /// There is no such procedure: `PROC_UNAVAIL`.
    ProcUnavail,
    /// The server cannot process the call for internal reasons: `SYSTEM_ERR`.
    SystemErr,
    /// The caller may not do this: `AUTH_ERROR`.
    Auth(AuthStat),
    /// The call gets no reply; the client will retransmit it.
    Drop,
}

impl From<XdrError> for CallError {
    fn from(error: XdrError) -> Self {
        match error {
            XdrError::NoRoom => Self::SystemErr,
            error => Self::GarbageArgs(error),
        }
    }
}

impl From<AuthStat> for CallError {
    fn from(stat: AuthStat) -> Self {
        Self::Auth(stat)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GarbageArgs(error) => write!(f, "the arguments cannot be decoded: {error}"),
            Self::ProcUnavail => f.write_str("there is no such procedure"),
            Self::SystemErr => f.write_str("the server cannot answer"),
            Self::Auth(stat) => write!(f, "the credential is refused: {stat:?}"),
            Self::Drop => f.write_str("the call is left unanswered"),
        }
    }
}

impl core::error::Error for CallError {}

/// Why a credential is refused.
///
/// # Source
/// `rfc5531` section 9 `auth_stat`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum AuthStat {
    /// The credential is malformed.
    BadCred = 1,
    /// The client must start a new session.
    RejectedCred = 2,
    /// The verifier is malformed.
    BadVerf = 3,
    /// The verifier has expired.
    RejectedVerf = 4,
    /// The flavour is not accepted by this server.
    TooWeak = 5,
}

impl AuthStat {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        self as u32
    }
}

/// An invalid field in a server's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// The allowed range.
    pub allowed: core::ops::RangeInclusive<u64>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.allowed.start(), self.allowed.end());
        write!(f, "{} is {}: use a number from {first} to {last}", self.field, self.value)
    }
}

impl core::error::Error for ConfigError {}
