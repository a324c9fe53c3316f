//! Arguments at random, by seed: structured ones with something wrong in them. What a fuzzer does
//! for hours is done here for a moment, on any toolchain.

#![expect(clippy::cast_possible_truncation, reason = "what is not as expected fails the test")]

extern crate alloc;

#[cfg(test)]
#[expect(dead_code, reason = "each test uses a part of this")]
mod common;

use std::fs;

use common::{Answer, Args, Raw, World};
use nfs3_types::nfs3::nfs_fh3;
use nfs3_types::xdr_codec::Opaque;

/// The smallest generator that will do.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A word as it may stand anywhere: small, or at a limit.
    fn word(&mut self) -> u32 {
        const LIMITS: [u32; 8] = [0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff];
        match self.below(3) {
            0 => LIMITS[self.below(8) as usize],
            1 => self.below(5000) as u32,
            _ => self.next() as u32,
        }
    }

    fn name(&mut self) -> Vec<u8> {
        const NAMES: [&[u8]; 8] = [b"a", b"b", b"d", b"..", b".", b"a/b", b"l", b"x\0"];
        match self.below(4) {
            0 => vec![b'n'; self.below(300) as usize],
            _ => NAMES[self.below(8) as usize].to_vec(),
        }
    }

    /// Attributes to be set; hardly ever with rights that would end the test's own.
    fn sattr(&mut self, mut args: Args) -> Args {
        for _ in 0..3 {
            args = match self.below(6) {
                0 => args.u32(1).u32(0o700),
                _ => args.u32(0),
            };
        }
        args = match self.below(4) {
            0 => args.u32(1).u64(self.next() >> self.below(64)),
            _ => args.u32(0),
        };
        for _ in 0..2 {
            args = match self.below(3) {
                0 => args.u32(2).u32(self.word()).u32(self.word()),
                which => args.u32(which as u32 - 1),
            };
        }
        args
    }

    fn args(&mut self, proc: u32, fhs: &[nfs_fh3]) -> Args {
        let fh = &fhs[self.below(fhs.len() as u64) as usize];
        let args = Args::fh(fh);
        match proc {
            2 => self.sattr(args).u32(0),
            3 | 12 | 13 => args.opaque(&self.name()),
            4 => args.u32(self.word()),
            6 | 21 => args.u64(self.next() >> self.below(64)).u32(self.word()),
            7 => {
                let data = vec![7; self.below(10_000) as usize];
                let offset = self.next() >> (30 + self.below(34));
                args.u64(offset).u32(data.len() as u32).u32(self.below(4) as u32).opaque(&data)
            }
            8 => {
                let args = args.opaque(&self.name()).u32(self.below(3) as u32);
                self.sattr(args)
            }
            9 => {
                let args = args.opaque(&self.name());
                self.sattr(args)
            }
            10 => {
                let args = args.opaque(&self.name());
                self.sattr(args).opaque(&self.name())
            }
            11 => {
                let args = args.opaque(&self.name()).u32(6 + self.below(2) as u32);
                self.sattr(args)
            }
            14 => {
                let to = &fhs[self.below(fhs.len() as u64) as usize];
                args.opaque(&self.name()).opaque(&to.data).opaque(&self.name())
            }
            15 => {
                let to = &fhs[self.below(fhs.len() as u64) as usize];
                args.opaque(&to.data).opaque(&self.name())
            }
            16 => args.u64(self.next() >> self.below(64)).u64(0).u32(self.word()),
            17 => args.u64(self.next() >> self.below(64)).u64(0).u32(self.word()).u32(self.word()),
            _ => args,
        }
    }

    /// Damages some calls, and leaves others as they are.
    fn damage(&mut self, args: &mut Vec<u8>) {
        match self.below(6) {
            0 if !args.is_empty() => {
                let at = self.below(args.len() as u64) as usize;
                args[at] ^= 1 << self.below(8);
            }
            1 => args.truncate(self.below(args.len() as u64 + 1) as usize),
            2 if args.len() >= 4 => {
                let at = self.below(args.len() as u64 / 4) as usize * 4;
                args[at..at + 4].copy_from_slice(&self.word().to_be_bytes());
            }
            3 => args.extend((0..self.below(64)).map(|at| at as u8)),
            _ => {}
        }
    }
}

/// The handles in the results of some calls, which go on to be used.
fn learn(fhs: &mut Vec<nfs_fh3>, proc: u32, results: &[u8]) {
    let at = match proc {
        3 => 4,
        8..=11 => 8,
        _ => return,
    };
    let word = |at: usize| Some(u32::from_be_bytes(results.get(at..at + 4)?.try_into().ok()?));
    if word(0) != Some(0) {
        return;
    }
    if let Some(len) = word(at)
        && let Some(bytes) = results.get(at + 4..at + 4 + len as usize)
        && fhs.len() < 64
    {
        fhs.push(nfs_fh3 { data: Opaque::owned(bytes.to_vec()) });
    }
}

#[test]
fn no_call_stops_the_server_or_leaves_the_export() {
    let seeds = match std::env::var("PAGEMILL_SEED") {
        Ok(seed) => vec![seed.parse().expect("PAGEMILL_SEED is a number")],
        Err(_) => (1..=4).collect(),
    };
    for seed in seeds {
        let world = World::new();
        fs::write(world.dir.path().join("outside"), "untouched").unwrap();
        std::os::unix::fs::symlink("..", world.path().join("l")).unwrap();
        let mut fhs = vec![world.root()];
        let mut raw = Raw::new(&world);
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for step in 0..4000 {
            let proc = rng.below(23) as u32;
            let mut args = rng.args(proc, &fhs).0;
            rng.damage(&mut args);
            match raw.nfs(proc, &args) {
                Answer::Results(results) => learn(&mut fhs, proc, &results),
                Answer::Refused(words) => assert!(matches!(words[4], 3 | 4), "{words:?}"),
                Answer::Closed => panic!("PAGEMILL_SEED={seed}, step {step}: closed"),
            }
        }
        let beside: Vec<_> = fs::read_dir(world.dir.path()).unwrap().collect();
        assert_eq!(beside.len(), 2, "PAGEMILL_SEED={seed}: something was made outside");
        let outside = fs::read_to_string(world.dir.path().join("outside")).unwrap();
        assert_eq!(outside, "untouched", "PAGEMILL_SEED={seed}");
    }
}
