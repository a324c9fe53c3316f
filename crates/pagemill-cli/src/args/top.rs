//! The options of `top`.

use core::time::Duration;
use std::path::PathBuf;

use clap::Args;

/// The options of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Process to show [default: the only one; with several, a choice]
    #[arg(value_name = "PID", conflicts_with = "socket", value_parser = process)]
    pub(crate) pid: Option<u32>,
    /// Socket of the process, for one that was started with --status PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print all figures once, as text; so does an output that is not a terminal, and TERM=dumb
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one snapshot as one JSON object, with or without --once
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds between two snapshots, from 0.1 to 3600
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
}

/// Reads the number of a process.
fn process(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "write a process number; names are not supported")
}

/// Reads a number of seconds.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    let seconds: f64 = seconds.ok_or("write a number of seconds from 0.1 to 3600")?;
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_short_nor_endless() {
        assert_eq!(interval("0.5").unwrap(), Duration::from_millis(500));
        for text in ["0", "-1", "nan", "inf", "3601", "x"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
