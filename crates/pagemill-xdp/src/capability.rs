//! Capabilities and limits of the process, as far as AF_XDP needs them.

use core::fmt;
use std::fs;

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

/// The capabilities with a name here, and their bits.
///
/// # Source
/// `linux-6.12` `include/uapi/linux/capability.h`
const NAMES: [(u32, &str); 5] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (14, "CAP_IPC_LOCK"),
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
];

impl Capabilities {
    /// To attach a program, and to configure interfaces.
    pub const NET_ADMIN: Self = Self(1 << 12);
    /// To open AF_XDP and packet sockets.
    pub const NET_RAW: Self = Self(1 << 13);
    /// To pin more memory than the limit of locked memory (`ulimit -l`).
    pub const IPC_LOCK: Self = Self(1 << 14);
    /// To create a network namespace; it includes [`BPF`](Self::BPF).
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// To load a program and create a map for it.
    pub const BPF: Self = Self(1 << 39);

    /// The capabilities that a device needs.
    pub const NEEDED: Self = Self(Self::NET_ADMIN.0 | Self::NET_RAW.0 | Self::BPF.0);

    /// Returns the capabilities of the calling thread; none if the system does not report them.
    ///
    /// In a user namespace the result is about that namespace, but the kernel requires `CAP_BPF` in the
    /// first one. So the result may include capabilities that are not effective
    /// ([`XdpError::UserNamespace`]).
    ///
    /// [`XdpError::UserNamespace`]: crate::XdpError::UserNamespace
    #[must_use]
    pub fn effective() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self::parse(&status)
    }

    fn parse(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        let held = Self(bits);
        if held.has(Self::SYS_ADMIN) { Self(bits | Self::BPF.0) } else { held }
    }

    /// Returns whether all of `other` are in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the set with those of `other` added.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the set without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the number of capabilities in the set.
    pub(crate) const fn nr(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Returns whether the process is in the first user namespace; true if the system does not report it.
///
/// # Source
/// `linux-6.12` `include/linux/proc_ns.h` `PROC_USER_INIT_INO`
pub(crate) fn is_in_first_user_namespace() -> bool {
    fs::read_link("/proc/self/ns/user").map_or(true, |name| name.as_os_str() == "user:[4026531837]")
}

/// Returns how many bytes of memory the process may lock; `None` if there is no limit or the system
/// does not report it.
pub(crate) fn locked_memory_max() -> Option<u64> {
    parse_locked_memory(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_locked_memory(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl fmt::Display for Capabilities {
    /// Writes the names with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (_, name) in NAMES.iter().filter(|(bit, _)| self.0 & 1 << bit != 0) {
            write!(f, "{between}{name}")?;
            between = ", ";
        }
        if between.is_empty() { f.write_str("no capability") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_locked_memory_is_read() {
        let limits =
            |soft| format!("Max processes   1  2  processes\nMax locked memory   {soft}\n");
        assert_eq!(parse_locked_memory(&limits("65536   131072   bytes")), Some(65536));
        assert_eq!(parse_locked_memory(&limits("unlimited unlimited bytes")), None);
        assert_eq!(parse_locked_memory("Max processes 1 2 processes"), None);
    }

    #[test]
    fn the_line_of_the_kernel_is_read() {
        let status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000003000\n";
        let held = Capabilities::parse(status);
        assert!(held.has(Capabilities::NET_ADMIN) && held.has(Capabilities::NET_RAW));
        assert_eq!(Capabilities::NEEDED.without(held).to_string(), "CAP_BPF");
        let admin = Capabilities::parse("CapEff:\t200000\n");
        assert_eq!(Capabilities::NEEDED.without(admin).to_string(), "CAP_NET_ADMIN, CAP_NET_RAW");
        assert!(Capabilities::parse("CapEff:\tnone\n").is_empty());
        assert!(Capabilities::parse("").is_empty());
        assert_eq!(Capabilities::default().to_string(), "no capability");
    }
}
