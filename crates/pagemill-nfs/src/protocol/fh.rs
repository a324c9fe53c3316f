//! File handles: the names under which clients know files, for as long as the files exist.
//!
//! A handle says which export it was given out for, which file system that was on, and what the file
//! is called in there, by inode and generation, so it survives renames and restarts of the server. A keyed checksum
//! covers all of it: whoever does not have the key cannot make one, nor change one.

use core::fmt;
use core::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip::SipHasher24;

use crate::protocol::status::{NfsResult, NfsStatus};

/// The most bytes in a handle of `NFSv3`.
pub const MAX_FH_BYTES: usize = 64;
/// The most bytes of a file's name in its file system that fit into a handle.
pub const MAX_OBJECT_BYTES: usize = MAX_FH_BYTES - HEAD_BYTES - MAC_BYTES;

const HEAD_BYTES: usize = 12;
const MAC_BYTES: usize = 8;
/// The two together.
const FIXED_BYTES: u8 = 20;
const _: () = assert!(HEAD_BYTES + MAC_BYTES == FIXED_BYTES as usize);
/// The first byte of every handle; another layout will have another number.
const LAYOUT: u8 = 2;

/// The number of an export, which its path decides: the same after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportId(pub(crate) u32);

impl ExportId {
    /// Returns the number for the export of the directory at `path`.
    ///
    /// # Panics
    /// Never: half of 64 bits are 32.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        let mut hasher = SipHasher24::new();
        hasher.write(path);
        // Half of the hash is as good as any number; two that meet are refused when exports load.
        Self((hasher.finish() >> 32).try_into().expect("32 bits"))
    }
}

/// A number that tells a file system from others that are mounted at the same path later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub(crate) u32);

impl Stamp {
    /// Takes half of a hash of what identifies the file system.
    ///
    /// # Panics
    /// Never: half of 64 bits are 32.
    pub(crate) fn of_hash(hash: u64) -> Self {
        Self((hash >> 32).try_into().expect("32 bits"))
    }
}

/// What a handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct FhParts {
    /// The export that it was given out for.
    pub export: ExportId,
    /// The file system that the export was on.
    pub stamp: Stamp,
    /// The file.
    pub object: ObjectId,
}

/// The secret that checksums are made with.
#[derive(Clone)]
pub struct FhKey(SipHasher24);

impl FhKey {
    /// Takes 128 bits that nobody else knows.
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
    /// Keeps the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FhKey")
    }
}

/// What a file is called in its file system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ObjectId {
    /// How the bytes are to be read: 0 for a name of the kernel's making.
    pub(crate) how: u8,
    /// The kernel's number for the kind of its name.
    pub(crate) kind: u8,
    len: u8,
    bytes: [u8; MAX_OBJECT_BYTES],
}

impl ObjectId {
    /// Puts an id together; `None` if it would not fit into a handle.
    pub(crate) fn new(how: u8, kind: u8, bytes: &[u8]) -> Option<Self> {
        let mut kept = [0; MAX_OBJECT_BYTES];
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { how, kind, len: u8::try_from(bytes.len()).ok()?, bytes: kept })
    }

    /// Returns the name's bytes.
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

/// A handle of this server's making.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fh {
    len: u8,
    bytes: [u8; MAX_FH_BYTES],
}

impl Fh {
    /// Makes the handle of a file for those who reach it through an export.
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

    /// Checks what a client presents as a handle, and takes it apart.
    ///
    /// # Errors
    /// [`Badhandle`](NfsStatus::Badhandle) for everything that was not made with `key`.
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
        // As one word: how long it takes does not tell how many of the bytes were right, from which
        // a checksum could be found byte by byte.
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

    /// Returns which export and which file system it says, before anybody has checked it.
    pub(crate) fn alleged(bytes: &[u8]) -> Option<(ExportId, Stamp)> {
        let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        Some((ExportId(word(4)?), Stamp(word(8)?)))
    }

    /// Returns the bytes that go over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hash for Fh {
    /// Takes the checksum, which is as good as any hash.
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

/// A hasher for keys that hash to one number which is spread already.
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
