//! Clocks, facts about the machine, and private namespaces, for benchmarks.

#[expect(unsafe_code, reason = "the time stamp counter")]
pub(crate) mod clock;
pub(crate) mod machine;
#[expect(unsafe_code, reason = "system calls about namespaces")]
pub(crate) mod sandbox;
#[expect(unsafe_code, reason = "a system call")]
pub(crate) mod switches;
