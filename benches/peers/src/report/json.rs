//! All figures as JSON.

use serde::Serialize;

use super::Context;
use crate::rows::{Key, Rows, Spread};

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
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
}

/// Returns one JSON object with all figures.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub(crate) fn document(context: &Context, rows: &Rows) -> anyhow::Result<String> {
    let document = Document {
        schema_version: 1,
        debug_build: cfg!(debug_assertions),
        command: "bench peers",
        context,
        rows: rows.iter().map(|(key, spread)| Row { key, spread }).collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
