//! Boots the example kernel under QEMU where that is installed, and says aloud where it is not.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The kernel's output, if it could be booted: `run.sh` builds it once and ends each boot after
/// five minutes.
fn boot(options: &[&str]) -> Option<String> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let built = *BUILT.get_or_init(|| {
        let can_boot = can_boot();
        if can_boot {
            let build = run(&["--build-only"]);
            assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        } else {
            skip();
        }
        can_boot
    });
    if !built {
        return None;
    }
    let boot = run(&[&["--no-build"], options].concat());
    let text = String::from_utf8_lossy(&boot.stdout).into_owned();
    let errors = String::from_utf8_lossy(&boot.stderr);
    assert!(boot.status.success(), "{options:?}:\n{text}\n{errors}");
    assert_eq!(text.lines().last(), Some("pass"), "{text}");
    for part in ["\nping: ", "\nburst: ", "\nNode 0, zone "] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    Some(text)
}

fn can_boot() -> bool {
    let qemu = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status();
    cfg!(all(target_arch = "x86_64", target_os = "linux")) && qemu.is_ok()
}

/// Writes past what the test harness keeps of a test that passes.
fn skip() {
    let line = "\nSKIPPED: kernel.rs: qemu-system-x86_64 is not installed, so nothing was booted\n";
    io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

fn run(options: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kernel/run.sh");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let mut command = Command::new(script);
    command.args(options).env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
    command.output().expect("the script can be run")
}

/// The script is run from another folder: it must find itself, and check values before it builds.
#[test]
fn script_explains_itself_and_refuses_wrong_values_at_once() {
    let help = run(&["--help"]);
    assert!(help.status.success(), "{help:?}");
    assert!(String::from_utf8_lossy(&help.stdout).contains("[--memory SIZE]"), "{help:?}");
    for (options, message) in [
        (["--memory", "16M"], "--memory 16M is too little: at least 64M are needed"),
        (["--memory", "63"], "--memory 63 is too little: at least 64M are needed"),
        (["--memory", "much"], "--memory much: allowed are sizes such as 64M or 4G"),
        (["--memory", "1MG"], "--memory 1MG: allowed are sizes such as 64M or 4G"),
        (["--cpus", "65"], "--cpus 65: allowed are 1 to 64"),
        (["--cpus", "0"], "--cpus 0: allowed are 1 to 64"),
        (["--machine", "virt"], "--machine virt: allowed are q35, pc and microvm"),
        (["--build-only", "--memory"], "--memory needs a value; --help lists the options"),
        (["--build-only", "--fast"], "unknown option '--fast'; --help lists the options"),
    ] {
        let refused = run(&options);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!((refused.status.code(), &*error), (Some(2), &*format!("run.sh: {message}\n")));
    }
}

/// The manages column of a zone's line, where there is such a zone.
fn managed(text: &str, zone: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(zone))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[test]
fn kernel_passes_with_little_memory() {
    let Some(text) = boot(&["--machine", "q35", "--memory", "64M"]) else { return };
    assert!(managed(&text, "DMA").is_some_and(|pages| pages > 3000), "{text}");
    assert!(managed(&text, "DMA32").is_some_and(|pages| pages > 10_000), "{text}");
    assert_eq!(managed(&text, "Normal"), None, "{text}");
}

#[test]
fn kernel_passes_with_a_hole_below_4_gib_and_memory_above() {
    let options = ["--machine", "q35", "--memory", "4G", "--cpus", "2"];
    let Some(text) = boot(&options) else { return };
    assert!(managed(&text, "Normal").is_some_and(|pages| pages > 250_000), "{text}");
}

#[test]
fn kernel_passes_on_a_machine_without_firmware_of_old() {
    let options = ["--machine", "microvm", "--memory", "64M", "--cpus", "2"];
    let Some(text) = boot(&options) else { return };
    assert!(text.contains(" 2 CPUs\n"), "{text}");
}

#[test]
fn kernel_counts_its_instructions_and_stays_within_its_limit() {
    let Some(text) = boot(&["--machine", "pc", "--memory", "64M", "--icount"]) else { return };
    assert!(text.contains("instructions per page"), "{text}");
    // The kernel compares with its limit itself, and fails above it.
    assert!(text.contains("an array of 64: "), "{text}");
}
