//! The options of `man` and `completions`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use clap_complete::Shell;

/// The options of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Command whose page to print, such as bench bulk; without it, the page of pagemill
    #[arg(value_name = "COMMAND", value_hint = ValueHint::Other)]
    pub(crate) command: Vec<String>,
    /// Write all pages to this directory instead, which is created if missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

/// The options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell that reads the script
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: ShellArg,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArg {
    /// For ~/.local/share/bash-completion/completions/pagemill
    Bash,
    /// For ~/.config/fish/completions/pagemill.fish
    Fish,
    /// For _pagemill in a directory of $fpath
    Zsh,
}

impl From<ShellArg> for Shell {
    fn from(shell: ShellArg) -> Self {
        match shell {
            ShellArg::Bash => Self::Bash,
            ShellArg::Fish => Self::Fish,
            ShellArg::Zsh => Self::Zsh,
        }
    }
}
