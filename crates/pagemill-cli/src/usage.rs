//! Usage errors: mistakes on the command line that the user can correct; exit code 2.

use core::error::Error;
use core::fmt;

use clap::error::ErrorKind;

/// Mistakes, each in one line that names the option and says what to change; the exit code is 2.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UsageError(Vec<String>);

impl UsageError {
    /// Makes an error of its line.
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }

    /// Makes an error of several mistakes.
    pub(crate) fn of_lines(lines: Vec<String>) -> Self {
        Self(lines)
    }

    /// Returns the line of each mistake.
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Error for UsageError {}

impl From<clap::Error> for UsageError {
    /// Takes what clap found wrong in one line, with the command whose help describes the options.
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        let lines = || text.lines().map(str::trim);
        let usage = lines().find_map(|line| line.strip_prefix("Usage:")).unwrap_or("pagemill");
        let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
        let command = usage.split_whitespace().take_while(is_name).collect::<Vec<_>>().join(" ");
        let advice = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1);
                let commands = commands.take_while(|line| !line.is_empty());
                // The lines below a name are its description, and further to the right.
                let names = commands.filter_map(|line| line.strip_prefix("  "));
                let names = names.filter(|line| !line.starts_with(' '));
                let names: Vec<_> = names.filter_map(|line| line.split(' ').next()).collect();
                let names: Vec<_> = names.into_iter().filter(|name| *name != "help").collect();
                let names = match &names[..] {
                    [before @ .., last] if !before.is_empty() => {
                        format!("{} or {last}", before.join(", "))
                    }
                    names => names.concat(),
                };
                return Self::new(format!("name a command: {names}; see {command} --help"));
            }
            // These say by themselves what would do.
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => String::new(),
            _ => format!("; see {command} --help"),
        };
        let said = lines()
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            .filter(|line| !line.is_empty());
        let line = said.collect::<Vec<_>>().join(" ").replace(" tip: ", "; tip: ");
        Self::new(line.strip_prefix("error: ").unwrap_or(&line).to_owned() + &advice)
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

    #[test]
    fn the_help_of_the_command_that_was_typed_is_named() {
        let command = |name: &'static str| Command::new(name).arg(Arg::new("huge").long("huge"));
        let both = Command::new("p")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands([command("one").about("One line"), command("two")]);
        let error = |args: &[&str]| {
            UsageError::from(both.clone().try_get_matches_from(args).unwrap_err()).to_string()
        };
        assert_eq!(
            error(&["p", "one", "--hgue"]),
            "unexpected argument '--hgue' found; tip: a similar argument exists: '--huge'; see p \
             one --help"
        );
        assert_eq!(error(&["p"]), "name a command: one or two; see p --help");
    }
}
