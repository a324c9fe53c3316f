//! `bench nfs` with servers of its own: who reaches them, and what outlives the benchmark.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what is not as expected fails the test; what is skipped says so"
)]

use core::time::Duration;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

/// A benchmark that runs for a minute unless it is ended.
struct Bench(Child);

/// A process by its number and start time, which no later process has both of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    start: String,
}

impl Bench {
    fn start() -> Self {
        let options = ["--time", "60000", "--rounds", "1", "--size", "1M", "--workloads", "null"];
        // A process inherits which signals are ignored: under nohup, or in the background of a shell,
        // the tests ignore some.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_pagemill")]);
        command.args(["bench", "nfs", "--no-sinks"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits until both servers run, and returns them; `None` where the system refuses a sandbox.
    fn servers(&mut self) -> Option<Vec<Process>> {
        let mut servers = Vec::new();
        await_that("both servers run", || {
            servers = children_of(self.0.id());
            self.0.try_wait().unwrap().is_some() || (servers.len() == 2 && all_listen(&servers))
        });
        if self.0.try_wait().unwrap().is_none() {
            return Some(servers);
        }
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(text.contains("private network and private files"), "{text}");
        eprintln!("SKIPPED: {:?}: {text}", thread::current().name());
        None
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Waits until `done`, for minutes if the machine is busy.
fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !done() {
        assert!(Instant::now() < deadline, "in five minutes it did not happen that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the state, the parent and the start time in `/proc/PID/stat`.
fn stat(pid: u32) -> Option<(String, u32, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    Some((fields[0].to_owned(), fields[1].parse().ok()?, fields[19].to_owned()))
}

fn pids() -> impl Iterator<Item = u32> {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok())
}

fn children_of(parent: u32) -> Vec<Process> {
    let children = pids().filter_map(|pid| {
        let (_, its_parent, start) = stat(pid)?;
        (its_parent == parent).then_some(Process { pid, start })
    });
    children.collect()
}

/// Tells whether each process has printed where it serves: its thread for signals runs then.
fn all_listen(servers: &[Process]) -> bool {
    servers.iter().all(|server| {
        // In the network of the server, in state LISTEN.
        let tcp = fs::read_to_string(format!("/proc/{}/net/tcp", server.pid)).unwrap_or_default();
        tcp.lines().filter(|line| line.contains(" 0A ")).count() >= servers.len()
    })
}

/// Tells whether the process has ended; a zombie has.
fn has_ended(process: &Process) -> bool {
    stat(process.pid).is_none_or(|(state, _, start)| state == "Z" || start != process.start)
}

/// Files that a benchmark has left where others could see them.
fn left_behind() -> Vec<PathBuf> {
    let folders = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().contains("pagemill-bench")).collect()
}

#[test]
fn no_other_process_reaches_the_servers_or_their_files() {
    let mut bench = Bench::start();
    let Some(servers) = bench.servers() else { return };
    let namespaces = |pid: u32| {
        ["net", "mnt"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
    };
    let [ours, theirs] = [std::process::id(), servers[0].pid].map(namespaces);
    assert_eq!(namespaces(servers[1].pid), theirs, "both are in one sandbox");
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| ours != theirs), "{theirs:?}");
    assert_eq!(left_behind(), Vec::<PathBuf>::new());
    // What they serve is in a file system that is mounted for them alone.
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", servers[0].pid)).unwrap();
    let mount = mounts.lines().find(|line| line.starts_with("pagemill ")).unwrap();
    assert!(mount.contains(" tmpfs ") && mount.contains("mode=700"), "{mount}");
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains("pagemill "));
}

#[test]
fn nothing_outlives_a_benchmark_that_is_ended_by_a_signal() {
    for signal in ["-TERM", "-KILL", "-HUP", "-INT"] {
        let mut bench = Bench::start();
        let Some(servers) = bench.servers() else { return };
        let id = bench.0.id().to_string();
        // The shell's own: a small system has no program of this name.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill \"$@\"", "sh", signal, &id]);
        assert!(kill.status().unwrap().success());
        let status = bench.0.wait().unwrap();
        assert!(status.signal().is_some(), "{signal}: {status}");
        await_that(&format!("{signal} ends the servers"), || servers.iter().all(has_ended));
        assert_eq!(left_behind(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_server_does_not_start_for_a_parent_that_is_another() {
    let args = ["nfsd", "--export", "/", "--listen", "127.0.0.1:0", "--die-with", "1"];
    let mut shell = Command::new("sh");
    // Its own process is the parent, whatever the number of the test's parent is.
    shell.args(["-c", "\"$@\"; exit $?", "sh", env!("CARGO_BIN_EXE_pagemill")]).args(args);
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("--die-with 1: this is not the parent process"), "{line}");
}

/// In a user namespace that allows no further namespaces, as most containers do.
#[test]
fn without_namespaces_the_two_commands_to_use_instead_are_named() {
    let script = "echo 0 >/proc/sys/user/max_net_namespaces; \
                  echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-ec", script, "sh"]);
    command.args([env!("CARGO_BIN_EXE_pagemill"), "bench", "nfs", "--no-sinks"]);
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        return eprintln!("SKIPPED: there is no unshare");
    };
    let text = String::from_utf8(output.stderr).unwrap();
    if text.contains("unshare:") || text.contains("sh:") {
        return eprintln!("SKIPPED: no user namespace with limits of its own: {text}");
    }
    assert!(!output.status.success());
    assert!(text.contains("cannot make namespaces"), "{text}");
    for command in [
        "`pagemill nfsd --export DIR --listen 127.0.0.1:20490`",
        "`pagemill bench nfs --server mine=127.0.0.1:20490 --export DIR`",
    ] {
        assert!(text.contains(command), "{text}");
    }
}
