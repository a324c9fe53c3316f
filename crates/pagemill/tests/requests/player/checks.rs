//! What each outcome is compared with.

use pagemill::request::Effort;
use pagemill::stats::ZoneInfo;
use pagemill::{Gfp, Order, Shortage};
use pagemill_testkit::take_zeroed;

use super::{Before, Block, Player};
use crate::shape::{Outcome, Place, Shape, Sink, WEIGHTS};

impl Player<'_> {
    /// Compares what came with what was promised.
    pub(super) fn check_outcome(
        &mut self,
        shape: &Shape,
        before: &Before,
        outcome: Outcome,
        blocks: &[Block<'_>],
        full: usize,
        fit: u64,
    ) {
        let extents = shape.sink == Sink::Extents;
        let order = if extents { Order::ZERO } else { shape.order };
        let wanted = if shape.sink == Sink::Range { shape.nr - shape.nr / 3 } else { shape.nr };
        let pages: usize = blocks.iter().map(|block| block.order().nr_pages()).sum();
        assert_eq!(outcome.new << order.value(), pages, "new, and what came");
        assert_eq!(outcome.populated, full + outcome.new);
        assert!(outcome.new <= wanted);
        assert_eq!(outcome.short.is_none(), outcome.new == wanted, "short, and what came");
        if shape.effort == Effort::AllOrNothing {
            assert!(outcome.new == 0 || outcome.short.is_none(), "all, or nothing");
        }
        if extents {
            let orders: Vec<_> = blocks.iter().map(Block::order).collect();
            let one_share = !matches!(
                shape.place,
                Place::Interleave(_) | Place::Weighted(_) | Place::PreferredMany(_)
            );
            let is_sorted = orders.is_sorted_by(|a, b| a >= b);
            assert!(is_sorted || !one_share, "largest first: {orders:?}");
        } else {
            assert!(blocks.iter().all(|block| block.order() == shape.order));
        }
        let aligned =
            |block: &Block<'_>| block.pfn().is_multiple_of(block.order().nr_pages() as u64);
        assert!(blocks.iter().all(aligned), "a block that is not aligned to its size");
        self.check_places(shape, before, blocks);
        self.check_counters(shape, before, blocks);
        self.check_zeroed(shape, blocks);
        let affordable = usize::try_from(fit >> order.value()).unwrap_or(usize::MAX).min(wanted);
        self.check_shortage(shape, before, outcome, order, affordable);
        let all = shape.effort == Effort::AllOrNothing;
        self.tally.count(outcome, wanted, all);
    }

    /// Checks that each block lies where the request may be served.
    fn check_places(&mut self, shape: &Shape, before: &Before, blocks: &[Block<'_>]) {
        let local = self.local();
        let mut on_node = vec![0; WEIGHTS.len()];
        for block in blocks {
            let zone = before.zones.iter().find(|zone| {
                (zone.start_pfn..zone.start_pfn + zone.spanned).contains(&block.pfn())
            });
            let zone = zone.expect("a frame of a zone");
            assert!(shape.admits(zone, local), "{:#x} is out of bounds", block.pfn());
            on_node[zone.node.index()] += 1;
        }
        for (was, zone) in before.zones.iter().zip(self.frames.zone_info()) {
            if shape.effort == Effort::Fast && zone.nr_free_pages < was.nr_free_pages {
                assert!(
                    zone.nr_free_pages + self.slack > shape.limit(was),
                    "below low, without effort: {} of {}",
                    zone.nr_free_pages,
                    shape.limit(was)
                );
            }
        }
        let pages = (shape.nr as u64) << shape.order.value();
        let has_plenty = |node: usize| {
            let mut zones = before.zones.iter().filter(|zone| zone.node.index() == node);
            zones.any(|zone| {
                zone.kind <= shape.gfp.highest_zone()
                    && zone.nr_free_pages
                        > shape.limit(zone).max(zone.watermarks.low) + pages + self.slack
            })
        };
        if shape.order == Order::ZERO
            && shape.sink != Sink::Extents
            && let Some(dealt) = shape.dealt(blocks.len())
            && (0..dealt.len()).all(|node| dealt[node] == 0 || has_plenty(node))
            && blocks.len()
                == if shape.sink == Sink::Range { shape.nr - shape.nr / 3 } else { shape.nr }
        {
            assert_eq!(on_node, dealt, "spread unevenly");
            self.tally.spread += 1;
        }
    }

    fn check_counters(&self, shape: &Shape, before: &Before, blocks: &[Block<'_>]) {
        let (was, now) = (&before.stat, self.frames.vmstat());
        let pages: u64 = blocks.iter().map(|block| block.order().nr_pages() as u64).sum();
        let allocated = now.pgalloc.iter().sum::<u64>() - was.pgalloc.iter().sum::<u64>();
        let freed = now.pgfree - was.pgfree;
        assert_eq!(allocated - freed, pages, "pages counted, and pages that came");
        let hits = now.numa_hit + now.numa_miss - was.numa_hit - was.numa_miss;
        let places = now.numa_local + now.numa_other - was.numa_local - was.numa_other;
        assert_eq!(hits, places);
        assert_eq!(now.numa_miss, now.numa_foreign);
        if !shape.may_give_back() {
            assert_eq!(freed, 0, "no page is allocated and freed");
            assert_eq!(hits, blocks.len() as u64, "one event for each block");
        }
    }

    fn check_zeroed(&self, shape: &Shape, blocks: &[Block<'_>]) {
        let mut zeroed = take_zeroed();
        zeroed.sort_unstable();
        let mut expected: Vec<u64> = blocks.iter().flat_map(Block::pfns).collect();
        expected.sort_unstable();
        if shape.gfp.contains(Gfp::ZERO) {
            assert_eq!(zeroed, expected, "each new frame is filled with zeroes once");
        } else {
            assert!(zeroed.is_empty());
        }
    }

    /// Checks that the request fell short for the reason given, and for a good one.
    fn check_shortage(
        &self,
        shape: &Shape,
        before: &Before,
        outcome: Outcome,
        order: Order,
        affordable: usize,
    ) {
        let wanted = if shape.sink == Sink::Range { shape.nr - shape.nr / 3 } else { shape.nr };
        let all = shape.effort == Effort::AllOrNothing;
        assert!(outcome.new <= affordable, "more than the account can pay");
        match outcome.short {
            None | Some(Shortage::Stopped) => {}
            Some(Shortage::Fault) => {
                assert!(!shape.gfp.contains(Gfp::NOFAIL));
                assert_eq!(outcome.new, 0);
            }
            Some(Shortage::Account) => {
                assert!(affordable < wanted, "the account can pay for all");
                assert_eq!(outcome.new, if all { 0 } else { affordable });
            }
            Some(Shortage::Memory) => self.check_memory_shortage(shape, before, order, affordable),
            Some(other) => panic!("unknown shortage {other:?}"),
        }
    }

    fn check_memory_shortage(
        &self,
        shape: &Shape,
        before: &Before,
        order: Order,
        affordable: usize,
    ) {
        let local = self.local();
        let reclaims = shape.gfp.contains(Gfp::DIRECT_RECLAIM) && shape.effort != Effort::Fast;
        let wanted = if shape.sink == Sink::Range { shape.nr - shape.nr / 3 } else { shape.nr };
        let zones = before.zones.iter().filter(|zone| shape.admits(zone, local));
        let most = |zone: &ZoneInfo| zone.present.saturating_sub(shape.limit(zone));
        let most: u64 = zones.map(|zone| most(zone) >> order.value()).sum();
        let gives_up = reclaims && (shape.gfp.contains(Gfp::NOFAIL) || shape.patience.is_some());
        assert!(!gives_up || (wanted as u64) > most, "gave up, although {most} are possible");
        let spread_here = shape.gfp.contains(Gfp::THISNODE) && shape.dealt(1).is_some();
        if spread_here {
            return;
        }
        if shape.effort != Effort::AllOrNothing {
            for zone in self.frames.zone_info().filter(|zone| shape.admits(zone, local)) {
                assert!(!shape.can_give(&zone, order), "gave up, although there is more: {zone:?}");
            }
        }
        if reclaims && order == Order::ZERO {
            let there = before.zones.iter().zip(&before.free);
            let there = there.filter(|(zone, _)| shape.admits(zone, local));
            let there: u64 = there.map(|(zone, free)| free.saturating_sub(shape.limit(zone))).sum();
            let zones = before.zones.iter().filter(|zone| shape.admits(zone, local));
            // What there never is, is not for the account to refuse.
            let present: u64 = zones.map(|zone| zone.present).sum();
            let is_all = shape.effort == Effort::AllOrNothing;
            let hopeless = wanted as u64 > if is_all { most } else { present };
            assert!(affordable as u64 > there || hopeless, "{there} pages were there");
        }
    }
}
