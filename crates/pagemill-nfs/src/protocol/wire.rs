//! XDR encoding and decoding of `NFSv3` types, such as attributes and file handles.
//!
//! # Source
//! `rfc1813` sections 2.4 to 2.6

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use pagemill_rpc::xdr::{XdrError, XdrReader, XdrWrite};

use crate::protocol::attr::{Fattr, NfsTime, Sattr, SetTime, Wcc, WccAttr};
use crate::protocol::fh::{Fh, MAX_FH_BYTES};
use crate::protocol::name::Name;
use crate::protocol::status::{NfsResult, NfsStatus};

/// Maximum number of bytes of a name that are parsed; a longer one makes the call unreadable.
const MAX_NAME_ARG_BYTES: usize = 1024;
/// Maximum number of bytes in the target of a symbolic link.
pub(crate) const MAX_PATH_BYTES: usize = 4095;

/// `NFS3_OK` and `MNT3_OK`.
pub(crate) const OK: u32 = 0;

/// A handle from a client, unchecked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawFh {
    bytes: [u8; MAX_FH_BYTES],
    len: usize,
}

impl RawFh {
    /// Reads up to 64 bytes. Accepts an empty handle, which the caller must refuse.
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

/// Reads the name of an entry. An invalid name is distinguished from a call that ends before it, for
/// which there is no NFS status.
pub(crate) fn read_name(args: &mut XdrReader<'_>) -> Result<NfsResult<Name>, XdrError> {
    let mut room = [0; MAX_NAME_ARG_BYTES];
    Ok(Name::new(args.opaque_into(&mut room)?))
}

/// Reads a directory's handle and a name in it: `diropargs3`.
pub(crate) fn read_dirop(args: &mut XdrReader<'_>) -> Result<(RawFh, NfsResult<Name>), XdrError> {
    Ok((RawFh::read(args)?, read_name(args)?))
}

/// Reads the target of a symbolic link; an inner `Err` for an invalid target.
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

/// Reads attributes to set.
///
/// Passes nanoseconds of 10^9 or more on; setting them fails then.
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

/// Appends an optional handle: `post_op_fh3`.
pub(crate) fn put_post_op_fh(reply: &mut impl XdrWrite, fh: Option<&Fh>) -> Result<(), XdrError> {
    reply.bool(fh.is_some())?;
    fh.map_or(Ok(()), |fh| put_fh(reply, fh))
}

/// Encoded size of attributes in bytes.
const FATTR_BYTES: usize = 84;

/// Appends attributes: `fattr3`.
pub(crate) fn put_fattr(reply: &mut impl XdrWrite, attr: &Fattr) -> Result<(), XdrError> {
    // In one piece, since nearly every reply has attributes.
    let mut bytes = [0; FATTR_BYTES];
    let mut room = pagemill_rpc::xdr::SliceWriter::new(&mut bytes);
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

/// Appends optional attributes: `post_op_attr`.
pub(crate) fn put_post_op_attr(
    reply: &mut impl XdrWrite,
    attr: Option<&Fattr>,
) -> Result<(), XdrError> {
    reply.bool(attr.is_some())?;
    attr.map_or(Ok(()), |attr| put_fattr(reply, attr))
}

/// Appends attributes before and after a change: `wcc_data`.
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
