//! Builder of UDP datagrams in Ethernet packets, for tests and traffic generators.

/// The addresses and ports of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct Datagram {
    /// Hardware addresses of sender and receiver.
    pub hardware: [[u8; 6]; 2],
    /// IP addresses of sender and receiver.
    pub addresses: [[u8; 4]; 2],
    /// Ports of sender and receiver.
    pub ports: [u16; 2],
}

/// Bytes of all headers together.
pub const DATAGRAM_HEADERS_LEN: usize = 14 + 20 + 8;

impl Datagram {
    /// Returns a datagram between addresses that are reserved for examples.
    #[must_use]
    pub const fn example() -> Self {
        Self {
            hardware: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            addresses: [[192, 0, 2, 1], [192, 0, 2, 2]],
            ports: [9, 9],
        }
    }

    /// Returns the packet that carries `payload`.
    ///
    /// # Panics
    /// If the payload has more bytes than UDP over IP can carry, 65507.
    #[must_use]
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let udp_len = u16::try_from(payload.len() + 8).expect("a datagram has 65507 bytes at most");
        let ip_len = udp_len.checked_add(20).expect("a datagram has 65507 bytes at most");
        let [from, to] = self.hardware;
        let mut bytes = Vec::with_capacity(DATAGRAM_HEADERS_LEN + payload.len());
        bytes.extend(to);
        bytes.extend(from);
        bytes.extend([0x08, 0x00]);
        let mut ip = vec![0x45, 0];
        ip.extend(ip_len.to_be_bytes());
        // No identification, do not fragment, 64 hops, UDP.
        ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        self.addresses.iter().for_each(|address| ip.extend(address));
        let checksum = checksum(&ip);
        ip.splice(10..12, checksum.to_be_bytes());
        bytes.extend(ip);
        self.ports.iter().for_each(|port| bytes.extend(port.to_be_bytes()));
        bytes.extend(udp_len.to_be_bytes());
        // No checksum, which UDP over IPv4 allows.
        bytes.extend([0, 0]);
        bytes.extend(payload);
        bytes
    }
}

/// Returns the ones' complement of the ones' complement sum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => u32::from(u16::from_be_bytes([high, low])),
            [high] => u32::from(high) << 8,
            _ => 0,
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("folded twice, it has 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::headers::{Network, Transport, parse};

    #[test]
    fn what_is_written_can_be_read() {
        for len in [0, 1, 22, 1458, 65507] {
            let payload = vec![7; len];
            let bytes = Datagram { ports: [1, 65535], ..Datagram::example() }.packet(&payload);
            let headers = parse(&bytes, bytes.len()).unwrap();
            assert_eq!(headers.network, Network::Ipv4);
            assert_eq!(headers.transport, Transport::Udp { source: 1, destination: 65535 });
            assert_eq!((headers.payload_start, headers.payload_len), (42, len));
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
        // Over a header that holds it, it is zero.
        assert_eq!(checksum(&Datagram::example().packet(b"x")[14..34]), 0);
    }
}
