//! All figures as JSON.

use pagemill_bench::document::{COMMIT, rounded};
use serde::Serialize;

use super::Context;
use crate::rows::{Key, Rows, Spread};

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    commit: Option<&'static str>,
    debug_build: bool,
    command: &'static str,
    #[serde(flatten)]
    context: &'a Context,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    spread: Spread,
    samples: Vec<f64>,
}

fn row(key: Key, figures: &[f64]) -> Row {
    let samples = figures.iter().copied().map(rounded).collect();
    Row { key, spread: Spread::of(figures), samples }
}

/// Returns one JSON object with all figures.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub(crate) fn document(context: &Context, rows: &Rows) -> anyhow::Result<String> {
    let document = Document {
        schema_version: 1,
        commit: COMMIT,
        debug_build: cfg!(debug_assertions),
        command: "bench peers",
        context,
        rows: rows.figures().map(|(key, figures)| row(key, figures)).collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
