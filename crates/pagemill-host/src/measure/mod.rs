//! Tools for benchmarks: clocks, facts about the machine, context switches, private namespaces.

#[expect(unsafe_code, reason = "the time stamp counter")]
pub(crate) mod clock;
pub(crate) mod machine;
#[expect(unsafe_code, reason = "system calls about namespaces")]
pub(crate) mod sandbox;
#[expect(unsafe_code, reason = "a system call")]
pub(crate) mod switches;
