//! Tables as CSV and as Markdown.

use core::fmt::Write as _;

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// The names of the columns.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// Returns the table as RFC 4180 describes it: fields that need it in quotes, lines that end with
    /// CR LF, and a first line with the names of the columns.
    ///
    /// A text that a spreadsheet would take for a formula has an apostrophe before it.
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        for row in core::iter::once(&self.head).chain(&self.rows) {
            for (index, field) in row.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let field = &without_formula(field);
                let field = match field.contains([',', '"', '\r', '\n']) {
                    true => format!("\"{}\"", field.replace('"', "\"\"")),
                    false => field.clone(),
                };
                text.extend([comma, &field]);
            }
            text.push_str("\r\n");
        }
        text
    }

    /// Returns the table as Markdown, with aligned columns so that it reads well as text too; columns
    /// of numbers are flush right.
    pub fn to_markdown(&self) -> String {
        let escaped = |field: &String| in_markdown(field);
        let lines: Vec<Vec<String>> = core::iter::once(&self.head)
            .chain(&self.rows)
            .map(|row| row.iter().map(escaped).collect())
            .collect();
        let width = |column: usize| lines.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> =
            (0..self.head.len()).map(|column| width(column).unwrap_or(0).max(3)).collect();
        let is_right: Vec<bool> = (0..self.head.len())
            .map(|column| self.rows.iter().all(|row| is_number(&row[column])))
            .collect();
        let mut text = String::new();
        for (index, row) in lines.iter().enumerate() {
            for ((field, &width), &is_right) in row.iter().zip(&widths).zip(&is_right) {
                match is_right {
                    true => write!(text, "| {field:>width$} "),
                    false => write!(text, "| {field:<width$} "),
                }
                .expect("a string takes every text");
            }
            text.push_str("|\n");
            if index == 0 {
                for (&width, &is_right) in widths.iter().zip(&is_right) {
                    let dashes = "-".repeat(width - usize::from(is_right));
                    text.extend(["| ", &dashes, if is_right { ":" } else { "" }, " "]);
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// Escapes what Markdown or HTML within it would take for markup.
pub(super) fn in_markdown(text: &str) -> String {
    let mut escaped = String::new();
    let mut rest = text.chars().peekable();
    let mut before = None;
    while let Some(c) = rest.next() {
        let is_within = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        match c {
            '\r' | '\n' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A name such as `alloc_ns` has no emphasis.
            '_' if is_within(before) && is_within(rest.peek().copied()) => escaped.push(c),
            // An interval is no link without parentheses or a colon behind it.
            ']' if !matches!(rest.peek(), Some('(' | '[' | ':')) => escaped.push(c),
            '\\' | '|' | '`' | '*' | '_' | ']' | '~' | '!' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
        before = Some(c);
    }
    // Some programs make links of addresses.
    escaped.replace("://", ":\\//")
}

/// Puts an apostrophe before a text that a spreadsheet would take for a formula; numbers have a sign.
fn without_formula(field: &str) -> String {
    let is_formula =
        field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
    if is_formula { format!("'{field}") } else { field.to_owned() }
}

/// Tells whether a field has a number, perhaps with a sign, a unit or an interval, or nothing.
fn is_number(field: &str) -> bool {
    field.is_empty() || field.starts_with(|c: char| c.is_ascii_digit() || "+-[".contains(c))
}

/// Returns a number with four significant digits, or all digits of its whole part.
pub(super) fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 1000.0 || size == 0.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let row = |fields: &[&str]| fields.iter().map(|&field| field.to_owned()).collect();
        Grid {
            head: row(&["name", "ns"]),
            rows: vec![row(&["a,b", "1.5"]), row(&["say \"x\"\nnow", "-20"]), row(&["p|q\\", ""])],
        }
    }

    #[test]
    fn csv_quotes_what_rfc_4180_says() {
        assert_eq!(
            grid().to_csv(),
            "name,ns\r\n\"a,b\",1.5\r\n\"say \"\"x\"\"\nnow\",-20\r\np|q\\,\r\n"
        );
    }

    #[test]
    fn markdown_is_aligned_and_escaped() {
        let expected = "\
| name        |  ns |
| ----------- | --: |
| a,b         | 1.5 |
| say \"x\" now | -20 |
| p\\|q\\\\      |     |
";
        assert_eq!(grid().to_markdown(), expected);
        assert_eq!(Grid::default().to_markdown(), "|\n|\n");
    }

    #[test]
    fn csv_has_no_formulas_and_markdown_no_markup() {
        let texts = ["=cmd|' /C calc'!A0", "@sum", "+1+2", "-x", "-1.5", "+2", "-inf", "a=b"];
        let plain = ["'=cmd|' /C calc'!A0", "'@sum", "'+1+2", "'-x", "-1.5", "+2", "-inf", "a=b"];
        assert_eq!(texts.map(without_formula), plain);
        for (text, escaped) in [
            ("alloc_ns", "alloc_ns"),
            ("_x_ *y* ~z~", "\\_x\\_ \\*y\\* \\~z\\~"),
            ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
            ("[a](b) ![c][d]", "[a\\](b) \\![c\\][d]"),
            ("`rm`", "\\`rm\\`"),
            ("https://example.com", "https:\\//example.com"),
            ("+20.0 %, [+19.6, +20.5]", "+20.0 %, [+19.6, +20.5]"),
        ] {
            assert_eq!(in_markdown(text), escaped);
        }
    }

    #[test]
    fn numbers_have_four_digits() {
        let values = [0.0, 0.2104, 9.9996, 12.345, 123.456, 1234.5, 1e9];
        assert_eq!(
            values.map(short),
            ["0", "0.210", "10.000", "12.35", "123.5", "1234", "1000000000"]
        );
    }
}
