//! MOUNT and `NFSv3` calls of the client: encodes arguments, and checks replies.
//!
//! # Source
//! `rfc5531` sections 9 and 11: calls and records. `rfc1813` section 3 and appendix I.

use anyhow::{bail, ensure};
use pagemill_nfs::types::NfsStatus;

use super::xdr::{Reader, Writer};

/// The program and version numbers of NFS version 3.
pub const NFS: Program = Program(100_003, 3);
/// The program and version numbers of MOUNT for NFS version 3.
pub const MOUNT: Program = Program(100_005, 3);
/// The bit of a record mark that marks the last fragment.
pub const LAST_FRAGMENT: u32 = 1 << 31;
/// The bytes of a record mark.
pub const MARK_LEN: usize = 4;
/// The longest file handle of NFS version 3.
const HANDLE_MAX: usize = 64;
/// The longest verifier of an RPC message.
const AUTH_MAX: usize = 400;
/// The bytes of a file's attributes.
pub const ATTRIBUTES_LEN: usize = 84;

/// The number of a program and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program(pub u32, pub u32);

/// Procedures of NFS version 3, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    /// Does nothing.
    Null = 0,
    /// Returns the attributes of a file.
    Getattr = 1,
    /// Changes attributes of a file, such as its length.
    Setattr = 2,
    /// Looks up a name in a folder.
    Lookup = 3,
    /// Reads from a file.
    Read = 6,
    /// Writes to a file.
    Write = 7,
    /// Creates a file.
    Create = 8,
    /// Removes a name.
    Remove = 12,
    /// Makes unstable writes durable.
    Commit = 21,
}

/// The procedure of MOUNT that returns the handle of an export.
pub const MOUNT_MNT: u32 = 1;

/// A file handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle(Vec<u8>);

impl Handle {
    /// Reads a handle from a reply.
    ///
    /// # Errors
    /// If it is longer than any valid handle.
    pub fn read(reader: &mut Reader<'_>) -> anyhow::Result<Self> {
        Ok(Self(reader.opaque(HANDLE_MAX)?.to_vec()))
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The credential of the caller, encoded for a call header.
#[derive(Clone, Debug)]
pub struct Credential(Vec<u8>);

impl Credential {
    /// Makes an `AUTH_SYS` credential.
    pub fn unix(uid: u32, gid: u32) -> Self {
        let mut body = Vec::new();
        // An arbitrary stamp, the machine name, the user, and no supplementary groups.
        Writer(&mut body).word(0).opaque(b"pagemill").word(uid).word(gid).word(0);
        let mut bytes = Vec::new();
        Writer(&mut bytes).word(1).opaque(&body);
        // AUTH_NONE as the verifier.
        Writer(&mut bytes).word(0).word(0);
        Self(bytes)
    }
}

/// Appends a call to `out`: its record mark, its header, and the arguments that `arguments` writes.
///
/// The record is `more` bytes longer than what is appended: data that is sent separately.
pub fn call(
    out: &mut Vec<u8>,
    xid: u32,
    (Program(program, version), procedure): (Program, u32),
    credential: &Credential,
    more: usize,
    arguments: impl FnOnce(&mut Writer<'_>),
) {
    let start = out.len();
    let mut writer = Writer(out);
    writer.word(0).word(xid).word(0).word(2).word(program).word(version).word(procedure);
    writer.0.extend_from_slice(&credential.0);
    arguments(&mut writer);
    let len = u32::try_from(out.len() - start - MARK_LEN + more).expect("a call is short");
    out[start..start + MARK_LEN].copy_from_slice(&(LAST_FRAGMENT | len).to_be_bytes());
}

/// Reads the length of a record from its mark.
///
/// # Errors
/// If the record has several fragments, which no known server sends, or is longer than `max`.
pub fn record_len(mark: [u8; MARK_LEN], max: usize) -> anyhow::Result<usize> {
    let mark = u32::from_be_bytes(mark);
    ensure!(mark & LAST_FRAGMENT != 0, "the server sends a reply in several fragments");
    let len = usize::try_from(mark & !LAST_FRAGMENT)?;
    ensure!(
        len <= max,
        "the server sends a reply of {len} bytes, and the longest allowed is {max}"
    );
    Ok(len)
}

/// Reads the header of an accepted reply, and returns its transaction id.
///
/// # Errors
/// If the server has refused the call.
pub fn accepted(reader: &mut Reader<'_>) -> anyhow::Result<u32> {
    let (xid, kind, denied) = (reader.word()?, reader.word()?, reader.word()?);
    ensure!(kind == 1, "the server sends a message that is no reply (its type is {kind})");
    ensure!(denied == 0, "the server denies a call (reject_stat {})", reader.word()?);
    let _flavor = reader.word()?;
    reader.opaque(AUTH_MAX)?;
    match reader.word()? {
        0 => Ok(xid),
        status => bail!("the server does not carry a call out (accept_stat {status})"),
    }
}

/// Reads the status of an NFS or MOUNT reply.
///
/// # Errors
/// If it is not zero; the message has the number and, if NFS version 3 defines one, the name.
pub fn status(reader: &mut Reader<'_>) -> anyhow::Result<()> {
    match reader.word()? {
        0 => Ok(()),
        code => bail!(refusal(code)),
    }
}

/// Describes an error status.
pub fn refusal(code: u32) -> String {
    match NfsStatus::from_code(code) {
        Some(status) => format!("the server answers with the status {code} ({status})"),
        None => format!("the server answers with the status {code}"),
    }
}

/// Reads optional attributes.
///
/// # Errors
/// If the message ends early.
pub fn post_op_attributes(reader: &mut Reader<'_>) -> anyhow::Result<()> {
    optional(reader, ATTRIBUTES_LEN)
}

/// Reads the attributes before and after a call.
///
/// # Errors
/// If the message ends early.
pub fn wcc_data(reader: &mut Reader<'_>) -> anyhow::Result<()> {
    // Length, and two times.
    optional(reader, 24)?;
    post_op_attributes(reader)
}

fn optional(reader: &mut Reader<'_>, len: usize) -> anyhow::Result<()> {
    if reader.word()? != 0 {
        reader.skip(len)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_what_the_standard_says_byte_by_byte() {
        let mut out = vec![0xaa];
        let credential = Credential::unix(5, 6);
        call(&mut out, 9, (NFS, Procedure::Getattr as u32), &credential, 0, |writer| {
            writer.opaque(&[1, 2, 3]);
        });
        let words: Vec<u32> =
            out[1..].chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        let name = [0x7061_6765, 0x6d69_6c6c];
        assert_eq!(words[..7], [0x8000_004c, 9, 0, 2, 100_003, 3, 1]);
        assert_eq!(words[7..11], [1, 28, 0, 8]);
        assert_eq!(words[11..13], name);
        assert_eq!(words[13..18], [5, 6, 0, 0, 0]);
        assert_eq!(words[18..], [3, 0x0102_0300]);
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            accepted(&mut Reader(&bytes)).unwrap_err().to_string()
        };
        assert!(refused(&[1, 0, 0]).contains("no reply"));
        assert!(refused(&[1, 1, 1, 1]).contains("reject_stat 1"));
        assert!(refused(&[1, 1, 0, 0, 0, 2]).contains("accept_stat 2"));
        assert!(refused(&[1, 1, 0, 0, 401]).contains("at most 400"));
        assert!(status(&mut Reader(&[0, 0, 0, 70])).unwrap_err().to_string().contains("70"));
    }

    #[test]
    fn only_whole_records_of_a_known_size_are_taken() {
        assert_eq!(record_len([0x80, 0, 0, 8], 8).unwrap(), 8);
        assert!(record_len([0x80, 0, 0, 9], 8).is_err());
        assert!(record_len([0, 0, 0, 8], 8).is_err());
    }
}
