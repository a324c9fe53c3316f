//! What the tests on real sockets share: a network of their own, and pairs of interfaces in it.

use core::time::Duration;

use pagemill_xdp::attach::Name;
use pagemill_xdp::testing::{VethPair, enter_private_network};
use pagemill_xdp::{SocketConfig, XdpError};

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Gives the test a network, or says that it is skipped.
pub(crate) fn private_network() -> Option<()> {
    match enter_private_network() {
        Ok(()) => Some(()),
        Err(error @ XdpError::Capability { .. }) => {
            println!("SKIPPED: {error}");
            eprintln!("SKIPPED: {:?}: {error}", std::thread::current().name());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Makes a pair of interfaces with one queue each.
pub(crate) fn veth(one: &str, other: &str) -> VethPair {
    VethPair::new(name(one), name(other), 1).unwrap()
}

/// Asks for rings that a small arena has frames enough for.
pub(crate) fn small() -> SocketConfig {
    SocketConfig {
        fill_size: 256,
        rx_size: 256,
        tx_size: 256,
        completion_size: 256,
        // On a busy machine, the kernel may release a queue late.
        patience: Duration::from_secs(120),
        ..SocketConfig::new()
    }
}
