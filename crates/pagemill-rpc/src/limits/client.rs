//! Clients: the units that share the server's threads, memory and connections, on two levels.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Clients that share one part of the server's limits.
///
/// Strangers are ordered last: they are served when no other client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ClientKey {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// One IPv6 network of 64 bits: a host can use any address of its network.
    V6(u64),
    /// All addresses that no program knows, together.
    Strangers,
}

/// An address, and the client that it belongs to.
///
/// Limits are shared among clients, and a client's share among its addresses: an IPv6 network may
/// contain many hosts, and one of them must not keep the others waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) key: ClientKey,
    /// In its canonical form: an IPv4 address is never mapped to IPv6.
    pub(crate) addr: IpAddr,
}

impl Client {
    /// Stands for the server's own sockets, which wait for threads like a client. No client has this
    /// address.
    pub(crate) const SERVER: Self =
        Self { key: ClientKey::V4(Ipv4Addr::UNSPECIFIED), addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };

    /// Returns the client at `addr`.
    pub(crate) fn of(addr: IpAddr, is_known: bool) -> Self {
        Self { key: ClientKey::of(addr, is_known), addr: addr.to_canonical() }
    }

    pub(crate) fn is_stranger(self) -> bool {
        self.key.is_stranger()
    }
}

impl ClientKey {
    /// Returns the key of the clients at `addr`.
    pub(crate) fn of(addr: IpAddr, is_known: bool) -> Self {
        match addr.to_canonical() {
            _ if !is_known => Self::Strangers,
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => Self::V6(prefix(addr)),
        }
    }

    pub(crate) fn is_stranger(self) -> bool {
        self == Self::Strangers
    }
}

fn prefix(addr: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = addr.segments().map(u64::from);
    a << 48 | b << 32 | c << 16 | d
}

/// Clients by number, for tests that compare with a naive model.
#[cfg(test)]
#[cfg(not(loom))]
pub(crate) mod numbered {
    use super::*;

    /// Strangers, two IPv4 addresses, and two IPv6 networks with three addresses and one.
    pub(crate) const NUMBERS: [u64; 7] = [0, 1, 2, 10, 11, 12, 20];

    /// Returns the client with a number.
    pub(crate) fn client(number: u64) -> Client {
        let (network, host) = (number / 10, number % 10);
        match network {
            0 => Client::of(Ipv4Addr::from_bits(u32::try_from(host).unwrap()).into(), host != 0),
            _ => {
                let bits = u128::from(network) << 64 | u128::from(host);
                Client::of(Ipv6Addr::from_bits(bits).into(), true)
            }
        }
    }

    /// Returns the first number of the client that a number belongs to.
    pub(crate) fn client_of(number: u64) -> u64 {
        if number < 10 { number } else { number / 10 * 10 }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn key(addr: &str) -> ClientKey {
        ClientKey::of(addr.parse().unwrap(), true)
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_a_mapped_address_is_ipv4() {
        assert_eq!(key("fd00::1"), key("fd00::ffff:2:3:4"));
        assert_ne!(key("fd00::1"), key("fd00:0:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }

    #[test]
    fn strangers_are_one_client_and_come_last() {
        let stranger = |addr: &str| ClientKey::of(addr.parse().unwrap(), false);
        assert_eq!(stranger("10.0.0.1"), stranger("fd00::1"));
        assert!(stranger("0.0.0.0") > key("ffff::"));
    }
}
