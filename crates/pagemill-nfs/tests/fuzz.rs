//! What the fuzz targets do, with random bytes: the same code as under the fuzzer, for whoever has
//! no nightly toolchain.

extern crate alloc;

#[expect(unreachable_pub, reason = "another crate has it as a library")]
#[path = "../../../fuzz/src/nfs.rs"]
mod nfs;

struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("PAGEMILL_SEED").ok().and_then(|seed| seed.parse().ok());
        Self(seed.unwrap_or(0x5eed))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("a byte")
    }
}

/// The pieces of each procedure's arguments, of which most are kept: see `nfs3_args`.
const SHAPES: [(u8, &[u8]); 21] = [
    (1, &[0]),
    (2, &[0, 48, 48, 48, 48, 48, 48, 48]),
    (3, &[0, 32]),
    (4, &[0, 56]),
    (5, &[0]),
    (6, &[0, 48, 56, 56]),
    (7, &[0, 48, 48, 52, 48, 35]),
    (8, &[0, 37, 48, 48, 48, 48, 48, 48, 48]),
    (9, &[0, 37, 48, 48, 48, 48, 48, 48]),
    (10, &[0, 37, 48, 48, 48, 48, 48, 48, 39]),
    (11, &[0, 37, 55, 48, 48, 48, 48, 48, 48]),
    (12, &[0, 37]),
    (13, &[0, 37]),
    (14, &[0, 37, 1, 38]),
    (15, &[1, 0, 38]),
    (16, &[0, 48, 48, 48, 48, 56]),
    (17, &[0, 48, 48, 48, 48, 56, 56]),
    (18, &[0]),
    (19, &[0]),
    (20, &[0]),
    (21, &[0, 48, 48, 48]),
];

#[test]
fn arguments_of_every_procedure_are_survived() {
    let mut random = Random::new();
    for _ in 0..6000 {
        let (proc, shape) = SHAPES[random.below(SHAPES.len())];
        let mut data = vec![if random.below(20) == 0 { random.byte() } else { proc }];
        for &piece in shape {
            data.push(match (random.below(8), piece) {
                (0, _) => random.byte(),
                (1, _) => continue,
                (_, 0..32) => u8::try_from(random.below(32)).expect("below 32"),
                (_, 32..40) => 32 + u8::try_from(random.below(8)).expect("below 8"),
                (_, piece) => piece,
            });
        }
        nfs::nfs3_args(&data);
    }
}

#[test]
fn exports_are_read_whatever_is_written() {
    const WORDS: [&str; 16] = [
        "/srv",
        " ",
        "\n",
        "*",
        "(rw",
        ")",
        ",",
        "anonuid=",
        "7",
        "10.0.0.0/8",
        "\\",
        "040",
        "\"",
        "#",
        "-ro",
        ":rw,client=",
    ];
    let mut random = Random::new();
    for _ in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..random.below(12) {
            match random.below(12) {
                0 => text.push(random.byte()),
                _ => text.extend_from_slice(WORDS[random.below(WORDS.len())].as_bytes()),
            }
        }
        nfs::exports(&text);
    }
}
