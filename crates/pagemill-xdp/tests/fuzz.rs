//! Runs the code of the fuzz targets with random and mutated bytes, without a nightly toolchain.
#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "helpers of tests are tests, which tell their seeds"
)]

#[path = "common/random.rs"]
mod random;
#[expect(unreachable_pub, reason = "another crate has it as a library")]
#[path = "../../../fuzz/src/xdp.rs"]
mod xdp;

use random::Random;

/// Returns up to `max` bytes, often those that lengths go wrong at.
fn bytes(random: &mut Random, max: usize) -> Vec<u8> {
    let len = random.below(max);
    let byte = |random: &mut Random| match random.below(4) {
        0 => 0,
        1 => [0xff, 0x7f, 0x80, 0x81, 0x45, 0x60][random.below(6)],
        2 => random.below(12) as u8,
        _ => random.next() as u8,
    };
    (0..len).map(|_| byte(random)).collect()
}

#[test]
fn packets_are_judged_by_their_headers_alone() {
    for seed in Random::seeds(4) {
        let mut random = Random::new(seed);
        for _ in 0..10_000 {
            xdp::packet(&bytes(&mut random, 200));
        }
    }
}

#[test]
fn whatever_is_said_of_frames_none_is_lost() {
    for seed in Random::seeds(4) {
        let mut random = Random::new(seed);
        for _ in 0..500 {
            xdp::descriptors(&bytes(&mut random, 400));
        }
    }
}
