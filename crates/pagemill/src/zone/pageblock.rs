//! Pageblock bitmap: which of its 512 frames are free, in one cache line; find, take and free blocks.
//!
//! There are no free lists by order and nothing to merge: a block of order n is free exactly if its 2^n
//! bits are set. Splitting a block clears bits, and merging sets them.

use core::ops::Range;

use crate::base::units::{MAX_ORDER, Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};

/// Number of frames in one word of a bitmap.
pub(crate) const WORD_NR_PAGES: usize = u64::BITS as usize;
const NR_WORDS: usize = PAGEBLOCK_NR_PAGES / WORD_NR_PAGES;
const WORD_ORDER: u8 = 6;
/// The order of half a pageblock.
pub(crate) const HALF_PAGEBLOCK: Order = match Order::new(PAGEBLOCK_ORDER.value() - 1) {
    Ok(order) => order,
    Err(_) => unreachable!(),
};
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

/// Number of runs of free frames above which it is cheaper to single out the long ones first.
const MANY_RUNS: u32 = 24;

impl Bitmap {
    pub(crate) const EMPTY: Self = Self { words: [0; NR_WORDS] };

    /// Returns the order of the largest free block, or `None` if no frame is free.
    #[inline]
    pub(crate) fn largest_order(&self) -> Option<Order> {
        let full = self.full_words();
        if full != 0 {
            return Some(order(WORD_ORDER + largest_run_order(full)));
        }
        // The smallest order of which no block was found. Most words are empty, and of each other word
        // only blocks that would be the largest so far are looked for.
        let mut absent = 0;
        for &word in self.words.iter().filter(|&&word| word != 0) {
            let mut runs = runs_of(word, absent);
            while runs != 0 {
                runs = pair_up(runs, absent);
                absent += 1;
            }
        }
        absent.checked_sub(1).map(order)
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

    /// Returns the first frame and the order of the smallest free block of at least order `wanted`; of
    /// several, the lowest.
    ///
    /// # Cost
    /// One or two comparisons per word that is empty or full. In any other word, three operations per
    /// order below `wanted`, and the search ends with the first block of exactly that order.
    #[inline]
    pub(crate) fn find(&self, wanted: Order) -> Option<(usize, Order)> {
        let exponent = wanted.value();
        if exponent >= WORD_ORDER {
            return find_words(self.full_words(), exponent - WORD_ORDER);
        }
        let (mut full, mut with_larger) = (0_u8, 0_u8);
        for (index, &word) in self.words.iter().enumerate() {
            // Empty and full words by one comparison.
            if word.wrapping_add(1) <= 1 {
                full |= u8::from(word != 0) << index;
                continue;
            }
            let runs = runs_of(word, exponent);
            let (alone, larger) = maximal_runs(runs, exponent);
            if alone != 0 {
                return Some((index * WORD_NR_PAGES + alone.trailing_zeros() as usize, wanted));
            }
            with_larger |= u8::from(larger != 0) << index;
        }
        if with_larger == 0 {
            find_words(full, 0)
        } else {
            self.find_larger(exponent + 1, with_larger)
        }
    }

    /// Returns the lowest of the smallest free blocks that are smaller than a word, at least
    /// 2^`exponent` frames long, and in the words of `which`.
    #[inline(never)]
    fn find_larger(&self, exponent: u8, which: u8) -> Option<(usize, Order)> {
        let mut best = None;
        for index in ones(which.into()) {
            let Some((bit, size)) = smallest_run(self.words[index % NR_WORDS], exponent) else {
                continue;
            };
            if best.is_none_or(|(_, best)| size < best) {
                best = Some((index * WORD_NR_PAGES + bit, size));
                if size == exponent {
                    break;
                }
            }
        }
        best.map(|(at, size)| (at, order(size)))
    }

    /// Adds the number of free blocks of each order to `counts`; each frame is counted once, in its
    /// largest free block.
    pub(crate) fn count_blocks(&self, counts: &mut [u64; MAX_ORDER.value() as usize + 1]) {
        let (parts, wholes) = counts.split_at_mut(usize::from(WORD_ORDER));
        for &word in self.words.iter().filter(|&&word| word != u64::MAX) {
            count_runs(word, parts);
        }
        count_runs(self.full_words().into(), wholes);
    }

    /// Marks all frames of the block at `at` as used.
    #[inline]
    pub(crate) fn clear(&mut self, at: usize, order: Order) {
        let index = at / WORD_NR_PAGES;
        match order.value().checked_sub(WORD_ORDER) {
            None => self.words[index % NR_WORDS] &= !block_mask(at, order),
            Some(0) => self.words_at::<1>(index).fill(0),
            Some(1) => self.words_at::<2>(index).fill(0),
            Some(2) => self.words_at::<4>(index).fill(0),
            Some(_) => self.words.fill(0),
        }
    }

    /// Marks all frames of the block at `at` as free, and returns the new word of its first frame and
    /// the block's bits there.
    ///
    /// # Errors
    /// If one of them is already free; nothing has changed then.
    #[inline]
    pub(crate) fn put(&mut self, at: usize, order: Order) -> Result<(u64, u64), ()> {
        let index = at / WORD_NR_PAGES;
        match order.value().checked_sub(WORD_ORDER) {
            None => {
                let mask = block_mask(at, order);
                return Ok((self.put_into_word(index, mask)?, mask));
            }
            Some(0) => put_words(self.words_at::<1>(index))?,
            Some(1) => put_words(self.words_at::<2>(index))?,
            Some(2) => put_words(self.words_at::<4>(index))?,
            Some(_) => put_words(&mut self.words)?,
        }
        Ok((u64::MAX, u64::MAX))
    }

    /// Returns the `N` words, aligned to their number, of which `index` is the first.
    #[inline]
    fn words_at<const N: usize>(&mut self, index: usize) -> &mut [u64; N] {
        debug_assert!(index < NR_WORDS && index.is_multiple_of(N), "word {index}");
        &mut self.words.as_chunks_mut::<N>().0[index / N % (NR_WORDS / N)]
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

    /// Returns the first position in `part` whose frame is free, or whose frame is in use if `used`.
    #[inline]
    pub(crate) fn first(&self, used: bool, part: Range<usize>) -> Option<usize> {
        let flip = if used { u64::MAX } else { 0 };
        part_words(part).find_map(|(index, mask)| {
            let found = (self.words[index] ^ flip) & mask;
            (found != 0).then(|| index * WORD_NR_PAGES + found.trailing_zeros() as usize)
        })
    }

    /// Marks the frames at positions `part` as used.
    #[inline]
    pub(crate) fn clear_part(&mut self, part: Range<usize>) {
        if part.len() == PAGEBLOCK_NR_PAGES {
            *self = Self::EMPTY;
            return;
        }
        part_words(part).for_each(|(index, mask)| self.words[index] &= !mask);
    }

    /// Marks the frames at positions `part` as free.
    #[inline]
    pub(crate) fn set_part(&mut self, part: Range<usize>) {
        if part.len() == PAGEBLOCK_NR_PAGES {
            *self = Self { words: [u64::MAX; NR_WORDS] };
            return;
        }
        part_words(part).for_each(|(index, mask)| self.words[index] |= mask);
    }

    /// Returns the number of free frames before the first one in use.
    #[inline]
    pub(crate) fn free_head(&self) -> usize {
        self.first(true, 0..PAGEBLOCK_NR_PAGES).unwrap_or(PAGEBLOCK_NR_PAGES)
    }

    /// Returns the number of free frames behind the last one in use.
    #[inline]
    pub(crate) fn free_tail(&self) -> usize {
        let used = self.words.iter().rposition(|&word| word != u64::MAX);
        used.map_or(PAGEBLOCK_NR_PAGES, |index| {
            (NR_WORDS - 1 - index) * WORD_NR_PAGES + self.words[index].leading_ones() as usize
        })
    }

    /// Yields the positions of each run of adjacent free frames, in ascending order.
    #[inline]
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        // The word at `index`, without the runs that were found already.
        let (mut index, mut word) = (0, self.words[0]);
        core::iter::from_fn(move || {
            while word == 0 {
                index += 1;
                word = *self.words.get(index)?;
            }
            let start = index * WORD_NR_PAGES + word.trailing_zeros() as usize;
            // Adding the lowest bit carries through the run to the first bit behind it.
            let mut behind = word & word.wrapping_add(word & word.wrapping_neg());
            let mut filled = word | (word & word.wrapping_neg()).wrapping_sub(1);
            while filled == u64::MAX {
                index += 1;
                filled = match self.words.get(index) {
                    Some(&next) => next,
                    None => {
                        word = 0;
                        return Some(start..PAGEBLOCK_NR_PAGES);
                    }
                };
                behind = filled & filled.wrapping_add(1);
            }
            word = behind;
            Some(start..index * WORD_NR_PAGES + filled.trailing_ones() as usize)
        })
    }

    /// Returns a bitmap whose [`runs`](Self::runs) stand for the runs of at least `nr` free frames, and how
    /// many frames shorter they are. Shorter runs may be among them if there are few.
    ///
    /// # Cost
    /// Up to [`MANY_RUNS`] runs: one load and a few operations per word. For more, see
    /// [`starts_of`](Self::starts_of), which is then cheaper than a look at each of them.
    #[inline]
    pub(crate) fn long_runs(&self, nr: usize) -> (Self, usize) {
        // A run that goes on in the next word counts twice.
        let nr_runs: u32 = self.words.iter().map(|&word| nr_ones(word & !(word << 1))).sum();
        if nr_runs > MANY_RUNS { (self.starts_of(nr), nr - 1) } else { (self.clone(), 0) }
    }

    /// Returns the positions at which at least `nr` adjacent free frames begin. Each run of them is `nr - 1`
    /// shorter than the run of free frames that it stands for.
    ///
    /// # Cost
    /// Approximately 130 instructions for each doubling of `nr`, until there are no such runs; the number
    /// of runs does not matter.
    #[inline(never)]
    fn starts_of(&self, nr: usize) -> Self {
        let mut starts = Self { words: self.words };
        // Frames that are known to be free from each position on.
        let mut len = 1;
        while len < nr {
            let step = len.min(nr - len);
            let (nr_words, nr_bits) = (step / WORD_NR_PAGES, step % WORD_NR_PAGES);
            for index in 0..NR_WORDS {
                let word = |index| starts.words.get(index).copied().unwrap_or(0);
                let (low, high) = (word(index + nr_words), word(index + nr_words + 1));
                // Two shifts, since `nr_bits` may be zero.
                starts.words[index] &= low >> nr_bits | high << 1 << (WORD_NR_PAGES - 1 - nr_bits);
            }
            if starts == Self::EMPTY {
                break;
            }
            len += step;
        }
        starts
    }

    #[inline]
    pub(crate) fn nr_free(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Yields the indexes of the words, in ascending order.
    pub(crate) fn word_indexes() -> Range<usize> {
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
    // Aligned only once, at the end: the bits in between start runs at any position.
    (0..exponent).fold(word, |runs, exponent| runs & runs >> (1_u32 << exponent))
        & ALIGNED[usize::from(exponent)]
}

/// Returns the first bit and the exponent of the smallest aligned run of at least 2^exponent ones that
/// is not half of a larger one.
#[inline]
fn smallest_run(word: u64, exponent: u8) -> Option<(usize, u8)> {
    let (mut runs, mut exponent) = (runs_of(word, exponent), exponent);
    while runs != 0 {
        let (alone, larger) = maximal_runs(runs, exponent);
        if alone != 0 {
            return Some((alone.trailing_zeros() as usize, exponent));
        }
        (runs, exponent) = (larger, exponent + 1);
    }
    None
}

/// Returns the lowest of the smallest free blocks of at least 2^`exponent` words, if the words of `full`
/// are.
#[inline]
fn find_words(full: u8, exponent: u8) -> Option<(usize, Order)> {
    let (word, size) = smallest_run(full.into(), exponent)?;
    Some((word * WORD_NR_PAGES, order(size + WORD_ORDER)))
}

/// Adds the number of aligned runs of each size that are not half of a larger one to `counts`.
fn count_runs(word: u64, counts: &mut [u64]) {
    let mut runs = word;
    for (count, exponent) in counts.iter_mut().zip(0..) {
        if runs == 0 {
            break;
        }
        let (alone, larger) = maximal_runs(runs, exponent);
        *count += u64::from(alone.count_ones());
        runs = larger;
    }
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

/// Marks all frames of whole words as free.
///
/// # Errors
/// If one of them is already free; nothing has changed then.
#[inline]
fn put_words<const N: usize>(words: &mut [u64; N]) -> Result<(), ()> {
    // The number is a constant, so this is a few stores, not a call of `memset`.
    if words.iter().fold(0, |any, word| any | word) != 0 {
        return Err(());
    }
    words.fill(u64::MAX);
    Ok(())
}

/// Returns the bits of a block that is smaller than a word in the word of its frames.
#[inline]
fn block_mask(at: usize, order: Order) -> u64 {
    let nr_pages = order.nr_pages();
    debug_assert!(at.is_multiple_of(nr_pages) && nr_pages < WORD_NR_PAGES, "order {order} at {at}");
    (u64::MAX >> (WORD_NR_PAGES - nr_pages)) << (at % WORD_NR_PAGES)
}

/// Yields each word that positions `part` touch, with a mask of those positions in that word.
#[inline]
fn part_words(part: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    debug_assert!(part.end <= PAGEBLOCK_NR_PAGES, "positions {part:?}");
    let mut at = part.start;
    core::iter::from_fn(move || {
        if at >= part.end {
            return None;
        }
        let index = at / WORD_NR_PAGES;
        let end = part.end.min((index + 1) * WORD_NR_PAGES);
        let mask = u64::MAX >> (WORD_NR_PAGES - (end - at)) << (at % WORD_NR_PAGES);
        at = end;
        Some((index, mask))
    })
}

#[inline]
fn order(exponent: u8) -> Order {
    Order::new(exponent).expect("a run within a pageblock has at most the pageblock's order")
}

const _: () = assert!(size_of::<Bitmap>() == 64);

#[cfg(test)]
mod tests;
