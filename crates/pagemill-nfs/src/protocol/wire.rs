//! The types of `NFSv3` as XDR.
//!
//! # Source
//! `rfc1813` sections 2.4 to 2.6

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use pagemill_rpc::{XdrError, XdrReader, XdrWrite};

use crate::protocol::attr::{Fattr, NfsTime, Sattr, SetTime, Wcc, WccAttr};
use crate::protocol::fh::{Fh, MAX_FH_BYTES};
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};

/// The most bytes of a name that are looked at; longer ones make a call that cannot be read.
const MAX_NAME_ARG_BYTES: usize = 1024;
/// The most bytes that a symbolic link can hold, and a path to mount.
pub(crate) const MAX_PATH_BYTES: usize = 4095;

/// `NFS3_OK` and `MNT3_OK`.
pub(crate) const OK: u32 = 0;

/// What a client presents as a handle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawFh {
    bytes: [u8; MAX_FH_BYTES],
    len: usize,
}

impl RawFh {
    /// Reads up to 64 bytes; none at all are no handle either, which is for the caller to find.
    pub(crate) fn read(args: &mut XdrReader<'_>) -> Result<Self, XdrError> {
        let mut bytes = [0; MAX_FH_BYTES];
        let len = args.opaque_into(&mut bytes)?.len();
        Ok(Self { bytes, len })
    }

    /// Returns the bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Reads the name of an entry. One that no entry can have is told apart from a call that ends
/// before it, for which there is no answer of NFS.
pub(crate) fn read_name(args: &mut XdrReader<'_>) -> Result<NfsResult<Name>, XdrError> {
    let mut room = [0; MAX_NAME_ARG_BYTES];
    Ok(Name::new(args.opaque_into(&mut room)?))
}

/// Reads a directory's handle and a name in it: `diropargs3`.
pub(crate) fn read_dirop(args: &mut XdrReader<'_>) -> Result<(RawFh, NfsResult<Name>), XdrError> {
    Ok((RawFh::read(args)?, read_name(args)?))
}

/// Reads the contents of a symbolic link; `Err` inside for what no link can hold.
pub(crate) fn read_path(args: &mut XdrReader<'_>) -> Result<NfsResult<Vec<u8>>, XdrError> {
    let bytes = args.opaque(args.remaining())?;
    if bytes.len() > MAX_PATH_BYTES {
        return Ok(Err(NfsStatus::Nametoolong));
    }
    let path: Vec<u8> = bytes.slices().flatten().copied().collect();
    let bad = path.is_empty() || path.contains(&0);
    Ok(if bad { Err(NfsStatus::Inval) } else { Ok(path) })
}

/// Reads a time.
pub(crate) fn read_time(args: &mut XdrReader<'_>) -> Result<NfsTime, XdrError> {
    Ok(NfsTime { secs: args.u32()?, nsecs: args.u32()? })
}

/// Reads what is to be set.
///
/// Nanoseconds from a second on are carried on as they are; setting them fails then.
pub(crate) fn read_sattr(args: &mut XdrReader<'_>) -> Result<Sattr, XdrError> {
    let word = |args: &mut XdrReader<'_>| -> Result<Option<u32>, XdrError> {
        if args.bool()? { Ok(Some(args.u32()?)) } else { Ok(None) }
    };
    let (mode, uid, gid) = (word(args)?, word(args)?, word(args)?);
    let size = if args.bool()? { Some(args.u64()?) } else { None };
    let (atime, mtime) = (read_set_time(args)?, read_set_time(args)?);
    Ok(Sattr { mode, uid, gid, size, atime, mtime })
}

fn read_set_time(args: &mut XdrReader<'_>) -> Result<SetTime, XdrError> {
    match args.u32()? {
        0 => Ok(SetTime::Keep),
        1 => Ok(SetTime::Now),
        2 => Ok(SetTime::To(read_time(args)?)),
        value => Err(XdrError::BadEnum { name: "time_how", value, allowed: "0, 1 or 2" }),
    }
}

/// Appends a time.
fn put_time(reply: &mut impl XdrWrite, time: NfsTime) -> Result<(), XdrError> {
    reply.u32(time.secs)?;
    reply.u32(time.nsecs)
}

/// Appends a handle.
pub(crate) fn put_fh(reply: &mut impl XdrWrite, fh: &Fh) -> Result<(), XdrError> {
    reply.opaque(fh.as_bytes())
}

/// Appends a handle that may be missing: `post_op_fh3`.
pub(crate) fn put_post_op_fh(reply: &mut impl XdrWrite, fh: Option<&Fh>) -> Result<(), XdrError> {
    reply.bool(fh.is_some())?;
    fh.map_or(Ok(()), |fh| put_fh(reply, fh))
}

/// Bytes of attributes.
const FATTR_BYTES: usize = 84;

/// Appends attributes: `fattr3`.
pub(crate) fn put_fattr(reply: &mut impl XdrWrite, attr: &Fattr) -> Result<(), XdrError> {
    // In one piece: it stands in nearly every reply.
    let mut bytes = [0; FATTR_BYTES];
    let mut room = pagemill_rpc::SliceWriter::new(&mut bytes);
    for word in [kind_code(attr), attr.mode, attr.nlink, attr.uid, attr.gid] {
        room.u32(word)?;
    }
    room.u64(attr.size)?;
    room.u64(attr.used)?;
    room.u32(attr.rdev.0)?;
    room.u32(attr.rdev.1)?;
    room.u64(attr.fsid)?;
    room.u64(attr.fileid)?;
    for time in [attr.atime, attr.mtime, attr.ctime] {
        put_time(&mut room, time)?;
    }
    reply.put(&bytes)
}

#[expect(clippy::as_conversions, reason = "the enum's numbers are the protocol's")]
fn kind_code(attr: &Fattr) -> u32 {
    attr.kind as u32
}

/// Appends attributes that may be missing: `post_op_attr`.
pub(crate) fn put_post_op_attr(
    reply: &mut impl XdrWrite,
    attr: Option<&Fattr>,
) -> Result<(), XdrError> {
    reply.bool(attr.is_some())?;
    attr.map_or(Ok(()), |attr| put_fattr(reply, attr))
}

/// Appends what a file was like before and after: `wcc_data`.
pub(crate) fn put_wcc(reply: &mut impl XdrWrite, wcc: &Wcc) -> Result<(), XdrError> {
    reply.bool(wcc.before.is_some())?;
    if let Some(WccAttr { size, mtime, ctime }) = wcc.before {
        reply.u64(size)?;
        put_time(reply, mtime)?;
        put_time(reply, ctime)?;
    }
    put_post_op_attr(reply, wcc.after.as_ref())
}

#[cfg(test)]
mod tests;
