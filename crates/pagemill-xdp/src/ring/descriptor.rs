//! Descriptors: checks the address and length that the other side of a ring reports for a packet.

use pagemill::units::PAGE_SIZE;

/// An unchecked entry of the rings for packets.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/if_xdp.h` `struct xdp_desc`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct RawDescriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) options: u32,
}

/// The checked location of a packet: inside one frame of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The index of the frame.
    pub(crate) chunk: usize,
    /// Its first byte within the frame.
    pub(crate) start: u16,
    /// The number of its bytes.
    pub(crate) len: u16,
    /// Whether the packet continues in the frame of the next descriptor.
    pub(crate) continued: bool,
}

/// Another descriptor of the same packet follows.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/if_xdp.h` `XDP_PKT_CONTD`
pub(crate) const CONTINUED: u32 = 1;

impl RawDescriptor {
    /// Describes bytes `start` to `start + len` of the frame with index `chunk`.
    #[inline]
    pub(crate) fn new(chunk: usize, start: u16, len: u16, continued: bool) -> Self {
        Self {
            address: (chunk * PAGE_SIZE) as u64 + u64::from(start),
            len: len.into(),
            options: if continued { CONTINUED } else { 0 },
        }
    }

    /// Returns the location of the packet, if it is inside one of `nr_chunks` frames.
    #[inline]
    pub(crate) fn check(self, nr_chunks: usize) -> Option<Placement> {
        let (chunk, start) = split(self.address, nr_chunks)?;
        let len = u16::try_from(self.len).ok()?;
        if usize::from(start) + usize::from(len) > PAGE_SIZE {
            return None;
        }
        Some(Placement { chunk, start, len, continued: self.options & CONTINUED != 0 })
    }
}

/// Returns the index of the frame that contains `address`, and the offset in it, if there is such a
/// frame.
///
/// A returned address may point to the start of the packet within the frame: it is rounded down.
#[inline]
pub(crate) fn split(address: u64, nr_chunks: usize) -> Option<(usize, u16)> {
    let address = usize::try_from(address).ok()?;
    let chunk = address / PAGE_SIZE;
    let start = u16::try_from(address % PAGE_SIZE).ok()?;
    (chunk < nr_chunks).then_some((chunk, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(address: u64, len: u32, options: u32) -> RawDescriptor {
        RawDescriptor { address, len, options }
    }

    #[test]
    fn what_lies_inside_one_frame_is_believed() {
        let last = raw(2 * 4096 + 256, 3840, 0).check(3).unwrap();
        assert_eq!(last, Placement { chunk: 2, start: 256, len: 3840, continued: false });
        assert!(raw(0, 4096, CONTINUED).check(1).unwrap().continued);
        assert_eq!(raw(4095, 1, 0).check(1).map(|placement| placement.start), Some(4095));
        assert_eq!(raw(4095, 0, 0).check(1).map(|placement| placement.len), Some(0));
    }

    #[test]
    fn what_leaves_its_frame_or_the_region_is_not() {
        for (address, len) in [
            (3 * 4096, 0),
            (u64::MAX, 1),
            (1 << 48, 64),
            (2 * 4096, 4097),
            (4095, 2),
            (256, 3841),
            (0, u32::MAX),
            (0, 65536),
            (4000, 65535),
        ] {
            assert_eq!(raw(address, len, 0).check(3), None, "{address} {len}");
        }
        assert_eq!(raw(0, 0, 0).check(0), None);
    }

    #[test]
    fn a_descriptor_reads_as_it_was_written() {
        for (chunk, start, len, continued) in [(0, 0, 0, false), (7, 256, 60, true)] {
            let placement = RawDescriptor::new(chunk, start, len, continued).check(8).unwrap();
            assert_eq!(placement, Placement { chunk, start, len, continued });
        }
    }
}
