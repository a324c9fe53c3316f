//! What was typed: options and their values, checked without a look at the system.
//!
//! What they mean on this machine is for [`plan`](crate::plan).

pub(crate) mod arena;
#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod nfsd;
pub(crate) mod xdp;

use std::path::PathBuf;

#[cfg(feature = "bench")]
use clap::CommandFactory as _;
use clap::{Args, Parser, Subcommand};

use self::arena::ArenaArgs;
#[cfg(feature = "bench")]
use self::bench::BenchArgs;
use self::nfsd::NfsdArgs;
use self::xdp::XdpArgs;
use crate::output::StdoutError;
use crate::usage::UsageError;

/// A page allocator with a bulk interface: measures it and shows its state.
///
/// Everything happens in this process: the pages are an arena of memory that the program maps for
/// itself, so no rights are needed and the system's own allocator is left alone.
#[derive(Debug, Parser)]
#[command(name = "pagemill", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "bench")]
    /// Measures what pages cost, in bulk and beside a hog, and what churn leaves of large blocks
    ///
    /// Without the name of an experiment, it runs `bench bulk --quick`: a selection that takes
    /// about fifteen seconds and ends with one sentence about this machine.
    #[command(verbatim_doc_comment)]
    Bench(BenchArgs),
    /// Shows the zones, free blocks and counters of a fresh allocator
    ///
    /// Builds a fresh allocator over an arena of the size and kind asked for, and shows it in the
    /// shape of /proc/buddyinfo, /proc/pagetypeinfo, /proc/zoneinfo and /proc/vmstat. It is not
    /// the state of the system, nor of another process: nothing has been allocated yet.
    #[command(verbatim_doc_comment)]
    Info(InfoArgs),
    /// Serves directories to NFS clients, which mount them
    ///
    /// NFS version 3 and MOUNT, over TCP, from requests whose pages are allocated in bulk. Prints
    /// the command that mounts each export, and serves until TERM or INT. HUP reads the exports
    /// again, USR1 prints statistics. See docs/nfsd.md.
    #[command(verbatim_doc_comment)]
    Nfsd(NfsdArgs),
    /// Moves packets between interfaces through pages of an arena, by AF_XDP
    ///
    /// Needs `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_BPF`, as root has them.
    #[command(verbatim_doc_comment)]
    Xdp(XdpArgs),
}

/// The options of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Write JSON instead, to FILE or, without one, to the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) arena: ArenaArgs,
}

/// Reads what the process was called with; `None` if help was asked for, and shown.
///
/// # Errors
/// A [`UsageError`], or what the system answers when it is to show the help.
pub(crate) fn parse() -> anyhow::Result<Option<Command>> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli.command)),
        Err(error) if !error.use_stderr() => {
            error.print().map_err(StdoutError::from)?;
            Ok(None)
        }
        Err(error) => Err(UsageError::from(error).into()),
    }
}

#[cfg(feature = "bench")]
/// Returns the help of `bench peers`, for when the program that would show its own is missing.
pub(crate) fn peers_help() -> String {
    let mut command = Cli::command();
    command.build();
    let peers = command
        .find_subcommand_mut("bench")
        .and_then(|bench| bench.find_subcommand_mut("peers"))
        .expect("it is declared above");
    peers.render_long_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declarations_are_consistent() {
        Cli::command().debug_assert();
    }
}
