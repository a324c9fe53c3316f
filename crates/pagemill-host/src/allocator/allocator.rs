//! Hosted allocator: a page allocator over an arena of this process, and its configuration.

use alloc::sync::Arc;
use core::ops::Deref;
use core::ptr::NonNull;

use pagemill::setup::{ConfigError, MemoryRegion};
use pagemill::source::PageSource;
use pagemill::units::{MAX_NR_NODES, MAX_ORDER, NodeId, PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{Config, PageAllocator, Platform};

use crate::allocator::platform::{DEFAULT_BASE_PFN, Host, HostConfig};
use crate::cpu::cpu::{Cpus, nr_online};
use crate::error::HostError;
use crate::memory::arena::{Arena, ArenaConfig};

/// The configuration of a hosted allocator; start from [`AllocatorConfig::new`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct AllocatorConfig {
    /// The memory that becomes frames.
    pub arena: ArenaConfig,
    /// The number of the arena's first frame: a multiple of 1024.
    ///
    /// Decides which zones the frames are in; see [`Config::zone_dma32`].
    pub base_pfn: Pfn,
    /// Number of CPUs with lists of their own; `None` for all CPUs that the machine can have.
    pub nr_cpus: Option<u32>,
    /// Number of nodes that the arena is divided into; all CPUs are on the first. For programs that
    /// should behave as on a larger machine, like Linux's `numa=fake`.
    pub nr_nodes: u8,
    /// Bytes at the top of each node that are only for movable pages; see [`Config::movable_bytes`].
    pub movable_bytes: u64,
    /// Pages that ordinary requests must leave; see [`Config::min_free_bytes`].
    pub min_free_bytes: Option<u64>,
    /// Maximum number of open accounts; zero by default. See [`Config::nr_accounts`].
    pub nr_accounts: u32,
    /// Whether to record the call that allocated each page; see [`Config::page_owner`].
    pub page_owner: bool,
    /// Whether to poison free pages; see [`Config::poison`].
    pub poison: bool,
    /// Capacity of one per-CPU list; see [`Config::pcp_high`].
    pub pcp_high: Option<u32>,
    /// Fewest pages moved at a time between a zone and a per-CPU list; see [`Config::pcp_batch`].
    pub pcp_batch: Option<u32>,
    /// Number of shards, each with its own lock, that a zone is divided into; see
    /// [`Config::nr_zone_shards`]. `None` for one per CPU that is online (rounded up to a power of two,
    /// at most 64), as long as each has 64 MiB. The number of possible CPUs may be far larger.
    pub nr_zone_shards: Option<u32>,
}

impl AllocatorConfig {
    /// Configures one zone Normal in `arena`, with Linux's policies.
    #[must_use]
    pub const fn new(arena: ArenaConfig) -> Self {
        Self {
            arena,
            base_pfn: DEFAULT_BASE_PFN,
            nr_cpus: None,
            nr_nodes: 1,
            movable_bytes: 0,
            min_free_bytes: None,
            nr_accounts: 0,
            page_owner: false,
            poison: false,
            pcp_high: None,
            pcp_batch: None,
            nr_zone_shards: None,
        }
    }
}

/// A page allocator over memory that this process maps for it; both are unmapped when it is dropped.
///
/// Pages borrow it, so it outlives them all. It dereferences to its [`PageAllocator`].
///
/// # Examples
/// ```
/// use pagemill::{AllocPages, Gfp};
/// use pagemill_host::HostAllocator;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let frames = HostAllocator::new(64 << 20)?;
/// let mut slots = [const { None }; 64];
/// frames.fill(Gfp::KERNEL, &mut slots)?;
/// slots[0].as_mut().expect("filled").as_bytes_mut().fill(0x5a);
/// assert_eq!(frames.release_pages(&mut slots), 64);
/// # Ok(())
/// # }
/// ```
/// A reference to it is a source of pages, for a [`PageVec`](pagemill::PageVec) and other types that keep
/// one:
/// ```
/// use pagemill::{AllocPages, Gfp, PageVec};
/// use pagemill_host::HostAllocator;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let frames = HostAllocator::new(64 << 20)?;
/// let mut pages = PageVec::<_, 64>::new(&frames);
/// assert_eq!(frames.alloc_pages_bulk_vec(Gfp::KERNEL, 64, &mut pages), 64);
/// # Ok(())
/// # }
/// ```
/// A page cannot outlive it:
/// ```compile_fail,E0505
/// # use pagemill::{AllocPages, Gfp};
/// # use pagemill_host::HostAllocator;
/// let frames = HostAllocator::new(64 << 20).unwrap();
/// let page = frames.alloc_page(Gfp::KERNEL);
/// drop(frames);
/// drop(page);
/// ```
#[derive(Debug)]
pub struct HostAllocator(PageAllocator<Host>);

impl HostAllocator {
    /// Maps `len_bytes` of anonymous memory, in huge pages if available, and makes one zone Normal of
    /// it, with Linux's policies.
    ///
    /// Ordinary requests leave a part of the zone free, its min watermark: of 64 MiB, which are 16,384
    /// pages, 256. [`AllocatorConfig::min_free_bytes`] changes it. The allocator has no accounts;
    /// [`AllocatorConfig::nr_accounts`] does.
    ///
    /// # Errors
    /// If `len_bytes` is zero or not a multiple of [`PAGE_SIZE`], or the error of a system call.
    /// Nothing stays mapped then.
    pub fn new(len_bytes: u64) -> Result<Self, HostError> {
        Self::with_config(&AllocatorConfig::new(ArenaConfig::new(len_bytes)))
    }

    /// Maps memory and builds an allocator as `config` says.
    ///
    /// # Errors
    /// The invalid field of the configuration, or the error of a system call. Nothing stays mapped
    /// then.
    pub fn with_config(config: &AllocatorConfig) -> Result<Self, HostError> {
        allocator(config).map(Self)
    }

    /// Returns the allocator itself, for instance for a static.
    #[must_use]
    pub fn into_inner(self) -> PageAllocator<Host> {
        self.0
    }
}

impl Deref for HostAllocator {
    type Target = PageAllocator<Host>;

    #[inline]
    fn deref(&self) -> &PageAllocator<Host> {
        &self.0
    }
}

impl From<HostAllocator> for PageAllocator<Host> {
    fn from(allocator: HostAllocator) -> Self {
        allocator.0
    }
}

impl From<PageAllocator<Host>> for HostAllocator {
    fn from(allocator: PageAllocator<Host>) -> Self {
        Self(allocator)
    }
}

// SAFETY:
// 1. The same allocator each time: a shared reference does not change.
unsafe impl PageSource for &HostAllocator {
    type Platform = Host;

    #[inline]
    fn allocator(&self) -> &PageAllocator<Host> {
        &self.0
    }
}

/// Builds an allocator that owns its arena and its metadata; both are unmapped when it is dropped.
///
/// [`HostAllocator`] is the same as a type of this crate, with a shorter constructor. The pages borrow
/// the allocator (or hold a [`SharedAllocator`]), so it outlives them all.
///
/// # Errors
/// The invalid field of the configuration, or the error of a system call. Nothing stays mapped then.
///
/// # Examples
/// ```
/// use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};
///
/// let config = AllocatorConfig { nr_nodes: 2, ..AllocatorConfig::new(ArenaConfig::new(64 << 20)) };
/// let frames = allocator(&config)?;
/// assert_eq!(frames.nr_nodes(), 2);
/// # Ok::<(), pagemill_host::HostError>(())
/// ```
pub fn allocator(config: &AllocatorConfig) -> Result<PageAllocator<Host>, HostError> {
    // SAFETY:
    // 1. The host itself is the platform, and hands out its own frames.
    unsafe { allocator_on(config, |host| host) }
}

/// Builds an allocator on a platform that wraps a host.
///
/// # Safety
/// The platform keeps the host for as long as it lives, gives no mutable access to it, and hands
/// out the host's frames.
pub(crate) unsafe fn allocator_on<P: Platform>(
    config: &AllocatorConfig,
    platform: impl FnOnce(Host) -> P,
) -> Result<PageAllocator<P>, HostError> {
    // Before the regions, whose errors name addresses that the caller did not choose.
    config.arena.checked_len()?;
    check_nr_nodes(config)?;
    let memory = regions(config);
    let max = Cpus::detect().nr_possible();
    let nr_cpus = config.nr_cpus.unwrap_or(max);
    // The allocator checks the number too, but only after metadata for that many CPUs is mapped.
    if !(1..=max).contains(&nr_cpus) {
        return Err(ConfigError::BadNrCpus { nr_cpus, max }.into());
    }
    let core = Config {
        movable_bytes: config.movable_bytes,
        min_free_bytes: config.min_free_bytes,
        nr_accounts: config.nr_accounts,
        page_owner: config.page_owner,
        poison: config.poison,
        pcp_high: config.pcp_high,
        pcp_batch: config.pcp_batch,
        nr_zone_shards: Some(config.nr_zone_shards.unwrap_or_else(|| nr_zone_shards(config))),
        ..Config::new(&memory, nr_cpus)
    };
    let layout = PageAllocator::<P>::metadata_layout(&core)?;
    let host = Host::new(&HostConfig {
        arena: config.arena,
        metadata_bytes: layout.size() as u64,
        base_pfn: config.base_pfn,
    })?;
    let (metadata, entry) = (bytes_of(host.metadata()), host.fork_entry());
    // SAFETY:
    // 1. The metadata memory is initialised, readable and writable (`arena-initialised`), and
    //    nothing else uses it: the platform keeps the host that owns it (guaranteed by the caller)
    //    and moves into the allocator, which gives no write access to it and drops its tables first
    //    (`arena-outlives-pages`).
    // 2. The same holds for the frames, which are the whole of the host's other arena.
    let frames = unsafe { PageAllocator::new(&core, metadata, platform(host)) }?;
    // SAFETY:
    // 1. The allocator is on this host, which removes its entry before it unmaps the metadata
    //    memory.
    unsafe { entry.set(frames.list_closer()) };
    Ok(frames)
}

/// Returns the default number of shards per zone.
fn nr_zone_shards(config: &AllocatorConfig) -> u32 {
    const SHARD_BYTES: u64 = 64 << 20;
    let max = Config::NR_ZONE_SHARDS_MAX;
    // Not the CPUs that the calling thread may use: it may have bound itself already.
    let nr_cpus = nr_online().unwrap_or(1).min(max).next_power_of_two();
    let share = config.arena.len_bytes / u64::from(config.nr_nodes.max(1));
    let room = (share / SHARD_BYTES).clamp(1, u64::from(max)).ilog2();
    nr_cpus.min(1 << room)
}

/// The bytes of a block of the largest order.
const BLOCK_BYTES: u64 = (PAGE_SIZE << MAX_ORDER.value()) as u64;

fn check_nr_nodes(config: &AllocatorConfig) -> Result<(), HostError> {
    let nr_blocks = config.arena.len_bytes / BLOCK_BYTES;
    let max = nr_blocks.clamp(1, MAX_NR_NODES as u64);
    let max = u8::try_from(max).expect("a node's number has eight bits");
    let nr_nodes = config.nr_nodes;
    if (1..=max).contains(&nr_nodes) { Ok(()) } else { Err(HostError::NrNodes { nr_nodes, max }) }
}

/// Divides the arena into nodes of equal size, in whole blocks of the largest order.
fn regions(config: &AllocatorConfig) -> Vec<MemoryRegion> {
    let len_bytes = config.arena.len_bytes;
    let nr_nodes = u64::from(config.nr_nodes);
    let share = len_bytes / nr_nodes / BLOCK_BYTES * BLOCK_BYTES;
    let region = |node: u8| {
        let start = share * u64::from(node);
        let is_last = u64::from(node) + 1 == nr_nodes;
        MemoryRegion {
            start: PhysAddr::new(config.base_pfn.start().value() + start),
            len_bytes: if is_last { len_bytes - start } else { share },
            node: NodeId::new(node),
        }
    };
    (0..config.nr_nodes).map(region).collect()
}

/// A reference-counted source of an allocator: dropping the last one, or the last page, unmaps the
/// arena.
///
/// For pages that must outlive every borrow. Each page holds a reference count, which costs two atomic
/// operations more per page than a reference or a [`Static`](pagemill::source::Static). It dereferences
/// to its [`PageAllocator`]. A call that allocates consumes its source: clone it for each.
///
/// # Examples
/// The pages of a [`Shrinker`](pagemill::reclaim::Shrinker) may not borrow an allocator:
/// ```
/// use std::sync::Mutex;
///
/// use pagemill::reclaim::{ShrinkControl, Shrinker};
/// use pagemill::{AllocPages, Gfp, Page};
/// use pagemill_host::{HostAllocator, SharedAllocator};
///
/// struct Cache(Mutex<Vec<Page<SharedAllocator>>>);
///
/// impl Shrinker for Cache {
///     fn count(&self, _control: ShrinkControl) -> usize {
///         self.0.try_lock().map_or(0, |pages| pages.len())
///     }
///
///     fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
///         let Ok(mut pages) = self.0.try_lock() else { return 0 };
///         let left = pages.len().saturating_sub(nr);
///         let freed = pages.split_off(left);
///         drop(pages);
///         freed.len() // dropped here, after the lock
///     }
/// }
///
/// static CACHE: Cache = Cache(Mutex::new(Vec::new()));
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let frames = SharedAllocator::new(HostAllocator::new(16 << 20)?);
/// let _registered = frames.register_shrinker(&CACHE)?;
/// let page = frames.clone().alloc_page(Gfp::KERNEL).expect("16 MiB are free");
/// CACHE.0.lock().expect("no thread panicked").push(page);
/// // Allocations that run short now ask CACHE for pages.
/// # CACHE.0.lock().expect("no thread panicked").clear();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedAllocator(Arc<PageAllocator<Host>>);

impl SharedAllocator {
    /// Takes ownership of an allocator: a [`HostAllocator`], or what [`allocator`] returned.
    #[must_use]
    pub fn new(allocator: impl Into<PageAllocator<Host>>) -> Self {
        Self(Arc::new(allocator.into()))
    }
}

impl Deref for SharedAllocator {
    type Target = PageAllocator<Host>;

    #[inline]
    fn deref(&self) -> &PageAllocator<Host> {
        &self.0
    }
}

// SAFETY:
// 1. Same allocator in each call: an `Arc` and its clones refer to one value.
unsafe impl PageSource for SharedAllocator {
    type Platform = Host;

    #[inline]
    fn allocator(&self) -> &PageAllocator<Host> {
        &self.0
    }
}

fn bytes_of(arena: &Arena) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(arena.base(), arena.len_bytes())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use pagemill::accounts::{Account, AccountLimits};
    use pagemill::gfp::ZoneKind;
    use pagemill::{AllocPages, Gfp, Page};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn shards_are_as_many_as_cpus_whoever_asks() {
        let config = AllocatorConfig::new(ArenaConfig::new(1 << 50));
        let nr_shards = nr_zone_shards(&config);
        assert!(nr_shards >= nr_online().unwrap().min(64));
        let bound = thread::spawn(move || {
            Cpus::pin_to(Cpus::allowed().unwrap()[0]).unwrap();
            nr_zone_shards(&config)
        });
        assert_eq!(bound.join().unwrap(), nr_shards);
        assert_eq!(nr_zone_shards(&AllocatorConfig::new(ArenaConfig::new(127 * MIB))), 1);
    }

    fn small() -> AllocatorConfig {
        AllocatorConfig::new(ArenaConfig::new(16 * MIB))
    }

    #[test]
    fn pages_are_real_memory_and_their_own() {
        let frames = allocator(&small()).unwrap();
        let mut slots: [Option<Page<_>>; 300] = [const { None }; 300];
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 300);
        for (value, page) in (0_u16..).zip(slots.iter_mut().flatten()) {
            page.as_bytes_mut().chunks_mut(2).for_each(|pair| {
                pair.copy_from_slice(&value.to_le_bytes());
            });
        }
        for (value, page) in (0_u16..).zip(slots.iter().flatten()) {
            assert!(page.as_bytes().chunks(2).all(|pair| pair == value.to_le_bytes()));
        }
        assert_eq!(frames.release_pages(&mut slots), 300);
        let zeroed = frames.alloc_pages_bulk(Gfp::KERNEL | Gfp::ZERO, &mut slots);
        assert_eq!(zeroed, 300);
        assert!(slots.iter().flatten().all(|page| page.as_bytes().iter().all(|&byte| byte == 0)));
    }

    #[test]
    fn the_short_constructor_makes_the_default_allocator() {
        let short = HostAllocator::new(16 * MIB).unwrap();
        let long = allocator(&small()).unwrap();
        let marks = |frames: &PageAllocator<Host>| {
            frames.zone_info().map(|zone| (zone.kind, zone.managed, zone.watermarks)).collect()
        };
        let of_short: Vec<_> = marks(&short);
        assert_eq!(of_short, marks(&long));
        // Its pages are of one type, whether a method finds the source or a function is given it.
        let mut slots: Vec<Option<Page<&HostAllocator>>> = (0..100).map(|_| None).collect();
        short.fill(Gfp::KERNEL, &mut slots).unwrap();
        assert_eq!(short.release_pages(&mut slots), 100);
        assert_eq!(short.nr_free_pages(), long.nr_free_pages());
        let error = HostAllocator::new(16 * MIB + 1).unwrap_err();
        assert!(matches!(error, HostError::ArenaLength { .. }), "{error}");
    }

    #[test]
    fn a_folio_is_one_piece_of_memory() {
        let frames = allocator(&small()).unwrap();
        let mut folio = frames.alloc_pages(Gfp::KERNEL, MAX_ORDER).unwrap();
        assert_eq!(folio.as_bytes_mut().len(), 4 << 20);
        folio.as_bytes_mut().fill(7);
        let sum: u64 = folio.split().map(|page| u64::from(page.as_bytes()[4095])).sum();
        assert_eq!(sum, 7 * 1024);
    }

    #[test]
    fn a_page_keeps_a_shared_allocator_alive() {
        let frames = SharedAllocator::new(allocator(&small()).unwrap());
        let mut page = frames.alloc_page(Gfp::KERNEL).unwrap();
        page.as_bytes_mut()[0] = 1;
        thread::spawn(move || assert_eq!(page.as_bytes()[0], 1)).join().unwrap();
    }

    #[test]
    fn nodes_share_the_arena() {
        let frames = allocator(&AllocatorConfig { nr_nodes: 3, ..small() }).unwrap();
        assert_eq!(frames.nr_nodes(), 3);
        let sizes: Vec<_> = frames.zone_info().map(|zone| zone.present * 4096 / MIB).collect();
        assert_eq!(sizes, [4, 4, 8]);
        for node in (0..3).map(NodeId::new) {
            let page = frames.alloc_page_node(node, Gfp::KERNEL | Gfp::THISNODE).unwrap();
            assert_eq!(page.node(), node);
        }
        assert_eq!(frames.local_node(), NodeId::new(0));
    }

    #[test]
    fn the_base_decides_the_zone() {
        let config = AllocatorConfig { base_pfn: Pfn::new(0), ..small() };
        let frames = allocator(&config).unwrap();
        let kinds: Vec<_> = frames.zone_info().map(|zone| zone.kind).collect();
        assert_eq!(kinds, [ZoneKind::Dma32]);
    }

    #[test]
    fn too_many_cpus_are_refused_with_both_numbers() {
        let config = AllocatorConfig { nr_cpus: Some(u32::MAX), ..small() };
        let max = Cpus::detect().nr_possible();
        let expected = ConfigError::BadNrCpus { nr_cpus: u32::MAX, max };
        assert_eq!(allocator(&config).unwrap_err(), HostError::Config(expected));
        let message = expected.to_string();
        for number in [u32::MAX, max] {
            assert!(message.contains(&number.to_string()), "{message}");
        }
        let none = AllocatorConfig { nr_cpus: Some(0), ..small() };
        let expected = ConfigError::BadNrCpus { nr_cpus: 0, max };
        assert_eq!(allocator(&none).unwrap_err(), HostError::Config(expected));
    }

    /// Metadata for 2^32 CPUs needs more address space than most machines allow one process.
    #[test]
    fn the_number_of_cpus_is_checked_before_anything_is_mapped() {
        let arena = ArenaConfig::new(u64::MAX / MIB * MIB);
        let config = AllocatorConfig { nr_cpus: Some(u32::MAX), ..AllocatorConfig::new(arena) };
        let error = allocator(&config).unwrap_err();
        assert!(matches!(error, HostError::Config(ConfigError::BadNrCpus { .. })), "{error}");
    }

    #[test]
    fn a_number_of_nodes_that_the_arena_cannot_have_is_refused() {
        for (nr_nodes, len_bytes, max) in
            [(0, 16 * MIB, 4), (5, 16 * MIB, 4), (65, 512 * MIB, 64), (2, 2 * MIB, 1)]
        {
            let arena = ArenaConfig::new(len_bytes);
            let config = AllocatorConfig { nr_nodes, ..AllocatorConfig::new(arena) };
            let error = allocator(&config).unwrap_err();
            assert_eq!(error, HostError::NrNodes { nr_nodes, max });
            let message = error.to_string();
            assert!(message.contains(&format!("{nr_nodes} nodes: allowed are 1 to {max},")));
        }
    }

    #[test]
    fn more_movable_memory_than_a_node_has_is_refused() {
        let movable = |movable_bytes| AllocatorConfig { movable_bytes, nr_nodes: 2, ..small() };
        let error = allocator(&movable(8 * MIB + 1)).unwrap_err();
        let expected = ConfigError::BadMovable { movable_bytes: 8 * MIB + 1, max: 8 * MIB };
        assert_eq!(error, HostError::Config(expected));
        let all = ConfigError::BadMovable { movable_bytes: 8 * MIB, max: 8 * MIB };
        assert_eq!(allocator(&movable(8 * MIB)).unwrap_err(), HostError::Config(all));
        let frames = allocator(&movable(6 * MIB)).unwrap();
        assert!(frames.alloc_page(Gfp::KERNEL).is_some());
    }

    #[test]
    fn the_reserve_of_64_mib_is_that_of_the_documents() {
        let frames = HostAllocator::new(64 * MIB).unwrap();
        let min: u64 = frames.zone_info().map(|zone| zone.watermarks.min).sum();
        assert_eq!((frames.nr_free_pages(), min), (16_384, 256));
        let pages = core::iter::from_fn(|| frames.alloc_page(Gfp::KERNEL));
        let pages: Vec<_> = pages.collect();
        assert_eq!(frames.nr_free_pages(), 256);
        drop(pages);
    }

    #[test]
    fn without_accounts_the_error_says_what_to_set() {
        let frames = HostAllocator::new(4 * MIB).unwrap();
        let open = |frames| Account::open(frames, AccountLimits::NONE);
        let message = open(&*frames).unwrap_err().to_string();
        assert_eq!(
            message,
            "this allocator was configured without accounts: set nr_accounts of its configuration"
        );
        let config = AllocatorConfig { nr_accounts: 1, ..small() };
        let frames = allocator(&config).unwrap();
        let _account = open(&frames).unwrap();
        let message = open(&frames).unwrap_err().to_string();
        assert!(message.contains("all 1 accounts are open: close one, or raise"), "{message}");
    }

    #[test]
    fn an_arena_that_cannot_be_mapped_says_how_much_was_asked_for() {
        let arena = ArenaConfig { prefault: true, ..ArenaConfig::new(1 << 43) };
        let message = allocator(&AllocatorConfig::new(arena)).unwrap_err().to_string();
        assert!(message.contains("8 TiB"), "{message}");
    }

    #[test]
    fn physical_addresses_begin_at_the_base() {
        let frames = allocator(&small()).unwrap();
        let page = frames.alloc_page(Gfp::KERNEL).unwrap();
        assert!(page.phys_addr() >= PhysAddr::new(4 << 30));
    }
}
