//! Peer of a virtual pair: finds out whether its packets come with checksums.
//!
//! The network stack at that end leaves checksums to the interface unless it is configured otherwise,
//! and a virtual interface computes none. Another stack on this machine knows that and does not verify
//! them. An XDP program sees packets with wrong checksums, and receivers to which it forwards them drop
//! them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use crate::name::Name;
use crate::sys::ethtool;
use crate::sys::namespace;
use crate::sys::netlink::{self, LinkInfo};

/// What is known about the checksums of received packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerChecksums {
    /// The interface has no peer, or the peer computes checksums.
    Fine,
    /// The peer, with this name, leaves checksums out.
    LeftOut(Option<Name>),
    /// The peer is in a namespace that this process cannot access.
    Unknown,
}

/// Finds out whether the peer of an interface computes checksums.
pub(crate) fn checksums(info: &LinkInfo) -> PeerChecksums {
    let (true, Some(peer)) = (info.is_veth, info.peer_index) else {
        return PeerChecksums::Fine;
    };
    let found = match info.peer_namespace {
        None => look(peer),
        Some(id) => match find_namespace(id) {
            Some(namespace) => look_in(&namespace, peer),
            None => return PeerChecksums::Unknown,
        },
    };
    match found {
        Ok((_, false)) => PeerChecksums::Fine,
        Ok((name, true)) => PeerChecksums::LeftOut(name),
        Err(_) => PeerChecksums::Unknown,
    }
}

/// Returns the name of the interface with number `index`, and whether its stack leaves checksums out.
fn look(index: u32) -> io::Result<(Option<Name>, bool)> {
    let name = ethtool::name_of(index)?;
    let text = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = core::str::from_utf8(text).ok().and_then(|text| Name::new(text).ok());
    Ok((name, ethtool::leaves_checksums(index)?))
}

/// Does what [`look`] does, in another namespace.
fn look_in(namespace: &File, index: u32) -> io::Result<(Option<Name>, bool)> {
    // On a temporary thread, so that none is left in the wrong namespace.
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            namespace::enter(namespace.as_fd())?;
            look(index)
        });
        looking.join().unwrap_or_else(|_panic| Err(io::ErrorKind::Other.into()))
    })
}

/// Returns the network namespace that this one knows by the number `id`, if it has a name or a visible
/// process.
fn find_namespace(id: u32) -> Option<File> {
    // Most processes are in one of few namespaces, and each namespace is checked once.
    let mut seen = HashSet::new();
    candidates().find_map(|path| {
        let file = File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let is_new = seen.insert((metadata.dev(), metadata.ino()));
        (is_new && netlink::namespace_id(file.as_fd()).ok()? == Some(id)).then_some(file)
    })
}

/// Returns the paths of network namespaces: named ones first.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let list = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten();
    let named = ["/run/netns", "/run/docker/netns"].map(list).into_iter().flatten();
    let processes = list("/proc").filter(|entry| {
        entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    named.map(|entry| entry.path()).chain(processes.map(|entry| entry.path().join("ns/net")))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::testbed::veth::{VethPair, enter_private_network};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[expect(clippy::print_stderr, reason = "skipped tests are reported")]
    fn private_network() -> Option<()> {
        let skip = |error: &_| eprintln!("SKIPPED: {:?}: {error}", thread::current().name());
        enter_private_network().inspect_err(skip).ok()
    }

    fn of(interface: &str) -> PeerChecksums {
        checksums(&netlink::link(&name(interface)).unwrap())
    }

    #[test]
    fn a_peer_in_the_same_namespace_is_asked() {
        let Some(()) = private_network() else { return };
        let pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
        assert_eq!(of("a1"), PeerChecksums::LeftOut(Some(name("a0"))));
        pair.set_checksum_offload(0, false).unwrap();
        assert_eq!(of("a1"), PeerChecksums::Fine);
        assert_eq!(of("a0"), PeerChecksums::LeftOut(Some(name("a1"))));
        assert_eq!(of("lo"), PeerChecksums::Fine, "it has no peer");
    }

    #[test]
    fn a_peer_in_the_namespace_of_another_process_is_asked() {
        let Some(()) = private_network() else { return };
        // A process in a namespace of its own, until its input ends.
        let mut cat = thread::spawn(|| {
            enter_private_network().unwrap();
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        })
        .join()
        .unwrap();
        let namespace = File::open(format!("/proc/{}/ns/net", cat.id())).unwrap();
        let _pair = VethPair::new(name("a0"), name("a1"), 1).unwrap();
        let index = netlink::link(&name("a1")).unwrap().index;
        netlink::move_to(index, namespace.as_fd()).unwrap();
        assert_eq!(of("a0"), PeerChecksums::LeftOut(Some(name("a1"))));
        let set = |leaves| {
            thread::scope(|scope| {
                let there = scope.spawn(|| {
                    namespace::enter(namespace.as_fd()).unwrap();
                    ethtool::set_leaves_checksums(index, leaves).unwrap();
                });
                there.join().unwrap();
            });
        };
        set(false);
        assert_eq!(of("a0"), PeerChecksums::Fine);
        // No thread is left in the namespace, and it has no name.
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert_eq!(of("a0"), PeerChecksums::Unknown);
    }
}
