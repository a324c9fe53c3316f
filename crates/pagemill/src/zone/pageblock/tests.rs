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
            if set {
                bitmap.set(at, order);
            } else {
                bitmap.clear(at, order);
            }
            naive.0[at..at + order.nr_pages()].fill(set);

            assert_eq!(bitmap.largest_order(), naive.largest_order());
            assert_eq!(bitmap.is_used(at, order), !set);
            assert_eq!(bitmap.nr_free() as usize, naive.0.iter().filter(|&&free| free).count());
            for wanted in Order::all().filter(|&order| order <= PAGEBLOCK_ORDER) {
                assert!(bitmap.maximal_blocks(wanted).eq(naive.maximal_blocks(wanted)));
                let found = bitmap.find(wanted);
                let smallest = Order::all()
                    .filter(|&order| order >= wanted && order <= PAGEBLOCK_ORDER)
                    .find_map(|order| naive.maximal_blocks(order).first().copied());
                assert_eq!(found, smallest);
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
    let mut bitmap = Bitmap::EMPTY;
    bitmap.set(0, Order::new(6).unwrap());
    bitmap.set(128, Order::new(3).unwrap());
    assert_eq!(bitmap.find(Order::new(2).unwrap()), Some(128));
    assert_eq!(bitmap.find(Order::new(4).unwrap()), Some(0));
}
