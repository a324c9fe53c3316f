use serde_json::json;

use super::*;
use crate::saved::figure::SavedReport;

/// A report of `bench bulk` with the ns of each figure, and a noise of 1 %.
fn report(governor: &str, figures: [f64; 4]) -> SavedReport {
    let mut figure = figures.into_iter();
    let mut spread = |name: &str, row: &mut Map<String, Value>| {
        let ns = figure.next().unwrap();
        let samples: Vec<f64> = (0..9).map(|run| ns * (0.995 + f64::from(run) / 800.0)).collect();
        row.insert(format!("{name}_min"), samples[0].into());
        row.insert(format!("{name}_max"), samples[8].into());
        row.insert(name.to_owned(), samples[4].into());
        row.insert(format!("{name}_samples"), samples.into());
    };
    let mut row = |n: u32| {
        let mut row = json!({ "shape": "ping", "op": "array", "n": n, "threads": 1 });
        let fields = row.as_object_mut().unwrap();
        spread("alloc_ns", fields);
        spread("free_ns", fields);
        row
    };
    let rows = [row(1), row(64)];
    let document = json!({ "schema_version": 1, "command": "bench bulk", "runs": 9,
        "machine": { "governor": governor }, "limit": [], "rows": rows });
    SavedReport::parse(document.to_string().as_bytes()).unwrap()
}

fn comparison() -> Comparison {
    let a = report("performance", [10.0, 10.0, 1.25, 1000.0]);
    let b = report("powersave", [10.0, 12.0, 0.625, 1060.0]);
    Comparison::of(&a, &b, 0.05, 1.0).unwrap()
}

fn text(style: Style) -> String {
    let comparison = comparison();
    Shown { comparison: &comparison, a: "old.json", b: "new.json" }.to_text(style)
}

#[test]
fn eighty_columns_have_a_line_for_each_figure() {
    let expected = "\
pagemill bench bulk
A  old.json
B  new.json
differs: machine.governor: A performance, B powersave

ns/page           A     B  change       interval verdict
n=1 alloc_ns  10.00 10.00  +0.0 %   [-0.4, +0.4] same
n=1 free_ns   10.00 12.00 +20.0 % [+19.6, +20.5] slower
n=64 alloc_ns 1.250 0.625 -50.0 % [-50.2, -49.8] faster
n=64 free_ns   1000  1060  +6.0 %   [+5.6, +6.4] slower

4 figures: in B, 1 are faster or better and 2 slower or worse; 1 are the same, 0
  unclear.
change: of B against A, with its interval in percent. On average, 5 % of the
  changes that are reported as beyond the noise come from noise within a report.
  Noise between processes comes on top: measure it with --noise.
same: less than 5 % apart; unclear: too much noise to tell, and in parentheses
  how many runs of each side may tell.
";
    assert_eq!(text(Style { width: 80, colour: false }), expected);
}

#[test]
fn forty_columns_have_three_lines_for_each_figure() {
    let shown = text(Style { width: 40, colour: false });
    let expected = "
ns/page: A, B, change, interval, verdict
n=1 alloc_ns
  10.00 10.00 +0.0 %
  [-0.4, +0.4] same
n=1 free_ns
  10.00 12.00 +20.0 %
  [+19.6, +20.5] slower
n=64 alloc_ns
  1.250 0.625 -50.0 %
  [-50.2, -49.8] faster
n=64 free_ns
  1000 1060 +6.0 %
  [+5.6, +6.4] slower

";
    assert!(shown.contains(expected), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
    let shown = text(Style { width: 44, colour: false });
    assert!(shown.contains("\n  10.00 12.00 +20.0 % [+19.6, +20.5] slower\n"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 44), "{shown}");
}

#[test]
fn colours_are_only_around_verdicts() {
    let [plain, coloured] = [false, true].map(|colour| text(Style { width: 80, colour }));
    assert!(!plain.contains('\x1b'));
    assert_eq!(coloured.matches("\x1b[31mslower\x1b[0m\n").count(), 2, "{coloured}");
    assert_eq!(coloured.matches("\x1b[32mfaster\x1b[0m\n").count(), 1, "{coloured}");
    let stripped = ["\x1b[31m", "\x1b[32m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, sequence| text.replace(sequence, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn markdown_has_a_table_with_all_keys() {
    let comparison = comparison();
    let text = Shown { comparison: &comparison, a: "old.json", b: "new.json" }.to_markdown();
    let expected = "
| shape | op    |   n | threads | figure   | unit    |     A |     B |  change |       interval | verdict |
| ----- | ----- | --: | ------: | -------- | ------- | ----: | ----: | ------: | -------------: | ------- |
| ping  | array |   1 |       1 | alloc_ns | ns/page | 10.00 | 10.00 |  +0.0 % |   [-0.4, +0.4] | same    |
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn csv_has_a_line_for_each_figure_of_each_file() {
    let comparison = comparison();
    let shown =
        ["new.json", "a,b.json"].map(|b| Shown { comparison: &comparison, a: "old.json", b });
    let csv = to_csv(&shown);
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(
        lines[0],
        "file_a,file_b,table,shape,op,n,threads,figure,unit,a,b,change_percent,low_percent,\
         high_percent,verdict,runs"
    );
    assert_eq!(lines.len(), 1 + 2 * 4 + 1);
    assert!(lines[2].starts_with("old.json,new.json,rows,ping,array,1,1,free_ns,ns/page,10,12,"));
    assert!(lines[5].starts_with("old.json,\"a,b.json\",rows,"), "{}", lines[5]);
}

#[test]
fn json_has_a_row_for_each_figure() {
    let comparison = comparison();
    let shown = Shown { comparison: &comparison, a: "old.json", b: "new.json" };
    let document: Value = serde_json::from_str(&to_json(&[shown]).unwrap()).unwrap();
    assert_eq!(
        (&document["command"], &document["schema_version"]),
        (&"bench compare".into(), &1.into())
    );
    let first = &document["comparisons"][0];
    assert_eq!((&first["of"], &first["threshold_percent"]), (&"bench bulk".into(), &5.0.into()));
    assert_eq!(first["differences"][0]["b"], "powersave");
    let row = &first["rows"][1];
    assert_eq!((&row["key"]["n"], &row["figure"]), (&"1".into(), &"free_ns".into()));
    assert_eq!((&row["verdict"], &row["change_percent"]), (&"slower".into(), &20.0.into()));
    assert!(row["low_percent"].as_f64().unwrap() > 19.0 && row["runs"].is_null());
}

#[test]
fn notes_explain_old_reports_missing_rows_and_single_values() {
    let mut comparison = comparison();
    comparison.by_extremes = true;
    comparison.only_a = vec!["rows: x".to_owned(), "rows: y".to_owned()];
    comparison.tables[0].figures[0].finding.verdict = Verdict::Once;
    comparison.tables[0].figures[1].finding.verdict = Verdict::Unclear { runs: Some(40) };
    let text = Shown { comparison: &comparison, a: "a", b: "b" }
        .to_text(Style { width: 500, colour: false });
    for part in [
        "0 are the same, 1 unclear, 1 measured once and not judged.",
        "A report of an older version has no samples",
        "Only A has 2 of the figures: rows: x and others.",
        " unclear (40)\n",
        " not judged\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
