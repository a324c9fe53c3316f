//! Requests for contiguous ranges, and for exactly the frames that they name.

use pagemill::contig::{ContigError, ContigRequest, FrameRange};
use pagemill::units::Pfn;
use pagemill::{AllocPages, Gfp, Order, Shortage};
use pagemill_testkit::{Frames, set_account, take_zeroed};

use super::{Before, Block, Held, Player};

/// A request for adjacent frames, in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contig {
    pub(crate) gfp: Gfp,
    pub(crate) nr: usize,
    pub(crate) min: usize,
    pub(crate) align: usize,
    /// Frames of the first zone that lie below the limit.
    pub(crate) limit: Option<u64>,
    /// Position of the first frame in the first zone, for `alloc_contig_range`.
    pub(crate) exact: Option<u64>,
    pub(crate) payer: Option<usize>,
    /// Whether the payer is named by a flag, and not by the request.
    pub(crate) by_flag: bool,
    /// Where the range is split.
    pub(crate) cut: usize,
}

impl<'w> Player<'w> {
    /// Serves a request for adjacent frames and compares what came with what was promised.
    pub(crate) fn contig(&mut self, contig: &Contig) {
        let before = self.before();
        let start = before.zones.iter().map(|zone| zone.start_pfn).min().expect("a zone");
        // The call for exact frames has no account of its own.
        let payer = contig.payer.filter(|_| contig.by_flag || contig.exact.is_none());
        let account = payer.and_then(|payer| self.payers.id(payer));
        let fit = payer.map_or(u64::MAX, |payer| self.payers.fit(payer));
        set_account(if contig.by_flag { account } else { None });
        let limit = contig.limit.map(|nr| Pfn::new(start + nr).start());
        let result = match contig.exact {
            Some(at) => self.frames.alloc_contig_range(contig.gfp, Pfn::new(start + at), contig.nr),
            None => self.frames.alloc_contig_with(&ContigRequest {
                gfp: contig.gfp,
                nr: contig.nr,
                min: contig.min,
                align: contig.align,
                limit,
                node: None,
                account: if contig.by_flag { None } else { account },
            }),
        };
        set_account(None);
        let stat = self.frames.vmstat();
        let pages = |stat: &pagemill::stats::VmStat| {
            stat.pgalloc.iter().sum::<u64>().wrapping_sub(stat.pgfree)
        };
        let got = pages(&stat).wrapping_sub(pages(&before.stat));
        match result {
            Ok(range) => {
                assert_eq!(got, range.nr_pages() as u64, "pages counted, and pages that came");
                assert!(got <= fit, "more than the account can pay");
                self.check_range(contig, &before, &range);
                self.hold_range(contig, payer, range);
            }
            Err(error) => {
                assert_eq!(got, 0, "nothing is allocated");
                assert!(take_zeroed().is_empty());
                self.check_refusal(contig, &before, fit, &error);
            }
        }
        self.check();
    }

    fn check_range(&self, contig: &Contig, before: &Before, range: &FrameRange<Frames<'w>>) {
        let (first, nr) = (range.pfn().value(), range.nr_pages() as u64);
        let pfns = first..first + nr;
        let of_zone = |zone: &&pagemill::stats::ZoneInfo| {
            let zone = zone.start_pfn..zone.start_pfn + zone.spanned;
            zone.contains(&pfns.start) && zone.end >= pfns.end
        };
        let zone = before.zones.iter().find(of_zone).expect("a range lies in one zone");
        let start = before.zones.iter().map(|zone| zone.start_pfn).min().expect("a zone");
        if let Some(at) = contig.exact {
            assert_eq!((first, nr), (start + at, contig.nr as u64), "exactly these frames");
        } else {
            assert!((contig.min..=contig.nr).contains(&range.nr_pages()));
            assert!(first.is_multiple_of(contig.align as u64));
            assert!(contig.limit.is_none_or(|limit| pfns.end <= start + limit));
            assert!(zone.kind <= contig.gfp.highest_zone());
            if contig.gfp.contains(Gfp::THISNODE) {
                assert_eq!(zone.node.value(), self.local());
            }
        }
        let mut zeroed = take_zeroed();
        zeroed.sort_unstable();
        let expected: Vec<u64> =
            if contig.gfp.contains(Gfp::ZERO) { pfns.collect() } else { Vec::new() };
        assert_eq!(zeroed, expected, "each new frame is filled with zeroes once, if asked for");
    }

    /// Keeps a range as pages and folios, taken out of both of its parts.
    fn hold_range(&mut self, contig: &Contig, payer: Option<usize>, range: FrameRange<Frames<'w>>) {
        if let Some(payer) = payer {
            self.payers.charge(payer, range.nr_pages() as u64);
        }
        let cut = contig.cut.min(range.nr_pages());
        let (front, back) = range.split_at(cut);
        for part in [front, back] {
            let blocks: Vec<Block<'w>> = match part.into_folio() {
                Ok(folio) if folio.order() == Order::ZERO => {
                    folio.split().map(Block::Page).collect()
                }
                Ok(folio) => vec![Block::Folio(folio)],
                Err(part) => part.into_pages().map(Block::Page).collect(),
            };
            for block in blocks {
                let first = block.pfn();
                for pfn in block.pfns() {
                    assert!(
                        self.pfns.insert(pfn, first).is_none(),
                        "{pfn:#x} was handed out twice"
                    );
                }
                self.held.push(Held { block, payer });
            }
        }
    }

    /// Checks that a request was refused for a good reason.
    fn check_refusal(&self, contig: &Contig, before: &Before, fit: u64, error: &ContigError) {
        let needed = if contig.exact.is_some() { contig.nr } else { contig.min };
        match *error {
            ContigError::Short { short: Shortage::Account, .. } => {
                assert!(fit < needed as u64, "the account can pay");
            }
            ContigError::Short { short: Shortage::Memory | Shortage::Fault, .. }
            | ContigError::Fragmented { .. }
            | ContigError::TooLong { .. } => {}
            ContigError::LimitTooLow { .. } => assert!(contig.limit.is_some()),
            ContigError::NoneAligned { align } => assert!(align > 1 && align == contig.align),
            ContigError::InUse { pfn, owner } => {
                let is_held = self.pfns.contains_key(&pfn.value());
                // Frames in lists of other CPUs and reserved ones are not free either.
                assert!(contig.exact.is_some());
                if let Some(site) = owner {
                    assert!(is_held, "{pfn} has an owner, and no handle has it");
                    let file = site.file();
                    assert!(file.ends_with("player.rs") || file.ends_with("contig.rs"), "{site}");
                }
            }
            ContigError::NotInMap { .. } | ContigError::CrossesZones { .. } => {
                assert!(contig.exact.is_some());
            }
            ContigError::NoZone { .. } => {
                let is_usable = |zone: &pagemill::stats::ZoneInfo| {
                    let is_near = zone.node.value() == self.local();
                    zone.kind <= contig.gfp.highest_zone()
                        && (is_near || !contig.gfp.contains(Gfp::THISNODE))
                };
                assert!(!before.zones.iter().any(is_usable), "there is a zone");
            }
            other => panic!("{contig:?}: {other}"),
        }
    }
}
