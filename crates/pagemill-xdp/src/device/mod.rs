//! What moves packets in and out: the trait, a loopback, a device with faults.

pub(crate) mod device;
pub(crate) mod fault;
pub(crate) mod loopback;
