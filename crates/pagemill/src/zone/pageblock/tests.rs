use alloc::vec::Vec;

use super::*;

/// A pageblock as an array of flags, with every question answered by looking at all of them.
struct Naive([bool; PAGEBLOCK_NR_PAGES]);

impl Naive {
    fn is_free(&self, at: usize, order: Order) -> bool {
        self.0[at..at + order.nr_pages()].iter().all(|&free| free)
    }

    fn largest_order(&self) -> Option<Order> {
        Order::all()
            .filter(|&order| order <= PAGEBLOCK_ORDER)
            .rev()
            .find(|&order| self.blocks(order).next().is_some())
    }

    fn blocks(&self, order: Order) -> impl Iterator<Item = usize> + '_ {
        (0..PAGEBLOCK_NR_PAGES).step_by(order.nr_pages()).filter(move |&at| self.is_free(at, order))
    }

    fn maximal_blocks(&self, order: Order) -> Vec<usize> {
        self.blocks(order)
            .filter(|&at| order == PAGEBLOCK_ORDER || !self.is_free(at ^ order.nr_pages(), order))
            .collect()
    }

    /// Returns the first of the smallest free blocks of at least order `wanted`, and its order.
    fn find(&self, wanted: Order) -> Option<(usize, Order)> {
        Order::all()
            .filter(|&order| order >= wanted && order <= PAGEBLOCK_ORDER)
            .find_map(|order| self.maximal_blocks(order).first().map(|&at| (at, order)))
    }

    fn largest_order_at(&self, word: usize) -> Option<Order> {
        let (start, end) = (word * WORD_NR_PAGES, (word + 1) * WORD_NR_PAGES);
        Order::all()
            .filter(|&order| order <= PAGEBLOCK_ORDER)
            .rev()
            .find(|&order| self.blocks(order).any(|at| at < end && at + order.nr_pages() > start))
    }
}

fn next(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed >> 11).unwrap()
}

#[test]
fn random_blocks_agree_with_an_array_of_flags() {
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for round in 0..if cfg!(miri) { 2 } else { 40 } {
        let mut bitmap = Bitmap::EMPTY;
        let mut naive = Naive([false; PAGEBLOCK_NR_PAGES]);
        for _step in 0..if cfg!(miri) { 4 } else { 200 } {
            let order = Order::new(u8::try_from(next(&mut seed) % 10).unwrap()).unwrap();
            let at = (next(&mut seed) % PAGEBLOCK_NR_PAGES) & !(order.nr_pages() - 1);
            let set = (next(&mut seed) + round).is_multiple_of(2);
            let before = bitmap.clone();
            let is_used = naive.0[at..at + order.nr_pages()].iter().all(|&free| !free);
            if !set {
                bitmap.clear(at, order);
            } else if is_used {
                let (word, mask) = bitmap.put(at, order).expect("none was free");
                assert_eq!(word, bitmap.word(at / WORD_NR_PAGES));
                assert_eq!(mask.trailing_zeros() as usize, at % WORD_NR_PAGES);
                assert_eq!(mask.count_ones() as usize, order.nr_pages().min(WORD_NR_PAGES));
            } else {
                assert_eq!(bitmap.put(at, order), Err(()));
                assert_eq!(bitmap, before);
                continue;
            }
            naive.0[at..at + order.nr_pages()].fill(set);

            assert_eq!(bitmap.largest_order(), naive.largest_order());
            assert_eq!(bitmap.nr_free() as usize, naive.0.iter().filter(|&&free| free).count());
            let mut counts = [0; MAX_ORDER.value() as usize + 1];
            bitmap.count_blocks(&mut counts);
            for wanted in Order::all().filter(|&order| order <= PAGEBLOCK_ORDER) {
                let nr_blocks = naive.maximal_blocks(wanted).len() as u64;
                assert_eq!(counts[usize::from(wanted.value())], nr_blocks);
                assert_eq!(bitmap.find(wanted), naive.find(wanted));
            }
            for index in Bitmap::word_indexes() {
                assert_eq!(bitmap.largest_order_at(index), naive.largest_order_at(index));
            }
        }
    }
}

#[test]
fn what_was_put_made_a_larger_block_or_did_not() {
    let mut seed = 0x2545_f491_4f6c_dd1d;
    // Under Miri two words of the eight are enough: it looks for other faults than wrong counts.
    let (nr_rounds, nr_frames) =
        if cfg!(miri) { (1, 2 * WORD_NR_PAGES) } else { (400, PAGEBLOCK_NR_PAGES) };
    for _round in 0..nr_rounds {
        let mut bitmap = Bitmap::EMPTY;
        let mut left: Vec<usize> = (0..nr_frames).collect();
        while !left.is_empty() {
            let before = bitmap.largest_order();
            // One frame, or a few of one word.
            let first = left[next(&mut seed) % left.len()];
            let index = first / WORD_NR_PAGES;
            let reach = next(&mut seed) % 70;
            let is_put = |at: usize| {
                at == first || at / WORD_NR_PAGES == index && at.abs_diff(first) < reach
            };
            let put: Vec<usize> = left.iter().copied().filter(|&at| is_put(at)).collect();
            left.retain(|at| !put.contains(at));
            let mask = put.iter().fold(0, |mask, at| mask | 1_u64 << (at % WORD_NR_PAGES));
            let word = bitmap.put_into_word(index, mask).expect("none was free");
            assert_eq!(bitmap.put_into_word(index, mask), Err(()));
            if let Some(before) = before {
                let may_have = may_make_larger(word, mask, before.value());
                let made = bitmap.largest_order() > Some(before);
                // Of blocks that are words it says no more than that there is one.
                let is_sure = before.value() < WORD_ORDER || word != u64::MAX;
                let said = if is_sure { may_have == made } else { may_have };
                assert!(said, "{bitmap:?} {mask:#x}");
            }
        }
    }
}

#[test]
fn taking_from_a_word_takes_the_lowest_frames() {
    let mut bitmap = Bitmap::EMPTY;
    assert_eq!(bitmap.put_into_word(3, 0b1011_0000), Ok(0b1011_0000));
    assert_eq!(bitmap.take_from_word(3, 2), 0b0011_0000);
    assert_eq!(bitmap.take_from_word(3, 2), 0b1000_0000);
    assert_eq!(bitmap.take_from_word(3, 2), 0);
    assert_eq!(bitmap.put_into_word(3, u64::MAX), Ok(u64::MAX));
    assert_eq!(bitmap.take_from_word(3, 1), 1);
    assert_eq!(bitmap.take_from_word(3, 64), u64::MAX - 1);
    assert_eq!(bitmap, Bitmap::EMPTY);
}

#[test]
fn the_smallest_block_that_fits_is_found_first() {
    let order = |order| Order::new(order).unwrap();
    let mut bitmap = Bitmap::EMPTY;
    bitmap.put(0, order(6)).unwrap();
    bitmap.put(128, order(3)).unwrap();
    assert_eq!(bitmap.find(order(2)), Some((128, order(3))));
    assert_eq!(bitmap.find(order(4)), Some((0, order(6))));
}

/// Compares `find` for all orders on a bitmap of these words.
fn find_agrees(words: [u64; NR_WORDS]) {
    let is_free = |at: usize| words[at / WORD_NR_PAGES] >> (at % WORD_NR_PAGES) & 1 != 0;
    let naive = Naive(core::array::from_fn(is_free));
    let bitmap = Bitmap { words };
    for wanted in Order::all().filter(|&order| order <= PAGEBLOCK_ORDER) {
        assert_eq!(bitmap.find(wanted), naive.find(wanted), "order {wanted} in {words:x?}");
    }
}

#[test]
fn every_pattern_of_eight_frames_is_searched_rightly() {
    let step = if cfg!(miri) { 51 } else { 1 };
    for pattern in (0..=u64::from(u8::MAX)).step_by(step) {
        // At both ends of a word, in the last word, and each frame eight times.
        let spread = ones(pattern).fold(0, |word, bit| word | 0xff << (bit * 8));
        for word in [pattern, pattern << 56, spread] {
            find_agrees([0, 0, 0, 0, 0, 0, 0, word]);
            find_agrees([u64::MAX, word, 0, 0, 0, 0, 1 << 9, 3 << 40]);
        }
    }
}

#[test]
fn every_pattern_of_whole_and_partial_words_is_searched_rightly() {
    const KINDS: [u64; 3] = [0, u64::MAX, 0x00ff_0000_0f30_0001];
    let nr_patterns = KINDS.len().pow(8);
    for pattern in (0..nr_patterns).step_by(if cfg!(miri) { 1_000 } else { 1 }) {
        let mut rest = pattern;
        find_agrees([(); NR_WORDS].map(|()| {
            let kind = KINDS[rest % KINDS.len()];
            rest /= KINDS.len();
            kind
        }));
    }
}

#[test]
fn starts_of_runs_agree_with_an_array_of_flags() {
    let mut seed = 0x2545_f491_4f6c_dd1d;
    let lengths = [1, 2, 3, 5, 31, 63, 64, 65, 127, 128, 129, 256, 300, 511, 512, 513, 1_024];
    for percent in [5, 50, 90, 99, 100] {
        for _ in 0..if cfg!(miri) { 1 } else { 50 } {
            let is_free: Vec<bool> =
                (0..PAGEBLOCK_NR_PAGES).map(|_| next(&mut seed) % 100 < percent).collect();
            let mut bitmap = Bitmap::EMPTY;
            for position in (0..PAGEBLOCK_NR_PAGES).filter(|&position| is_free[position]) {
                bitmap.set_part(position..position + 1);
            }
            for nr in lengths {
                let starts = bitmap.starts_of(nr);
                let (runs, shorter) = bitmap.long_runs(nr);
                let runs = runs.runs().map(|run| run.start..run.end + shorter);
                let found: Vec<_> = runs.filter(|run| run.len() >= nr).collect();
                let expected: Vec<_> = bitmap.runs().filter(|run| run.len() >= nr).collect();
                assert_eq!(found, expected, "runs of {nr} frames");
                for position in 0..PAGEBLOCK_NR_PAGES {
                    let run = is_free.get(position..position + nr);
                    let begins = run.is_some_and(|run| run.iter().all(|&free| free));
                    let found = starts.first(false, position..position + 1).is_some();
                    assert_eq!(found, begins, "{nr} frames from position {position}");
                }
            }
        }
    }
}
