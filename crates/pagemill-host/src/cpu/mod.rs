//! CPUs: numbers, restartable sequences, and the kernel's description of the topology.

#[expect(unsafe_code, reason = "a system call")]
pub(crate) mod cpu;
#[expect(unsafe_code, reason = "a call of the loader")]
pub(crate) mod resident;
#[expect(unsafe_code, reason = "the restartable sequence that claims lists")]
pub(crate) mod rseq;
pub(crate) mod sysfs;
