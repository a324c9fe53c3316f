//! What the system tells of a process: its command line and its age, by which a person distinguishes
//! several processes of one program.

use core::time::Duration;
use std::fs;
use std::io::Read as _;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use crate::text::visible;

/// The most bytes of a command line.
const MAX_COMMAND_BYTES: u64 = 4096;

/// Returns the command line of a process, without the directory of the program; empty if the process has
/// ended.
pub(crate) fn command(pid: u32) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        // What was read before an error is enough.
        let _read = file.take(MAX_COMMAND_BYTES).read_to_end(&mut bytes);
    }
    command_of(&bytes)
}

fn command_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.trim_end_matches('\0').split('\0');
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let words: Vec<&str> = core::iter::once(program).chain(words).collect();
    visible(&words.join(" "))
}

/// Returns how long a process has run; `None` if it has ended.
pub(crate) fn age(pid: u32) -> Option<Duration> {
    let start = start_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let now = Duration::try_from(clock_gettime(ClockId::Boottime)).ok()?;
    let start_ms = start.saturating_mul(1000) / clock_ticks_per_second().max(1);
    Some(now.saturating_sub(Duration::from_millis(start_ms)))
}

/// Returns when a process started, in ticks since the system did: field 22 of its `stat`.
///
/// # Source
/// `man-pages` `proc(5)` "/proc/pid/stat"
fn start_ticks(stat: &str) -> Option<u64> {
    // Field 2, the name, is in parentheses and may have blanks and parentheses.
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::own_pid;

    #[test]
    fn a_command_line_is_shown_without_the_directory_and_without_control_characters() {
        let shown = command_of(b"/usr/bin/pagemill\0nfsd\0--export\0/srv/a b\0");
        assert_eq!(shown, "pagemill nfsd --export /srv/a b");
        assert_eq!(command_of(b"x\0\x1b]0;t\x07\xff\0"), "x \u{fffd}]0;t\u{fffd}\u{fffd}");
        assert_eq!(command_of(b""), "");
    }

    #[test]
    fn this_process_has_a_command_line_and_an_age() {
        assert!(command(own_pid()).starts_with("pagemill_status"), "{}", command(own_pid()));
        let age = age(own_pid()).expect("the system tells");
        assert!(age < Duration::from_hours(24), "{age:?}");
        assert_eq!((command(u32::MAX), super::age(u32::MAX)), (String::new(), None));
    }

    #[test]
    fn the_start_is_found_behind_a_strange_name() {
        let numbers: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b (c) {}", numbers.join(" "));
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(start_ticks("7 (short) S 1"), None);
    }
}
