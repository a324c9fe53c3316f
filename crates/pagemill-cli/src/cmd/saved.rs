//! `pagemill bench compare` and `pagemill bench export`: saved results as comparisons and tables.

use std::env;
use std::io::{self, IsTerminal};

use anyhow::Context as _;
use pagemill_bench::saved::compare::noise_between;
use pagemill_bench::saved::show::{self, Shown, Style};
use pagemill_bench::saved::{Comparison, SavedReport, Verdict};

use crate::output::{self, Output};
use crate::plan::bench::{ComparePlan, ExportPlan, Input, TablesPlan};

/// Columns of text that does not go to a terminal.
const WIDTH: usize = 80;

/// Circumstances whose change explains a difference better than the program does.
const SUSPECTS: [&str; 3] = ["machine", "debug_build", "arena"];

/// Compares each other report with the first.
///
/// # Errors
/// For reports that cannot be compared, outputs that cannot be written, and figures that are slower
/// than `--fail-on-slower` allows.
pub(crate) fn compare(plan: ComparePlan) -> anyhow::Result<()> {
    let ComparePlan { first, others, noise, relevant, fail_above, json, tables } = plan;
    let failed = |other: &Input| format!("cannot compare {} with {}", first.name, other.name);
    for again in &noise {
        let [of_noise, of_first] = [again, &first].map(|input| &input.report.command);
        anyhow::ensure!(
            of_noise == of_first,
            "--noise {}: it is of {of_noise}, {} of {of_first}",
            again.name,
            first.name
        );
        noise_between(&[&first.report, &again.report]).with_context(|| {
            format!("--noise {}: cannot compare it with {}", again.name, first.name)
        })?;
    }
    let of_one_program = core::iter::once(&first).chain(&noise).map(|input| &input.report);
    let between = noise_between(&of_one_program.collect::<Vec<_>>())?;
    let compare = |other: &Input| {
        Comparison::of(&first.report, &other.report, relevant, between)
            .with_context(|| failed(other))
    };
    let comparisons = others.iter().map(compare).collect::<anyhow::Result<Vec<_>>>()?;
    let shown: Vec<Shown<'_>> = comparisons
        .iter()
        .zip(&others)
        .map(|(comparison, other)| Shown { comparison, a: &first.name, b: &other.name })
        .collect();
    // Before the table, which may be longer than the screen.
    core::iter::once(&first).chain(&others).for_each(warn_of_debug);
    warn_of_same_file(&first, &others, &noise);
    let for_people =
        ![&json, &tables.csv, &tables.markdown].into_iter().flatten().any(Output::is_stdout);
    if let Some(output) = json {
        output.write(&show::to_json(&shown)?)?;
    }
    let markdown = || joined(shown.iter().map(Shown::to_markdown));
    write_tables(tables, || show::to_csv(&shown), markdown)?;
    if for_people {
        let style = style();
        output::print(&joined(shown.iter().map(|shown| shown.to_text(style))))?;
    }
    shown.iter().for_each(warn_of_suspects);
    if noise.is_empty() {
        shown.iter().for_each(warn_of_one_direction);
    }
    let Some(share) = fail_above else { return Ok(()) };
    if noise.is_empty() {
        output::note(
            "warning: --fail-on-slower without --noise fails for differences between two processes of \
             one program, too: name results of A's program from other runs with --noise",
        );
    }
    shown.iter().for_each(warn_of_single_values);
    check(&shown, share)
}

/// Writes a report as tables.
///
/// # Errors
/// For outputs that cannot be written.
pub(crate) fn export(plan: ExportPlan) -> anyhow::Result<()> {
    let ExportPlan { input: Input { report, .. }, tables } = plan;
    write_tables(tables, || report.to_csv(), || report.to_markdown())
}

fn write_tables(
    tables: TablesPlan,
    to_csv: impl FnOnce() -> String,
    to_markdown: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    if let Some(output) = tables.csv {
        output.write(&to_csv())?;
    }
    if let Some(output) = tables.markdown {
        output.write(&to_markdown())?;
    }
    Ok(())
}

fn joined(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("\n")
}

/// Returns the width of the terminal and whether it shall have colours.
fn style() -> Style {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return Style { width: WIDTH, colour: false };
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col.into());
    let is_set =
        |name| env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    Style {
        width: if columns == 0 { WIDTH } else { columns },
        colour: !is_set("NO_COLOR") && !is_dumb,
    }
}

fn warn_of_debug(Input { name, report, .. }: &Input) {
    let SavedReport { circumstances, .. } = report;
    if circumstances.iter().any(|(name, value)| name == "debug_build" && value == "true") {
        output::note(&format!("warning: {name} is of a debug build: its times mean nothing"));
    }
}

/// Warns of files that are compared with themselves: the result says nothing about the program.
fn warn_of_same_file(first: &Input, others: &[Input], noise: &[Input]) {
    let is_same = |a: &Input, b: &Input| a.path.is_some() && a.path == b.path;
    for other in others.iter().filter(|other| is_same(first, other)) {
        let (a, b) = (&first.name, &other.name);
        output::note(&format!("warning: {a} and {b} are one file: nothing can differ"));
    }
    for again in noise {
        if let Some(same) = core::iter::once(first).chain(others).find(|it| is_same(again, it)) {
            let (again, same) = (&again.name, &same.name);
            output::note(&format!(
                "warning: --noise {again} is {same} itself: name results of A's program from \
                 another run"
            ));
        }
    }
}

/// Fewest figures whose common direction is suspicious.
const FEW_FIGURES: usize = 3;

/// Warns if at least four of five judged figures are better, or worse: a change of the program seldom
/// affects all figures, a busier machine does.
fn warn_of_one_direction(shown: &Shown<'_>) {
    let comparison = shown.comparison;
    let judged = comparison.figures().filter(|it| it.finding.interval.is_some());
    let verdicts: Vec<_> = judged.map(|it| it.finding.verdict).collect();
    for (verdict, word) in
        [(Verdict::Better, "faster or better"), (Verdict::Worse, "slower or worse")]
    {
        let nr = verdicts.iter().filter(|it| **it == verdict).count();
        if nr >= FEW_FIGURES && 5 * nr >= 4 * verdicts.len() {
            let (all, a, b) = (verdicts.len(), shown.a, shown.b);
            output::note(&format!(
                "warning: {nr} of {all} figures moved alike, {word} in {b}: the machine may have \
                 been busier during one of the runs; measure {a} again and pass it with --noise"
            ));
        }
    }
}

fn warn_of_suspects(shown: &Shown<'_>) {
    let suspects = shown.comparison.differences.iter().map(|difference| difference.name.as_str());
    let suspects = suspects.filter(|name| {
        let group = name.split('.').next();
        SUSPECTS.iter().any(|suspect| group == Some(suspect))
    });
    let suspects: Vec<_> = suspects.collect();
    if !suspects.is_empty() {
        let (a, b) = (shown.a, shown.b);
        output::note(&format!(
            "warning: {a} and {b} differ in {}: a change of the figures may come from that",
            suspects.join(", ")
        ));
    }
}

/// Warns of figures that were measured once: they cannot fail, however much they differ.
fn warn_of_single_values(Shown { comparison, b, .. }: &Shown<'_>) {
    let nr = comparison.count(|verdict| verdict == Verdict::Once);
    if nr > 0 {
        let all = comparison.figures().count();
        output::note(&format!(
            "warning: {nr} of {all} figures of {b} were measured once and cannot fail: look at their \
             changes"
        ));
    }
}

/// Fails if a figure is worse by more than `share`, or if it cannot be told for figures of A.
fn check(shown: &[Shown<'_>], share: f64) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for Shown { comparison, a, b } in shown {
        let all = comparison.figures().count();
        let nr_worse = comparison.worse_than(share).count();
        if nr_worse > 0 {
            problems.push(format!(
                "{nr_worse} of {all} figures of {b} are slower than in {a}, beyond the noise and by \
                 more than {} %",
                100.0 * share
            ));
        }
        let few = || comparison.figures().filter(|compared| compared.has_too_few_runs);
        if few().next().is_some() {
            let runs = few().filter_map(|compared| match compared.finding.verdict {
                Verdict::Unclear { runs } => runs,
                _ => None,
            });
            let enough = runs.max().map_or_else(String::new, |runs| format!(" (use {runs})"));
            problems.push(format!(
                "{} of {all} figures of {a} and {b} have too few runs to tell{enough}",
                few().count()
            ));
        }
        if let Some(first) = comparison.only_a.first() {
            let nr = comparison.only_a.len();
            problems
                .push(format!("{nr} figures of {a} are missing from {b}, the first is {first}"));
        }
    }
    anyhow::ensure!(problems.is_empty(), "--fail-on-slower: {}", problems.join("; "));
    Ok(())
}
