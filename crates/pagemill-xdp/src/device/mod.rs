//! Devices: the trait, a loopback device, and a device with faults.

pub(crate) mod device;
pub(crate) mod fault;
pub(crate) mod loopback;
