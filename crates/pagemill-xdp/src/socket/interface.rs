//! Interfaces: attaches the XDP program to an interface, whose queues can then be opened as sockets.

use alloc::sync::Arc;
use core::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pagemill_host::os::OsError;

use crate::error::{XdpError, os_error};
use crate::name::Name;
use crate::operation::Operation;
use crate::packet::packet::mtu_max;
use crate::socket::peer::{self, PeerChecksums};
use crate::socket::program;
use crate::sys::bpf::{self, LinkMode};
use crate::sys::ethtool;
use crate::sys::netlink::{self, LinkInfo};

/// Where the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are these two, and the choice between them")]
pub enum AttachMode {
    /// In the driver if it supports XDP, else in the network stack.
    #[default]
    Auto,
    /// In the driver (`XDP_FLAGS_DRV_MODE`).
    Native,
    /// In the network stack (`XDP_FLAGS_SKB_MODE`): slower, and for any interface.
    Generic,
}

/// Configuration of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct InterfaceConfig {
    /// Where the program runs.
    pub mode: AttachMode,
    /// Whether packets may take several frames, as those of jumbo frames do.
    pub multi_buffer: bool,
}

/// A limitation that is worth one line in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The program runs in the network stack, because the driver does not accept it.
    Generic {
        /// The interface.
        name: Name,
        /// The error of the driver.
        os: OsError,
    },
    /// The kernel copies packets, because the device cannot use our frames directly.
    Copies {
        /// The interface.
        name: Name,
        /// Its queue.
        queue: u32,
    },
    /// Packets of other queues go to the network stack.
    OtherQueues {
        /// The interface.
        name: Name,
        /// The queue that is served.
        queue: u32,
        /// Number of receive queues.
        nr_queues: u32,
    },
    /// Packets come from the other end of a virtual pair without checksums.
    NoChecksums {
        /// The interface.
        name: Name,
        /// The other end, unless its name is unknown.
        peer: Option<Name>,
    },
    /// Packets may come from the other end of a virtual pair without checksums: it is in a network
    /// namespace that this process cannot access.
    ChecksumsUnknown {
        /// The interface.
        name: Name,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generic { name, os } => write!(
                f,
                "{name}: the program runs in the stack, the driver does not take it ({os})"
            ),
            Self::Copies { name, queue } => {
                write!(f, "{name}: no zero-copy on queue {queue}, the kernel copies packets")
            }
            Self::OtherQueues { name, queue, nr_queues } => write!(
                f,
                "{name}: packets that arrive on other queues than {queue} bypass this program: \
                 {nr_queues} queues receive; reduce them to one (ethtool -L {name} combined 1, or \
                 rx 1), or steer packets to queue {queue} (ethtool -X or -N)"
            ),
            Self::NoChecksums { name, peer: Some(peer) } => write!(
                f,
                "{name}: its peer {peer} does not fill in checksums (TX checksum offload is on), \
                 so receivers may drop packets that leave this program: turn it off at the peer \
                 (ethtool -K {peer} tx off)"
            ),
            Self::NoChecksums { name, peer: None } => write!(
                f,
                "{name}: its peer does not fill in checksums (TX checksum offload is on), so \
                 receivers may drop packets that leave this program: turn it off at the peer \
                 (ethtool -K ... tx off)"
            ),
            Self::ChecksumsUnknown { name } => write!(
                f,
                "{name}: its peer may not fill in checksums (it is in a network namespace that \
                 cannot be looked into); if receivers drop packets that leave this program, turn \
                 TX checksum offload off at the peer (ethtool -K ... tx off)"
            ),
        }
    }
}

/// An interface, with our program attached as long as this value or one of its sockets exists.
///
/// The program passes packets to the sockets of their queues; packets of a queue without a socket go to
/// the network stack. The program is detached when the process ends, for whatever reason.
#[derive(Clone, Debug)]
pub struct Interface {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: Name,
    info: LinkInfo,
    config: InterfaceConfig,
    nr_queues: Option<u32>,
    attachment: Option<Attachment>,
}

/// Closing the link detaches the program; program and map are freed with their last reference.
#[derive(Debug)]
struct Attachment {
    map: OwnedFd,
    mode: LinkMode,
    notice: Option<Notice>,
    _link: OwnedFd,
}

impl Interface {
    /// Attaches the program to the interface called `name` in the thread's network namespace.
    ///
    /// # Errors
    /// [`XdpError::NoInterface`], [`XdpError::InterfaceDown`], [`XdpError::Mtu`],
    /// [`XdpError::ProgramAttached`], [`XdpError::NoNativeMode`], [`XdpError::Capability`], and other
    /// errors of the system. Nothing is left attached then.
    pub fn attach(name: Name, config: InterfaceConfig) -> Result<Self, XdpError> {
        let mut shared = Self::look(name, config)?;
        if shared.info.program != 0 {
            return Err(XdpError::ProgramAttached { name, program: shared.info.program });
        }
        // Checked here, because the driver's error is less clear.
        shared.fits(mtu_max(0))?;
        shared.attachment = Some(shared.attach()?);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Uses the interface without a program: its sockets can send, but receive nothing.
    ///
    /// # Errors
    /// [`XdpError::NoInterface`], [`XdpError::InterfaceDown`], and other errors of the system.
    pub fn to_send(name: Name, config: InterfaceConfig) -> Result<Self, XdpError> {
        Ok(Self { shared: Arc::new(Self::look(name, config)?) })
    }

    /// Returns the interface's name.
    #[must_use]
    pub fn name(&self) -> Name {
        self.shared.name
    }

    /// Returns the interface's number.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.shared.info.index
    }

    /// Returns the hardware address.
    #[must_use]
    pub fn hardware_address(&self) -> [u8; 6] {
        self.shared.info.address
    }

    /// Returns the number of receive queues, if the driver or the kernel reports it.
    #[must_use]
    pub fn nr_queues(&self) -> Option<u32> {
        self.shared.nr_queues
    }

    /// Returns whether the program runs in the driver; `None` without a program.
    #[must_use]
    pub fn is_native(&self) -> Option<bool> {
        let attachment = self.shared.attachment.as_ref()?;
        Some(attachment.mode == LinkMode::Native)
    }

    /// Returns a notice about a limitation, if there is one.
    #[must_use]
    pub fn notice(&self) -> Option<Notice> {
        self.shared.attachment.as_ref()?.notice
    }

    /// Returns a notice if packets of queues other than `queue` go to the network stack, for a program
    /// that opens only that queue.
    #[must_use]
    pub fn other_queues(&self, queue: u32) -> Option<Notice> {
        let nr_queues = self.nr_queues().filter(|&nr_queues| nr_queues > 1)?;
        Some(Notice::OtherQueues { name: self.name(), queue, nr_queues })
    }

    /// Returns a notice if the interface is one end of a virtual pair, and packets from the other end
    /// have, or may have, no checksums.
    ///
    /// # Cost
    /// If the other end is in another network namespace, searches for it among named namespaces and
    /// those of all processes.
    #[must_use]
    pub fn checksums(&self) -> Option<Notice> {
        let name = self.name();
        match peer::checksums(&self.shared.info) {
            PeerChecksums::Fine => None,
            PeerChecksums::LeftOut(peer) => Some(Notice::NoChecksums { name, peer }),
            PeerChecksums::Unknown => Some(Notice::ChecksumsUnknown { name }),
        }
    }

    pub(crate) fn config(&self) -> InterfaceConfig {
        self.shared.config
    }

    /// Returns an error if the interface receives and its packets may exceed a frame.
    pub(crate) fn fits(&self, mtu_max: u32) -> Result<(), XdpError> {
        if self.shared.attachment.is_some() { self.shared.fits(mtu_max) } else { Ok(()) }
    }

    /// Makes packets of `queue` go to `socket`, if there is a program.
    pub(crate) fn route(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        match &self.shared.attachment {
            Some(attachment) => bpf::map_socket(attachment.map.as_fd(), queue, socket),
            None => Ok(()),
        }
    }

    fn look(name: Name, config: InterfaceConfig) -> Result<Shared, XdpError> {
        let info = netlink::link(&name).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => XdpError::NoInterface { name },
            _ => XdpError::system(Operation::FindInterface, &error).on(name),
        })?;
        if !info.is_up {
            return Err(XdpError::InterfaceDown { name });
        }
        let nr_queues = ethtool::nr_rx_queues(name.as_array())
            .map_err(|error| XdpError::system(Operation::CountQueues, &error).on(name))?
            .or(info.nr_rx_queues);
        Ok(Shared { name, info, config, nr_queues, attachment: None })
    }
}

impl Shared {
    fn fits(&self, mtu_max: u32) -> Result<(), XdpError> {
        let mtu = self.info.mtu;
        if mtu > mtu_max && !self.config.multi_buffer {
            return Err(XdpError::Mtu { name: self.name, mtu, mtu_max });
        }
        Ok(())
    }

    fn attach(&self) -> Result<Attachment, XdpError> {
        // If the number of queues is unknown, any number is possible; a map of this size is small.
        let map = bpf::socket_map(self.nr_queues.unwrap_or(64).max(1))
            .map_err(|error| XdpError::system(Operation::MakeMap, &error))?;
        let flags = if self.config.multi_buffer { HAS_FRAGMENTS } else { 0 };
        let program = bpf::load(&program::to_sockets(map.as_raw_fd()), flags)
            .map_err(|error| XdpError::system(Operation::LoadProgram, &error))?;
        let try_mode = |mode| bpf::attach(program.as_fd(), self.info.index, mode);
        let (link, mode, notice) = match self.config.mode {
            AttachMode::Native => {
                let link = try_mode(LinkMode::Native).map_err(|error| self.refused(&error))?;
                (link, LinkMode::Native, None)
            }
            AttachMode::Generic => {
                let link = try_mode(LinkMode::Generic).map_err(|error| self.refused(&error))?;
                (link, LinkMode::Generic, None)
            }
            AttachMode::Auto => match try_mode(LinkMode::Native) {
                Ok(link) => (link, LinkMode::Native, None),
                Err(native) => {
                    let link = try_mode(LinkMode::Generic).map_err(|error| self.refused(&error))?;
                    let notice = Notice::Generic { name: self.name, os: os_error(&native) };
                    (link, LinkMode::Generic, Some(notice))
                }
            },
        };
        Ok(Attachment { map, mode, notice, _link: link })
    }

    fn refused(&self, error: &io::Error) -> XdpError {
        let name = self.name;
        match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => {
                let program = netlink::link(&name).map_or(0, |info| info.program);
                XdpError::ProgramAttached { name, program }
            }
            Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)
                if self.config.mode == AttachMode::Native =>
            {
                XdpError::NoNativeMode { name, os: os_error(error) }
            }
            _ => XdpError::system(Operation::AttachProgram, error).on(name),
        }
    }
}

/// `BPF_F_XDP_HAS_FRAGS`: the program may see packets of several frames.
const HAS_FRAGMENTS: u32 = 1 << 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::veth::enter_private_network;

    #[test]
    #[expect(clippy::print_stderr, reason = "skipped tests are reported")]
    fn a_driver_that_does_not_tell_its_queues_has_as_many_as_the_kernel_made() {
        if let Err(error) = enter_private_network() {
            eprintln!("SKIPPED: {:?}: {error}", std::thread::current().name());
            return;
        }
        let name = Name::new("lo").unwrap();
        let index = netlink::link(&name).unwrap().index;
        netlink::set_up(index, true).unwrap();
        let interface = Interface::to_send(name, InterfaceConfig::default()).unwrap();
        assert_eq!(interface.nr_queues(), Some(1));
    }
}
