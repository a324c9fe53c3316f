//! `pagemill xdp` as a whole: in private networks where root can make them, and what is told where
//! something is missing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests, which tell what they skip"
)]

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use pagemill_xdp::attach::{Capabilities, Name};
use pagemill_xdp::headers::Datagram;
use pagemill_xdp::testing::{PacketSender, VethPair, enter_private_network};
use pagemill_xdp::{Interface, InterfaceConfig};
use serde_json::Value;

fn pagemill(args: &[&str]) -> Command {
    let mut command = Command::new("env");
    // Not ignored, even if the tests ignore it: under nohup, or in the background of a shell.
    command.args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_pagemill")]);
    command.arg("xdp").args(args);
    command
}

fn run(args: &[&str]) -> Output {
    pagemill(args).output().expect("the program is there")
}

fn fail(args: &[&str], code: i32) -> String {
    let output = run(args);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {complaint}");
    assert_eq!(complaint.matches('\n').count(), 1, "{args:?}: {complaint}");
    complaint
}

/// Gives the test a network, or says that it is skipped.
fn private_network() -> Option<()> {
    let skip = |error: &_| eprintln!("SKIPPED: {:?}: {error}", std::thread::current().name());
    enter_private_network().inspect_err(skip).ok()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn pair() -> VethPair {
    VethPair::new(name("a0"), name("a1"), 1).unwrap()
}

/// Gives the test a network with the pair `a0` and `a1`.
fn private_pair() -> Option<VethPair> {
    private_network().map(|()| pair())
}

/// Returns a path at which there is no file, as an earlier run may have left one.
fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _none_there = fs::remove_file(&path);
    path
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("the output is JSON")
}

/// How long anything may take before a test fails, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_mins(5);

/// Repeats `step` until it is true.
fn until(what: &str, mut step: impl FnMut() -> bool) {
    let start = Instant::now();
    while !step() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts the program, which complains into `stderr`.
fn start(args: &[&str], stderr: Stdio) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = pagemill(args).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The heading comes when all is set up.
    assert!(lines.next().unwrap().unwrap().contains("Mpps"));
    (child, lines)
}

/// Sends a signal to a process that this test started.
fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    // The shell's own: a small system has no program of this name.
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill \"$@\"", "sh", "-s", signal, &pid]);
    assert!(kill.status().unwrap().success());
}

/// Ends the program by a signal, and reads what it still prints.
fn end(mut child: Child, lines: impl Iterator + Send + 'static, name: &str) -> ExitStatus {
    signal(&child, name);
    let rest = std::thread::spawn(move || lines.count());
    let status = child.wait().unwrap();
    rest.join().unwrap();
    status
}

/// Sends all of `packets`.
fn send_all(sender: &PacketSender, packets: &[Vec<u8>]) {
    let mut nr = 0;
    until("sending", || {
        nr += sender.send(&packets[nr..]).unwrap();
        nr == packets.len()
    });
}

/// Returns how many packets have come in on an interface of this thread's network.
fn nr_received(interface: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix(interface)).unwrap();
    line.trim_start_matches(':').split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_cannot_be_meant_is_told_in_one_line() {
    for (args, told) in [
        (["drop", "--in", "a name"].as_slice(), "15 bytes"),
        (&["drop", "--in", "a:x"], "is not a queue"),
        (&["drop", "--in", "a", "--ring", "1000"], "power of two"),
        (&["drop", "--in", "a", "--ring", "131072"], "power of two"),
        (&["drop"], "--in"),
        (&["redirect", "--in", "a"], "--out"),
        (&["redirect", "--in", "a:1", "--out", "a:1"], "same queue"),
        (&["stack", "--in", "a", "--hold", "60001"], "--hold"),
        (&["drop", "--in", "a", "--alloc", "many"], "--alloc"),
        (&["drop", "--in", "a", "--duration", "0"], "--duration"),
        (&["drop", "--in", "a", "--pool", "car"], "--pool"),
        (&["drop", "--in", "a", "--pool-ring", "0"], "--pool-ring"),
        (&["bench", "--pool-ring", "16385"], "--pool-ring"),
        (&["bench", "--pairs", "0"], "--pairs"),
        (&["bench", "--len", "20"], "--len"),
        (&["bench", "--traffic", "postal"], "--traffic"),
    ] {
        let complaint = fail(args, 2);
        assert!(complaint.contains(told), "{args:?}: {complaint}");
    }
}

#[test]
fn what_is_wrong_with_an_interface_is_told_in_one_line() {
    let Some(pair) = private_pair() else { return };
    let drop = |more: &[&str]| fail(&[&["drop", "--arena", "16M"], more].concat(), 1);
    let told = drop(&["--in", "nosuch"]);
    assert!(told.contains("--in nosuch: there is no interface nosuch"), "{told}");
    assert!(told.contains("`ip link`"), "{told}");
    let told = fail(&["redirect", "--in", "a1", "--out", "nosuch", "--arena", "16M"], 1);
    assert!(told.contains("--out nosuch: there is no interface nosuch"), "{told}");
    assert!(drop(&["--in", "lo"]).contains("lo is down: take it up first (ip link set dev lo up)"));
    let lone = ["drop", "--in", "a1:7", "--arena", "16M", "--mode", "native"];
    assert!(fail(&lone, 1).contains("a1 has no queue 7: it has 1"));
    let small = ["drop", "--in", "a1", "--arena", "8M", "--mode", "native", "--ring", "2048"];
    let told = fail(&small, 1);
    assert!(told.contains("too small") && told.ends_with("(--arena, --ring)\n"), "{told}");
    let zero_copy = ["drop", "--in", "a1", "--arena", "32M", "--copy", "zero-copy"];
    assert!(fail(&zero_copy, 1).contains("no zero-copy"));
    {
        let _port = Interface::attach(name("a1"), InterfaceConfig::default()).unwrap();
        let told = drop(&["--in", "a1"]);
        assert!(told.contains("attached already"), "{told}");
        assert!(told.contains("ip link set dev a1 xdp off"), "{told}");
    }
    pair.set_mtu(9000).unwrap();
    for mode in ["auto", "native", "generic"] {
        let jumbo = ["drop", "--in", "a1", "--arena", "32M", "--mode", mode];
        let told = fail(&jumbo, 1);
        assert!(told.contains("MTU of 9000") && told.ends_with("(--multi-buffer)\n"), "{told}");
    }
    let out = ["redirect", "--in", "a1", "--out", "a0:9", "--arena", "32M", "--multi-buffer"];
    assert!(fail(&out, 1).contains("a0 has no queue 9: it has 1"));
    // Nothing of that is left behind.
    pair.set_mtu(1500).unwrap();
    Interface::attach(name("a1"), InterfaceConfig::default()).unwrap();
}

#[test]
fn packets_are_redirected_until_ctrl_c_and_the_program_is_detached() {
    let Some(()) = private_network() else { return };
    let (a, b) = (pair(), VethPair::new(name("b0"), name("b1"), 1).unwrap());
    for name in ["INT", "TERM", "HUP", "KILL"] {
        let path = scratch(&format!("redirect-{name}.json"));
        let path_text = path.to_str().unwrap();
        let args = ["redirect", "--in", "a1", "--out", "b0", "--arena", "32M", "--json", path_text];
        let (child, mut lines) = start(&args, Stdio::null());
        let sender = PacketSender::to(a.index(0)).unwrap();
        let packets = vec![Datagram::example().packet(&[7; 22]); 50];
        let before = nr_received("b1");
        for nth in 1..=20 {
            send_all(&sender, &packets);
            // Until they are through, so that no ring overflows.
            until("redirecting", || nr_received("b1") >= before + 50 * nth);
        }
        assert!(lines.next().unwrap().unwrap().split_whitespace().count() >= 9);
        let status = end(child, lines, name);
        if name != "KILL" {
            assert!(status.success(), "{name}: {status}");
            let document = json(&fs::read(&path).unwrap());
            for figure in ["received", "valid", "sent"] {
                assert_eq!(document[figure], 1000, "{figure}: {document}");
            }
            assert_eq!(document["malformed_descriptors"], 0);
            assert_eq!(document["inflight"], 0);
            assert!(document["error"].is_null(), "{document}");
            let counter = |name| document["pool"][name].as_u64().unwrap();
            // More at once than the cache has room for go into the ring.
            let recycled = counter("rx_pp_recycle_cached") + counter("rx_pp_recycle_ring");
            assert!(recycled >= 1000, "each was recycled by its completion: {document}");
        }
        // However it ended, the interface is free at once.
        Interface::attach(a.name(1), InterfaceConfig::default()).unwrap();
    }
    drop(b);
}

#[test]
fn packets_are_dropped_and_kept_for_a_time_that_ends() {
    let Some(pair) = private_pair() else { return };
    for (command, alloc, pool) in [
        ("drop", "single", "page"),
        ("drop", "bulk", "page"),
        ("drop", "bulk", "none"),
        ("stack", "bulk", "page"),
        ("stack", "single", "none"),
    ] {
        let args = [command, "--in", "a1", "--duration", "1", "--alloc", alloc, "--pool", pool];
        let start = Instant::now();
        let mut child = pagemill(&[&args, &["--arena", "32M", "--json", "-"][..]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let sender = PacketSender::to(pair.index(0)).unwrap();
        let packets = vec![Datagram::example().packet(&[7; 22]); 16];
        while child.try_wait().unwrap().is_none() {
            sender.send(&packets).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            assert!(start.elapsed() < PATIENCE, "{command} does not end");
        }
        let output = child.wait_with_output().unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{notes}");
        assert!(notes.contains("no zero-copy"), "{notes}");
        let document = json(&output.stdout);
        assert!(document["received"].as_u64().unwrap() > 0, "{document}");
        assert_eq!(document["received"], document["valid"]);
        assert_eq!(document["alloc"], alloc);
        let counters = &document["pool"];
        if pool == "none" {
            assert!(counters.is_null() && document["inflight"].is_null(), "{document}");
            continue;
        }
        assert_eq!(document["inflight"], 0);
        let counter = |name: &str| counters[name].as_u64().unwrap();
        assert!(counter("rx_pp_alloc_fast") > 0 && counter("rx_pp_alloc_slow") > 0, "{document}");
        // The owner uses the ring only where its cache is full.
        let through_ring = counter("rx_pp_recycle_ring") > counter("rx_pp_recycle_cache_full");
        assert_eq!(through_ring, command == "stack", "{document}");
    }
}

#[test]
fn the_benchmark_makes_its_own_network_and_traffic() {
    let Some(()) = private_network() else { return };
    let tiny = ["bench", "--pairs", "10", "--slice", "5", "--ring", "1024", "--arena", "64M"];
    for more in [
        ["--json", "-"].as_slice(),
        &["--json", "-", "--hold", "5"],
        &["--json", "-", "--hold", "5", "--pool", "none"],
        &["--json", "-", "--pool", "none"],
        &["--json", "-", "--traffic", "packet"],
        &["--json", "-", "--traffic", "xsk", "--len", "1000"],
    ] {
        let output = run(&[&tiny, more].concat());
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{more:?}: {notes}");
        let document = json(&output.stdout);
        // Pairs in which no packets came, because other work had the CPU, were measured again.
        assert_eq!(document["pairs"], 10, "{document}");
        for row in document["rows"].as_array().unwrap() {
            assert!(row["mpps"]["median"].as_f64().unwrap() > 0.0, "{document}");
            assert!(row["worker_ns"]["median"].as_f64().unwrap() > 0.0, "{document}");
            assert_eq!(row["pool_slow"].is_null(), more.contains(&"none"), "{document}");
        }
        let pool_ring = if more.contains(&"none") { Value::Null } else { 1024.into() };
        assert_eq!(document["pool_ring"], pool_ring, "{document}");
        assert!(document["pps_ratio"]["median"].as_f64().unwrap() > 0.0, "{document}");
    }
    let shown = run(&[&tiny[..], &["--pairs", "2"]].concat());
    // An option twice is an error, so that nobody wonders which one holds.
    assert!(!shown.status.success());
    let shown = run(&tiny);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("\nBulk: ") && text.contains("times the packets per second"), "{text}");
    assert!(text.contains("\nThese are medians over the pairs"), "{text}");
    assert!(text.contains("bulk brings nothing; with --hold 20"), "{text}");
}

#[test]
fn missing_capabilities_are_named() {
    if !Capabilities::effective().has(Capabilities::NEEDED.with(Capabilities::SYS_ADMIN)) {
        let complaint = fail(&["drop", "--in", "lo"], 1);
        assert!(complaint.contains("CAP_"), "{complaint}");
        return;
    }
    // As nobody, who needs a copy of the program that nobody may run.
    let copy = std::env::temp_dir().join(format!("pagemill-nobody-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_pagemill"), &copy).unwrap();
    let nobody = |args: &[&str]| {
        let output = Command::new(&copy).arg("xdp").args(args).uid(65534).gid(65534).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let told = [nobody(&["drop", "--in", "lo"]), nobody(&["bench"])];
    fs::remove_file(&copy).unwrap();
    assert_eq!(
        told,
        [
            "pagemill: this needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, which are missing: run as \
             root, or give the program what is missing with setcap\n",
            "pagemill: this needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_BPF, which are \
             missing: run as root, or give the program what is missing with setcap\n"
        ]
    );
}

#[test]
fn an_interface_that_is_removed_ends_the_command() {
    let Some(()) = private_network() else { return };
    for (command, more) in [("drop", None), ("drop", Some("--busy")), ("stack", None)] {
        let pair = pair();
        let path = scratch(&format!("gone-{command}.json"));
        let path_text = path.to_str().unwrap();
        let args = [command, "--in", "a1", "--arena", "32M", "--json", path_text];
        let args: Vec<&str> = args.into_iter().chain(more).collect();
        let (child, mut lines) = start(&args, Stdio::piped());
        let sender = PacketSender::to(pair.index(0)).unwrap();
        send_all(&sender, &vec![Datagram::example().packet(&[7; 22]); 10]);
        until("receiving", || nr_received("a1") >= 10);
        // The interface has them; the program has read them all once it reports nanoseconds per packet
        // for one second and none for a later one.
        let mut nanoseconds = lines.by_ref().map_while(Result::ok).filter_map(|line| {
            let columns: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let second = columns.first()?.parse::<u64>();
            second.ok().and_then(|_| columns.get(5).cloned())
        });
        assert!(nanoseconds.any(|column| column != "-"), "{command} reads them");
        assert!(nanoseconds.any(|column| column == "-"), "{command} has read them all");
        drop(pair);
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {complaint}");
        assert!(complaint.contains("interface a1 is gone"), "{command}: {complaint}");
        // The report is there all the same, in words and as JSON.
        let lines = rest.join().unwrap();
        assert!(lines.iter().any(|line| line.starts_with("10 packets in ")), "{lines:?}");
        let document = json(&fs::read(&path).unwrap());
        assert_eq!(document["received"], 10, "{document}");
        assert_eq!(document["inflight"], 0, "{document}");
        let told = document["error"].as_str().unwrap();
        assert!(told.contains("interface a1 is gone"), "{document}");
    }
}

#[test]
fn a_report_is_written_after_the_reader_of_the_lines_is_gone() {
    let Some(_pair) = private_pair() else { return };
    let path = scratch("unread.json");
    let args = ["drop", "--in", "a1", "--arena", "32M", "--json", path.to_str().unwrap()];
    let (mut child, lines) = start(&args, Stdio::null());
    drop(lines);
    assert!(child.wait().unwrap().success());
    assert_eq!(json(&fs::read(&path).unwrap())["received"], 0);
}

#[test]
fn a_program_under_nohup_outlives_its_terminal() {
    let Some(_pair) = private_pair() else { return };
    let program = env!("CARGO_BIN_EXE_pagemill");
    let shell = "trap '' HUP; exec \"$0\" xdp drop --in a1 --arena 32M";
    let mut child = Command::new("sh")
        .args(["-c", shell, program])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("Mpps"));
    signal(&child, "HUP");
    // A sample, and so a second, later it still runs.
    assert!(lines.next().unwrap().unwrap().split_whitespace().count() >= 9);
    assert!(lines.next().unwrap().unwrap().contains("pool"));
    assert!(child.try_wait().unwrap().is_none());
    assert!(end(child, lines, "TERM").success());
}

/// Returns how often a thread of this name gave up its CPU to wait for something.
fn nr_waits(child: &Child, thread: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let status = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).ok();
    let wanted = format!("Name:\t{thread}\n");
    let status = tasks.flatten().filter_map(status).find(|text| text.starts_with(&wanted));
    let status = status.expect("the thread runs");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn the_thread_that_moves_packets_waits_for_nothing_else() {
    let Some(pair) = private_pair() else { return };
    let (child, lines) = start(&["drop", "--in", "a1", "--arena", "32M", "--busy"], Stdio::null());
    let sender = PacketSender::to(pair.index(0)).unwrap();
    send_all(&sender, &vec![Datagram::example().packet(&[7; 22]); 10]);
    // Two lines for each sample: the thread's figures, and the pool's.
    let mut samples = lines.map_while(Result::ok).step_by(2);
    samples.next().unwrap();
    let before = nr_waits(&child, "packets");
    for _ in 0..4 {
        samples.next().unwrap();
    }
    // One in four may be the kernel's, for a page of the program that is on disk.
    let nr = nr_waits(&child, "packets") - before;
    assert!(nr < 4, "{nr} waits in 4 samples");
    assert!(end(child, samples, "TERM").success());
}

#[test]
fn frames_that_another_thread_keeps_are_out_of_the_pool() {
    let Some(()) = private_network() else { return };
    for pool in ["page", "none"] {
        let pair = pair();
        let args = ["stack", "--in", "a1", "--arena", "16M", "--hold", "60000", "--pool", pool];
        let (child, mut lines) = start(&args, Stdio::null());
        let sender = PacketSender::to(pair.index(0)).unwrap();
        let packets = vec![Datagram::example().packet(&[7; 22]); 64];
        // More than there are pages, until almost all of them are kept.
        let (begin, mut nr_out) = (Instant::now(), 0);
        while nr_out < 3500 {
            assert!(begin.elapsed() < PATIENCE, "{pool}: {nr_out} frames are out");
            for _ in 0..100 {
                send_all(&sender, &packets);
            }
            let line = lines.next().unwrap().unwrap();
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[0] != "pool" {
                nr_out = fields[7].parse().unwrap();
            }
        }
        assert!(end(child, lines, "TERM").success());
    }
}

#[test]
fn queues_that_are_not_served_and_missing_checksums_are_told_at_the_start() {
    let Some(()) = private_network() else { return };
    let _other = VethPair::new(name("b0"), name("b1"), 1).unwrap();
    // What is dropped here needs no checksum.
    let commands = [["drop"].as_slice(), &["redirect", "--out", "b0"]];
    let pairs = [(1, false), (2, false), (1, true)];
    let cases = commands.iter().flat_map(|command| pairs.map(|(nr, off)| (*command, nr, off)));
    for (command, nr_queues, leaves) in cases {
        let pair = VethPair::new(name("a0"), name("a1"), nr_queues).unwrap();
        pair.set_checksum_offload(0, leaves).unwrap();
        let leaves = leaves && command[0] == "redirect";
        let more = ["--in", "a1", "--arena", "32M", "--duration", "1", "--copy", "copy"];
        let output = run(&[command, &more].concat());
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{notes}");
        let told = notes.contains("a1: packets that arrive on other queues than 0 bypass");
        assert_eq!(told, nr_queues > 1, "{notes}");
        let told = notes.contains("a1: its peer a0 does not fill in checksums");
        assert_eq!(told, leaves, "{notes}");
        assert_eq!(notes.lines().count(), usize::from(nr_queues > 1 || leaves), "{notes}");
    }
}

/// Runs `shell` with the program as `$0`, and returns the status and what was complained of.
fn in_shell(shell: &str) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_pagemill");
    let output = Command::new("sh").args(["-c", shell, program]).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn memory_that_may_not_be_pinned_is_told_with_the_limit() {
    let Some(()) = private_network() else { return };
    if in_shell("setpriv --version").0 != Some(0) {
        eprintln!("SKIPPED: {:?}: no setpriv", std::thread::current().name());
        return;
    }
    let _pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
    let (code, told) = in_shell(
        "ulimit -l 64; exec setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock \
         \"$0\" xdp drop --in a1 --arena 32M",
    );
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("32768 KiB") && told.contains("64 KiB may be locked"), "{told}");
    assert!(told.contains("CAP_IPC_LOCK"), "{told}");
    assert_eq!(told.matches('\n').count(), 1, "{told}");
}

#[test]
fn capabilities_of_another_user_namespace_are_not_enough() {
    let Some(()) = private_network() else { return };
    if in_shell("unshare --user --map-root-user --net true").0 != Some(0) {
        eprintln!("SKIPPED: {:?}: no user namespace", std::thread::current().name());
        return;
    }
    let (code, told) =
        in_shell("exec unshare --user --map-root-user --net \"$0\" xdp bench --pairs 1");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("CAP_BPF in the first user namespace"), "{told}");
}

#[cfg(feature = "top")]
#[test]
fn top_shows_the_pool_and_the_queue_of_a_run() {
    let Some(pair) = private_pair() else { return };
    // Short: the path of a socket has at most 107 bytes.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("status");
    let socket = socket.to_str().unwrap();
    let args = ["drop", "--in", "a1", "--arena", "32M", "--status", socket];
    let (child, lines) = start(&args, Stdio::null());
    let sender = PacketSender::to(pair.index(0)).unwrap();
    let mut top = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    top.args(["top", "--socket", socket, "--once"]);
    let mut shown = String::new();
    // The figures are those of the last report.
    until("a pool", || {
        send_all(&sender, &vec![Datagram::example().packet(&[7; 22]); 10]);
        let output = top.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        shown = String::from_utf8(output.stdout).unwrap();
        shown.contains("Pool rx: ") && !shown.contains("Pool rx: 0 ")
    });
    for part in ["# Pools", "alloc_slow", "# XDP", "packets received", "a1:0   in "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(end(child, lines, "TERM").code(), Some(0));
}
