//! What the tests of caches share: a world, and a player of operations on a cache beside a naive model.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses a part")]

use core::ptr::NonNull;

use pagemill::Gfp;
use pagemill_slab::Cache;
use pagemill_testkit::{Frames, set_cpu};

/// A cache, and what a naive model says of it: a list of objects with the byte that each is filled with.
pub(crate) struct Player<'c, 'w> {
    cache: &'c Cache<'c, Frames<'w>>,
    objects: Vec<(NonNull<u8>, u8)>,
    next: u8,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Runs on this CPU from now on.
    Cpu(u32),
    /// Allocates an object.
    Alloc,
    /// Allocates an object filled with zeroes.
    AllocZeroed,
    /// Allocates this many objects in one call.
    AllocBulk(usize),
    /// Frees the object at this position, modulo their number.
    Free(usize),
    /// Frees the last objects, up to this many, in one call.
    FreeBulk(usize),
    /// Shrinks the cache.
    Shrink,
}

impl<'c, 'w> Player<'c, 'w> {
    pub(crate) fn new(cache: &'c Cache<'c, Frames<'w>>) -> Self {
        Self { cache, objects: Vec::new(), next: 1 }
    }

    /// Takes a step, and compares objects and counters with the model.
    pub(crate) fn play(&mut self, step: Step) {
        match step {
            Step::Cpu(cpu) => set_cpu(cpu),
            Step::Alloc => {
                if let Some(object) = self.cache.alloc(Gfp::NOWAIT) {
                    self.own(object);
                }
            }
            Step::AllocZeroed => {
                if let Some(object) = self.cache.alloc(Gfp::NOWAIT | Gfp::ZERO) {
                    assert!(self.bytes(object).iter().all(|&byte| byte == 0), "zeroed");
                    self.own(object);
                }
            }
            Step::AllocBulk(nr) => {
                let mut slots = vec![None; nr];
                let got = self.cache.alloc_bulk(Gfp::NOWAIT, &mut slots);
                assert!(slots[..got].iter().all(Option::is_some), "the first slots are full");
                assert!(slots[got..].iter().all(Option::is_none), "the others are empty");
                slots.into_iter().flatten().for_each(|object| self.own(object));
            }
            Step::Free(position) => {
                if !self.objects.is_empty() {
                    let position = position % self.objects.len();
                    let object = self.disown(position);
                    // SAFETY: 1. from this cache. 2. not used again: the model forgot it.
                    unsafe { self.cache.free(object) };
                }
            }
            Step::FreeBulk(nr) => {
                let nr = nr.min(self.objects.len());
                let mut slots: Vec<_> =
                    (0..nr).map(|_| Some(self.disown(self.objects.len() - 1))).collect();
                slots.insert(nr / 2, None);
                // SAFETY: 1. from this cache. 2. not used again: the model forgot them.
                assert_eq!(unsafe { self.cache.free_bulk(&mut slots) }, nr);
                assert!(slots.iter().all(Option::is_none));
            }
            Step::Shrink => {
                self.cache.shrink();
                let info = self.cache.info();
                assert_eq!((info.cached_objs, info.num_slabs), (0, info.active_slabs));
            }
        }
        self.check();
    }

    /// Frees all objects.
    pub(crate) fn end(mut self) {
        self.play(Step::FreeBulk(usize::MAX));
        self.play(Step::Shrink);
        assert_eq!(self.cache.info().pages, 0);
    }

    pub(crate) fn nr_objects(&self) -> usize {
        self.objects.len()
    }

    /// Fills a new object, and compares it with all others.
    fn own(&mut self, object: NonNull<u8>) {
        let size = self.cache.size();
        let start = object.addr().get();
        for &(other, _) in &self.objects {
            let other = other.addr().get();
            assert!(start + size <= other || other + size <= start, "objects overlap");
        }
        // SAFETY: 1. valid for writes: an object of this size, ours.
        unsafe { object.write_bytes(self.next, size) };
        self.objects.push((object, self.next));
        self.next = self.next.checked_add(1).unwrap_or(1);
    }

    /// Forgets an object, whose bytes must be as they were written.
    fn disown(&mut self, position: usize) -> NonNull<u8> {
        let (object, fill) = self.objects.swap_remove(position);
        assert!(self.bytes(object).iter().all(|&byte| byte == fill), "another wrote to the object");
        object
    }

    fn bytes(&self, object: NonNull<u8>) -> &[u8] {
        // SAFETY: 1. initialised: frames are, and an object has this size. 2. ours.
        unsafe { core::slice::from_raw_parts(object.as_ptr(), self.cache.size()) }
    }

    fn check(&self) {
        let info = self.cache.info();
        assert_eq!(info.active_objs, self.objects.len(), "objects in use");
        assert!(info.active_objs + info.cached_objs <= info.num_objs, "{info:?}");
        assert!(info.active_slabs <= info.num_slabs, "{info:?}");
    }
}
