//! A report as CSV and as Markdown.

use super::figure::{Figure, Row, SavedReport, Table, Values};
use super::grid::{Grid, in_markdown, short};

impl SavedReport {
    /// Returns all figures as one CSV table, with a line for each row of the report.
    ///
    /// The first column has the name of the table. A row has no value in the columns of other tables'
    /// keys and figures. A figure of several runs has the columns `X`, `X_min` and `X_max`; the last
    /// column has the number of runs.
    pub fn to_csv(&self) -> String {
        let keys = || self.tables.iter().flat_map(|table| table.keys.iter().copied());
        let figures =
            || self.tables.iter().flat_map(|table| &table.rows).flat_map(|row| &row.figures);
        let mut names: Vec<&str> = Vec::new();
        for name in core::iter::once("table").chain(keys()) {
            push_new(&mut names, name);
        }
        let mut columns: Vec<String> = Vec::new();
        for figure in figures() {
            for (column, _) in cells(figure) {
                push_new(&mut columns, column);
            }
        }
        let line = |table: &Table, row: &Row| -> Vec<String> {
            let key = |name: &&str| match *name {
                "table" => table.name.to_owned(),
                name => {
                    let at = table.keys.iter().position(|key| *key == name);
                    at.map_or_else(String::new, |at| row.key[at].clone())
                }
            };
            let cells: Vec<_> = row.figures.iter().flat_map(cells).collect();
            let cell = |column: &String| {
                let found = cells.iter().find(|(name, _)| name == column);
                found.map_or_else(String::new, |(_, value)| value.to_string())
            };
            let runs = row.figures.iter().find_map(|figure| match figure.values {
                Values::Runs { nr, .. } => nr,
                Values::Exact(_) | Values::Once(_) => None,
            });
            let runs = runs.map_or_else(String::new, |nr| nr.to_string());
            names.iter().map(key).chain(columns.iter().map(cell)).chain([runs]).collect()
        };
        let rows =
            self.tables.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
        let rows = rows.map(|(table, row)| line(table, row)).collect();
        let head = names.iter().map(|&name| name.to_owned());
        let head = head.chain(columns.clone()).chain(["runs".to_owned()]).collect();
        Grid { head, rows }.to_csv()
    }

    /// Returns the circumstances as a list and each table under a heading, in Markdown.
    ///
    /// A figure of several runs is `median (minimum to maximum)`.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("## pagemill {}\n\n", self.command);
        for (name, value) in &self.circumstances {
            text.push_str(&format!("- {}: {}\n", in_markdown(name), in_markdown(value)));
        }
        for table in self.tables.iter().filter(|table| !table.rows.is_empty()) {
            text.push_str(&format!("\n### {}\n\n{}", table.name, table_grid(table).to_markdown()));
        }
        text
    }
}

fn table_grid(table: &Table) -> Grid {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for figure in table.rows.iter().flat_map(|row| &row.figures) {
        // A unit that is a key has a column of its own.
        let unit = if table.keys.contains(&"unit") { "" } else { figure.unit.as_str() };
        push_new(&mut names, (figure.name, unit));
    }
    let head = table.keys.iter().map(|&key| key.to_owned());
    let head = head.chain(names.iter().map(|(name, unit)| match *unit {
        "" => (*name).to_owned(),
        unit => format!("{name}, {unit}"),
    }));
    let line = |row: &Row| {
        let figure = |name: &str| row.figures.iter().find(|figure| figure.name == name);
        let cells = names.iter().map(|(name, _)| figure(name).map_or_else(String::new, spread));
        row.key.iter().cloned().chain(cells).collect()
    };
    Grid { head: head.collect(), rows: table.rows.iter().map(line).collect() }
}

/// Returns the columns of a figure, and its values there.
fn cells(figure: &Figure) -> Vec<(String, f64)> {
    let name = figure.name.replace('.', "_");
    match figure.values {
        Values::Exact(value) | Values::Once(value) => vec![(name, value)],
        // The figure of `bench peers`, whose unit is a key.
        Values::Runs { median, min, max, .. } if name == "median" => {
            vec![(name, median), ("min".to_owned(), min), ("max".to_owned(), max)]
        }
        Values::Runs { median, min, max, .. } => {
            let [low, high] = ["min", "max"].map(|end| format!("{name}_{end}"));
            vec![(name, median), (low, min), (high, max)]
        }
    }
}

fn spread(figure: &Figure) -> String {
    match figure.values {
        Values::Exact(value) | Values::Once(value) => short(value),
        Values::Runs { median, min, max, .. } => {
            format!("{} ({} to {})", short(median), short(min), short(max))
        }
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(document: &Value) -> SavedReport {
        SavedReport::parse(document.to_string().as_bytes()).unwrap()
    }

    fn pool() -> SavedReport {
        let ns = |median: f64| json!({ "median": median, "min": median / 2.0, "max": 2000.0 });
        report(&json!({ "schema_version": 1, "command": "bench pool", "runs": 15,
            "machine": { "cpu_model": "Mill, 1" },
            "rows": [{ "packets": "hold", "work_ns": 20, "way": "bulk", "ns": ns(8.5) }],
            "paths": [{ "path": "ring", "returned_at_once": 64, "ns": ns(2.25) }] }))
    }

    #[test]
    fn csv_has_the_keys_and_figures_of_all_tables() {
        assert_eq!(
            pool().to_csv(),
            "table,packets,work_ns,way,path,returned_at_once,ns,ns_min,ns_max,runs\r\n\
             rows,hold,20,bulk,,,8.5,4.25,2000,15\r\n\
             paths,,,,ring,64,2.25,1.125,2000,15\r\n"
        );
    }

    #[test]
    fn markdown_has_the_circumstances_and_a_table_for_each() {
        let expected = "\
## pagemill bench pool

- machine.cpu_model: Mill, 1
- runs: 15

### rows

| packets | work_ns | way  |         ns, ns/packet |
| ------- | ------: | ---- | --------------------: |
| hold    |      20 | bulk | 8.500 (4.250 to 2000) |

### paths
";
        let text = pool().to_markdown();
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn the_unit_of_peers_is_a_column() {
        let row = json!({ "scenario": "steady", "peer": "p", "n": 64, "what": "both",
            "unit": "ns/page", "median": 2, "min": 1, "max": 3, "nr": 40 });
        let peers =
            report(&json!({ "schema_version": 1, "command": "bench peers", "rows": [row] }));
        assert_eq!(
            peers.to_csv(),
            "table,scenario,peer,n,what,unit,median,min,max,runs\r\n\
             rows,steady,p,64,both,ns/page,2,1,3,40\r\n"
        );
        assert!(peers.to_markdown().contains("| unit    |                 median |\n"));
    }
}
