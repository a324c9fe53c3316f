//! Rings shared with the other side: slots, descriptors, and the frames in flight.

pub(crate) mod descriptor;
pub(crate) mod in_flight;
pub(crate) mod ring;
pub(crate) mod rx;
pub(crate) mod tx;
