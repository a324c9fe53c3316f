//! Bulk requests: order, effort, policy, account and stop callback for a bulk call into any sink.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::engine::{Finish, Sink};
use super::pfns::Numbers;
use super::slots::{Empty, Holes, Uninit, all_empty};
use super::words::{EmptyWords, WordHoles, are_empty};
use crate::account::table::{AccountId, Payer};
use crate::base::gfp::Gfp;
use crate::base::policy::{NodeMask, Policy, Share};
use crate::base::raw_page::RawPage;
use crate::base::shortage::Shortage;
use crate::base::units::{MAX_ORDER, Order, Pfn};
use crate::page::list::PageList;
use crate::page::owned::{Owned, Unowned};
use crate::page::page::{Folio, Page};
use crate::page::source::PageSource;
use crate::page_alloc::allocator::{PAGES_PER_HOLD, PageAllocator, Site};
use crate::page_alloc::slow::{BlockRequest, COSTLY_ORDER};
use crate::percpu::pcp::Batch;
use crate::platform::platform::Platform;
use crate::zone::watermark::Mark;

/// How hard a bulk request tries to get everything that it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effort {
    /// Takes only what the per-CPU lists, and zones above their low watermark, can give at once.
    Fast,
    /// Continues as long as there is progress and the flags allow it: below the low watermark, with
    /// reclaim. A short result means severe memory pressure.
    #[default]
    TryHard,
    /// Tries as hard as `TryHard`, but frees a short result: all or nothing.
    AllOrNothing,
}

/// A bulk request; start from [`BulkRequest::new`].
///
/// With [`Gfp::DIRECT_RECLAIM`] a request may sleep in shrinkers, or for a while until other threads
/// have asked them. It waits for other threads to free memory only if it has a [`stop`](Self::stop)
/// callback to end that wait, or may not fail ([`Gfp::NOFAIL`]). A waiting request takes its turn among
/// those that wait for pages of the same nodes, and holds nothing until then. So two requests for the
/// last pages are served one after the other. Meanwhile, requests that do not wait, and those that wait
/// for one block of an order up to 3, take the pages that they find. If more than 64 requests wait for
/// a turn, those beyond 64 are served in no particular order.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from BulkRequest::new")]
pub struct BulkRequest<'a> {
    /// Zones, migrate type, reserves, reclaim.
    pub gfp: Gfp,
    /// Size of each block.
    pub order: Order,
    /// How hard to try.
    pub effort: Effort,
    /// Nodes to allocate on.
    pub policy: Policy<'a>,
    /// The account that pays; `None` for the one that [`Gfp::ACCOUNT`] selects. It is charged once for
    /// the whole request. An account that is closed, or belongs to another allocator, cannot pay:
    /// [`Shortage::Account`].
    pub account: Option<AccountId>,
    /// Stops the request, and its waiting, when it returns true. It is called before the request
    /// reclaims or waits, and approximately once for every 512 pages, sometimes more often. Unless the
    /// effort is all or nothing, the request then returns the pages that it has.
    pub stop: Option<&'a dyn Fn() -> bool>,
}

/// The result of a bulk request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the request may have fallen short"]
pub struct BulkOutcome {
    /// Blocks that this call allocated and handed over.
    pub new: usize,
    /// Number of examined slots that hold a block after the call.
    pub populated: usize,
    /// Why the result is short; `None` if it is complete.
    pub short: Option<Shortage>,
}

impl<'a> BulkRequest<'a> {
    /// Makes a request for single pages on the caller's node, with [`Effort::TryHard`].
    #[must_use]
    pub const fn new(gfp: Gfp) -> Self {
        Self {
            gfp,
            order: Order::ZERO,
            effort: Effort::TryHard,
            policy: Policy::Local,
            account: None,
            stop: None,
        }
    }

    fn may_wait(&self) -> bool {
        self.effort != Effort::Fast
            && self.gfp.contains(Gfp::DIRECT_RECLAIM)
            && (self.stop.is_some() || self.gfp.contains(Gfp::NOFAIL))
    }
}

impl core::fmt::Debug for BulkRequest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BulkRequest")
            .field("gfp", &self.gfp)
            .field("order", &self.order)
            .field("effort", &self.effort)
            .field("policy", &self.policy)
            .field("account", &self.account)
            .field("stop", &self.stop.is_some())
            .finish()
    }
}

/// An item that a bulk request can hand out: a [`Page`] for order zero, a [`Folio`] for any order.
pub trait BulkItem: Owned {
    /// Panics if blocks of `order` cannot be items of this kind.
    #[doc(hidden)]
    #[track_caller]
    fn check_order(order: Order);
}

impl<S: PageSource> BulkItem for Page<S> {
    #[track_caller]
    fn check_order(order: Order) {
        assert!(order == Order::ZERO, "a Page has order 0, not {order}: ask for Folios");
    }
}

impl<S: PageSource> BulkItem for Folio<S> {
    fn check_order(_order: Order) {}
}

/// Fills the empty slots of `slots[hint]`.
#[track_caller]
pub(crate) fn fill<T: BulkItem>(
    source: &T::Source,
    request: &BulkRequest<'_>,
    slots: &mut [Option<T>],
    hint: Range<usize>,
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    let slots = &mut slots[hint];
    let nr = slots.len();
    if all_empty(slots) {
        return serve(source, request, nr, &mut Empty { slots, source }, site);
    }
    let empty = slots.iter().filter(|slot| slot.is_none()).count();
    let mut holes = Holes { slots: slots.iter_mut(), source };
    let outcome = serve(source, request, empty, &mut holes, site);
    BulkOutcome { populated: nr - empty + outcome.new, ..outcome }
}

/// Writes blocks into uninitialised memory, from its start on.
#[track_caller]
pub(crate) fn write<T: BulkItem>(
    source: &T::Source,
    request: &BulkRequest<'_>,
    room: &mut [MaybeUninit<T>],
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    let nr = room.len();
    serve(source, request, nr, &mut Uninit { room, source }, site)
}

/// Appends blocks to a list.
#[track_caller]
pub(crate) fn append<T: BulkItem>(
    source: &T::Source,
    request: &BulkRequest<'_>,
    nr: usize,
    list: &mut PageList<T>,
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    serve(source, request, nr, list, site)
}

/// Writes the numbers of the first frames of blocks.
#[track_caller]
pub(crate) fn pfns<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    pfns: &mut [Pfn],
    site: Site,
) -> BulkOutcome {
    let nr = pfns.len();
    serve(source, request, nr, &mut Numbers { room: pfns, source }, site)
}

/// Fills the empty slots with the words of blocks.
#[track_caller]
pub(crate) fn words<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    slots: &mut [Option<RawPage>],
    site: Site,
) -> BulkOutcome {
    let nr = slots.len();
    if are_empty(slots) {
        return serve(source, request, nr, &mut EmptyWords { slots }, site);
    }
    let empty = slots.iter().filter(|slot| slot.is_none()).count();
    let mut holes = WordHoles { slots: slots.iter_mut() };
    let outcome = serve(source, request, empty, &mut holes, site);
    BulkOutcome { populated: nr - empty + outcome.new, ..outcome }
}

/// Passes blocks to a callback, one by one.
#[track_caller]
pub(crate) fn for_each<T: BulkItem>(
    source: &T::Source,
    request: &BulkRequest<'_>,
    nr: usize,
    mut take: impl FnMut(T),
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    let allocator = source.allocator();
    let take = |raw| take(T::from_unowned(source.clone(), Unowned(raw)));
    run(source, request, Pieces::Blocks, nr, &mut Hand { allocator, take }, site)
}

/// Passes `nr` frames to a callback, in as few blocks as possible.
#[track_caller]
pub(crate) fn extents<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    nr: usize,
    mut take: impl FnMut(Folio<S>),
    site: Site,
) -> BulkOutcome {
    let allocator = source.allocator();
    let take = |raw| take(Folio::new(source.clone(), raw));
    let request = BulkRequest { order: Order::ZERO, ..*request };
    run(source, &request, Pieces::Largest, nr, &mut Hand { allocator, take }, site)
}

/// A sink that passes each page to the caller's code, which may take long, allocate or panic.
struct Hand<'a, P: Platform, F> {
    allocator: &'a PageAllocator<P>,
    take: F,
}

impl<P: Platform, F: FnMut(RawPage)> Sink for Hand<'_, P, F> {
    fn accept(&mut self, pages: &[RawPage]) {
        let mut rest = Rest { allocator: self.allocator, pages };
        while let Some((&page, others)) = rest.pages.split_first() {
            rest.pages = others;
            (self.take)(page);
        }
    }

    fn is_slow(&self) -> bool {
        true
    }
}

/// The pages that the caller's code has not received; frees them if that code panics.
struct Rest<'a, P: Platform> {
    allocator: &'a PageAllocator<P>,
    pages: &'a [RawPage],
}

impl<P: Platform> Drop for Rest<'_, P> {
    fn drop(&mut self) {
        self.allocator.free_pages(self.pages);
    }
}

/// Sizes of the blocks that a request gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pieces {
    /// Blocks of the request's order.
    Blocks,
    /// The largest free blocks, of any order; the request's order is zero.
    Largest,
}

/// Serves a request for `nr` blocks of its order.
///
/// A request for single pages that this CPU's list can serve at once is one copy. The effort and the stop
/// callback matter only to a request that needs more than that.
#[inline]
#[track_caller]
fn serve<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    nr: usize,
    sink: &mut impl Sink,
    site: Site,
) -> BulkOutcome {
    let is_plain = request.order == Order::ZERO
        && request.account.is_none()
        && matches!(request.policy, Policy::Local);
    if is_plain && source.allocator().alloc_bulk_at_once(request.gfp, nr, sink) {
        return BulkOutcome { new: nr, populated: nr, short: None };
    }
    run(source, request, Pieces::Blocks, nr, sink, site)
}

/// Serves a request for `nr` blocks.
#[cold]
#[inline(never)]
#[track_caller]
fn run<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    pieces: Pieces,
    nr: usize,
    sink: &mut dyn Sink,
    site: Site,
) -> BulkOutcome {
    let allocator = source.allocator();
    let outcome = |new, short| {
        allocator.trace_bulk(request.gfp, request.order, nr, new, short);
        BulkOutcome { new, populated: new, short }
    };
    allocator.check_nodes(&request.policy);
    if nr == 0 {
        return outcome(0, None);
    }
    if let Err(short) = allocator.check_usable() {
        return outcome(0, Some(short));
    }
    if allocator.is_faulted(request.gfp, request.order) {
        return outcome(0, Some(Shortage::Fault));
    }
    let gfp = match request.effort {
        Effort::Fast => request.gfp.difference(Gfp::NOFAIL),
        _ => request.gfp,
    };
    let Some(payer) = allocator.payer(request.account, gfp) else {
        return outcome(0, Some(Shortage::Account));
    };
    let mut finish = Finish { allocator, sink, payer, gfp: request.gfp, site };
    let search = Search { source, request, pieces, gfp, stop: request.stop, site };
    let (new, short) = if request.effort == Effort::AllOrNothing || request.may_wait() {
        search.whole(nr, &mut finish)
    } else {
        let (affordable, unaffordable) = search.charge(&mut finish.payer, nr);
        let (new, short) = search.some(affordable, &mut finish);
        (new, short.or(unaffordable))
    };
    outcome(new, short)
}

/// The inputs of the search for one request's blocks.
struct Search<'a, S: PageSource> {
    source: &'a S,
    request: &'a BulkRequest<'a>,
    pieces: Pieces,
    gfp: Gfp,
    stop: Option<&'a dyn Fn() -> bool>,
    site: Site,
}

impl<S: PageSource> Search<'_, S> {
    /// Gets all of `nr` blocks, waiting in turn if the request may wait, and hands them over. A short
    /// result is handed over only if the effort is not all or nothing.
    fn whole(&self, nr: usize, finish: &mut Finish<'_, S::Platform>) -> (usize, Option<Shortage>) {
        let all = self.request.effort == Effort::AllOrNothing;
        // Otherwise reclaim would empty all caches, and the pages got so far would lack elsewhere.
        if all && !self.is_possible(nr) {
            return (0, Some(Shortage::Memory));
        }
        let mut got = Gathered::new(self.source);
        let mut short = self.attempt(nr, &mut finish.payer, &mut got);
        if short == Some(Shortage::Memory) && self.request.may_wait() && self.is_possible(nr) {
            // While others are served, the request holds nothing and pays for nothing.
            got.give_back();
            finish.payer.keep(0);
            short = self.wait(nr, &mut finish.payer, &mut got);
        }
        if short.is_some() && all {
            return (0, short);
        }
        let (new, stopped) = self.hand_over(&mut got, finish);
        (new, stopped.or(short))
    }

    /// Returns the same search with another effort.
    fn with<'s>(&'s self, gfp: Gfp, stop: Option<&'s dyn Fn() -> bool>) -> Search<'s, S> {
        let Self { source, request, pieces, site, .. } = *self;
        Search { source, request, pieces, gfp, stop, site }
    }

    /// Makes attempts in turn until all blocks are there or the request is stopped.
    fn wait(&self, nr: usize, payer: &mut Payer, got: &mut Gathered<'_, S>) -> Option<Shortage> {
        let allocator = self.source.allocator();
        let small = nr == 1 && self.request.order <= COSTLY_ORDER;
        let claims = if small {
            // No claim: a single small block is taken wherever it is found, as by a request that does
            // not wait.
            NodeMask::NONE
        } else {
            allocator.nodes_of(&allocator.context_for(self.gfp, &self.request.policy))
        };
        let attempt = || {
            let short = self.attempt(nr, payer, got);
            (short != Some(Shortage::Memory)).then_some(short)
        };
        let waited = allocator.in_turn(claims, self.stop, attempt, Option::is_none);
        match waited {
            Ok(short) => short,
            Err(stopped) if self.request.effort == Effort::AllOrNothing => Some(stopped),
            // A request that accepts less gets what is free now, without further effort.
            Err(stopped) => {
                let gfp = self.gfp.difference(Gfp::DIRECT_RECLAIM);
                self.with(gfp, None).attempt(nr, payer, got).and(Some(stopped))
            }
        }
    }

    /// Charges and gets the missing blocks of `nr`.
    fn attempt(&self, nr: usize, payer: &mut Payer, got: &mut Gathered<'_, S>) -> Option<Shortage> {
        let there = got.nr_pages >> self.request.order.value();
        let (affordable, unaffordable) = self.charge(payer, nr - there);
        let short = self.some(affordable, got).1;
        payer.keep(got.nr_pages as u64);
        short.or(unaffordable)
    }

    /// Charges up to `nr` blocks. Returns how many, and why not all.
    fn charge(&self, payer: &mut Payer, nr: usize) -> (usize, Option<Shortage>) {
        if payer.account().is_none() {
            return (nr, None);
        }
        let order = self.request.order;
        let pages = |nr: usize| (nr as u64).saturating_mul(order.nr_pages() as u64);
        // Never charges for more pages than the zones have.
        let most = nr.min(self.most(Mark::None));
        let least = if self.request.effort == Effort::AllOrNothing { most } else { 1 };
        let before = payer.charged();
        let allocator = self.source.allocator();
        let charged = allocator.charge(payer, pages(most), pages(least), self.gfp);
        // Pages that do not make a whole block are uncharged at once.
        let affordable = usize::try_from(charged >> order.value()).unwrap_or(most).min(most);
        payer.keep(before + pages(affordable));
        let short = match affordable {
            _ if affordable < most => Some(Shortage::Account),
            _ if most < nr => Some(Shortage::Memory),
            _ => None,
        };
        (affordable, short)
    }

    /// Returns whether the zones could give `nr` blocks if no page were in use.
    fn is_possible(&self, nr: usize) -> bool {
        let gfp = self.source.allocator().platform().gfp_context(self.gfp);
        self.most(Mark::last(gfp)) >= nr
    }

    /// Returns how many blocks the zones could give down to `mark` if no page were in use.
    fn most(&self, mark: Mark) -> usize {
        let allocator = self.source.allocator();
        let request = allocator.context_for(self.gfp, &self.request.policy);
        usize::try_from(allocator.most(&request, self.request.order, mark)).unwrap_or(usize::MAX)
    }

    /// Hands over the gathered blocks; stops when the request is stopped, unless it wants all.
    fn hand_over(
        &self,
        got: &mut Gathered<'_, S>,
        finish: &mut Finish<'_, S::Platform>,
    ) -> (usize, Option<Shortage>) {
        let all = self.request.effort == Effort::AllOrNothing;
        let (mut handed, mut asked) = (0, 0);
        while got.nr_pages > 0 {
            if !all && handed - asked >= PAGES_PER_HOLD {
                asked = handed;
                if self.is_stopped() {
                    return (handed >> self.request.order.value(), Some(Shortage::Stopped));
                }
            }
            let before = got.nr_pages;
            let batch = got.take_batch();
            finish.accept(batch.as_slice());
            handed += before - got.nr_pages;
        }
        (handed >> self.request.order.value(), None)
    }

    /// Gets up to `nr` blocks, and hands over the blocks that it gets.
    fn some(&self, nr: usize, sink: &mut dyn Sink) -> (usize, Option<Shortage>) {
        let policy = &self.request.policy;
        let mut deal = policy.deal(nr);
        let strict = matches!(policy, Policy::Bind(_)) || self.gfp.contains(Gfp::THISNODE);
        let mut done = 0;
        while let Some(share) = deal.next_share() {
            // A policy that only prefers its nodes makes no effort there before it tries the other
            // nodes.
            let falls_back = !strict && share.nodes != NodeMask::ALL;
            let effortless =
                (self.gfp | Gfp::NORETRY | Gfp::NOWARN).difference(Gfp::DIRECT_RECLAIM);
            let first = self.with(if falls_back { effortless } else { self.gfp }, self.stop);
            let (new, short) = first.share(share, sink);
            done += new;
            if new == share.nr {
                continue;
            }
            if !falls_back || short != Some(Shortage::Memory) {
                return (done, short);
            }
            let rest = Share { node: None, nodes: NodeMask::ALL, nr: share.nr - new };
            let (new, short) = self.share(rest, sink);
            done += new;
            if new < rest.nr {
                return (done, short);
            }
        }
        deal.commit();
        (done, None)
    }

    /// Gets up to a share's number of blocks from the share's nodes.
    fn share(&self, share: Share, sink: &mut dyn Sink) -> (usize, Option<Shortage>) {
        let allocator = self.source.allocator();
        let mut done = 0;
        if self.pieces == Pieces::Largest {
            done = self.large_pieces(share, sink);
        }
        let order = self.request.order;
        let step = self.step(order);
        while done < share.nr {
            let nr = (share.nr - done).min(step);
            let moved = if order == Order::ZERO {
                let gfp = self.gfp.difference(Gfp::ZERO);
                allocator.alloc_bulk_anywhere(gfp, share.node, share.nodes, nr, sink)
            } else {
                self.blocks(share, (order, nr), sink)
            };
            done += moved;
            if moved < nr {
                break;
            }
            if done < share.nr && self.is_stopped() {
                return (done, Some(Shortage::Stopped));
            }
        }
        let mut asked = done;
        while done < share.nr {
            match self.block(share, self.gfp, self.request.order) {
                Ok(page) => sink.accept(&[page]),
                Err(short) => return (done, Some(short)),
            }
            done += 1;
            if (done - asked) << self.request.order.value() >= PAGES_PER_HOLD {
                asked = done;
                if done < share.nr && self.is_stopped() {
                    return (done, Some(Shortage::Stopped));
                }
            }
        }
        (done, None)
    }

    /// Gets blocks of more than one frame, the largest first, and returns the number of frames. It does
    /// not reclaim for them, since only single pages are worth that, but it uses the reserves that the
    /// request may use.
    fn large_pieces(&self, share: Share, sink: &mut dyn Sink) -> usize {
        let gfp = (self.gfp | Gfp::NORETRY | Gfp::NOWARN).difference(Gfp::DIRECT_RECLAIM);
        let mut done = 0;
        let mut largest = MAX_ORDER.value();
        while share.nr > done && !self.is_stopped() {
            let fits = u8::try_from((share.nr - done).ilog2()).unwrap_or(u8::MAX).min(largest);
            let Ok(order) = Order::new(fits) else { break };
            if order == Order::ZERO {
                break;
            }
            let nr = ((share.nr - done) >> fits).min(self.step(order));
            let moved = self.blocks(share, (order, nr), sink);
            done += moved << fits;
            if moved == nr {
                continue;
            }
            // Below the low watermark, one by one.
            match self.block(share, gfp, order) {
                Ok(block) => {
                    sink.accept(&[block]);
                    done += order.nr_pages();
                }
                Err(_) => largest = fits - 1,
            }
        }
        done
    }

    /// Returns how many blocks are taken before the stop callback is called.
    fn step(&self, order: Order) -> usize {
        match self.stop {
            Some(_) => (PAGES_PER_HOLD >> order.value()).max(1),
            None => usize::MAX,
        }
    }

    /// Takes up to `nr` blocks from a share's nodes above the low watermark, several under one lock, and
    /// returns their number.
    fn blocks(&self, share: Share, blocks: (Order, usize), sink: &mut dyn Sink) -> usize {
        let allocator = self.source.allocator();
        allocator.alloc_blocks_anywhere(self.gfp, share.node, share.nodes, blocks, sink)
    }

    /// Takes one block from a share's nodes.
    fn block(&self, share: Share, gfp: Gfp, order: Order) -> Result<RawPage, Shortage> {
        let allocator = self.source.allocator();
        // The whole request waits, not each of its blocks.
        let gfp = gfp.difference(Gfp::NOFAIL);
        let ask = BlockRequest {
            nodes: share.nodes,
            stop: self.stop,
            ..BlockRequest::new(gfp, share.node, order, self.site)
        };
        match self.request.effort {
            Effort::Fast => allocator.take_fast(&ask),
            Effort::TryHard | Effort::AllOrNothing => allocator.take_block(&ask),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop())
    }
}

/// Blocks that were taken for a request and are not finished; dropping this frees them.
struct Gathered<'a, S: PageSource> {
    /// The first blocks.
    batch: Batch,
    /// The blocks after those of `batch`.
    list: PageList<Folio<S>>,
    nr_pages: usize,
    source: &'a S,
}

impl<'a, S: PageSource> Gathered<'a, S> {
    fn new(source: &'a S) -> Self {
        let list = PageList::new(source.clone());
        Self { batch: Batch::new(), list, nr_pages: 0, source }
    }

    /// Takes the first blocks, at least one if there is any.
    fn take_batch(&mut self) -> Batch {
        let mut batch = core::mem::take(&mut self.batch);
        while !batch.is_full()
            && let Some(raw) = self.list.pop_link()
        {
            batch.push_all([raw]);
        }
        self.nr_pages -= pages_of(batch.as_slice());
        batch
    }

    fn give_back(&mut self) {
        while self.nr_pages > 0 {
            for &raw in self.take_batch().as_slice() {
                self.source.allocator().free_unfinished(raw);
            }
        }
    }
}

impl<S: PageSource> Sink for Gathered<'_, S> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        self.nr_pages += pages_of(pages);
        let room = if self.list.is_empty() { Batch::CAPACITY - self.batch.len() } else { 0 };
        let (first, others) = pages.split_at(pages.len().min(room));
        self.batch.push_all(first.iter().copied());
        self.list.extend_raw(others);
    }
}

impl<S: PageSource> Drop for Gathered<'_, S> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Returns the number of frames of `blocks`.
fn pages_of(blocks: &[RawPage]) -> usize {
    blocks.iter().map(|block| block.order().nr_pages()).sum()
}
