//! Credentials: `AUTH_NONE` and `AUTH_SYS`, parsed, checked and bounded.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use core::fmt;

use crate::wire::error::{AuthStat, XdrError};
use crate::wire::xdr::{Bytes, XdrReader};

/// Maximum number of bytes in the body of a credential or verifier.
///
/// # Source
/// `rfc5531` section 8.2
pub const MAX_AUTH_BYTES: usize = 400;
/// Maximum number of groups in an `AUTH_SYS` credential, besides the first.
///
/// # Source
/// `rfc5531` appendix A
pub const MAX_GIDS: usize = 16;
/// Maximum number of bytes in the name of the client's machine.
///
/// # Source
/// `rfc5531` appendix A
pub const MAX_MACHINENAME_BYTES: usize = 255;

/// The flavour of credentials without a user.
pub const AUTH_NONE: u32 = 0;
/// The flavour of credentials with a user and groups that the client asserts.
pub const AUTH_SYS: u32 = 1;

/// A credential or verifier that has not been checked.
#[derive(Clone, Copy, Debug)]
pub struct OpaqueAuth<'a> {
    /// The flavour.
    pub flavor: u32,
    /// The body, whose format depends on the flavour.
    pub body: Bytes<'a>,
}

impl<'a> OpaqueAuth<'a> {
    /// Reads a credential or verifier.
    ///
    /// # Errors
    /// [`XdrError::TooLong`] above [`MAX_AUTH_BYTES`], [`XdrError::Truncated`].
    pub fn read(reader: &mut XdrReader<'a>) -> Result<Self, XdrError> {
        Ok(Self { flavor: reader.u32()?, body: reader.opaque(MAX_AUTH_BYTES)? })
    }
}

/// A checked credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// An anonymous caller.
    None,
    /// A user of the client; the server trusts the client's statement.
    Sys(SysCredential),
}

impl Credential {
    /// Checks a call's credential and verifier.
    ///
    /// The body of `AUTH_NONE` should be empty, and is ignored. The verifier must be `AUTH_NONE` for
    /// both flavours.
    ///
    /// # Errors
    /// The status to refuse the call with. Refuses all other flavours, including the probe for TLS: no
    /// caller becomes anonymous by using an unknown flavour.
    pub fn check(cred: &OpaqueAuth<'_>, verf: &OpaqueAuth<'_>) -> Result<Self, AuthStat> {
        if cred.flavor != AUTH_NONE && cred.flavor != AUTH_SYS {
            return Err(AuthStat::RejectedCred);
        }
        if verf.flavor != AUTH_NONE || !verf.body.is_empty() {
            return Err(AuthStat::BadVerf);
        }
        if cred.flavor == AUTH_NONE {
            return Ok(Self::None);
        }
        SysCredential::read(cred.body.reader()).map(Self::Sys).map_err(|_| AuthStat::BadCred)
    }
}

/// A user and groups, as the client asserts them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SysCredential {
    /// The user.
    pub uid: u32,
    /// The user's first group.
    pub gid: u32,
    gids: [u32; MAX_GIDS],
    nr_gids: usize,
}

impl SysCredential {
    /// Makes a credential of a user and groups; drops groups above [`MAX_GIDS`].
    #[must_use]
    pub fn new(uid: u32, gid: u32, gids: &[u32]) -> Self {
        let mut own = [0; MAX_GIDS];
        let nr_gids = gids.len().min(MAX_GIDS);
        own.iter_mut().zip(gids).for_each(|(to, &from)| *to = from);
        Self { uid, gid, gids: own, nr_gids }
    }

    /// Returns the user's supplementary groups.
    #[must_use]
    pub fn gids(&self) -> &[u32] {
        self.gids.get(..self.nr_gids).unwrap_or_default()
    }

    fn read(mut body: XdrReader<'_>) -> Result<Self, XdrError> {
        let _stamp = body.u32()?;
        let _machinename = body.opaque(MAX_MACHINENAME_BYTES)?;
        let (uid, gid) = (body.u32()?, body.u32()?);
        let nr_gids = body.length(MAX_GIDS)?;
        let mut gids = [0; MAX_GIDS];
        for entry in gids.iter_mut().take(nr_gids) {
            *entry = body.u32()?;
        }
        // A credential with trailing bytes is not one of this flavour.
        if !body.is_empty() {
            return Err(XdrError::Truncated);
        }
        Ok(Self { uid, gid, gids, nr_gids })
    }
}

impl fmt::Debug for SysCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gids = self.gids();
        f.debug_struct("SysCredential")
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("gids", &gids)
            .finish()
    }
}
