//! The bulk interface that its users asked for: one request, any sink, any order, any effort.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::engine::{Finish, Sink, Wanted};
use crate::account::AccountId;
use crate::allocator::Site;
use crate::gfp::Gfp;
use crate::handle::{AccountNumber, RawPage};
use crate::list::{Listable, PageList};
use crate::page::{Folio, Page};
use crate::policy::{NodeMask, Policy};
use crate::shortage::Shortage;
use crate::slow::Ask;
use crate::source::PageSource;
use crate::units::{MAX_ORDER, NodeId, Order};

/// How hard a bulk request tries to get all it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effort {
    /// Takes what the per-CPU lists and zones above their low watermark give at once.
    Fast,
    /// Goes on for as long as there is progress, as far as the flags admit: below the low
    /// watermark, with reclaim. A short result means grave pressure.
    #[default]
    TryHard,
    /// As `TryHard`, but what falls short is given back: all or nothing.
    AllOrNothing,
}

/// What a bulk call is to allocate; start from [`BulkRequest::new`].
///
/// A request never sleeps for memory unless it brings the means to end that sleep, a
/// [`stop`](Self::stop) callback, or may not fail ([`Gfp::NOFAIL`]). With one of these it waits its
/// turn among all who wait, holding nothing until then, so that two requests for the last pages
/// are served one after the other.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from BulkRequest::new")]
pub struct BulkRequest<'a> {
    /// Zones, kind of page, reserves, reclaim.
    pub gfp: Gfp,
    /// Size of each block.
    pub order: Order,
    /// How hard to try.
    pub effort: Effort,
    /// On which nodes.
    pub policy: Policy<'a>,
    /// Who pays; `None` for whoever [`Gfp::ACCOUNT`] says. Charged once for the whole request.
    pub account: Option<AccountId>,
    /// Ends the request's efforts, and its waiting, when it returns true; asked now and then.
    pub stop: Option<&'a dyn Fn() -> bool>,
}

/// What a bulk request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkOutcome {
    /// Blocks that were allocated by this call and handed over.
    pub new: usize,
    /// Slots that hold a block after it, of those that were looked at.
    pub populated: usize,
    /// Why it fell short; `None` if it did not.
    pub short: Option<Shortage>,
}

impl<'a> BulkRequest<'a> {
    /// Asks for single pages on the caller's node, trying hard.
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

/// What a bulk request can hand out: a [`Page`] for order zero, a [`Folio`] for any order.
pub trait BulkItem: Sized + sealed::Sealed {
    /// How the item finds its allocator.
    type Source: PageSource;

    /// Makes the owner of a block that was just allocated.
    ///
    /// # Safety
    /// `raw` was handed out by the allocator of `source`, and nobody else makes an owner of it.
    #[doc(hidden)]
    unsafe fn from_block(source: &Self::Source, raw: RawPage) -> Self;

    /// Panics if blocks of `order` cannot be items of this kind.
    #[doc(hidden)]
    fn check_order(order: Order);
}

mod sealed {
    /// Items own what they are made of, so nobody else may say what an item is.
    #[expect(unnameable_types, reason = "sealed")]
    pub trait Sealed {}
}

impl<S: PageSource> sealed::Sealed for Page<S> {}

impl<S: PageSource> BulkItem for Page<S> {
    type Source = S;

    #[inline]
    unsafe fn from_block(source: &S, raw: RawPage) -> Self {
        Self::new(source.clone(), raw)
    }

    fn check_order(order: Order) {
        assert!(order == Order::ZERO, "a Page has order 0, not {order}: ask for Folios");
    }
}

impl<S: PageSource> sealed::Sealed for Folio<S> {}

impl<S: PageSource> BulkItem for Folio<S> {
    type Source = S;

    #[inline]
    unsafe fn from_block(source: &S, raw: RawPage) -> Self {
        Self::new(source.clone(), raw)
    }

    fn check_order(_order: Order) {}
}

/// Fills the empty slots of `slots[hint]`.
pub(crate) fn fill<T: BulkItem>(
    source: &<T as BulkItem>::Source,
    request: &BulkRequest<'_>,
    slots: &mut [Option<T>],
    hint: Range<usize>,
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    let slots = &mut slots[hint];
    let empty = slots.iter().filter(|slot| slot.is_none()).count();
    let full = slots.len() - empty;
    let holes = slots.iter_mut().filter(|slot| slot.is_none());
    let outcome = run(
        source,
        request,
        empty,
        &mut Each(holes, |slot: &mut Option<T>, raw| {
            // SAFETY: 1. handed out for this call: a sink is given each block once.
            *slot = Some(unsafe { T::from_block(source, raw) });
        }),
        site,
    );
    BulkOutcome { populated: full + outcome.new, ..outcome }
}

/// Writes blocks into memory that holds none yet, from its start on.
pub(crate) fn write<T: BulkItem>(
    source: &<T as BulkItem>::Source,
    request: &BulkRequest<'_>,
    room: &mut [MaybeUninit<T>],
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    let nr = room.len();
    run(
        source,
        request,
        nr,
        &mut Each(room.iter_mut(), |entry: &mut MaybeUninit<T>, raw| {
            // SAFETY: 1. handed out for this call: a sink is given each block once.
            entry.write(unsafe { T::from_block(source, raw) });
        }),
        site,
    )
}

/// Appends blocks to a list.
pub(crate) fn append<T: BulkItem + Listable<Source = <T as BulkItem>::Source>>(
    source: &<T as BulkItem>::Source,
    request: &BulkRequest<'_>,
    nr: usize,
    list: &mut PageList<T>,
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    run(source, request, nr, list, site)
}

/// Hands blocks over one by one.
pub(crate) fn for_each<T: BulkItem>(
    source: &<T as BulkItem>::Source,
    request: &BulkRequest<'_>,
    nr: usize,
    mut take: impl FnMut(T),
    site: Site,
) -> BulkOutcome {
    T::check_order(request.order);
    run(
        source,
        request,
        nr,
        &mut Hand(|raw| {
            // SAFETY: 1. handed out for this call: a sink is given each block once.
            take(unsafe { T::from_block(source, raw) });
        }),
        site,
    )
}

/// Allocates `nr` adjacent frames if they can be had, or else as few pieces as possible.
pub(crate) fn extents<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    nr: usize,
    take: impl FnMut(Folio<S>),
    site: Site,
) -> BulkOutcome {
    if request.effort != Effort::AllOrNothing && !request.may_wait() {
        return pieces(source, request, nr, take, site);
    }
    // What comes easily is handed over if it is all; otherwise it is given back before the effort
    // is made, so that nothing is held while others are served.
    let mut easy = PageList::new(source.clone());
    let fast = BulkRequest { effort: Effort::Fast, ..*request };
    let outcome = pieces(source, &fast, nr, |piece| easy.push(piece), site);
    if outcome.short.is_none() {
        easy.for_each(take);
        return outcome;
    }
    drop(easy);
    let single = BulkRequest { order: Order::ZERO, ..*request };
    for_each(source, &single, nr, take, site)
}

/// Hands over what lies ready in large blocks, and makes the request's effort for single pages.
fn pieces<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    nr: usize,
    mut take: impl FnMut(Folio<S>),
    site: Site,
) -> BulkOutcome {
    let mut left = nr;
    let mut largest = MAX_ORDER.value();
    // Larger blocks are taken where they lie ready; only single pages are worth reclaim.
    let light = Gfp::NORETRY | Gfp::NOWARN;
    while left > 0 && largest > 0 && !request.stop.is_some_and(|stop| stop()) {
        let fits = u8::try_from(left.ilog2()).unwrap_or(u8::MAX).min(largest);
        let Ok(order) = Order::new(fits) else { break };
        if order == Order::ZERO {
            break;
        }
        let piece = BulkRequest {
            gfp: (request.gfp | light).difference(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL),
            order,
            effort: Effort::Fast,
            ..*request
        };
        let wanted = left >> fits;
        let got = for_each(source, &piece, wanted, &mut take, site);
        left -= got.new << fits;
        if got.new < wanted {
            largest = fits - 1;
        }
        if matches!(got.short, Some(Shortage::Account | Shortage::Fault)) {
            break;
        }
    }
    let rest = BulkRequest { order: Order::ZERO, ..*request };
    let outcome = for_each(source, &rest, left, &mut take, site);
    let new = nr - left + outcome.new;
    BulkOutcome { new, populated: new, short: outcome.short }
}

/// Puts each page into the next of some places.
struct Each<I, F>(I, F);

impl<I: Iterator, F: FnMut(I::Item, RawPage)> Sink for Each<I, F> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        for &page in pages {
            if let Some(place) = self.0.next() {
                (self.1)(place, page);
            }
        }
    }
}

/// Hands each page to the caller's code, which may take long, allocate or panic.
struct Hand<F>(F);

impl<F: FnMut(RawPage)> Sink for Hand<F> {
    fn accept(&mut self, pages: &[RawPage]) {
        pages.iter().for_each(|&page| (self.0)(page));
    }

    fn is_slow(&self) -> bool {
        true
    }
}

/// Serves a request for `nr` blocks.
fn run<S: PageSource>(
    source: &S,
    request: &BulkRequest<'_>,
    nr: usize,
    sink: &mut impl Sink,
    site: Site,
) -> BulkOutcome {
    let allocator = source.allocator();
    let outcome = |new, short| BulkOutcome { new, populated: new, short };
    if nr == 0 {
        return outcome(0, None);
    }
    if allocator.is_faulted(request.gfp, request.order) {
        return outcome(0, Some(Shortage::Fault));
    }
    let pages = |nr: usize| (nr as u64).saturating_mul(request.order.nr_pages() as u64);
    let account = match request.account {
        Some(id) => id.0,
        None => allocator.account_of(&Ask::new(request.gfp, None, request.order, site)),
    };
    let all = request.effort == Effort::AllOrNothing;
    let charged = allocator.accounts().charge(account, pages(nr), if all { pages(nr) } else { 1 });
    // What does not make a whole block goes back at once.
    let affordable = usize::try_from(charged >> request.order.value()).unwrap_or(nr).min(nr);
    allocator.accounts().uncharge(account, charged - pages(affordable));
    if affordable == 0 {
        return outcome(0, Some(Shortage::Account));
    }
    let mut finish = Finish { allocator, sink, account, gfp: request.gfp, site };
    let gather = Gather { source, request, site };
    let (new, short) = if all || request.may_wait() {
        gather.whole(affordable, &mut finish)
    } else {
        gather.some(affordable, &mut finish)
    };
    allocator.accounts().uncharge(account, pages(affordable - new));
    let unaffordable = (affordable < nr).then_some(Shortage::Account);
    outcome(new, short.or(unaffordable))
}

/// The search for the blocks of one request.
struct Gather<'a, S: PageSource> {
    source: &'a S,
    request: &'a BulkRequest<'a>,
    site: Site,
}

impl<S: PageSource> Gather<'_, S> {
    /// Gets up to `nr` blocks, and hands over what it gets.
    fn some(&self, nr: usize, sink: &mut impl Sink) -> (usize, Option<Shortage>) {
        let mut done = 0;
        while done < nr {
            let share = self.request.policy.next_share(nr - done, nr);
            let (new, short) = self.share(share.node, share.nodes, share.nr, sink);
            done += new;
            if new == share.nr {
                continue;
            }
            // Short on its own nodes: the policies that only prefer them look everywhere.
            let strict = matches!(self.request.policy, Policy::Bind(_))
                || self.request.gfp.contains(Gfp::THISNODE);
            let rest = share.nr - new;
            if strict || short != Some(Shortage::Memory) {
                return (done, short);
            }
            let (new, short) = self.share(None, NodeMask::ALL, rest, sink);
            done += new;
            if new < rest {
                return (done, short);
            }
        }
        (done, None)
    }

    /// Gets all of `nr` blocks, waiting its turn if the request may wait, and hands them over;
    /// what falls short is handed over only to those who take less.
    fn whole(&self, nr: usize, sink: &mut impl Sink) -> (usize, Option<Shortage>) {
        let mut list = PageList::<Folio<S>>::new(self.source.clone());
        let mut short = self.some(nr, &mut list).1;
        if short == Some(Shortage::Memory) && self.request.may_wait() {
            // Nothing is held while others are served.
            self.give_back(&mut list);
            let allocator = self.source.allocator();
            let waited = allocator.in_turn(self.request.stop, || {
                let missing = nr - list.len();
                let short = self.some(missing, &mut list).1;
                (short != Some(Shortage::Memory)).then_some(short)
            });
            short = waited.unwrap_or_else(Some);
        }
        if short.is_some() && self.request.effort == Effort::AllOrNothing {
            self.give_back(&mut list);
            return (0, short);
        }
        let new = list.len();
        list.drain_raw(|raw| sink.accept(&[raw]));
        (new, short)
    }

    /// Gives blocks back that were taken, but not finished.
    fn give_back(&self, list: &mut PageList<Folio<S>>) {
        list.drain_raw(|raw| self.source.allocator().free_unfinished(raw));
    }

    /// Gets up to `nr` blocks from some nodes.
    fn share(
        &self,
        node: Option<NodeId>,
        nodes: NodeMask,
        nr: usize,
        sink: &mut impl Sink,
    ) -> (usize, Option<Shortage>) {
        let allocator = self.source.allocator();
        let request = self.request;
        let mut done = 0;
        if request.order == Order::ZERO {
            let wanted = Wanted { claim: nr, new: nr };
            done =
                allocator.alloc_bulk(request.gfp.difference(Gfp::ZERO), node, nodes, wanted, sink);
        }
        let ask = Ask {
            node,
            nodes,
            account: Some(AccountNumber::NONE),
            stop: request.stop,
            // Waiting is done for the whole request, not for each of its blocks.
            ..Ask::new(request.gfp.difference(Gfp::NOFAIL), node, request.order, self.site)
        };
        while done < nr {
            let taken = if request.effort == Effort::Fast {
                allocator.take_fast(&ask)
            } else {
                allocator.take_block(&ask)
            };
            match taken {
                Ok(page) => sink.accept(&[page]),
                Err(short) => return (done, Some(short)),
            }
            done += 1;
        }
        (done, None)
    }
}
