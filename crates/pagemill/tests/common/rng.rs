//! Random numbers that come again with their seed.

/// A xorshift generator.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// Starts from `seed`; similar seeds do not give similar numbers.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1));
        for _ in 0..8 {
            rng.next();
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize has at most 64 bits");
        usize::try_from((self.next() >> 16) % end).expect("below a usize")
    }

    /// Returns true in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Returns a position, each as likely as its weight says.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
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
