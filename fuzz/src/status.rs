//! Bytes for the socket of `pagemill-status`; also run by a plain test of that crate, which includes this
//! file.

use serde_json::Value;

use pagemill_status::wire::{MAX_SNAPSHOT_BYTES, Request, VERSION, parse_reply};

/// Reads a request as a server does, which may be cut anywhere: what is complete does not change with
/// what follows, and a request has few bytes.
pub fn status_request(data: &[u8]) {
    let whole = Request::parse(data);
    for end in 0..data.len().min(200) {
        match Request::parse(&data[..end]) {
            Request::Incomplete => assert!(end < 128, "it must end"),
            // Bytes behind a request belong to none.
            Request::Snapshot => assert_eq!(whole, Request::Unknown),
            Request::Version(version) => {
                assert_eq!(whole, Request::Version(version));
                assert_ne!(version, VERSION);
            }
            Request::Unknown => assert_eq!(whole, Request::Unknown),
            _ => unreachable!("no other request"),
        }
    }
}

/// Reads a reply as a client does: whatever it is, no text in it has control characters, and it can be
/// written and read again.
pub fn status_reply(data: &[u8]) {
    let snapshot = match parse_reply(data) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let mut cause: Option<&dyn core::error::Error> = Some(&error);
            while let Some(error) = cause {
                assert_printable(&error.to_string());
                cause = error.source();
            }
            return;
        }
    };
    assert_texts(&serde_json::to_value(&snapshot).expect("numbers and texts can be written"));
    let json = serde_json::to_string(&snapshot).expect("numbers and texts can be written");
    if json.len() <= MAX_SNAPSHOT_BYTES {
        let reply = format!("pagemill-status {VERSION} ok {}\n{json}", json.len());
        assert_eq!(parse_reply(reply.as_bytes()).expect("it is a reply"), snapshot);
    }
}

fn assert_printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn assert_texts(value: &Value) {
    match value {
        Value::String(text) => assert_printable(text),
        Value::Array(values) => values.iter().for_each(assert_texts),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            assert_printable(name);
            assert_texts(value);
        }),
        _ => {}
    }
}

/// The same, of a body that has the right head.
pub fn status_body(data: &[u8]) {
    let head = format!("pagemill-status {VERSION} ok {}\n", data.len());
    status_reply(&[head.as_bytes(), data].concat());
}
