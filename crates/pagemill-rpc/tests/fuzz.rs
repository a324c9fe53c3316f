//! What the fuzz targets do, with random and mutated bytes: the same code as under the fuzzer, for
//! whoever has no nightly toolchain.

#[expect(unreachable_pub, reason = "another crate has it as a library")]
#[path = "../../../fuzz/src/rpc.rs"]
mod rpc;

const ROUNDS: u32 = 20_000;

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
        // Small numbers and the ends of the range are what lengths go wrong at.
        match self.below(4) {
            0 => 0,
            1 => [0xff, 0x7f, 0x80, 1, 4][self.below(5)],
            2 => u8::try_from(self.below(12)).expect("small"),
            _ => u8::try_from(self.below(256)).expect("a byte"),
        }
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max)).map(|_| self.byte()).collect()
    }

    /// Changes, cuts or lengthens `bytes` here and there.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.below(5) {
            let at = self.below(bytes.len().max(1));
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.extend(self.bytes(40)),
                _ if at < bytes.len() => bytes[at] = self.byte(),
                _ => {}
            }
        }
        bytes
    }
}

#[test]
fn xdr_reads_the_same_however_it_is_cut() {
    let mut random = Random::new();
    for _ in 0..ROUNDS {
        rpc::xdr(&random.bytes(200));
    }
}

#[test]
fn records_are_the_same_however_they_come() {
    let mut random = Random::new();
    for _ in 0..ROUNDS {
        let mut stream = vec![random.byte()];
        for _ in 0..random.below(8) {
            let data = random.bytes(20);
            let last = if random.below(2) == 0 { 0x80 } else { 0 };
            stream.extend([last, 0, 0, u8::try_from(data.len()).expect("small")]);
            stream.extend(data);
        }
        rpc::record_marking(&random.mutate(&stream));
    }
}

#[test]
fn any_message_has_a_proper_reply_or_none() {
    let mut random = Random::new();
    for _ in 0..ROUNDS {
        let proc = u8::try_from(random.below(5)).expect("small");
        let mut message = Vec::new();
        for word in [9, 0, 2, 0, 1, proc, 0, 0, 0, 0] {
            message.extend([0, 0, 0, word]);
        }
        message.extend(random.bytes(60));
        rpc::rpc_call(&random.mutate(&message));
    }
}
