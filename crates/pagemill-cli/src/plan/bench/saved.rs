//! What the options of `bench compare` and `bench export` mean: saved results are read here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pagemill_bench::saved::SavedReport;
use pagemill_bench::saved::read::MAX_LEN_BYTES;

use crate::args::bench::{CompareArgs, ExportArgs, TableArgs};
use crate::output::Output;
use crate::usage::UsageError;

/// A report, and the file that it comes from.
#[derive(Debug)]
pub(crate) struct Input {
    /// What was typed.
    pub(crate) name: String,
    /// The path without symbolic links; `None` for the standard input.
    pub(crate) path: Option<PathBuf>,
    /// The report.
    pub(crate) report: SavedReport,
}

/// Where tables go.
#[derive(Debug)]
pub(crate) struct TablesPlan {
    /// Where CSV goes.
    pub(crate) csv: Option<Output>,
    /// Where Markdown goes.
    pub(crate) markdown: Option<Output>,
}

/// Everything that `bench compare` needs.
#[derive(Debug)]
pub(crate) struct ComparePlan {
    /// The report with which all others are compared.
    pub(crate) first: Input,
    /// The others.
    pub(crate) others: Vec<Input>,
    /// Other runs of the first one's program.
    pub(crate) noise: Vec<Input>,
    /// Smallest relative change that matters.
    pub(crate) relevant: f64,
    /// Relative change above which the command fails.
    pub(crate) fail_above: Option<f64>,
    /// Where JSON goes.
    pub(crate) json: Option<Output>,
    /// Where tables go.
    pub(crate) tables: TablesPlan,
}

/// Everything that `bench export` needs.
#[derive(Debug)]
pub(crate) struct ExportPlan {
    /// The report.
    pub(crate) input: Input,
    /// Where tables go.
    pub(crate) tables: TablesPlan,
}

/// Reads the reports of `bench compare`, and opens its outputs.
///
/// # Errors
/// A [`UsageError`] for fewer than two files, and for outputs that are one; what is wrong with a file that cannot be read.
pub(crate) fn compare(args: &CompareArgs) -> anyhow::Result<ComparePlan> {
    if let [only] = &args.files[..] {
        let line = format!("only {} is named: name at least two files", only.display());
        return Err(UsageError::new(line).into());
    }
    one_reads_stdin(args.files.iter().chain(&args.noise))?;
    let mut inputs = args.files.iter().map(|path| input(path));
    let first = inputs.next().expect("at least two files are required")?;
    let others = inputs.collect::<Result<_, _>>()?;
    let noise = args.noise.iter().map(|path| input(path)).collect::<Result<_, _>>()?;
    let json = Output::open("--json", args.json.as_deref())?;
    let tables = tables(&args.tables)?;
    apart(&[("--json", &json), ("--csv", &tables.csv), ("--markdown", &tables.markdown)])?;
    Ok(ComparePlan {
        first,
        others,
        noise,
        relevant: args.threshold / 100.0,
        fail_above: args.fail_on_slower.map(|percent| percent / 100.0),
        json,
        tables,
    })
}

/// Reads the report of `bench export`, and opens its outputs.
///
/// # Errors
/// As [`compare`]; a [`UsageError`] without an output.
pub(crate) fn export(args: &ExportArgs) -> anyhow::Result<ExportPlan> {
    if args.tables.csv.is_none() && args.tables.markdown.is_none() {
        let line =
            "nothing to write: name a file with --csv or --markdown; - is the standard output";
        return Err(UsageError::new(line).into());
    }
    let input = input(&args.file)?;
    let tables = tables(&args.tables)?;
    apart(&[("--csv", &tables.csv), ("--markdown", &tables.markdown)])?;
    Ok(ExportPlan { input, tables })
}

fn tables(args: &TableArgs) -> anyhow::Result<TablesPlan> {
    Ok(TablesPlan {
        csv: Output::open("--csv", args.csv.as_deref())?,
        markdown: Output::open("--markdown", args.markdown.as_deref())?,
    })
}

/// Refuses two outputs that are one.
fn apart(outputs: &[(&str, &Option<Output>)]) -> Result<(), UsageError> {
    for (index, (name, output)) in outputs.iter().enumerate() {
        for (other_name, other) in &outputs[..index] {
            if output.as_ref().zip(other.as_ref()).is_some_and(|(one, two)| one.is_same_as(two)) {
                return Err(UsageError::new(format!(
                    "{other_name} and {name} name the same output: give each a file of its own"
                )));
            }
        }
    }
    Ok(())
}

fn one_reads_stdin<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<(), UsageError> {
    match files.filter(|path| is_stdin(path)).count() {
        0 | 1 => Ok(()),
        _ => Err(UsageError::new("- is named twice: the standard input has one report")),
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn input(path: &Path) -> anyhow::Result<Input> {
    let name =
        if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() };
    let failed = || format!("cannot read results from {name}");
    let text = if is_stdin(path) {
        read(io::stdin().lock())
    } else {
        File::open(path).map_err(anyhow::Error::from).and_then(read)
    };
    let report = text.and_then(|text| Ok(SavedReport::parse(&text)?)).with_context(failed)?;
    let path = if is_stdin(path) { None } else { path.canonicalize().ok() };
    Ok(Input { name, path, report })
}

fn read(source: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    source.take(MAX_LEN_BYTES as u64 + 1).read_to_end(&mut text)?;
    anyhow::ensure!(
        text.len() <= MAX_LEN_BYTES,
        "it is larger than {} MiB, the limit",
        MAX_LEN_BYTES >> 20
    );
    Ok(text)
}
