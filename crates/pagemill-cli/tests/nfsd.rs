//! `pagemill nfsd` as a process: what it prints, what its signals do, what outlives it.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::Instant;

/// A server that is killed at the end of the test.
struct Nfsd {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    addr: SocketAddr,
    /// What it printed first.
    line: String,
}

/// A scratch directory with an export in it.
fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("nfsd-{name}"));
    let _not_there = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("export")).unwrap();
    path.canonicalize().unwrap()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
    command.arg("nfsd").arg("--key-file").arg(dir.join("secret/key")).args(args);
    command
}

impl Nfsd {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = command(dir, args);
        command.stderr(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line.split("port=").nth(1).and_then(|rest| rest.split(',').next());
        let port: u16 = port.unwrap_or_else(|| panic!("no port in {line:?}")).parse().unwrap();
        assert!(line.starts_with("mount -t nfs -o "), "{line}");
        Self { child, stdout: Some(stdout), addr: SocketAddr::from(([127, 0, 0, 1], port)), line }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        // The shell's own: a small system has no program of this name.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill \"$@\"", "sh", signal, &id]);
        assert!(kill.status().unwrap().success());
    }

    /// Calls a procedure and returns the words of its results.
    fn call(&self, prog: u32, proc: u32, args: &[u8]) -> Vec<u32> {
        let message = message(prog, proc, args);
        let mark = 0x8000_0000 | u32::try_from(message.len()).unwrap();
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
        stream.write_all(&[&words(&[mark])[..], &message].concat()).unwrap();
        let mut mark = [0; 4];
        stream.read_exact(&mut mark).unwrap();
        let mut reply = vec![0; usize::try_from(u32::from_be_bytes(mark) & 0x7fff_ffff).unwrap()];
        stream.read_exact(&mut reply).unwrap();
        results(&reply)
    }

    /// The same by a datagram, which is sent again while there is no answer.
    fn call_by_datagram(&self, prog: u32, proc: u32, args: &[u8]) -> Vec<u32> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut reply = vec![0; 64 << 10];
        for _ in 0..90 {
            socket.send(&message(prog, proc, args)).unwrap();
            if let Ok(len) = socket.recv(&mut reply) {
                return results(&reply[..len]);
            }
        }
        panic!("no answer by UDP");
    }

    /// Mounts a directory and returns the handle, or the reason why not.
    fn mount(&self, path: &Path) -> Result<Vec<u8>, u32> {
        let results = self.call(100_005, 1, &opaque(path.as_os_str().as_encoded_bytes()));
        match results[0] {
            0 => {
                let len = usize::try_from(results[1]).unwrap();
                Ok(words(&results[2..])[..len].to_vec())
            }
            status => Err(status),
        }
    }
}

impl Drop for Nfsd {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A call as root of no machine.
fn message(prog: u32, proc: u32, args: &[u8]) -> Vec<u8> {
    let mut message = words(&[7, 0, 2, prog, 3, proc]);
    message.extend(words(&[1, 20, 0, 0, 0, 0, 0, 0, 0]));
    message.extend_from_slice(args);
    message
}

fn results(reply: &[u8]) -> Vec<u32> {
    let reply = from_bytes(reply);
    assert_eq!(reply[..6], [7, 1, 0, 0, 0, 0], "{reply:?}");
    reply[6..].to_vec()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    let mut xdr = [&words(&[len])[..], bytes].concat();
    xdr.resize(4 + bytes.len().next_multiple_of(4), 0);
    xdr
}

fn export_arg(dir: &Path, options: &str) -> String {
    format!("{}:{options}", dir.join("export").display())
}

/// Waits until `done`, which something that is under way will make true.
fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(3);
    while !done() {
        assert!(Instant::now() < deadline, "in 3 minutes it did not happen that {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn handles_outlive_a_server_that_is_killed() {
    let dir = scratch("killed");
    let export = export_arg(&dir, "rw,insecure");
    let first = Nfsd::start(&dir, &["--export", &export, "--listen", "127.0.0.1:0"]);
    let fh = first.mount(&dir.join("export")).unwrap();
    let listen = first.addr.to_string();
    // The port is the same: clients go on where they were.
    drop(first);
    let second = Nfsd::start(&dir, &["--export", &export, "--listen", &listen]);
    let attr = second.call(100_003, 1, &opaque(&fh));
    assert_eq!(attr[..2], [0, 2], "the handle names the directory still");
}

#[test]
fn the_secret_and_its_folders_are_for_their_owner_alone_whatever_the_umask() {
    let dir = scratch("umask");
    let key = dir.join("a/b/key");
    let script =
        "umask 0 && exec \"$0\" nfsd --key-file \"$1\" --export \"$2\" --listen 127.0.0.1:0";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_pagemill")]).arg(&key).arg(dir.join("export"));
    shell.stderr(Stdio::null());
    let nfsd = Nfsd::spawn(shell);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&key), 0o600);
    assert_eq!(mode(key.parent().unwrap()), 0o700);
    assert_eq!(mode(&dir.join("a")), 0o700);
    drop(nfsd);
}

#[test]
fn term_stops_it_hup_reads_exports_again_and_usr1_tells() {
    let dir = scratch("signals");
    let exports = dir.join("exports");
    let (one, two) = (dir.join("export"), dir.join("two"));
    fs::create_dir(&two).unwrap();
    fs::write(&exports, format!("{} *(ro,insecure)\n", one.display())).unwrap();
    let file = exports.to_str().unwrap();
    let mut nfsd = Nfsd::start(&dir, &["--exports-file", file, "--listen", "127.0.0.1:0"]);
    assert!(nfsd.mount(&one).is_ok());
    assert_eq!(nfsd.mount(&two), Err(2));

    fs::write(&exports, format!("{} *(ro,insecure)\n", two.display())).unwrap();
    nfsd.signal("-HUP");
    await_that("the other directory is exported", || nfsd.mount(&two).is_ok());
    assert_eq!(nfsd.mount(&one), Err(2));
    // What cannot be read changes nothing.
    fs::write(&exports, format!("{} *(nonsense)\n", two.display())).unwrap();
    nfsd.signal("-HUP");

    nfsd.signal("-USR1");
    let mut line = String::new();
    nfsd.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
    assert!(line.starts_with("procedure"), "{line}");
    assert!(nfsd.mount(&two).is_ok());
    nfsd.signal("-TERM");
    assert!(nfsd.child.wait().unwrap().success());
}

/// Reads lines of a log until one has `wanted` in it.
fn line_with(log: &mut impl BufRead, wanted: &str) -> String {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "no line has {wanted}");
    }
    line
}

#[test]
fn good_exports_are_served_and_the_rest_is_told_with_file_and_line() {
    let dir = scratch("partly");
    let exports = dir.join("exports");
    let [good, gone] = ["export", "gone"].map(|name| dir.join(name));
    let text =
        format!("{} *(ro,insecure)\n/bad *(nonsense)\n{} *(ro)\n", good.display(), gone.display());
    fs::write(&exports, text).unwrap();
    let file = exports.to_str().unwrap();
    let mut command = command(&dir, &["--exports-file", file, "--listen", "127.0.0.1:0"]);
    command.stderr(Stdio::piped());
    let mut nfsd = Nfsd::spawn(command);
    let mut log = BufReader::new(nfsd.child.stderr.take().unwrap());
    line_with(&mut log, "exports, line 2: nonsense is not a supported option");
    line_with(&mut log, &format!("exports, line 3: cannot export {}", gone.display()));
    nfsd.mount(&good).unwrap();
    // A reload keeps what is exported while the line about it cannot be read.
    fs::create_dir(&gone).unwrap();
    fs::write(&exports, format!("{} *(ro,insecure)\n{} *(x)\n", gone.display(), good.display()))
        .unwrap();
    nfsd.signal("-HUP");
    await_that("the other directory is exported", || nfsd.mount(&gone).is_ok());
    nfsd.mount(&good).unwrap();
}

#[test]
fn a_check_of_exports_is_strict_and_serves_nothing() {
    let dir = scratch("check");
    let exports = dir.join("exports");
    let check = |text: &str| {
        fs::write(&exports, text).unwrap();
        let args = ["--check", "--exports-file", exports.to_str().unwrap()];
        let Output { status, stdout, stderr } = command(&dir, &args).output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    let good = format!("{} *(ro)\n", dir.join("export").display());
    assert_eq!(check(&good), (Some(0), "1 export is valid\n".to_owned()));
    let (code, told) = check(&format!("{good}/bad *(nonsense)\n/nowhere/at/all *\n"));
    assert_eq!(code, Some(2), "{told}");
    let lines: Vec<_> = told.lines().collect();
    let [first, second] = lines[..] else { panic!("not a line for each error: {told}") };
    let at = |line| format!("pagemill: {}, line {line}: ", exports.display());
    assert!(first.starts_with(&at(2)) && first.contains("nonsense is not"), "{told}");
    assert!(second.starts_with(&(at(3) + "cannot export /nowhere/at/all: ")), "{told}");
    let (code, told) = check(&format!("{good}/tmp host.invalid(ro)\n"));
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("line 2: the host host.invalid has no address"), "{told}");
    assert!(!dir.join("secret").exists(), "no secret is made for a check");
}

#[test]
fn a_file_without_exports_is_named_with_a_line_to_add() {
    let dir = scratch("comments");
    let exports = dir.join("exports").display().to_string();
    fs::write(&exports, "# nothing yet\n").unwrap();
    for args in [&["--check", "--exports-file", &exports][..], &["--exports-file", &exports]] {
        let Output { status, stderr, .. } = command(&dir, args).output().unwrap();
        let expected = format!(
            "pagemill: nothing to serve: {exports} has no export: add a line such as `/srv/data \
             10.0.0.0/8(rw)`\n"
        );
        assert_eq!(String::from_utf8(stderr).unwrap(), expected);
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
fn a_directory_that_a_unit_may_hide_is_named_with_the_setting() {
    let dir = scratch("hidden");
    let exports = dir.join("exports").display().to_string();
    fs::write(&exports, "/home/no-such-user/x *(ro)\n/var/tmp/no/such *(ro)\n/nowhere *(ro)\n")
        .unwrap();
    let check = |under_systemd: bool| {
        let mut command = command(&dir, &["--check", "--exports-file", &exports]);
        command.env_remove("INVOCATION_ID");
        if under_systemd {
            command.env("INVOCATION_ID", "0123456789abcdef0123456789abcdef");
        }
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let told = check(true);
    let [home, tmp, other] = told.lines().collect::<Vec<_>>()[..] else { panic!("{told}") };
    assert!(home.ends_with("; or the unit hides it: ProtectHome="), "{home}");
    assert!(tmp.ends_with("; or the unit hides it: PrivateTmp="), "{tmp}");
    assert!(!other.contains("the unit"), "{other}");
    assert!(!check(false).contains("the unit"));
}

/// Runs a program where the export of `dir` is mounted read-only. `None` if this user may not mount.
fn run_read_only(dir: &Path, program: &[&str]) -> Option<(Option<i32>, String)> {
    let export = dir.join("export");
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && \
                  echo mounted && exec \"$@\"";
    let namespaces = [&["--mount"][..], &["--user", "--map-root-user", "--mount"]];
    namespaces.into_iter().find_map(|namespace| {
        let mut unshare = Command::new("unshare");
        unshare.args(namespace).args(["sh", "-c", script, "sh"]).arg(&export).args(program);
        let Output { status, stdout, stderr } = unshare.output().ok()?;
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        Some((status.code(), text.strip_prefix("mounted\n")?.to_owned()))
    })
}

#[test]
fn a_writable_export_of_a_read_only_mount_is_warned_of() {
    let dir = scratch("read-only");
    let export = dir.join("export").display().to_string();
    let check = |options| {
        let export = export_arg(&dir, options);
        let pagemill = env!("CARGO_BIN_EXE_pagemill");
        run_read_only(&dir, &[pagemill, "nfsd", "--check", "--export", &export])
    };
    let Some((code, told)) = check("rw") else {
        return eprintln!("SKIPPED: this user cannot mount in a namespace of its own");
    };
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(&format!("`{export}`: exported rw, but mounted read-only here")),
        "{told}"
    );
    assert!(told.contains(&format!("`ReadWritePaths={export}`")), "{told}");
    let (code, told) = check("ro").unwrap();
    assert_eq!((code, told.as_str()), (Some(0), "1 export is valid\n"));
}

#[test]
fn a_check_lists_errors_on_the_command_line_and_of_two_files() {
    let dir = scratch("check-all");
    let export = dir.join("export").display().to_string();
    let files = ["one", "two"].map(|name| dir.join(name).display().to_string());
    files.iter().for_each(|file| fs::write(file, format!("{export} *(ro)\n")).unwrap());
    let args = ["--check", "--export", "/nowhere/a", "--export", "/nowhere/b", "--exports-file"];
    let args = [&args[..], &[&files[0], "--exports-file", &files[1]]].concat();
    let Output { status, stderr, .. } = command(&dir, &args).output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{told}");
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(told.contains("--export /nowhere/a: ") && told.contains("--export /nowhere/b: "));
    let [one, two] = &files;
    let twice = format!("{one}, line 1 and {two}, line 1: {export} is exported twice");
    assert!(told.contains(&twice), "{told}");
}

#[test]
fn the_log_shows_clients_sockets_and_what_a_reload_changes() {
    let dir = scratch("changes");
    let exports = dir.join("exports");
    let [one, two] = ["export", "two"].map(|name| dir.join(name).display().to_string());
    fs::create_dir(&two).unwrap();
    let unknown = "host.invalid(rw)";
    fs::write(&exports, format!("{one} 10.9.0.3(rw) *(ro) {unknown}\n")).unwrap();
    let file = exports.to_str().unwrap();
    let args = ["--exports-file", file, "--listen", "127.0.0.1:0", "--udp"];
    let mut command = command(&dir, &args);
    command.stderr(Stdio::piped());
    let mut nfsd = Nfsd::spawn(command);
    let mut log = BufReader::new(nfsd.child.stderr.take().unwrap());
    let line = line_with(&mut log, "host.invalid has no address");
    assert!(line.contains("exports, line 1: ") && !line.contains("skipped"), "{line}");
    let line = line_with(&mut log, "exported");
    let clients = "clients=\"10.9.0.3(rw) host.invalid(rw) *(ro)\"";
    assert!(line.contains(&format!("path={one:?}")) && line.contains(clients), "{line}");
    let line = line_with(&mut log, "serving");
    for part in ["tcp", "udp"].map(|name| format!("{name}=\"{}\"", nfsd.addr)) {
        assert!(line.contains(&part), "{line}");
    }
    let mut reload = |text: &str, wanted: &[&str]| {
        fs::write(&exports, text).unwrap();
        nfsd.signal("-HUP");
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.contains("exports read again")) {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0);
            lines.push(line);
        }
        let about = |line: &&String| ["withdrawn", "exported"].iter().any(|it| line.contains(it));
        let told: Vec<_> = lines.iter().filter(about).collect();
        assert_eq!(told.len(), wanted.len(), "{lines:?}");
        for (line, wanted) in told.iter().zip(wanted) {
            assert!(wanted.split('|').all(|part| line.contains(part)), "{wanted}: {lines:?}");
        }
    };
    reload(&format!("{one} *(rw)\n"), &[&format!("changed|{one}|clients=\"*(rw)\"")]);
    reload(&format!("{one} *(rw)\n"), &[]);
    reload(
        &format!("{two} *(ro)\n"),
        &[&format!("withdrawn|path={one:?}"), &format!("exported;|path={two:?}")],
    );
    reload("# none\n", &[&format!("withdrawn|path={two:?}"), "WARN|nothing is exported any more"]);
}

#[test]
fn a_refused_mount_is_one_line_with_reason_and_remedy() {
    let dir = scratch("refusal");
    let export = export_arg(&dir, "ro,insecure,client=10.9.8.7");
    let mut command = command(&dir, &["--export", &export, "--listen", "127.0.0.1:0"]);
    command.stderr(Stdio::piped());
    let mut nfsd = Nfsd::spawn(command);
    let mut log = BufReader::new(nfsd.child.stderr.take().unwrap());
    assert_eq!(nfsd.mount(&dir.join("export")), Err(13));
    let line = line_with(&mut log, "mount refused");
    for part in ["WARN", "client=127.0.0.1:", "/export", "127.0.0.1 is not among", "remedy="] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_server_whose_output_nobody_takes_goes_on() {
    let dir = scratch("full");
    let export = export_arg(&dir, "ro,insecure");
    let mut command = command(&dir, &["--export", &export, "--listen", "127.0.0.1:0"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let serving = line_with(&mut log, "serving");
    let port = serving.split("127.0.0.1:").nth(1).unwrap().split('"').next().unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    line_with(&mut log, "cannot write to the standard output");
    let nfsd = Nfsd { child, stdout: None, addr, line: serving };
    nfsd.signal("-USR1");
    line_with(&mut log, "cannot write to the standard output");
    assert!(nfsd.mount(&dir.join("export")).is_ok());
}

#[test]
fn paths_of_clients_make_no_lines_in_the_log() {
    let dir = scratch("log");
    let export = export_arg(&dir, "ro,insecure");
    let args = ["--export", &export, "--listen", "127.0.0.1:0", "--log", "debug"];
    let mut command = command(&dir, &args);
    command.stderr(Stdio::piped());
    let mut nfsd = Nfsd::spawn(command);
    let mut log = BufReader::new(nfsd.child.stderr.take().unwrap());
    let name = "a\nINFO forged\x1b[2J";
    assert_eq!(nfsd.mount(&dir.join(name)), Err(2));
    nfsd.call(100_005, 3, &opaque(dir.join(name).as_os_str().as_encoded_bytes()));
    for told in ["mount refused", "unmounted"] {
        let line = line_with(&mut log, told);
        assert!(line.contains("a\\nINFO forged") && !line.contains('\x1b'), "{line}");
    }
    fs::create_dir(dir.join("export").join(name)).unwrap();
    nfsd.mount(&dir.join("export").join(name)).unwrap();
    let line = line_with(&mut log, "mounted");
    assert!(line.contains("a\\nINFO forged") && !line.contains('\x1b'), "{line}");
}

#[test]
fn the_second_signal_ends_it_whatever_is_under_way() {
    const NR_CALLS: u32 = 40;
    const NR_CLIENTS: u32 = 16;
    let dir = scratch("twice");
    let file = fs::File::create(dir.join("export/file")).unwrap();
    file.set_len(1 << 20).unwrap();
    let export = export_arg(&dir, "ro,insecure");
    let mut nfsd = Nfsd::start(&dir, &["--export", &export, "--listen", "127.0.0.1:0"]);
    let root = nfsd.mount(&dir.join("export")).unwrap();
    let found = nfsd.call(100_003, 3, &[opaque(&root), opaque(b"file")].concat());
    assert_eq!(found[0], 0);
    let len = usize::try_from(found[1]).unwrap();
    let fh = words(&found[2..])[..len].to_vec();
    // More than sockets hold, and nobody reads it: the server waits for it to go out. What a socket
    // still takes when the server ends may be all that waits for it; with replies of a length for
    // each client, it is not so for all.
    let clients = (0..NR_CLIENTS).map(|client| {
        let mut stream = TcpStream::connect(nfsd.addr).unwrap();
        for xid in 0..NR_CALLS {
            let mut message = words(&[xid, 0, 2, 100_003, 3, 6, 1, 20, 0, 0, 0, 0, 0, 0, 0]);
            message.extend([opaque(&fh), words(&[0, 0, (1 << 20) - (client << 15)])].concat());
            let mark = 0x8000_0000 | u32::try_from(message.len()).unwrap();
            stream.write_all(&[words(&[mark]), message].concat()).unwrap();
        }
        stream
    });
    let _open: Vec<TcpStream> = clients.collect();
    // Nothing outside tells that the sockets are full; before they are, the server has only the
    // calls to answer that it carries out.
    thread::sleep(Duration::from_millis(500));
    let mut status = None;
    await_that("the server ends", || {
        // One too many while it ends is no harm.
        nfsd.signal("-TERM");
        status = nfsd.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().signal(), Some(15), "{status:?}");
}

#[test]
fn statistics_are_offered_to_prometheus() {
    let dir = scratch("metrics");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let export = export_arg(&dir, "ro,insecure");
    let args = ["--export", &export, "--listen", "127.0.0.1:0", "--metrics", &port.to_string()];
    let nfsd = Nfsd::start(&dir, &args);
    let fh = nfsd.mount(&dir.join("export")).unwrap();
    nfsd.call(100_003, 1, &opaque(&fh));
    let ask = |line: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "{line}\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let no_such_name = [opaque(&fh), opaque(b"nobody")].concat();
    assert_eq!(nfsd.call(100_003, 3, &no_such_name)[0], 2);
    // Idle clients delay no other.
    let idle: Vec<_> = (0..6).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let text = ask("GET /metrics?all HTTP/1.1");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let path = dir.join("export").display().to_string();
    for wanted in [
        "pagemill_nfs_call_seconds_count{procedure=\"GETATTR\"} 1\n".to_owned(),
        "pagemill_nfs_call_seconds_bucket{le=\"+Inf\",procedure=\"GETATTR\"} 1\n".to_owned(),
        "pagemill_nfs_refused_total{procedure=\"LOOKUP\",status=\"NFS3ERR_NOENT\"} 1\n".to_owned(),
        format!("pagemill_nfs_export_calls_total{{export=\"{path}\"}} 2\n"),
        "# TYPE pagemill_refill_pages counter\npagemill_refill_pages_total ".to_owned(),
        "# HELP pagemill_rpc_connections Open connections.\n".to_owned(),
        "# TYPE pagemill_rpc_connections gauge\npagemill_rpc_connections ".to_owned(),
    ] {
        assert!(text.contains(&wanted), "no {wanted:?} in {text}");
    }
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    drop(idle);
    // Each metric is described once, before its samples, and has samples of no other name.
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let described = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut names: Vec<_> = described.collect();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        assert!(names.iter().any(|name| line.starts_with(name)), "{line}");
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/nfsd.md");
    let page = fs::read_to_string(page).unwrap();
    for name in &names {
        let [counter, other] = [format!("`{name}_total`"), format!("`{name}`")];
        assert!(page.contains(&counter) || page.contains(&other), "nfsd.md lacks {name}");
    }
    let nr = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), body.matches("# HELP ").count()), (nr, nr));
    assert!(ask("HEAD /metrics HTTP/1.1").ends_with("\r\n\r\n"));
    assert!(ask("GET /elsewhere HTTP/1.1").starts_with("HTTP/1.1 404"));
}

#[test]
fn mount_has_a_port_of_its_own_if_told_so() {
    let dir = scratch("ports");
    let export = export_arg(&dir, "ro,insecure");
    let mut child = command(&dir, &["--export", &export, "--listen", "127.0.0.1:0"]);
    child.args(["--mount-listen", "127.0.0.1:0", "--udp"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let port = |name: &str| line.split(name).nth(1).unwrap().split(',').next().unwrap().to_owned();
    assert_ne!(port(",port="), port("mountport="), "{line}");
}

#[test]
fn a_shell_reads_the_path_in_the_command_that_mounts() {
    let dir = scratch("quotes");
    let export = dir.join("it's $(here) `now`");
    fs::create_dir(&export).unwrap();
    let arg = format!("{}:ro,insecure", export.display());
    let nfsd = Nfsd::start(&dir, &["--export", &arg, "--listen", "127.0.0.1:0"]);
    // The shell splits the line into words as it would for `mount`.
    let script = format!("set -- {}; printf '%s\n' \"$6\" \"$7\" $#", nfsd.line.trim_end());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(words, format!("127.0.0.1:{}\n/mnt\n7\n", export.display()));
}

#[test]
fn files_are_made_written_and_read_by_datagrams() {
    const NFS: u32 = 100_003;
    let dir = scratch("udp");
    let export = export_arg(&dir, "rw,insecure,no_root_squash");
    let nfsd = Nfsd::start(&dir, &["--export", &export, "--listen", "127.0.0.1:0", "--udp"]);
    let path = opaque(dir.join("export").as_os_str().as_encoded_bytes());
    let mounted = nfsd.call_by_datagram(100_005, 1, &path);
    assert_eq!(mounted[0], 0);
    let handle = |results: &[u32]| {
        let len = usize::try_from(results[0]).unwrap();
        opaque(&words(&results[1..])[..len])
    };
    let root = handle(&mounted[1..]);
    // UNCHECKED, so that a call that is sent again is answered alike, with nothing set.
    let create = [&root[..], &opaque(b"f"), &words(&[0, 0, 0, 0, 0, 0, 0])].concat();
    let created = nfsd.call_by_datagram(NFS, 8, &create);
    assert_eq!(created[..2], [0, 1], "made, and a handle follows");
    let file = handle(&created[2..]);
    let data: Vec<u8> = (0..32_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let len = u32::try_from(data.len()).unwrap();
    let write = [&file[..], &words(&[0, 0, len, 2]), &opaque(&data)].concat();
    assert_eq!(nfsd.call_by_datagram(NFS, 7, &write)[0], 0);
    assert_eq!(fs::read(dir.join("export/f")).unwrap(), data);
    let read = nfsd.call_by_datagram(NFS, 6, &[&file[..], &words(&[0, 0, len])].concat());
    // Status, attributes, count, end of file, length, data.
    assert_eq!((read[0], read[1], &read[23..26]), (0, 1, &[len, 1, len][..]));
    assert_eq!(words(&read[26..]), data);
    // The same server answers by TCP.
    assert_eq!(nfsd.call(NFS, 1, &file)[0], 0);
}

#[test]
fn sockets_that_systemd_passes_are_served() {
    let dir = scratch("activation");
    let export = export_arg(&dir, "ro,insecure");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // What connects before there is a server is served by it.
    let early = TcpStream::connect(addr).unwrap();
    // The shell says whose sockets they are as systemd does, and puts the socket in its place.
    let script = "LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; \
                  exec \"$0\" \"$@\" 3<&0 </dev/null";
    let server = command(&dir, &["--export", &export]);
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(server.get_program()).args(server.get_args());
    shell.stdin(OwnedFd::from(listener)).stderr(Stdio::null());
    let mut nfsd = Nfsd::spawn(shell);
    assert_eq!(nfsd.addr, addr, "{}", nfsd.line);
    nfsd.mount(&dir.join("export")).unwrap();
    let mut early = early;
    early.set_read_timeout(Some(Duration::from_mins(3))).unwrap();
    let null = message(100_003, 0, &[]);
    let mark = 0x8000_0000 | u32::try_from(null.len()).unwrap();
    early.write_all(&[&words(&[mark])[..], &null].concat()).unwrap();
    let mut reply = [0; 28];
    early.read_exact(&mut reply).unwrap();
    assert_eq!(results(&reply[4..]), []);
    nfsd.signal("-TERM");
    assert!(nfsd.child.wait().unwrap().success());
}

#[test]
fn sockets_passed_to_another_process_are_left_alone() {
    let dir = scratch("activation-other");
    let export = export_arg(&dir, "ro,insecure");
    let mut other = command(&dir, &["--export", &export, "--listen", "127.0.0.1:0"]);
    other.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").stderr(Stdio::null());
    let nfsd = Nfsd::spawn(other);
    nfsd.mount(&dir.join("export")).unwrap();
}

#[test]
fn the_secret_is_in_the_state_directory_of_the_unit_unless_an_option_names_a_file() {
    let dir = scratch("state-directory");
    let export = export_arg(&dir, "ro,insecure");
    let serve = |more: &[&str]| {
        let mut server = Command::new(env!("CARGO_BIN_EXE_pagemill"));
        server.args(["nfsd", "--export", &export, "--listen", "127.0.0.1:0"]).args(more);
        // What systemd sets for StateDirectory=first second.
        let [first, second] = ["first", "second"].map(|name| dir.join(name));
        server.env("STATE_DIRECTORY", std::env::join_paths([first, second]).unwrap());
        drop(Nfsd::spawn(server));
    };
    let named = dir.join("named");
    serve(&["--key-file", named.to_str().unwrap()]);
    assert!(named.exists() && !dir.join("first").exists());
    serve(&[]);
    assert_eq!(fs::metadata(dir.join("first/nfsd.key")).unwrap().len(), 16);
    assert!(!dir.join("second").exists());
}

fn refused(args: &[&str]) -> (Option<i32>, String) {
    let dir = scratch(&format!("refused-{}", args.len()));
    let Output { status, stderr, .. } = command(&dir, args).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_cannot_be_served_is_told_in_one_line() {
    for (args, told) in [
        (&[][..], "nothing to serve: name a directory with --export DIR"),
        (&["--export", "/nowhere/at/all"], "name an existing directory"),
        (&["--export", "/tmp:rw,nonsense"], "nonsense is not a supported option"),
        (
            &["--export", "/tmp:rww"],
            "'rww' does not begin with an option: after the colon, write ro, rw",
        ),
        (
            &["--export", "/tmp,insecure,ro"],
            "write a colon before the options, as in /tmp:insecure,ro",
        ),
        (&["--export", "/tmp:rw:insecure"], "write a comma between options, as in /tmp:rw,..."),
        (
            &["--exprot", "/"],
            "found; tip: a similar argument exists: '--export'; see pagemill nfsd",
        ),
        (&["--export", "/", "--listen", "2049"], "write 127.0.0.1:2049 for this machine only"),
        (&["--export", "/", "--mount-listen", "x"], "write 127.0.0.1:2049 for this machine only"),
        (&["--exports-file", "/nowhere/exports"], "cannot read /nowhere/exports"),
        (&["--export", "/", "--metrics", "x"], "neither a port"),
        (&["--export", "/", "--threads", "0"], "1..=1024"),
    ] {
        let (code, line) = refused(args);
        assert_eq!(code, Some(2), "{args:?}: {line}");
        assert!(line.contains(told), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn a_directory_that_is_named_twice_is_told() {
    let listen = ["--listen", "127.0.0.1:0"];
    let (code, line) = refused(&[&["--export", "/tmp", "--export", "/tmp/"], &listen[..]].concat());
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("/tmp is exported twice: name it once"), "{line}");
}

#[test]
fn by_ipv6_the_command_that_mounts_says_so() {
    let dir = scratch("ipv6");
    let export = export_arg(&dir, "ro,insecure");
    let mut nfsd = Nfsd::spawn(command(&dir, &["--export", &export, "--listen", "[::1]:0"]));
    assert!(nfsd.line.contains(",proto=tcp6,port="), "{}", nfsd.line);
    assert!(nfsd.line.contains(",mountproto=tcp6,mountport="), "{}", nfsd.line);
    assert!(nfsd.line.contains("nolock '[::1]:"), "{}", nfsd.line);
    nfsd.signal("-TERM");
    assert!(nfsd.child.wait().unwrap().success());
}
