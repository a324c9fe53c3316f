//! CPU numbers: which CPU runs the caller, which CPUs exist, and binding a thread to one.

use pagemill::units::CpuId;
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::cpu::rseq::Area;
use crate::cpu::sysfs::{self, CpuList};
use crate::error::HostError;

/// How CPU numbers are read on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// Where each thread finds its CPU's number; `None` if it must call `getcpu`.
    area: Option<Area>,
    nr_possible: u32,
}

impl Cpus {
    /// Detects how this process can read CPU numbers.
    ///
    /// # Cost
    /// Two symbol look-ups and reading a file; callers should keep the result.
    #[must_use]
    pub fn detect() -> Self {
        Self { area: Area::find(), nr_possible: nr_possible() }
    }

    /// Returns the CPU that runs the caller; the caller may have moved by the time it uses the result.
    ///
    /// # Cost
    /// One load from the thread's own memory and two branches where restartable sequences are
    /// [in use](Self::uses_rseq).
    #[inline]
    #[must_use]
    pub fn current(self) -> CpuId {
        match self.area.and_then(Area::cpu) {
            Some(cpu) => cpu,
            None => ask_the_kernel(),
        }
    }

    /// Returns whether CPU numbers are read from the restartable-sequence area.
    #[must_use]
    pub fn uses_rseq(self) -> bool {
        self.area.is_some()
    }

    /// Returns one more than the largest possible CPU number.
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
#[cfg(target_arch = "x86_64")]
#[cold]
#[inline(never)]
fn ask_the_kernel() -> CpuId {
    // Through the vDSO, so no filter can refuse it; a call of the C library's would take longer.
    let cpu = rustix::thread::sched_getcpu();
    CpuId::new(u32::try_from(cpu).expect("the kernel numbers CPUs in 32 bits"))
}

/// Reads the CPU's number by `getcpu`; returns zero if that is refused.
///
/// Any number is correct: threads that get the same number share its lists. Without a vDSO, this is a
/// system call, which a seccomp filter may refuse at any time.
#[cfg(not(target_arch = "x86_64"))]
#[cold]
#[inline(never)]
fn ask_the_kernel() -> CpuId {
    // SAFETY:
    // 1. The call takes no arguments and returns a number, or -1.
    let cpu = unsafe { libc::sched_getcpu() };
    CpuId::new(u32::try_from(cpu).unwrap_or(0))
}

/// Returns the number of CPUs that are online, if known.
pub(crate) fn nr_online() -> Option<u32> {
    let online = sysfs::read("/sys/devices/system/cpu/online")?;
    Some(CpuList::parse(&online)?.count)
}

/// Returns one more than the largest possible CPU number.
fn nr_possible() -> u32 {
    let possible = sysfs::read("/sys/devices/system/cpu/possible");
    if let Some(list) = possible.as_deref().and_then(CpuList::parse) {
        return list.highest.saturating_add(1);
    }
    // SAFETY:
    // 1. `sysconf` accepts any name and accesses no memory of the process.
    let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u32::try_from(configured).map_or(1, |nr| nr.max(1))
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
        assert_eq!(size_of::<Option<Area>>(), size_of::<isize>());
    }

    #[test]
    fn current_agrees_with_the_kernel_on_every_allowed_cpu() {
        // A thread of its own, since its affinity does not come back.
        let on_each = || {
            let with_rseq = Cpus::detect();
            let without = Cpus { area: None, ..with_rseq };
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
