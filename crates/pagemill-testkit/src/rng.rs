//! Random number generator whose sequence depends only on the seed.

/// A xorshift generator: our own, because a seed must always give the same numbers.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts from `seed`; similar seeds do not give similar numbers.
    pub fn new(seed: u64) -> Self {
        let mut rng = Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1));
        for _ in 0..8 {
            rng.next_u64();
        }
        rng
    }

    /// Returns any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`.
    ///
    /// # Panics
    /// If `end` is zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize has at most 64 bits");
        usize::try_from((self.next_u64() >> 16) % end).expect("below a usize")
    }

    /// Returns true in `percent` of all cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns one of `choices`.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Returns a position, with a probability proportional to its weight.
    ///
    /// # Panics
    /// If the sum of the weights is zero.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (position, &weight) in weights.iter().enumerate() {
            if at < weight {
                return position;
            }
            at -= weight;
        }
        unreachable!("below the sum of the weights")
    }
}
