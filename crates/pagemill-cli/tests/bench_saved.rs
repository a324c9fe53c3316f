//! `pagemill bench compare` and `pagemill bench export`: files, outputs, errors and exit codes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn pagemill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    command.arg("bench").args(args);
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = pagemill(args).output().expect("the program is there");
    let [stdout, stderr] =
        [stdout, stderr].map(|text| String::from_utf8(text).expect("it is UTF-8"));
    (status.code(), stdout, stderr)
}

fn succeed(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    stdout
}

/// Runs what must fail with `code`, and returns the one line that says why.
fn fail(args: &[&str], code: i32) -> String {
    let (found, stdout, stderr) = run(args);
    assert_eq!((found, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

/// An empty folder of a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_saved").join(name);
    let _none_yet = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("tests may write there");
    folder
}

/// A report of `bench rpc` with one row, whose runs differ by 1 %.
fn report(us: f64) -> Value {
    let samples: Vec<f64> = (0..9).map(|run| us * (1.0 + f64::from(run - 4) / 800.0)).collect();
    json!({ "schema_version": 1, "command": "bench rpc", "runs": 9, "debug_build": false,
        "machine": { "governor": "performance" },
        "rows": [{ "consumed": 4, "calls": "bulk", "hint": true,
            "us": { "median": us, "min": samples[0], "max": samples[8], "samples": samples } }] })
}

fn save(path: &Path, document: &Value) -> String {
    fs::write(path, document.to_string()).expect("tests may write there");
    path.to_str().expect("it is UTF-8").to_owned()
}

#[test]
fn what_an_experiment_writes_is_compared_and_exported() {
    let folder = folder("experiment");
    let [one, two] = ["one.json", "two.json"].map(|name| {
        let path = folder.join(name).to_str().unwrap().to_owned();
        let sizes = ["--arena", "16M", "--runs", "3", "--slice", "0", "--n", "1,64"];
        succeed(&[&["bulk", "--json", &path], &sizes[..]].concat());
        path
    });
    let (code, text, _) = run(&["compare", &one, &two]);
    assert_eq!(code, Some(0));
    assert!(text.contains("\nping array n=64 both_ns "), "{text}");
    assert!(text.contains("\n38 figures: in B, "), "{text}");
    let csv = succeed(&["export", &one, "--csv", "-"]);
    assert!(csv.starts_with("table,shape,op,n,threads,alloc_ns,alloc_ns_min,"), "{csv}");
    assert_eq!(csv.matches("\r\n").count(), 1 + 12 + 2);
    let frag = folder.join("frag.json").to_str().unwrap().to_owned();
    succeed(&["frag", "--arena", "16M", "--rounds", "1", "--json", &frag]);
    let same = succeed(&["compare", &frag, &frag]);
    assert!(same.contains("36 figures: in B, 0 are faster or better and 0 slower"), "{same}");
}

#[test]
fn a_slower_figure_fails_only_if_asked_for() {
    let folder = folder("slower");
    let fast = save(&folder.join("fast.json"), &report(1.0));
    let slow = save(&folder.join("slow.json"), &report(1.2));
    let text = succeed(&["compare", &fast, &slow]);
    assert!(text.contains(" slower\n") && text.contains("+20.0 %"), "{text}");
    succeed(&["compare", &slow, &fast, "--fail-on-slower", "0"]);
    succeed(&["compare", &fast, &slow, "--fail-on-slower", "25"]);
    let (code, stdout, stderr) = run(&["compare", &fast, &slow, "--fail-on-slower", "10"]);
    assert_eq!(code, Some(1));
    assert_eq!(stdout, text);
    assert!(stderr.contains("1 of 1 figures of ") && stderr.contains("more than 10 %"), "{stderr}");
    let same = succeed(&["compare", &fast, &slow, "--threshold", "30"]);
    assert!(same.contains(" same\n"), "{same}");
    // A's own program was as slow in another run.
    let noisy = succeed(&["compare", &fast, &slow, "--noise", &slow, "--fail-on-slower", "0"]);
    assert!(noisy.contains(" unclear") && noisy.contains("widened by 9"), "{noisy}");
    let both = succeed(&["compare", &slow, &fast, &slow]);
    assert!(both.contains(" faster\n") && both.contains(" same\n"), "{both}");
}

#[test]
fn a_check_fails_for_what_it_cannot_tell() {
    let folder = folder("check");
    let check = |name: &str, a: &Value, b: &Value| {
        let [a, b] = [("a", a), ("b", b)]
            .map(|(side, document)| save(&folder.join(format!("{name}-{side}.json")), document));
        let (code, _, stderr) = run(&["compare", &a, &b, "--fail-on-slower", "5"]);
        assert!(stderr.contains("--fail-on-slower without --noise"), "{stderr}");
        (code, stderr)
    };
    let whole = report(1.0);
    assert_eq!(check("same", &whole, &whole).0, Some(0));
    let mut more = whole.clone();
    let mut row = more["rows"][0].clone();
    row["consumed"] = json!(5);
    more["rows"].as_array_mut().unwrap().push(row);
    let (code, stderr) = check("missing", &more, &whole);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("1 figures of ") && stderr.contains("the first is rows: 5 bulk"));
    let of_three = |us: f64| {
        let mut few = report(us);
        few["rows"][0]["us"] =
            json!({ "median": us, "min": us, "max": us, "samples": [us, us, us] });
        few
    };
    let (code, stderr) = check("few", &of_three(1.0), &of_three(100.0));
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("1 of 1 figures of ") && stderr.contains("too few runs to tell (use 4)")
    );
}

#[test]
fn other_machines_and_debug_builds_are_warned_of() {
    let folder = folder("machines");
    let one = save(&folder.join("one.json"), &report(1.0));
    let mut other = report(1.0);
    other["machine"]["governor"] = json!("powersave");
    other["debug_build"] = json!(true);
    let two = save(&folder.join("two.json"), &other);
    let (code, stdout, stderr) = run(&["compare", &one, &two]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("differs: machine.governor: A performance, B powersave\n"), "{stdout}");
    assert!(stderr.contains("two.json is of a debug build"), "{stderr}");
    assert!(stderr.contains("differ in debug_build, machine.governor"), "{stderr}");
}

/// A report of `bench rpc` with a row for each time.
fn report_of(times: &[f64]) -> Value {
    let mut whole = report(1.0);
    let rows = times.iter().zip(1..).map(|(&us, consumed)| {
        let mut row = report(us)["rows"][0].take();
        row["consumed"] = json!(consumed);
        row
    });
    whole["rows"] = rows.collect();
    whole
}

#[test]
fn figures_that_all_move_alike_are_warned_of_without_noise() {
    let folder = folder("alike");
    let before = save(&folder.join("before.json"), &report_of(&[1.0; 5]));
    let again = save(&folder.join("again.json"), &report_of(&[1.0; 5]));
    let faster = save(&folder.join("faster.json"), &report_of(&[0.8, 0.8, 0.8, 0.8, 1.0]));
    let mixed = save(&folder.join("mixed.json"), &report_of(&[0.8, 0.8, 0.8, 1.3, 1.0]));
    let (_, _, stderr) = run(&["compare", &before, &faster]);
    assert!(stderr.contains("4 of 5 figures moved alike, faster or better in "), "{stderr}");
    assert!(stderr.contains("pass it with --noise"), "{stderr}");
    let (_, _, stderr) = run(&["compare", &faster, &before]);
    assert!(stderr.contains("4 of 5 figures moved alike, slower or worse in "), "{stderr}");
    for args in [&[&before, &mixed][..], &[&before, &faster, &"--noise".to_owned(), &again]] {
        let args: Vec<&str> = args.iter().map(|arg| arg.as_str()).collect();
        let (_, _, stderr) = run(&[&["compare"], &args[..]].concat());
        assert_eq!(stderr, "", "{args:?}");
    }
}

#[test]
fn a_file_compared_with_itself_is_warned_of() {
    let folder = folder("itself");
    let one = save(&folder.join("one.json"), &report(1.0));
    let two = save(&folder.join("two.json"), &report(1.0));
    let link = folder.join("link.json");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let link = link.to_str().unwrap();
    let (_, _, stderr) = run(&["compare", &one, link]);
    assert!(stderr.contains("are one file: nothing can differ"), "{stderr}");
    let (_, _, stderr) = run(&["compare", &one, &two, "--noise", link]);
    assert!(stderr.contains(&format!("--noise {link} is {one} itself")), "{stderr}");
    assert_eq!(run(&["compare", &one, &two]).2, "");
}

#[test]
fn tables_go_to_files_or_to_the_standard_output_alone() {
    let folder = folder("tables");
    let one = save(&folder.join("one.json"), &report(1.0));
    let [json, csv, markdown] =
        ["c.json", "c.csv", "c.md"].map(|name| folder.join(name).to_str().unwrap().to_owned());
    fs::write(&csv, "old ".repeat(1000)).unwrap();
    let outputs = ["--json", &json, "--csv", &csv, "--markdown", &markdown];
    let text = succeed(&[&["compare", &one, &one], &outputs[..]].concat());
    assert!(text.starts_with("pagemill bench rpc\n"), "{text}");
    let document: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(document["comparisons"][0]["rows"][0]["verdict"], "same");
    assert!(fs::read_to_string(&csv).unwrap().ends_with(",same,\r\n"));
    assert!(fs::read_to_string(&markdown).unwrap().contains("| same "));
    // No file of a write that is under way remains.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 4);
    let alone = succeed(&["compare", &one, &one, "--markdown", "-"]);
    assert!(alone.starts_with("## pagemill bench rpc\n"), "{alone}");
    assert!(succeed(&["export", &one, "--markdown", "-"]).contains("| consumed | calls |"));
}

#[test]
fn a_path_to_a_standard_stream_keeps_what_its_file_has() {
    let folder = folder("streams");
    let one = save(&folder.join("one.json"), &report(1.0));
    let log = folder.join("log");
    for (path, is_stderr) in [("/dev/stdout", false), ("/dev/fd/1", false), ("/dev/stderr", true)] {
        fs::write(&log, "earlier\n").unwrap();
        let file = fs::File::options().append(true).open(&log).unwrap();
        let mut command = pagemill(&["export", &one, "--csv", path]);
        let command = match is_stderr {
            true => command.stderr(file),
            false => command.stdout(file),
        };
        assert!(command.status().unwrap().success());
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.starts_with("earlier\ntable,consumed,"), "{path}: {text}");
    }
    // The file of the standard output may be named as well.
    let file = fs::File::create(&log).unwrap();
    let args = ["compare", &one, &one, "--csv", log.to_str().unwrap()];
    assert!(pagemill(&args).stdout(file).status().unwrap().success());
    assert!(fs::read_to_string(&log).unwrap().starts_with("file_a,file_b,"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn the_standard_input_is_a_report_too() {
    let mut child = pagemill(&["export", "-", "--csv", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(report(1.5).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"table,consumed,calls,hint,us,us_min,us_max,runs\r\n"));
}

#[test]
fn each_wrong_input_is_told_with_its_name() {
    let folder = folder("wrong");
    let good = save(&folder.join("good.json"), &report(1.0));
    let pool = save(
        &folder.join("pool.json"),
        &json!({ "schema_version": 1, "command": "bench pool", "rows": [], "paths": [] }),
    );
    let path = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let huge = folder.join("huge.json");
    fs::File::create(&huge).unwrap().set_len((64 << 20) + 1).unwrap();
    for (file, told) in [
        (path("empty.json", b""), "it is empty"),
        (path("text.json", b"ns 5"), "it is not JSON: expected"),
        (path("nan.json", b"{\"us\": NaN}"), "it is not JSON: expected value at line 1"),
        (path("other.json", b"{}"), "it is JSON, but has no command"),
        (folder.to_str().unwrap().to_owned(), "Is a directory"),
        (huge.to_str().unwrap().to_owned(), "it is larger than 64 MiB, the limit"),
        ("/nowhere.json".to_owned(), "No such file"),
        ("/proc/self/mem".to_owned(), "error"),
    ] {
        for args in [&["compare", &good, &file][..], &["export", &file, "--csv", "-"]] {
            let line = fail(args, 1);
            let expected = format!("pagemill: cannot read results from {file}: ");
            assert!(line.starts_with(&expected) && line.contains(told), "{line}");
        }
    }
    let line = fail(&["compare", &good, &pool], 1);
    assert!(line.contains("good.json with ") && line.contains("different kinds"), "{line}");
    assert!(line.contains("the first is of bench rpc, the second of bench pool"), "{line}");
    let line = fail(&["compare", &good, &good, "--noise", &pool], 1);
    let [pool_of, good_of] =
        [format!("--noise {pool}: it is of bench pool"), format!("{good} of bench rpc")];
    assert!(line.contains(&format!("{pool_of}, {good_of}")), "{line}");
    assert!(fail(&["compare", &pool, &pool], 1).contains("no figure is in both"));
}

#[test]
fn each_wrong_option_is_told() {
    let folder = folder("options");
    let good = save(&folder.join("good.json"), &report(1.0));
    let good = good.as_str();
    for (args, told) in [
        (&["compare", good][..], "good.json is named: name at least two files"),
        (&["compare", good, good, "--threshold", "-1"], "'-1' is not a percentage"),
        (&["compare", good, good, "--fail-on-slower", "-1"], "'-1' is not a percentage"),
        (&["compare", "-", "-"], "- is named twice"),
        (&["compare", "-", good, "--noise", "-"], "- is named twice"),
        (&["compare", good, good, "--threshold", "0"], "use 0.1 or more"),
        (&["compare", good, good, "--threshold", "nan"], "'nan' is not a percentage"),
        (&["compare", good, good, "--fail-on-slower", "x"], "'x' is not a percentage"),
        (&["compare", good, good, "--csv", "-", "--json", "-"], "name the same output"),
        (&["export", good], "nothing to write: name a file with --csv or --markdown"),
    ] {
        let line = fail(args, 2);
        assert!(line.contains(told), "{line}");
    }
    let line = fail(&["export", good, "--csv", "/nowhere/x.csv"], 1);
    assert!(line.starts_with("pagemill: cannot write /nowhere/x.csv for --csv: "), "{line}");
    let line = fail(&["export", good, "--csv", "/dev/full"], 1);
    assert!(line.contains("No space left on device"), "{line}");
}
