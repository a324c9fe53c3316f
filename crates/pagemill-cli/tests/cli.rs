//! The program as a whole: what is typed, what comes out, and the exit code.

use std::fs;
use std::io::pipe;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
        for lock in ["zone_holds", "lists_holds"] {
            let held = &row[lock];
            assert!(held["holds"].as_u64().unwrap() > held["switched"].as_u64().unwrap(), "{row}");
            let figures = ["p50_ns", "p99_ns", "p999_ns", "max_ns"];
            let figures = figures.map(|name| held[name].as_f64().unwrap());
            assert!(figures.is_sorted(), "{row}");
            // Some hold of hundreds was not interrupted.
            assert!(held["calm_max_ns"].as_f64().unwrap() <= figures[3], "{row}");
        }
    }
    assert_eq!(rows[0]["hog_calls"], 0);
    assert!(document["quiet_gap_ns"].is_f64());
    for kind in ["zone lock", "lists of a CPU", "was held for at most"] {
        assert!(table.contains(kind), "{kind}\n{table}");
    }
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
fn rpc_times_refills_in_three_ways() {
    let path = scratch("rpc.json");
    let options = ["--arena", "64M", "--runs", "3", "--rounds", "10", "--json"];
    let args = [&["bench", "rpc"], &options[..], &[path.to_str().unwrap()]].concat();
    let table = succeed(&args);
    let last = table.lines().last().unwrap();
    assert!(last.starts_with("On this machine the 259 pages of a request take "), "{last}");

    let document = json(&fs::read_to_string(&path).unwrap());
    assert_eq!((&document["schema_version"], &document["nr_slots"]), (&1.into(), &259.into()));
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5 * 3);
    assert_eq!(rows[0]["consumed"], Value::Null);
    for row in rows {
        let us = ["min", "median", "max"].map(|name| row["us"][name].as_f64().unwrap());
        assert!(us.is_sorted(), "{row}");
    }
}

#[test]
fn pool_drives_a_ring_in_three_cases_and_three_ways() {
    let path = scratch("pool.json");
    let options = ["--arena", "128M", "--runs", "2", "--slice", "0", "--work", "0,30", "--json"];
    let args = [&["bench", "pool"], &options[..], &[path.to_str().unwrap()]].concat();
    let table = succeed(&args);
    let last = table.lines().last().unwrap();
    assert!(last.starts_with("On this machine, where packets are held "), "{last}");
    assert!(last.contains(" % more packets a second than single pages "), "{last}");

    let document = json(&fs::read_to_string(&path).unwrap());
    assert_eq!((&document["schema_version"], &document["runs"]), (&1.into(), &2.into()));
    let rows = document["rows"].as_array().unwrap();
    let cell = |row: &Value| ["packets", "way"].map(|name| row[name].as_str().unwrap().to_owned());
    let cells: Vec<_> = rows.iter().map(|row| cell(row).join(" ")).collect();
    let ways = ["single", "bulk", "limit"];
    let cases = ["drop", "redirect", "hold", "hold"];
    let all = cases.iter().flat_map(|case| ways.map(|way| format!("{case} {way}")));
    assert_eq!(cells, all.collect::<Vec<_>>());
    for row in rows {
        let ns = ["min", "median", "max"].map(|name| row["ns"][name].as_f64().unwrap());
        assert!(ns.is_sorted() && ns[0] > 0.0, "{row}");
        assert!((0.0..=1.0).contains(&row["refill_share"].as_f64().unwrap()), "{row}");
    }
    assert_eq!(document["gains"].as_array().unwrap().len(), 4);
    let paths = document["paths"].as_array().unwrap().iter();
    let names: Vec<_> = paths.map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["fast", "ring", "ring", "slow", "slow", "limit"]);
}

#[test]
fn pool_on_one_cpu_claims_no_other() {
    let options = ["--arena", "128M", "--runs", "1", "--slice", "0", "--work", "0"];
    let all = json(&succeed(&[&["bench", "pool"], &options[..], &["--json", "-"]].concat()));
    let cpu = all["driver_cpu"].to_string();
    let table = succeed(&[&["bench", "pool"], &options[..], &["--cpus", &cpu]].concat());
    assert!(table.contains(&format!("held on the same CPU {cpu}")), "{table}");
    assert!(table.contains("freed on the same CPU"), "{table}");
    assert!(!table.contains("another CPU"), "{table}");
}

#[test]
fn users_take_pages_in_three_ways() {
    let path = scratch("users.json");
    let options = ["--arena", "256M", "--runs", "2", "--slice", "0", "--json"];
    let shown = succeed(&[&["bench", "users"], &options[..], &[path.to_str().unwrap()]].concat());

    let document = json(&fs::read_to_string(&path).unwrap());
    assert_eq!((&document["schema_version"], &document["runs"]), (&1.into(), &2.into()));
    let skipped = document["skipped"].as_array().unwrap();
    let rows = document["rows"].as_array().unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let mut users: Vec<_> = rows.iter().step_by(3).map(|row| text(row, "user")).collect();
    assert!(users.len() >= 2 && users.starts_with(&["page_pool".to_owned()]), "{users:?}");
    assert_eq!(rows.len(), 3 * users.len());
    for (row, arm) in rows.iter().zip(["single", "bulk", "block"].into_iter().cycle()) {
        assert_eq!(text(row, "arm"), arm);
        for name in ["cpu_ns", "per_s"] {
            let figures = ["min", "median", "max"].map(|part| row[name][part].as_f64().unwrap());
            assert!(figures.is_sorted() && figures[0] > 0.0, "{row}");
        }
        assert!(row["alloc_ns"]["median"].as_f64().unwrap() >= 0.0, "{row}");
    }
    assert_eq!(document["gains"].as_array().unwrap().len(), 2 * users.len());
    let held = document["held"].as_array().unwrap();
    let pages =
        |row: &Value| ["pages_before", "pages_after"].map(|name| row[name].as_u64().unwrap());
    let [pool, server] = [0, 1].map(|place| pages(&held[place]));
    assert_eq!(pool, [1024 + 128; 2], "a pool keeps its ring and its cache");
    assert_eq!(server, [8 * 2 * 259, 0], "sleeping workers give up their pages");
    let ways: Vec<_> = document["faults"].as_array().unwrap().iter().collect();
    assert!(ways.iter().any(|row| row["way"] == "kernel"), "{ways:?}");
    for row in ways {
        let figure = |name: &str| row[name]["median"].as_f64().unwrap();
        assert!(figure("cpu_ns") > 0.0 && figure("per_s") > 0.0, "{row}");
    }
    for user in skipped {
        assert!(shown.contains(&format!("SKIPPED: {}: ", text(user, "user"))), "{shown}");
    }
    users.extend(skipped.iter().map(|user| text(user, "user")));
    assert!(users.iter().all(|user| shown.contains(user)), "{shown}");
}

#[test]
fn only_the_users_that_are_named_are_measured() {
    let options = ["--only", "sunrpc", "--runs", "1", "--slice", "0", "--json", "-"];
    let document = json(&succeed(&[&["bench", "users"], &options[..]].concat()));
    let rows = document["rows"].as_array().unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row["user"] == "sunrpc"), "{rows:?}");
    // A file in memory is not read past the cache.
    let options = ["--only", "readahead-1m", "--folder", "/dev/shm", "--runs", "1", "--slice", "0"];
    let shown = succeed(&[&["bench", "users"], &options[..]].concat());
    assert!(shown.contains("SKIPPED: readahead-1m: files in /dev/shm cannot be read"), "{shown}");
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
        ("rpc", &["--payload", "5M"], "--payload 5 MiB is more than 4 MiB"),
        ("rpc", &["--used", "260"], "--used 260 is more than the 259 pages"),
        ("rpc", &["--arena", "4M"], "--arena 4 MiB is too small"),
        ("rpc", &["--rounds", "0"], "--rounds"),
        ("users", &["--only", "kswapd"], "[possible values: page_pool, sunrpc"),
        ("users", &["--folder", "/nowhere"], "--folder /nowhere: there is no such folder"),
        ("users", &["--arena", "64M"], "--arena 64 MiB is too small: use 256 MiB or more"),
        ("pool", &["--arena", "64M"], "--arena 64 MiB is too small: use 128 MiB or more"),
        ("pool", &["--work", "50"], "--work must begin with 0"),
        ("pool", &["--work", "0,50,20"], "--work must begin with 0"),
        ("pool", &["--runs", "0"], "--runs"),
        ("pool", &["--cpus", "1023"], "--cpus"),
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
fn peers_are_another_program_which_gets_what_was_typed() {
    // A folder of its own: beside the program under test, somebody may have built the other one.
    let folder = scratch("peers");
    fs::create_dir_all(&folder).unwrap();
    let (program, other) = (folder.join("pagemill"), folder.join("pagemill-peers"));
    fs::copy(env!("CARGO_BIN_EXE_pagemill"), &program).unwrap();
    let peers = |path: &Path| {
        let mut command = Command::new(&program);
        command.args(["bench", "peers", "--quick", "--peer", "a,b", "-n"]).env("PATH", path);
        command.output().unwrap()
    };
    drop(fs::remove_file(&other));
    let output = peers(&folder);
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("--manifest-path benches/peers/Cargo.toml"), "{complaint}");
    assert_eq!(complaint.matches('\n').count(), 1, "{complaint}");
    for help in ["--help", "-h"] {
        let mut command = Command::new(&program);
        let output = command.args(["bench", "peers", help]).env("PATH", &folder).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        assert!(shown.contains("Usage: pagemill bench peers"), "{shown}");
        assert!(shown.contains("--manifest-path benches/peers/Cargo.toml"), "{shown}");
    }

    let elsewhere = folder.join("path");
    fs::create_dir_all(&elsewhere).unwrap();
    let script = elsewhere.join("pagemill-peers");
    fs::write(&script, "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(text(&peers(&elsewhere).stdout), "--quick --peer a,b -n\n");
}

#[test]
fn a_missing_command_is_told_with_those_there_are() {
    let complaint = fail(&[], 2);
    assert!(complaint.contains("info, nfsd, top, xdp, completions or man"), "{complaint}");
    assert!(fail(&["benhc"], 2).contains("'benhc'"));
    let complaint = fail(&["xdp"], 2);
    let told = "name a command: redirect, drop, stack or bench; see pagemill xdp --help";
    assert!(complaint.ends_with(told), "{complaint}");
    assert!(fail(&["xdp", "drop", "--hold"], 2).ends_with("see pagemill xdp drop --help"));
}

#[test]
fn an_output_that_cannot_be_written_is_named_before_anything_is_measured() {
    for option in ["--json", "--svg"] {
        // Measuring this would take ten seconds for each cell.
        let args = ["bench", "bulk", "--slice", "10000", option, "/nowhere/at/all"];
        let complaint = fail(&args, 1);
        assert!(complaint.contains("/nowhere/at/all"), "{complaint}");
    }
    for experiment in ["frag", "latency", "rpc"] {
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
    for (experiment, option) in [("frag", "--rounds"), ("latency", "--pages"), ("rpc", "--used")] {
        assert!(succeed(&["bench", experiment, "--help"]).contains(option), "{experiment}");
    }
    let help = succeed(&["bench", "bulk", "--help"]);
    for option in ["--n", "--runs", "--threads", "--cpus", "--arena", "--huge", "--json", "--svg"] {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn nfs_puts_a_load_on_our_own_servers_and_compares_the_data() {
    let loads = "read,write,read-4k,write-4k,getattr,null";
    let options = ["--rounds", "1", "--time", "0", "--size", "8M", "--verify", "--json", "-"];
    let start = ["bench", "nfs", "--workloads", loads];
    let document = json(&succeed(&[&start[..], &options[..]].concat()));
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6 * 4);
    for row in rows {
        let calls = row["connections"].as_u64().unwrap() * row["depth"].as_u64().unwrap();
        assert_eq!(row["latency_us"]["calls"], calls, "{row}");
        let is_sink = row["server"].as_str().unwrap().ends_with("sink");
        assert_eq!(row["peak_mib"].is_null(), is_sink, "{row}");
        assert!(row["calls_per_s"]["median"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn nfs_names_a_server_that_is_not_there() {
    let server = ["bench", "nfs", "--server", "gone=127.0.0.1:9"];
    let complaint = fail(&server, 2);
    assert!(complaint.contains("--export"), "{complaint}");
    let complaint = fail(&[&server[..], &["--export", "/x"]].concat(), 1);
    assert!(complaint.contains("the server gone: cannot connect to 127.0.0.1:9"), "{complaint}");
    let pid = ["bench", "nfs", "--server", "gone=127.0.0.1:9,pid=4194305", "--export", "/x"];
    let complaint = fail(&pid, 2);
    assert!(complaint.contains("--server gone: there is no process 4194305"), "{complaint}");
}
