//! `pagemill top` as a process: what it prints of a running server, and what it does on a terminal.
#![cfg(feature = "top")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests, which tell what they skip"
)]

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

/// How long anything may take before a test fails, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(5);

fn pagemill(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    // Short: the path of a socket has at most 107 bytes.
    command.args(args).env("XDG_RUNTIME_DIR", directory).env_remove("RUNTIME_DIRECTORY");
    command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    command
}

fn top(directory: &Path, args: &[&str]) -> Output {
    pagemill(directory, &[&["top"], args].concat()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server that is killed at the end of the test, in a directory of its own.
struct Nfsd {
    child: Child,
    directory: tempfile::TempDir,
}

impl Nfsd {
    fn start(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let export = directory.path().join("export");
        fs::create_dir(&export).unwrap();
        let key = directory.path().join("key");
        let [export, key] = [&export, &key].map(|path| path.to_str().unwrap());
        let fixed = ["nfsd", "--listen", "127.0.0.1:0", "--export", export, "--key-file", key];
        let mut command = pagemill(directory.path(), &[&fixed, args].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), directory }
    }

    /// Waits until a line of the log says that the status is served or not: the line about readiness
    /// comes before.
    fn wait(self) -> Self {
        let start = Instant::now();
        while !self.socket().exists() {
            assert!(start.elapsed() < PATIENCE, "there is no socket");
            std::thread::sleep(Duration::from_millis(10));
        }
        self
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(format!("pagemill/nfsd-{}.sock", self.pid()))
    }

    fn top(&self, args: &[&str]) -> Output {
        top(self.directory.path(), args)
    }
}

impl Drop for Nfsd {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn a_server_is_shown_once_as_text_and_as_json() {
    let nfsd = Nfsd::start(&[]).wait();
    let output = nfsd.top(&[&nfsd.pid(), "--once"]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in ["nfsd ", "# Overview", "# Lists", "Normal", "# NFS", "/export", "# RPC"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains('\x1b'), "{shown}");
    // An output that is not a terminal needs no option.
    assert!(nfsd.top(&[&nfsd.pid()]).stdout.starts_with(b"nfsd "));

    let output = nfsd.top(&["--socket", nfsd.socket().to_str().unwrap(), "--once", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["process"]["pid"], nfsd.child.id());
    assert_eq!(document["allocators"][0]["zones"][0]["zone"], "Normal");
    assert_eq!(document["sections"][0]["name"], "nfs");
}

#[test]
fn a_server_that_ends_takes_its_socket_along_and_a_killed_one_is_known_to_be_gone() {
    let mut nfsd = Nfsd::start(&[]).wait();
    // The shell's own: a small system has no program of this name.
    let mut kill = Command::new("sh");
    let status = kill.args(["-c", "kill \"$@\"", "sh", "-TERM", &nfsd.pid()]).status().unwrap();
    assert!(status.success() && nfsd.child.wait().unwrap().success());
    assert!(!nfsd.socket().exists());

    let mut nfsd = Nfsd::start(&[]).wait();
    nfsd.child.kill().unwrap();
    nfsd.child.wait().unwrap();
    assert!(nfsd.socket().exists());
    let output = nfsd.top(&["--socket", nfsd.socket().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the process has ended"), "{}", text(&output.stderr));
    let output = nfsd.top(&[&nfsd.pid(), "--once"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("no process {} serves its status", nfsd.pid());
    assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
}

#[test]
fn a_server_without_a_status_serves_files_all_the_same() {
    let mut nfsd = Nfsd::start(&["--status", "none"]);
    let mut line = String::new();
    BufReader::new(nfsd.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("mount -t nfs"), "{line}");
    assert!(!nfsd.socket().exists());

    // A file that is in the way costs a warning.
    let occupied = nfsd.directory.path().join("file");
    fs::write(&occupied, "").unwrap();
    let mut other = Nfsd::start(&["--status", occupied.to_str().unwrap()]);
    let log = BufReader::new(other.child.stderr.take().unwrap());
    let warning = log.lines().map(Result::unwrap).find(|line| line.contains("WARN"));
    let warning = warning.expect("the log ends only with the server");
    assert!(warning.contains("pagemill top does not find this process"), "{warning}");
    assert!(other.child.try_wait().unwrap().is_none());
}

#[test]
fn several_processes_are_listed_where_nobody_can_choose() {
    let one = Nfsd::start(&[]).wait();
    let mut command = pagemill(one.directory.path(), &["nfsd", "--listen", "127.0.0.1:0"]);
    let key = one.directory.path().join("key");
    command.arg("--export").arg(one.directory.path().join("export")).arg("--key-file").arg(key);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let directory = tempfile::tempdir().unwrap();
    let two = Nfsd { child: command.spawn().unwrap(), directory };
    let path = one.directory.path().join(format!("pagemill/nfsd-{}.sock", two.pid()));
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < PATIENCE, "there is no socket");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = one.top(&["--once"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("several processes serve their status: name one"), "{complaint}");
    for pid in [one.pid(), two.pid()] {
        assert!(complaint.contains(&format!("pagemill top {pid} shows nfsd, up ")), "{complaint}");
    }
    assert_eq!(
        complaint.matches(": pagemill nfsd --listen 127.0.0.1:0 ").count(),
        2,
        "{complaint}"
    );
}

/// `pagemill top` on a terminal of 80 x 24 characters, which script(1) makes.
struct OnTerminal {
    script: Child,
    seen: String,
}

impl OnTerminal {
    fn start(nfsd: &Nfsd) -> Option<Self> {
        Self::start_as("xterm", nfsd)
    }

    fn start_as(term: &str, nfsd: &Nfsd) -> Option<Self> {
        if Command::new("script").arg("--version").output().is_err() {
            eprintln!("SKIPPED: tests of pagemill top on a terminal: script(1) is not installed");
            return None;
        }
        let program = env!("CARGO_BIN_EXE_pagemill");
        let (socket, run) = (nfsd.socket(), nfsd.directory.path());
        let command = format!(
            "stty rows 24 cols 80; exec '{program}' top --interval 0.1 --socket '{}'",
            socket.display()
        );
        // Ended after a while, it ends what waits for its output.
        let mut script = Command::new("timeout");
        script.args([
            &PATIENCE.as_secs().to_string(),
            "script",
            "--quiet",
            "--flush",
            "--return",
            "--command",
        ]);
        script.args([&command, "/dev/null"]);
        script.env("XDG_RUNTIME_DIR", run).env("TERM", term).env("LC_ALL", "C.UTF-8");
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        Some(Self { script: script.spawn().unwrap(), seen: String::new() })
    }

    /// Reads until `part` was written.
    fn wait_for(&mut self, part: &str) {
        self.wait_for_any(&[part]);
    }

    /// Reads until one of `parts` was written in one piece. Of a text over another one, only the
    /// characters that differ are written.
    fn wait_for_any(&mut self, parts: &[&str]) {
        let mut bytes = [0; 4096];
        let output = self.script.stdout.as_mut().unwrap();
        while !parts.iter().any(|part| self.seen.contains(part)) {
            let nr = output.read(&mut bytes).unwrap();
            assert!(nr > 0, "it ended without {parts:?}: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..nr]));
        }
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, and checks that the terminal is as it was.
    fn end(mut self) {
        self.wait_for("\x1b[?1049l");
        assert!(self.script.wait().unwrap().success());
    }
}

#[test]
fn a_person_sees_the_process_until_q_is_pressed() {
    let nfsd = Nfsd::start(&[]).wait();
    let Some(mut terminal) = OnTerminal::start(&nfsd) else { return };
    terminal.wait_for("\x1b[?1049h");
    terminal.wait_for("pages allocated");
    terminal.press("3");
    // Where there was nothing before.
    terminal.wait_for("Procedures");
    terminal.press("?");
    terminal.wait_for_any(&["close help", "next sort", "continue", "to the shell", "Ctrl-Z"]);
    terminal.press("xq");
    terminal.end();
}

#[test]
fn ctrl_c_ends_it_and_restores_the_terminal() {
    let nfsd = Nfsd::start(&[]).wait();
    let Some(mut terminal) = OnTerminal::start(&nfsd) else { return };
    terminal.wait_for("pages allocated");
    terminal.press("\x03");
    terminal.end();
}

#[test]
fn ctrl_c_ends_it_within_a_paste_that_has_no_end() {
    let nfsd = Nfsd::start(&[]).wait();
    let Some(mut terminal) = OnTerminal::start(&nfsd) else { return };
    terminal.wait_for("pages allocated");
    terminal.press("\x1b[200~q\x03");
    terminal.end();
}

#[test]
fn a_terminal_without_a_screen_gets_text() {
    let nfsd = Nfsd::start(&[]).wait();
    let Some(mut terminal) = OnTerminal::start_as("dumb", &nfsd) else { return };
    terminal.wait_for("# RPC");
    assert!(terminal.script.wait().unwrap().success());
    assert!(!terminal.seen.contains('\x1b'), "{}", terminal.seen);
}

/// Waits until `pagemill top` draws on a new terminal, closes that, and waits for the end. `session` is the
/// program that makes a session for it.
fn close_terminal_of(nfsd: &Nfsd, session: &[&str]) {
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&main).unwrap();
    unlockpt(&main).unwrap();
    tcsetwinsize(&main, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let path = PathBuf::from(ptsname(&main, Vec::new()).unwrap().into_string().unwrap());
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let terminal = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let terminal = terminal.unwrap();
    let mut command = Command::new(session[0]);
    command.args(&session[1..]).args([env!("CARGO_BIN_EXE_pagemill"), "top", "--socket"]);
    command.arg(nfsd.socket()).env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
    let mut top = command.stderr(terminal).spawn().unwrap();
    // It has the other end as well.
    drop(command);
    let (mut main, mut seen) = (fs::File::from(main), Vec::new());
    while !String::from_utf8_lossy(&seen).contains("pages allocated") {
        let mut bytes = [0; 4096];
        let nr = main.read(&mut bytes).unwrap();
        seen.extend_from_slice(&bytes[..nr]);
    }
    drop(main);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = top.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            top.kill().unwrap();
            panic!("{session:?}: it runs on without a terminal");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(matches!(status.code(), Some(0 | 1)), "{session:?}: {status}");
}

#[test]
fn a_closed_terminal_ends_it_with_and_without_a_signal() {
    let nfsd = Nfsd::start(&[]).wait();
    if Command::new("setsid").arg("--version").output().is_err() {
        eprintln!("SKIPPED: a closed terminal: setsid(1) is not installed");
        return;
    }
    // The kernel sends SIGHUP, ...
    close_terminal_of(&nfsd, &["setsid", "--ctty"]);
    // ... which the person may have had ignored, ...
    close_terminal_of(&nfsd, &["setsid", "--ctty", "env", "--ignore-signal=HUP"]);
    // ... and no signal to a session that the terminal does not control.
    close_terminal_of(&nfsd, &["setsid"]);
}

#[test]
fn a_process_that_exits_is_shown_as_ended() {
    let mut nfsd = Nfsd::start(&[]).wait();
    let Some(mut terminal) = OnTerminal::start(&nfsd) else { return };
    terminal.wait_for("pages allocated");
    nfsd.child.kill().unwrap();
    nfsd.child.wait().unwrap();
    terminal.wait_for("ENDED");
    terminal.press("q");
    terminal.end();
}
