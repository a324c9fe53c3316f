//! Packets: the loop of the commands that run until they are stopped, and the benchmark.
//!
//! [`drive`] moves packets and takes a sample each second. [`trial`] compares two ways of
//! allocating on traffic that a [`generator`] makes. A [`holder`] is the thread that keeps
//! packets. Frames come from a [`supply`]. [`status`] is what `pagemill top` shows.

pub(crate) mod drive;
pub(crate) mod generator;
pub(crate) mod holder;
pub(crate) mod status;
pub(crate) mod supply;
pub(crate) mod trial;
