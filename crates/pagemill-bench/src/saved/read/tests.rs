use serde_json::json;

use super::*;
use crate::saved::compare::Comparison;

fn parse(document: &Value) -> Result<SavedReport, String> {
    SavedReport::parse(document.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn rpc(row: &Value) -> Value {
    json!({ "schema_version": 1, "command": "bench rpc", "runs": 3, "rows": [row] })
}

fn rpc_row() -> Value {
    json!({ "consumed": null, "calls": "bulk", "hint": true,
        "us": { "median": 2.0, "min": 1.0, "max": 3.0, "samples": [3.0, 1.0, 2.0] } })
}

#[cfg(feature = "benchmarks")]
#[test]
fn what_bench_bulk_writes_is_read_with_every_run() {
    use crate::bulk::results;
    use crate::report::context::samples;

    let text =
        crate::report::json::bulk(&samples::context(), &results::samples::results()).unwrap();
    let report = SavedReport::parse(text.as_bytes()).unwrap();
    assert_eq!(report.command, "bench bulk");
    let [rows, limit] = &report.tables[..] else { panic!("two tables: {report:?}") };
    assert_eq!((rows.rows.len(), limit.rows.len()), (18, 3));
    let row = rows.rows.iter().find(|row| row.key == ["burst", "list", "1", "2"]).unwrap();
    let [alloc, free, _] = &row.figures[..] else { panic!("three figures: {row:?}") };
    assert_eq!((alloc.name, alloc.unit.as_str(), free.name), ("alloc_ns", "ns/page", "free_ns"));
    let values =
        |median, min, max, samples| Values::Runs { median, min, max, nr: Some(3), samples };
    assert_eq!(alloc.values, values(15.0, 13.5, 18.0, vec![18.0, 15.0, 13.5]));
    let circumstance = |name: &str| {
        let found = report.circumstances.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(circumstance("machine.cpu_model"), Some("Mill 1"));
    assert_eq!(circumstance("cpus"), Some("[0,3]"));
    assert_eq!(circumstance("machine.governor"), Some("unknown"));
    assert_eq!([circumstance("rows"), circumstance("clock.overhead_ns")], [None; 2]);
}

#[test]
fn every_recorded_result_is_read() {
    for (name, tables) in [
        ("bulk", &[66, 11][..]),
        ("frag", &[134]),
        ("latency", &[3]),
        ("peers", &[1]),
        ("pool", &[27, 6]),
        ("rpc", &[15]),
    ] {
        let path = format!("{}/../../docs/results/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let Ok(text) = std::fs::read(&path) else { continue };
        let report = SavedReport::parse(&text).unwrap();
        assert_eq!(report.command, format!("bench {name}"));
        let rows: Vec<usize> = report.tables.iter().map(|table| table.rows.len()).collect();
        let enough = rows.iter().zip(tables).all(|(rows, least)| rows >= least);
        assert!(rows.len() == tables.len() && enough, "{name}: {rows:?}");
        let figures = report.tables.iter().flat_map(|table| &table.rows);
        assert!(figures.clone().all(|row| !row.figures.is_empty()), "{name}");
    }
}

#[test]
fn a_report_of_an_older_version_has_extremes_and_a_number_of_runs() {
    let mut row = rpc_row();
    row["us"].as_object_mut().unwrap().remove("samples");
    let report = parse(&rpc(&row)).unwrap();
    let values = &report.tables[0].rows[0].figures[0].values;
    let (median, min, max, nr) = (2.0, 1.0, 3.0, Some(3));
    assert_eq!(values, &Values::Runs { median, min, max, nr, samples: vec![] });
    assert_eq!(report.tables[0].rows[0].key, ["none", "bulk", "true"]);
}

#[test]
fn null_figures_are_left_out_and_unknown_fields_are_circumstances() {
    let mut document = rpc(&rpc_row());
    document["rows"][0]["us"]["median"] = Value::Null;
    document["color"] = json!("blue");
    let report = parse(&document).unwrap();
    assert_eq!(report.tables[0].rows[0].figures, []);
    assert!(report.circumstances.contains(&("color".to_owned(), "blue".to_owned())));
}

#[test]
fn the_unit_of_a_peers_row_gives_its_direction() {
    for (unit, better) in [
        ("ns/page", Better::Lower),
        ("ns/block", Better::Lower),
        ("ratio", Better::Lower),
        ("Mpages/s", Better::Higher),
        ("blocks", Better::Higher),
    ] {
        let row = json!({ "scenario": "steady", "peer": "p", "n": 64, "what": "both", "unit": unit,
            "median": 2, "min": 1, "lower": 1, "upper": 3, "max": 3, "nr": 40 });
        let document = json!({ "schema_version": 1, "command": "bench peers", "rows": [row] });
        let report = parse(&document).unwrap();
        let figure = &report.tables[0].rows[0].figures[0];
        assert_eq!((figure.better, figure.unit.as_str()), (better, unit));
        let Values::Runs { nr, .. } = figure.values else { panic!("{figure:?}") };
        assert_eq!(nr, Some(40));
    }
}

#[test]
fn each_wrong_text_is_told_with_its_place() {
    let with = |field: &str, value: Value| {
        let mut row = rpc_row();
        row["us"][field] = value;
        rpc(&row)
    };
    for (document, told) in [
        (json!([1, 2]), "has no command"),
        (json!({ "command": 7 }), "has no command"),
        (
            json!({ "command": "xdp bench" }),
            "it was written by 'xdp bench', and only reports of bench",
        ),
        (json!({ "command": "a\u{1b}[31m" }), "by 'a\u{fffd}[31m'"),
        (json!({ "command": "bench rpc" }), "bench rpc: it has no schema_version"),
        (
            json!({ "command": "bench rpc", "schema_version": 9 }),
            "version 9, and this program reads",
        ),
        (json!({ "command": "bench rpc", "schema_version": 1 }), "rows is not an array"),
        (rpc(&json!(3)), "rows[0] is not an object"),
        (rpc(&json!({ "calls": "bulk" })), "rows[0] has no consumed"),
        (rpc(&json!({ "consumed": [] })), "rows[0].consumed is neither text nor a number"),
        (with("median", json!("2")), "rows[0].us.median is not a number"),
        (with("median", json!(9)), "the median 9 is not between the minimum 1 and the maximum 3"),
        (with("samples", json!([1, "x"])), "rows[0].us.samples has a value that is not a number"),
        (
            with("samples", json!([3.0, 1.0, 2.5])),
            "the median is 2, and that of its samples is 2.5",
        ),
        (
            with("samples", json!([3.0, 1.5, 2.0])),
            "the minimum is 1, and that of its samples is 1.5",
        ),
        (with("samples", json!([9.0, 1.0, 2.0])), "the maximum is 3, and that of its samples is 9"),
        (with("samples", json!(7)), "rows[0].us.samples is not an array"),
        (
            json!({ "schema_version": 1, "command": "bench rpc", "rows": [rpc_row(), rpc_row()] }),
            "rows has the row none bulk true twice",
        ),
    ] {
        let error = parse(&document).unwrap_err();
        assert!(error.contains(told), "{error}\n{document}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for (text, told) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("{", "it is not JSON"),
        ("{\"a\": NaN}", "it is not JSON"),
        ("{\"a\": 1e999}", "it is not JSON"),
        ("\u{0}", "it is not JSON"),
    ] {
        let error = SavedReport::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), told, "{text:?}");
        assert_eq!(error.source().is_some(), told.ends_with("JSON"), "{text:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(SavedReport::parse(deep.as_bytes()).unwrap_err().to_string(), "it is not JSON");
    assert_eq!(SavedReport::parse(&[0xff, 0xfe]).unwrap_err().to_string(), "it is not JSON");
}

#[test]
fn a_number_of_runs_that_nobody_makes_is_unknown() {
    for nr in [json!(u64::MAX), json!(1_000_001), json!(-3), json!("15")] {
        let mut document = rpc(&rpc_row());
        document["rows"][0]["us"]["samples"] = Value::Null;
        document["runs"] = nr;
        let report = parse(&document).unwrap();
        let Values::Runs { nr, .. } = report.tables[0].rows[0].figures[0].values else {
            panic!("{report:?}")
        };
        assert_eq!(nr, None, "{document}");
        Comparison::of(&report, &report, 0.05, 1.0).unwrap();
    }
}
