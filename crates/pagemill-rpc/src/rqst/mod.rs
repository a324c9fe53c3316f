//! One request: its pages, arguments, spliced data and reply.

pub(crate) mod pages;
pub(crate) mod payload;
pub(crate) mod reply;
pub(crate) mod rqst;
pub(crate) mod splice;
