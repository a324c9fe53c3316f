//! Page words of code without handles: bulk calls on slots of words do what the calls on handles do, and
//! words that name no block are refused.

extern crate alloc;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::handles::{InvalidRawPage, RawPage};
use pagemill::policy::Policy;
use pagemill::request::Effort;
use pagemill::units::{NodeId, Pfn};
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Page};
use pagemill_testkit::{Frames, NORMAL, Rng, World, holes, order, region};

type Words = Vec<Option<RawPage>>;

/// Frees words that the caller owns, or that are no words of the allocator.
fn release(frames: Frames<'_>, words: &mut [Option<RawPage>]) -> Result<usize, InvalidRawPage> {
    // SAFETY: 1. owned, or refused: see above.
    unsafe { frames.release_raw(words) }
}

fn bits(words: &[Option<RawPage>]) -> Vec<u64> {
    words.iter().map(|word| word.map_or(0, |word| word.to_bits().get())).collect()
}

/// The lists and zones of an allocator, to be compared with those of another.
fn state(frames: Frames<'_>) -> (Vec<(usize, u64)>, Vec<u64>) {
    let lists = frames.pcp_info().map(|list| (list.count, u64::from(list.order.value()))).collect();
    (lists, frames.zone_info().map(|zone| zone.nr_free_pages).collect())
}

/// Plays random bulk calls on handles in one world and on words in another, which stay equal.
#[test]
fn words_are_served_and_freed_as_handles_are() {
    // Small, so that many calls fall short.
    let memory = [region(NORMAL - 256, 200, 0), region(NORMAL, 400, 0)];
    let config = Config::new(&memory, 1);
    let nr_rounds = if cfg!(miri) { 20 } else { 4000 };
    let (one, two) = (World::new(&config), World::new(&config));
    let (pages, words) = (one.frames(), two.frames());
    let mut rng = Rng::new(7);
    let (mut slots, mut raw) = (holes(600), Words::from([None; 600]));
    let kinds = [
        Gfp::KERNEL,
        Gfp::HIGHUSER_MOVABLE,
        Gfp::KERNEL | Gfp::DMA32,
        Gfp::NOWAIT | Gfp::RECLAIMABLE,
    ];
    for round in 0..nr_rounds {
        let start = rng.below(600);
        let longest = rng.pick(&[3, 140, 500]);
        let end = (start + 1 + rng.below(longest)).min(600);
        let gfp = rng.pick(&kinds);
        let nr = match rng.below(4) {
            0 => {
                let nr = pages.alloc_pages_bulk(gfp, &mut slots[start..end]);
                assert_eq!(words.alloc_raw_bulk(gfp, &mut raw[start..end]), nr, "{round}");
                nr
            }
            1 => {
                let effort = rng.pick(&[Effort::Fast, Effort::TryHard, Effort::AllOrNothing]);
                let request = BulkRequest { effort, ..BulkRequest::new(gfp) };
                let outcome = pages.bulk_fill(&request, &mut slots[start..end]);
                assert_eq!(words.bulk_raw(&request, &mut raw[start..end]), outcome, "{round}");
                outcome.new
            }
            _ => {
                let nr = pages.release_pages(&mut slots[start..end]);
                assert_eq!(release(words, &mut raw[start..end]), Ok(nr), "{round}");
                nr
            }
        };
        assert!(nr <= end - start);
        let expected = slots.iter().map(|slot| slot.as_ref().map(Page::pfn));
        assert!(raw.iter().map(|word| word.map(RawPage::pfn)).eq(expected), "{round}");
        assert_eq!(state(words), state(pages), "{round}");
    }
    let nr = pages.release_pages(&mut slots);
    assert_eq!(release(words, &mut raw), Ok(nr));
}

#[test]
fn blocks_of_all_orders_and_charged_pages_return_in_one_call() {
    let memory = [region(NORMAL, 8192, 0)];
    let world = World::new(&Config { nr_accounts: 2, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let account = Account::open(frames, AccountLimits::NONE).expect("an account is free");
    let mut words = Words::new();
    for exponent in [0, 3, 10, 0, 4] {
        let block = frames.alloc_pages(Gfp::KERNEL, order(exponent)).expect("there is memory");
        words.extend([Some(Folio::into_raw(block)), None]);
    }
    let mut charged = [None; 5];
    let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::KERNEL) };
    assert_eq!(frames.bulk_raw(&request, &mut charged).new, 5);
    assert_eq!(account.usage().current, 5);
    words.extend(charged);
    assert_eq!(release(frames, &mut words), Ok(10));
    assert!(words.iter().all(Option::is_none));
    assert_eq!(account.usage().current, 0);
    assert_eq!(world.nr_out(), 0);
}

/// Two lists and an empty slot: what is not one copy changes nothing.
#[test]
fn a_release_that_tries_frees_all_pages_or_none() {
    let memory = [region(NORMAL, 2048, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    // SAFETY: 1. owned: each word is from the allocator, and freed once.
    let try_release = |words: &mut [Option<RawPage>]| unsafe { frames.try_release_raw(words) };
    let mut words = Words::from([None; 64]);
    assert_eq!(frames.alloc_raw_bulk(Gfp::KERNEL, &mut words), 64);
    let last = words[63].take();
    let before = (bits(&words), state(frames));
    assert!(!try_release(&mut words));
    assert_eq!((bits(&words), state(frames)), before);
    words[63] = frames.alloc_page(Gfp::HIGHUSER_MOVABLE).map(Page::into_raw);
    let before = (bits(&words), state(frames));
    assert!(!try_release(&mut words));
    assert_eq!((bits(&words), state(frames)), before);
    assert_eq!(release(frames, &mut words[63..]), Ok(1));
    words[63] = last;
    assert!(try_release(&mut words));
    assert!(words.iter().all(Option::is_none));
}

/// Pages of every zone are freed by one copy, not only those of the largest.
#[test]
fn pages_of_each_zone_are_freed_at_once() {
    let memory =
        [region(NORMAL - 1024, 1024, 0), region(NORMAL, 4096, 0), region(NORMAL + 8192, 2048, 1)];
    let world = World::new(&Config { movable_bytes: 4 << 20, ..Config::new(&memory, 1) });
    let frames = world.frames();
    let mut classes = Vec::new();
    for (gfp, node) in [
        (Gfp::KERNEL, 0),
        (Gfp::KERNEL | Gfp::RECLAIMABLE, 0),
        (Gfp::KERNEL | Gfp::DMA32, 0),
        (Gfp::HIGHUSER_MOVABLE, 0),
        (Gfp::KERNEL, 1),
        (Gfp::HIGHUSER_MOVABLE, 1),
    ] {
        let mut words = Words::from([None; 64]);
        let policy = Policy::Preferred(NodeId::new(node));
        let request = BulkRequest { policy, ..BulkRequest::new(gfp | Gfp::THISNODE) };
        assert_eq!(frames.bulk_raw(&request, &mut words).new, 64);
        let all = bits(&words);
        classes.push(all[0] >> 40);
        assert!(all.iter().all(|word| word >> 40 == all[0] >> 40), "one zone: {all:x?}");
        // SAFETY: 1. owned: just allocated.
        assert!(unsafe { frames.try_release_raw(&mut words) }, "{gfp:?} {node}");
        assert!(words.iter().all(Option::is_none));
    }
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes.len(), 6, "each from another list");
    assert_eq!(world.nr_out(), 0);
}

/// Pages on both sides of a hole are freed together; the word of a frame in the hole is refused.
#[test]
fn pages_around_a_hole_are_freed_together() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 2048, 1536, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let mut all = Words::from([None; 2000]);
    let filled = frames.bulk_raw(&BulkRequest::new(Gfp::KERNEL), &mut all).new;
    let is_low =
        |word: &Option<RawPage>| word.is_some_and(|page| page.pfn() < Pfn::new(NORMAL + 1024));
    let (mut low, mut high): (Words, Words) =
        all.into_iter().take(filled).partition(|word| is_low(word));
    assert!(low.len() > 400 && high.len() > 400, "{} {}", low.len(), high.len());
    // In turn, so that no group has pages of one side only.
    let mut mixed: Words =
        low.drain(..200).zip(high.drain(..200)).flat_map(|two| [two.0, two.1]).collect();
    let in_hole = bits(&mixed)[0] & !0xff_ffff_ffff | (NORMAL + 1500);
    let right = mixed[399];
    mixed[399] = RawPage::from_bits(in_hole).ok();
    let nr_out = world.nr_out();
    let error = InvalidRawPage::NotInZone { bits: in_hole, pfn: Pfn::new(NORMAL + 1500) };
    assert_eq!(release(frames, &mut mixed), Err(error));
    let nr_freed = mixed.iter().filter(|word| word.is_none()).count();
    assert_eq!((nr_freed % 64, world.nr_out()), (0, nr_out - nr_freed as u64), "whole groups");
    mixed[399] = right;
    assert_eq!(release(frames, &mut mixed), Ok(400 - nr_freed));
    assert_eq!(release(frames, &mut low), Ok(low.len()));
    assert_eq!(release(frames, &mut high), Ok(high.len()));
    assert_eq!(world.nr_out(), 0);
    frames.validate().expect("the data agree");
}

#[test]
fn a_call_that_finds_all_slots_full_allocates_nothing() {
    let world = World::bare(4096);
    let frames = world.frames();
    let mut words = [None; 3];
    assert_eq!(frames.alloc_raw_bulk(Gfp::KERNEL, &mut []), 0);
    assert_eq!(frames.alloc_raw_bulk(Gfp::KERNEL, &mut words), 3);
    let before = bits(&words);
    assert_eq!(frames.alloc_raw_bulk(Gfp::KERNEL, &mut words), 3);
    assert_eq!(frames.alloc_raw_bulk(Gfp::KERNEL, &mut words[1..2]), 1);
    assert_eq!(bits(&words), before);
    assert_eq!(world.nr_out(), 3);
    assert_eq!(release(frames, &mut words), Ok(3));
    assert_eq!(release(frames, &mut words), Ok(0));
}

/// Each wrong word is refused alone, in a full array at any place, and beside holes; nothing is freed.
#[test]
fn words_that_name_no_block_are_refused_and_nothing_is_freed() {
    // A zone whose number of frames is no power of two, and one in front of it.
    let memory = [region(NORMAL - 1024, 1000, 0), region(NORMAL, 3000, 0)];
    let world = World::new(&Config::new(&memory, 1));
    let frames = world.frames();
    let page = frames.alloc_page(Gfp::KERNEL).expect("there is memory");
    let good = page.into_raw();
    let class = good.to_bits().get() & !Pfn::MAX.value();
    let at = |class: u64, pfn: u64| class | pfn;
    let in_zone = |bits| InvalidRawPage::NotInZone { bits, pfn: Pfn::new(bits & Pfn::MAX.value()) };
    let other_zone = class ^ 3 << 40; // the list of the first zone
    let cases = [
        (at(class, NORMAL - 1), in_zone(at(class, NORMAL - 1))),
        (at(class, NORMAL + 3000), in_zone(at(class, NORMAL + 3000))),
        (at(class, NORMAL + 4095), in_zone(at(class, NORMAL + 4095))),
        (at(class, 0), in_zone(at(class, 0))),
        (at(class, Pfn::MAX.value()), in_zone(at(class, Pfn::MAX.value()))),
        (at(other_zone, NORMAL), in_zone(at(other_zone, NORMAL))),
        (at(class | 0x1ff << 40, NORMAL), in_zone(at(class | 0x1ff << 40, NORMAL))),
        (at(class | 10 << 49, NORMAL + 2048), in_zone(at(class | 10 << 49, NORMAL + 2048))),
        (
            at(class | 1 << 53, NORMAL),
            InvalidRawPage::NoAccount { bits: at(class | 1 << 53, NORMAL) },
        ),
        (NORMAL, InvalidRawPage::NotLive { bits: NORMAL }),
        (1, InvalidRawPage::NotLive { bits: 1 }),
    ];
    let mut others = Words::from([None; 63]);
    assert_eq!(frames.alloc_raw_bulk(Gfp::KERNEL, &mut others), 63);
    for (bits, error) in cases {
        let wrong = as_word(bits);
        assert_eq!(frames.check_raw(wrong), Err(error), "{bits:#x}");
        assert_eq!(release(frames, &mut [Some(wrong)]), Err(error), "{bits:#x}");
        for place in [0, 1, 40, 62, 63] {
            let mut all = others.clone();
            all.insert(place, Some(wrong));
            assert_eq!(release(frames, &mut all), Err(error), "{bits:#x} at {place}");
            assert!(all.iter().all(Option::is_some));
            all[place ^ 2] = None;
            assert_eq!(release(frames, &mut all), Err(error), "{bits:#x} at {place}, with a hole");
        }
        assert_eq!(world.nr_out(), 64);
    }
    assert_eq!(frames.check_raw(good), Ok(()));
    others.push(Some(good));
    assert_eq!(release(frames, &mut others), Ok(64));
}

/// The first and the last frame of a zone whose number of frames is no power of two are its frames.
#[test]
fn all_frames_of_a_zone_pass_the_check() {
    let memory = [region(NORMAL, 1030, 0)];
    let world = World::new(&Config { min_free_bytes: Some(0), ..Config::new(&memory, 1) });
    let frames = world.frames();
    let mut words = Words::from([None; 1030]);
    let nr = frames.bulk_raw(&BulkRequest::new(Gfp::KERNEL | Gfp::MEMALLOC), &mut words).new;
    assert_eq!(nr, 1030);
    assert!(words.iter().flatten().all(|&word| frames.check_raw(word) == Ok(())));
    words.sort_by_key(|word| word.map(RawPage::pfn));
    assert_eq!(release(frames, &mut words[..64]), Ok(64));
    assert_eq!(release(frames, &mut words[1029..]), Ok(1));
    assert_eq!(release(frames, &mut words[64..]), Ok(965));
}

/// Makes a word of any integer but zero, as code does that passes its memory as slots.
fn as_word(bits: u64) -> RawPage {
    let bits = core::num::NonZeroU64::new(bits).expect("not zero");
    // SAFETY: 1. of one layout: a `RawPage` is transparent.
    unsafe { core::mem::transmute(bits) }
}
