//! Which CPU runs the caller, and which ones there are.
//!
//! The kernel keeps the CPU's number in a little area of each thread that has registered one for
//! restartable sequences, and the GNU C library registers one for every thread. Reading it there
//! is a single load, where asking the kernel through the vDSO takes some tens of instructions.
//!
//! # Source
//! `linux-6.12` `include/uapi/linux/rseq.h` `struct rseq`; `glibc` `manual/threads.texi`
//! "Restartable Sequences".

use core::num::NonZeroIsize;

use pagemill::CpuId;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::error::HostError;
use crate::sysfs::{self, CpuList};

/// How CPU numbers are read on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// From the thread pointer to the field `cpu_id` of the thread's area; `None` without areas.
    ///
    /// Upholds `rseq-registered`. It is never zero: at the thread pointer itself the C library
    /// keeps what the ABI asks of it. So `Option` costs a test and no memory.
    cpu_id_offset: Option<NonZeroIsize>,
    nr_possible: u32,
}

impl Cpus {
    /// Finds out how this process can read CPU numbers.
    ///
    /// # Cost
    /// Two symbol look-ups and a file; the result is to be kept.
    #[must_use]
    pub fn detect() -> Self {
        Self { cpu_id_offset: rseq::cpu_id_offset(), nr_possible: nr_possible() }
    }

    /// Returns the CPU that runs the caller, who may be elsewhere before it looks at the answer.
    ///
    /// # Cost
    /// One load from the thread's own memory and two branches where restartable sequences are
    /// [in use](Self::uses_rseq).
    #[inline]
    #[must_use]
    pub fn current(self) -> CpuId {
        if let Some(offset) = self.cpu_id_offset {
            // SAFETY:
            // 1. The offset is the one that detection found (`rseq-registered`).
            let cpu_id = unsafe { rseq::read_cpu_id(offset) };
            // Negative is a thread whose registration failed, or that unregistered.
            if let Ok(cpu) = u32::try_from(cpu_id) {
                return CpuId::new(cpu);
            }
        }
        ask_the_kernel()
    }

    /// Tells whether CPU numbers are read from the area for restartable sequences.
    #[must_use]
    pub fn uses_rseq(self) -> bool {
        self.cpu_id_offset.is_some()
    }

    /// Returns how many CPUs there can be: one more than the largest number.
    #[inline]
    #[must_use]
    pub fn nr_possible(self) -> u32 {
        self.nr_possible
    }

    /// Binds the calling thread to one CPU.
    ///
    /// # Errors
    /// [`HostError::PinTo`] if the CPU does not exist, is offline or is out of bounds for this
    /// process.
    pub fn pin_to(cpu: CpuId) -> Result<(), HostError> {
        let bind = || {
            let index = cpu.value() as usize;
            if index >= CpuSet::MAX_CPU {
                return Err(Errno::INVAL);
            }
            let mut set = CpuSet::new();
            set.set(index);
            sched_setaffinity(None, &set)
        };
        bind().map_err(|errno| HostError::PinTo { cpu, os: errno.into() })
    }

    /// Returns the CPUs that the calling thread may run on, smallest first.
    ///
    /// # Errors
    /// [`HostError::AllowedCpus`] if the machine has more than 1024 CPUs.
    pub fn allowed() -> Result<Vec<CpuId>, HostError> {
        let set =
            sched_getaffinity(None).map_err(|errno| HostError::AllowedCpus { os: errno.into() })?;
        let allowed = (0..CpuSet::MAX_CPU).filter(|&index| set.is_set(index));
        let numbers = allowed.filter_map(|index| u32::try_from(index).ok());
        Ok(numbers.map(CpuId::new).collect())
    }
}

/// Reads the CPU's number by `getcpu`.
#[cold]
fn ask_the_kernel() -> CpuId {
    let cpu = sched_getcpu();
    CpuId::new(u32::try_from(cpu).expect("the kernel numbers CPUs in 32 bits"))
}

/// Returns one more than the largest number of a CPU.
fn nr_possible() -> u32 {
    let possible = sysfs::read("/sys/devices/system/cpu/possible");
    if let Some(list) = possible.as_deref().and_then(CpuList::parse) {
        return list.highest.saturating_add(1);
    }
    // SAFETY:
    // 1. `sysconf` takes any name and touches no memory of ours.
    let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u32::try_from(configured).map_or(1, |nr| nr.max(1))
}

/// The area for restartable sequences, on the targets whose thread pointer is known here.
#[cfg(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    not(miri)
))]
mod rseq {
    use core::arch::asm;
    use core::ffi::{CStr, c_uint};
    use core::num::NonZeroIsize;
    use core::ptr::NonNull;

    /// Where `struct rseq` has the field `cpu_id`, after the 32 bits of `cpu_id_start`.
    const CPU_ID: isize = 4;
    /// What of `struct rseq` must be there so that `cpu_id` is.
    const SIZE_WITH_CPU_ID: c_uint = 8;

    /// Returns the distance from the thread pointer to `cpu_id`, if the C library keeps areas.
    pub(super) fn cpu_id_offset() -> Option<NonZeroIsize> {
        let size = symbol(c"__rseq_size")?.cast::<c_uint>();
        let offset = symbol(c"__rseq_offset")?.cast::<isize>();
        // SAFETY:
        // 1. glibc declares `const unsigned int __rseq_size`, and no other C library has the name.
        // 2. It is set before any code of the program runs, and never again.
        let size = unsafe { size.read() };
        if size < SIZE_WITH_CPU_ID {
            // The kernel has no restartable sequences, or the user turned them off.
            return None;
        }
        // SAFETY:
        // 1. glibc declares `const ptrdiff_t __rseq_offset`, and no other C library has the name.
        // 2. It is set before any code of the program runs, and never again.
        let offset = unsafe { offset.read() };
        let offset = NonZeroIsize::new(offset.checked_add(CPU_ID)?)?;
        // SAFETY:
        // 1. A size that is not zero says that the offset leads to each thread's area.
        let cpu_id = unsafe { read_cpu_id(offset) };
        (cpu_id >= 0).then_some(offset)
    }

    /// Reads `cpu_id` of the calling thread; negative while the thread is not registered.
    ///
    /// # Safety
    /// `offset` is what [`cpu_id_offset`] found in this process (`rseq-registered`).
    #[inline]
    pub(super) unsafe fn read_cpu_id(offset: NonZeroIsize) -> i32 {
        let cpu_id: i32;
        // `readonly` without `pure`: the value changes between two reads, so none may be elided.
        // SAFETY:
        // 1. The area is part of the thread's own control block, mapped while the thread runs and
        //    aligned to 32 bytes (`rseq-registered`).
        // 2. Only the kernel writes to it, and only while this thread does not run.
        // 3. The instructions touch neither the stack nor flags.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov {cpu_id:e}, dword ptr fs:[{offset}]",
                offset = in(reg) offset.get(),
                cpu_id = lateout(reg) cpu_id,
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: As on x86-64, and any process may read TPIDR_EL0, its thread pointer.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "mrs {thread}, tpidr_el0",
                "ldr {cpu_id:w}, [{thread}, {offset}]",
                offset = in(reg) offset.get(),
                thread = out(reg) _,
                cpu_id = lateout(reg) cpu_id,
                options(nostack, preserves_flags, readonly),
            );
        }
        cpu_id
    }

    /// Returns the address of a symbol that may not exist.
    fn symbol(name: &CStr) -> Option<NonNull<u8>> {
        // Not `extern`: the program must also start with a C library that lacks these symbols.
        // SAFETY:
        // 1. The name is a C string, and the handle one of the two that need no `dlopen`.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        NonNull::new(address.cast())
    }
}

/// The same on targets where the area cannot be read.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    not(miri)
)))]
mod rseq {
    use core::num::NonZeroIsize;

    /// Returns `None`.
    pub(super) fn cpu_id_offset() -> Option<NonZeroIsize> {
        None
    }

    /// Cannot be called.
    ///
    /// # Safety
    /// There is no offset to call it with.
    pub(super) unsafe fn read_cpu_id(_offset: NonZeroIsize) -> i32 {
        unreachable!("no offset was ever found on this target")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn current_is_one_of_the_possible() {
        let cpus = Cpus::detect();
        assert!(cpus.nr_possible() >= 1);
        for _ in 0..1000 {
            assert!(cpus.current().value() < cpus.nr_possible());
        }
    }

    #[test]
    fn detection_costs_no_more_than_an_offset_and_a_number() {
        assert_eq!(size_of::<Option<NonZeroIsize>>(), size_of::<isize>());
    }

    #[test]
    fn current_agrees_with_the_kernel_on_every_allowed_cpu() {
        // A thread of its own, since its affinity does not come back.
        let on_each = || {
            let with_rseq = Cpus::detect();
            let without = Cpus { cpu_id_offset: None, ..with_rseq };
            let allowed = Cpus::allowed().unwrap();
            assert!(!allowed.is_empty());
            for cpu in allowed {
                Cpus::pin_to(cpu).unwrap();
                assert_eq!(with_rseq.current(), cpu);
                assert_eq!(without.current(), cpu);
                assert_eq!(Cpus::allowed().unwrap(), [cpu]);
            }
        };
        thread::spawn(on_each).join().unwrap();
    }

    #[test]
    fn threads_read_their_own_areas() {
        let cpus = Cpus::detect();
        let allowed = Cpus::allowed().unwrap();
        thread::scope(|scope| {
            for &cpu in &allowed {
                scope.spawn(move || {
                    Cpus::pin_to(cpu).unwrap();
                    for _ in 0..1000 {
                        assert_eq!(cpus.current(), cpu);
                    }
                });
            }
        });
    }

    #[test]
    fn cpu_that_does_not_exist_is_refused_by_number() {
        for cpu in [1023, 1024, u32::MAX] {
            let result = thread::spawn(move || Cpus::pin_to(CpuId::new(cpu))).join().unwrap();
            if cpu == 1023 && Cpus::detect().nr_possible() > 1023 {
                continue;
            }
            let message = result.unwrap_err().to_string();
            assert!(message.contains(&format!("CPU {cpu}:")), "{message}");
        }
    }
}
