//! The program as a whole: what is typed, what comes out, and the exit code.

use std::fs;
use std::io::pipe;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// Options that make an experiment as small as it can be.
const TINY: [&str; 8] = ["--arena", "16M", "--runs", "2", "--slice", "0", "--n", "1,8,64"];

fn pagemill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    pagemill(args).output().expect("the program is there")
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).expect("the output is UTF-8")
}

/// Runs what must work, and returns what it prints.
fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// Runs what must fail with `code`, and returns the one line that says why.
fn fail(args: &[&str], code: i32) -> String {
    let output = run(args);
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {complaint}");
    assert_eq!(text(&output.stdout), "", "{args:?}");
    assert_eq!(complaint.matches('\n').count(), 1, "{args:?}: {complaint}");
    complaint.trim_end().to_owned()
}

/// A path in the folder that cargo keeps for tests; each test names its own.
fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn tiny<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["bench", "bulk"].into_iter().chain(TINY).chain(more.iter().copied()).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("the output is JSON")
}

#[test]
fn bulk_reports_every_cell_as_json_and_as_a_picture() {
    let (figures, picture) = (scratch("cells.json"), scratch("cells.svg"));
    let paths = [&figures, &picture].map(|path| path.to_str().unwrap());
    let table = succeed(&tiny(&["--json", paths[0], "--svg", paths[1]]));
    assert!(table.contains("ping: ") && table.contains("burst: "), "{table}");

    let document = json(&fs::read_to_string(&figures).unwrap());
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["pagemill_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["arena"]["len_bytes"], 16 << 20);
    assert!(document["arena"]["kind"]["pages"].is_string());
    assert!(document["machine"]["kernel_release"].is_string());
    assert_eq!(document["runs"], 2);
    let limit = document["limit"].as_array().unwrap();
    assert_eq!(limit.iter().map(|row| &row["n"]).collect::<Vec<_>>(), [1, 8, 64]);
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 3 * 3);
    for row in rows {
        assert_eq!(row["threads"], 1);
        for figure in ["alloc_ns", "free_ns", "both_ns"] {
            let [low, middle, high] = ["_min", "", "_max"]
                .map(|end| row[format!("{figure}{end}")].as_f64().expect("it is a number"));
            assert!(0.0 < low && low <= middle && middle <= high, "{row}");
        }
        let has_cycles = document["clock"]["tsc_hz"].is_u64();
        assert_eq!(row["alloc_cycles"].is_f64(), has_cycles, "{row}");
    }
    assert_well_formed(&fs::read_to_string(&picture).unwrap());
}

/// Checks that every element that is opened is closed, in order.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag.split_ascii_whitespace().next().expect("a tag has a name");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && !name.starts_with(['?', '!']) {
            open.push(name);
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(xml.starts_with("<svg") && xml.contains("<text"));
}

#[test]
fn bulk_ends_with_one_sentence() {
    let output = succeed(&tiny(&["--quick"]));
    let last = output.lines().last().unwrap();
    assert!(last.starts_with("On this machine a page costs "), "{last}");
    assert!(last.contains("in bulk of 64") && last.contains("the limit, copying"), "{last}");
    assert!(last.ends_with(" ns."), "{last}");
}

#[test]
fn figures_alone_go_to_the_standard_output() {
    let document = json(&succeed(&tiny(&["--shape", "ping", "--json", "-"])));
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3 * 3);
    assert!(rows.iter().all(|row| row["shape"] == "ping"));
}

#[test]
fn every_kind_of_arena_is_measured() {
    for options in [
        ["--huge", "never", "--prefault"].as_slice(),
        ["--huge", "transparent"].as_slice(),
        ["--memfd"].as_slice(),
    ] {
        assert!(succeed(&tiny(options)).contains("On this machine"), "{options:?}");
    }
}

#[test]
fn each_thread_has_a_cpu_of_its_own() {
    let allowed = std::thread::available_parallelism().unwrap().get();
    let threads = allowed.min(2).to_string();
    let document = json(&succeed(&tiny(&["--threads", &threads, "--json", "-"])));
    let mut cpus: Vec<_> = document["cpus"].as_array().unwrap().clone();
    cpus.dedup();
    assert_eq!(cpus.len().to_string(), threads);
    assert_eq!(document["rows"][0]["threads"].to_string(), threads);
}

#[test]
fn frag_shows_what_is_left_after_each_step() {
    let path = scratch("frag.json");
    let options = ["--arena", "16M", "--rounds", "3", "--seed", "7"];
    let args = [&["bench", "frag", "--json", path.to_str().unwrap()], &options[..]].concat();
    let table = succeed(&args);
    let last = table.lines().last().unwrap();
    assert!(last.starts_with("After 3 rounds of churn in a half-full arena "), "{last}");
    assert!(last.contains("no compaction") && last.ends_with("all 8 are."), "{last}");
    for row in ["freeing half", "round 1, single", "round 3, bulk", "freeing the rest"] {
        assert_eq!(table.matches(row).count(), 2, "{row}\n{table}");
    }

    let document = json(&fs::read_to_string(&path).unwrap());
    assert_eq!(document["schema_version"], 1);
    assert_eq!((&document["rounds"], &document["seed"]), (&3.into(), &7.into()));
    let lives = document["lives"].as_array().unwrap();
    assert_eq!(lives.iter().map(|life| &life["kinds"]).collect::<Vec<_>>(), ["one", "two"]);
    for life in lives {
        let steps = life["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 2 + 2 * 3 + 2);
        for step in steps {
            let [used, free] =
                ["used_pages", "free_pages"].map(|name| step[name].as_u64().unwrap());
            assert_eq!(used + free, 4096, "{step}");
            assert_eq!(step["blocks_2m_whole"], step["blocks_2m_allocated"], "{step}");
        }
        assert_eq!(steps.last().unwrap()["blocks_2m_allocated"], 8);
    }
    let again = json(&succeed(&[&["bench", "frag", "--json", "-"], &options[..]].concat()));
    assert_eq!(again, document, "the same seed makes the same choices");
}

#[test]
fn latency_times_calls_alone_and_beside_a_hog() {
    let path = scratch("latency.json");
    let options = ["--arena", "64M", "--pages", "8192", "--time", "0", "--json"];
    let args = [&["bench", "latency"], &options[..], &[path.to_str().unwrap()]].concat();
    let table = succeed(&args);
    let last = table.lines().last().unwrap();
    assert!(last.starts_with("On this machine 99.9 % of single pages take "), "{last}");
    assert!(table.contains("; reading it costs "), "{table}");

    let document = json(&fs::read_to_string(&path).unwrap());
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["hog_pages"], 8192);
    let rows = document["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["company"].as_str().unwrap()).collect();
    match document["other_cpu"].is_u64() {
        true => assert_eq!(names, ["alone", "other_cpu", "same_cpu"]),
        false => assert_eq!(names, ["alone", "same_cpu"]),
    }
    for row in rows {
        for kind in ["single", "locked"] {
            assert!(row[kind]["calls"].as_u64().unwrap() > 0, "{row}");
            let figures = ["p50_ns", "p99_ns", "p999_ns", "max_ns"];
            let figures = figures.map(|name| row[kind][name].as_f64().unwrap());
            assert!(figures.is_sorted(), "{row}");
        }
    }
    assert_eq!(rows[0]["hog_calls"], 0);
}

#[test]
fn latency_needs_one_cpu() {
    let options = ["--arena", "64M", "--pages", "100", "--time", "0", "--json", "-"];
    let allowed = json(&succeed(&[&["bench", "latency"], &options[..]].concat()));
    let cpu = allowed["probe_cpu"].to_string();
    let args = [&["bench", "latency", "--cpus", &cpu], &options[..]].concat();
    assert_eq!(json(&succeed(&args))["other_cpu"], Value::Null);
}

#[test]
fn what_the_other_experiments_cannot_do_is_told_in_one_line() {
    for (experiment, options, told) in [
        ("frag", ["--arena", "1M"].as_slice(), "--arena 1 MiB has no block of 2 MiB"),
        ("frag", &["--arena", "5"], "--arena"),
        ("frag", &["--rounds", "1001"], "--rounds"),
        ("frag", &["--seed", "luck"], "--seed"),
        ("frag", &["--huge", "never"], "--huge"),
        ("latency", &["--pages", "0"], "--pages"),
        ("latency", &["--arena", "64M"], "--pages 262144 is more than half"),
        ("latency", &["--time", "600001"], "--time"),
        ("latency", &["--cpus", "1023"], "--cpus"),
        ("latency", &["--seed", "1"], "--seed"),
    ] {
        let complaint = fail(&[&["bench", experiment], options].concat(), 2);
        assert!(complaint.contains(told), "{complaint}");
    }
}

#[test]
fn bad_input_is_told_in_one_line_that_names_the_option() {
    for (options, option) in [
        (["--n", "0"].as_slice(), "--n"),
        (["--n", "two"].as_slice(), "--n"),
        (["--n", "9000"].as_slice(), "--n 9000"),
        (["--arena", "5"].as_slice(), "--arena"),
        (["--arena", "1Q"].as_slice(), "--arena"),
        (["--arena", "1024T"].as_slice(), "--arena 1024 TiB"),
        (["--arena", "3M", "--huge", "hugetlb"].as_slice(), "--arena"),
        (["--huge", "enormous"].as_slice(), "--huge"),
        (["--cpus", "1023"].as_slice(), "--cpus"),
        (["--cpus", "1-0"].as_slice(), "--cpus"),
        (["--threads", "0"].as_slice(), "--threads"),
        (["--threads", "2000"].as_slice(), "--threads 2000"),
        (["--runs", "0"].as_slice(), "--runs"),
        (["--slice", "-3"].as_slice(), "-3"),
        (["--shape", "line"].as_slice(), "--shape"),
        (["--json"].as_slice(), "--json"),
        (["--nonsense"].as_slice(), "--nonsense"),
    ] {
        let mut args = vec!["bench", "bulk"];
        if !options.contains(&"--arena") {
            args.extend(["--arena", "16M"]);
        }
        args.extend(options);
        let complaint = fail(&args, 2);
        assert!(complaint.starts_with("pagemill: "), "{complaint}");
        assert!(complaint.contains(option), "{complaint}");
    }
}

#[test]
fn a_missing_command_is_told_with_those_there_are() {
    let complaint = fail(&[], 2);
    assert!(complaint.contains("bench or info"), "{complaint}");
    assert!(fail(&["benhc"], 2).contains("'benhc'"));
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_is_measured() {
    for option in ["--json", "--svg"] {
        // Measuring this would take ten seconds for each cell.
        let args = ["bench", "bulk", "--slice", "10000", option, "/nowhere/at/all"];
        let complaint = fail(&args, 1);
        assert!(complaint.contains("/nowhere/at/all"), "{complaint}");
    }
    for experiment in ["frag", "latency"] {
        let args = ["bench", experiment, "--json", "/nowhere/at/all"];
        assert!(fail(&args, 1).contains("/nowhere/at/all"));
    }
    assert!(fail(&["info", "--json", "/nowhere/at/all"], 1).contains("/nowhere/at/all"));
}

#[test]
fn an_arena_that_cannot_be_mapped_says_how_much_was_asked_for() {
    // No pool of huge pages is that large.
    let complaint = fail(&["info", "--arena", "8T", "--huge", "hugetlb"], 1);
    assert!(complaint.contains("8 TiB"), "{complaint}");
}

#[test]
fn info_shows_the_same_as_text_and_as_json() {
    let shown = succeed(&["info", "--arena", "64M"]);
    let document = json(&succeed(&["info", "--arena", "64M", "--json"]));
    let zone = &document["zones"][0];
    for name in ["min", "low", "high", "spanned", "present", "managed"] {
        let line = format!("        {name:<8} {}\n", zone[name]);
        assert!(shown.contains(&line), "{line}{shown}");
    }
    assert_eq!(zone["free"], 16384);
    assert!(shown.contains("pages free     16384\n"), "{shown}");
    let orders = zone["free_blocks"].as_array().unwrap();
    let counts: String =
        orders.iter().map(|count| format!("{:>7}", count.as_u64().unwrap())).collect();
    assert!(shown.contains(&format!("Node 0, zone   Normal {counts}\n")), "{shown}");
    for (name, count) in document["vmstat"].as_object().unwrap() {
        assert!(shown.contains(&format!("\n{name} {count}\n")), "{name}");
    }
    let pagesets = zone["pagesets"].as_array().unwrap();
    assert_eq!(shown.matches(" batch: ").count(), pagesets.len());
}

#[test]
fn info_writes_json_to_a_file() {
    let path = scratch("info.json");
    let args = ["info", "--arena", "8M", "--json", path.to_str().unwrap()];
    assert_eq!(succeed(&args), "");
    let document = json(&fs::read_to_string(&path).unwrap());
    assert_eq!(document["arena"]["len_bytes"], 8 << 20);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let output = pagemill(&["info", "--arena", "8M"]).stdout(writer).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn help_and_version_are_there() {
    assert!(succeed(&["--version"]).starts_with("pagemill "));
    for args in [["--help"].as_slice(), &["bench", "--help"], &["info", "-h"]] {
        assert!(succeed(args).contains("Usage: pagemill"), "{args:?}");
    }
    for (experiment, option) in [("frag", "--rounds"), ("latency", "--pages")] {
        assert!(succeed(&["bench", experiment, "--help"]).contains(option), "{experiment}");
    }
    let help = succeed(&["bench", "bulk", "--help"]);
    for option in ["--n", "--runs", "--threads", "--cpus", "--arena", "--huge", "--json", "--svg"] {
        assert!(help.contains(option), "{option}");
    }
}
