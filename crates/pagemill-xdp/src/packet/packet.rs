//! `Packet`: owns the frames of its bytes, with headroom and tailroom.

use core::fmt;
use core::ops::{Deref, DerefMut};

use pagemill::units::PAGE_SIZE;

use crate::packet::frame::Frame;

/// A packet and the frame that holds it; dropping it returns the frame to its source.
///
/// It can be kept indefinitely, sent to another thread, changed in place, and sent out by any device of
/// the same arena, which takes it over. It derefs to the bytes of the packet; if the packet takes
/// several frames, to those in the first.
///
/// ```text
///   0        start            start+len       4096
///   |headroom | the packet's bytes | tailroom |
/// ```
pub struct Packet<F> {
    frame: F,
    start: u16,
    len: u16,
    /// Further frames of the packet; nearly always none, so it takes one word.
    #[expect(clippy::box_collection, reason = "a vector would make every packet two words longer")]
    rest: Option<Box<Vec<Fragment<F>>>>,
}

/// A further frame of a packet.
struct Fragment<F> {
    frame: F,
    start: u16,
    len: u16,
}

/// Headroom of a packet that is built rather than received: as much as the kernel leaves before packets
/// that it receives.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/bpf.h` `XDP_PACKET_HEADROOM`
pub const DEFAULT_HEADROOM: u16 = 256;

/// Returns the largest MTU whose packets fit into one frame with the kernel's headroom and `headroom`.
pub(crate) fn mtu_max(headroom: u16) -> u32 {
    /// An Ethernet header and two VLAN tags, which an MTU does not count.
    const UNCOUNTED: u32 = 14 + 8;

    let room = PAGE_BYTES.saturating_sub(DEFAULT_HEADROOM).saturating_sub(headroom);
    u32::from(room).saturating_sub(UNCOUNTED)
}

/// Bytes in a frame.
pub(crate) const PAGE_BYTES: u16 = 4096;
const _: () = assert!(PAGE_BYTES as usize == PAGE_SIZE);

/// A packet cannot grow by that many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two numbers, and all there is to say")]
pub struct NoRoom {
    /// The requested number of bytes.
    pub wanted: usize,
    /// The available number of bytes.
    pub available: usize,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, available } = self;
        write!(f, "a packet cannot grow by {wanted} bytes: its frame has {available} left there")
    }
}

impl core::error::Error for NoRoom {}

impl<F: Frame> Packet<F> {
    /// Makes an empty packet in `frame`, with [`DEFAULT_HEADROOM`] before it.
    pub fn new(frame: F) -> Self {
        Self { frame, start: DEFAULT_HEADROOM, len: 0, rest: None }
    }

    /// Makes a packet of bytes that are already in `frame`.
    ///
    /// # Errors
    /// Returns `frame` if `start + len` is beyond its end.
    pub fn from_frame(frame: F, start: u16, len: u16) -> Result<Self, F> {
        if usize::from(start) + usize::from(len) > PAGE_SIZE {
            return Err(frame);
        }
        Ok(Self { frame, start, len, rest: None })
    }

    /// Returns how many bytes can be added before the packet.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start.into()
    }

    /// Returns how many bytes can be added after the packet, in the first of its frames.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        PAGE_SIZE - usize::from(self.start) - usize::from(self.len)
    }

    /// Extends the packet by `nr` bytes at its start, and returns these bytes, which have arbitrary
    /// contents.
    ///
    /// # Errors
    /// [`NoRoom`] beyond the [`headroom`](Self::headroom).
    pub fn grow_front(&mut self, nr: usize) -> Result<&mut [u8], NoRoom> {
        let by = Self::room(nr, self.headroom())?;
        self.start -= by;
        self.len += by;
        self.get_mut(..nr).ok_or(NoRoom { wanted: nr, available: 0 })
    }

    /// Extends the packet by `nr` bytes at its end, and returns these bytes, which have arbitrary
    /// contents.
    ///
    /// # Errors
    /// [`NoRoom`] beyond the [`tailroom`](Self::tailroom).
    pub fn grow_back(&mut self, nr: usize) -> Result<&mut [u8], NoRoom> {
        let by = Self::room(nr, self.tailroom())?;
        let old_len = usize::from(self.len);
        self.len += by;
        self.get_mut(old_len..).ok_or(NoRoom { wanted: nr, available: 0 })
    }

    /// Removes `nr` bytes at the start of the packet, or all bytes if its first frame has fewer.
    pub fn trim_front(&mut self, nr: usize) {
        let by = u16::try_from(nr).map_or(self.len, |nr| nr.min(self.len));
        self.start += by;
        self.len -= by;
    }

    /// Cuts the first frame's part of the packet to `nr` bytes, if it has more.
    pub fn truncate(&mut self, nr: usize) {
        self.len = u16::try_from(nr).map_or(self.len, |nr| nr.min(self.len));
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`NoRoom`] beyond the [`tailroom`](Self::tailroom).
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        self.grow_back(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends the frames of another packet, which may still be of different arenas.
    ///
    /// To be sent, all frames must be of one arena, and the device must accept packets of several frames.
    pub fn append(&mut self, other: Self) {
        let Self { frame, start, len, rest } = other;
        let list = self.rest.get_or_insert_default();
        list.push(Fragment { frame, start, len });
        if let Some(more) = rest {
            list.extend(*more);
        }
    }

    /// Returns the number of frames that the packet takes.
    #[inline]
    #[must_use]
    pub fn nr_frames(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Returns the number of bytes in all frames.
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    /// Returns the bytes, frame by frame.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        core::iter::once(self.as_ref())
            .chain(rest.map(|part| slice(part.frame.bytes(), part.start, part.len)))
    }

    /// Splits the packet into its frames.
    pub fn into_frames(self) -> impl Iterator<Item = F> {
        let rest = self.rest.map(|rest| *rest).unwrap_or_default();
        core::iter::once(self.frame).chain(rest.into_iter().map(|part| part.frame))
    }

    /// Splits the packet into frames, with the position of its bytes in each of them.
    pub(crate) fn into_parts(self) -> (Part<F>, impl Iterator<Item = Part<F>>) {
        let rest = self.rest.map(|rest| *rest).unwrap_or_default();
        let rest = rest.into_iter().map(|Fragment { frame, start, len }| (frame, start, len));
        ((self.frame, self.start, self.len), rest)
    }

    fn room(wanted: usize, available: usize) -> Result<u16, NoRoom> {
        match u16::try_from(wanted) {
            Ok(nr) if wanted <= available => Ok(nr),
            _ => Err(NoRoom { wanted, available }),
        }
    }
}

/// A frame, and the start and length of the bytes in it.
pub(crate) type Part<F> = (F, u16, u16);

impl<F: Frame> AsRef<[u8]> for Packet<F> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        slice(self.frame.bytes(), self.start, self.len)
    }
}

impl<F: Frame> Deref for Packet<F> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl<F: Frame> DerefMut for Packet<F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, len) = (usize::from(self.start), usize::from(self.len));
        self.frame.bytes_mut().get_mut(start..start + len).unwrap_or_default()
    }
}

impl<F: Frame> fmt::Debug for Packet<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, nr_frames) = (self.total_len(), self.nr_frames());
        write!(f, "Packet({len} bytes in {nr_frames} frames)")
    }
}

/// Every packet's bytes are inside its frame, so the empty slice is never returned.
#[inline]
fn slice(bytes: &[u8; PAGE_SIZE], start: u16, len: u16) -> &[u8] {
    let start = usize::from(start);
    bytes.get(start..start + usize::from(len)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use pagemill::{AllocPages, Gfp, PageAllocator};
    use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

    use super::*;

    fn frames() -> PageAllocator<Host> {
        allocator(&AllocatorConfig::new(ArenaConfig::new(4 << 20))).unwrap()
    }

    #[test]
    fn a_packet_grows_and_shrinks_within_its_frame() {
        let frames = frames();
        let mut packet = Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
        packet.extend(b"payload").unwrap();
        packet.grow_front(4).unwrap().copy_from_slice(b"head");
        assert_eq!(&*packet, b"headpayload");
        assert_eq!((packet.headroom(), packet.tailroom()), (252, 4096 - 252 - 11));
        packet.trim_front(6);
        packet.truncate(3);
        assert_eq!(&*packet, b"ylo");
        packet[0] = b'x';
        assert_eq!(&*packet, b"xlo");
        packet.truncate(100);
        packet.trim_front(100);
        assert!(packet.is_empty());
    }

    #[test]
    fn a_packet_cannot_leave_its_frame() {
        let frames = frames();
        let mut packet = Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
        assert_eq!(packet.grow_front(257).unwrap_err(), NoRoom { wanted: 257, available: 256 });
        assert_eq!(packet.grow_back(3841).unwrap_err(), NoRoom { wanted: 3841, available: 3840 });
        assert!(packet.grow_back(1 << 20).is_err());
        assert_eq!(packet.grow_front(256).map(|bytes| bytes.len()), Ok(256));
        assert_eq!(packet.grow_back(3840).map(|bytes| bytes.len()), Ok(3840));
        assert_eq!((packet.len(), packet.headroom(), packet.tailroom()), (4096, 0, 0));
        let frame = packet.into_frames().next().unwrap();
        let frame = Packet::from_frame(frame, 4095, 2).unwrap_err();
        assert_eq!(Packet::from_frame(frame, 4095, 1).unwrap().len(), 1);
    }

    #[test]
    fn a_packet_of_several_frames_has_them_in_order_and_frees_them_all() {
        let frames = frames();
        let nr_free = frames.nr_free_pages();
        let part = |text: &str| {
            let mut packet = Packet::new(frames.alloc_page(Gfp::KERNEL).unwrap());
            packet.extend(text.as_bytes()).unwrap();
            packet
        };
        let (mut packet, mut tail) = (part("one"), part("two"));
        tail.append(part("three"));
        packet.append(tail);
        assert_eq!((packet.nr_frames(), packet.total_len()), (3, 11));
        assert_eq!(packet.pieces().collect::<Vec<_>>(), [&b"one"[..], b"two", b"three"]);
        assert_eq!(&*packet, b"one");
        drop(packet);
        assert_eq!(frames.nr_free_pages(), nr_free);
    }

    #[test]
    fn a_packet_is_four_words_at_most() {
        assert!(size_of::<Packet<pagemill::Page<&PageAllocator<Host>>>>() <= 32);
    }
}
