//! AF_XDP rings and frame region of one socket, as the kernel shares them.

#[expect(unsafe_code, reason = "memory that is shared with the kernel")]
pub(crate) mod mapping;
#[expect(unsafe_code, reason = "guarantees to the rings that frames in flight are not accessed")]
pub(crate) mod queue;
#[expect(unsafe_code, reason = "slots that the kernel reads and writes")]
pub(crate) mod rings;
