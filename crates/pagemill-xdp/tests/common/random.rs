//! Random choices that a seed repeats.

/// Random choices that a seed repeats.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the one seed that `PAGEMILL_SEED` names, or `nr` of them; prints each.
    pub(crate) fn seeds(nr: u64) -> impl Iterator<Item = u64> {
        let one = std::env::var("PAGEMILL_SEED").ok().and_then(|seed| seed.parse().ok());
        let range = one.map_or(0..nr, |seed: u64| seed..seed + 1);
        range.inspect(|seed| println!("PAGEMILL_SEED={seed}"))
    }

    pub(crate) fn next(&mut self) -> u64 {
        // Vigna's splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
