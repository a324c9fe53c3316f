//! Private network for tests: a namespace, and pairs of virtual interfaces (veth) in it.

use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use crate::error::XdpError;
use crate::name::Name;
use crate::operation::Operation;
use crate::sys::{ethtool, namespace, netlink};

/// Moves the calling thread to its own network, without any interface that is up.
///
/// Threads that it starts from now on are in it too. The kernel removes it with the last of them, and
/// all interfaces that were created there: there is nothing to clean up.
///
/// # Errors
/// [`XdpError::Capability`] without `CAP_SYS_ADMIN`; other errors of the system.
pub fn enter_private_network() -> Result<(), XdpError> {
    namespace::unshare().map_err(|error| {
        let missing = crate::capability::Capabilities::SYS_ADMIN;
        match error.raw_os_error() {
            Some(libc::EPERM) => XdpError::Capability { missing },
            _ => XdpError::system(Operation::MakeNamespace, &error),
        }
    })?;
    // Interfaces then send no packets of their own; if the setting is not available, they do.
    let _left_talkative = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    Ok(())
}

/// Two interfaces of the thread's network: packets sent on one are received on the other.
///
/// They are removed when this is dropped, by a thread of the same network.
#[derive(Debug)]
pub struct VethPair {
    names: [Name; 2],
    indices: [u32; 2],
}

impl VethPair {
    /// Creates the pair, with `nr_queues` queues each, and sets it up.
    ///
    /// # Errors
    /// The error of the system: names in use, a missing `CAP_NET_ADMIN`.
    pub fn new(one: Name, other: Name, nr_queues: u32) -> Result<Self, XdpError> {
        netlink::add_veth(&one, &other, nr_queues)
            .map_err(|error| XdpError::system(Operation::MakePair, &error))?;
        let index = |name: &Name| {
            netlink::link(name)
                .map(|info| info.index)
                .map_err(|error| XdpError::system(Operation::FindInterface, &error))
        };
        let pair = Self { names: [one, other], indices: [index(&one)?, index(&other)?] };
        for end in 0..2 {
            pair.set_up(end, true)?;
        }
        Ok(pair)
    }

    /// Waits until packets pass, which is some time after both ends are up: until then the network
    /// stack drops them.
    fn wait_until_running(&self) {
        let is_so = |test: fn(&netlink::LinkInfo) -> bool| {
            self.names.iter().all(|name| netlink::link(name).is_ok_and(|info| test(&info)))
        };
        if !is_so(|info| info.is_up) {
            return;
        }
        let start = Instant::now();
        while !is_so(|info| info.is_running) && start.elapsed() < RUNNING_PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the name of an end, 0 or 1.
    #[must_use]
    pub fn name(&self, end: usize) -> Name {
        self.names[end]
    }

    /// Returns the number of an end's interface.
    #[must_use]
    pub fn index(&self, end: usize) -> u32 {
        self.indices[end]
    }

    /// Sets an end up or down; with both up, packets pass when this returns.
    ///
    /// # Errors
    /// The error of the system.
    pub fn set_up(&self, end: usize, up: bool) -> Result<(), XdpError> {
        netlink::set_up(self.indices[end], up)
            .map_err(|error| XdpError::system(Operation::SetUp, &error).on(self.names[end]))?;
        if up {
            self.wait_until_running();
        }
        Ok(())
    }

    /// Sets whether the network stack leaves out checksums of packets that it sends from an end, which
    /// is the default.
    ///
    /// # Errors
    /// The error of the system.
    pub fn set_checksum_offload(&self, end: usize, leaves: bool) -> Result<(), XdpError> {
        ethtool::set_leaves_checksums(self.indices[end], leaves)
            .map_err(|error| XdpError::system(Operation::SetChecksums, &error).on(self.names[end]))
    }

    /// Sets the MTU of both ends.
    ///
    /// # Errors
    /// The error of the system.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), XdpError> {
        for index in self.indices {
            netlink::set_mtu(index, mtu)
                .map_err(|error| XdpError::system(Operation::SetMtu, &error))?;
        }
        Ok(())
    }
}

impl Drop for VethPair {
    fn drop(&mut self) {
        // If this fails, the pair is removed with the namespace.
        let _gone_with_the_namespace = netlink::delete(self.indices[0]);
    }
}

/// How long the network stack may take to notice that an interface is up.
const RUNNING_PATIENCE: Duration = Duration::from_secs(60);
