//! Command line: options and their values, checked without looking at the system.
//!
//! [`plan`](crate::plan) checks them against this machine.
#![expect(clippy::doc_markdown, reason = "the help shows names without backticks")]

pub(crate) mod arena;
#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod docs;
pub(crate) mod nfsd;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod xdp;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

use self::arena::ArenaArgs;
#[cfg(feature = "bench")]
use self::bench::BenchArgs;
use self::docs::{CompletionsArgs, ManArgs};
use self::nfsd::NfsdArgs;
#[cfg(feature = "top")]
use self::top::TopArgs;
use self::xdp::XdpArgs;
use crate::output::StdoutError;
use crate::usage::UsageError;

/// Measures and shows a page allocator with a bulk interface, and serves NFS and packets from it.
///
/// The allocator runs in this process, over memory that the process maps for itself. bench and info
/// need no privileges, and do not use the system's page allocator.
#[derive(Debug, Parser)]
#[command(name = "pagemill", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "bench")]
    /// Measures the cost of pages, the time locks are held, and the large blocks that churn leaves
    ///
    /// Without the name of an experiment, it runs bench bulk --quick, which takes approximately
    /// fifteen seconds and ends with one sentence about this machine.
    #[command(verbatim_doc_comment)]
    Bench(BenchArgs),
    /// Shows the zones, free blocks and counters of a fresh allocator
    ///
    /// Builds an allocator over an arena of the given size and kind, and shows it in the format of
    /// /proc/buddyinfo, /proc/pagetypeinfo, /proc/zoneinfo and /proc/vmstat. It does not show the
    /// state of the system or of another process: nothing has been allocated yet.
    #[command(verbatim_doc_comment)]
    Info(InfoArgs),
    /// Serves directories to NFS clients
    ///
    /// NFS version 3 and MOUNT, over TCP. Prints the command that mounts each export, and serves
    /// until TERM or INT. HUP reads the exports again, USR1 prints statistics. See docs/nfsd.md.
    #[command(verbatim_doc_comment)]
    Nfsd(NfsdArgs),
    #[cfg(feature = "top")]
    /// Shows a running pagemill process: zones, lists, pools, accounts, NFS, packets
    ///
    /// A live view of a process that serves its status on a local socket, as nfsd and xdp do, and
    /// programs that use the crate pagemill-status. Shows processes of this user; for root, those of
    /// all users. See docs/top.md.
    #[command(verbatim_doc_comment)]
    Top(TopArgs),
    /// Moves packets between interfaces through pages of an arena, by AF_XDP
    ///
    /// Needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, which root has.
    #[command(verbatim_doc_comment)]
    Xdp(XdpArgs),
    /// Prints a script that completes commands and options in a shell
    Completions(CompletionsArgs),
    /// Prints the manual page of a command, or writes all pages to a directory
    ///
    /// To read a page that is not installed: pagemill man nfsd | man -l -
    #[command(verbatim_doc_comment)]
    Man(ManArgs),
}

/// The options of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Write JSON instead, to FILE; without FILE, to the standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) arena: ArenaArgs,
}

/// Parses the arguments of the process; `None` if help was requested and has been shown.
///
/// # Errors
/// A [`UsageError`], or the system's error when the help cannot be written.
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

/// Returns the commands as manual pages and completions show them: built, and without `help`.
pub(crate) fn documented() -> clap::Command {
    let mut command = complete_only_paths(Cli::command().disable_help_subcommand(true));
    command.build();
    command
}

/// Keeps shells from completing the names of files where an option takes something else.
fn complete_only_paths(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_value_hint() {
        ValueHint::Unknown if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        _ => arg,
    });
    command.mut_subcommands(complete_only_paths)
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

    #[test]
    fn help_shows_names_in_one_style() {
        fn check(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(!help.contains('`'), "{help}");
            command.get_subcommands_mut().for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command);
    }
}
