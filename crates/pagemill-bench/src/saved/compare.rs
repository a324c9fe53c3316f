//! Comparison of two reports of one kind, figure by figure.

use alloc::collections::{BTreeMap, BTreeSet};
use core::error::Error;
use core::fmt;

use super::figure::{Better, Figure, Row, SavedReport, Table, Values};
use super::judge::{Finding, Judge, Verdict};
use super::rank;

/// Share of the figures with a difference beyond the noise for which that is wrong, on average, and as
/// far as the runs of a report show the noise. If no figure differs, it is the probability that one
/// seems to.
pub const FALSE_SHARE: f64 = 0.05;

/// Two reports whose figures were matched and judged.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The command that wrote both.
    pub command: String,
    /// Circumstances that are not the same in both.
    pub differences: Vec<Difference>,
    /// The tables that have figures in both.
    pub tables: Vec<ComparedTable>,
    /// Rows and figures that only A has.
    pub only_a: Vec<String>,
    /// Rows and figures that only B has.
    pub only_b: Vec<String>,
    /// Whether figures were judged by their extremes, because a report does not have each run.
    pub by_extremes: bool,
    /// How figures were judged.
    pub judge: Judge,
}

/// A circumstance that is not the same in both reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, such as `machine.governor`.
    pub name: String,
    /// Its value in A.
    pub a: String,
    /// Its value in B.
    pub b: String,
}

/// Compared figures that are identified by the same keys.
#[derive(Clone, Debug)]
pub struct ComparedTable {
    /// The name of the table.
    pub name: &'static str,
    /// The names of the keys.
    pub keys: &'static [&'static str],
    /// The figures, in the order of A.
    pub figures: Vec<Compared>,
}

/// A figure of both reports.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The value of each key.
    pub key: Vec<String>,
    /// The name of the figure.
    pub name: &'static str,
    /// Its unit.
    pub unit: String,
    /// Which of two values is better.
    pub better: Better,
    /// The value of A, a median if there are several runs.
    pub a: f64,
    /// The value of B.
    pub b: f64,
    /// The difference.
    pub finding: Finding,
    /// Whether there are so few runs that no difference would be found.
    pub has_too_few_runs: bool,
}

/// Why two reports cannot be compared.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompareError {
    /// They are of different kinds.
    Kinds {
        /// The command that wrote A.
        a: String,
        /// The command that wrote B.
        b: String,
    },
    /// They are of one kind, and no figure is in both.
    NothingInCommon,
}

impl fmt::Display for CompareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kinds { a, b } => {
                write!(f, "they are of different kinds: the first is of {a}, the second of {b}")
            }
            Self::NothingInCommon => f.write_str(
                "no figure is in both: run both benchmarks with the same options, such as --n",
            ),
        }
    }
}

impl Error for CompareError {}

impl Comparison {
    /// Compares B with A, with `relevant` the smallest relative difference that matters, and `between` the
    /// factor by which one program differs from process to process ([`noise_between`], or 1).
    ///
    /// The error of each interval is chosen such that a comparison of many figures raises no more false
    /// alarms than one of few: by the procedure of Benjamini and Hochberg, with the intervals of
    /// Benjamini and Yekutieli. A correction by the number of figures alone (Bonferroni) misses most
    /// changes of 20 % among a hundred figures of 15 runs, of which one in ten was disturbed.
    ///
    /// # Errors
    /// For reports of different kinds, or without a common figure.
    pub fn of(
        a: &SavedReport,
        b: &SavedReport,
        relevant: f64,
        between: f64,
    ) -> Result<Self, CompareError> {
        if a.command != b.command {
            return Err(CompareError::Kinds { a: a.command.clone(), b: b.command.clone() });
        }
        let [of_a, of_b] = [a, b].map(|report| index(&report.tables));
        let missing = |of: &BTreeMap<_, _>, other: &BTreeMap<_, _>| {
            of.keys().filter(|place| !other.contains_key(*place)).map(label).collect()
        };
        let pairs = of_a.iter().filter_map(|(place, a)| of_b.get(place).map(|b| (a, b)));
        let probabilities = pairs.filter_map(|(a, b)| Judge::probability(a, b)).collect();
        let judge = Judge { error: error(probabilities), relevant, between };
        let mut by_extremes = false;
        let mut tables = Vec::new();
        for table in &a.tables {
            let mut figures = Vec::new();
            for (row, figure) in figures_of(table) {
                let place = (table.name, row.key.as_slice(), figure.name);
                let Some(other) = of_b.get(&place) else { continue };
                by_extremes |= is_old(&figure.values) || is_old(&other.values);
                figures.push(Compared {
                    key: row.key.clone(),
                    name: figure.name,
                    unit: figure.unit.clone(),
                    better: figure.better,
                    a: figure.values.middle(),
                    b: other.values.middle(),
                    finding: judge.compare(figure, other),
                    has_too_few_runs: judge.has_too_few_runs(figure, other),
                });
            }
            if !figures.is_empty() {
                tables.push(ComparedTable { name: table.name, keys: table.keys, figures });
            }
        }
        if tables.is_empty() {
            return Err(CompareError::NothingInCommon);
        }
        Ok(Self {
            command: a.command.clone(),
            differences: differences(a, b),
            tables,
            only_a: missing(&of_a, &of_b),
            only_b: missing(&of_b, &of_a),
            by_extremes,
            judge,
        })
    }

    /// Returns all compared figures.
    pub fn figures(&self) -> impl Iterator<Item = &Compared> {
        self.tables.iter().flat_map(|table| &table.figures)
    }

    /// Counts the figures with a verdict that `is` accepts.
    pub fn count(&self, is: impl Fn(Verdict) -> bool) -> usize {
        self.figures().filter(|compared| is(compared.finding.verdict)).count()
    }

    /// Returns the figures that are worse beyond the noise, and by more than `share`.
    pub fn worse_than(&self, share: f64) -> impl Iterator<Item = &Compared> {
        self.figures().filter(move |compared| {
            compared.finding.worse_by(compared.better).is_some_and(|worse| worse > share)
        })
    }
}

/// Returns the factor by which figures of one program differ from process to process: `reports` are of
/// one program, and the factor is that which none of the figures of one more report exceeds, with a
/// probability of 95 %.
///
/// All pairs of reports and all figures are pooled, because two processes say little about one figure:
/// the factor is the quantile of Student's distribution for the number of figures, or the largest factor
/// that was seen, if that is larger. It supposes that the figures of a process differ independently; a
/// change that all figures of a process have in common is seen only with several reports.
///
/// # Errors
/// As [`Comparison::of`].
pub fn noise_between(reports: &[&SavedReport]) -> Result<f64, CompareError> {
    let mut changes = Vec::new();
    let mut nr_pairs = 0;
    for (index, a) in reports.iter().enumerate() {
        for again in &reports[..index] {
            let comparison = Comparison::of(a, again, 0.0, 1.0)?;
            let is_measured = |compared: &&Compared| {
                let Finding { interval, verdict, .. } = compared.finding;
                interval.is_some() || matches!(verdict, Verdict::Unclear { .. })
            };
            let of_runs = comparison.figures().filter(is_measured);
            changes.extend(of_runs.filter_map(|compared| compared.finding.ratio).map(f64::ln));
            nr_pairs += 1;
        }
    }
    if changes.is_empty() {
        return Ok(1.0);
    }
    let nr_figures = changes.len().div_ceil(nr_pairs);
    let squares: f64 = changes.iter().map(|change| change * change).sum();
    let deviation = (squares / changes.len() as f64).sqrt();
    let quantile =
        rank::student_quantile(nr_figures * (reports.len() - 1), FALSE_SHARE / nr_figures as f64);
    let largest = changes.into_iter().map(f64::abs).fold(0.0, f64::max);
    Ok((quantile * deviation).max(largest).exp())
}

/// Returns the error of each interval.
///
/// Of the sorted probabilities, those up to the last one that is at most its share of the allowed error
/// are differences; if there are none, the first has to be.
fn error(mut probabilities: Vec<f64>) -> f64 {
    probabilities.sort_unstable_by(f64::total_cmp);
    let step = FALSE_SHARE / probabilities.len().max(1) as f64;
    let is_found = |(rank, probability): &(usize, f64)| *probability <= step * (rank + 1) as f64;
    let last = probabilities.into_iter().enumerate().rfind(is_found);
    last.map_or(step, |(rank, _)| step * (rank + 1) as f64)
}

/// Table, row and figure.
type Place<'a> = (&'a str, &'a [String], &'a str);

fn figures_of(table: &Table) -> impl Iterator<Item = (&Row, &Figure)> {
    table.rows.iter().flat_map(|row| row.figures.iter().map(move |figure| (row, figure)))
}

fn index(tables: &[Table]) -> BTreeMap<Place<'_>, &Figure> {
    let all = tables.iter().flat_map(|table| {
        figures_of(table)
            .map(move |(row, figure)| ((table.name, row.key.as_slice(), figure.name), figure))
    });
    all.collect()
}

fn label((table, key, figure): &Place<'_>) -> String {
    format!("{table}: {} {figure}", key.join(" "))
}

fn is_old(values: &Values) -> bool {
    matches!(values, Values::Runs { samples, .. } if samples.is_empty())
}

fn differences(a: &SavedReport, b: &SavedReport) -> Vec<Difference> {
    let find = |report: &SavedReport, wanted: &str| {
        let found = report.circumstances.iter().find(|(name, _)| name == wanted);
        found.map_or_else(|| "not recorded".to_owned(), |(_, value)| value.clone())
    };
    let mut seen = BTreeSet::new();
    let names = a.circumstances.iter().chain(&b.circumstances).map(|(name, _)| name);
    let names = names.filter(|name| seen.insert(name.as_str()));
    let all =
        names.map(|name| Difference { name: name.clone(), a: find(a, name), b: find(b, name) });
    all.filter(|difference| difference.a != difference.b).collect()
}

#[cfg(test)]
mod tests;
