//! Where results go: the standard output, files, and complaints about what went wrong.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;

use crate::usage::UsageError;

/// The exit code for what the person at the keyboard can mend.
const USAGE: u8 = 2;

/// An output that is open: what follows cannot fail for want of a right or a folder.
#[derive(Debug)]
pub(crate) enum Output {
    /// The standard output.
    Stdout,
    /// A file, which keeps its content until it is written to.
    File {
        /// What was typed, for messages.
        path: PathBuf,
        /// The file itself.
        file: File,
    },
}

impl Output {
    /// Opens `path` for writing and makes the file if there is none; `-` is the standard output.
    ///
    /// # Errors
    /// One that names the path and what the system answered.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        // Not truncated yet: a run that fails leaves the last result as it was.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| refused(path, &error))?;
        Ok(Self::File { path: path.to_owned(), file })
    }

    /// Replaces what the output holds by `text`.
    ///
    /// # Errors
    /// One that names the path and what the system answered.
    pub(crate) fn write(self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Stdout => Ok(print(text)?),
            Self::File { path, mut file } => {
                let mut replace = || {
                    // Pipes and devices have no length to cut.
                    if file.metadata()?.is_file() {
                        file.set_len(0)?;
                    }
                    file.write_all(text.as_bytes())
                };
                replace().map_err(|error| refused(&path, &error))
            }
        }
    }

    /// Tells whether this is the standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }
}

fn refused(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!("cannot write {}: {error}", path.display())
}

/// Writes `text` to the standard output.
///
/// # Errors
/// What the system answers; a closed pipe among them.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a line for people to the standard error, if anyone listens.
pub(crate) fn note(line: &str) {
    let _nobody_listens = writeln!(io::stderr(), "pagemill: {line}");
}

/// Says what went wrong, in one line, and returns the exit code for it.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    // Whoever reads our output has seen enough, as `head` does after ten lines.
    let io = error.downcast_ref::<io::Error>();
    if io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    note(&error.to_string());
    if error.is::<UsageError>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_content_until_it_is_written() {
        let path = std::env::temp_dir().join(format!("pagemill-output-{}", std::process::id()));
        std::fs::write(&path, "a longer text").unwrap();
        let output = Output::open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a longer text");
        output.write("short").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let error = Output::open(Path::new("/nowhere/at/all.json")).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nowhere/at/all.json: "), "{error}");
    }

    #[test]
    fn a_dash_is_the_standard_output_and_a_device_can_be_written() {
        assert!(Output::open(Path::new("-")).unwrap().is_stdout());
        Output::open(Path::new("/dev/null")).unwrap().write("text").unwrap();
    }
}
