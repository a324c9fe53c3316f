//! CPU time and memory of a server, from `/proc`.

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Measures a process, or all threads of this process except the first.
#[derive(Clone, Debug)]
pub struct Meter {
    folder: PathBuf,
    /// The thread that is excluded.
    except: Option<PathBuf>,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory.
    pub now: u64,
    /// Peak of the resident memory since the last [`Meter::forget_peak`].
    pub peak: u64,
}

/// Unit of CPU time in `/proc`: `USER_HZ`, which is the same on all current Linux machines.
const TICKS_PER_SECOND: u32 = 100;

impl Meter {
    /// Measures process `pid`.
    ///
    /// # Errors
    /// If there is none.
    pub fn process(pid: u32) -> anyhow::Result<Self> {
        let meter = Self { folder: format!("/proc/{pid}").into(), except: None };
        meter.cpu().map(|_| meter)
    }

    /// Measures the threads of this process except the first, which makes the load.
    pub fn other_threads() -> Self {
        let first = format!("/proc/self/task/{}", std::process::id());
        Self { folder: "/proc/self".into(), except: Some(first.into()) }
    }

    /// Returns the user and system CPU time so far.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let all = cpu(&self.folder)?;
        let except = self.except.as_deref().map(cpu).transpose()?;
        Ok(all.saturating_sub(except.unwrap_or_default()))
    }

    /// Returns the resident memory; `None` for threads, which share that of their process.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn memory(&self) -> anyhow::Result<Option<Memory>> {
        if self.except.is_some() {
            return Ok(None);
        }
        let path = self.folder.join("status");
        let text = fs::read_to_string(&path).with_context(|| unreadable(&path))?;
        let [now, peak] = ["VmRSS:", "VmHWM:"].map(|field| kibibytes(&text, field));
        Ok(Some(Memory { now, peak }))
    }

    /// Resets the peak to the resident memory, if this process may.
    pub fn forget_peak(&self) {
        // Otherwise the peak is that of the server's whole life, which is at least as large.
        let _refused = fs::write(self.folder.join("clear_refs"), "5");
    }
}

/// Returns the CPU time of a process or thread, given its folder.
fn cpu(folder: &Path) -> anyhow::Result<Duration> {
    let path = folder.join("stat");
    let text = fs::read_to_string(&path).with_context(|| unreadable(&path))?;
    ticks(&text)
        .map(|ticks| Duration::from_secs(ticks) / TICKS_PER_SECOND)
        .with_context(|| format!("{} is not as the kernel writes it", path.display()))
}

fn unreadable(path: &Path) -> String {
    format!("cannot read {}, where the kernel shows what the server costs", path.display())
}

/// Parses user and system time from a line of `stat`.
///
/// The name of the program, in parentheses, may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The 14th and 15th field of the line; `fields` begins with the third.
    let mut times = fields.split_ascii_whitespace().skip(11);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

fn kibibytes(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_no_obstacle() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 4 0 100 1 2";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "Name:\tx\nVmHWM:\t    5120 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!([kibibytes(status, "VmRSS:"), kibibytes(status, "VmHWM:")], [1024, 5120]);
        assert_eq!(kibibytes(status, "VmSwap:"), 0);
    }

    #[test]
    fn this_process_costs_time_and_has_memory() {
        let meter = Meter::process(std::process::id()).unwrap();
        let memory = meter.memory().unwrap().unwrap();
        assert!(0 < memory.now && memory.now <= memory.peak);
        let before = meter.cpu().unwrap();
        while meter.cpu().unwrap() == before {}
    }

    #[test]
    fn threads_count_without_the_first() {
        let (all, others) = (Meter::process(std::process::id()).unwrap(), Meter::other_threads());
        // This test runs on a thread of its own.
        let before = others.cpu().unwrap();
        while others.cpu().unwrap() == before {}
        assert!(others.cpu().unwrap() <= all.cpu().unwrap());
        assert_eq!(others.memory().unwrap(), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_told() {
        let error = format!("{:#}", Meter::process(u32::MAX).unwrap_err());
        assert!(error.contains("cannot read /proc/4294967295/stat"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }
}
