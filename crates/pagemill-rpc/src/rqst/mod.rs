//! One request: its pages, its arguments and its reply.

pub(crate) mod pages;
pub(crate) mod payload;
pub(crate) mod reply;
pub(crate) mod rqst;
pub(crate) mod splice;
