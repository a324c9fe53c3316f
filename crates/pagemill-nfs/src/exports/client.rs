//! Client matches: which client addresses an export rule applies to.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use std::net::ToSocketAddrs;

/// A set of clients, by address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientMatch {
    /// All clients.
    Any,
    /// The clients of a network; a single address is a network of one.
    Network {
        /// The address, with zeroes after the prefix.
        base: IpAddr,
        /// Length of the prefix in bits.
        prefix: u8,
    },
    /// A host by its name, with its addresses at the time of the look-up; none before.
    Host {
        /// The name as written.
        name: String,
        /// Its addresses.
        addrs: Vec<IpAddr>,
    },
}

impl ClientMatch {
    /// Parses `*`, an address, a network (`10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `fd00::/8`), or the name
    /// of a host, which is not looked up.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.starts_with('@') {
            return Err(format!("netgroups such as {text} are not supported: name networks"));
        }
        if text.contains(['*', '?', '[']) && text.parse::<IpAddr>().is_err() {
            return Err(format!("patterns such as {text} are not supported: name networks"));
        }
        if let Some((base, bits)) = text.split_once('/') {
            return network(text, base, bits);
        }
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(Self::single(addr));
        }
        Ok(Self::Host { name: text.to_owned(), addrs: Vec::new() })
    }

    /// Looks up the addresses of a host given by name.
    ///
    /// # Errors
    /// The host has no address.
    pub fn look_up(&mut self) -> Result<(), String> {
        if let Self::Host { name, addrs } = self {
            let found = (name.as_str(), 0).to_socket_addrs();
            let found =
                found.map_err(|error| format!("the host {name} has no address: {error}"))?;
            *addrs = found.map(|addr| addr.ip()).collect();
        }
        Ok(())
    }

    /// Makes the match for a single address.
    #[must_use]
    pub fn single(addr: IpAddr) -> Self {
        Self::Network { base: addr, prefix: if addr.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns the precedence among the clients of an export: lower values are checked first.
    ///
    /// # Source
    /// `exports(5)` "Machine Name Formats"; a network of one address is an address here.
    pub(crate) fn precedence(&self) -> u8 {
        match self {
            Self::Host { .. }
            | Self::Network { base: IpAddr::V4(_), prefix: 32 }
            | Self::Network { base: IpAddr::V6(_), prefix: 128 } => 0,
            Self::Network { .. } => 1,
            Self::Any => 2,
        }
    }

    /// Returns whether this is a host without a known address. It matches no client.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        matches!(self, Self::Host { addrs, .. } if addrs.is_empty())
    }

    /// Returns whether this matches more than named hosts and single addresses.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.precedence() > 0
    }

    /// Returns whether this matches the address `client`.
    #[must_use]
    pub fn matches(&self, client: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Network { base, prefix } => {
                masked(client, *prefix).is_some_and(|masked| masked == *base)
            }
            Self::Host { addrs, .. } => addrs.contains(&client),
        }
    }
}

impl fmt::Display for ClientMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Network { base: IpAddr::V4(base), prefix: 32 } => base.fmt(f),
            Self::Network { base: IpAddr::V6(base), prefix: 128 } => base.fmt(f),
            Self::Network { base, prefix } => write!(f, "{base}/{prefix}"),
            Self::Host { name, .. } => f.write_str(name),
        }
    }
}

fn network(text: &str, base: &str, bits: &str) -> Result<ClientMatch, String> {
    let unreadable = || format!("{text} is not a network: write one like 10.0.0.0/8 or fd00::/8");
    let base: IpAddr = base.parse().map_err(|_not_an_address| unreadable())?;
    let prefix = match bits.parse::<Ipv4Addr>() {
        Ok(mask) if base.is_ipv4() => {
            let ones = u32::from(mask).leading_ones();
            if u32::from(mask).count_ones() != ones {
                return Err(format!(
                    "the mask of {text} is not contiguous: write a number of bits, as in 10.0.0.0/8"
                ));
            }
            u8::try_from(ones).map_err(|_more_than_32| unreadable())?
        }
        _ => bits.parse().map_err(|_not_a_number| unreadable())?,
    };
    let base = masked(base, prefix).ok_or_else(unreadable)?;
    Ok(ClientMatch::Network { base, prefix })
}

/// Returns `addr` with zeroes after its first `prefix` bits; `None` if it has fewer bits.
fn masked(addr: IpAddr, prefix: u8) -> Option<IpAddr> {
    Some(match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?).unwrap_or(0);
            IpAddr::V4((u32::from(addr) & mask).into())
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix.into())?).unwrap_or(0);
            IpAddr::V6((u128::from(addr) & mask).into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(rule: &str, client: &str) -> bool {
        ClientMatch::parse(rule).unwrap().matches(client.parse().unwrap())
    }

    #[test]
    fn networks_hold_what_their_bits_say() {
        assert!(matches("*", "::1") && matches("*", "1.2.3.4"));
        assert!(matches("10.1.2.3", "10.1.2.3") && !matches("10.1.2.3", "10.1.2.4"));
        assert!(matches("10.1.2.3/8", "10.255.0.1") && !matches("10.0.0.0/8", "11.0.0.1"));
        assert!(matches("10.0.0.0/255.255.0.0", "10.0.9.9"));
        assert!(!matches("10.0.0.0/255.255.0.0", "10.1.0.0"));
        assert!(matches("0.0.0.0/0", "8.8.8.8") && !matches("0.0.0.0/0", "::1"));
        assert!(matches("fd00::/8", "fd12::1") && !matches("fd00::/8", "fe80::1"));
        assert!(matches("::/0", "::1"));
        let mut host = ClientMatch::parse("localhost").unwrap();
        assert!(!host.matches(IpAddr::V4(Ipv4Addr::LOCALHOST)), "it is not looked up yet");
        host.look_up().unwrap();
        assert!(host.matches(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn what_is_no_client_says_what_would_be() {
        for bad in ["10.0.0.0/33", "10.0.0.0/x", "x/8", "10.0.0.0/255.0.255.0", "fd00::/129"] {
            assert!(ClientMatch::parse(bad).is_err(), "{bad}");
        }
        assert!(ClientMatch::parse("@staff").unwrap_err().contains("netgroups"));
        assert!(ClientMatch::parse("*.example.org").unwrap_err().contains("patterns"));
    }

    #[test]
    fn clients_are_shown_as_they_are_written() {
        for text in ["*", "10.0.0.0/8", "1.2.3.4", "fd00::/8", "::1", "localhost"] {
            assert_eq!(ClientMatch::parse(text).unwrap().to_string(), text);
        }
    }
}
