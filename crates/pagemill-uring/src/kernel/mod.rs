//! The kernel's side: the buffer ring, the requests that the kernel has, and their completions.

pub(crate) mod books;
#[expect(unsafe_code, reason = "memory that is shared with the kernel")]
pub(crate) mod buffer_ring;
pub(crate) mod completion;
#[expect(unsafe_code, reason = "requests that name memory by address")]
pub(crate) mod kernel_ring;
pub(crate) mod ledger;
pub(crate) mod port;
#[expect(unsafe_code, reason = "an array of addresses that may move to another thread")]
pub(crate) mod send_request;
