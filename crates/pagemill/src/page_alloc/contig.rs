//! Contiguous ranges: requests for any number of adjacent frames, with alignment and address limit.

use core::fmt;
use core::ops::Range;
use core::panic::Location;

use crate::account::table::{AccountId, Payer};
use crate::base::gfp::{Gfp, ZoneKind};
use crate::base::raw_page::{AccountNumber, Class, RawPage};
use crate::base::shortage::Shortage;
use crate::base::units::{MAX_ORDER, NodeId, Order, PAGE_SHIFT, Pfn, PhysAddr};
use crate::page_alloc::alloc_context::AllocContext;
use crate::page_alloc::allocator::{PageAllocator, Site};
use crate::page_alloc::shrinker::Whom;
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::parts::order_of;
use crate::zone::runs::{Run, Wanted};
use crate::zone::watermark::Mark;
use crate::zone::zone::Zone;

/// A request for adjacent frames; start from [`ContigRequest::new`].
///
/// # Examples
/// A DMA buffer of 33 frames below 4 GiB that begins at a multiple of 64 KiB:
/// ```
/// # use pagemill::contig::{ContigError, ContigRequest};
/// # use pagemill::units::PhysAddr;
/// # use pagemill::{AllocPages, Gfp};
/// # fn example<S: AllocPages>(frames: S) -> Result<(), ContigError> {
/// let request = ContigRequest {
///     align: 16,
///     limit: Some(PhysAddr::new(4 << 30)),
///     ..ContigRequest::new(Gfp::KERNEL, 33)
/// };
/// let buffer = frames.alloc_contig_with(&request)?;
/// assert!(buffer.nr_pages() == 33 && buffer.pfn().value() % 16 == 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from ContigRequest::new")]
pub struct ContigRequest {
    /// Zones, effort and migrate type of the request; see [`Gfp`].
    pub gfp: Gfp,
    /// Number of frames.
    pub nr: usize,
    /// The smallest number of frames that is of use: a request that finds no `nr` adjacent frames gets
    /// the longest run of at least `min`.
    pub min: usize,
    /// Alignment of the first frame, in frames; a power of two.
    pub align: usize,
    /// No byte of the range is at this address or above; `None` for no limit.
    pub limit: Option<PhysAddr>,
    /// The preferred node; `None` for the node of the caller's CPU.
    pub node: Option<NodeId>,
    /// The account that is charged; `None` for the platform's current one if `gfp` has
    /// [`Gfp::ACCOUNT`], else for none.
    pub account: Option<AccountId>,
}

impl ContigRequest {
    /// Makes a request for `nr` adjacent frames anywhere.
    #[must_use]
    pub const fn new(gfp: Gfp, nr: usize) -> Self {
        Self { gfp, nr, min: nr, align: 1, limit: None, node: None, account: None }
    }

    /// Returns the first frame that is not below the limit.
    fn end(&self) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit.value() >> PAGE_SHIFT)
    }
}

/// Why a request for adjacent frames failed. Nothing is allocated then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContigError {
    /// The request is for zero frames, or accepts zero frames or more than it asks for.
    BadNr {
        /// The number of frames.
        nr: usize,
        /// The smallest number that the request accepts.
        min: usize,
    },
    /// The alignment is not a power of two.
    BadAlign {
        /// The alignment, in frames.
        align: usize,
    },
    /// No zone that the request may use has memory below the limit.
    LimitTooLow {
        /// The limit.
        limit: PhysAddr,
        /// The first byte of the lowest of these zones.
        lowest: PhysAddr,
    },
    /// No zone is of a kind and on a node that the request admits.
    NoZone {
        /// The flags of the request.
        gfp: Gfp,
    },
    /// No frame of a zone that the request may use is a multiple of the alignment and below the limit.
    NoneAligned {
        /// The alignment, in frames.
        align: usize,
    },
    /// No zone that the request may use has `nr` adjacent frames, even if all were free.
    TooLong {
        /// The number of frames that the request needs.
        nr: usize,
        /// The largest number that fits below the request's limit with its alignment.
        largest: usize,
    },
    /// The first frame of a block is not a multiple of the block's size.
    Misaligned {
        /// The frame.
        pfn: Pfn,
        /// The order of the block.
        order: Order,
    },
    /// A frame of the range is not in the allocator's memory map: it is in a hole or outside.
    NotInMap {
        /// The number of the first such frame, which may be too large for a [`Pfn`].
        pfn: u64,
    },
    /// The range begins in one zone and ends in another.
    CrossesZones {
        /// The first frame that is not in the zone of the range's first frame.
        pfn: Pfn,
    },
    /// A frame of the range is not free: it is allocated, reserved, or in a per-CPU list that another
    /// CPU uses at the moment.
    InUse {
        /// The first such frame.
        pfn: Pfn,
        /// The call that allocated it, if [`Config::page_owner`](crate::Config::page_owner) is set.
        owner: Option<&'static Location<'static>>,
    },
    /// Enough frames are free above the watermark, but no `nr` of them are adjacent, at a multiple of the
    /// request's alignment and below its limit.
    Fragmented {
        /// The number of frames that the request needs.
        nr: usize,
        /// The number of frames above the watermark in the zone that has most of them.
        nr_free: u64,
    },
    /// Memory is short, or the request was refused for another reason.
    Short {
        /// The number of frames that the request needs.
        nr: usize,
        /// Why there are not as many.
        short: Shortage,
    },
}

impl ContigError {
    /// Returns why there are not enough frames, if the request itself was valid.
    #[must_use]
    pub const fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Short { short, .. } => Some(*short),
            Self::Fragmented { .. } => Some(Shortage::Memory),
            _ => None,
        }
    }
}

impl fmt::Display for ContigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadNr { nr: 0, .. } => write!(f, "0 frames were requested: ask for at least 1"),
            Self::BadNr { nr, min } => write!(
                f,
                "{nr} frames were requested, of which {min} are enough: allowed are 1 to {nr}"
            ),
            Self::BadAlign { align } => write!(
                f,
                "an alignment of {align} frames is not possible: it must be a power of two, 1 for none"
            ),
            Self::LimitTooLow { limit, lowest } => write!(
                f,
                "no memory that the request may use is below {limit}: the lowest is at {lowest}"
            ),
            Self::NoZone { gfp } => {
                write!(f, "no zone is one that a request with {gfp:?} may use")?;
                match gfp.highest_zone() {
                    ZoneKind::Dma => write!(f, ": set Config::zone_dma, or leave out Gfp::DMA"),
                    _ => write!(f, ": choose a node and a kind of zone that have memory"),
                }
            }
            Self::NoneAligned { align } => write!(
                f,
                "no frame that the request may use is a multiple of {align} frames and below its limit: \
                 choose a smaller alignment"
            ),
            Self::TooLong { nr, largest } => write!(
                f,
                "{nr} adjacent frames are not possible: a range is in one zone, and the longest one \
                 with the request's alignment and limit has {largest} frames"
            ),
            Self::Misaligned { pfn, order } => write!(
                f,
                "a block of order {order} cannot begin at frame {pfn}: it must be a multiple of {}",
                order.nr_pages()
            ),
            Self::NotInMap { pfn } => {
                write!(f, "frame {pfn:#x} is not in the memory map: the range must not touch holes")
            }
            Self::CrossesZones { pfn } => write!(
                f,
                "frame {pfn} is in another zone than the first of the range: ask once for each zone"
            ),
            Self::InUse { pfn, owner: Some(owner) } => {
                write!(f, "frame {pfn} is in use: it was allocated at {owner}")
            }
            Self::InUse { pfn, owner: None } => {
                write!(f, "frame {pfn} is not free: it is in use or reserved")
            }
            Self::Fragmented { nr, nr_free } => write!(
                f,
                "{nr_free} frames are free above the reserve, but no {nr} of them are adjacent where the \
                 request's alignment and limit allow it: free adjacent frames, or ask for fewer"
            ),
            Self::Short { nr, short } => write!(f, "no {nr} adjacent frames: {short}"),
        }
    }
}

impl core::error::Error for ContigError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Short { short, .. } => Some(short),
            _ => None,
        }
    }
}

/// Rounds of reclaim for a request of at most [`MAX_NR_RETRIED`] frames, or with
/// [`Gfp::RETRY_MAYFAIL`].
///
/// # Source
/// `linux-6.12` `mm/internal.h` `MAX_RECLAIM_RETRIES`
const MAX_RECLAIM_RETRIES: u32 = 16;

/// The largest number of frames for which reclaim is repeated without [`Gfp::RETRY_MAYFAIL`].
///
/// # Source
/// `linux-6.12` `include/linux/mmzone.h` `PAGE_ALLOC_COSTLY_ORDER`
const MAX_NR_RETRIED: usize = 8;

/// How often frames of a zone are taken again because requests of other threads took frames at the same
/// time, and too few were left.
const MAX_NR_OVERDRAWN: usize = 8;

/// Adjacent frames that were taken for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// The class of the single pages.
    pub(crate) class: Class,
    pub(crate) start: Pfn,
    pub(crate) nr: usize,
}

impl Taken {
    fn new(class: Class, run: Run) -> Self {
        let nr = usize::try_from(run.nr).expect("as many as a usize asked for");
        Self { class, start: Pfn::new(run.start), nr }
    }

    /// Yields the range as blocks, each as large as its first frame's number and the range allow.
    fn blocks(self) -> impl Iterator<Item = RawPage> {
        let (list, account) = (self.class.list(), self.class.account());
        let (mut pfn, mut left) = (self.start.value(), self.nr as u64);
        core::iter::from_fn(move || {
            let largest = pfn.trailing_zeros().min(left.checked_ilog2()?);
            let exponent = u8::try_from(largest).unwrap_or(u8::MAX).min(MAX_ORDER.value());
            let order = Order::new(exponent).expect("at most MAX_ORDER");
            let block = Class::new(list, order).charged_to(account).at(Pfn::new(pfn));
            pfn += order.nr_pages() as u64;
            left -= order.nr_pages() as u64;
            Some(block)
        })
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Allocates adjacent frames, with all the effort that the request allows.
    pub(crate) fn alloc_contig(
        &self,
        request: &ContigRequest,
        site: Site,
    ) -> Result<Taken, ContigError> {
        let ContigRequest { gfp, nr, min, .. } = *request;
        self.check_contig(request)?;
        let mut payer = self.charge_contig(request)?;
        let wanted = Wanted {
            min: min as u64,
            max: nr as u64,
            align: request.align as u64,
            end: request.end(),
            migratetype: gfp.migratetype(),
        };
        let taken = self.take_contig(request, &wanted, &mut payer);
        let taken = taken.map_err(|short| self.why_short(request, short))?;
        payer.keep(taken.nr as u64);
        debug_assert!(taken.nr <= nr, "{} frames of {nr}", taken.nr);
        Ok(self.finish_contig(taken, &mut payer, gfp, site))
    }

    /// Allocates frames `start` to `start + nr - 1` if all of them are free.
    pub(crate) fn alloc_contig_range(
        &self,
        gfp: Gfp,
        start: Pfn,
        nr: usize,
        site: Site,
    ) -> Result<Taken, ContigError> {
        if nr == 0 {
            return Err(ContigError::BadNr { nr, min: nr });
        }
        let end = start.value().saturating_add(nr as u64);
        let zone = self.zone_of_range(start.value()..end)?;
        let request = ContigRequest::new(gfp, nr);
        let mut payer = self.charge_contig(&request)?;
        let migratetype = gfp.migratetype();
        let attempt = || {
            let mut has_put_back = false;
            let taken = self.take_contig_range(zone, start.value()..end, gfp, &mut has_put_back);
            if has_put_back {
                self.tell_waiters();
            }
            taken
        };
        attempt().or_else(|_| {
            // Some of them may be in per-CPU lists.
            self.drain_all_pages();
            attempt()
        })?;
        let pinned = self.pin();
        let context = self.context(&pinned, gfp.difference(Gfp::THISNODE), None);
        drop(pinned);
        zone.count(self.platform(), |events| {
            self.count_alloc(events, &context, zone, nr as u64, 1);
        });
        let class = Class::new(zone.list(migratetype), Order::ZERO);
        let taken = Taken { class, start, nr };
        Ok(self.finish_contig(taken, &mut payer, gfp, site))
    }

    /// Takes frames `pfns` of a zone for the last attempt of a request. Sets `has_put_back` if some of
    /// them were in use for a moment although the request failed.
    fn take_contig_range(
        &self,
        zone: &Zone,
        pfns: Range<u64>,
        gfp: Gfp,
        has_put_back: &mut bool,
    ) -> Result<(), ContigError> {
        let (platform, mark, kind) = (self.platform(), Mark::last(gfp), zone.facts.kind);
        let nr = pfns.end - pfns.start;
        let short = || {
            let nr = usize::try_from(nr).unwrap_or(usize::MAX);
            ContigError::Short { nr, short: Shortage::Memory }
        };
        if zone.marks.spare(zone.nr_free(), mark, kind) < nr {
            return Err(short());
        }
        let in_use = |pfn| {
            let frame = zone.facts.spans.find(pfn).map(|span| span.frame(pfn));
            let owner = frame.and_then(|frame| self.owners().holder(frame));
            ContigError::InUse { pfn: Pfn::new(pfn), owner }
        };
        // Checked before the first is taken, so that a refused request leaves the migrate types of the
        // pageblocks alone.
        if let Some(used) = zone.first_used(platform, pfns.clone()) {
            return Err(in_use(used));
        }
        let taken = zone.take_range(platform, pfns.clone(), gfp.migratetype(), has_put_back);
        taken.map_err(in_use)?;
        // Another request may have passed the check above at the same time.
        if zone.marks.is_kept(zone.nr_free(), mark, kind) {
            return Ok(());
        }
        zone.put_parts(platform, pfns);
        *has_put_back = true;
        Err(short())
    }

    /// Frees adjacent frames of one class.
    ///
    /// # Panics
    /// If one of them is already free or not in the zone of the class.
    pub(crate) fn free_contig(&self, taken: Taken) {
        if taken.nr == 0 || self.platform().is_abandoned() {
            return;
        }
        // First: a call of the platform that panics below leaves nothing charged.
        self.accounts().uncharge(taken.class.account(), taken.nr as u64);
        if self.slow_path_flags.any() {
            taken.blocks().for_each(|block| self.note_freed(block));
        }
        self.free_unfinished_contig(taken);
    }

    fn free_unfinished_contig(&self, taken: Taken) {
        let start = taken.start.value();
        let zone = self.zone(taken.class.list().zone());
        zone.put_range(self.platform(), start..start + taken.nr as u64);
        self.tell_waiters();
    }

    /// Checks the values of a request against the memory map.
    fn check_contig(&self, request: &ContigRequest) -> Result<(), ContigError> {
        let ContigRequest { gfp, nr, min, align, limit, node, .. } = *request;
        if nr == 0 || min == 0 || min > nr {
            return Err(ContigError::BadNr { nr, min });
        }
        if !align.is_power_of_two() {
            return Err(ContigError::BadAlign { align });
        }
        let context = self.context(&self.pin(), gfp, node);
        let (mut largest, mut lowest) = (0, None::<u64>);
        for zone in self.eligible(&context) {
            largest = largest.max(longest_range(zone, align as u64, request.end()));
            let start = zone.facts.spans.iter().map(|span| span.start).min();
            lowest = lowest.into_iter().chain(start).min();
        }
        let Some(lowest) = lowest else { return Err(ContigError::NoZone { gfp }) };
        if let Some(limit) = limit
            && lowest >= request.end()
        {
            let lowest = Pfn::new(lowest).start();
            return Err(ContigError::LimitTooLow { limit, lowest });
        }
        if largest == 0 {
            return Err(ContigError::NoneAligned { align });
        }
        if largest < min as u64 {
            let largest = usize::try_from(largest).unwrap_or(usize::MAX);
            return Err(ContigError::TooLong { nr: min, largest });
        }
        Ok(())
    }

    /// Returns the error for a request that found no range.
    #[cold]
    fn why_short(&self, request: &ContigRequest, short: Shortage) -> ContigError {
        let nr = request.min;
        let context = self.contig_context(request);
        let mark = Mark::last(self.platform().gfp_context(request.gfp));
        let spare = |zone: &Zone| zone.marks.spare(zone.nr_free(), mark, context.highest);
        match self.eligible(&context).map(spare).max() {
            Some(nr_free) if short == Shortage::Memory && nr_free >= nr as u64 => {
                ContigError::Fragmented { nr, nr_free }
            }
            _ => ContigError::Short { nr, short },
        }
    }

    /// Makes the checks that come before the search, and charges the smallest number of frames that is of
    /// use. The search charges more when it knows how many frames a zone can spare.
    fn charge_contig(&self, request: &ContigRequest) -> Result<Payer, ContigError> {
        let ContigRequest { gfp, nr, min, account, .. } = *request;
        let refused = |short| ContigError::Short { nr: min, short };
        self.check_usable().map_err(refused)?;
        if self.is_faulted(gfp, order_of(nr)) {
            return Err(refused(Shortage::Fault));
        }
        let mut payer = self.payer(account, gfp).ok_or(refused(Shortage::Account))?;
        let charged = self.charge(&mut payer, min as u64, min as u64, gfp);
        if charged == 0 { Err(refused(Shortage::Account)) } else { Ok(payer) }
    }

    /// Takes adjacent frames: first above the low watermark, then as far below as the request may go,
    /// then after reclaim, then after waiting.
    fn take_contig(
        &self,
        request: &ContigRequest,
        wanted: &Wanted,
        payer: &mut Payer,
    ) -> Result<Taken, Shortage> {
        let mut is_low = false;
        if let Some(taken) = self.take_contig_once(request, wanted, Mark::Low, payer, &mut is_low) {
            return Ok(taken);
        }
        let gfp = self.platform().gfp_context(request.gfp);
        let order = order_of(request.nr);
        self.wake_reclaim(order, gfp);
        self.look_for_tracers();
        let mut attempt =
            |gfp| self.take_contig_once(request, wanted, Mark::last(gfp), payer, &mut false);
        // Frames in per-CPU lists may be all that a run lacks. If no zone was passed over because of
        // its watermark, and there are no such frames, another search would find nothing either.
        let nr_drained = self.drain_all_pages();
        if (nr_drained > 0 || is_low)
            && let Some(taken) = attempt(gfp)
        {
            return Ok(taken);
        }
        if !gfp.contains(Gfp::DIRECT_RECLAIM) {
            return Err(Shortage::Memory);
        }
        let context = self.contig_context(request);
        let nodes = context.nodes;
        let is_retried = request.min <= MAX_NR_RETRIED || gfp.contains(Gfp::RETRY_MAYFAIL);
        let nr_rounds = if !self.shrinkers.any() {
            0
        } else if is_retried && !gfp.intersects(Gfp::NORETRY | Gfp::MEMALLOC) {
            MAX_RECLAIM_RETRIES
        } else {
            1
        };
        for _ in 0..nr_rounds {
            self.reclaim_for(order, request.min, gfp, &context, Whom::Due);
            if let Some(taken) = attempt(gfp) {
                return Ok(taken);
            }
        }
        // Before the request fails, shrinkers that were skipped are asked: they may have pages by now.
        if self.reclaim_for(order, request.min, gfp, &context, Whom::PassedOver) > 0
            && let Some(taken) = attempt(gfp)
        {
            return Ok(taken);
        }
        let last = gfp | Gfp::HIGH;
        // Counts reserved frames, which may be handed in later.
        let can_serve = |zone: &Zone| {
            let spare = zone.marks.spare(zone.facts.present, Mark::last(last), context.highest);
            spare.min(longest_range(zone, wanted.align, wanted.end)) >= wanted.min
        };
        if !gfp.contains(Gfp::NOFAIL) || !self.eligible(&context).any(can_serve) {
            return Err(Shortage::Memory);
        }
        let attempt = || {
            self.drain_all_pages();
            attempt(last).or_else(|| {
                self.reclaim_for(order, request.min, gfp, &context, Whom::Due);
                attempt(last)
            })
        };
        self.in_turn(nodes, None, attempt, |_| true)
    }

    fn contig_context(&self, request: &ContigRequest) -> AllocContext {
        self.context(&self.pin(), request.gfp, request.node)
    }

    /// Asks shrinkers for `nr` pages, with the events of direct reclaim.
    fn reclaim_for(
        &self,
        order: Order,
        nr: usize,
        gfp: Gfp,
        context: &AllocContext,
        whom: Whom,
    ) -> u64 {
        self.platform().trace(Event::VmscanDirectReclaimBegin { gfp, order });
        let nr_reclaimed = self.reclaim(nr, gfp, context.nodes, whom);
        self.platform().trace(Event::VmscanDirectReclaimEnd { nr_reclaimed });
        nr_reclaimed
    }

    /// Takes adjacent frames from the first zone that has them above `mark`, and charges what they need
    /// beyond `wanted.min`; sets `is_low` if the watermark ruled out frames of a zone.
    fn take_contig_once(
        &self,
        request: &ContigRequest,
        wanted: &Wanted,
        mark: Mark,
        payer: &mut Payer,
        is_low: &mut bool,
    ) -> Option<Taken> {
        let context = self.contig_context(request);
        let mut has_put_back = false;
        let taken = self.eligible(&context).find_map(|zone| {
            for _ in 0..MAX_NR_OVERDRAWN {
                let spare = zone.marks.spare(zone.nr_free(), mark, context.highest);
                if spare < wanted.min {
                    *is_low = true;
                    return None;
                }
                if !has_below(zone, wanted.end) {
                    return None;
                }
                let max = wanted.max.min(spare);
                if payer.charged() < max {
                    self.charge(payer, max - payer.charged(), 1, request.gfp);
                }
                let wanted = Wanted { max: max.min(payer.charged()), ..*wanted };
                let count = |events: &_, nr| self.count_alloc(events, &context, zone, nr, 1);
                let (platform, home) = (self.platform(), context.home);
                let run = zone.take_contig(platform, home, &wanted, &mut has_put_back, count)?;
                // Another request may have passed the check above at the same time.
                if zone.marks.is_kept(zone.nr_free(), mark, context.highest) {
                    return Some((zone, run));
                }
                zone.put_range(platform, run.start..run.start + run.nr);
                has_put_back = true;
            }
            *is_low = true;
            None
        });
        if has_put_back {
            self.tell_waiters();
        }
        let Some((zone, run)) = taken else {
            payer.keep(wanted.min);
            return None;
        };
        let nr_pages = usize::try_from(run.nr).unwrap_or(usize::MAX);
        let event = zone.gave(wanted.migratetype, order_of(nr_pages), nr_pages, false);
        self.platform().trace(event);
        Some(Taken::new(Class::new(zone.list(wanted.migratetype), Order::ZERO), run))
    }

    /// Prepares new frames for their owner, block by block, and hands their charge over.
    fn finish_contig(&self, taken: Taken, payer: &mut Payer, gfp: Gfp, site: Site) -> Taken {
        if self.slow_path_flags.any() {
            for block in taken.blocks() {
                self.finish(block, AccountNumber::NONE, gfp, site);
            }
        } else if gfp.contains(Gfp::ZERO) {
            self.zero(taken.start, taken.nr);
        }
        payer.hand_over(taken.nr as u64);
        Taken { class: taken.class.charged_to(payer.account()), ..taken }
    }

    /// Returns the zone that all of `pfns` are in.
    fn zone_of_range(&self, pfns: Range<u64>) -> Result<&'static Zone, ContigError> {
        let find = |pfn| {
            let mut zones = self.zones().iter();
            zones.find_map(|zone| Some((zone, zone.facts.spans.find(pfn)?)))
        };
        let not_in_map = |pfn| ContigError::NotInMap { pfn };
        let (zone, mut span) = find(pfns.start).ok_or(not_in_map(pfns.start))?;
        // Neighbouring regions of the map may be spans of their own.
        while span.end < pfns.end {
            let pfn = span.end;
            let (next_zone, next) = find(pfn).ok_or(not_in_map(pfn))?;
            if next_zone.facts.index != zone.facts.index {
                return Err(ContigError::CrossesZones { pfn: Pfn::new(pfn) });
            }
            span = next;
        }
        Ok(zone)
    }
}

/// Returns whether a zone has frames below `end`.
fn has_below(zone: &Zone, end: u64) -> bool {
    zone.facts.spans.iter().any(|span| span.start < end)
}

/// Returns the number of frames of the longest range of a zone that begins at a multiple of `align` and
/// ends at `end` or before.
fn longest_range(zone: &Zone, align: u64, end: u64) -> u64 {
    let (mut longest, mut start, mut last) = (0, 0, None);
    for span in zone.facts.spans.iter() {
        if last != Some(span.start) {
            start = span.start;
        }
        last = Some(span.end);
        if let Some(first) = start.checked_add(align - 1) {
            longest = longest.max(span.end.min(end).saturating_sub(first & !(align - 1)));
        }
    }
    longest
}
