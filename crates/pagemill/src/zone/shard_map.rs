//! Shard map: which shard of a zone a pageblock is in, and where each shard begins.

use crate::config::config::Config;

/// Maximum number of shards of a zone.
const MAX_NR_SHARDS: usize = Config::NR_ZONE_SHARDS_MAX as usize;

/// Where the shards of a zone begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardMap {
    /// Pageblocks per shard except the last one, give or take one that keeps a pair together.
    nr_blocks: Divisor,
    /// First pageblock of each shard: its index times `nr_blocks`, or one more.
    first_blocks: [u32; MAX_NR_SHARDS],
}

impl ShardMap {
    /// # Shape
    /// `first_block` returns the first pageblock of each of the `nr_shards` shards of `nr_blocks`.
    pub(crate) fn new(
        nr_blocks: u32,
        nr_shards: usize,
        first_block: impl Fn(usize) -> u32,
    ) -> Self {
        let mut first_blocks = [u32::MAX; MAX_NR_SHARDS];
        for (shard, first) in first_blocks[..nr_shards].iter_mut().enumerate() {
            *first = first_block(shard);
        }
        Self { nr_blocks: Divisor::new(nr_blocks), first_blocks }
    }

    /// Returns the shard of a pageblock of the zone.
    #[inline]
    pub(crate) fn shard(&self, block: u32) -> u8 {
        // There are at most as many as `first_blocks` has, so the cast does not truncate.
        let shard = self.nr_blocks.quotient(block) as usize;
        debug_assert!(shard < MAX_NR_SHARDS, "pageblock {block} is not of the zone");
        let shard = shard % MAX_NR_SHARDS;
        // No branch: the next pageblock may be random, which no branch predictor guesses.
        let is_before = u8::from(block < self.first_blocks[shard]);
        #[expect(clippy::cast_possible_truncation, reason = "MAX_NR_SHARDS")]
        (shard as u8).wrapping_sub(is_before)
    }
}

/// A divisor with its precomputed reciprocal, for divisions on hot paths.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    /// (2^64 - 1) / n, rounded down, for the divisor n: so it is (2^64 - e) / n with an e from 1 to n.
    ///
    /// For a dividend d of 32 bits, the reciprocal times (d + 1), divided by 2^64, is (d + 1) / n less
    /// something above zero and at most 2^-32, and 2^-32 is at most 1 / n. So it is below (d + 1) / n
    /// and at least d / n; rounded down, it is the quotient of d.
    reciprocal: u64,
}

impl Divisor {
    /// # Panics
    /// If it is zero.
    const fn new(number: u32) -> Self {
        Self { reciprocal: u64::MAX / number as u64 }
    }

    #[inline]
    const fn quotient(self, dividend: u32) -> u32 {
        // No overflow: the increment is of a 32-bit value, and the product has at most 97 bits.
        let successor = (dividend as u128).wrapping_add(1);
        #[expect(clippy::cast_possible_truncation, reason = "no larger than the dividend")]
        let quotient = ((self.reciprocal as u128).wrapping_mul(successor) >> 64) as u32;
        quotient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotient_is_the_one_of_a_division() {
        let close_to = |number: u32| [number.wrapping_sub(1), number, number.wrapping_add(1)];
        let numbers: alloc::vec::Vec<u32> = (0..32)
            .step_by(if cfg!(miri) { 8 } else { 1 })
            .flat_map(|bit| close_to(1 << bit))
            .chain([3, 641, 1_000_003, u32::MAX])
            .collect();
        for &number in numbers.iter().filter(|&&number| number > 0) {
            let divisor = Divisor::new(number);
            let multiples = (1..=4).chain([u32::MAX / number]).map(|n| number.wrapping_mul(n));
            for dividend in multiples.flat_map(close_to).chain(numbers.iter().copied()) {
                assert_eq!(divisor.quotient(dividend), dividend / number, "{dividend} by {number}");
            }
        }
    }
}
