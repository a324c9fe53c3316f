//! Header parser: Ethernet, VLAN, IP, UDP and TCP headers of a packet, with their lengths checked.
//!
//! No length in a packet is trusted, and nothing is read beyond its end. Checksums are not verified:
//! the receiver does that.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use core::fmt;

/// The parsed headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headers {
    /// Number of VLAN tags.
    pub nr_vlan_tags: u8,
    /// The network layer.
    pub network: Network,
    /// The transport layer of IP.
    pub transport: Transport,
    /// Offset of the payload of the innermost known layer.
    pub payload_start: usize,
    /// Length of the payload in bytes; the bytes after it are padding.
    pub payload_len: usize,
}

/// The network layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// IP version 4.
    Ipv4,
    /// IP version 6.
    Ipv6,
    /// Another protocol, by its type in the Ethernet header, or by its length if that is below 1536.
    Other(u16),
}

/// The transport layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// UDP, with its ports.
    Udp {
        /// The sender's port.
        source: u16,
        /// The receiver's port.
        destination: u16,
    },
    /// TCP, with its ports.
    Tcp {
        /// The sender's port.
        source: u16,
        /// The receiver's port.
        destination: u16,
    },
    /// Another protocol of IP, by its number, or a fragment that is not the first.
    Other(u8),
    /// The packet is not IP.
    None,
}

/// Why a packet is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the counters below have a place for each")]
pub enum Malformed {
    /// The packet ends within a header.
    Short,
    /// A length in a header is less than that header, or more than the packet has.
    Length,
    /// It has more VLAN tags than [`NR_VLAN_TAGS_MAX`].
    VlanStack,
    /// The Ethernet type and the first byte of the packet name different versions of IP.
    Version,
}

impl Malformed {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Short, Self::Length, Self::VlanStack, Self::Version];
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "short",
            Self::Length => "length",
            Self::VlanStack => "vlan_stack",
            Self::Version => "version",
        })
    }
}

/// Number of malformed packets of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MalformedCounters {
    short: u64,
    length: u64,
    vlan_stack: u64,
    version: u64,
}

impl MalformedCounters {
    /// Counts one packet.
    pub const fn count(&mut self, reason: Malformed) {
        let place = match reason {
            Malformed::Short => &mut self.short,
            Malformed::Length => &mut self.length,
            Malformed::VlanStack => &mut self.vlan_stack,
            Malformed::Version => &mut self.version,
        };
        *place = place.saturating_add(1);
    }

    /// Returns the count for `reason`.
    #[must_use]
    pub const fn of(&self, reason: Malformed) -> u64 {
        match reason {
            Malformed::Short => self.short,
            Malformed::Length => self.length,
            Malformed::VlanStack => self.vlan_stack,
            Malformed::Version => self.version,
        }
    }

    /// Returns the total count.
    #[must_use]
    pub fn total(&self) -> u64 {
        Malformed::ALL.iter().map(|&reason| self.of(reason)).sum()
    }
}

/// Maximum number of VLAN tags: two are in use (802.1ad); one more is tolerated.
pub const NR_VLAN_TAGS_MAX: u8 = 3;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Types of VLAN tags: 802.1Q, 802.1ad, and the one used before that standard.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Parses a packet of `total_len` bytes, of which `bytes` are the first.
///
/// `bytes` is shorter if the packet takes several frames; all headers must be in the first frame.
///
/// # Errors
/// The first error in the headers.
#[inline]
pub fn parse(bytes: &[u8], total_len: usize) -> Result<Headers, Malformed> {
    let mut reader = Reader { bytes, position: 0, end: total_len };
    reader.skip(12)?;
    let mut ethertype = reader.number()?;
    let mut nr_vlan_tags: u8 = 0;
    while ETHERTYPES_VLAN.contains(&ethertype) {
        if nr_vlan_tags == NR_VLAN_TAGS_MAX {
            return Err(Malformed::VlanStack);
        }
        nr_vlan_tags = nr_vlan_tags.saturating_add(1);
        reader.skip(2)?;
        ethertype = reader.number()?;
    }
    let (network, transport) = match ethertype {
        ETHERTYPE_IPV4 => (Network::Ipv4, reader.ipv4()?),
        ETHERTYPE_IPV6 => (Network::Ipv6, reader.ipv6()?),
        other => {
            // Values below 1536 are the length of the data (802.3).
            if other < 1536 {
                reader.limit(usize::from(other))?;
            }
            (Network::Other(other), Transport::None)
        }
    };
    Ok(Headers {
        nr_vlan_tags,
        network,
        transport,
        payload_start: reader.position,
        payload_len: reader.left(),
    })
}

/// A position in the packet, and the end of the current layer.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    end: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        self.end.saturating_sub(self.position)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        if self.left() < N {
            return Err(Malformed::Short);
        }
        let rest = self.bytes.get(self.position..).ok_or(Malformed::Short)?;
        let taken = rest.first_chunk().ok_or(Malformed::Short)?;
        self.position = self.position.saturating_add(N);
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn skip(&mut self, nr: usize) -> Result<(), Malformed> {
        let position = self.position.saturating_add(nr);
        if position > self.end || position > self.bytes.len() {
            return Err(Malformed::Short);
        }
        self.position = position;
        Ok(())
    }

    /// Makes the layer end after `nr` more bytes.
    fn limit(&mut self, nr: usize) -> Result<(), Malformed> {
        if nr > self.left() {
            return Err(Malformed::Length);
        }
        self.end = self.position.saturating_add(nr);
        Ok(())
    }

    fn ipv4(&mut self) -> Result<Transport, Malformed> {
        /// Length of the header without options.
        const FIXED: usize = 20;
        /// Mask of the fragment's offset in its field.
        const OFFSET: u16 = 0x1fff;

        let [version_and_words, _, a, b] = self.take()?;
        if version_and_words >> 4 != 4 {
            return Err(Malformed::Version);
        }
        let header_len = usize::from(version_and_words & 0xf).saturating_mul(4);
        let total_len = usize::from(u16::from_be_bytes([a, b]));
        if header_len < FIXED || total_len < header_len {
            return Err(Malformed::Length);
        }
        self.limit(total_len.saturating_sub(4))?;
        self.skip(2)?;
        let fragment = self.number()?;
        let [_, protocol] = self.take()?;
        // Checksum, addresses and options.
        self.skip(header_len.saturating_sub(10))?;
        if fragment & OFFSET != 0 {
            return Ok(Transport::Other(protocol));
        }
        // In the first fragment, the datagram's length is not the packet's.
        const MORE: u16 = 0x2000;
        self.transport(protocol, fragment & MORE != 0)
    }

    fn ipv6(&mut self) -> Result<Transport, Malformed> {
        let [version, ..]: [u8; 4] = self.take()?;
        if version >> 4 != 6 {
            return Err(Malformed::Version);
        }
        let payload_len = self.number()?;
        let [next_header, _] = self.take()?;
        self.skip(32)?;
        self.limit(usize::from(payload_len))?;
        // Extension headers are not parsed.
        self.transport(next_header, false)
    }

    fn transport(&mut self, protocol: u8, is_fragment: bool) -> Result<Transport, Malformed> {
        match protocol {
            PROTOCOL_UDP => {
                let (source, destination) = (self.number()?, self.number()?);
                let len = usize::from(self.number()?);
                self.skip(2)?;
                if !is_fragment {
                    self.limit(len.checked_sub(8).ok_or(Malformed::Length)?)?;
                }
                Ok(Transport::Udp { source, destination })
            }
            PROTOCOL_TCP => {
                let (source, destination) = (self.number()?, self.number()?);
                self.skip(8)?;
                let [words, _] = self.take()?;
                let options = usize::from(words >> 4).saturating_mul(4).checked_sub(20);
                let options = options.ok_or(Malformed::Length)?;
                self.skip(6)?;
                if options > self.left() {
                    return Err(Malformed::Length);
                }
                self.skip(options)?;
                Ok(Transport::Tcp { source, destination })
            }
            other => Ok(Transport::Other(other)),
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "tests know their numbers"
)]
mod tests;
