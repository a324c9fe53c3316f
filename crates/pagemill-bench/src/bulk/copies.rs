//! Copies of handles: the limit of the measurements.

use core::hint::black_box;

/// Copies between two arrays of handles: a lower limit for any allocator that returns handles.
#[derive(Debug)]
pub struct Copies {
    /// Both arrays, and the words before and between them.
    words: Vec<u64>,
    /// Index of the first array, at the start of a cache line.
    start: usize,
    /// Distance from the start of one array to that of the other.
    distance: usize,
    n: usize,
}

/// Handles in a cache line of 64 bytes.
const LINE_WORDS: usize = 8;
/// Handles in 4 KiB: a CPU may take a load at a multiple of this distance from a store for one of the
/// same address, and delay it.
const ALIASING_WORDS: usize = 512;

impl Copies {
    /// Makes two arrays of `n` handles, placed so that copying is as fast as possible.
    pub fn new(n: usize) -> Self {
        let distance = n.next_multiple_of(ALIASING_WORDS) + ALIASING_WORDS / 2 + LINE_WORDS;
        let words: Vec<u64> = (0..).take(LINE_WORDS + distance + n).collect();
        let past_line = words.as_ptr().addr() / size_of::<u64>() % LINE_WORDS;
        Self { words, start: (LINE_WORDS - past_line) % LINE_WORDS, distance, n }
    }

    /// Copies all handles to the other array and back, `times` times.
    #[inline(never)]
    pub fn there_and_back(&mut self, times: usize) {
        let (here, there) = self.arrays();
        for _ in 0..times {
            // The compiler must assume that each array is read, and written, after each copy.
            there.copy_from_slice(here);
            black_box(there.as_mut_ptr());
            here.copy_from_slice(there);
            black_box(here.as_mut_ptr());
        }
    }

    fn arrays(&mut self) -> (&mut [u64], &mut [u64]) {
        let (here, there) = self.words[self.start..].split_at_mut(self.distance);
        (&mut here[..self.n], &mut there[..self.n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_arrive_and_return() {
        for n in [1, 5, 512] {
            let mut copies = Copies::new(n);
            copies.there_and_back(2);
            let (here, there) = copies.arrays();
            assert_eq!(here.len(), n);
            assert_eq!(here, there);
            assert!(here.as_ptr().addr().is_multiple_of(64));
        }
    }
}
