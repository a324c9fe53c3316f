//! Protocol types: status codes, attributes, file handles and their key, names, XDR.

pub(crate) mod attr;
pub(crate) mod fh;
pub(crate) mod key;
pub(crate) mod name;
pub(crate) mod status;
pub(crate) mod wire;
