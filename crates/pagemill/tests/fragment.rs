//! Pages in pieces: whose bytes are whose, and when the page goes back.
#![cfg(not(loom))]

extern crate alloc;

use alloc::rc::Rc;
use core::cell::RefCell;
use std::thread;

use pagemill::fragment::Carver;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Config, Gfp, PageAllocator};
use pagemill_testkit::{Frames, Machine, NORMAL, World, order, region};

/// A world with bytes, which checks at its end that all pages came back.
fn world() -> World {
    let memory = [region(NORMAL, 256, 0)];
    World::on(Machine::with_memory(1, NORMAL, 256), &Config::new(&memory, 1))
}

#[test]
fn pieces_begin_where_their_alignment_says_and_end_with_the_page() {
    let world = world();
    let mut carver = Carver::new(world.frames().alloc_page(Gfp::KERNEL).unwrap());
    let places = [(1, 1), (10, 8), (0, 4), (64, 64), (PAGE_SIZE - 128, 1)];
    let pieces: Vec<_> = places.map(|(len, align)| carver.carve(len, align).unwrap()).into();
    let offsets: Vec<_> = pieces.iter().map(|piece| piece.offset()).collect();
    assert_eq!(offsets, [0, 8, 20, 64, 128]);
    let lens: Vec<_> = pieces.iter().map(|piece| piece.as_bytes().len()).collect();
    assert_eq!(lens, [1, 10, 1, 64, PAGE_SIZE - 128]);
    assert_eq!(carver.left(), 0);
    for (len, align) in [(1, 1), (0, 1), (usize::MAX, 1), (1, 1 << 20), (usize::MAX, 4096)] {
        assert!(carver.carve(len, align).is_none(), "{len} bytes at a multiple of {align}");
    }
}

#[test]
fn the_page_stays_until_the_last_piece_or_the_carver_is_gone() {
    let world = world();
    let free = || world.frames().vmstat().pgfree;
    let mut carver = Carver::new(world.frames().alloc_pages(Gfp::KERNEL, order(1)).unwrap());
    let mut one = carver.carve(4000, 1).unwrap();
    let two = carver.carve(4000, 1).unwrap();
    one.as_bytes_mut().fill(1);
    drop(carver);
    assert_eq!((free(), one.as_bytes()[3999]), (0, 1));
    assert!(one.into_owner().is_none());
    assert_eq!(free(), 0);
    let folio = two.into_owner().expect("the last one");
    assert_eq!((folio.order(), folio.as_bytes()[0]), (order(1), 1));
    drop(folio);
    assert_eq!(free(), 2);
}

#[test]
fn a_page_is_begun_anew_only_when_all_pieces_are_back() {
    let world = world();
    let mut carver = Carver::new(world.frames().alloc_page(Gfp::KERNEL).unwrap());
    for round in 0..3 {
        let (one, two) = (carver.carve(2000, 1).unwrap(), carver.carve(2000, 1).unwrap());
        assert!(carver.carve(2000, 1).is_none());
        drop(one);
        assert!(!carver.reset(), "one is out, in round {round}");
        drop(two);
        assert!(carver.reset());
        assert_eq!(carver.left(), PAGE_SIZE);
    }
}

#[test]
fn threads_write_to_their_pieces_at_once_and_the_page_goes_back_once() {
    let world = world();
    let rounds = if cfg!(miri) { 2 } else { 200 };
    for _ in 0..rounds {
        let mut carver = Carver::new(world.frames().alloc_page(Gfp::KERNEL).unwrap());
        thread::scope(|scope| {
            for value in 0..4_u8 {
                let mut piece = carver.carve(1000, 8).unwrap();
                scope.spawn(move || {
                    piece.as_bytes_mut().fill(value);
                    assert!(piece.as_bytes().iter().all(|&byte| byte == value));
                });
            }
            drop(carver);
        });
    }
    let stat = world.frames().vmstat();
    assert_eq!((stat.pgfree, stat.pgalloc.iter().sum()), (rounds, rounds));
}

/// A source with something of its own, as an `Arc` or a logging handle has; how many there are is
/// counted.
struct Owning<'w> {
    frames: Frames<'w>,
    count: Rc<()>,
    log: RefCell<Vec<u8>>,
}

impl<'w> Owning<'w> {
    fn new(frames: Frames<'w>, count: &Rc<()>) -> Self {
        Self { frames, count: Rc::clone(count), log: RefCell::new(vec![0; 64]) }
    }
}

impl Clone for Owning<'_> {
    fn clone(&self) -> Self {
        self.log.borrow_mut().push(1);
        Self::new(self.frames, &self.count)
    }
}

// SAFETY: 1. same allocator in each call: a reference, which clones copy.
unsafe impl PageSource for Owning<'_> {
    type Platform = Machine;

    fn allocator(&self) -> &PageAllocator<Machine> {
        self.frames
    }
}

/// Bit by bit, copies of a source would free its vector once each.
#[test]
fn every_piece_has_a_source_of_its_own() {
    let world = world();
    let count = Rc::new(());
    let sources = || Rc::strong_count(&count) - 1;
    let source = Owning::new(world.frames(), &count);
    for nr_pieces in 0..5 {
        let mut carver = Carver::new(source.clone().alloc_page(Gfp::KERNEL).unwrap());
        let mut pieces: Vec<_> = (0..nr_pieces).map(|_| carver.carve(9, 4).unwrap()).collect();
        assert_eq!(sources(), 2 + nr_pieces, "the first one, the carver's, one for each piece");
        pieces.truncate(3);
        assert_eq!(sources(), 2 + pieces.len());
        drop(carver);
        assert_eq!(sources(), 1 + pieces.len());
        for (left, piece) in pieces.drain(..).enumerate() {
            let page = piece.into_owner();
            assert_eq!(page.is_some(), left + 1 == nr_pieces.min(3));
        }
        assert_eq!(sources(), 1, "all of them are dropped");
    }
}

#[test]
fn a_carver_gives_its_page_up_to_the_last_piece() {
    let world = world();
    let mut carver = Carver::new(world.frames().alloc_page(Gfp::KERNEL).unwrap());
    let pfn = carver.pfn();
    let piece = carver.carve(100, 1).unwrap();
    assert!(!carver.is_whole());
    assert_eq!((piece.pfn(), piece.node()), (pfn, carver.node()));
    assert!(carver.into_owner().is_none(), "a piece is out");
    let mut carver = Carver::new(piece.into_owner().expect("the last one"));
    drop(carver.carve(4096, 1));
    assert!(carver.is_whole() && carver.left() == 0);
    assert_eq!(carver.into_owner().expect("no piece is out").pfn(), pfn);
}

#[test]
#[should_panic(expected = "an alignment is a power of two, and 3 is none")]
fn an_alignment_that_is_none_is_refused() {
    let world = world();
    let mut carver = Carver::new(world.frames().alloc_page(Gfp::KERNEL).unwrap());
    let _piece = carver.carve(1, 3);
}
