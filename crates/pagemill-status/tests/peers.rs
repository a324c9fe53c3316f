//! Peers that do not keep to the protocol: clients that are silent, slow or of another user, and servers
//! that hang, end, or send something else.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "helpers of tests are tests, which tell what they skip"
)]

use core::time::Duration;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use pagemill::{AllocPages as _, Gfp};
use pagemill_host::{HostAllocator, SharedAllocator};
use pagemill_status::errors::FetchError;
use pagemill_status::sections::{Column, Table};
use pagemill_status::snapshots::AllocatorStatus;
use pagemill_status::wire::ReplyError;
use pagemill_status::{Section, Status, StatusServer, Unit, fetch, processes};
use tempfile::TempDir;

/// How long anything may take before a test fails, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(5);
const REQUEST: &[u8] = b"pagemill-status 1\nsnapshot\n";

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.sock");
    (directory, path)
}

fn small() -> Status {
    Status::of("small", "1").section(|| Section::new("s", "S").gauge("seven", Unit::Count, 7))
}

/// A status larger than a socket's buffers.
fn large() -> Status {
    Status::of("large", "1").section(|| {
        let mut table = Table::new("t", ["text"], [Column::counter("n", Unit::Count)]);
        for n in 0..1000 {
            table.push(["x".repeat(2000)], [n]);
        }
        Section::new("s", "S").table(table)
    })
}

fn assert_serves(server: &StatusServer) {
    let snapshot = fetch(server.path(), PATIENCE).unwrap();
    assert_eq!(snapshot.process.pid, std::process::id());
}

#[test]
fn a_snapshot_is_what_the_views_show() {
    let (_directory, path) = directory();
    let frames = SharedAllocator::new(HostAllocator::new(32 << 20).unwrap());
    let mut slots = [const { None }; 40];
    frames.clone().alloc_pages_bulk(Gfp::KERNEL, &mut slots);
    let server = small().allocator("frames", frames.clone()).serve_at(&path).unwrap();
    let mut snapshot = fetch(server.path(), PATIENCE).unwrap();
    let mut expected = AllocatorStatus::of("frames", &frames);
    for status in [&mut snapshot.allocators[0], &mut expected] {
        // JSON does not keep their order.
        let mut counters: Vec<_> = status.vmstat.iter().map(|(k, v)| (k.to_owned(), v)).collect();
        counters.sort();
        status.vmstat = counters.into_iter().collect();
    }
    assert_eq!(snapshot.allocators, [expected]);
    assert_eq!(snapshot.allocators[0].vmstat.get("pgalloc_normal"), Some(40));
    assert_eq!(snapshot.sections[0].figures[0].value, 7);
    frames.release_pages(&mut slots);
}

#[test]
fn silent_clients_keep_no_other_waiting() {
    let (_directory, path) = directory();
    let server = small().serve_at(&path).unwrap();
    let silent: Vec<_> = (0..12).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert_serves(&server);
    // All of them are closed: by later ones, or after a while.
    for mut stream in silent {
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    assert_serves(&server);
}

#[test]
fn a_client_that_does_not_read_keeps_no_other_waiting() {
    let (_directory, path) = directory();
    let server = large().serve_at(&path).unwrap();
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(REQUEST).unwrap();
            stream
        })
        .collect();
    let snapshot = fetch(server.path(), PATIENCE).unwrap();
    assert_eq!(snapshot.sections[0].tables[0].rows.len(), 1000);
    // The server ends although they have not read.
    drop(server);
    drop(slow);
    assert!(!path.exists());
}

#[test]
fn a_request_of_another_version_or_protocol_is_answered_in_words() {
    let (_directory, path) = directory();
    let server = small().serve_at(&path).unwrap();
    let ask = |request: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(request).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    };
    assert_eq!(ask(b"pagemill-status 9\n"), "pagemill-status 1 version 0\n");
    let unknown = "pagemill-status 1 error 22\nthe request is unknown";
    assert_eq!(ask(b"GET / HTTP/1.1\r\n\r\n"), unknown);
    assert_eq!(ask(b"pagemill-status 1\nshutdown\n"), unknown);
    assert_eq!(ask(&[b'x'; 128]), unknown);
    // In pieces, as slowly as it likes.
    let mut stream = UnixStream::connect(&path).unwrap();
    for byte in REQUEST {
        stream.write_all(&[*byte]).unwrap();
        thread::yield_now();
    }
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("pagemill-status 1 ok "), "{reply}");
    assert_serves(&server);
}

#[test]
fn a_section_that_panics_costs_its_reply_only() {
    let (_directory, path) = directory();
    let server = small().section(|| panic!("for the test")).serve_at(&path).unwrap();
    for _ in 0..2 {
        let error = fetch(server.path(), PATIENCE).unwrap_err();
        let FetchError::Reply { source: ReplyError::Refused { why }, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(why, "reading the status panicked");
    }
}

#[test]
fn a_status_that_is_too_large_is_refused_in_words() {
    let (_directory, path) = directory();
    let server =
        (0..3).fold(large(), |status, _| status.section(|| large().snapshot().sections.remove(0)));
    let server = server.serve_at(&path).unwrap();
    let error = fetch(server.path(), PATIENCE).unwrap_err();
    let FetchError::Reply { source: ReplyError::Refused { why }, .. } = error else {
        panic!("{error}");
    };
    assert!(why.contains("register fewer tables"), "{why}");
}

/// Serves one connection at `path` by `serve`, on a thread of its own.
fn fake(path: &Path, serve: impl FnOnce(UnixStream) + Send + 'static) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; REQUEST.len()];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, REQUEST);
        serve(stream);
    })
}

/// Returns what a client reports of a server that replies with `reply` and closes the connection.
fn reported(reply: &[u8]) -> ReplyError {
    let (_directory, path) = directory();
    let reply = reply.to_vec();
    let server = fake(&path, move |mut stream| {
        // The client may have seen enough.
        let _closed = stream.write_all(&reply);
    });
    let error = fetch(&path, PATIENCE).unwrap_err();
    server.join().unwrap();
    let FetchError::Reply { source, .. } = error else { panic!("{error}") };
    source
}

#[test]
fn what_is_not_a_reply_is_reported_as_what_it_is() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0; 1000], b"pagemill-status x\n"] {
        assert!(matches!(reported(garbage), ReplyError::Garbage { .. }), "{garbage:?}");
    }
    let other = reported(b"pagemill-status 7 anything at all\n");
    assert!(matches!(other, ReplyError::Version { ours: 1, theirs: 7 }), "{other}");
    let huge = reported(b"pagemill-status 1 ok 99999999999\n");
    assert!(matches!(huge, ReplyError::TooLong { .. }), "{huge}");
    let cut = reported(b"pagemill-status 1 ok 100\n{");
    assert!(matches!(cut, ReplyError::Truncated { nr_bytes: 26 }), "{cut}");
    assert!(matches!(reported(b"pagemill-status 1 ok 2\n{}"), ReplyError::Json(_)));
    let deep = [&b"pagemill-status 1 ok 100000\n"[..], &vec![b'['; 100_000]].concat();
    assert!(matches!(reported(&deep), ReplyError::Json(_)));
    let refused = reported(b"pagemill-status 1 error 9\n\x1b[2J no\x07!");
    assert_eq!(refused.to_string(), "it refused: \u{fffd}[2J no\u{fffd}!");
}

#[test]
fn a_server_that_hangs_costs_the_time_that_the_client_allows() {
    let (_directory, path) = directory();
    let (ended, wait) = std::sync::mpsc::channel::<()>();
    let server = fake(&path, move |stream| {
        let _the_test_is_over = wait.recv();
        drop(stream);
    });
    let error = fetch(&path, Duration::from_millis(50)).unwrap_err();
    assert!(
        matches!(error, FetchError::NoReply { pid, .. } if pid == std::process::id()),
        "{error}"
    );
    drop(ended);
    server.join().unwrap();
}

#[test]
fn endless_data_ends_with_the_time_or_at_the_limit() {
    let (_directory, path) = directory();
    let server = fake(&path, |mut stream| {
        let head = b"pagemill-status 1 ok 4194304\n";
        stream.write_all(head).unwrap();
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let error = fetch(&path, PATIENCE).unwrap_err();
    assert!(matches!(error, FetchError::Reply { source: ReplyError::Json(_), .. }), "{error}");
    server.join().unwrap();

    fs::remove_file(&path).unwrap();
    let server = fake(&path, |mut stream| {
        // One byte at a time: each read succeeds, and the whole never ends.
        while stream.write_all(b"p").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let start = Instant::now();
    fetch(&path, Duration::from_millis(100)).unwrap_err();
    assert!(start.elapsed() < PATIENCE);
    server.join().unwrap();
}

#[test]
fn a_process_that_has_ended_is_gone() {
    let (_directory, path) = directory();
    let gone = |path: &Path| matches!(fetch(path, PATIENCE), Err(FetchError::Gone { .. }));
    assert!(gone(&path), "there never was one");
    let server = small().serve_at(&path).unwrap();
    assert_serves(&server);
    drop(server);
    assert!(gone(&path) && !path.exists());
    // As a process that was killed leaves it.
    drop(UnixListener::bind(&path).unwrap());
    assert!(gone(&path) && path.exists());
    let server = small().serve_at(&path).unwrap();
    assert_serves(&server);
}

#[test]
fn nothing_but_a_socket_of_an_ended_process_is_replaced() {
    let (_directory, path) = directory();
    let server = small().serve_at(&path).unwrap();
    let error = small().serve_at(&path).unwrap_err();
    assert!(error.to_string().contains("another process listens there"), "{error}");
    assert_serves(&server);
    drop(server);
    fs::write(&path, "a file").unwrap();
    let error = small().serve_at(&path).unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert!(matches!(fetch(&path, PATIENCE), Err(FetchError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    // A link is not followed, wherever it leads.
    fs::remove_file(&path).unwrap();
    let elsewhere = path.with_file_name("elsewhere.sock");
    let _server = small().serve_at(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(matches!(fetch(&path, PATIENCE), Err(FetchError::NotASocket { .. })));
}

#[test]
fn a_socket_that_another_one_has_replaced_is_left_alone() {
    let (_directory, path) = directory();
    let first = small().serve_at(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = large().serve_at(&path).unwrap();
    drop(first);
    assert_eq!(fetch(second.path(), PATIENCE).unwrap().process.program, "large");
}

const PATH_OF_HELPER: &str = "PAGEMILL_STATUS_TEST_SOCKET";
const DIRECTORY_OF_HELPER: &str = "PAGEMILL_STATUS_TEST_DIRECTORY";
const TEMP_OF_FINDER: &str = "PAGEMILL_STATUS_TEST_TEMP";
const READY: &str = "the helper serves";
const OTHER_USER: u32 = 54_321;

/// Not a test of its own: what the next one runs as another user.
#[test]
fn as_another_user() {
    let Some(path) = std::env::var_os(PATH_OF_HELPER).map(PathBuf::from) else { return };
    let error = fetch(&path, PATIENCE).unwrap_err();
    assert!(matches!(error, FetchError::NotOurs { user: OTHER_USER, .. }), "{error}");
    // Past the client's check and the modes of the files, which the test has opened.
    let mut stream = UnixStream::connect(&path).unwrap();
    let _refused_by_now = stream.write_all(REQUEST);
    let mut reply = Vec::new();
    let _reset_behind_the_reply = stream.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply);
    assert!(reply.contains("may read the status, not user 54321"), "{reply}");
}

#[test]
fn another_user_is_refused_by_both_sides() {
    let skip = |why: &str| eprintln!("SKIPPED: another_user_is_refused_by_both_sides: {why}");
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another user");
    }
    let (directory, path) = directory();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let server = small().serve_at(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.args(["--exact", "as_another_user"]).env(PATH_OF_HELPER, &path);
    let Ok(output) = helper.uid(OTHER_USER).gid(OTHER_USER).current_dir("/").output() else {
        return skip("another user cannot run this test");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // A socket that was handed to another user does not lead root to trust whoever listens.
    std::os::unix::fs::chown(&path, Some(OTHER_USER), None).unwrap();
    let error = fetch(server.path(), PATIENCE).unwrap_err();
    assert!(
        matches!(error, FetchError::WrongPeer { expected: OTHER_USER, actual: 0, .. }),
        "{error}"
    );
}

/// Not a test of its own: serves as another user, in the directory that `TMPDIR` names.
#[test]
fn serving_as_another_user() {
    let Some(directory) = std::env::var_os(DIRECTORY_OF_HELPER).map(PathBuf::from) else { return };
    let server = Status::of("honest", "1").serve().unwrap();
    let own = server.path().parent().unwrap().to_owned();
    // For a process of another user, and for one of its own, in every directory that it can create.
    let mut forged = Vec::new();
    for place in [own, directory.join("pagemill-0"), directory.join("pagemill-\x1b]0;title\x07")] {
        let _exists = fs::create_dir(&place);
        let parent = std::os::unix::process::parent_id();
        forged.push(UnixListener::bind(place.join(format!("forged-{parent}.sock"))).unwrap());
    }
    println!("{READY}");
    // Until the parent closes it.
    let _closed = std::io::stdin().read_to_end(&mut Vec::new());
    drop((forged, server));
}

#[test]
fn root_finds_the_processes_of_other_users_and_none_that_they_forge() {
    let skip = |why: &str| {
        eprintln!(
            "SKIPPED: root_finds_the_processes_of_other_users_and_none_that_they_forge: {why}"
        );
    };
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another user");
    }
    let Some(temp) = std::env::var_os(TEMP_OF_FINDER).map(PathBuf::from) else {
        // A process of its own, because TMPDIR is that of the process.
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        let mut finder = Command::new(std::env::current_exe().unwrap());
        finder.args([
            "--exact",
            "root_finds_the_processes_of_other_users_and_none_that_they_forge",
            "--nocapture",
        ]);
        finder.env(TEMP_OF_FINDER, directory.path()).env("TMPDIR", directory.path());
        let output = finder.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
        return;
    };
    let mut helper = Command::new(std::env::current_exe().unwrap());
    helper.args(["--exact", "serving_as_another_user", "--nocapture"]);
    helper
        .env(DIRECTORY_OF_HELPER, &temp)
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("RUNTIME_DIRECTORY");
    helper.uid(OTHER_USER).gid(OTHER_USER).current_dir("/");
    helper.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(mut helper) = helper.spawn() else {
        return skip("another user cannot run this test");
    };
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(READY)), "the helper failed");
    let found = processes().into_iter().filter(|it| it.path.starts_with(&temp));
    let found: Vec<_> = found.map(|it| (it.program, it.pid, it.user)).collect();
    drop(helper.stdin.take());
    // The end of its output may be read by nobody.
    let pid = helper.id();
    lines.for_each(drop);
    assert!(helper.wait().unwrap().success());
    assert_eq!(found, [("honest".to_owned(), pid, OTHER_USER)]);
}

#[test]
fn the_number_of_a_process_is_the_systems_and_no_error_has_control_characters() {
    let (directory, path) = directory();
    let server = fake(&path, |mut stream| {
        let mut snapshot = small().snapshot();
        snapshot.process.pid = 1;
        let body = serde_json::to_string(&snapshot).unwrap();
        write!(stream, "pagemill-status 1 ok {}\n{body}", body.len()).unwrap();
    });
    assert_eq!(fetch(&path, PATIENCE).unwrap().process.pid, std::process::id());
    server.join().unwrap();
    let hostile = directory.path().join("\x1b]0;title\x07\u{202e}");
    let gone = fetch(&hostile, PATIENCE).unwrap_err().to_string();
    fs::write(&hostile, "").unwrap();
    let no_socket = fetch(&hostile, PATIENCE).unwrap_err().to_string();
    let occupied = small().serve_at(&hostile).unwrap_err().to_string();
    for error in [gone, no_socket, occupied] {
        assert!(error.contains("/\u{fffd}]0;title\u{fffd}\u{fffd}"), "{error:?}");
    }
}
