//! Many threads over an arena that is too small for them, with everything that makes it worse.
//!
//! Three seconds by default; `PAGEMILL_PRESSURE_SECS=60` makes it a minute. A waiting thread holds
//! no page that others wait for: the pages that a thread keeps are in a cache that shrinkers may
//! empty. So every wait must end, and a watchdog reports one that does not.

extern crate alloc;

use alloc::sync::Arc;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::FaultConfig;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::request::Effort;
use pagemill::reserves::Mempool;
use pagemill::source::PageSource;
use pagemill::{AllocPages, BulkRequest, Folio, Gfp, Order, Page, Shortage};
use pagemill_host::{
    AllocScope, AllocatorConfig, ArenaConfig, ReclaimThread, SharedAllocator, allocator,
};

#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Count = core::sync::atomic::AtomicU64;
#[expect(clippy::disallowed_types, reason = "a test's own: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

const NR_THREADS: u64 = 16;
const ARENA_BYTES: u64 = 8 << 20;
/// Pages of one waiter; all waiters together want more than there is.
const NR_WAITED: usize = 256;
const NR_RESERVED: usize = 64;
/// How long the threads may take to have had a hard time, on a machine with other work to do.
const TIME_AT_MOST: Duration = Duration::from_mins(5);
/// How long nothing at all may be finished.
const PATIENCE: Duration = Duration::from_mins(3);

/// Pages that a thread keeps until a shrinker takes them.
#[derive(Default)]
struct Cache(Mutex<Vec<Page<SharedAllocator>>>);

impl Cache {
    /// Keeps pages, or frees them if the cache is being emptied.
    fn keep(&self, pages: impl IntoIterator<Item = Page<SharedAllocator>>) {
        // Collected first: a page that is freed under the lock may wake who wants the lock.
        let pages: Vec<_> = pages.into_iter().collect();
        if let Ok(mut kept) = self.0.try_lock() {
            kept.extend(pages);
        }
    }
}

impl Shrinker for Cache {
    fn count(&self, _control: ShrinkControl) -> usize {
        self.0.try_lock().map_or(0, |pages| pages.len())
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        let Ok(mut pages) = self.0.try_lock() else { return 0 };
        let left = pages.len().saturating_sub(nr);
        let freed = pages.split_off(left);
        drop(pages);
        freed.len()
    }
}

/// A cache that takes its time, allocates, promises much and gives nothing.
struct Stubborn(SharedAllocator);

impl Shrinker for Stubborn {
    fn count(&self, _control: ShrinkControl) -> usize {
        1000
    }

    fn scan(&self, _nr: usize, control: ShrinkControl) -> usize {
        thread::sleep(Duration::from_micros(200));
        let mut page = self.0.clone().alloc_page(control.gfp);
        if let Some(page) = &mut page {
            page.as_bytes_mut()[0] = 1;
        }
        0
    }
}

/// What the threads share.
struct Scene {
    frames: SharedAllocator,
    caches: [&'static Cache; 4],
    pool: Mempool<SharedAllocator>,
    accounts: [Account<SharedAllocator>; 2],
    over: Flag,
    /// Steps that were finished, for the watchdog.
    steps: Count,
    waits: Count,
    faults: Count,
    short: Count,
    stopped: Count,
}

struct Worker {
    scene: Arc<Scene>,
    random: u64,
}

impl Worker {
    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from((self.random >> 20) % end as u64).expect("below a usize")
    }

    fn run(mut self) {
        while !self.scene.over.load(Ordering::Relaxed) {
            self.step();
            self.scene.steps.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn step(&mut self) {
        let scene = Arc::clone(&self.scene);
        let _scope = match self.below(8) {
            0 => Some(AllocScope::nofs()),
            1 => Some(AllocScope::noio()),
            _ => None,
        };
        let account = &scene.accounts[self.below(2)];
        let _payer = AllocScope::charged_to(account.id());
        match self.below(10) {
            0..3 => self.single(&scene),
            3 | 4 => self.bulk(&scene),
            5 => self.all_or_nothing(&scene),
            6 => no_fail(&scene),
            7 => self.mempool(&scene),
            8 => self.blocks(&scene),
            _ => self.charged(&scene, account),
        }
    }

    fn single(&mut self, scene: &Scene) {
        let gfp =
            [Gfp::KERNEL, Gfp::ATOMIC, Gfp::NOWAIT, Gfp::KERNEL_ACCOUNT, Gfp::HIGHUSER_MOVABLE]
                [self.below(5)];
        let cache = scene.caches[self.below(4)];
        match scene.frames.clone().alloc_page(gfp) {
            Some(mut page) => {
                page.as_bytes_mut()[17] = 1;
                cache.keep([page]);
            }
            None => drop(scene.short.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn bulk(&mut self, scene: &Scene) {
        let nr = self.below(300);
        let effort = [Effort::Fast, Effort::TryHard][self.below(2)];
        let gfp = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE][self.below(2)];
        let request = BulkRequest { effort, ..BulkRequest::new(gfp | Gfp::ZERO) };
        let mut room: Vec<MaybeUninit<Page<_>>> = Vec::new();
        room.resize_with(nr, MaybeUninit::uninit);
        let outcome = scene.frames.clone().bulk_write(&request, &mut room);
        note(scene, outcome.short);
        // SAFETY: 1. initialised: `new` is the number of initialised entries. 2. each is read once.
        let page = |entry: MaybeUninit<Page<_>>| unsafe { entry.assume_init() };
        let pages: Vec<_> = room.into_iter().take(outcome.new).map(page).collect();
        assert!(pages.iter().all(|page| page.as_bytes().iter().all(|&byte| byte == 0)));
        scene.caches[self.below(4)].keep(pages);
    }

    /// Waits for much, holding nothing, and is stopped only when all is over.
    fn all_or_nothing(&mut self, scene: &Scene) {
        let over = || scene.over.load(Ordering::Relaxed);
        let nr = NR_WAITED / 2 + self.below(NR_WAITED / 2);
        let request = BulkRequest {
            effort: Effort::AllOrNothing,
            stop: Some(&over),
            ..BulkRequest::new(Gfp::KERNEL)
        };
        let mut slots: Vec<Option<Page<_>>> = (0..nr).map(|_| None).collect();
        let outcome = scene.frames.clone().bulk_fill(&request, &mut slots);
        note(scene, outcome.short);
        match outcome.short {
            None => assert_eq!(outcome.new, nr),
            Some(_) => assert_eq!(outcome.new, 0),
        }
        scene.waits.fetch_add(1, Ordering::Relaxed);
        scene.frames.clone().release_pages(&mut slots);
    }

    fn mempool(&mut self, scene: &Scene) {
        let nr = 1 + self.below(NR_RESERVED);
        let mut slots: Vec<Option<Page<_>>> = (0..nr).map(|_| None).collect();
        scene.pool.alloc_bulk(Gfp::KERNEL, &mut slots, None).expect("a mempool never fails");
        assert!(slots.iter().all(Option::is_some));
        scene.pool.free_bulk(&mut slots);
    }

    fn blocks(&mut self, scene: &Scene) {
        let order = Order::new(u8::try_from(self.below(6)).expect("small")).expect("small");
        let request = BulkRequest { order, ..BulkRequest::new(Gfp::KERNEL | Gfp::NORETRY) };
        let mut blocks: Vec<Folio<_>> = Vec::new();
        let outcome = scene.frames.clone().bulk_each(&request, 4, |block| blocks.push(block));
        note(scene, outcome.short);
        let _outcome = scene
            .frames
            .clone()
            .bulk_extents(&request, self.below(100), |piece| blocks.push(piece));
    }

    fn charged(&mut self, scene: &Scene, account: &Account<SharedAllocator>) {
        let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::NOIO) };
        let cache = scene.caches[self.below(4)];
        let mut pages = Vec::new();
        let nr = self.below(200);
        let outcome = scene.frames.clone().bulk_each(&request, nr, |page| pages.push(page));
        note(scene, outcome.short);
        cache.keep(pages);
    }
}

/// A request that may not fail, from who holds nothing.
fn no_fail(scene: &Scene) {
    let mut slots: Vec<Option<Page<_>>> = (0..16).map(|_| None).collect();
    let request = BulkRequest::new(Gfp::KERNEL | Gfp::NOFAIL);
    let outcome = scene.frames.clone().bulk_fill(&request, &mut slots);
    assert_eq!((outcome.new, outcome.short), (16, None));
    scene.waits.fetch_add(1, Ordering::Relaxed);
    let one = scene.frames.clone().alloc_page(Gfp::KERNEL | Gfp::NOFAIL);
    assert!(one.is_some());
}

fn note(scene: &Scene, short: Option<Shortage>) {
    let count = match short {
        None => return,
        Some(Shortage::Fault) => &scene.faults,
        Some(Shortage::Stopped) => &scene.stopped,
        Some(_) => &scene.short,
    };
    count.fetch_add(1, Ordering::Relaxed);
}

/// Tells whether enough has happened for the test to mean something.
fn is_hard(scene: &Scene) -> bool {
    let Scene { steps, waits, short, faults, .. } = scene;
    let counts = [(steps, 100), (waits, 10), (short, 10), (faults, 10)];
    counts.iter().all(|(count, least)| count.load(Ordering::Relaxed) > *least)
}

/// Waits until `time` has passed and the threads have had a hard time, and then until they have
/// ended; aborts if they stand still.
fn watch(scene: &Scene, time: Duration, threads: &[thread::JoinHandle<()>]) {
    let start = Instant::now();
    let (mut last, mut since) = (0, Instant::now());
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(20));
        if start.elapsed() >= time && (is_hard(scene) || start.elapsed() >= TIME_AT_MOST) {
            scene.over.store(true, Ordering::Relaxed);
        }
        let steps = scene.steps.load(Ordering::Relaxed);
        if steps != last {
            (last, since) = (steps, Instant::now());
        }
        assert!(
            since.elapsed() < PATIENCE,
            "nothing finished for {PATIENCE:?}, after {steps} steps"
        );
    }
}

/// Sets the scene, and returns the free blocks from before.
fn scene() -> (Arc<Scene>, Vec<u64>) {
    let config = AllocatorConfig {
        movable_bytes: ARENA_BYTES / 4,
        min_free_bytes: Some(ARENA_BYTES / 8),
        nr_accounts: 3,
        page_owner: true,
        ..AllocatorConfig::new(ArenaConfig::new(ARENA_BYTES))
    };
    let frames = SharedAllocator::new(allocator(&config).expect("a small arena"));
    let at_start = pieces(&frames);
    let limits = |max| AccountLimits { max, high: max / 2 };
    let top = Account::open(frames.clone(), limits(400)).expect("there is room");
    let child = top.open_child(limits(200)).expect("there is room");
    let scene = Scene {
        pool: Mempool::new(frames.clone(), NR_RESERVED, Gfp::KERNEL).expect("there is memory"),
        caches: core::array::from_fn(|_| &*Box::leak(Box::default())),
        accounts: [top, child],
        frames,
        over: Flag::new(false),
        steps: Count::new(0),
        waits: Count::new(0),
        faults: Count::new(0),
        short: Count::new(0),
        stopped: Count::new(0),
    };
    (Arc::new(scene), at_start)
}

#[test]
fn at_the_edge_nobody_starves_and_nothing_is_lost() {
    let secs = std::env::var("PAGEMILL_PRESSURE_SECS").ok();
    let secs = secs.map_or(3, |secs| secs.parse().expect("PAGEMILL_PRESSURE_SECS is a number"));
    let (scene, at_start) = scene();
    let frames = scene.frames.clone();
    let allocator = frames.allocator();
    let guards = scene.caches.map(|cache| allocator.register_shrinker(cache).expect("room"));
    // Leaked: it holds the allocator that it is registered with.
    let stubborn: &'static Stubborn = Box::leak(Box::new(Stubborn(frames.clone())));
    let stubborn = allocator.register_shrinker(stubborn).expect("room");
    let reclaim = ReclaimThread::spawn(frames.clone()).expect("a thread");
    allocator.inject_faults(&FaultConfig { probability: 20_000, ..FaultConfig::EVERY });
    let threads: Vec<_> = (1..=NR_THREADS)
        .map(|seed| {
            let worker = Worker { scene: Arc::clone(&scene), random: seed * 0x9e37_79b9 };
            thread::spawn(move || worker.run())
        })
        .collect();
    watch(&scene, Duration::from_secs(secs), &threads);
    for thread in threads {
        thread.join().expect("no thread panics");
    }
    drop(reclaim);
    drop((guards, stubborn));
    allocator.inject_faults(&FaultConfig::NEVER);
    let counts = [&scene.steps, &scene.waits, &scene.short, &scene.faults, &scene.stopped];
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    assert!(is_hard(&scene), "an easy time: {counts:?}");
    let scene = Arc::into_inner(scene).expect("all threads have ended");
    check_end(scene, &at_start, counts);
}

/// Empties everything, and checks that all memory is one piece again.
fn check_end(scene: Scene, at_start: &[u64], counts: [u64; 5]) {
    let Scene { frames, caches, pool, accounts, .. } = scene;
    for cache in caches {
        cache.0.lock().expect("no thread panicked").clear();
    }
    for account in &accounts {
        let usage = account.usage();
        assert_eq!(usage.current, 0, "{counts:?}");
        assert!(usage.peak > 0 && usage.peak <= 400, "{usage:?}");
    }
    drop(pool);
    let allocator = frames.allocator();
    allocator.for_each_owner(|pfn, site| panic!("{pfn} is held since {site}: {counts:?}"));
    assert_eq!(allocator.validate(), Ok(()), "{counts:?}");
    allocator.drain_all_pages();
    let stat = allocator.vmstat();
    assert_eq!(stat.pgalloc.iter().sum::<u64>(), stat.pgfree, "{counts:?}");
    assert_eq!(pieces(&frames), at_start, "blocks did not merge again: {counts:?}");
}

fn pieces(frames: &SharedAllocator) -> Vec<u64> {
    frames.allocator().zone_info().flat_map(|zone| zone.buddyinfo()).collect()
}
