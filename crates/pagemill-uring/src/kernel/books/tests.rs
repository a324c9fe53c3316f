use alloc::rc::Rc;

use super::*;
use crate::random::Random;

/// A page that counts itself while it exists.
type Page = Rc<u32>;

fn numbers(pages: &[FilledPage<Page>]) -> Vec<(u32, usize)> {
    pages.iter().map(|filled| (**filled.page_ref(), filled.len())).collect()
}

#[test]
fn pages_leave_in_the_order_of_the_ring_around_its_end() {
    let mut books = Books::new(4);
    for page in 0..4 {
        assert_eq!(books.put(Rc::new(page)), Ok(u16::try_from(page).unwrap()));
    }
    assert!(books.put(Rc::new(9)).is_err());
    let mut pages = Vec::new();
    books.take_filled(0, 3 * 4096 - 1, 4, |_, _| 4096, &mut pages).unwrap();
    assert_eq!(numbers(&pages), [(0, 4096), (1, 4096), (2, 4095)]);
    for page in 4..7 {
        books.put(Rc::new(page)).unwrap();
    }
    pages.clear();
    books.take_filled(3, 4096 + 1, 4, |_, _| 4096, &mut pages).unwrap();
    assert_eq!(numbers(&pages), [(3, 4096), (4, 1)]);
    assert_eq!((books.nr_posted(), books.nr_free()), (2, 2));
    assert_eq!(books.drain().map(|page| *page).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn a_buffer_that_the_kernel_shortened_is_followed_by_the_next_one() {
    let mut books = Books::new(4);
    (0..4).for_each(|page| assert!(books.put(Rc::new(page)).is_ok()));
    let mut pages = Vec::new();
    let capacity = |slot, _: &Page| if slot == 1 { 100 } else { 4096 };
    books.take_filled(0, 4096 + 100 + 7, 4, capacity, &mut pages).unwrap();
    assert_eq!(numbers(&pages), [(0, 4096), (1, 100), (2, 7)]);
}

#[test]
fn wrong_completions_move_nothing() {
    let mut books = Books::new(4);
    (0..3).for_each(|page| assert!(books.put(Rc::new(page)).is_ok()));
    let mut pages = Vec::new();
    let full = |_: u16, _: &Page| 4096;
    assert!(books.take_filled(4, 1, 4, full, &mut pages).is_err());
    assert!(books.take_filled(u16::MAX, 1, 4, full, &mut pages).is_err());
    assert!(books.take_filled(3, 1, 4, full, &mut pages).is_err());
    assert!(books.take_filled(1, 3 * 4096, 4, full, &mut pages).is_err());
    assert!(books.take_filled(0, 4097, 1, full, &mut pages).is_err());
    assert!(books.take_filled(0, usize::MAX, 4, full, &mut pages).is_err());
    assert!(books.take_filled(0, 1, 4, |_, _| 0, &mut pages).is_err());
    assert!(books.take(3).is_err());
    assert!(books.take(4).is_err());
    assert_eq!((pages.len(), books.nr_posted()), (0, 3));
    assert_eq!(books.take(1).map(|page| *page), Ok(1));
    assert!(books.take(1).is_err());
}

/// Who has a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Pool,
    Ring,
    User,
}

/// The books beside a naive model of who has each page.
struct World {
    books: Books<Page>,
    pages: Vec<Page>,
    places: Vec<Place>,
    /// The pages on the ring by slot, and the slot of the next one.
    ring: Vec<Option<usize>>,
    next: usize,
    users: Vec<FilledPage<Page>>,
}

impl World {
    fn new(nr_slots: u16) -> Self {
        Self {
            books: Books::new(nr_slots),
            pages: (0..100).map(Rc::new).collect(),
            places: vec![Place::Pool; 100],
            ring: vec![None; nr_slots.into()],
            next: 0,
            users: Vec::new(),
        }
    }

    fn post(&mut self, page: usize) {
        if self.places[page] != Place::Pool {
            return;
        }
        let put = self.books.put(self.pages[page].clone());
        assert_eq!(put.is_ok(), self.ring[self.next].is_none());
        if put.is_ok() {
            assert_eq!(put, Ok(u16::try_from(self.next).unwrap()));
            self.ring[self.next] = Some(page);
            self.places[page] = Place::Ring;
            self.next = (self.next + 1) % self.ring.len();
        }
    }

    /// Completes `len` bytes from the slot `first` on; the kernel has shortened the buffer `short`.
    fn complete(&mut self, first: u16, len: usize, short: u16) {
        let capacity = |slot| if slot == short { 1000_u32 } else { 4096 };
        let filled = self.filled(first.into(), len, |slot| capacity(slot) as usize);
        let (before, nr_max) = (self.users.len(), u16::try_from(self.ring.len()).unwrap());
        let taken =
            self.books.take_filled(first, len, nr_max, |slot, _| capacity(slot), &mut self.users);
        assert_eq!(taken.is_ok(), filled.is_some(), "{len} bytes from {first}");
        let mut expected = Vec::new();
        for (slot, len) in filled.unwrap_or_default() {
            let page = self.ring[slot].take().unwrap();
            self.places[page] = Place::User;
            expected.push((u32::try_from(page).unwrap(), len));
        }
        assert_eq!(numbers(&self.users[before..]), expected);
    }

    /// Returns the slots that `len` bytes fill, and how far; `None` if the kernel cannot have filled them.
    fn filled(
        &self,
        first: usize,
        len: usize,
        capacity: impl Fn(u16) -> usize,
    ) -> Option<Vec<(usize, usize)>> {
        let (mut slot, mut left, mut filled) = (first, len, Vec::new());
        while left > 0 {
            let is_taken = filled.iter().any(|&(seen, _)| seen == slot);
            if is_taken || self.ring.get(slot).copied().flatten().is_none() {
                return None;
            }
            let nr = left.min(capacity(u16::try_from(slot).unwrap()));
            filled.push((slot, nr));
            left -= nr;
            slot = (slot + 1) % self.ring.len();
        }
        Some(filled)
    }

    fn put_back(&mut self) {
        if let Some(filled) = self.users.pop() {
            self.places[*filled.into_page() as usize] = Place::Pool;
        }
    }

    fn check(&self) {
        let nr_in = |place| self.places.iter().filter(|&&here| here == place).count();
        assert_eq!(
            (self.books.nr_posted(), self.users.len()),
            (nr_in(Place::Ring), nr_in(Place::User))
        );
    }
}

/// Random posts and completions, right and wrong.
#[test]
#[expect(clippy::print_stdout, reason = "a random test tells its seed")]
fn random_completions_agree_with_a_naive_model() {
    for seed in 1..=200_u64 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new(1 << random.below(6));
        let nr_slots = world.ring.len();
        for _ in 0..300 {
            match random.below(4) {
                0 | 1 => world.post(random.below(100)),
                2 => {
                    let slot = |number: usize| u16::try_from(number).unwrap();
                    let (first, short) = (random.below(nr_slots + 2), random.below(nr_slots));
                    world.complete(slot(first), random.below(5 * 4096) + 1, slot(short));
                }
                _ => world.put_back(),
            }
            world.check();
        }
        let World { mut books, pages, users, .. } = world;
        let nr_posted = books.nr_posted();
        assert_eq!(books.drain().count(), nr_posted);
        drop((books, users));
        assert!(pages.iter().all(|page| Rc::strong_count(page) == 1), "seed {seed}");
    }
}
