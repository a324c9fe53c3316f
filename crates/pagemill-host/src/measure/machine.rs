//! Description of the machine that a measurement was made on.

use core::fmt;

use crate::cpu::cpu::{self, Cpus};
use crate::cpu::sysfs;

/// Facts about the machine for a report; `None` for what cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Name of the CPU's model.
    pub cpu_model: Option<String>,
    /// Number of CPUs that are online.
    pub nr_cpus: Option<u32>,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel_release: Option<String>,
    /// The frequency governor of the first CPU; a virtual machine has none.
    pub governor: Option<String>,
    /// The system's setting for transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Number of pages in the hugetlb pool, used or not.
    pub nr_hugepages: Option<u64>,
    /// The size of the machine's memory.
    pub memory_bytes: Option<u64>,
    /// Whether CPU numbers are read from the restartable-sequence area.
    pub rseq: Option<bool>,
}

impl Machine {
    /// Describes the machine that runs this process.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            cpu_model: sysfs::read("/proc/cpuinfo").and_then(|cpuinfo| cpu_model(&cpuinfo)),
            nr_cpus: cpu::nr_online(),
            kernel_release: kernel_release(),
            governor: sysfs::read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            transparent_huge_pages: sysfs::read("/sys/kernel/mm/transparent_hugepage/enabled")
                .and_then(|choices| sysfs::selected(&choices).map(str::to_owned)),
            nr_hugepages: sysfs::read("/proc/sys/vm/nr_hugepages")
                .and_then(|count| count.parse().ok()),
            memory_bytes: sysfs::read("/proc/meminfo").and_then(|meminfo| memory_bytes(&meminfo)),
            rseq: Some(Cpus::detect().uses_rseq()),
        }
    }
}

impl fmt::Display for Machine {
    /// Writes the known facts on one line: `AMD EPYC, 2 CPUs, 23.5 GiB, Linux 6.18.44, ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.cpu_model.clone(),
            self.nr_cpus.map(|nr| match nr {
                1 => "1 CPU".to_owned(),
                _ => format!("{nr} CPUs"),
            }),
            self.memory_bytes.map(gibibytes),
            self.kernel_release.as_ref().map(|it| format!("Linux {it}")),
            self.governor.as_ref().map(|it| format!("governor {it}")),
            self.transparent_huge_pages.as_ref().map(|it| format!("THP {it}")),
            self.nr_hugepages.map(|nr| format!("nr_hugepages {nr}")),
            self.rseq.map(|rseq| match rseq {
                true => "rseq in use".to_owned(),
                false => "rseq not in use".to_owned(),
            }),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        if known.is_empty() {
            f.write_str("unknown machine")
        } else {
            f.write_str(&known.join(", "))
        }
    }
}

fn kernel_release() -> Option<String> {
    let release = rustix::system::uname().release().to_str().ok()?.to_owned();
    (!release.is_empty()).then_some(release)
}

/// Returns the kernel's name for the first CPU; not all architectures have one.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let name = ["model name", "Model", "cpu model", "cpu", "uarch"]
        .into_iter()
        .find_map(|key| sysfs::field(cpuinfo, key))?;
    Some(name.to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = sysfs::field(meminfo, "MemTotal")?;
    let kibibytes: u64 = total.strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Writes bytes as GiB with one decimal, rounded down.
fn gibibytes(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;

    let tenths = bytes % GIB * 10 / GIB;
    format!("{}.{tenths} GiB", bytes / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described_in_one_line() {
        let machine = Machine::detect();
        assert!(machine.kernel_release.is_some());
        assert!(machine.memory_bytes.is_none_or(|bytes| bytes > 0));
        let line = machine.to_string();
        assert!(line.contains("Linux "), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn line_tells_all_that_is_known() {
        let machine = Machine {
            cpu_model: Some("AMD EPYC".to_owned()),
            nr_cpus: Some(2),
            kernel_release: Some("6.18.44".to_owned()),
            governor: Some("performance".to_owned()),
            transparent_huge_pages: Some("madvise".to_owned()),
            nr_hugepages: Some(512),
            memory_bytes: Some(24_105 << 20),
            rseq: Some(true),
        };
        assert_eq!(
            machine.to_string(),
            "AMD EPYC, 2 CPUs, 23.5 GiB, Linux 6.18.44, governor performance, THP madvise, \
             nr_hugepages 512, rseq in use"
        );
    }

    #[test]
    fn unknown_things_are_left_out() {
        let machine = Machine { nr_cpus: Some(1), rseq: Some(false), ..Machine::default() };
        assert_eq!(machine.to_string(), "1 CPU, rseq not in use");
        assert_eq!(Machine::default().to_string(), "unknown machine");
    }

    #[test]
    fn files_of_the_kernel_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("AMD EPYC"));
        assert_eq!(cpu_model("processor : 0\n"), None);
        let meminfo = "MemTotal:       24683412 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_bytes(meminfo), Some(24_683_412 * 1024));
        assert_eq!(memory_bytes("MemTotal: many kB\n"), None);
    }
}
