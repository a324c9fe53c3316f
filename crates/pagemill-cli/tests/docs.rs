//! Manual pages and completions, as `man` and shells read them.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn pagemill(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pagemill")).args(args).output().unwrap()
}

fn printed(args: &[&str]) -> String {
    let output = pagemill(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns whether a program that a test needs is missing, and says so.
fn is_missing(program: &str) -> bool {
    let is_missing = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| !status.success());
    if is_missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    is_missing
}

#[test]
fn all_pages_are_written_to_a_directory_and_are_those_that_are_printed() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("man/new/man1");
    let _not_there = fs::remove_dir_all(&dir);
    assert_eq!(printed(&["man", "--dir", dir.to_str().unwrap()]), "");
    for (file, words) in [
        ("pagemill.1", &[][..]),
        ("pagemill-nfsd.1", &["nfsd"]),
        ("pagemill-xdp-redirect.1", &["xdp", "redirect"]),
    ] {
        let page = fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(page, printed(&[&["man"], words].concat()), "{file}");
    }
    assert!(!dir.join("pagemill-help.1").exists());
}

#[test]
fn a_command_without_a_page_is_refused_with_those_that_have_one() {
    let output = pagemill(&["man", "xdp", "nfsd"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("pagemill: there is no command 'xdp nfsd': choose from"), "{told}");
    assert!(told.contains("xdp redirect"), "{told}");
    let output = pagemill(&["man", "--dir", "/proc/no/folder"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("pagemill: cannot create /proc/no/folder: "), "{told}");
}

#[test]
fn a_synopsis_names_values_and_a_page_names_files_where_packages_install_them() {
    for (words, expected) in [
        (&["top"][..], "[\\fIPID\\fR]"),
        (&["top"], "[\\fB\\-\\-socket\\fR \\fIPATH\\fR]"),
        (&["nfsd"], "[\\fIOPTIONS\\fR]"),
        (&["completions"], "\\fISHELL\\fR"),
        (&["man"], "[\\fICOMMAND\\fR]..."),
        (&[], "[\\fB\\-\\-version\\fR] \\fICOMMAND\\fR"),
    ] {
        let page = printed(&[&["man"], words].concat());
        let synopsis = page.split(".SH ").find(|section| section.starts_with("SYNOPSIS")).unwrap();
        assert!(synopsis.contains(expected), "{expected}: {synopsis}");
        assert!(!synopsis.contains("subcommands"), "{synopsis}");
        assert!(!page.contains("docs/"), "{words:?}");
    }
    assert!(printed(&["man", "nfsd"]).contains("/usr/share/doc/pagemill/nfsd.md"));
}

#[test]
fn pages_are_valid() {
    if is_missing("mandoc") {
        return;
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("man/lint");
    printed(&["man", "--dir", dir.to_str().unwrap()]);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let output =
            Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(path).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        // A date would be that of the build, or wrong.
        let warnings: Vec<_> = said.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

/// Returns what bash completes after `line`, whose last word may be empty.
fn completed_by_bash(line: &str) -> Vec<String> {
    let mut script = printed(&["completions", "bash"]);
    // Only a completion that the user starts has options to change.
    script.push_str("\ncompopt() { :; }\n");
    script.push_str(&format!(
        "COMP_WORDS=({line} \"$1\")\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         _pagemill pagemill \"$1\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    ));
    let mut bash = Command::new("bash")
        .args(["--norc", "-s", ""])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    if is_missing("bash") {
        return;
    }
    let commands = completed_by_bash("pagemill");
    for name in ["info", "nfsd", "top", "xdp", "completions", "man"] {
        assert!(commands.iter().any(|word| word == name), "{commands:?}");
    }
    assert!(!commands.contains(&"help".to_owned()), "{commands:?}");
    assert!(completed_by_bash("pagemill xdp").contains(&"redirect".to_owned()));
    assert!(completed_by_bash("pagemill nfsd").contains(&"--exports-file".to_owned()));
    assert_eq!(completed_by_bash("pagemill nfsd --log"), ["error", "warn", "info", "debug"]);
    let pages = completed_by_bash("pagemill man");
    for name in ["nfsd", "xdp", "redirect"] {
        assert!(pages.iter().any(|word| word == name), "{pages:?}");
    }
    // A number is not the name of a file.
    assert_eq!(completed_by_bash("pagemill nfsd --threads"), [""]);
}

#[test]
fn scripts_are_valid_in_their_shells() {
    for (shell, check) in [("bash", "-n"), ("fish", "--no-execute"), ("zsh", "-n")] {
        if is_missing(shell) {
            continue;
        }
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("completions.{shell}"));
        fs::write(&path, printed(&["completions", shell])).unwrap();
        assert!(Command::new(shell).arg(check).arg(&path).status().unwrap().success(), "{shell}");
    }
    // zsh would run PORT as a command to get the values.
    assert!(!printed(&["completions", "zsh"]).contains("ADDR:PORT"));
    assert_eq!(pagemill(&["completions", "tcsh"]).status.code(), Some(2));
}
