//! `pagemill completions`: prints a script that completes commands and options in a shell.

use clap::Command;
use clap::builder::PossibleValuesParser;
use clap_complete::{Shell, generate};

use crate::args::{self, docs::CompletionsArgs};
use crate::{manual, output};

/// Prints the script.
///
/// # Errors
/// What the system refuses.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut command = args::documented();
    let names = command_names(&command);
    command = command.mut_subcommand("man", |man| {
        man.mut_arg("command", |arg| arg.value_parser(PossibleValuesParser::new(names)))
    });
    let shell = Shell::from(args.shell);
    if shell == Shell::Zsh {
        command = without_colons(command);
    }
    let mut script = Vec::new();
    generate(shell, &mut command, "pagemill", &mut script);
    Ok(output::print_bytes(&script)?)
}

/// Returns the words that follow `pagemill man`: names of commands and of their subcommands, each once.
///
/// clap takes static names only. They are leaked: the program ends once it has printed the script.
fn command_names(command: &Command) -> Vec<&'static str> {
    let mut names = Vec::new();
    for word in manual::pages(command).into_iter().flat_map(|page| page.words) {
        if !names.contains(&&*word) {
            names.push(&*word.leak());
        }
    }
    names
}

/// Renames values such as ADDR:PORT. `clap_complete` does not escape the colon, and zsh would run what
/// follows it as a command.
fn without_colons(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let names = arg.get_value_names().unwrap_or_default();
        if names.iter().any(|name| name.contains(':')) { arg.value_name("VALUE") } else { arg }
    });
    command.mut_subcommands(without_colons)
}
