//! Shows that the example `uring_echo` serves 10,000 connections at once, or as many as the limit allows, and that
//! `uring_sink` measures.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use core::net::SocketAddr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

use rustix::process::{Resource, getrlimit};

/// The example, ended on drop.
struct Echo {
    child: Child,
    /// Kept open: the example prints lines while it serves.
    output: BufReader<ChildStdout>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _is_gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Returns the program, which `cargo test` builds beside the tests; `None` if only this test was built.
fn program(name: &str) -> Option<PathBuf> {
    let test = env::current_exe().unwrap();
    let path = test.parent()?.parent()?.join("examples").join(name);
    if !fs::exists(&path).unwrap() {
        println!("SKIPPED: the example {name} was not built; run cargo test -p pagemill-uring");
        return None;
    }
    Some(path)
}

/// Starts the example; `None` where io_uring cannot be used.
fn start(path: &PathBuf, nr: u64) -> Option<(Echo, SocketAddr)> {
    let mut child = Command::new(path)
        .args(["--listen", "127.0.0.1:0", "--connections", &nr.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut echo = Echo { child, output };
    let mut line = String::new();
    echo.output.read_line(&mut line).unwrap();
    if let Some(address) = line.trim().strip_prefix("listening on ") {
        return Some((echo, address.parse().unwrap()));
    }
    let mut error = String::new();
    echo.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    let is_unsupported =
        ["cannot use io_uring", "use Linux"].iter().any(|text| error.contains(text));
    assert!(is_unsupported, "{error}");
    println!("SKIPPED: {error}");
    None
}

/// Returns whether an example failed because io_uring cannot be used here.
fn is_unsupported(error: &str) -> bool {
    ["cannot use io_uring", "use Linux"].iter().any(|text| error.contains(text))
}

#[test]
fn ten_thousand_connections_get_their_own_bytes_back() {
    let Some(path) = program("uring_echo") else { return };
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let nr = limit.saturating_sub(100).min(10_000);
    if nr < 10_000 {
        println!("only {nr} connections: the limit is {limit} descriptors");
    }
    let Some((_echo, address)) = start(&path, nr) else { return };
    let mut peers: Vec<_> = (0..nr).map(|_| TcpStream::connect(address).unwrap()).collect();
    // All of them at once, twice.
    for round in 0..2_u64 {
        for (number, peer) in (0_u64..).zip(&mut peers) {
            peer.write_all(&(number << 1 | round).to_le_bytes()).unwrap();
        }
        for (number, peer) in (0_u64..).zip(&mut peers) {
            let mut bytes = [0; 8];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), number << 1 | round);
        }
    }
    // A larger answer than the buffers of the sockets hold.
    let peer = &mut peers[0];
    let mut reader = peer.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    peer.write_all(&vec![1; 16 << 20]).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), 16 << 20);
}

#[test]
fn more_connections_than_descriptors_are_refused_with_what_to_do() {
    let Some(path) = program("uring_echo") else { return };
    let output = Command::new(path).args(["--connections", "16000000"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(error.contains("16000000 connections need 16000016 descriptors"), "{error}");
    assert!(error.contains("ulimit -n 16000016"), "{error}");
}

#[test]
fn sink_measures_in_small() {
    let Some(path) = program("uring_sink") else { return };
    let arguments = ["--measure", "--mib", "3", "--rounds", "1", "--buffers", "64"];
    let output = Command::new(path).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && is_unsupported(&error) {
        println!("SKIPPED: {error}");
        return;
    }
    let table = String::from_utf8(output.stdout).unwrap();
    for arm in ["read(2), 128 KiB", "ring, 1 MiB buffers", "ring, 4 KiB, pool", "split"] {
        assert!(table.contains(arm), "{table} {error}");
    }
}
