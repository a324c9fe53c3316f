//! Export rules: which clients may use which directories, how users are squashed, and the exports file.

mod client;
mod parse;
mod rule;

pub use client::ClientMatch;
pub use parse::{ExportsError, parse_export_arg, parse_exports, parse_good_exports};
pub use rule::{
    ANONYMOUS, Access, ClientRule, Commit, ExportOptions, ExportRule, Ports, Squash, SquashWho,
};
