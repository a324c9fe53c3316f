//! What can be wrong with bytes from the wire, with a call, and with a server's settings.

use core::fmt;

/// Why bytes are not the XDR that was expected, or do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum XdrError {
    /// The bytes end before the value does.
    Truncated,
    /// A length is above what is allowed in its place.
    TooLong {
        /// The length on the wire.
        len: u32,
        /// The largest that is allowed.
        max: usize,
    },
    /// A truth value is neither 0 nor 1.
    BadBool {
        /// The word on the wire.
        value: u32,
    },
    /// A word is none of the values that an enumeration has.
    BadEnum {
        /// The enumeration, as its RFC spells it.
        name: &'static str,
        /// The word on the wire.
        value: u32,
        /// The values that it has.
        allowed: &'static str,
    },
    /// A reply has no room for what is appended.
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

/// Why a procedure gives no results; each is answered with exactly one status, or not at all.
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
    /// The server cannot answer for reasons of its own: `SYSTEM_ERR`.
    SystemErr,
    /// The caller may not do this: `AUTH_ERROR`.
    Auth(AuthStat),
    /// The call is to get no answer at all; the client will ask again.
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
    /// The client must begin a new session.
    RejectedCred = 2,
    /// The verifier is malformed.
    BadVerf = 3,
    /// The verifier is used up.
    RejectedVerf = 4,
    /// The flavour is not accepted here.
    TooWeak = 5,
}

impl AuthStat {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        self as u32
    }
}

/// What is wrong with a server's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What is allowed.
    pub allowed: core::ops::RangeInclusive<u64>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.allowed.start(), self.allowed.end());
        write!(f, "{} is {}: use a number from {first} to {last}", self.field, self.value)
    }
}

impl core::error::Error for ConfigError {}
