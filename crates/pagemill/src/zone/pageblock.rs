//! Pageblock bitmap: which of its 512 frames are free, in one cache line; find, take and free blocks.
//!
//! There are no free lists by order and nothing to merge: a block of order n is free exactly if its 2^n
//! bits are set. Splitting a block clears bits, and merging sets them.

use crate::base::units::{Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};

/// Number of frames in one word of a bitmap.
pub(crate) const WORD_NR_PAGES: usize = u64::BITS as usize;
const NR_WORDS: usize = PAGEBLOCK_NR_PAGES / WORD_NR_PAGES;
const WORD_ORDER: u8 = 6;
const _: () = assert!(1 << WORD_ORDER == WORD_NR_PAGES);

/// Bits at the multiples of 2^n, for n from 0 to 6.
const ALIGNED: [u64; WORD_ORDER as usize + 1] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    0x0000_0000_0000_0001,
];

/// The free frames of one pageblock, one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Bitmap {
    words: [u64; NR_WORDS],
}

impl Bitmap {
    pub(crate) const EMPTY: Self = Self { words: [0; NR_WORDS] };

    /// Returns the order of the largest free block, or `None` if no frame is free.
    #[inline]
    pub(crate) fn largest_order(&self) -> Option<Order> {
        let full = self.full_words();
        if full != 0 {
            return Some(order(WORD_ORDER + largest_run_order(full)));
        }
        let mut words = self.words;
        if words.iter().all(|&word| word == 0) {
            return None;
        }
        for exponent in 0..WORD_ORDER {
            let mut any = 0;
            for word in &mut words {
                *word = pair_up(*word, exponent);
                any |= *word;
            }
            if any == 0 {
                return Some(order(exponent));
            }
        }
        unreachable!("no word is full")
    }

    /// Returns the order of the largest free block that lies in or covers word `index`.
    #[inline]
    pub(crate) fn largest_order_at(&self, index: usize) -> Option<Order> {
        let mut word = self.words[index];
        if word == 0 {
            return None;
        }
        if word == u64::MAX {
            // Merges upwards from the order of a word, as buddies merge.
            let full = self.full_words();
            let mut exponent = 0;
            while exponent < 3 {
                let run = (1_u8 << (1 << exponent)) - 1;
                let buddy = (index >> exponent ^ 1) << exponent;
                if full >> buddy & run != run {
                    break;
                }
                exponent += 1;
            }
            return Some(order(WORD_ORDER + exponent));
        }
        let mut exponent = 0;
        loop {
            word = pair_up(word, exponent);
            if word == 0 {
                return Some(order(exponent));
            }
            exponent += 1;
        }
    }

    /// Returns the first frame of the smallest free block of at least order `wanted`.
    pub(crate) fn find(&self, wanted: Order) -> Option<usize> {
        let mut exponent = wanted.value();
        // Blocks smaller than a word are in words that are not full; those are searched once per order.
        let mut runs = self.words.map(|word| match word {
            u64::MAX => 0,
            word => runs_of(word, exponent.min(WORD_ORDER)),
        });
        while exponent < WORD_ORDER && runs.iter().any(|&word| word != 0) {
            for (index, word) in runs.iter_mut().enumerate() {
                let (alone, larger) = maximal_runs(*word, exponent);
                if alone != 0 {
                    return Some(index * WORD_NR_PAGES + alone.trailing_zeros() as usize);
                }
                *word = larger;
            }
            exponent += 1;
        }
        let above = exponent.max(WORD_ORDER)..=PAGEBLOCK_ORDER.value();
        above.into_iter().find_map(|exponent| self.maximal_blocks(order(exponent)).next())
    }

    /// Yields the first frame of each free block of `order` that is not part of a larger one.
    pub(crate) fn maximal_blocks(&self, order: Order) -> impl Iterator<Item = usize> + use<> {
        // From the order of a word on, one bit stands for one full word.
        let (words, unit, exponent) = match order.value().checked_sub(WORD_ORDER) {
            None => (self.words, 1, order.value()),
            Some(above) => {
                let mut words = [0; NR_WORDS];
                words[0] = u64::from(self.full_words());
                (words, WORD_NR_PAGES, above)
            }
        };
        words.into_iter().enumerate().flat_map(move |(index, word)| {
            let (alone, _) = maximal_runs(runs_of(word, exponent), exponent);
            ones(alone).map(move |bit| (index * WORD_NR_PAGES + bit) * unit)
        })
    }

    /// Returns whether no frame of the block at `at` is free.
    #[inline]
    pub(crate) fn is_used(&self, at: usize, order: Order) -> bool {
        block_words(at, order).all(|(index, mask)| self.words[index] & mask == 0)
    }

    /// Marks all frames of the block at `at` as used.
    #[inline]
    pub(crate) fn clear(&mut self, at: usize, order: Order) {
        for (index, mask) in block_words(at, order) {
            self.words[index] &= !mask;
        }
    }

    /// Marks all frames of the block at `at` as free.
    #[inline]
    pub(crate) fn set(&mut self, at: usize, order: Order) {
        for (index, mask) in block_words(at, order) {
            self.words[index] |= mask;
        }
    }

    /// Takes up to `nr` free frames from word `index` and returns them as a mask.
    #[inline]
    pub(crate) fn take_from_word(&mut self, index: usize, nr: u32) -> u64 {
        let word = self.words[index];
        let taken = if nr_ones(word) <= nr { word } else { lowest_ones(word, nr) };
        self.words[index] = word & !taken;
        taken
    }

    /// Returns word `index`.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words[index]
    }

    /// Marks the frames of `mask` in word `index` as free, and returns the new word.
    ///
    /// # Errors
    /// If one of them is already free; nothing has changed then.
    #[inline]
    pub(crate) fn put_into_word(&mut self, index: usize, mask: u64) -> Result<u64, ()> {
        debug_assert!(index < NR_WORDS, "word {index}");
        let word = &mut self.words[index % NR_WORDS];
        if *word & mask != 0 {
            return Err(());
        }
        *word |= mask;
        Ok(*word)
    }

    /// Replaces word `index` by the result of `change`.
    #[inline]
    pub(crate) fn change_word(&mut self, index: usize, change: impl FnOnce(u64) -> u64) {
        self.words[index] = change(self.words[index]);
    }

    #[inline]
    pub(crate) fn nr_free(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Yields the indexes of the words, in ascending order.
    pub(crate) fn word_indexes() -> core::ops::Range<usize> {
        0..NR_WORDS
    }

    /// Returns one bit for each word whose frames are all free.
    #[inline]
    fn full_words(&self) -> u8 {
        self.words
            .iter()
            .enumerate()
            .fold(0, |full, (index, &word)| full | u8::from(word == u64::MAX) << index)
    }
}

/// Returns whether the frames of `mask`, just freed in `word`, may have made a free block of an order
/// above `exponent` where there was none. False means that they have not.
///
/// # Cost
/// One comparison if the frames are close together, and no unpredictable branch.
#[inline]
pub(crate) fn may_make_larger(word: u64, mask: u64, exponent: u8) -> bool {
    // Masks of the part of a word that a larger block covers, and of the position bits that select it.
    const BLOCKS: [(u64, u32); 16] = {
        let mut blocks = [(u64::MAX, 0); 16];
        let mut exponent = 0;
        while exponent < WORD_ORDER as usize {
            let nr_pages = 2 << exponent;
            blocks[exponent] =
                (u64::MAX >> (u64::BITS - nr_pages), (u64::BITS - 1) & !(nr_pages - 1));
            exponent += 1;
        }
        blocks
    };
    debug_assert!(exponent < PAGEBLOCK_ORDER.value(), "order {exponent}");
    let (ones, which) = BLOCKS[usize::from(exponent % 16)];
    let block = ones.wrapping_shl(mask.trailing_zeros() & which);
    if mask & !block == 0 {
        return word & block == block;
    }
    (0..=exponent).fold(word, pair_up) != 0
}

/// Yields the positions of the one bits of `mask`, in ascending order.
#[inline]
pub(crate) fn ones(mask: u64) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    core::iter::from_fn(move || {
        let position = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some(position)
    })
}

/// Returns a frame's position in its pageblock.
#[inline]
pub(crate) const fn position_in_block(pfn: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "nine bits")]
    let position = (pfn & (PAGEBLOCK_NR_PAGES as u64 - 1)) as usize;
    position
}

/// Returns the index of the word of a frame in its pageblock's bitmap.
#[inline]
pub(crate) const fn word_in_block(pfn: u64) -> usize {
    position_in_block(pfn) / WORD_NR_PAGES
}

/// Returns the number of one bits of `mask`.
#[inline]
pub(crate) fn nr_ones(mask: u64) -> u32 {
    // The two usual cases first: without a population count instruction, counting takes 20
    // instructions.
    match mask {
        u64::MAX => u64::BITS,
        _ if mask & mask.wrapping_sub(1) == 0 => u32::from(mask != 0),
        _ => mask.count_ones(),
    }
}

/// Returns the lowest `nr` one bits of `word`, which has more than `nr`.
#[inline]
fn lowest_ones(word: u64, nr: u32) -> u64 {
    if word == u64::MAX {
        return (1 << nr) - 1;
    }
    let mut rest = word;
    for _ in 0..nr {
        rest &= rest.wrapping_sub(1);
    }
    word & !rest
}

/// Returns the bits that start a run of 2^(exponent+1) ones, given those that start one of 2^exponent.
#[inline]
fn pair_up(runs: u64, exponent: u8) -> u64 {
    runs & runs >> (1_u32 << exponent) & ALIGNED[usize::from(exponent) + 1]
}

/// Returns the bits that start an aligned run of 2^exponent ones.
#[inline]
fn runs_of(word: u64, exponent: u8) -> u64 {
    (0..exponent).fold(word, pair_up)
}

/// Splits the bits that start a run of 2^exponent: those whose run is not half of a larger one, and the
/// bits that start the larger runs.
#[inline]
fn maximal_runs(runs: u64, exponent: u8) -> (u64, u64) {
    if exponent == WORD_ORDER {
        return (runs, 0);
    }
    let larger = pair_up(runs, exponent);
    (runs & !(larger | larger << (1_u32 << exponent)), larger)
}

/// Returns the order of the largest aligned run of ones in a byte that is not zero.
#[inline]
fn largest_run_order(byte: u8) -> u8 {
    let pairs = byte & byte >> 1 & 0x55;
    let quads = pairs & pairs >> 2 & 0x11;
    u8::from(pairs != 0) + u8::from(quads != 0) + u8::from(quads == 0x11)
}

/// Yields each word that the block at `at` touches, with the block's bits in that word.
#[inline]
fn block_words(at: usize, order: Order) -> impl Iterator<Item = (usize, u64)> {
    let nr_pages = order.nr_pages();
    debug_assert!(at.is_multiple_of(nr_pages) && at + nr_pages <= PAGEBLOCK_NR_PAGES);
    let (nr_words, mask) = if nr_pages < WORD_NR_PAGES {
        (1, ((1 << nr_pages) - 1) << (at % WORD_NR_PAGES))
    } else {
        (nr_pages / WORD_NR_PAGES, u64::MAX)
    };
    let first = at / WORD_NR_PAGES;
    (first..first + nr_words).map(move |index| (index, mask))
}

#[inline]
fn order(exponent: u8) -> Order {
    Order::new(exponent).expect("a run within a pageblock has at most the pageblock's order")
}

const _: () = assert!(size_of::<Bitmap>() == 64);

#[cfg(test)]
mod tests;
