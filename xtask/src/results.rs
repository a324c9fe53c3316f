//! Recorded results: finds a number in a JSON document.

use serde_json::Value;

/// Returns the number at `selector`: names separated by dots, each of which may be followed by conditions
/// that select the first element of an array in which they hold.
///
/// `rows[op=array,n=64].both_ns` is the field `both_ns` of the first element of `rows` whose `op` is
/// `array` and whose `n` is 64.
///
/// # Errors
/// A sentence, for text that is not JSON, or a selector that leads to no number.
pub(crate) fn value_at(text: &str, selector: &str) -> Result<f64, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut value = &document;
    let mut way = String::new();
    for part in selector.split('.') {
        way = if way.is_empty() { part.to_owned() } else { format!("{way}.{part}") };
        let (name, conditions) = match part.split_once('[') {
            Some((name, conditions)) => (name, conditions.strip_suffix(']')),
            None => (part, None),
        };
        let found = value.get(name).and_then(|value| match conditions {
            Some(conditions) => value.as_array()?.iter().find(|row| holds(row, conditions)),
            None => Some(value),
        });
        value = found.ok_or_else(|| format!("nothing is at `{way}`"))?;
    }
    value.as_f64().ok_or_else(|| format!("`{selector}` is not a number"))
}

/// Returns whether a row has the value of each condition.
fn holds(row: &Value, conditions: &str) -> bool {
    conditions.split(',').filter_map(|condition| condition.split_once('=')).all(|(name, wanted)| {
        let text = row.get(name).map(|value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        });
        text.as_deref() == Some(wanted)
    })
}
