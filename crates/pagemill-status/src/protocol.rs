//! Protocol: one request and one reply per connection, each with a version that every version reads.
//!
//! The client sends `pagemill-status VERSION` and a request, a line each. The server replies with
//! `pagemill-status VERSION RESULT LENGTH` and as many bytes. The first line of both never changes, so
//! that each side can name the version of the other one.

use core::fmt::Write as _;

use crate::error::ReplyError;
use crate::snapshot::Snapshot;
use crate::text::visible;

/// The version of the protocol and of the [`Snapshot`]. It rises where a field is renamed, removed or
/// used for something else, not where one is added.
pub const VERSION: u32 = 1;

/// The most bytes of a snapshot as JSON.
pub const MAX_SNAPSHOT_BYTES: usize = 4 << 20;

/// The most bytes of a request: two short lines.
pub(crate) const MAX_REQUEST_BYTES: usize = 128;

/// The most bytes of the first line of a reply.
const MAX_HEAD_BYTES: usize = 64;

/// The most bytes of a reply.
pub(crate) const MAX_REPLY_BYTES: usize = MAX_HEAD_BYTES + MAX_SNAPSHOT_BYTES;

const MAGIC: &str = "pagemill-status";

/// What the bytes that a client has sent so far ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Nothing yet: the request is not complete.
    Incomplete,
    /// A snapshot.
    Snapshot,
    /// Something of another version of the protocol.
    Version(u32),
    /// Nothing that this version knows.
    Unknown,
}

impl Request {
    /// Reads a request from the bytes that have arrived so far.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let unfinished =
            if bytes.len() < MAX_REQUEST_BYTES { Self::Incomplete } else { Self::Unknown };
        let Some((head, rest)) = split_line(bytes) else { return unfinished };
        let version = words(head).and_then(|words| match words[..] {
            [MAGIC, version] => version.parse().ok(),
            _ => None,
        });
        match version {
            None => Self::Unknown,
            Some(VERSION) => match split_line(rest) {
                None => unfinished,
                Some((b"snapshot", b"")) => Self::Snapshot,
                Some(_) => Self::Unknown,
            },
            Some(other) => Self::Version(other),
        }
    }

    /// Returns the request for a snapshot.
    pub(crate) fn snapshot() -> String {
        format!("{MAGIC} {VERSION}\nsnapshot\n")
    }
}

/// What the first line of a reply announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A snapshot.
    Ok,
    /// A text that says why there is none.
    Error,
    /// Nothing: the server does not know the client's version.
    Version,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Ok, Self::Error, Self::Version];

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Version => "version",
        }
    }
}

fn reply(outcome: Outcome, body: &[u8]) -> Vec<u8> {
    let mut head = String::new();
    let word = outcome.word();
    let _never_fails = writeln!(head, "{MAGIC} {VERSION} {word} {}", body.len());
    [head.as_bytes(), body].concat()
}

/// Returns the reply with a snapshot, or with the reason why it is not sent.
pub(crate) fn snapshot_reply(snapshot: &Snapshot) -> Vec<u8> {
    match serde_json::to_vec(snapshot) {
        Ok(json) if json.len() <= MAX_SNAPSHOT_BYTES => reply(Outcome::Ok, &json),
        Ok(json) => error_reply(&format!(
            "the status has {} bytes, and {MAX_SNAPSHOT_BYTES} are allowed: register fewer tables or \
             rows",
            json.len()
        )),
        Err(error) => error_reply(&error.to_string()),
    }
}

/// Returns the reply to a request that is not carried out.
pub(crate) fn error_reply(why: &str) -> Vec<u8> {
    reply(Outcome::Error, why.as_bytes())
}

/// Returns the reply to a client of another version.
pub(crate) fn version_reply() -> Vec<u8> {
    reply(Outcome::Version, b"")
}

/// The first line of a reply, and what has arrived of its body.
struct Head<'a> {
    outcome: Outcome,
    len: usize,
    body: &'a [u8],
}

/// Reads the first line of a reply; `None` if it has not arrived whole.
fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, ReplyError> {
    let garbage = || ReplyError::Garbage { begins: printable(bytes, 32) };
    let (start, _) = bytes.split_at(bytes.len().min(MAX_HEAD_BYTES));
    let Some((line, _)) = split_line(start) else {
        return if start.len() < MAX_HEAD_BYTES { Ok(None) } else { Err(garbage()) };
    };
    let body = &bytes[line.len() + 1..];
    let words = words(line).ok_or_else(garbage)?;
    let (&[MAGIC, version], rest) = words.split_first_chunk::<2>().ok_or_else(garbage)? else {
        return Err(garbage());
    };
    let theirs = version.parse::<u32>().map_err(|_not_a_number| garbage())?;
    if theirs != VERSION {
        return Err(ReplyError::Version { ours: VERSION, theirs });
    }
    let [outcome, len] = rest else { return Err(garbage()) };
    let outcome = Outcome::ALL.into_iter().find(|it| it.word() == *outcome).ok_or_else(garbage)?;
    let len = len.parse::<usize>().map_err(|_not_a_number| garbage())?;
    if len > MAX_SNAPSHOT_BYTES {
        return Err(ReplyError::TooLong { max: MAX_SNAPSHOT_BYTES });
    }
    Ok(Some(Head { outcome, len, body }))
}

/// Returns whether a reply is complete.
pub(crate) fn is_complete(bytes: &[u8]) -> Result<bool, ReplyError> {
    Ok(head(bytes)?.is_some_and(|head| head.body.len() >= head.len))
}

/// Reads a reply, which may be anything.
///
/// Replaces the characters that [`visible`] names in all texts, so that no text can take over a terminal.
///
/// # Errors
/// What is wrong with it, or why the server sent no snapshot.
///
/// # Cost
/// Memory of up to 16 bytes for each byte of the reply: `0,` in a list is a number of 8 bytes, `"",` a
/// text of 24 bytes, and a list that grows reserves up to twice its length. Unknown fields take none.
pub fn parse_reply(bytes: &[u8]) -> Result<Snapshot, ReplyError> {
    let truncated = || ReplyError::Truncated { nr_bytes: bytes.len() };
    let Head { outcome, len, body } = head(bytes)?.ok_or_else(truncated)?;
    let body = body.get(..len).ok_or_else(truncated)?;
    match outcome {
        Outcome::Ok => {
            let mut snapshot: Snapshot = serde_json::from_slice(body).map_err(ReplyError::Json)?;
            clean(&mut snapshot);
            Ok(snapshot)
        }
        Outcome::Error => Err(ReplyError::Refused { why: printable(body, 400) }),
        // A server of this version that does not know it.
        Outcome::Version => Err(ReplyError::Garbage { begins: printable(bytes, 32) }),
    }
}

/// Returns the line at the beginning, without its end, and everything behind it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn words(line: &[u8]) -> Option<Vec<&str>> {
    Some(core::str::from_utf8(line).ok()?.split(' ').collect())
}

/// Returns at most `max` characters of bytes, without control characters.
fn printable(bytes: &[u8], max: usize) -> String {
    let bytes = &bytes[..bytes.len().min(4 * max)];
    visible(&String::from_utf8_lossy(bytes)).chars().take(max).collect()
}

/// Applies [`visible`] to every text of a snapshot.
fn clean(snapshot: &mut Snapshot) {
    snapshot.for_each_text(&mut |text| {
        let shown = visible(text);
        if shown != *text {
            *text = shown;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_at_whatever_point_it_is_cut() {
        let whole = Request::snapshot();
        for end in 0..whole.len() {
            assert_eq!(Request::parse(&whole.as_bytes()[..end]), Request::Incomplete, "{end}");
        }
        assert_eq!(Request::parse(whole.as_bytes()), Request::Snapshot);
        assert_eq!(Request::parse(&[whole.as_bytes(), b"x"].concat()), Request::Unknown);
        assert_eq!(Request::parse(b"pagemill-status 2\n"), Request::Version(2));
        for bytes in [&b"\n"[..], b"pagemill-status\n", b"pagemill-status 1 2\n", b"\xff\n"] {
            assert_eq!(Request::parse(bytes), Request::Unknown, "{bytes:?}");
        }
        assert_eq!(Request::parse(&[b'p'; MAX_REQUEST_BYTES]), Request::Unknown);
    }

    #[test]
    fn no_text_of_a_reply_can_take_over_a_terminal() {
        let mut snapshot = crate::Status::of("\u{1b}]0;x\u{7}", "\u{9b}1m").snapshot();
        snapshot.process.pid = 1;
        snapshot.sections.push(crate::Section::new("a\nb", "\u{202e}c").gauge(
            "\u{7f}",
            crate::Unit::Count,
            1,
        ));
        let shown = parse_reply(&snapshot_reply(&snapshot)).unwrap();
        assert_eq!(shown.process.program, "\u{fffd}]0;x\u{fffd}");
        assert_eq!(shown.process.version, "\u{fffd}1m");
        assert_eq!(shown.sections[0].name, "a\u{fffd}b");
        assert_eq!(shown.sections[0].title, "\u{fffd}c");
        assert_eq!(shown.sections[0].figures[0].name, "\u{fffd}");
    }

    #[test]
    fn fields_and_kinds_of_a_later_release_are_skipped() {
        let body = r#"{"process":{"program":"p","version":"9","pid":1,"uptime_us":2,"new":[]},
            "allocators":[],"pools":[],"new":{},"sections":[{"name":"n","title":"t","taken_us":1,"tables":[],
            "figures":[{"name":"f","kind":"new","unit":"new","value":3}]}]}"#;
        let snapshot = parse_reply(&reply(Outcome::Ok, body.as_bytes())).unwrap();
        let figure = &snapshot.sections[0].figures[0];
        assert_eq!((figure.kind, figure.unit), (crate::section::Kind::Gauge, crate::Unit::Count));
    }
}
