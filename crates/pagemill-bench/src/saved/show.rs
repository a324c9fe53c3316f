//! A comparison for people, as text of any width and as Markdown, and for programs, as CSV and JSON.

use core::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::compare::{Compared, ComparedTable, Comparison, FALSE_SHARE};
use super::figure::Better;
use super::grid::{Grid, in_markdown, short};
use super::judge::Verdict;
use super::rank::Interval;
use crate::document::rounded;

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// How a comparison is shown as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the screen.
    pub width: usize,
    /// Whether verdicts are coloured, by escape sequences of terminals.
    pub colour: bool,
}

/// A comparison with the names of its files.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// The comparison.
    pub comparison: &'a Comparison,
    /// The name of A's file.
    pub a: &'a str,
    /// The name of B's file.
    pub b: &'a str,
}

impl Shown<'_> {
    /// Returns the comparison as text.
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        let comparison = self.comparison;
        for line in [
            format!("pagemill {}", comparison.command),
            format!("A  {}", self.a),
            format!("B  {}", self.b),
        ] {
            push(&mut text, &line);
        }
        for difference in &comparison.differences {
            let (name, a, b) = (&difference.name, &difference.a, &difference.b);
            push_wrapped(&mut text, &format!("differs: {name}: A {a}, B {b}"), style.width);
        }
        for table in &comparison.tables {
            push(&mut text, "");
            if comparison.tables.len() > 1 {
                push(&mut text, table.name);
            }
            Lines::of(table).push_to(&mut text, style);
        }
        push(&mut text, "");
        for note in self.notes() {
            push_wrapped(&mut text, &note, style.width);
        }
        text
    }

    /// Returns the comparison as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "## pagemill {}\n\n- A: {}\n- B: {}\n",
            self.comparison.command,
            in_markdown(self.a),
            in_markdown(self.b)
        );
        for difference in &self.comparison.differences {
            let [name, a, b] =
                [&difference.name, &difference.a, &difference.b].map(|text| in_markdown(text));
            text.push_str(&format!("- differs: {name}: A {a}, B {b}\n"));
        }
        for table in &self.comparison.tables {
            let mut head: Vec<String> = table.keys.iter().map(|&key| key.to_owned()).collect();
            head.extend(
                ["figure", "unit", "A", "B", "change", "interval", "verdict"].map(str::to_owned),
            );
            let rows = table.figures.iter().map(|compared| {
                let [a, b] = [compared.a, compared.b].map(short);
                let cells = [compared.name.to_owned(), compared.unit.clone(), a, b];
                let found = [change(compared), interval(compared), verdict(compared)];
                compared.key.iter().cloned().chain(cells).chain(found).collect()
            });
            let grid = Grid { head, rows: rows.collect() };
            text.push_str(&format!(
                "\n### {}\n\n{}",
                table.name,
                without_twins(grid).to_markdown()
            ));
        }
        for note in self.notes() {
            text.push_str(&format!("\n{}\n", in_markdown(&note)));
        }
        text
    }

    /// Sums up, and explains the columns.
    fn notes(&self) -> Vec<String> {
        let comparison = self.comparison;
        let count = |is: fn(Verdict) -> bool| comparison.count(is);
        let nr = comparison.figures().count();
        let (better, worse) = (count(|v| v == Verdict::Better), count(|v| v == Verdict::Worse));
        let (same, once) = (count(|v| v == Verdict::Same), count(|v| v == Verdict::Once));
        let unclear = nr - better - worse - same - once;
        let mut sum = format!(
            "{nr} figures: in B, {better} are faster or better and {worse} slower or worse; {same} \
             are the same, {unclear} unclear"
        );
        if once > 0 {
            sum.push_str(&format!(", {once} measured once and not judged"));
        }
        let mut notes = vec![sum + "."];
        if comparison.figures().any(|compared| compared.finding.interval.is_some()) {
            let between = 100.0 * (comparison.judge.between - 1.0);
            notes.push(match between > 0.0 {
                true => format!(
                    "change: of B against A, with its interval in percent, widened by {between:.1} % \
                     for the noise between processes."
                ),
                false => format!(
                    "change: of B against A, with its interval in percent. On average, {:.0} % of \
                     the changes that are reported as beyond the noise come from noise within a \
                     report. Noise between processes comes on top: measure it with --noise.",
                    100.0 * FALSE_SHARE
                ),
            });
        }
        let relevant = 100.0 * comparison.judge.relevant;
        notes.push(format!(
            "same: less than {relevant} % apart; unclear: too much noise to tell, and in \
             parentheses how many runs of each side may tell."
        ));
        if comparison.by_extremes {
            notes.push(
                "A report of an older version has no samples, only the extremes of its runs: its \
                 figures are judged by these, which shows large differences only."
                    .to_owned(),
            );
        }
        for (name, only) in [("A", &comparison.only_a), ("B", &comparison.only_b)] {
            if let Some(first) = only.first() {
                let more = if only.len() > 1 { " and others" } else { "" };
                let nr = only.len();
                notes.push(format!("Only {name} has {nr} of the figures: {first}{more}."));
            }
        }
        notes
    }
}

/// Returns all comparisons as one CSV table, with the names of the files in the first two columns.
pub fn to_csv(all: &[Shown<'_>]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for &key in all.iter().flat_map(|shown| &shown.comparison.tables).flat_map(|table| table.keys) {
        // The unit of a figure has its own column.
        if key != "unit" && !keys.contains(&key) {
            keys.push(key);
        }
    }
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let figures = [
        "figure",
        "unit",
        "a",
        "b",
        "change_percent",
        "low_percent",
        "high_percent",
        "verdict",
        "runs",
    ];
    let mut grid = Grid {
        head: [owned(&["file_a", "file_b", "table"]), owned(&keys), owned(&figures)].concat(),
        rows: Vec::new(),
    };
    for shown in all {
        for table in &shown.comparison.tables {
            for compared in &table.figures {
                let key = |name: &&str| {
                    let at = table.keys.iter().position(|key| key == name);
                    at.map_or_else(String::new, |at| compared.key[at].clone())
                };
                let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
                let Numbers { change, low, high } = Numbers::of(compared);
                let mut row = owned(&[shown.a, shown.b, table.name]);
                row.extend(keys.iter().map(key));
                row.extend([compared.name.to_owned(), compared.unit.clone()]);
                row.extend([compared.a, compared.b].map(|value| value.to_string()));
                row.extend([change, low, high].map(number));
                row.push(word(compared).to_owned());
                row.push(runs(compared).map_or_else(String::new, |nr| nr.to_string()));
                grid.rows.push(row);
            }
        }
    }
    grid.to_csv()
}

/// Returns all comparisons as JSON.
///
/// # Errors
/// None known: all numbers and texts can be written.
pub fn to_json(all: &[Shown<'_>]) -> anyhow::Result<String> {
    let comparisons = all.iter().map(|shown| {
        let comparison = shown.comparison;
        JsonComparison {
            of: &comparison.command,
            a: shown.a,
            b: shown.b,
            threshold_percent: rounded(100.0 * comparison.judge.relevant),
            noise_percent: rounded(100.0 * (comparison.judge.between - 1.0)),
            by_extremes: comparison.by_extremes,
            differences: comparison
                .differences
                .iter()
                .map(|difference| JsonDifference {
                    name: &difference.name,
                    a: &difference.a,
                    b: &difference.b,
                })
                .collect(),
            rows: comparison
                .tables
                .iter()
                .flat_map(|table| table.figures.iter().map(|compared| json_row(table, compared)))
                .collect(),
            only_a: &comparison.only_a,
            only_b: &comparison.only_b,
        }
    });
    let document = Document {
        schema_version: SCHEMA_VERSION,
        pagemill_version: env!("CARGO_PKG_VERSION"),
        command: "bench compare",
        comparisons: comparisons.collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    schema_version: u32,
    pagemill_version: &'static str,
    command: &'static str,
    comparisons: Vec<JsonComparison<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonComparison<'a> {
    of: &'a str,
    a: &'a str,
    b: &'a str,
    threshold_percent: f64,
    noise_percent: f64,
    by_extremes: bool,
    differences: Vec<JsonDifference<'a>>,
    rows: Vec<JsonRow<'a>>,
    only_a: &'a [String],
    only_b: &'a [String],
}

#[derive(Debug, Serialize)]
struct JsonDifference<'a> {
    name: &'a str,
    a: &'a str,
    b: &'a str,
}

#[derive(Debug, Serialize)]
struct JsonRow<'a> {
    table: &'a str,
    key: Map<String, Value>,
    figure: &'a str,
    unit: &'a str,
    a: f64,
    b: f64,
    change_percent: Option<f64>,
    low_percent: Option<f64>,
    high_percent: Option<f64>,
    verdict: &'static str,
    runs: Option<usize>,
}

fn json_row<'a>(table: &ComparedTable, compared: &'a Compared) -> JsonRow<'a> {
    let Numbers { change, low, high } = Numbers::of(compared);
    let key = table.keys.iter().zip(&compared.key);
    JsonRow {
        table: table.name,
        key: key.map(|(&name, value)| (name.to_owned(), Value::from(value.as_str()))).collect(),
        figure: compared.name,
        unit: &compared.unit,
        a: compared.a,
        b: compared.b,
        change_percent: change,
        low_percent: low,
        high_percent: high,
        verdict: word(compared),
        runs: runs(compared),
    }
}

/// A change and the limits of its interval, in percent.
struct Numbers {
    change: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl Numbers {
    fn of(compared: &Compared) -> Self {
        let percent = |ratio: f64| rounded(100.0 * (ratio - 1.0));
        let interval = compared.finding.interval;
        Self {
            change: compared.finding.ratio.map(percent),
            low: interval.map(|interval| percent(interval.low)),
            high: interval.map(|interval| percent(interval.high)),
        }
    }
}

/// The lines of a table, in columns.
struct Lines<'a> {
    table: &'a ComparedTable,
    rows: Vec<([String; 6], &'a Compared)>,
}

/// What the lines below a label begin with.
const INDENT: &str = "  ";
const HEAD: [&str; 6] = ["", "A", "B", "change", "interval", "verdict"];

impl<'a> Lines<'a> {
    fn of(table: &'a ComparedTable) -> Self {
        let rows = table.figures.iter().map(|compared| {
            let label = label(table, compared);
            let [a, b] = [compared.a, compared.b].map(short);
            let found = [change(compared), interval(compared), verdict(compared)];
            let [change, interval, verdict] = found;
            ([label, a, b, change, interval, verdict], compared)
        });
        Self { table, rows: rows.collect() }
    }

    fn push_to(&self, text: &mut String, style: Style) {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|(cells, _)| cells[column].chars().count());
            cells.max().unwrap_or(0).max(HEAD[column].len())
        };
        let widths: [usize; 6] = core::array::from_fn(width);
        let units: Vec<&str> = self.table.figures.iter().map(|c| c.unit.as_str()).collect();
        let one_unit = units.windows(2).all(|pair| pair[0] == pair[1]);
        let unit = if one_unit { units.first().copied().unwrap_or_default() } else { "" };
        if widths.iter().sum::<usize>() + widths.len() - 1 > style.width {
            self.push_narrow(text, style, unit);
            return;
        }
        let head = [unit, HEAD[1], HEAD[2], HEAD[3], HEAD[4], HEAD[5]];
        push(text, &in_columns(head, widths, None));
        for (cells, compared) in &self.rows {
            let cells = cells.each_ref().map(String::as_str);
            push(text, &in_columns(cells, widths, colour(compared, style)));
        }
    }

    /// Writes two lines for each figure, or three where two are wider than the screen.
    fn push_narrow(&self, text: &mut String, style: Style, unit: &str) {
        let unit = if unit.is_empty() { String::new() } else { format!("{unit}: ") };
        push(text, &format!("{unit}A, B, change, interval, verdict"));
        let joined = |cells: &[String]| {
            let cells = cells.iter().map(|cell| cell.trim()).filter(|cell| !cell.is_empty());
            cells.collect::<Vec<_>>().join(" ")
        };
        let is_wide =
            |cells: &[String; 6]| INDENT.len() + joined(&cells[1..]).chars().count() > style.width;
        let are_three = self.rows.iter().any(|(cells, _)| is_wide(cells));
        for (cells, compared) in &self.rows {
            let [label, .., interval, verdict] = cells;
            push_wrapped(text, label, style.width);
            let verdict = coloured(verdict, colour(compared, style));
            if are_three {
                push(text, &format!("{INDENT}{}", joined(&cells[1..4])));
                let parts = [interval.trim().to_owned(), verdict];
                push(text, &format!("{INDENT}{}", joined(&parts)));
            } else {
                push(text, &format!("{INDENT}{} {verdict}", joined(&cells[1..5])));
            }
        }
    }
}

/// Aligns the first and the last cell on the left, and the others on the right.
fn in_columns(cells: [&str; 6], widths: [usize; 6], colour: Option<&str>) -> String {
    let mut line = String::new();
    for (index, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
        match index {
            0 => write!(line, "{cell:<width$}"),
            5 => write!(line, " {}", coloured(cell, colour)),
            _ => write!(line, " {cell:>width$}"),
        }
        .expect("a string takes every text");
    }
    line.trim_end().to_owned()
}

/// Names a figure by the keys in which the rows of its table differ, and by its own name.
fn label(table: &ComparedTable, compared: &Compared) -> String {
    let mut parts = Vec::new();
    for (at, (&name, value)) in table.keys.iter().zip(&compared.key).enumerate() {
        if table.figures.iter().all(|other| other.key[at] == *value) {
            continue;
        }
        // A text says what it is; a number does not.
        let is_text = value.starts_with(|c: char| c.is_alphabetic());
        let says_enough = is_text && !["none", "true", "false"].contains(&value.as_str());
        parts.push(if says_enough { value.clone() } else { format!("{name}={value}") });
    }
    if table.figures.iter().any(|other| other.name != compared.name) || parts.is_empty() {
        parts.push(compared.name.to_owned());
    }
    parts.join(" ")
}

/// Returns the change in percent, with a sign.
fn change(compared: &Compared) -> String {
    compared.finding.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{} %", percent(ratio)))
}

fn interval(compared: &Compared) -> String {
    compared.finding.interval.map_or_else(String::new, |Interval { low, high, .. }| {
        format!("[{}, {}]", percent(low), percent(high))
    })
}

/// Returns a ratio as a change in percent, with as many decimals as it needs.
fn percent(ratio: f64) -> String {
    let percent = 100.0 * (ratio - 1.0);
    if percent.abs() < 99.95 { format!("{percent:+.1}") } else { format!("{percent:+.0}") }
}

/// Names the verdict, with the number of runs that may tell.
fn verdict(compared: &Compared) -> String {
    let runs = runs(compared).map_or_else(String::new, |nr| format!(" ({nr})"));
    format!("{}{runs}", word(compared))
}

/// Names the verdict.
fn word(compared: &Compared) -> &'static str {
    let unit = compared.unit.as_str();
    let is_time = unit.starts_with("ns") || unit.starts_with("us") || unit.starts_with("s/");
    let is_rate = unit.ends_with("/s") && compared.better == Better::Higher;
    match (compared.finding.verdict, is_time || is_rate) {
        (Verdict::Better, true) => "faster",
        (Verdict::Worse, true) => "slower",
        (Verdict::Better, false) => "better",
        (Verdict::Worse, false) => "worse",
        (Verdict::Same, _) => "same",
        (Verdict::Unclear { .. }, _) => "unclear",
        (Verdict::Once, _) => "not judged",
    }
}

fn runs(compared: &Compared) -> Option<usize> {
    match compared.finding.verdict {
        Verdict::Unclear { runs } => runs,
        _ => None,
    }
}

fn colour(compared: &Compared, style: Style) -> Option<&'static str> {
    let colour = match compared.finding.verdict {
        Verdict::Better => "32",
        Verdict::Worse => "31",
        Verdict::Unclear { .. } => "33",
        Verdict::Same | Verdict::Once => return None,
    };
    style.colour.then_some(colour)
}

fn coloured(text: &str, colour: Option<&str>) -> String {
    match colour {
        Some(colour) => format!("\x1b[{colour}m{text}\x1b[0m"),
        None => text.to_owned(),
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Adds a line, broken between words; what follows a break is indented by two columns.
fn push_wrapped(text: &mut String, line: &str, width: usize) {
    // A percent sign stays with its number.
    let line = line.replace(" %", "\u{a0}%");
    let mut used = 0;
    for word in line.split(' ') {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > width {
            text.push_str("\n  ");
            used = 2;
        } else if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(&word.replace('\u{a0}', " "));
        used += len;
    }
    text.push('\n');
}

/// Removes a column that repeats one of the same name before it, as the unit of `bench peers`.
fn without_twins(mut grid: Grid) -> Grid {
    let twin =
        (1..grid.head.len()).find(|&column| grid.head[..column].contains(&grid.head[column]));
    if let Some(column) = twin {
        grid.head.remove(column);
        grid.rows.iter_mut().for_each(|row| drop(row.remove(column)));
    }
    grid
}

#[cfg(test)]
mod tests;
