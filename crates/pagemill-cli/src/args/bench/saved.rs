//! The options of `bench compare` and `bench export`.

use std::path::PathBuf;

use clap::Args;

/// The options of `bench compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// Results as JSON, at least two files, A first; - for the standard input
    #[arg(value_name = "FILE", num_args = 1.., required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Smallest change that matters, in percent
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = threshold)]
    #[arg(allow_negative_numbers = true)]
    pub(crate) threshold: f64,
    /// Results of A's program from another run: what differs from A counts as noise, too
    ///
    /// The factor that no figure of one more run exceeds, in 95 % of comparisons, widens each interval.
    /// It is smaller and more certain with several files. Name at least three where there are few figures
    /// or where all figures of a run may be slower alike.
    #[arg(long, value_name = "FILE")]
    pub(crate) noise: Vec<PathBuf>,
    /// Exit with code 1 if a figure is slower (or worse) beyond the noise by more than PERCENT
    ///
    /// Also exits with code 1 if B lacks a figure of A, or if a figure has too few runs to tell. Figures
    /// that were measured once cannot fail. Use it with --noise.
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    pub(crate) fail_on_slower: Option<f64>,
    /// Write the comparison as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tables: TableArgs,
}

/// The options of `bench export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    /// Results as JSON; - for the standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) tables: TableArgs,
}

/// Where tables go.
#[derive(Clone, Debug, Args)]
pub(crate) struct TableArgs {
    /// Write CSV (RFC 4180) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Write Markdown to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// Largest percentage that is accepted: a factor of 100.
const PERCENT_MAX: f64 = 10_000.0;

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=PERCENT_MAX).contains(&percent) => Ok(percent),
        _ => Err(format!("'{text}' is not a percentage: use a number from 0 to {PERCENT_MAX}")),
    }
}

fn threshold(text: &str) -> Result<f64, String> {
    match percent(text)? {
        percent if percent >= 0.1 => Ok(percent),
        _ => Err("no benchmark can tell such a small change: use 0.1 or more".to_owned()),
    }
}
