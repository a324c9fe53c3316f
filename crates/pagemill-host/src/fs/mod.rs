//! System calls for file servers that neither std nor rustix wraps: file handles, identities, a socket
//! option.

#[expect(unsafe_code, reason = "system calls about one thread")]
pub(crate) mod credentials;
#[expect(unsafe_code, reason = "system calls with a structure of variable length")]
pub(crate) mod file_handle;
#[expect(unsafe_code, reason = "a socket option")]
pub(crate) mod socket;
