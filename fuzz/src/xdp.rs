//! Bytes for AF_XDP; also run by a plain test of `pagemill-xdp`, which includes this file.

use core::time::Duration;
use std::sync::OnceLock;

use pagemill::{AllocPages, Gfp, Page, PageAllocator};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};
use pagemill_xdp::devices::Loopback;
use pagemill_xdp::headers::{Datagram, Headers, Malformed, Network, parse};
use pagemill_xdp::{Device, Packet};

/// Judges a packet. The first byte says what it begins with: nothing, an Ethernet header, tags, IP
/// and UDP that hold together, so that not each of them must be guessed; the next two say how many
/// of its bytes are in its first frame.
pub fn packet(data: &[u8]) {
    let [kind, a, b, data @ ..] = data else { return };
    let bytes = with_beginning(*kind, data);
    let total_len = bytes.len();
    let first = usize::from(u16::from_le_bytes([*a, *b])).min(total_len);
    let whole = parse(&bytes, total_len);
    let begun = parse(&bytes[..first], total_len);
    match whole {
        Ok(headers) => check(&bytes, headers),
        // What is wrong with the whole is not mended by looking at less of it.
        Err(_) => assert!(begun.is_err()),
    }
    match begun {
        Ok(headers) => {
            assert_eq!(whole, Ok(headers), "the frames behind the first are not looked at");
            assert!(headers.payload_start <= first);
        }
        Err(reason) => assert!(whole == Err(reason) || reason == Malformed::Short),
    }
}

/// Checks what was found in a packet.
fn check(bytes: &[u8], headers: Headers) {
    let end = headers.payload_start + headers.payload_len;
    assert!(end <= bytes.len(), "{headers:?} of {} bytes", bytes.len());
    // Nothing but the headers was looked at, and all of them were.
    assert_eq!(parse(&bytes[..headers.payload_start], bytes.len()), Ok(headers));
    for cut in 0..headers.payload_start {
        assert!(parse(&bytes[..cut], bytes.len()).is_err(), "{headers:?} in {cut} bytes");
    }
    if matches!(headers.network, Network::Ipv4 | Network::Ipv6) {
        // It says its own length, so that padding changes nothing.
        let padded = [bytes, &[0xa5; 9]].concat();
        assert_eq!(parse(&padded, padded.len()), Ok(headers));
    }
}

/// Puts before `data` what `kind` says.
fn with_beginning(kind: u8, data: &[u8]) -> Vec<u8> {
    let tag = [0x81, 0x00, 0x00, 0x07];
    let datagram = Datagram::example().packet(data.get(..60_000).unwrap_or(data));
    let beginning = match kind & 7 {
        0 => return data.to_vec(),
        1 => datagram[..12].to_vec(),
        2 => [&datagram[..12], &tag.repeat(usize::from(kind >> 6))].concat(),
        3 => [&datagram[..12], &[0x86, 0xdd]].concat(),
        4 => datagram[..14].to_vec(),
        5 => datagram[..26].to_vec(),
        6 => return datagram,
        _ => {
            // One byte of a good packet is another.
            let mut packet = datagram;
            let at = usize::from(kind >> 3) % packet.len();
            packet[at] ^= data.first().copied().unwrap_or(1);
            return packet;
        }
    };
    [&beginning[..], data].concat()
}

type F = Page<&'static PageAllocator<Host>>;

/// Lets the other side of a device say whatever it likes about frames: none is lost, none is there
/// twice, and what is not true is counted. Each operation takes four bytes.
pub fn descriptors(data: &[u8]) {
    static FRAMES: OnceLock<PageAllocator<Host>> = OnceLock::new();
    let arena = || allocator(&AllocatorConfig::new(ArenaConfig::new(1 << 20)));
    let frames = FRAMES.get_or_init(|| arena().expect("1 MiB"));
    let nr_frames = frames.nr_free_pages();
    let mut device: Loopback<F> = Loopback::new(frames, 16).expect("there are frames enough");
    let (mut empty, mut packets) = (Vec::new(), Vec::new());
    let mut nr_lies = 0;
    for operation in data.as_chunks::<4>().0 {
        let &[kind, a, b, c] = operation;
        let address = u64::from(u16::from_le_bytes([a, b])) << (c & 15);
        match kind & 7 {
            0 => {
                let nr = usize::from(a & 31);
                empty.extend((0..nr).map_while(|_| frames.alloc_page(Gfp::NOWAIT)));
                device.supply(&mut empty).expect("the ring is whole");
            }
            1 => {
                device.receive(&mut packets, a.into()).expect("the ring is whole");
            }
            2 => {
                if a & 1 == 0 && packets.len() > 1 {
                    let tail: Packet<F> = packets.swap_remove(0);
                    packets[0].append(tail);
                }
                device.send(&mut packets).expect("the ring is whole");
            }
            3 => {
                device.completed(&mut empty).expect("the ring is whole");
            }
            4 => {
                device.inject_descriptor(address | u64::from(c >> 4), b.into());
                nr_lies += 1;
            }
            5 => {
                device.inject_completion(address | u64::from(c >> 4));
                nr_lies += 1;
            }
            // The loopback's own side believes itself, so it is not asked once lies are told.
            6 if nr_lies == 0 => {
                device.inject(&vec![a; usize::from(b) * 64 + 1]);
            }
            _ if nr_lies == 0 => device.flush().expect("there is nothing to fail"),
            _ => packets.truncate(a.into()),
        }
        let in_packets: usize = packets.iter().map(Packet::nr_frames).sum();
        let nr_used = (device.nr_held() + empty.len() + in_packets) as u64;
        assert_eq!(frames.nr_free_pages() + nr_used, nr_frames, "each frame is somewhere once");
        assert!(device.counters().malformed <= nr_lies);
    }
    device.wait(Duration::ZERO).expect("there is nothing to fail");
    device.close(&mut empty).expect("nothing is stuck");
    drop((empty, packets));
    assert_eq!(frames.nr_free_pages(), nr_frames);
}
