//! The configuration of a receive ring, and its checks.

use crate::error::UringError;

/// The configuration of a receive ring; start from [`ReceiveConfig::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from ReceiveConfig::new")]
pub struct ReceiveConfig {
    /// Pages or folios that the kernel has to receive into: a power of two, at most 32,768.
    pub nr_buffers: u16,
    /// Completions that the kernel can report before the ring is read: a power of two, at least 512 and at
    /// most 65,536. A longer burst costs the kernel memory and time, and ends multishot requests, which
    /// the ring starts again.
    pub nr_completions: u32,
    /// Most connections and listeners at a time, at most 2^24.
    pub nr_connections_max: u32,
    /// Received pages, or folios, that users may hold before the ring gives the kernel no more pages. Together with
    /// the pages that the kernel has at that moment, it limits the pages of this ring.
    pub nr_held_max: usize,
    /// Received pages of one connection that users may hold before the ring stops to receive from it. It
    /// goes on at the half of them.
    pub nr_held_per_connection_max: usize,
    /// Whether one completion may bring many pages, where the kernel can do that (Linux 6.10).
    ///
    /// Set it to false on Linux 6.15 without stable updates: it can report the end of a bundle in the
    /// wrong buffer (fixed by the kernel commit 3a08988123c8).
    pub bundles: bool,
}

impl ReceiveConfig {
    /// Configures 1,024 buffers (4 MiB), and limits for some hundred connections.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nr_buffers: 1024,
            nr_completions: 4096,
            nr_connections_max: 16_384,
            nr_held_max: 4096,
            nr_held_per_connection_max: 1024,
            bundles: true,
        }
    }

    /// Checks all fields.
    pub(crate) fn check(&self) -> Result<(), UringError> {
        let power = |field, value: u32, min: u32, max: u32| {
            let is_valid = value.is_power_of_two() && (min..=max).contains(&value);
            if is_valid { Ok(()) } else { Err(UringError::Config { field, value, min, max }) }
        };
        power("nr_buffers", self.nr_buffers.into(), 1, NR_BUFFERS_MAX.into())?;
        power("nr_completions", self.nr_completions, NR_COMPLETIONS_MIN, NR_COMPLETIONS_MAX)?;
        let nr = self.nr_connections_max;
        if nr == 0 || nr > NR_CONNECTIONS_MAX {
            return Err(UringError::NrConnections { nr, max: NR_CONNECTIONS_MAX });
        }
        for (field, value) in [
            ("nr_held_max", self.nr_held_max),
            ("nr_held_per_connection_max", self.nr_held_per_connection_max),
        ] {
            if value == 0 {
                return Err(UringError::NothingHeld { field });
            }
        }
        Ok(())
    }
}

/// # Source
/// `linux-6.12` `io_uring/kbuf.c` `io_register_pbuf_ring`
const NR_BUFFERS_MAX: u16 = 1 << 15;
/// The submission queue has 256 entries, and the completion queue must have more.
const NR_COMPLETIONS_MIN: u32 = 512;
/// # Source
/// `linux-6.12` `io_uring/io_uring.h` `IORING_MAX_CQ_ENTRIES`
const NR_COMPLETIONS_MAX: u32 = 65_536;
/// The number of a connection has 24 bits, so that the rest of a tag can be a generation.
const NR_CONNECTIONS_MAX: u32 = 1 << 24;

impl Default for ReceiveConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_limits() {
        let new = ReceiveConfig::new();
        assert_eq!(new.check(), Ok(()));
        let wrong = [
            ReceiveConfig { nr_buffers: 0, ..new },
            ReceiveConfig { nr_buffers: 3, ..new },
            ReceiveConfig { nr_buffers: 0xffff, ..new },
            ReceiveConfig { nr_completions: 256, ..new },
            ReceiveConfig { nr_completions: 1 << 17, ..new },
            ReceiveConfig { nr_connections_max: 0, ..new },
            ReceiveConfig { nr_connections_max: (1 << 24) + 1, ..new },
            ReceiveConfig { nr_held_max: 0, ..new },
            ReceiveConfig { nr_held_per_connection_max: 0, ..new },
        ];
        for config in wrong {
            assert!(config.check().is_err(), "{config:?}");
        }
        let message = wrong[1].check().unwrap_err().to_string();
        assert_eq!(message, "nr_buffers of 3: use a power of two from 1 to 32768");
    }
}
