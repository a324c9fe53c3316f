//! Numbers of runs, pages or threads, which are 1 or more.

/// Parses a number that must not be 0.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 measures nothing: use 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("'{text}' is not a count: use a number of 1 or more")),
    }
}
