//! Pairs of operations that may meet, in every order that two forced switches of thread allow.
//!
//! Worlds have a few frames: each one is two objects whose accesses are followed.
#![cfg(loom)]

extern crate alloc;

use alloc::alloc::{alloc, dealloc};
use alloc::sync::Arc;
use core::alloc::Layout;
use core::ptr::NonNull;
use std::sync::Mutex;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;
use pagemill::accounts::{Account, AccountLimits};
use pagemill::fragment::Carver;
use pagemill::handles::{SharedPage, free_pages_bulk};
use pagemill::machine::DirectMap;
use pagemill::setup::MemoryRegion;
use pagemill::source::PageSource;
use pagemill::units::{CpuId, NodeId, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, BulkRequest, Config, Gfp, Page, PageAllocator, PageList, Platform};

loom::thread_local! {
    static CPU: core::cell::Cell<u32> = core::cell::Cell::new(0);
}

/// Two CPUs; each thread says which one it runs on.
struct Machine;

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        2
    }

    fn pin(&self) -> CpuId {
        CpuId::new(CPU.with(core::cell::Cell::get))
    }

    fn relax(&self, _spins: u32) {
        thread::yield_now();
    }

    unsafe fn zero_pages(&self, _: Pfn, _: usize) {}
}

fn run_on(cpu: u32) {
    CPU.with(|current| current.set(cpu));
}

/// The bytes of the one frame of worlds with bytes; no test reads or writes them.
#[repr(align(4096))]
struct Frame(#[expect(dead_code, reason = "it has an address")] [u8; PAGE_SIZE]);

static FRAME: Frame = Frame([0; PAGE_SIZE]);

// SAFETY: 1. always the same pointer, aligned, initialised: a static. 2. disjoint: only worlds of
// one frame carve fragments. 3. no writer: tests use loom's cells instead of the bytes.
unsafe impl DirectMap for Machine {
    fn frame_ptr(&self, _pfn: Pfn) -> NonNull<u8> {
        NonNull::from(&FRAME).cast()
    }
}

/// An allocator with its metadata, which checks at its end that all frames came back.
struct World {
    allocator: Option<PageAllocator<Machine>>,
    metadata: NonNull<u8>,
    layout: Layout,
    nr_frames: u64,
}

// SAFETY: 1. only the allocator uses the metadata memory, and all threads may use the allocator.
unsafe impl Send for World {}
// SAFETY: 1. the same fact as for `Send`.
unsafe impl Sync for World {}

impl World {
    /// Lists hold up to `high` pages and are refilled one by one.
    fn new(nr_frames: u64, high: u32) -> Frames {
        let len_bytes = nr_frames << PAGE_SHIFT;
        let memory =
            [MemoryRegion { start: PhysAddr::new(1 << 32), len_bytes, node: NodeId::new(0) }];
        let config = Config {
            pcp_high: Some(high),
            pcp_batch: Some(1),
            min_free_bytes: Some(0),
            watermark_scale_factor: 0,
            nr_accounts: 1,
            ..Config::new(&memory, 2)
        };
        let layout = PageAllocator::<Machine>::metadata_layout(&config).expect("a valid world");
        // SAFETY: 1. size above zero: every allocator has metadata.
        let metadata = NonNull::new(unsafe { alloc(layout) }).expect("there is memory");
        // SAFETY: 1. valid for writes: just allocated with this size.
        unsafe { metadata.write_bytes(0, layout.size()) };
        let slice = NonNull::slice_from_raw_parts(metadata, layout.size());
        // SAFETY: 1. initialised, valid, not used otherwise: just allocated, and freed after the
        // allocator. 2. frames not used otherwise: they have no memory.
        let allocator = unsafe { PageAllocator::new(&config, slice, Machine) };
        let allocator = Some(allocator.expect("a valid world"));
        Frames(Arc::new(Self { allocator, metadata, layout, nr_frames }))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let allocator = self.allocator.take().expect("dropped once");
        if !std::thread::panicking() {
            allocator.drain_all_pages();
            assert_eq!(allocator.nr_free_pages(), self.nr_frames, "frames were lost");
            let stat = allocator.vmstat();
            assert_eq!(stat.pgalloc.iter().sum::<u64>(), stat.pgfree, "counts were lost");
        }
        drop(allocator);
        // SAFETY: 1. allocated by `new` with this layout. 2. not used any more: the allocator was
        // dropped.
        unsafe { dealloc(self.metadata.as_ptr(), self.layout) };
    }
}

/// Reaches the allocator of a world, and keeps it alive.
///
/// Loom does not see how the count of clones orders threads: the last one must be dropped by who
/// joined all others.
#[derive(Clone)]
struct Frames(Arc<World>);

// SAFETY: 1. same allocator in each call: clones share one world, which owns the allocator.
unsafe impl PageSource for Frames {
    type Platform = Machine;

    fn allocator(&self) -> &PageAllocator<Machine> {
        self.0.allocator.as_ref().expect("there until it is dropped")
    }
}

/// Runs `body` in every order, and checks that there was more than one.
fn explore(body: impl Fn() + Send + Sync + 'static) {
    let nr_orders = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&nr_orders);
    let mut builder = Builder::new();
    builder.max_branches = 20_000;
    builder.check(move || {
        *counter.lock().expect("no order panicked before") += 1;
        body();
    });
    let nr_orders = *nr_orders.lock().expect("no order panicked");
    assert!(nr_orders > 3, "only {nr_orders} orders were tried");
}

/// Runs `body` in every order, each time in a new world of `nr_frames` with lists of up to `high` pages.
fn model(nr_frames: u64, high: u32, body: impl Fn(Frames) + Send + Sync + 'static) {
    explore(move || body(World::new(nr_frames, high)));
}

/// Runs `theirs` in another thread, on `cpu`, beside `ours` in this one. Returns what both return.
fn beside<T: 'static, O>(
    cpu: u32,
    theirs: impl FnOnce() -> T + 'static,
    ours: impl FnOnce() -> O,
) -> (T, O) {
    let thread = thread::spawn(move || {
        run_on(cpu);
        theirs()
    });
    let ours = ours();
    (thread.join().expect("it does not panic"), ours)
}

/// Allocates up to `nr` pages in bulk, and returns their slots and how many were filled.
fn bulk(frames: &Frames, nr: usize) -> (Vec<Option<Page<Frames>>>, usize) {
    let mut slots: Vec<_> = (0..nr).map(|_| None).collect();
    let filled = frames.clone().alloc_pages_bulk(Gfp::NOWAIT, &mut slots);
    assert_eq!(slots.iter().flatten().count(), filled);
    (slots, filled)
}

/// Checks that no two of `pages` are one frame.
fn check_distinct<'a>(pages: impl IntoIterator<Item = &'a Page<Frames>>) {
    let mut pfns: Vec<_> = pages.into_iter().map(Page::pfn).collect();
    let nr = pfns.len();
    pfns.sort_unstable();
    pfns.dedup();
    assert_eq!(pfns.len(), nr, "a frame was handed out twice");
}

#[test]
fn a_page_is_taken_while_the_lists_are_drained() {
    model(2, 2, |frames| {
        drop(frames.clone().alloc_page(Gfp::NOWAIT));
        let other = frames.clone();
        let drain = move || other.allocator().drain_all_pages();
        let (_drained, (_one, two)) = beside(1, drain, || {
            let one = frames.clone().alloc_page(Gfp::NOWAIT);
            // This one may be on its way from the list to the zone, and then is nowhere to be found.
            let two = frames.clone().alloc_page(Gfp::NOWAIT);
            assert!(one.is_some(), "there is a frame in the zone");
            check_distinct(one.iter().chain(&two));
            (one, two)
        });
        let two = two.or_else(|| frames.clone().alloc_page(Gfp::NOWAIT));
        assert!(two.is_some(), "there is a second frame");
    });
}

#[test]
fn two_threads_on_one_cpu_allocate_and_free_in_bulk() {
    model(6, 2, |frames| {
        let other = frames.clone();
        let ((mut others, theirs), (mut slots, ours)) =
            beside(0, move || bulk(&other, 2), || bulk(&frames, 2));
        assert!(theirs >= 1 && ours >= 1);
        check_distinct(slots.iter().chain(&others).flatten());
        frames.clone().release_pages(&mut slots);
        frames.release_pages(&mut others);
    });
}

/// Allocates in bulk on this CPU while another thread, on `cpu`, frees what it had.
fn bulk_meets_bulk_free(cpu: u32) {
    model(5, 2, move |frames| {
        let (mut theirs, filled) = bulk(&frames, 3);
        assert_eq!(filled, 3);
        let other = frames.clone();
        let free = move || assert_eq!(other.release_pages(&mut theirs), 3);
        let ((), mut ours) = beside(cpu, free, || {
            let (ours, filled) = bulk(&frames, 2);
            assert!(filled >= 1, "one page is free in any case");
            check_distinct(ours.iter().flatten());
            ours
        });
        frames.release_pages(&mut ours);
    });
}

#[test]
fn bulk_meets_bulk_free_on_one_cpu() {
    bulk_meets_bulk_free(0);
}

#[test]
fn bulk_meets_bulk_free_on_two_cpus() {
    bulk_meets_bulk_free(1);
}

#[test]
fn lists_are_freed_from_two_threads() {
    model(4, 1, |frames| {
        let mut one = PageList::new(frames.clone());
        let mut two = PageList::new(frames.clone());
        assert_eq!(frames.clone().alloc_pages_bulk_list(Gfp::NOWAIT, 2, &mut one), 2);
        assert_eq!(frames.clone().alloc_pages_bulk_list(Gfp::NOWAIT, 1, &mut two), 1);
        let theirs = move || assert_eq!(free_pages_bulk(&mut one), 2);
        beside(0, theirs, || assert_eq!(free_pages_bulk(&mut two), 1));
    });
}

fn page(frames: &Frames) -> Page<Frames> {
    frames.clone().alloc_page(Gfp::NOWAIT).expect("a frame is free")
}

/// Returns both owners of a shared page.
fn owners(frames: &Frames) -> (SharedPage<Frames>, SharedPage<Frames>) {
    let one = page(frames).share();
    (one.clone(), one)
}

#[test]
fn two_owners_let_go_and_the_frame_is_freed_once() {
    model(1, 1, |frames| {
        let (one, two) = owners(&frames);
        beside(0, move || drop(one), || drop(two));
    });
}

#[test]
fn an_owner_is_added_while_another_lets_go() {
    model(1, 1, |frames| {
        let (one, two) = owners(&frames);
        let ((), three) = beside(
            0,
            move || drop(one),
            || {
                let three = two.clone();
                drop(two);
                assert!(three.nr_owners() >= 1);
                three
            },
        );
        assert_eq!(three.nr_owners(), 1);
        assert!(three.try_unshare().is_ok(), "the only owner");
    });
}

#[test]
fn a_page_becomes_owned_again_while_another_owner_lets_go() {
    model(1, 1, |frames| {
        let (one, two) = owners(&frames);
        beside(0, move || drop(one), || drop(two.try_unshare()));
    });
}

#[test]
fn a_list_frees_a_shared_page_while_another_owner_lets_go() {
    model(1, 1, |frames| {
        let (one, two) = owners(&frames);
        let mut list = PageList::new(frames);
        list.try_push(one).expect("it is on no list");
        let ((), freed) = beside(
            0,
            move || drop(two),
            || {
                let freed = free_pages_bulk(&mut list);
                assert_eq!(freed + list.len(), 1, "freed, or still on the list");
                freed
            },
        );
        assert_eq!(free_pages_bulk(&mut list), 1 - freed);
    });
}

#[test]
fn two_lists_compete_for_a_shared_page() {
    model(1, 1, |frames| {
        let (one, two) = owners(&frames);
        let mut list = PageList::new(frames.clone());
        list.try_push(one).expect("it is on no list");
        let source = frames.clone();
        let theirs = move || {
            let mut other = PageList::new(source);
            let _refused = other.try_push(two);
            free_pages_bulk(&mut other);
        };
        beside(0, theirs, || {
            free_pages_bulk(&mut list);
            drop(list);
        });
    });
}

#[test]
fn a_drain_meets_bulk_and_bulk_free() {
    model(5, 2, |frames| {
        let (mut theirs, filled) = bulk(&frames, 2);
        assert_eq!(filled, 2);
        let (one, two) = (frames.clone(), frames.clone());
        let free = move || assert_eq!(one.release_pages(&mut theirs), 2);
        let drain = move || two.allocator().drain_all_pages();
        let ((), (_drained, mut ours)) = beside(0, free, || {
            beside(1, drain, || {
                let (ours, _filled) = bulk(&frames, 2);
                check_distinct(ours.iter().flatten());
                ours
            })
        });
        frames.release_pages(&mut ours);
    });
}

/// Stands for the bytes of the one frame of a world; loom sees who reads and writes them when.
type Bytes = Arc<UnsafeCell<u32>>;

fn bytes(value: u32) -> Bytes {
    Arc::new(UnsafeCell::new(value))
}

fn write(bytes: &Bytes) {
    // SAFETY: 1. exclusive: the caller owns the frame, which loom checks.
    bytes.with_mut(|bytes| unsafe { *bytes += 1 });
}

fn read(bytes: &Bytes) -> u32 {
    // SAFETY: 1. no writer: the caller has the frame, which loom checks.
    bytes.with(|bytes| unsafe { *bytes })
}

/// Writes to the frame if it is free.
fn write_if_free(frames: &Frames, bytes: &Bytes) {
    if let Some(page) = frames.clone().alloc_page(Gfp::KERNEL) {
        write(bytes);
        drop(page);
    }
}

#[test]
fn what_an_owner_did_with_a_frame_is_over_when_the_next_one_gets_it() {
    for cpu in [0, 1] {
        model(1, 1, move |frames| {
            let bytes = bytes(0);
            let page = page(&frames);
            let other = Arc::clone(&bytes);
            let theirs = move || {
                write(&other);
                drop(page);
            };
            beside(cpu, theirs, || {
                if let Some(page) = frames.clone().alloc_page(Gfp::KERNEL) {
                    assert_eq!(read(&bytes), 1);
                    write(&bytes);
                    drop(page);
                }
            });
        });
    }
}

/// Runs `ours` with one owner of a shared page, beside a thread that reads it and drops the other.
fn beside_a_reader(ours: impl Fn(&Frames, &Bytes, SharedPage<Frames>) + Send + Sync + 'static) {
    model(1, 1, move |frames| {
        let bytes = bytes(7);
        let (one, two) = owners(&frames);
        let other = Arc::clone(&bytes);
        let theirs = move || {
            assert_eq!(read(&other), 7);
            drop(one);
        };
        beside(0, theirs, || ours(&frames, &bytes, two));
    });
}

#[test]
fn what_all_owners_read_is_read_before_the_frame_is_used_again() {
    beside_a_reader(|frames, bytes, page| {
        assert_eq!(read(bytes), 7);
        drop(page);
        write_if_free(frames, bytes);
    });
}

#[test]
fn who_is_left_alone_may_write() {
    beside_a_reader(|_, bytes, page| {
        if let Ok(page) = page.try_unshare() {
            write(bytes);
            drop(page);
        }
    });
}

#[test]
fn the_last_of_the_fragments_frees_the_page_once() {
    model(1, 1, |frames| {
        let mut carver = Carver::new(page(&frames));
        let (one, two) = (carver.carve(64, 64).expect("room"), carver.carve(64, 64).expect("room"));
        beside(0, move || drop(one), || beside(0, move || drop(two), || drop(carver)));
    });
}

#[test]
fn one_of_the_last_two_fragments_has_the_page() {
    model(1, 1, |frames| {
        let mut carver = Carver::new(page(&frames));
        let (one, two) = (carver.carve(64, 64).expect("room"), carver.carve(64, 64).expect("room"));
        drop(carver);
        let (theirs, ours) = beside(0, move || one.into_owner(), || two.into_owner());
        assert_eq!(u8::from(ours.is_some()) + u8::from(theirs.is_some()), 1);
    });
}

#[test]
fn what_fragments_did_is_over_when_the_page_is_begun_anew_or_freed() {
    model(1, 1, |frames| {
        let bytes = bytes(0);
        let mut carver = Carver::new(page(&frames));
        let fragment = carver.carve(64, 64).expect("room");
        let other = Arc::clone(&bytes);
        let theirs = move || {
            write(&other);
            drop(fragment);
        };
        beside(0, theirs, || {
            if carver.reset() {
                assert_eq!(read(&bytes), 1);
                write(&bytes);
            }
            drop(carver);
            write_if_free(&frames, &bytes);
        });
    });
}

#[test]
fn a_charge_meets_an_uncharge_and_the_closing_of_the_account() {
    model(3, 1, |frames| {
        let limits = AccountLimits { max: 2, high: 1 };
        let account = Account::open(frames.clone(), limits).expect("there is room");
        let fill = |account: &Account<Frames>, nr: usize| {
            let account = Some(account.id());
            let request = BulkRequest { account, ..BulkRequest::new(Gfp::NOWAIT) };
            let mut slots: Vec<_> = (0..nr).map(|_| None).collect();
            let new = frames.clone().bulk_fill(&request, &mut slots).new;
            (slots, new)
        };
        let (mut held, _one) = fill(&account, 1);
        assert_eq!(account.usage().current, 1);
        let other = frames.clone();
        let theirs = move || other.release_pages(&mut held);
        let (_nr, mut more) = beside(1, theirs, || {
            let (more, new) = fill(&account, 2);
            assert!((1..=2).contains(&new) && account.usage().current >= new as u64);
            drop(account);
            more
        });
        let full = Account::open(frames.clone(), limits);
        assert!(full.is_err(), "it is closed, and has pages");
        frames.clone().release_pages(&mut more);
        let account = Account::open(frames.clone(), limits).expect("its last page is back");
        assert_eq!(account.usage().current, 0);
    });
}

#[cfg(feature = "alloc")]
mod ring {
    //! The ring: producers meet each other and the consumer.

    use pagemill::recycling::{Ring, Stack};

    use super::*;

    fn take(ring: &Ring<Bytes>, seen: &mut Vec<u32>) {
        let mut stack = Stack::<Bytes, 4>::new();
        ring.drain().expect("there is one consumer").pop_into(4, &mut stack);
        let values: Vec<_> = stack.map(|value| read(&value)).collect();
        seen.extend(values.into_iter().rev());
    }

    #[test]
    fn two_producers_meet_and_nothing_is_lost_or_seen_twice() {
        explore(|| {
            let ring = Arc::new(Ring::new(4));
            let push = |first| {
                let ring = Arc::clone(&ring);
                move || {
                    let mut values = [first, first + 1].map(bytes).into_iter();
                    assert_eq!(ring.push_bulk(2, &mut values), 2);
                }
            };
            let mut seen = Vec::new();
            beside(0, push(1), || beside(0, push(3), || take(&ring, &mut seen)));
            take(&ring, &mut seen);
            for first in [1, 3] {
                let position = |value| seen.iter().position(|&other| other == value);
                assert!(position(first) < position(first + 1), "in the order of each: {seen:?}");
            }
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3, 4]);
        });
    }

    #[test]
    fn a_slot_is_filled_again_only_after_it_was_read() {
        explore(|| {
            let ring = Arc::new(Ring::new(1));
            ring.push(bytes(1)).expect("there is room");
            let producer = Arc::clone(&ring);
            let mut seen = Vec::new();
            let push = move || producer.push(bytes(2)).is_ok();
            let (pushed, ()) = beside(0, push, || {
                take(&ring, &mut seen);
                assert_eq!(seen.first(), Some(&1));
            });
            take(&ring, &mut seen);
            assert_eq!(seen, if pushed { vec![1, 2] } else { vec![1] });
        });
    }

    #[test]
    fn two_who_take_do_not_take_the_same() {
        explore(|| {
            let ring = Arc::new(Ring::new(2));
            assert_eq!(ring.push_bulk(2, &mut [1, 2].map(bytes).into_iter()), 2);
            let other = Arc::clone(&ring);
            let all = |ring: &Ring<Bytes>| -> Vec<u32> {
                ring.drain().into_iter().flatten().map(|value| read(&value)).collect()
            };
            let (theirs, mut seen) = beside(0, move || all(&other), || all(&ring));
            seen.extend(theirs);
            seen.extend(all(&ring));
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }
}
