//! `pagemill bench peers`: another program, which is found beside this one or on the path.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Error;

use crate::args::peers_help;
use crate::output;
use crate::usage::UsageError;

const PROGRAM: &str = "pagemill-peers";
const BUILD: &str =
    "cargo build --release --manifest-path benches/peers/Cargo.toml --target-dir target";

/// Replaces this process by the program, with `args`; returns only without the program.
///
/// # Errors
/// A [`UsageError`] if the program is not there, unless `args` ask for help, which is shown then.
pub(crate) fn become_it(args: &[OsString]) -> anyhow::Result<()> {
    let Some(program) = find() else {
        if args.iter().any(|arg| arg == "--help" || arg == "-h") {
            return Ok(output::print(&peers_help())?);
        }
        let line =
            format!("{PROGRAM} is neither next to this program nor in PATH: build it with {BUILD}");
        return Err(UsageError::new(line).into());
    };
    let error = Command::new(&program).args(args).exec();
    Err(Error::new(error).context(format!("cannot run {}", program.display())))
}

/// Looks beside this program, then along the path.
fn find() -> Option<PathBuf> {
    let own = env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain(env::split_paths(&path));
    folders.map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}
