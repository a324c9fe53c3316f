//! Error messages: each names the option, the value and every cause, once, on one line.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Runs what must fail with `code` and returns the only line that it writes.
fn fail(args: &[&str], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
    assert_eq!(line.matches('\n').count(), 1, "{args:?}: {line}");
    let line = line.trim_end().strip_prefix("pagemill: ").unwrap().to_owned();
    for part in line.split([':', ';']).map(str::trim).filter(|part| part.len() > 12) {
        assert_eq!(line.matches(part).count(), 1, "{part:?} is repeated in {line:?}");
    }
    line
}

/// A folder that the test named `name` has to itself.
fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("errors-{name}"));
    let _not_there = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("export")).unwrap();
    path.canonicalize().unwrap()
}

/// Starts `nfsd` on a free port with more options, which must fail with exit code 1.
fn nfsd(name: &str, options: &[&str]) -> String {
    let dir = scratch(name);
    let [key, export] = ["key", "export"].map(|name| dir.join(name).to_str().unwrap().to_owned());
    let mut args = vec!["nfsd", "--log", "error", "--export", &export];
    for [option, value] in [["--key-file", &key], ["--listen", "127.0.0.1:0"]] {
        if !options.contains(&option) {
            args.extend([option, value]);
        }
    }
    args.extend(options);
    fail(&args, 1)
}

#[test]
fn a_busy_port_is_told_with_the_option_that_named_it() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = busy.local_addr().unwrap().to_string();
    for option in ["--metrics", "--listen", "--mount-listen"] {
        assert_eq!(
            nfsd(&format!("busy{option}"), &[option, &addr]),
            format!(
                "cannot listen on {addr} for {option}: Address already in use (os error 98); \
                 another socket listens there; choose another address"
            )
        );
    }
}

#[test]
fn a_process_is_named_by_its_number() {
    if cfg!(feature = "top") {
        let line = fail(&["top", "nosuch"], 2);
        assert!(line.contains("'nosuch'"), "{line}");
        assert!(line.ends_with("write a process number; names are not supported"), "{line}");
    }
}

#[test]
fn a_busy_port_of_udp_is_told_too() {
    // Some port that is busy for UDP and free for TCP.
    let busy = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = busy.local_addr().unwrap().to_string();
    let line = nfsd("busy-udp", &["--listen", &addr, "--udp"]);
    assert!(line.starts_with(&format!("cannot listen on {addr} for --listen: ")), "{line}");
}

#[test]
fn an_address_of_another_machine_is_told() {
    // TEST-NET-1, which no machine has.
    let line = nfsd("elsewhere", &["--metrics", "192.0.2.1:9049"]);
    assert!(line.contains("192.0.2.1:9049 for --metrics: Cannot assign"), "{line}");
    assert!(line.contains("no interface of this machine has this address"), "{line}");
}

#[test]
fn a_secret_that_others_can_read_is_told_with_the_reason() {
    let dir = scratch("secret");
    let key = dir.join("open");
    fs::write(&key, [7; 16]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let line = nfsd("secret-use", &["--key-file", key.to_str().unwrap()]);
    assert!(line.contains(key.to_str().unwrap()) && line.contains("--key-file"), "{line}");
    assert!(line.ends_with("other users have access to it (mode 0644): use chmod 600"), "{line}");
}

#[test]
fn an_export_that_is_missing_is_told_with_what_to_do() {
    let line = fail(&["nfsd", "--export", "/nowhere/at/all"], 2);
    assert_eq!(
        line,
        "--export /nowhere/at/all: No such file or directory (os error 2): name an \
         existing directory"
    );
    let file = scratch("export-file").join("file");
    fs::write(&file, "").unwrap();
    let line = nfsd("export-file-use", &["--export", file.to_str().unwrap()]);
    assert!(line.contains("Not a directory"), "{line}");
}

#[test]
fn an_exports_file_that_cannot_be_read_is_told_with_the_cause() {
    let dir = scratch("exports-file");
    let line = fail(&["nfsd", "--exports-file", dir.to_str().unwrap()], 2);
    assert!(line.contains(&format!("cannot read {}: Is a directory", dir.display())), "{line}");
}

#[test]
fn an_output_that_cannot_be_written_is_told_with_its_option() {
    for option in ["--json", "--svg"] {
        let line = fail(&["bench", "bulk", option, "/nowhere/at/all"], 1);
        assert_eq!(
            line,
            format!(
                "cannot write /nowhere/at/all for {option}: No such file or directory (os error 2)"
            )
        );
    }
    let line = fail(&["info", "--arena", "8M", "--json", "/dev/full"], 1);
    assert_eq!(line, "cannot write /dev/full for --json: No space left on device (os error 28)");
}

#[test]
fn a_full_standard_output_is_a_failure_with_its_cause() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    let output = command.args(["info", "--arena", "8M"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "pagemill: cannot write to the standard output: No space left on device (os error 28)\n"
    );
}

#[test]
fn figures_and_a_picture_do_not_share_an_output() {
    let dir = scratch("shared");
    let file = dir.join("out").to_str().unwrap().to_owned();
    let link = dir.join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for [json, svg] in [["-", "-"], [&file, &file], [&file, link.to_str().unwrap()]] {
        let line = fail(&["bench", "bulk", "--json", json, "--svg", svg], 2);
        assert_eq!(line, "--json and --svg name the same output: give each a file of its own");
    }
}

#[test]
fn a_server_that_hangs_up_is_a_failure_and_told_with_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // Every connection ends at once, before or after the first call.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let server = format!("rude={addr}");
    let args = ["bench", "nfs", "--server", &server, "--export", "/x", "--no-sinks"];
    let line = fail(&[&args[..], &["--size", "1M", "--workloads", "null"]].concat(), 1);
    assert!(line.starts_with("null 4x8 with the server rude: "), "{line}");
    let causes = ["the server closed the connection", "Broken pipe", "Connection reset"];
    assert!(causes.iter().any(|cause| line.contains(cause)), "{line}");
}

#[test]
fn an_arena_that_cannot_be_had_is_told_with_the_systems_answer() {
    let line = fail(&["info", "--arena", "8T", "--huge", "hugetlb"], 1);
    assert!(line.contains("8 TiB") && line.contains("os error"), "{line}");
}
