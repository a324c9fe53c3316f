//! Reading a report from JSON.

use core::error::Error;
use core::fmt;

use pagemill_status::wire::visible;
use serde_json::{Map, Value};

use super::figure::{Better, Figure, Row, SavedReport, Table, Values};
use super::kind::{FigureKind, Form, KINDS, Kind, TableKind};

/// Largest report that is read: `bench bulk` with a thousand runs writes a tenth of it.
pub const MAX_LEN_BYTES: usize = 64 << 20;

/// Largest number of runs that is believed where the runs themselves are not recorded.
const MAX_RUNS: usize = 1_000_000;

/// Why a text is not a report that can be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not JSON; the parser says where.
    NotJson(serde_json::Error),
    /// It is JSON, but no report of a benchmark.
    NotAReport(String),
    /// It is a report, and this field of it is not what the command writes.
    Field {
        /// The command that the report names.
        command: String,
        /// What is wrong, with the place.
        problem: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(_) => f.write_str("it is not JSON"),
            Self::NotAReport(problem) => f.write_str(problem),
            Self::Field { command, problem } => write!(f, "its report of {command}: {problem}"),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotJson(error) => Some(error),
            Self::NotAReport(_) | Self::Field { .. } => None,
        }
    }
}

impl SavedReport {
    /// Reads a report.
    ///
    /// Fields that are not known are circumstances, as options of the benchmark are. Characters of names
    /// that would control a terminal are replaced.
    ///
    /// # Errors
    /// For a text that is not JSON, that no benchmark has written, or whose schema is another one. A
    /// figure that is `null` is left out.
    pub fn parse(text: &[u8]) -> Result<Self, ReadError> {
        if text.trim_ascii().is_empty() {
            return Err(ReadError::NotAReport("it is empty".to_owned()));
        }
        let document: Value = serde_json::from_slice(text).map_err(ReadError::NotJson)?;
        let kind = kind(&document)?;
        let field = |problem| ReadError::Field { command: kind.command.to_owned(), problem };
        let version = document.get("schema_version").and_then(Value::as_u64);
        if version != Some(kind.schema_version) {
            let found = version.map_or("no schema_version".to_owned(), |version| {
                format!("schema_version {version}")
            });
            return Err(field(format!(
                "it has {found}, and this program reads version {}",
                kind.schema_version
            )));
        }
        let tables = kind.tables.iter().map(|table| read_table(&document, kind, table));
        Ok(Self {
            command: kind.command.to_owned(),
            circumstances: circumstances(&document, kind),
            tables: tables.collect::<Result<_, _>>().map_err(field)?,
        })
    }
}

/// Finds the kind of a document.
fn kind(document: &Value) -> Result<&'static Kind, ReadError> {
    let commands = || KINDS.iter().map(|kind| kind.command).collect::<Vec<_>>().join(", ");
    let Some(command) = document.get("command").and_then(Value::as_str) else {
        let problem = format!(
            "it is JSON, but has no command: a report is written by --json of {}",
            commands()
        );
        return Err(ReadError::NotAReport(problem));
    };
    KINDS.iter().find(|kind| kind.command == command).ok_or_else(|| {
        let command = visible(command);
        ReadError::NotAReport(format!(
            "it was written by '{command}', and only reports of {} are read",
            commands()
        ))
    })
}

fn read_table(document: &Value, kind: &Kind, table: &TableKind) -> Result<Table, String> {
    let mut rows = Vec::new();
    let nr = document.get(kind.runs).and_then(as_count);
    walk(&[document], table.path, String::new(), &mut |objects, place| {
        let key = table.keys.iter().map(|&name| key_of(objects, name, place));
        let row = Row {
            key: key.collect::<Result<_, _>>()?,
            figures: read_figures(objects[objects.len() - 1], table.figures, nr, place)?,
        };
        rows.push(row);
        Ok(())
    })?;
    let mut keys: Vec<_> = rows.iter().map(|row| &row.key).collect();
    keys.sort_unstable();
    if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{} has the row {} twice", table.name, pair[0].join(" ")));
    }
    Ok(Table { name: table.name, keys: table.keys, rows })
}

/// Calls `each` with every object that the arrays of `path` lead to, and the objects around it.
fn walk(
    objects: &[&Value],
    path: &[&str],
    place: String,
    each: &mut impl FnMut(&[&Value], &str) -> Result<(), String>,
) -> Result<(), String> {
    let Some((name, rest)) = path.split_first() else { return each(objects, &place) };
    let place = if place.is_empty() { (*name).to_owned() } else { format!("{place}.{name}") };
    let array = objects.last().and_then(|object| object.get(name)).and_then(Value::as_array);
    let array = array.ok_or_else(|| format!("{place} is not an array"))?;
    for (index, object) in array.iter().enumerate() {
        let place = format!("{place}[{index}]");
        if !object.is_object() {
            return Err(format!("{place} is not an object"));
        }
        let objects = [objects, &[object]].concat();
        walk(&objects, rest, place, each)?;
    }
    Ok(())
}

fn key_of(objects: &[&Value], name: &str, place: &str) -> Result<String, String> {
    let value = objects.iter().rev().find_map(|object| object.get(name));
    match value {
        Some(Value::String(text)) => Ok(visible(text)),
        Some(Value::Null) => Ok("none".to_owned()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(format!("{place}.{name} is neither text nor a number")),
        None => Err(format!("{place} has no {name}")),
    }
}

fn read_figures(
    row: &Value,
    figures: &[FigureKind],
    nr: Option<usize>,
    place: &str,
) -> Result<Vec<Figure>, String> {
    let mut read = Vec::new();
    for figure in figures {
        let Some(values) = read_values(row, figure, nr, place)? else { continue };
        let (unit, better) = match figure.unit {
            "" => {
                let unit = row.get("unit").and_then(Value::as_str).unwrap_or_default();
                let is_cost = unit.starts_with("ns") || unit == "ratio";
                (visible(unit), if is_cost { Better::Lower } else { Better::Higher })
            }
            unit => (unit.to_owned(), figure.better),
        };
        read.push(Figure { name: figure.name, unit, better, values });
    }
    Ok(read)
}

fn read_values(
    row: &Value,
    figure: &FigureKind,
    nr: Option<usize>,
    place: &str,
) -> Result<Option<Values>, String> {
    let name = figure.name;
    let at = |path: &str| path.split('.').try_fold(row, |value, part| value.get(part));
    let number = |path: &str| match at(path) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|number| number.is_finite());
            number.map(Some).ok_or_else(|| format!("{place}.{path} is not a number"))
        }
    };
    let [median, min, max, samples] = match figure.form {
        Form::Once => return Ok(number(name)?.map(Values::Once)),
        Form::Exact => return Ok(number(name)?.map(Values::Exact)),
        Form::Flat => ["", "_min", "_max", "_samples"].map(|end| format!("{name}{end}")),
        Form::Nested => ["median", "min", "max", "samples"].map(|part| format!("{name}.{part}")),
        Form::Row => ["median", "min", "max", "samples"].map(str::to_owned),
    };
    let (Some(median), Some(min), Some(max)) = (number(&median)?, number(&min)?, number(&max)?)
    else {
        return Ok(None);
    };
    if !(min <= median && median <= max) {
        return Err(format!(
            "{place}.{name}: the median {median} is not between the minimum {min} and the maximum {max}"
        ));
    }
    let samples = match at(&samples) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => {
            let values: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
            values.ok_or_else(|| format!("{place}.{samples} has a value that is not a number"))?
        }
        Some(_) => return Err(format!("{place}.{samples} is not an array")),
    };
    check_samples(&samples, [median, min, max])
        .map_err(|problem| format!("{place}.{name}: {problem}"))?;
    let nr = match samples.len() {
        0 => row.get("nr").and_then(as_count).or(nr),
        len => Some(len),
    };
    Ok(Some(Values::Runs { median, min, max, nr, samples }))
}

/// Refuses samples whose median and extremes are not those of the report; the report may have rounded.
fn check_samples(samples: &[f64], [median, min, max]: [f64; 3]) -> Result<(), String> {
    const ROUNDING: f64 = 0.001;
    if samples.is_empty() {
        return Ok(());
    }
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let [low, high] = [sorted[last / 2], sorted[last.div_ceil(2)]];
    for (name, reported, [low, high]) in [
        ("minimum", min, [sorted[0]; 2]),
        ("median", median, [low, high]),
        ("maximum", max, [sorted[last]; 2]),
    ] {
        // Either of the two middle samples, or a value between them, is the median of an even number.
        let slack = ROUNDING * (1.0 + reported.abs());
        if reported < low - slack || reported > high + slack {
            return Err(format!("the {name} is {reported}, and that of its samples is {low}"));
        }
    }
    Ok(())
}

/// Returns a number of runs; one that no benchmark makes counts as unknown.
fn as_count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok().filter(|count| *count <= MAX_RUNS)
}

/// Returns all fields that are not results, with objects as several fields.
fn circumstances(document: &Value, kind: &Kind) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let is_result = |name: &str| {
        let in_table = kind.tables.iter().any(|table| table.path[0] == name);
        in_table || kind.results.contains(&name) || ["command", "schema_version"].contains(&name)
    };
    for (name, value) in document.as_object().into_iter().flatten() {
        if !is_result(name) {
            flatten(&visible(name), value, &mut found);
        }
    }
    found
}

fn flatten(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => flatten_fields(name, fields, found),
        // The clock is calibrated anew by each process: these two always differ a little.
        _ if ["clock.tsc_hz", "clock.overhead_ns"].contains(&name) => {}
        Value::String(text) => found.push((name.to_owned(), visible(text))),
        Value::Null => found.push((name.to_owned(), "unknown".to_owned())),
        value => found.push((name.to_owned(), visible(&value.to_string()))),
    }
}

fn flatten_fields(name: &str, fields: &Map<String, Value>, found: &mut Vec<(String, String)>) {
    for (part, value) in fields {
        flatten(&format!("{name}.{}", visible(part)), value, found);
    }
}

#[cfg(test)]
mod tests;
