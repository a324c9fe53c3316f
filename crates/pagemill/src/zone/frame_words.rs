//! Frame words: frames on their way between a zone and the per-CPU lists, as words of bitmaps.

use core::ops::Range;

use crate::base::raw_page::{Class, RawPage};
use crate::base::units::Pfn;
use crate::recycle::stack::Stack;
use crate::zone::pageblock::{WORD_NR_PAGES, nr_ones, ones, word_in_block};

/// Frames of one word of a pageblock's bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameWord {
    /// First frame number of the word; a multiple of 64.
    pub(crate) base: u64,
    /// The frames, one bit each.
    pub(crate) mask: u64,
    /// Index of the pageblock within the zone.
    pub(crate) block: u32,
    /// Number of one bits of `mask`.
    nr_pages: u8,
}

/// The bits of a frame number that give its position in a word.
const IN_WORD: u64 = WORD_NR_PAGES as u64 - 1;

/// Maximum number of words that are taken or freed under one hold of a shard's lock.
pub(crate) const MAX_NR_WORDS: usize = 64;

/// Words taken from a zone.
pub(crate) type FrameWords = Stack<FrameWord, MAX_NR_WORDS>;

/// Blocks of one order taken from a zone.
pub(crate) type Blocks = Stack<RawPage, MAX_NR_WORDS>;

impl FrameWord {
    /// A word without frames.
    const NONE: Self = Self { base: 0, mask: 0, block: 0, nr_pages: 0 };

    /// Makes the word of the `nr_pages` frames of `mask`; frame `pfn` is in that word.
    #[inline]
    pub(crate) fn new(block: u32, pfn: u64, mask: u64, nr_pages: usize) -> Self {
        debug_assert!(nr_ones(mask) as usize == nr_pages, "{nr_pages} frames in {mask:#x}");
        let base = pfn & !IN_WORD;
        #[expect(clippy::cast_possible_truncation, reason = "a word has 64 bits")]
        let nr_pages = nr_pages as u8;
        Self { base, mask, block, nr_pages }
    }

    /// Returns the index of the word in its pageblock.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        word_in_block(self.base)
    }

    /// Returns the number of frames.
    #[inline]
    pub(crate) fn nr_pages(&self) -> u16 {
        u16::from(self.nr_pages)
    }

    /// Yields the frames as pages of `class`, in ascending order.
    #[inline]
    pub(crate) fn pages(self, class: Class) -> impl Iterator<Item = RawPage> {
        ones(self.mask).map(move |position| class.at(Pfn::new(self.base + position as u64)))
    }
}

/// Words that are freed to a zone, at most [`MAX_NR_WORDS`], chained by shard.
pub(crate) struct FreedWords {
    words: [FrameWord; MAX_NR_WORDS],
    /// For each word, the index of the previous word of the same shard, or [`END`](Self::END).
    next: [u8; MAX_NR_WORDS],
    /// For each shard, the index of its last word, or [`END`](Self::END). Has more entries than there
    /// can be shards, so that any byte is a valid index.
    chains: [u8; 256],
}

impl FreedWords {
    const END: u8 = u8::MAX;

    #[inline]
    pub(crate) fn new() -> Self {
        let words = [FrameWord::NONE; MAX_NR_WORDS];
        Self { words, next: [Self::END; MAX_NR_WORDS], chains: [Self::END; 256] }
    }

    /// Fills the batch with words and their shards from `next`, until there are no more or the batch is
    /// full.
    #[inline]
    pub(crate) fn fill(&mut self, mut next: impl FnMut() -> Option<(u8, FrameWord)>) {
        for (number, (entry, before)) in (0..).zip(self.words.iter_mut().zip(&mut self.next)) {
            let Some((shard, word)) = next() else { break };
            *entry = word;
            // The last word first: the order of shards is random, and this way needs no branch on it.
            *before = core::mem::replace(&mut self.chains[usize::from(shard)], number);
        }
    }

    /// Yields the words of a shard; `None` if it has none.
    #[inline]
    pub(crate) fn of(&self, shard: u8) -> Option<impl Iterator<Item = FrameWord>> {
        let mut number = self.chains[usize::from(shard)];
        let words = core::iter::from_fn(move || {
            let word = *self.words.get(usize::from(number))?;
            number = self.next[usize::from(number)];
            Some(word)
        });
        (number != Self::END).then_some(words)
    }
}

const _: () = assert!(MAX_NR_WORDS <= FreedWords::END as usize, "words are numbered in a byte");

/// Yields the parts of a range of frames that are in one word of a bitmap each: the first frame of each
/// part, and the part's bits in the word.
pub(crate) fn words_of(pfns: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut next = pfns.start;
    core::iter::from_fn(move || {
        let pfn = next;
        let left = pfns.end.checked_sub(pfn).filter(|&left| left > 0)?;
        let nr = left.min(WORD_NR_PAGES as u64 - (pfn & IN_WORD));
        next = pfn + nr;
        Some((pfn, u64::MAX >> (WORD_NR_PAGES as u64 - nr) << (pfn & IN_WORD)))
    })
}

/// Splits off the leading pages that are in the same bitmap word as frame `pfn`, the first page's.
/// Returns a mask of these pages, their number, and the other pages.
///
/// # Panics
/// If one of them occurs twice: a double free.
#[inline]
pub(crate) fn split_word(pages: &[RawPage], pfn: u64) -> (u64, usize, &[RawPage]) {
    match pages {
        [_, second, ..] if second.pfn().value() ^ pfn <= IN_WORD => {
            let (mask, nr) = of_word(pages, pfn);
            (mask, nr, &pages[nr..])
        }
        [_, others @ ..] => (1 << (pfn & IN_WORD), 1, others),
        [] => (0, 0, pages),
    }
}

/// Returns a mask of the leading pages of `pages` that are in the same bitmap word as frame `pfn`, the
/// first page's, and the number of these pages.
///
/// # Panics
/// If one of them occurs twice: a double free.
#[inline(never)]
fn of_word(pages: &[RawPage], pfn: u64) -> (u64, usize) {
    const AT_ONCE: usize = 8;
    let base = pfn & !IN_WORD;
    if let Some(word) = pages.first_chunk::<WORD_NR_PAGES>()
        && pfn == base
        && word[WORD_NR_PAGES - 1].pfn().value() == base | IN_WORD
        && follow_each_other(word)
    {
        return (u64::MAX, WORD_NR_PAGES);
    }
    let position = |page: &RawPage| page.pfn().value() ^ base;
    let (mut mask, mut nr) = (0_u64, 0);
    for group in pages.as_chunks::<AT_ONCE>().0 {
        let first = position(&group[0]);
        if first <= (WORD_NR_PAGES - AT_ONCE) as u64 && follow_each_other(group) {
            mask |= ((1 << AT_ONCE) - 1) << first;
        } else if group.iter().fold(0, |all, page| all | position(page)) <= IN_WORD {
            mask = group.iter().fold(mask, |mask, page| mask | 1 << (position(page) & IN_WORD));
        } else {
            break;
        }
        nr += AT_ONCE;
    }
    while let Some(page) = pages.get(nr)
        && position(page) <= IN_WORD
    {
        mask |= 1 << position(page);
        nr += 1;
    }
    if nr_ones(mask) as usize != nr {
        freed_twice(&pages[..nr], base);
    }
    (mask, nr)
}

#[cold]
#[inline(never)]
fn freed_twice(pages: &[RawPage], base: u64) -> ! {
    let mut mask = 0_u64;
    for page in pages {
        let bit = 1 << (page.pfn().value() ^ base);
        assert!(mask & bit == 0, "double free of frame {}", page.pfn());
        mask |= bit;
    }
    unreachable!("there are as many bits as pages");
}

/// Returns whether the pages are consecutive and ascending, as a refill leaves them.
#[inline]
fn follow_each_other<const N: usize>(pages: &[RawPage; N]) -> bool {
    let first = pages[0].word();
    let mut difference = 0;
    #[expect(clippy::needless_range_loop, reason = "so it becomes one of vector instructions")]
    for position in 0..N {
        // Wrapping: an overflow would make another class, and no class is the last one.
        difference |= pages[position].word() ^ first.wrapping_add(position as u64);
    }
    difference == 0
}
