//! What is on the wire: XDR, record marks, message headers, credentials. No I/O; every length is capped.

pub(crate) mod auth;
pub(crate) mod error;
pub(crate) mod msg;
pub(crate) mod record;
pub(crate) mod sync;
pub(crate) mod xdr;
