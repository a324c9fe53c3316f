//! What the fuzz targets do, with random and mutated bytes: the same code as under the fuzzer, for
//! machines without a nightly toolchain.

#[expect(unreachable_pub, reason = "another crate has it as a library")]
#[path = "../../../fuzz/src/status.rs"]
mod status;

use pagemill_status::sections::{Column, Table};
use pagemill_status::{Section, Status, Unit};

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

    /// Changes, cuts or lengthens `bytes` here and there.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        const BYTES: &[u8] = b"\"\\{}[],:0123456789-+eEtn \n\x00\x1b\x7f\xc2\x9b\xffu";
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), BYTES[self.below(BYTES.len())]),
                2 => bytes.extend_from_slice(b"\\u001b"),
                _ if at < bytes.len() => bytes[at] = BYTES[self.below(BYTES.len())],
                _ => {}
            }
        }
        bytes
    }
}

fn body() -> Vec<u8> {
    let mut table = Table::new("t", ["a"], [Column::counter("n", Unit::Bytes)]);
    table.push(["\u{1b}[31m".to_owned()], [1]);
    let status = Status::of("p\u{9b}", "1").section(move || {
        Section::new("s", "S\n").gauge("g\u{7f}", Unit::Micros, u64::MAX).table(table.clone())
    });
    serde_json::to_vec(&status.snapshot()).expect("it is JSON")
}

#[test]
fn no_request_is_read_in_two_ways() {
    let mut random = Random::new();
    for _ in 0..ROUNDS {
        status::status_request(&random.mutate(b"pagemill-status 1\nsnapshot\n"));
        status::status_request(&random.mutate(b"pagemill-status 77\nsomething else\n"));
    }
}

#[test]
fn whatever_a_reply_is_no_text_takes_over_the_terminal() {
    let mut random = Random::new();
    let body = body();
    let head = format!("pagemill-status 1 ok {}\n", body.len());
    let reply = [head.as_bytes(), &body].concat();
    status::status_reply(&reply);
    status::status_body(&body);
    for _ in 0..ROUNDS {
        status::status_reply(&random.mutate(&reply));
        status::status_reply(&random.mutate(b"pagemill-status 1 error 12\nnot today\x1b[2J"));
        status::status_body(&random.mutate(&body));
    }
}
