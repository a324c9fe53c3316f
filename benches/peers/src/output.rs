//! Where results go.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

/// Writes `text` to the standard output.
///
/// # Errors
/// What the system answers.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes `text` to a file, or to the standard output for `-`.
///
/// # Errors
/// One that names the path and what the system answered.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return Ok(print(text)?);
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a line for people to the standard error, if anyone listens.
pub(crate) fn note(line: &str) {
    let _nobody_listens = writeln!(io::stderr(), "pagemill-peers: {line}");
}
