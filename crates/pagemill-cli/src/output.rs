//! Where results go: the standard output, files, and complaints about what went wrong.

use core::error::Error;
use core::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
#[cfg(feature = "bench")]
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
#[cfg(feature = "bench")]
use rustix::fs::FileType;
use rustix::fs::fstat;
use serde::Serialize;

use pagemill_status::wire::visible;

use crate::usage::UsageError;

/// The exit code for what the person at the keyboard can mend.
const USAGE: u8 = 2;

/// An output that is open: what follows cannot fail for want of a right or a folder.
#[derive(Debug)]
pub(crate) enum Output {
    /// The standard output.
    Stdout,
    /// A file, which keeps its content until it is written to.
    File {
        /// The option that named the file, for messages.
        option: &'static str,
        /// What was typed, for messages.
        path: PathBuf,
        /// The file itself.
        file: File,
        /// Whether text is added at the end, because another descriptor writes to the file too.
        appends: bool,
    },
}

impl Output {
    /// Opens what `option` names, if it names anything, and makes the file if there is none; `-` is
    /// the standard output, and so is a path that leads to it, such as `/dev/stdout`.
    ///
    /// # Errors
    /// One that names the option, the path and what the system answered.
    pub(crate) fn open(option: &'static str, path: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        if path == Path::new("-") {
            return Ok(Some(Self::Stdout));
        }
        let descriptor = Descriptor::at(path);
        if descriptor == Some(Descriptor::Own(1)) {
            return Ok(Some(Self::Stdout));
        }
        // Not truncated yet: a run that fails leaves the last result as it was. What has the file open
        // under another descriptor has written to it, and that must not be overwritten.
        let appends = descriptor.is_some();
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).append(appends).open(path);
        let file = file.with_context(|| refused(option, path))?;
        if is_file_of(&file, io::stdout()) {
            return Ok(Some(Self::Stdout));
        }
        Ok(Some(Self::File { option, path: path.to_owned(), file, appends }))
    }

    /// Replaces what the output holds by `text`.
    ///
    /// # Errors
    /// One that names the path and what the system answered.
    pub(crate) fn write(self, text: &str) -> anyhow::Result<()> {
        match self {
            Self::Stdout => Ok(print(text)?),
            Self::File { option, path, mut file, appends } => {
                let mut replace = || {
                    if is_file_of(&file, io::stderr()) {
                        return io::stderr().write_all(text.as_bytes());
                    }
                    if appends || !file.metadata()?.is_file() {
                        return file.write_all(text.as_bytes());
                    }
                    if replace_whole(&path, &file, text)? {
                        return Ok(());
                    }
                    file.set_len(0)?;
                    file.write_all(text.as_bytes())
                };
                replace().with_context(|| refused(option, &path))
            }
        }
    }

    /// Tells whether this is the standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }
}

/// For commands with two outputs.
#[cfg(feature = "bench")]
impl Output {
    /// Tells whether what is written here and to `other` ends up in one place.
    ///
    /// A device takes what two outputs write, as `/dev/null` does, unless one of them is the
    /// standard output.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let (Ok(one), Ok(two)) = (fstat(self.fd()), fstat(other.fd())) else { return false };
        let is_device = FileType::from_raw_mode(one.st_mode) == FileType::CharacterDevice;
        let any_is_stdout = self.is_stdout() || other.is_stdout();
        (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino) && (any_is_stdout || !is_device)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::File { file, .. } => file.as_fd(),
        }
    }
}

/// A descriptor of a process, named by a path such as `/dev/fd/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Descriptor {
    /// One of this process.
    Own(u32),
    /// One of another process.
    Foreign,
}

impl Descriptor {
    /// Follows the links of `path`, and stops at the first one that is a descriptor.
    fn at(path: &Path) -> Option<Self> {
        // As many links as the system follows.
        const MAX_LINKS: usize = 40;
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let folder = match path.parent() {
                Some(folder) if folder != Path::new("") => folder.canonicalize().ok()?,
                _ => Path::new(".").canonicalize().ok()?,
            };
            if folder.starts_with("/proc") && folder.ends_with("fd") {
                let number = path.file_name()?.to_str()?.parse().ok()?;
                let process = folder.components().nth(2);
                let own = std::process::id().to_string();
                return Some(match process == Some(Component::Normal(own.as_ref())) {
                    true => Self::Own(number),
                    false => Self::Foreign,
                });
            }
            path = folder.join(folder.join(path.file_name()?).read_link().ok()?);
        }
        None
    }
}

/// Tells whether `stream` writes to `file`, which is a regular file.
fn is_file_of(file: &File, stream: impl AsFd) -> bool {
    let (Ok(found), Ok(stream)) = (file.metadata(), fstat(stream)) else { return false };
    found.is_file() && (found.dev(), found.ino()) == (stream.st_dev, stream.st_ino)
}

/// Replaces a file by a new one with its group and permissions, so that a full disk leaves the old one
/// whole.
///
/// Returns `false` if that cannot be: the folder takes no new file, the old one belongs to another user
/// or to a group that this one may not give files to, has several names, or is no longer at its path.
fn replace_whole(path: &Path, old: &File, text: &str) -> io::Result<bool> {
    // What a symbolic link leads to is replaced, not the link.
    let Ok(path) = path.canonicalize() else { return Ok(false) };
    let place = |found: &Metadata| (found.dev(), found.ino(), found.uid());
    let old = old.metadata()?;
    if old.nlink() > 1 || !std::fs::metadata(&path).is_ok_and(|found| place(&found) == place(&old))
    {
        return Ok(false);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    // Nobody else may read the new file before it has the permissions of the old one.
    let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let Ok(mut file) = create else {
        return Ok(false);
    };
    if !owned_as(&file, &old) {
        return std::fs::remove_file(&new).map(|()| false);
    }
    let permissions = PermissionsExt::from_mode(old.mode() & 0o7777);
    let written = file
        .set_permissions(permissions)
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&new, &path));
    if written.is_err() {
        let _is_gone = std::fs::remove_file(&new);
    }
    written.map(|()| true)
}

/// Gives a file the group of `old`, and tells whether it has the same owner and group then.
fn owned_as(file: &File, old: &Metadata) -> bool {
    let Ok(new) = file.metadata() else { return false };
    let has_group =
        || new.gid() == old.gid() || std::os::unix::fs::fchown(file, None, Some(old.gid())).is_ok();
    new.uid() == old.uid() && has_group()
}

fn refused(option: &str, path: &Path) -> String {
    format!("cannot write {} for {option}", path.display())
}

/// The standard output could not be written to.
#[derive(Debug)]
pub(crate) struct StdoutError(io::Error);

impl fmt::Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot write to the standard output")
    }
}

impl Error for StdoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl From<io::Error> for StdoutError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

/// Returns a document as indented JSON.
///
/// # Errors
/// None known: all numbers and texts can be written.
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// Writes `text` to the standard output.
///
/// # Errors
/// What the system answers; a closed pipe among them.
pub(crate) fn print(text: &str) -> Result<(), StdoutError> {
    print_bytes(text.as_bytes())
}

/// Writes text of any encoding, such as the path of a file, to the standard output.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_bytes(text: &[u8]) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(StdoutError)
}

/// Writes an error and its causes on one line, each behind a colon.
///
/// A cause is left out where its text is a segment of the line already: many errors write their
/// cause themselves.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.lines().map(str::trim).filter(|part| !part.is_empty());
        let text = text.collect::<Vec<_>>().join(" ");
        if text.is_empty() || has_segment(&line, &text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    visible(&line)
}

/// Tells whether `text` is in the line from one separator to another, and not a part of a word or of
/// another message.
fn has_segment(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + text.len()..]);
        let begins = [": ", "; ", ", ", "("].iter().any(|separator| before.ends_with(separator));
        let ends = [": ", "; ", ", ", ")"].iter().any(|separator| after.starts_with(separator));
        (begins || before.is_empty()) && (ends || after.is_empty())
    })
}

/// Writes a line for people to the standard error, if anyone listens.
///
/// Replaces characters that control a terminal: the line may have a file's name that another user chose.
pub(crate) fn note(line: &str) {
    let _nobody_listens = writeln!(io::stderr(), "pagemill: {}", visible(line));
}

/// Tells whether the reader of the standard output has gone.
///
/// A pipe or socket to anything else that breaks is a failure like others.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let stdout = error.downcast_ref::<StdoutError>();
    stdout.is_some_and(|StdoutError(error)| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Reports an error with all its causes, on one line, or each of several mistakes of the user on its
/// own, and returns the exit code for it.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    // Whoever reads our output has seen enough, as `head` does after ten lines.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if let Some(usage) = error.downcast_ref::<UsageError>() {
        usage.lines().iter().for_each(|line| note(line));
        return ExitCode::from(USAGE);
    }
    note(&one_line(error));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn open(path: &Path) -> anyhow::Result<Output> {
        Ok(Output::open("--json", Some(path))?.expect("a path was named"))
    }

    #[test]
    fn a_file_keeps_its_content_until_it_is_written() {
        let path = std::env::temp_dir().join(format!("pagemill-output-{}", std::process::id()));
        std::fs::write(&path, "a longer text").unwrap();
        let output = open(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a longer text");
        output.write("short").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions_behind_a_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = std::env::temp_dir().join(format!("pagemill-whole-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let [path, link] = ["file", "link"].map(|name| folder.join(name));
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        let before = File::open(&path).unwrap();
        open(&link).unwrap().write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        // Who had opened the file still reads the old one: it was not cut.
        assert_eq!(io::read_to_string(before).unwrap(), "old");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_with_two_names_keeps_both() {
        let folder = std::env::temp_dir().join(format!("pagemill-names-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.join(name));
        std::fs::write(&one, "a longer text").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        open(&one).unwrap().write("new").unwrap();
        assert_eq!([&one, &two].map(|path| std::fs::read_to_string(path).unwrap()), ["new"; 2]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_path_through_a_descriptor_adds_to_its_file() {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::symlink;

        let folder = std::env::temp_dir().join(format!("pagemill-through-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let [path, link] = ["file", "link"].map(|name| folder.join(name));
        std::fs::write(&path, "old ").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        let number = file.as_raw_fd();
        symlink(format!("/dev/fd/{number}"), &link).unwrap();
        assert_eq!(Descriptor::at(&link), Some(Descriptor::Own(number.try_into().unwrap())));
        open(&link).unwrap().write("new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old new");
        assert!(link.is_symlink());
        assert_eq!(Descriptor::at(Path::new("/proc/thread-self/fd/2")), Some(Descriptor::Own(2)));
        for other in [&path, Path::new("/nowhere/at/all"), Path::new("/"), Path::new("fd/1")] {
            assert_eq!(Descriptor::at(other), None, "{}", other.display());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let error = open(Path::new("/nowhere/at/all.json")).unwrap_err();
        assert_eq!(
            one_line(&error),
            "cannot write /nowhere/at/all.json for --json: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_dash_is_the_standard_output_and_a_device_can_be_written() {
        assert!(open(Path::new("-")).unwrap().is_stdout());
        open(Path::new("/dev/null")).unwrap().write("text").unwrap();
        assert!(Output::open("--json", None).unwrap().is_none());
    }

    #[test]
    fn two_names_of_one_file_are_one_output() {
        let path = std::env::temp_dir().join(format!("pagemill-same-{}", std::process::id()));
        let [one, two] = [&path, &path].map(|path| open(path).unwrap());
        assert!(one.is_same_as(&two));
        let null = || open(Path::new("/dev/null")).unwrap();
        assert!(!null().is_same_as(&null()));
        assert!(!null().is_same_as(&one));
        let stdout = || open(Path::new("-")).unwrap();
        assert!(stdout().is_same_as(&stdout()));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn every_cause_is_written_once() {
        let system = || io::Error::from_raw_os_error(13);
        let told = anyhow::Error::new(system()).context("cannot read key").context("no server");
        assert_eq!(one_line(&told), "no server: cannot read key: Permission denied (os error 13)");
        let twice = anyhow::Error::new(system()).context(format!("{}; chmod it", system()));
        assert_eq!(one_line(&twice), "Permission denied (os error 13); chmod it");
        let quoted = anyhow!("no server").context("cannot start (no server), because: no server");
        assert_eq!(one_line(&quoted), "cannot start (no server), because: no server");
        // What only occurs in the line is a cause of its own.
        let short = anyhow!("timeout").context("cannot read /etc/timeouts");
        assert_eq!(one_line(&short), "cannot read /etc/timeouts: timeout");
        let part = anyhow!("denied").context("access denied by 10.0.0.1");
        assert_eq!(one_line(&part), "access denied by 10.0.0.1: denied");
        assert_eq!(one_line(&anyhow!("two\n  lines\n")), "two lines");
    }

    #[test]
    fn a_broken_pipe_is_a_success_only_for_the_standard_output() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let codes = [StdoutError(broken()).into(), anyhow::Error::new(broken())]
            .map(|error: anyhow::Error| format!("{:?}", exit_code(&error)));
        assert_eq!(codes, [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}")));
    }

    #[test]
    fn no_message_controls_the_terminal() {
        let error = anyhow!("cannot open /tmp/\x1b]0;title\x07\u{202e}").context("failed");
        let line = one_line(&error);
        assert_eq!(line, "failed: cannot open /tmp/\u{fffd}]0;title\u{fffd}\u{fffd}");
    }
}
