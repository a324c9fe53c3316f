//! Packets with each of their lengths at its limits, and random ones.

use super::*;
use crate::packet::datagram::Datagram;

fn whole(bytes: &[u8]) -> Result<Headers, Malformed> {
    parse(bytes, bytes.len())
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    Datagram::example().packet(payload)
}

/// Puts `tags` VLAN tags into an Ethernet header.
fn tagged(bytes: &[u8], tags: usize) -> Vec<u8> {
    let tag = [0x81, 0x00, 0x00, 0x05];
    [&bytes[..12], &tag.repeat(tags), &bytes[12..]].concat()
}

fn with(mut bytes: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn a_packet_that_is_cut_off_anywhere_is_malformed() {
    let packet = datagram(b"payload");
    assert_eq!(whole(&packet).unwrap().payload_len, 7);
    for len in 0..packet.len() {
        let reason = whole(&packet[..len]).unwrap_err();
        let expected = if len < 18 { Malformed::Short } else { Malformed::Length };
        assert_eq!(reason, expected, "{len}");
    }
}

#[test]
fn padding_is_no_payload() {
    let mut packet = datagram(b"x");
    packet.resize(60, 0xff);
    let headers = whole(&packet).unwrap();
    assert_eq!((headers.payload_start, headers.payload_len), (42, 1));
}

#[test]
fn the_length_of_ip_is_bounded_from_both_sides() {
    let packet = datagram(b"payload");
    for (len, expected) in [
        (0_u16, Malformed::Length),
        (19, Malformed::Length),
        (20, Malformed::Short),
        (27, Malformed::Short),
        (34, Malformed::Length),
        (36, Malformed::Length),
        (u16::MAX, Malformed::Length),
    ] {
        assert_eq!(whole(&with(packet.clone(), 16, &len.to_be_bytes())), Err(expected), "{len}");
    }
    for words in 0..=4 {
        let packet = with(packet.clone(), 14, &[0x40 | words]);
        assert_eq!(whole(&packet), Err(Malformed::Length), "{words}");
    }
    // Options reach beyond the packet.
    assert_eq!(whole(&with(packet.clone(), 14, &[0x4f])), Err(Malformed::Length));
    assert_eq!(whole(&with(packet, 14, &[0x65])), Err(Malformed::Version));
}

#[test]
fn the_length_of_udp_is_bounded_from_both_sides() {
    let packet = datagram(b"payload");
    for len in [0_u16, 7, 16, 17, u16::MAX] {
        let packet = with(packet.clone(), 38, &len.to_be_bytes());
        assert_eq!(whole(&packet), Err(Malformed::Length), "{len}");
    }
    let shorter = whole(&with(packet.clone(), 38, &[0, 8])).unwrap();
    assert_eq!(shorter.payload_len, 0);
    // Of a fragment, only the first has a header, and its length is the whole datagram's.
    let first = with(with(packet.clone(), 20, &[0x20, 0]), 38, &[0xff, 0xff]);
    assert_eq!(whole(&first).unwrap().transport, Transport::Udp { source: 9, destination: 9 });
    let second = with(with(packet, 20, &[0, 1]), 38, &[0xff, 0xff]);
    assert_eq!(whole(&second).unwrap().transport, Transport::Other(17));
}

#[test]
fn vlan_tags_are_counted_up_to_a_limit() {
    let packet = datagram(b"payload");
    for tags in 0..=3 {
        let headers = whole(&tagged(&packet, tags)).unwrap();
        assert_eq!(usize::from(headers.nr_vlan_tags), tags);
        assert_eq!((headers.payload_start, headers.payload_len), (42 + 4 * tags, 7));
    }
    for tags in [4, 5, 300] {
        assert_eq!(whole(&tagged(&packet, tags)), Err(Malformed::VlanStack));
    }
    assert_eq!(whole(&tagged(&packet, 2)[..20]), Err(Malformed::Short));
}

#[test]
fn ipv6_and_tcp_are_looked_at_too() {
    let mut packet = datagram(b"")[..12].to_vec();
    packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 6, 64]);
    packet.extend([0; 32]);
    packet.extend([0, 80, 0x1f, 0x90]);
    packet.extend([0; 8]);
    packet.extend([0x60, 0x10, 0, 0, 0, 0, 0, 0]);
    packet.extend([1, 1, 1, 0]);
    let headers = whole(&packet).unwrap();
    assert_eq!(headers.network, Network::Ipv6);
    assert_eq!(headers.transport, Transport::Tcp { source: 80, destination: 8080 });
    assert_eq!((headers.payload_start, headers.payload_len), (78, 0));
    assert_eq!(whole(&with(packet.clone(), 66, &[0x70])), Err(Malformed::Length));
    assert_eq!(whole(&with(packet.clone(), 66, &[0x40])), Err(Malformed::Length));
    assert_eq!(whole(&with(packet.clone(), 18, &[0, 25])), Err(Malformed::Length));
    assert_eq!(whole(&with(packet, 14, &[0x40])), Err(Malformed::Version));
}

#[test]
fn what_is_no_ip_is_left_alone() {
    let mut packet = datagram(b"")[..12].to_vec();
    packet.extend([0x08, 0x06]);
    packet.extend([0; 28]);
    assert_eq!(whole(&packet).unwrap().network, Network::Other(0x0806));
    let old = with(packet.clone(), 12, &[0, 28]);
    assert_eq!(whole(&old).unwrap().payload_len, 28);
    assert_eq!(whole(&with(packet, 12, &[0, 29])), Err(Malformed::Length));
}

#[test]
fn a_packet_of_several_frames_is_judged_by_its_whole_length() {
    let packet = datagram(&[7; 5000]);
    let headers = parse(&packet[..3840], packet.len()).unwrap();
    assert_eq!(headers.payload_len, 5000);
    assert_eq!(parse(&packet[..3840], packet.len() - 1), Err(Malformed::Length));
    assert_eq!(parse(&packet[..41], packet.len()), Err(Malformed::Short));
}

#[test]
fn whatever_comes_is_judged_and_nothing_beyond_the_end_is_payload() {
    // Mutations of good packets get further into the parser than noise does.
    let seed = std::env::var("PAGEMILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(0x5eed);
    println!("PAGEMILL_SEED={seed}");
    let mut state = seed;
    let mut random = |below: usize| {
        // Steele and others, SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    };
    let mut seen = [0_u32; 5];
    for _ in 0..300_000 {
        let tags = random(5);
        let mut packet = tagged(&datagram(&[3; 40]), tags);
        for _ in 0..random(4) {
            let at = random(packet.len());
            packet[at] = random(256) as u8;
        }
        packet.truncate(random(packet.len() * 2).max(1));
        let first = random(packet.len() + 1);
        match parse(&packet[..first], packet.len()) {
            Ok(headers) => {
                assert!(headers.payload_start <= first);
                assert!(headers.payload_start + headers.payload_len <= packet.len());
                seen[4] += 1;
            }
            Err(reason) => seen[reason as usize] += 1,
        }
    }
    assert!(seen.iter().all(|&nr| nr > 100), "{seen:?}");
}

#[test]
fn each_reason_has_a_counter_of_its_own() {
    let mut counters = MalformedCounters::default();
    for (nr, reason) in (1..).zip(Malformed::ALL) {
        (0..nr).for_each(|_| counters.count(reason));
    }
    assert_eq!(Malformed::ALL.map(|reason| counters.of(reason)), [1, 2, 3, 4]);
    assert_eq!(counters.total(), 10);
}
