//! Parser of export rules: files like exports(5), and command-line arguments.

use core::error::Error;
use core::fmt;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::client::ClientMatch;
use super::rule::{Access, ClientRule, Commit, ExportOptions, ExportRule, Ports, SquashWho};

/// Options during parsing.
///
/// Two separate options, in any order, decide whether root and whether all users are squashed.
#[derive(Clone, Copy)]
struct Draft {
    options: ExportOptions,
    root_squash: bool,
    all_squash: bool,
}

/// A rule that could not be parsed, and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ExportsError {
    /// The line, counted from one; `None` outside of a file.
    pub line: Option<usize>,
    /// The directory of the rule, as far as it could be parsed.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ExportsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Error for ExportsError {}

/// Parses the text of a file like exports(5); options start from `defaults`.
///
/// A line is a path and clients with their options in parentheses: `/srv 10.0.0.0/8(rw) *(ro)`. `#`
/// begins a comment, and `\` at the end of a line continues it. A path with blanks is quoted, or has
/// `\040` for each blank. `-rw,insecure` before the clients sets their default options. Clients are
/// sorted in the order in which exports(5) checks them: hosts and single addresses, networks, `*`;
/// clients of one kind stay in the order of the line.
///
/// # Errors
/// The first line that could not be parsed. A path may occur only once.
pub fn parse_exports(text: &str, defaults: ExportOptions) -> Result<Vec<ExportRule>, ExportsError> {
    let (rules, mut errors) = parse_good_exports(text, defaults);
    if errors.is_empty() {
        return Ok(rules.into_iter().map(|(_, rule)| rule).collect());
    }
    Err(errors.swap_remove(0))
}

/// Parses such a text as far as possible: returns the rules with their lines, and an error for each of
/// the other lines.
#[must_use]
pub fn parse_good_exports(
    text: &str,
    defaults: ExportOptions,
) -> (Vec<(usize, ExportRule)>, Vec<ExportsError>) {
    let (mut rules, mut errors) = (Vec::<(usize, ExportRule)>::new(), Vec::new());
    let mut lines = text.lines().zip(1..);
    while let Some((first, line)) = lines.next() {
        let mut joined = first.to_owned();
        while joined.ends_with('\\') {
            joined.pop();
            joined.push_str(lines.next().map_or("", |(next, _)| next));
        }
        let at_line = |what| ExportsError { line: Some(line), path: path_of(&joined), what };
        match parse_line(&joined, defaults) {
            Ok(None) => {}
            Ok(Some(rule)) if rules.iter().any(|(_, other)| other.path == rule.path) => {
                let path = rule.path.display();
                let what = format!("{path} is exported twice: put all clients on one line");
                errors.push(at_line(what));
            }
            Ok(Some(rule)) => rules.push((line, rule)),
            Err(what) => errors.push(at_line(what)),
        }
    }
    (rules, errors)
}

/// Parses `DIR[:OPTION[,OPTION]...]` from a command line.
///
/// The directory is taken as written, relative or not. The text after a colon counts as options if it
/// begins with one. `client=ADDRESS`, any number of times, names the clients that are served; without
/// it, all clients are. Options start from `defaults`.
///
/// # Errors
/// What is wrong with the argument.
pub fn parse_export_arg(text: &OsStr, defaults: ExportOptions) -> Result<ExportRule, ExportsError> {
    let outside = |what| ExportsError { line: None, path: None, what };
    let bytes = text.as_bytes();
    let colons = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b':');
    let split = colons.map(|(at, _)| (&bytes[..at], &bytes[at + 1..])).find_map(|(path, rest)| {
        let options = core::str::from_utf8(rest).ok()?;
        let first = options.split(',').next()?;
        let is_option = first.starts_with("client=") || Draft::new(defaults).set(first).is_ok();
        is_option.then_some((path, options))
    });
    let (path, options_text) = split.unwrap_or((bytes, ""));
    let mut draft = Draft::new(defaults);
    let mut clients = Vec::new();
    for option in options_text.split(',').filter(|option| !option.is_empty()) {
        match option.strip_prefix("client=") {
            Some(client) => clients.push(ClientMatch::parse(client).map_err(outside)?),
            None => draft.set(option).map_err(outside)?,
        }
    }
    if path.is_empty() {
        return Err(outside("an export needs a directory: write --export DIR:rw".to_owned()));
    }
    if clients.is_empty() {
        clients.push(ClientMatch::Any);
    }
    let options = draft.finish();
    let clients = clients.into_iter().map(|client| ClientRule { client, options }).collect();
    Ok(ExportRule { path: PathBuf::from(OsString::from_vec(path.to_vec())), clients })
}

/// Returns the path at the beginning of a line, also if the rest of the line is invalid.
fn path_of(line: &str) -> Option<PathBuf> {
    let first = match words(line) {
        Ok(words) => words.into_iter().next()?,
        Err(_unreadable) => line.split_whitespace().next()?.into(),
    };
    Some(PathBuf::from(OsString::from_vec(first)))
}

fn parse_line(line: &str, defaults: ExportOptions) -> Result<Option<ExportRule>, String> {
    let mut words = words(line)?.into_iter();
    let Some(path) = words.next() else { return Ok(None) };
    let path = PathBuf::from(OsString::from_vec(path));
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path: begin it with /", path.display()));
    }
    let mut defaults = Draft::new(defaults);
    let mut clients: Vec<ClientRule> = Vec::new();
    for word in words {
        let word = String::from_utf8(word).map_err(|_not_utf8| "a client is not UTF-8")?;
        if let Some(options) = word.strip_prefix('-') {
            defaults.set_all(options)?;
            continue;
        }
        let (client, options_text) = match word.split_once('(') {
            None => (word.as_str(), ""),
            Some((client, options)) => {
                let closed = options.strip_suffix(')');
                (client, closed.ok_or_else(|| format!("{word} does not end with )"))?)
            }
        };
        if client.is_empty()
            && let Some(before) = clients.last()
        {
            // exports(5) applies them to all clients, which is rarely intended.
            return Err(format!(
                "{word} follows a space, so it has no client: write {}{word} without the space, or \
                 *{word} for all clients",
                before.client
            ));
        }
        let mut draft = defaults;
        draft.set_all(options_text)?;
        // exports(5): options without a client apply to all clients.
        let client = ClientMatch::parse(if client.is_empty() { "*" } else { client })?;
        clients.push(ClientRule { client, options: draft.finish() });
    }
    clients.sort_by_key(|rule| rule.client.precedence());
    if clients.is_empty() {
        return Err(format!("{} has no client: write * for all clients", path.display()));
    }
    Ok(Some(ExportRule { path, clients }))
}

/// Splits a line at blanks outside of quotes, up to a comment.
fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b'#' if !quoted && word.is_none() => break,
            b' ' | b'\t' if !quoted => words.extend(word.take()),
            b'\\' => {
                let digits: Vec<u8> = bytes.by_ref().take(3).collect();
                let value = core::str::from_utf8(&digits)
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 8).ok())
                    .ok_or("a backslash needs three octal digits after it, as in \\040")?;
                word.get_or_insert_default().push(value);
            }
            byte => word.get_or_insert_default().push(byte),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

impl Draft {
    fn new(options: ExportOptions) -> Self {
        let who = options.squash.who;
        Self { options, root_squash: who != SquashWho::Nobody, all_squash: who == SquashWho::All }
    }

    fn set_all(&mut self, text: &str) -> Result<(), String> {
        let mut options = text.split(',').filter(|option| !option.is_empty());
        options.try_for_each(|option| self.set(option))
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let number = |text: &str| {
            let number = text.parse::<u32>().ok().filter(|&number| number != u32::MAX);
            number.ok_or_else(|| format!("{option} needs a number from 0 to 4294967294"))
        };
        let options = &mut self.options;
        match option {
            "ro" => options.access = Access::ReadOnly,
            "rw" => options.access = Access::ReadWrite,
            "root_squash" => self.root_squash = true,
            "no_root_squash" => self.root_squash = false,
            "all_squash" => self.all_squash = true,
            "no_all_squash" => self.all_squash = false,
            "secure" => options.ports = Ports::Privileged,
            "insecure" => options.ports = Ports::Any,
            "sync" => options.commit = Commit::Before,
            "async" => options.commit = Commit::Later,
            // This server always does what they ask for, or they concern another protocol version.
            "no_subtree_check" | "wdelay" | "no_wdelay" | "hide" | "nocrossmnt" | "auth_nlm"
            | "insecure_locks" | "no_acl" | "sec=sys" => {}
            _ => match option.split_once('=') {
                Some(("anonuid", uid)) => options.squash.anon_uid = number(uid)?,
                Some(("anongid", gid)) => options.squash.anon_gid = number(gid)?,
                // This server derives the file system's number from the file system; files for the
                // kernel's server have this option where that is impossible.
                Some(("fsid", _)) => {}
                _ => {
                    return Err(format!(
                        "{option} is not a supported option: use rw, ro, root_squash, \
                         no_root_squash, all_squash, anonuid=, anongid=, secure, insecure, sync or \
                         async"
                    ));
                }
            },
        }
        Ok(())
    }

    fn finish(self) -> ExportOptions {
        let mut options = self.options;
        options.squash.who = match (self.all_squash, self.root_squash) {
            (true, _) => SquashWho::All,
            (false, true) => SquashWho::Root,
            (false, false) => SquashWho::Nobody,
        };
        options
    }
}
