//! Output of results and notes.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

/// Writes `text` to the standard output.
///
/// # Errors
/// The error of the system.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes `text` to a file, or to the standard output for `-`.
///
/// # Errors
/// An error with the path and the error of the system.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(print(text)?);
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a line to the standard error; ignores a failure to do so.
pub(crate) fn note(line: &str) {
    let _ignored = writeln!(io::stderr(), "pagemill-peers: {line}");
}
