//! `pagemill xdp` as a whole: in private networks where root can make them, and what is told where
//! something is missing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests, which tell what they skip"
)]

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use pagemill_xdp::{
    Capabilities, Datagram, Name, PacketSender, Port, PortConfig, VethPair, enter_private_network,
};
use serde_json::Value;

fn pagemill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
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
fn private_network() -> bool {
    match enter_private_network() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("SKIPPED: {:?}: {error}", std::thread::current().name());
            false
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("the output is JSON")
}

#[test]
fn what_cannot_be_meant_is_told_in_one_line() {
    for (args, told) in [
        (["drop", "--in", "a name"].as_slice(), "15 bytes"),
        (&["drop", "--in", "a:x"], "no queue"),
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
    if !private_network() {
        return;
    }
    let pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
    let drop = |more: &[&str]| fail(&[&["drop", "--arena", "16M"], more].concat(), 1);
    assert!(drop(&["--in", "nosuch"]).contains("no interface nosuch"));
    assert!(drop(&["--in", "lo"]).contains("lo is down"));
    let lone = ["drop", "--in", "a1:7", "--arena", "16M", "--mode", "native"];
    assert!(fail(&lone, 1).contains("a1 has no queue 7: it has 1"));
    let small = ["drop", "--in", "a1", "--arena", "8M", "--mode", "native", "--ring", "2048"];
    assert!(fail(&small, 1).contains("too small"));
    let zero_copy = ["drop", "--in", "a1", "--arena", "32M", "--copy", "zero-copy"];
    assert!(fail(&zero_copy, 1).contains("no zero-copy"));
    {
        let _port = Port::attach(name("a1"), PortConfig::default()).unwrap();
        assert!(drop(&["--in", "a1"]).contains("attached already"));
    }
    pair.set_mtu(9000).unwrap();
    for mode in ["auto", "native", "generic"] {
        let jumbo = ["drop", "--in", "a1", "--arena", "32M", "--mode", mode];
        assert!(fail(&jumbo, 1).contains("MTU of 9000"), "{mode}");
    }
    let out = ["redirect", "--in", "a1", "--out", "a0:9", "--arena", "32M", "--multi-buffer"];
    assert!(fail(&out, 1).contains("a0 has no queue 9: it has 1"));
    // Nothing of that is left behind.
    pair.set_mtu(1500).unwrap();
    Port::attach(name("a1"), PortConfig::default()).unwrap();
}

#[test]
fn packets_are_redirected_until_ctrl_c_and_the_program_is_detached() {
    if !private_network() {
        return;
    }
    let (a, b) = (
        VethPair::new(name("a0"), name("a1"), 1).unwrap(),
        VethPair::new(name("b0"), name("b1"), 1).unwrap(),
    );
    for signal in ["INT", "TERM", "KILL"] {
        let path = scratch(&format!("redirect-{signal}.json"));
        let _none_there = fs::remove_file(&path);
        let args = ["redirect", "--in", "a1", "--out", "b0", "--arena", "32M", "--json"];
        let mut child = pagemill(&args)
            .arg(&path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The heading comes when all is set up.
        assert!(lines.next().unwrap().unwrap().contains("Mpps"));
        let sender = PacketSender::to(a.index(0)).unwrap();
        let packets = vec![Datagram::example().packet(&[7; 22]); 50];
        for _ in 0..20 {
            let mut nr = 0;
            while nr < packets.len() {
                nr += sender.send(&packets[nr..]).unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // A second of samples, so that the packets are through.
        assert!(lines.next().unwrap().unwrap().split_whitespace().count() >= 9);
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let status = child.wait().unwrap();
        if signal != "KILL" {
            assert!(status.success(), "{signal}: {status}");
            let document = json(&fs::read(&path).unwrap());
            for figure in ["received", "passed", "sent"] {
                assert_eq!(document[figure], 1000, "{figure}: {document}");
            }
            assert_eq!(document["malformed_descriptors"], 0);
            assert_eq!(document["inflight"], 0);
            let counter = |name| document["pool"][name].as_u64().unwrap();
            // More at once than the cache has room for go into the ring.
            let recycled = counter("rx_pp_recycle_cached") + counter("rx_pp_recycle_ring");
            assert!(recycled >= 1000, "each was recycled by its completion: {document}");
        }
        // However it ended, the interface is free at once.
        Port::attach(a.name(1), PortConfig::default()).unwrap();
    }
    drop(b);
}

#[test]
fn packets_are_dropped_and_kept_for_a_time_that_ends() {
    if !private_network() {
        return;
    }
    let pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
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
            assert!(start.elapsed() < Duration::from_mins(3), "{command} does not end");
        }
        let output = child.wait_with_output().unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{notes}");
        assert!(notes.contains("no zero-copy"), "{notes}");
        let document = json(&output.stdout);
        assert!(document["received"].as_u64().unwrap() > 0, "{document}");
        assert_eq!(document["received"], document["passed"]);
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
    if !private_network() {
        return;
    }
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
        assert!(document["pairs"].as_u64().unwrap() > 0, "{document}");
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
    assert!(text.contains("\nIn bulk ") && text.contains("times the packets per second"), "{text}");
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
            "pagemill: this needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, which is missing\n",
            "pagemill: this needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN, CAP_BPF, \
             which is missing\n"
        ]
    );
}

#[test]
fn an_interface_that_is_removed_ends_the_command() {
    if !private_network() {
        return;
    }
    for command in ["drop", "stack"] {
        let pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
        let mut child = pagemill(&[command, "--in", "a1", "--arena", "32M"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("Mpps"));
        drop(pair);
        let rest = std::thread::spawn(move || lines.count());
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {complaint}");
        assert!(complaint.contains("interface a1 is gone"), "{command}: {complaint}");
        rest.join().unwrap();
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
    if !private_network() {
        return;
    }
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
    if !private_network() {
        return;
    }
    if in_shell("unshare --user --map-root-user --net true").0 != Some(0) {
        eprintln!("SKIPPED: {:?}: no user namespace", std::thread::current().name());
        return;
    }
    let (code, told) =
        in_shell("exec unshare --user --map-root-user --net \"$0\" xdp bench --pairs 1");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("CAP_BPF in the first user namespace"), "{told}");
}
