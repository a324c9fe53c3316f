//! File handles: opaque names of files that survive renames and restarts, sealed with a keyed checksum.
//!
//! A handle contains the export that it was issued for, the file system of that export, and the file's
//! identity there, by inode and generation. So it survives renames and restarts of the server. A keyed
//! checksum covers all of it: without the key, no client can make or change one.

use core::fmt;
use core::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip::SipHasher24;

use crate::protocol::status::{NfsResult, NfsStatus};

/// Maximum number of bytes in an `NFSv3` handle.
pub const MAX_FH_BYTES: usize = 64;
/// Maximum number of bytes of a file's identity in its file system that fit into a handle.
pub const MAX_OBJECT_BYTES: usize = MAX_FH_BYTES - HEAD_BYTES - MAC_BYTES;

const HEAD_BYTES: usize = 12;
const MAC_BYTES: usize = 8;
/// `HEAD_BYTES` and `MAC_BYTES` together.
const FIXED_BYTES: u8 = 20;
const _: () = assert!(HEAD_BYTES + MAC_BYTES == FIXED_BYTES as usize);
/// The first byte of every handle; another layout will have another number.
const LAYOUT: u8 = 2;

/// The number of an export, computed from its path: the same after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportId(pub(crate) u32);

impl ExportId {
    /// Returns the number of the export of the directory at `path`.
    ///
    /// # Panics
    /// Never: half of 64 bits are 32.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        let mut hasher = SipHasher24::new();
        hasher.write(path);
        // Half of the hash is as good as any number; exports with equal numbers are refused when they
        // load.
        Self((hasher.finish() >> 32).try_into().expect("32 bits"))
    }
}

/// A number that distinguishes a file system from others that are mounted at the same path later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub(crate) u32);

impl Stamp {
    /// Takes half of a hash of the data that identifies the file system.
    ///
    /// # Panics
    /// Never: half of 64 bits are 32.
    pub(crate) fn of_hash(hash: u64) -> Self {
        Self((hash >> 32).try_into().expect("32 bits"))
    }
}

/// The contents of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct FhParts {
    /// The export that it was issued for.
    pub export: ExportId,
    /// The file system of the export at that time.
    pub stamp: Stamp,
    /// The file.
    pub object: ObjectId,
}

/// The secret key of the checksums.
#[derive(Clone)]
pub struct FhKey(SipHasher24);

impl FhKey {
    /// Makes a key from 128 secret bits.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(&secret))
    }

    fn mac(&self, covered: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = self.0;
        hasher.write(covered);
        hasher.finish().to_be_bytes()
    }
}

impl fmt::Debug for FhKey {
    /// Does not print the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FhKey")
    }
}

/// The identity of a file in its file system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ObjectId {
    /// The format of the bytes: 0 for a kernel handle.
    pub(crate) how: u8,
    /// The kernel's number for the type of its handle.
    pub(crate) kind: u8,
    len: u8,
    bytes: [u8; MAX_OBJECT_BYTES],
}

impl ObjectId {
    /// Makes an id; `None` if it would not fit into a handle.
    pub(crate) fn new(how: u8, kind: u8, bytes: &[u8]) -> Option<Self> {
        let mut kept = [0; MAX_OBJECT_BYTES];
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { how, kind, len: u8::try_from(bytes.len()).ok()?, bytes: kept })
    }

    /// Returns the bytes of the identity.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hash for ObjectId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({}, {}, {:02x?})", self.how, self.kind, self.as_bytes())
    }
}

/// A handle that this server made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fh {
    len: u8,
    bytes: [u8; MAX_FH_BYTES],
}

impl Fh {
    /// Makes the handle of a file for an export.
    #[must_use]
    pub fn new(key: &FhKey, parts: &FhParts) -> Self {
        let FhParts { export, stamp, object } = parts;
        let mut bytes = [0; MAX_FH_BYTES];
        let covered = HEAD_BYTES + usize::from(object.len);
        bytes[..4].copy_from_slice(&[LAYOUT, object.how, object.kind, object.len]);
        bytes[4..8].copy_from_slice(&export.0.to_be_bytes());
        bytes[8..HEAD_BYTES].copy_from_slice(&stamp.0.to_be_bytes());
        bytes[HEAD_BYTES..covered].copy_from_slice(object.as_bytes());
        let mac = key.mac(&bytes[..covered]);
        bytes[covered..covered + MAC_BYTES].copy_from_slice(&mac);
        Self { len: object.len + FIXED_BYTES, bytes }
    }

    /// Checks and parses a handle from a client.
    ///
    /// # Errors
    /// [`Badhandle`](NfsStatus::Badhandle) for any handle that was not made with `key`.
    pub fn parse(key: &FhKey, allegation: &[u8]) -> NfsResult<(Self, FhParts)> {
        Self::read(key, allegation).ok_or(NfsStatus::Badhandle)
    }

    fn read(key: &FhKey, allegation: &[u8]) -> Option<(Self, FhParts)> {
        let (covered, mac) = allegation.split_last_chunk::<MAC_BYTES>()?;
        let (&[layout, how, kind, len], rest) = covered.split_first_chunk::<4>()?;
        let (export, rest) = rest.split_first_chunk::<4>()?;
        let (stamp, object) = rest.split_first_chunk::<4>()?;
        if layout != LAYOUT || usize::from(len) != object.len() {
            return None;
        }
        let object = ObjectId::new(how, kind, object)?;
        // Compared as one word, so that the time does not depend on how many bytes are correct.
        // Otherwise a checksum could be found byte by byte.
        if u64::from_ne_bytes(key.mac(covered)) != u64::from_ne_bytes(*mac) {
            return None;
        }
        let mut bytes = [0; MAX_FH_BYTES];
        bytes.get_mut(..allegation.len())?.copy_from_slice(allegation);
        let fh = Self { len: u8::try_from(allegation.len()).ok()?, bytes };
        let export = ExportId(u32::from_be_bytes(*export));
        let stamp = Stamp(u32::from_be_bytes(*stamp));
        Some((fh, FhParts { export, stamp, object }))
    }

    /// Returns the export and the file system in an unchecked handle.
    pub(crate) fn alleged(bytes: &[u8]) -> Option<(ExportId, Stamp)> {
        let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        Some((ExportId(word(4)?), Stamp(word(8)?)))
    }

    /// Returns the bytes on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hash for Fh {
    /// Uses the checksum, which is as good as any hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mac = self.as_bytes().last_chunk().expect("every handle ends with a checksum");
        state.write_u64(u64::from_ne_bytes(*mac));
    }
}

impl fmt::Debug for Fh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fh(")?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A hasher for keys whose hash is one number that is uniformly distributed already.
#[derive(Debug, Default)]
pub(crate) struct SpreadAlready(u64);

/// Builds [`SpreadAlready`].
pub(crate) type BuildSpreadAlready = BuildHasherDefault<SpreadAlready>;

impl Hasher for SpreadAlready {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(5) ^ word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FhKey {
        FhKey::new(*b"sixteen bytes ok")
    }

    fn object(len: usize) -> ObjectId {
        ObjectId::new(0, 1, &[0x5a; MAX_OBJECT_BYTES + 1][..len]).unwrap()
    }

    fn parts(len: usize) -> FhParts {
        FhParts { export: ExportId(7), stamp: Stamp(8), object: object(len) }
    }

    #[test]
    fn handles_of_every_length_are_read_back() {
        for len in 0..=MAX_OBJECT_BYTES {
            let fh = Fh::new(&key(), &parts(len));
            assert_eq!(fh.as_bytes().len(), 20 + len);
            assert_eq!(Fh::parse(&key(), fh.as_bytes()), Ok((fh, parts(len))));
            assert_eq!(Fh::alleged(fh.as_bytes()), Some((ExportId(7), Stamp(8))));
        }
        assert_eq!(ObjectId::new(0, 1, &[0; MAX_OBJECT_BYTES + 1]), None);
    }

    #[test]
    fn no_bit_can_be_flipped_and_no_byte_added_or_dropped() {
        let fh = Fh::new(&key(), &parts(12));
        for bit in 0..fh.as_bytes().len() * 8 {
            let mut forged = fh.as_bytes().to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Fh::parse(&key(), &forged), Err(NfsStatus::Badhandle), "bit {bit}");
        }
        for len in 0..fh.as_bytes().len() {
            assert_eq!(Fh::parse(&key(), &fh.as_bytes()[..len]), Err(NfsStatus::Badhandle));
        }
        for more in 1..=64 {
            let longer = [fh.as_bytes(), &vec![0; more]].concat();
            assert_eq!(Fh::parse(&key(), &longer), Err(NfsStatus::Badhandle));
        }
    }

    #[test]
    fn handles_of_another_key_are_refused() {
        let fh = Fh::new(&FhKey::new([1; 16]), &parts(8));
        assert_eq!(Fh::parse(&key(), fh.as_bytes()), Err(NfsStatus::Badhandle));
    }

    #[test]
    fn an_export_has_the_same_number_for_ever() {
        // Handles that clients hold depend on it.
        assert_eq!(ExportId::of_path(b"/srv"), ExportId::of_path(b"/srv"));
        assert_ne!(ExportId::of_path(b"/srv"), ExportId::of_path(b"/srv2"));
        assert_eq!(ExportId::of_path(b"/srv"), ExportId(EXPORT_OF_SRV));
    }

    /// SipHash-2-4 of `/srv` under the zero key, its upper half.
    const EXPORT_OF_SRV: u32 = 1_878_839_232;
}
