//! Usage errors: mistakes on the command line that the user can correct; exit code 2.

use core::error::Error;
use core::fmt;

use clap::error::ErrorKind;

/// One line that names the option and says what to change; the exit code is 2.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(String);

impl UsageError {
    /// Makes an error of its line.
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UsageError {}

impl From<clap::Error> for UsageError {
    /// Takes what clap found wrong in one line, without usage.
    fn from(error: clap::Error) -> Self {
        let advice = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                return Self::new("name a command: bench, info, nfsd or xdp; see pagemill --help");
            }
            // These say by themselves what would do.
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => "",
            _ => "; see pagemill --help",
        };
        let text = error.to_string();
        let said = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            .filter(|line| !line.is_empty());
        let line = said.collect::<Vec<_>>().join(" ");
        Self(line.strip_prefix("error: ").unwrap_or(&line).to_owned() + advice)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn what_clap_says_becomes_one_line() {
        let command = Command::new("p").arg(Arg::new("huge").long("huge").value_parser(["a", "b"]));
        let error = command.try_get_matches_from(["p", "--huge", "c"]).unwrap_err();
        assert_eq!(
            UsageError::from(error).to_string(),
            "invalid value 'c' for '--huge <huge>' [possible values: a, b]"
        );
    }
}
