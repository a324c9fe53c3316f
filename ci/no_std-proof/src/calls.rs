//! Every public call of pagemill, once, for one static allocator, as a kernel instantiates them.
//!
//! `ci/no_std.sh` fails if a public function is missing here.

use core::alloc::Layout;
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::panic::Location;
use core::ptr::NonNull;

use pagemill::accounts::{
    Account, AccountError, AccountId, AccountInfo, AccountLimits, AccountUsage,
};
use pagemill::contig::{ContigError, ContigRequest, FrameRange, RangePages};
use pagemill::debug::FaultConfig;
use pagemill::fragment::{Carver, Fragment};
use pagemill::gfp::{MigrateType, ZoneKind};
use pagemill::handles::{
    FolioPages, InvalidRawPage, PfnError, RawPage, SharedPage, free_pages_bulk,
};
use pagemill::machine::ListCloser;
use pagemill::policy::{NodeMask, Policy};
use pagemill::reclaim::{ShrinkControl, Shrinker, ShrinkerGuard, TooManyShrinkers};
use pagemill::recycling::{Returning, Stack, TakeBack};
use pagemill::request::{BulkError, BulkOutcome};
use pagemill::reserves::{LocalPages, Mempool};
use pagemill::setup::{ConfigError, MemoryRegion};
use pagemill::stats::{NR_PAGE_ORDERS, ShardInfo, VmStat, ZoneInfo};
use pagemill::units::{CpuId, NodeId, OrderTooLarge, Pfn, PhysAddr};
use pagemill::validate::BookError;
use pagemill::{
    AllocPages, BulkRequest, Config, Folio, Gfp, Order, Page, PageAllocator, PageList, PageVec,
    Shortage,
};

use crate::machine::{ALLOCATOR, Machine, Source, print};

type Frame = Page<Source>;
type Allocator = PageAllocator<Machine>;
const FRAMES: Source = Source::new();

/// Defines functions that the linker must keep, because a static that is marked as used points to each.
macro_rules! keep {
    ($(fn $name:ident($($arg:ident: $Arg:ty),*) $(-> $Result:ty)? $body:block)*) => {
        $(
            const _: () = {
                #[used]
                static KEPT: fn($($Arg),*) $(-> $Result)? = $name;
            };
            fn $name($($arg: $Arg),*) $(-> $Result)? $body
        )*
    };
}

/// Setup.
mod setup {
    use super::*;

    keep! {
        fn metadata_layout(config: &Config<'_>) -> Result<Layout, ConfigError> {
            Allocator::metadata_layout(config)
        }
        fn new_allocator(config: &Config<'_>, memory: NonNull<[u8]>, machine: Machine) -> bool {
            // SAFETY: whoever calls it gives up the memory; here nobody does.
            let allocator = unsafe { Allocator::new(config, memory, machine) };
            allocator.is_ok_and(|allocator| ALLOCATOR.set(allocator).is_ok())
        }
        fn config(memory: &'static [MemoryRegion], nr_cpus: u32) -> Config<'static> {
            Config::new(memory, nr_cpus)
        }
        fn region(start: PhysAddr, end: PhysAddr, node: NodeId) -> Option<MemoryRegion> {
            MemoryRegion::within(start, end, node)
        }
    }
}

/// Single allocations.
mod single {
    use super::*;

    keep! {
        fn alloc_page(gfp: Gfp) -> Option<Frame> { FRAMES.alloc_page(gfp) }
        fn alloc_page_node(node: NodeId, gfp: Gfp) -> Option<Frame> { FRAMES.alloc_page_node(node, gfp) }
        fn alloc_pages(gfp: Gfp, order: Order) -> Option<Folio<Source>> { FRAMES.alloc_pages(gfp, order) }
        fn alloc_pages_node(node: NodeId, gfp: Gfp, order: Order) -> Option<Folio<Source>> {
            FRAMES.alloc_pages_node(node, gfp, order)
        }
        fn free_page(page: Frame) { drop(page) }
        fn free_folio(folio: Folio<Source>) { drop(folio) }
    }
}

/// Bulk calls.
#[cfg(not(feature = "small"))]
mod bulk {
    use super::*;

    keep! {
        fn alloc_pages_bulk(gfp: Gfp, slots: &mut [Option<Frame>]) -> usize {
            FRAMES.alloc_pages_bulk(gfp, slots)
        }
        fn alloc_pages_bulk_node(node: NodeId, gfp: Gfp, slots: &mut [Option<Frame>]) -> usize {
            FRAMES.alloc_pages_bulk_node(node, gfp, slots)
        }
        fn alloc_pages_bulk_list(gfp: Gfp, nr: usize, list: &mut PageList<Frame>) -> usize {
            FRAMES.alloc_pages_bulk_list(gfp, nr, list)
        }
        fn alloc_pages_bulk_list_node(node: NodeId, nr: usize, list: &mut PageList<Frame>) -> usize {
            FRAMES.alloc_pages_bulk_list_node(node, Gfp::KERNEL, nr, list)
        }
        fn alloc_pages_bulk_vec(gfp: Gfp, nr: usize, vec: &mut PageVec<Source, 64>) -> usize {
            FRAMES.alloc_pages_bulk_vec(gfp, nr, vec)
        }
        fn alloc_pages_bulk_mempolicy(policy: Policy<'_>, slots: &mut [Option<Frame>]) -> usize {
            FRAMES.alloc_pages_bulk_mempolicy(policy, Gfp::KERNEL, slots)
        }
        fn fill(gfp: Gfp, slots: &mut [Option<Frame>]) -> Result<(), BulkError> {
            FRAMES.fill(gfp, slots)
        }
        fn alloc_exactly(gfp: Gfp, nr: usize) -> Result<PageList<Frame>, BulkError> {
            FRAMES.alloc_exactly(gfp, nr)
        }
        fn release_pages(slots: &mut [Option<Frame>]) -> usize { FRAMES.release_pages(slots) }
        fn free_bulk_list(list: &mut PageList<Frame>) -> usize { free_pages_bulk(list) }
        fn free_bulk_folios(list: &mut PageList<Folio<Source>>) -> usize { free_pages_bulk(list) }
        fn free_bulk_shared(list: &mut PageList<SharedPage<Source>>) -> usize { free_pages_bulk(list) }
    }
}

/// Contiguous ranges.
#[cfg(not(feature = "small"))]
mod contig {
    use super::*;

    keep! {
        fn alloc_contig(nr: usize, limit: Option<PhysAddr>) -> Result<FrameRange<Source>, ContigError> {
            FRAMES.alloc_contig(Gfp::KERNEL, nr, 1, limit)
        }
        fn alloc_contig_with(request: &ContigRequest) -> Result<FrameRange<Source>, ContigError> {
            FRAMES.alloc_contig_with(request)
        }
        fn contig_request(gfp: Gfp, nr: usize) -> ContigRequest { ContigRequest::new(gfp, nr) }
        fn alloc_contig_range(start: Pfn, nr: usize) -> Result<FrameRange<Source>, ContigError> {
            FRAMES.alloc_contig_range(Gfp::KERNEL, start, nr)
        }
        fn alloc_at(pfn: Pfn, order: Order) -> Result<Folio<Source>, ContigError> {
            FRAMES.alloc_at(Gfp::KERNEL, pfn, order)
        }
        fn shortage(error: &ContigError) -> Option<Shortage> { error.shortage() }
        fn range_into_pfn(range: FrameRange<Source>) -> (Pfn, usize) { range.into_pfn() }
        fn range_into_raw(range: FrameRange<Source>) -> (RawPage, usize) { range.into_raw() }
        fn range_from_raw(first: RawPage, nr: usize) -> FrameRange<Source> {
            // SAFETY: whoever calls it owns the frames; here nobody does.
            unsafe { FrameRange::from_raw(FRAMES, first, nr) }
        }
        fn range_views(range: &mut FrameRange<Source>) -> (Pfn, PhysAddr, usize, NodeId, usize) {
            range.as_bytes_mut()[0] = 1;
            let _source: &Source = range.source();
            (range.pfn(), range.phys_addr(), range.nr_pages(), range.node(), range.as_bytes().len())
        }
        fn split_at(range: FrameRange<Source>) -> (FrameRange<Source>, FrameRange<Source>) {
            range.split_at(1)
        }
        fn split_off(range: &mut FrameRange<Source>, nr: usize) -> FrameRange<Source> {
            range.split_off(nr)
        }
        fn into_pages(range: FrameRange<Source>) -> RangePages<Source> { range.into_pages() }
        fn next_of_range(pages: &mut RangePages<Source>) -> Option<Frame> { pages.next() }
        fn drop_range_pages(pages: RangePages<Source>) { drop(pages) }
        fn into_folio(range: FrameRange<Source>) -> Result<Folio<Source>, FrameRange<Source>> {
            range.into_folio()
        }
        fn drop_range(range: FrameRange<Source>) { drop(range) }
    }
}

/// Requests.
#[cfg(not(feature = "small"))]
mod request {
    use super::*;

    keep! {
        fn bulk_fill(request: &BulkRequest<'_>, slots: &mut [Option<Frame>]) -> BulkOutcome {
            FRAMES.bulk_fill(request, slots)
        }
        fn bulk_fill_folios(request: &BulkRequest<'_>, slots: &mut [Option<Folio<Source>>]) -> BulkOutcome {
            FRAMES.bulk_fill(request, slots)
        }
        fn bulk_fill_range(
            request: &BulkRequest<'_>, slots: &mut [Option<Frame>], hint: Range<usize>
        ) -> BulkOutcome {
            FRAMES.bulk_fill_range(request, slots, hint)
        }
        fn bulk_write(request: &BulkRequest<'_>, room: &mut [MaybeUninit<Frame>]) -> BulkOutcome {
            FRAMES.bulk_write(request, room)
        }
        fn bulk_list(request: &BulkRequest<'_>, nr: usize, list: &mut PageList<Frame>) -> BulkOutcome {
            FRAMES.bulk_list(request, nr, list)
        }
        fn bulk_each(request: &BulkRequest<'_>, nr: usize, take: &mut dyn FnMut(Frame)) -> BulkOutcome {
            FRAMES.bulk_each(request, nr, take)
        }
        fn bulk_extents(
            request: &BulkRequest<'_>, nr: usize, take: &mut dyn FnMut(Folio<Source>)
        ) -> BulkOutcome {
            FRAMES.bulk_extents(request, nr, take)
        }
    }
}

/// Frames that are known by their numbers.
#[cfg(not(feature = "small"))]
mod by_pfn {
    use super::*;

    keep! {
        fn page_into_pfn(page: Frame) -> Pfn { page.into_pfn() }
        fn folio_into_pfn(folio: Folio<Source>) -> Pfn { folio.into_pfn() }
        fn page_from_pfn(pfn: Pfn) -> Result<Frame, PfnError> {
            // SAFETY: whoever calls it owns the frame; here nobody does.
            unsafe { Page::from_pfn(FRAMES, pfn) }
        }
        fn folio_from_pfn(pfn: Pfn, order: Order) -> Result<Folio<Source>, PfnError> {
            // SAFETY: as above.
            unsafe { Folio::from_pfn(FRAMES, pfn, order) }
        }
        fn alloc_pfn() -> Option<Pfn> { FRAMES.alloc_pfn(Gfp::KERNEL) }
        fn bulk_pfns(request: &BulkRequest<'_>, pfns: &mut [Pfn]) -> usize {
            FRAMES.bulk_pfns(request, pfns).new
        }
        fn alloc_pfns_bulk(pfns: &mut [Pfn]) -> usize { FRAMES.alloc_pfns_bulk(Gfp::KERNEL, pfns) }
        fn free_pfn_range(start: Pfn, nr: usize) -> Result<(), PfnError> {
            // SAFETY: as above.
            unsafe { FRAMES.free_pfn_range(start, nr) }
        }
        fn hand_in(start: Pfn, nr: usize) -> Result<(), PfnError> {
            // SAFETY: 1. unused: as the caller says.
            unsafe { FRAMES.hand_in(start, nr) }
        }
        fn free_pfns(pfns: &[Pfn]) -> Result<(), PfnError> {
            // SAFETY: as above.
            unsafe { FRAMES.free_pfns(pfns) }
        }
        fn alloc_raw_bulk(slots: &mut [Option<RawPage>]) -> usize {
            FRAMES.alloc_raw_bulk(Gfp::KERNEL, slots)
        }
        fn bulk_raw(request: &BulkRequest<'_>, slots: &mut [Option<RawPage>]) -> usize {
            FRAMES.bulk_raw(request, slots).new
        }
        fn release_raw(slots: &mut [Option<RawPage>]) -> Result<usize, InvalidRawPage> {
            // SAFETY: as above.
            unsafe { FRAMES.release_raw(slots) }
        }
        fn try_release_raw(slots: &mut [Option<RawPage>]) -> bool {
            // SAFETY: as above.
            unsafe { FRAMES.try_release_raw(slots) }
        }
        fn check_raw(raw: RawPage) -> Result<(), InvalidRawPage> {
            pagemill::source::PageSource::allocator(&FRAMES).check_raw(raw)
        }
        fn bits_of_a_page(raw: RawPage) -> u64 { raw.to_bits().get() }
        fn page_of_bits(bits: u64) -> Result<RawPage, InvalidRawPage> { RawPage::from_bits(bits) }
    }
}

/// Handles.
#[cfg(not(feature = "small"))]
mod handles {
    use super::*;

    keep! {
        fn page_into_raw(page: Frame) -> RawPage { page.into_raw() }
        fn page_from_raw(raw: RawPage) -> Frame {
            // SAFETY: whoever calls it owns the page; here nobody does.
            unsafe { Page::from_raw(FRAMES, raw) }
        }
        fn page_views(page: &mut Frame) -> (Pfn, NodeId, PhysAddr, u8) {
            page.as_bytes_mut()[0] = 1;
            let _source: &Source = page.source();
            (page.pfn(), page.node(), page.phys_addr(), page.as_bytes()[0])
        }
        fn folio_into_raw(folio: Folio<Source>) -> RawPage { folio.into_raw() }
        fn folio_from_raw(raw: RawPage) -> Folio<Source> {
            // SAFETY: as above.
            unsafe { Folio::from_raw(FRAMES, raw) }
        }
        fn folio_views(folio: &mut Folio<Source>) -> (Pfn, NodeId, PhysAddr, Order, u8) {
            folio.as_bytes_mut()[0] = 1;
            let _source: &Source = folio.source();
            (folio.pfn(), folio.node(), folio.phys_addr(), folio.order(), folio.as_bytes()[0])
        }
        fn split(folio: Folio<Source>) -> FolioPages<Source> { folio.split() }
        fn next_of_folio(pages: &mut FolioPages<Source>) -> Option<Frame> { pages.next() }
        fn drop_folio_pages(pages: FolioPages<Source>) { drop(pages) }
        fn share(page: Frame) -> SharedPage<Source> { page.share() }
        fn clone_shared(page: &SharedPage<Source>) -> SharedPage<Source> { page.clone() }
        fn shared_views(page: &SharedPage<Source>) -> (Pfn, u32, u8) {
            (page.pfn(), page.nr_owners(), page.as_bytes()[0])
        }
        fn try_unshare(page: SharedPage<Source>) -> Result<Frame, SharedPage<Source>> {
            page.try_unshare()
        }
        fn drop_shared(page: SharedPage<Source>) { drop(page) }
    }
}

/// Lists and vectors.
#[cfg(not(feature = "small"))]
mod lists {
    use super::*;

    keep! {
        fn list() -> PageList<Frame> { PageList::new(FRAMES) }
        fn list_push(list: &mut PageList<Frame>, page: Frame) { list.push(page) }
        fn list_pop(list: &mut PageList<Frame>) -> Option<Frame> { list.pop() }
        fn list_append(list: &mut PageList<Frame>, other: &mut PageList<Frame>) { list.append(other) }
        fn list_len(list: &PageList<Frame>) -> (usize, bool) { (list.len(), list.is_empty()) }
        fn list_drop(list: PageList<Frame>) { drop(list) }
        fn folio_list_push(list: &mut PageList<Folio<Source>>, folio: Folio<Source>) { list.push(folio) }
        fn folio_list_pop(list: &mut PageList<Folio<Source>>) -> Option<Folio<Source>> { list.pop() }
        fn list_try_push(
            list: &mut PageList<SharedPage<Source>>, page: SharedPage<Source>
        ) -> Result<(), SharedPage<Source>> {
            list.try_push(page)
        }
        fn vec() -> PageVec<Source, 64> { PageVec::new(FRAMES) }
        fn vec_push(vec: &mut PageVec<Source, 64>, page: Frame) -> Result<(), Frame> { vec.push(page) }
        fn vec_pop(vec: &mut PageVec<Source, 64>) -> Option<Frame> { vec.pop() }
        fn vec_append(vec: &mut PageVec<Source, 64>, other: &mut PageVec<Source, 64>) -> usize {
            vec.append(other, 64)
        }
        fn vec_drain_into(vec: &mut PageVec<Source, 64>, slots: &mut [Option<Frame>]) -> usize {
            vec.drain_into(slots)
        }
        fn vec_drain(vec: &mut PageVec<Source, 64>, take: &mut dyn FnMut(Frame)) {
            vec.drain(..).for_each(take)
        }
        fn vec_into_iter(vec: PageVec<Source, 64>, take: &mut dyn FnMut(Frame)) {
            vec.into_iter().for_each(take)
        }
        fn vec_clear(vec: &mut PageVec<Source, 64>) -> usize { vec.clear() }
        fn vec_views(vec: &PageVec<Source, 64>) -> (usize, usize, bool, bool) {
            let _source: &Source = vec.source();
            (vec.len(), vec.room(), vec.is_empty(), vec.is_full())
        }
        fn vec_drop(vec: PageVec<Source, 64>) { drop(vec) }
    }
}

/// Accounts.
#[cfg(not(feature = "small"))]
mod account {
    use super::*;

    keep! {
        fn account_open(limits: AccountLimits) -> Result<Account<Source>, AccountError> {
            Account::open(FRAMES, limits)
        }
        fn account_child(
            account: &Account<Source>, limits: AccountLimits
        ) -> Result<Account<Source>, AccountError> {
            account.open_child(limits)
        }
        fn account_views(account: &Account<Source>) -> (AccountId, usize, AccountUsage) {
            (account.id(), account.id().number(), account.usage())
        }
        fn account_limits(account: &Account<Source>, limits: AccountLimits) { account.set_limits(limits) }
        fn account_close(account: Account<Source>) { drop(account) }
    }
}

/// Fragments.
#[cfg(not(feature = "small"))]
mod fragment {
    use super::*;

    keep! {
        fn carver(page: Frame) -> Carver<Frame> { Carver::new(page) }
        fn carve(carver: &mut Carver<Frame>, len: usize, align: usize) -> Option<Fragment<Frame>> {
            carver.carve(len, align)
        }
        fn carver_views(carver: &mut Carver<Frame>) -> (usize, bool, bool, Pfn, NodeId) {
            (carver.left(), carver.is_whole(), carver.reset(), carver.pfn(), carver.node())
        }
        fn carver_end(carver: Carver<Frame>) -> Option<Frame> { carver.into_owner() }
        fn fragment_views(fragment: &mut Fragment<Frame>) -> (usize, usize, Pfn, NodeId) {
            fragment.as_bytes_mut().fill(1);
            (fragment.as_bytes().len(), fragment.offset(), fragment.pfn(), fragment.node())
        }
        fn fragment_end(fragment: Fragment<Frame>) -> Option<Frame> { fragment.into_owner() }
    }
}

/// Reserves and recycling.
#[cfg(not(feature = "small"))]
mod reserve {
    use super::*;

    keep! {
        fn mempool(nr: usize) -> Result<Mempool<Source>, Shortage> { Mempool::new(FRAMES, nr, Gfp::KERNEL) }
        fn mempool_alloc(pool: &Mempool<Source>, slots: &mut [Option<Frame>]) -> Result<(), Shortage> {
            pool.alloc_bulk(Gfp::KERNEL, slots, None)
        }
        fn mempool_free(pool: &Mempool<Source>, slots: &mut [Option<Frame>]) { pool.free_bulk(slots) }
        fn mempool_views(pool: &Mempool<Source>) -> (usize, u32) { (pool.min_nr(), pool.nr_polled_waits()) }
        fn local() -> LocalPages<Source, 64> { LocalPages::new(FRAMES) }
        fn local_alloc(local: &mut LocalPages<Source, 64>) -> Option<Frame> { local.alloc(Gfp::KERNEL) }
        fn local_bulk(local: &mut LocalPages<Source, 64>, vec: &mut PageVec<Source, 64>) -> usize {
            local.alloc_bulk(Gfp::KERNEL, 64, vec)
        }
        fn local_into(local: &mut LocalPages<Source, 64>, slots: &mut [Option<Frame>]) -> usize {
            local.alloc_into(Gfp::KERNEL, slots)
        }
        fn local_from(local: &mut LocalPages<Source, 64>, slots: &mut [Option<Frame>]) -> usize {
            local.free_from(slots)
        }
        fn local_free(local: &mut LocalPages<Source, 64>, page: Frame) { local.free(page) }
        fn local_free_bulk(local: &mut LocalPages<Source, 64>, vec: &mut PageVec<Source, 64>) -> usize {
            local.free_bulk(vec)
        }
        fn local_views(local: &mut LocalPages<Source, 64>) -> (usize, bool, usize) {
            (local.len(), local.is_empty(), local.drain())
        }
        fn returning(page: Frame, home: &'static Home) -> Returning<Frame, &'static Home> {
            Returning::new(page, home)
        }
        fn returning_end(page: Returning<Frame, &'static Home>) -> (Frame, &'static Home) {
            let _home = page.home();
            page.into_parts()
        }
        fn stack() -> Stack<Frame, 64> { Stack::new() }
        fn stack_use(stack: &mut Stack<Frame, 64>, page: Frame) -> Option<Frame> {
            let _ = stack.push(page);
            black_box((stack.len(), Stack::is_empty(stack), Stack::is_full(stack), stack.as_slice()));
            stack.pop()
        }
    }
}

/// A pool that frees what returns.
#[cfg(not(feature = "small"))]
struct Home;

#[cfg(not(feature = "small"))]
impl TakeBack<Frame> for &'static Home {
    fn take_back(&self, page: Frame) {
        drop(page);
    }
}

/// Reclaim.
#[cfg(not(feature = "small"))]
mod reclaim {
    use super::*;

    keep! {
        fn register(
            allocator: &'static Allocator, shrinker: &'static Cache
        ) -> Result<ShrinkerGuard<'static, Machine>, TooManyShrinkers> {
            allocator.register_shrinker(shrinker)
        }
        fn unregister(guard: ShrinkerGuard<'static, Machine>) { drop(guard) }
        fn balance(allocator: &Allocator) -> (u64, bool, u32) {
            (allocator.balance(), allocator.needs_balance(), allocator.nr_polled_waits())
        }
        fn drain(allocator: &Allocator, cpu: CpuId) -> usize {
            allocator.drain_all_pages() + allocator.drain_pages(cpu)
        }
        fn close(closer: ListCloser) {
            // SAFETY: nobody calls it.
            unsafe { closer.close() }
        }
    }
}

/// A cache without pages.
#[cfg(not(feature = "small"))]
struct Cache;

#[cfg(not(feature = "small"))]
impl Shrinker for Cache {
    fn count(&self, _control: ShrinkControl) -> usize {
        black_box(0)
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        black_box(nr)
    }
}

/// Views.
#[cfg(not(feature = "small"))]
mod view {
    use super::*;

    keep! {
        fn zone_info(allocator: &Allocator) -> Option<ZoneInfo> { allocator.zone_info().last() }
        fn shard_info(allocator: &Allocator) -> Option<ShardInfo> { allocator.shard_info().last() }
        fn account_info(allocator: &Allocator) -> Option<AccountInfo> {
            allocator.account_info().last()
        }
        fn buddyinfo(zone: &ZoneInfo) -> [u64; NR_PAGE_ORDERS] { zone.buddyinfo() }
        fn pcp_info(allocator: &Allocator) -> usize { allocator.pcp_info().map(|list| list.count).sum() }
        fn records_owners(allocator: &Allocator) -> bool { allocator.records_owners() }
        fn is_in_use(allocator: &Allocator, pfn: Pfn) -> Option<bool> { allocator.is_in_use(pfn) }
        fn owners(allocator: &Allocator, visit: &mut dyn FnMut(Pfn, &'static Location<'static>)) {
            allocator.for_each_owner(visit)
        }
        fn vmstat(allocator: &Allocator) -> VmStat { allocator.vmstat() }
        fn counters(stat: &VmStat) { stat.counters().for_each(|(name, value)| print(format_args!("{name} {value}"))) }
        fn numbers(allocator: &Allocator) -> (u64, u32, usize) {
            (allocator.nr_free_pages(), allocator.nr_cpus(), allocator.nr_nodes())
        }
        fn nodes(allocator: &Allocator, node: NodeId) -> [NodeId; 2] {
            [allocator.local_node(), allocator.node_or_local(node)]
        }
        fn validate(allocator: &Allocator) -> Result<(), BookError> { allocator.validate() }
        fn faults(allocator: &Allocator, config: &FaultConfig) {
            allocator.inject_faults(config);
            allocator.inject_faults(&FaultConfig::nth(black_box(1)));
            allocator.look_for_tracers();
            let claim = allocator.try_claim_cpu().or_else(|| allocator.try_claim_cpu_at_once());
            black_box(claim.map(|claim| (claim.cpu(), claim.index())));
            black_box(allocator.try_visit_cpu(CpuId::new(0)).is_some());
            black_box((allocator.platform(), allocator.list_closer()));
        }
    }
}

/// Small types.
#[cfg(not(feature = "small"))]
mod units {
    use super::*;

    keep! {
        fn flags(gfp: Gfp) -> (ZoneKind, MigrateType, bool) {
            (gfp.highest_zone(), gfp.migratetype(), gfp.may_use_all_reserves())
        }
        fn names(kind: ZoneKind, migratetype: MigrateType) -> [(&'static str, usize); 2] {
            [(kind.name(), kind.index()), (migratetype.name(), migratetype.index())]
        }
        fn masks(nodes: &[NodeId], other: NodeMask, node: NodeId) -> (NodeMask, bool, bool, u32, usize) {
            let mask = NodeMask::of(nodes).and(other);
            (mask, mask.contains(node), mask.is_empty(), mask.len(), mask.iter().map(NodeId::index).sum())
        }
        fn orders(order: u8) -> Result<(u8, usize, usize), OrderTooLarge> {
            let order = Order::new(order)?;
            Ok((order.value(), order.nr_pages(), Order::all().count()))
        }
        fn frames(pfn: u64, count: u64, order: Order) -> (PhysAddr, bool, u64) {
            let pfn = Pfn::new(pfn).offset(count);
            (pfn.start(), pfn.is_aligned(order), pfn.start().pfn().value())
        }
        fn exact_frames(start: PhysAddr, len_bytes: u64) -> (Option<Pfn>, (Pfn, usize)) {
            (start.frame(), Pfn::within(start, len_bytes))
        }
        fn words(raw: RawPage) -> (Pfn, Order) { (raw.pfn(), raw.order()) }
    }
}

/// Messages. Those of a panic are in the calls above.
#[cfg(not(feature = "small"))]
mod message {
    use super::*;

    keep! {
        fn print_errors(errors: (&ConfigError, &BookError, &AccountError, &BulkError, Shortage)) {
            let (config, book, account, bulk, shortage) = errors;
            print(format_args!("{config} {book} {account} {bulk} {shortage}"))
        }
        fn print_contig(error: &ContigError) { print(format_args!("{error}")) }
        fn print_numbers(errors: (&PfnError, &InvalidRawPage)) {
            let (pfn, raw) = errors;
            print(format_args!("{pfn} {raw}"))
        }
        fn print_units(units: (Pfn, PhysAddr, Order, NodeId, CpuId, OrderTooLarge)) {
            let (pfn, address, order, node, cpu, error) = units;
            print(format_args!("{pfn} {address} {order} {node} {cpu} {error}"))
        }
    }
}
