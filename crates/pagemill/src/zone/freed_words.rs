//! Freed words: a batch of frames on its way back to a zone, as bitmap words grouped by shard.

use crate::zone::pageblock::{Runs, nr_ones};

/// Freed frames of one word of a pageblock's bitmap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreedWord {
    /// Index of the pageblock within the zone.
    pub(crate) block: u32,
    word: u8,
    /// Number of one bits of `mask`.
    nr_pages: u8,
    pub(crate) mask: u64,
}

impl FreedWord {
    /// A word without frames.
    pub(crate) const NONE: Self = Self { block: 0, word: 0, nr_pages: 0, mask: 0 };

    /// Makes the word of the `nr_pages` frames of `mask`.
    #[inline]
    pub(crate) fn new(block: u32, word: usize, mask: u64, nr_pages: usize) -> Self {
        debug_assert!(nr_ones(mask) as usize == nr_pages, "{nr_pages} frames in {mask:#x}");
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a pageblock has eight words of 64 bits"
        )]
        let (word, nr_pages) = (word as u8, nr_pages as u8);
        Self { block, word, nr_pages, mask }
    }

    /// Returns the index of the word in its pageblock.
    #[inline]
    pub(crate) fn word(&self) -> usize {
        usize::from(self.word)
    }

    /// Returns the number of frames.
    #[inline]
    pub(crate) fn nr_pages(&self) -> u16 {
        u16::from(self.nr_pages)
    }
}

/// A bounded batch of freed words, chained by shard.
///
/// The capacity bounds how long a shard's lock is held.
pub(crate) struct FreedWords {
    freed_words: [FreedWord; Runs::CAPACITY],
    /// For each word, the index of the previous word of the same shard, or [`END`](Self::END).
    next: [u8; Runs::CAPACITY],
    /// For each shard, the index of its last word, or [`END`](Self::END). Has more entries than there
    /// can be shards, so that any byte is a valid index.
    chains: [u8; 256],
}

impl FreedWords {
    const END: u8 = u8::MAX;

    #[inline]
    pub(crate) fn new() -> Self {
        let freed_words = [FreedWord::NONE; Runs::CAPACITY];
        Self { freed_words, next: [Self::END; Runs::CAPACITY], chains: [Self::END; 256] }
    }

    /// Fills the batch with words and their shards from `next`, until there are no more or the batch is
    /// full.
    #[inline]
    pub(crate) fn fill(&mut self, mut next: impl FnMut() -> Option<(u8, FreedWord)>) {
        for (number, (put, before)) in (0..).zip(self.freed_words.iter_mut().zip(&mut self.next)) {
            let Some((shard, word)) = next() else { break };
            *put = word;
            // The last word first: the order of shards is random, and this way needs no branch on it.
            *before = core::mem::replace(&mut self.chains[usize::from(shard)], number);
        }
    }

    /// Yields the words of a shard; `None` if it has none.
    #[inline]
    pub(crate) fn of(&self, shard: u8) -> Option<impl Iterator<Item = FreedWord>> {
        let mut number = self.chains[usize::from(shard)];
        let words = core::iter::from_fn(move || {
            let put = *self.freed_words.get(usize::from(number))?;
            number = self.next[usize::from(number)];
            Some(put)
        });
        (number != Self::END).then_some(words)
    }
}

const _: () = assert!(Runs::CAPACITY <= FreedWords::END as usize, "words are numbered in a byte");
