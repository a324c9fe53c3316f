//! Wire formats: XDR, record marks, message headers, credentials. No I/O; every length is limited.

pub(crate) mod auth;
pub(crate) mod error;
pub(crate) mod msg;
pub(crate) mod record;
pub(crate) mod sync;
pub(crate) mod xdr;
