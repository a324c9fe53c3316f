//! `Store`: the slabs of a cache behind its lock, without the arrays of CPUs.
//!
//! `slab-free`: an object that is neither in use nor in an array is reached through the state of its slab
//! alone, under the lock of the slab's cache. If it was handed out before, it holds a link: one more than
//! the index of the free object behind it, or zero.

use core::ptr::NonNull;

use pagemill::machine::DirectMap;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{Gfp, Order};

use crate::checks::Checked;
use crate::config::{CacheConfig, Checks};
use crate::geometry::Geometry;
use crate::lists::Lists;
use crate::pages::{Batch, MAX_BATCH, PagePolicy};
use crate::slabs::{Frame, Slabs};
use crate::sync::Lock;
use crate::tag::{CacheId, Kind, Objects, Tag};

/// The slabs of a cache.
pub(crate) struct Store<'s, S: PageSource<Platform: DirectMap>> {
    pub(crate) slabs: &'s Slabs<S>,
    pub(crate) id: CacheId,
    pub(crate) name: &'static str,
    pub(crate) geometry: Geometry,
    checks: Checks,
    pages: PagePolicy,
    lists: Lock<Lists>,
}

/// A slab to which objects return: its state, which is written when the last of them is back. If one is refused,
/// those before it are lost.
struct OpenSlab {
    head: Frame,
    order: Order,
    start: NonNull<u8>,
    tag: Tag,
    objects: Objects,
    /// Objects in use when it was opened.
    was_in_use: usize,
}

/// Pages of empty slabs above which some are freed.
const EMPTY_PAGES_MAX: usize = 2 * MAX_BATCH;

impl<'s, S: PageSource<Platform: DirectMap>> Store<'s, S> {
    pub(crate) fn new(
        slabs: &'s Slabs<S>,
        id: CacheId,
        config: &CacheConfig,
        geometry: Geometry,
    ) -> Self {
        let (name, checks, pages) = (config.name, config.checks, PagePolicy::new(config));
        Self { slabs, id, name, geometry, checks, pages, lists: Lock::new(Lists::default()) }
    }

    /// Passes up to `max` objects of the slabs to `receive`, and returns their number.
    ///
    /// `receive` must not use the store.
    pub(crate) fn take(&self, max: usize, receive: impl FnMut(NonNull<u8>)) -> usize {
        let lists = self.lists.lock(self.slabs.platform());
        lists.map_or(0, |mut lists| self.take_locked(&mut lists, max, receive))
    }

    /// As [`take`](Self::take), with a new slab if no slab has a free object. Returns zero only if there is
    /// no memory for one.
    pub(crate) fn take_or_grow(
        &self,
        gfp: Gfp,
        max: usize,
        mut receive: impl FnMut(NonNull<u8>),
    ) -> usize {
        let nr_pages = {
            let Some(mut lists) = self.lists.lock(self.slabs.platform()) else { return 0 };
            let taken = self.take_locked(&mut lists, max, &mut receive);
            if taken > 0 {
                return taken;
            }
            lists.next_refill()
        };
        let orders = (self.geometry.order, self.geometry.fallback);
        let nr = (nr_pages >> orders.0.value()).max(1);
        let batch = self.pages.take(self.slabs, gfp, nr, orders);
        if batch.pfns().is_empty() {
            // Another thread may have freed an object meanwhile.
            return self.take(max, receive);
        }
        let Some(mut lists) = self.lists.lock(self.slabs.platform()) else { return 0 };
        self.add_slabs(&mut lists, &batch);
        self.take_locked(&mut lists, max, receive)
    }

    /// Puts objects back into their slabs. Returns the pages of empty slabs beyond those that are kept; the
    /// caller frees them when it holds no claim.
    ///
    /// In a child of `fork`, they stay where they are.
    ///
    /// # Panics
    /// If one of them is not an object of this cache that was handed out.
    ///
    /// # Safety
    /// The objects are given up. Those that are objects of this cache were handed out and are not used
    /// again.
    #[must_use = "the pages leak unless they are freed"]
    pub(crate) unsafe fn put(&self, mut objects: impl Iterator<Item = NonNull<u8>>) -> Batch {
        let mut batch = Batch::new(Order::ZERO);
        let Some(mut lists) = self.lists.lock(self.slabs.platform()) else { return batch };
        let mut next = objects.next();
        // Objects that are freed together are often of one slab.
        while let Some(first) = next {
            let mut slab = self.open(first);
            // SAFETY: 1. given up: the caller's obligation.
            next = unsafe { self.put_into(&mut slab, first, &mut objects) };
            self.close(&mut lists, slab);
        }
        let empty_pages = lists.empty.len() << self.geometry.order.value();
        if empty_pages > EMPTY_PAGES_MAX {
            lists.refills = 0;
            self.take_empty(&mut lists, MAX_BATCH, &mut batch);
        }
        batch
    }

    /// Frees the pages of empty slabs, at least `nr_pages` if there are as many, and returns their number.
    pub(crate) fn shrink(&self, nr_pages: usize) -> usize {
        let mut freed = 0;
        while freed < nr_pages {
            let mut batch = Batch::new(Order::ZERO);
            {
                let Some(mut lists) = self.lists.lock(self.slabs.platform()) else { break };
                lists.refills = 0;
                self.take_empty(&mut lists, MAX_BATCH, &mut batch);
            }
            if batch.pfns().is_empty() {
                break;
            }
            freed += batch.nr_pages();
            batch.free(self.slabs);
        }
        freed
    }

    /// Calls `read` under the lock; `None` in a child of `fork`.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&Lists) -> R) -> Option<R> {
        self.lists.lock(self.slabs.platform()).map(|lists| read(&lists))
    }

    /// Returns the frame of an object, if the frame is part of a slab of this cache.
    #[inline]
    pub(crate) fn frame_of(&self, object: NonNull<u8>) -> Option<Frame> {
        let frame = self.slabs.frame_of(object.addr().get())?;
        self.slabs.tag(frame).is_of(self.id).then_some(frame)
    }

    /// Ends the program because an object is not one of this cache.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn refuse(&self, object: NonNull<u8>) -> ! {
        let kind =
            self.slabs.frame_of(object.addr().get()).map(|frame| self.slabs.tag(frame).kind());
        let what = match kind {
            None => "is not in a frame of the allocator",
            Some(Kind::Other) => "is in no slab: it was never allocated, or its slab was freed",
            Some(Kind::Large) => "is a large object, which is freed by its heap",
            Some(Kind::Head(id, _) | Kind::Tail(id, _)) if id == self.id => {
                "is not the start of an object"
            }
            Some(Kind::Head(..) | Kind::Tail(..)) => "is an object of another cache",
        };
        panic!("cache {}: {object:p} cannot be freed here: it {what}", self.name)
    }

    /// Makes slabs of blocks that the allocator has just handed out.
    fn add_slabs(&self, lists: &mut Lists, batch: &Batch) {
        for &pfn in batch.pfns() {
            let head = self.slabs.frame(pfn);
            self.slabs.expose(head);
            self.slabs.set_tag(head, Tag::head(self.id, batch.order));
            for distance in 1..1 << batch.order.value() {
                self.slabs.set_tag(head.behind(distance), Tag::tail(self.id, distance));
            }
            lists.empty.push(self.slabs, head);
            lists.nr_slabs += 1;
            lists.nr_pages += batch.order.nr_pages();
            lists.nr_objects += self.geometry.nr_objects(batch.order);
        }
    }

    /// Ends up to `nr` empty slabs of one order, and adds their blocks to `batch`.
    fn take_empty(&self, lists: &mut Lists, nr: usize, batch: &mut Batch) {
        for _ in 0..nr {
            let Some(head) = lists.empty.first() else { return };
            let order = self.order_of(head);
            if !batch.try_push(self.slabs.pfn(head), order) {
                return;
            }
            lists.empty.remove(self.slabs, head);
            for distance in 0..1 << order.value() {
                self.slabs.set_tag(head.behind(distance), Tag::NONE);
            }
            lists.nr_slabs -= 1;
            lists.nr_pages -= order.nr_pages();
            lists.nr_objects -= self.geometry.nr_objects(order);
        }
    }

    fn order_of(&self, head: Frame) -> Order {
        match self.slabs.tag(head).kind() {
            Kind::Head(_, order) => order,
            kind => unreachable!("a slab begins with {kind:?}"),
        }
    }

    fn take_locked(
        &self,
        lists: &mut Lists,
        max: usize,
        mut receive: impl FnMut(NonNull<u8>),
    ) -> usize {
        let mut taken = 0;
        while taken < max {
            let slab = match lists.partial.first() {
                Some(slab) => slab,
                None => {
                    let Some(slab) = lists.empty.first() else { break };
                    lists.empty.remove(self.slabs, slab);
                    lists.partial.push(self.slabs, slab);
                    slab
                }
            };
            let (now, is_full) = self.take_from(slab, max - taken, &mut receive);
            if is_full {
                lists.partial.remove(self.slabs, slab);
            }
            taken += now;
        }
        lists.nr_in_use += taken;
        taken
    }

    /// Passes up to `max` objects of a slab to `receive`. Returns their number, and whether the slab has
    /// no free object any more.
    fn take_from(
        &self,
        slab: Frame,
        max: usize,
        receive: &mut impl FnMut(NonNull<u8>),
    ) -> (usize, bool) {
        let tag = self.slabs.tag(slab);
        let nr_objects = self.geometry.nr_objects(self.order_of(slab));
        let start = self.slabs.start(slab);
        let Objects { mut free, mut fresh, in_use } = tag.objects();
        let mut taken = 0;
        while taken < max && free > 0 {
            // SAFETY: 1. in the slab: links lead to indexes below `fresh`.
            let object = unsafe { start.add((free - 1) * self.geometry.stride) };
            // SAFETY: 1. a free object of this slab, handed out before: `slab-free`.
            free = unsafe { self.link_of(object, fresh) };
            // SAFETY: 1. a free object of this slab (`slab-free`), which leaves it here.
            unsafe { self.checked(object).take(false) };
            receive(object);
            taken += 1;
        }
        while taken < max && fresh < nr_objects {
            // SAFETY: 1. in the slab: below the number of objects.
            let object = unsafe { start.add(fresh * self.geometry.stride) };
            fresh += 1;
            // SAFETY: 1. a free object of this slab (`slab-free`), which leaves it here.
            unsafe { self.checked(object).take(true) };
            receive(object);
            taken += 1;
        }
        let in_use = in_use + taken;
        self.slabs.set_tag(slab, tag.with_objects(Objects { free, fresh, in_use }));
        (taken, in_use == nr_objects)
    }

    /// Reads the link of a free object.
    ///
    /// # Panics
    /// If it leads to no object that was handed out: something wrote to the object after it was freed.
    ///
    /// # Safety
    /// `object` is a free object of a slab of this cache and was handed out before; the caller holds the
    /// lock.
    unsafe fn link_of(&self, object: NonNull<u8>, fresh: usize) -> usize {
        // SAFETY: 1. in the object: the geometry has room for the link.
        let link = unsafe { object.add(self.geometry.link_at) }.cast::<u64>();
        // SAFETY: 1. initialised: `slab-free`; aligned: strides are multiples of a link's size. 2. nothing
        // else uses it: `slab-free`.
        let link = unsafe { link.read() };
        match usize::try_from(link) {
            Ok(link) if link <= fresh => link,
            _ => panic!(
                "cache {}: the free object at {object:p} was written after it was freed: its link is {link:#x}",
                self.name
            ),
        }
    }

    /// Reads the state of the slab that holds an object.
    fn open(&self, object: NonNull<u8>) -> OpenSlab {
        let Some(frame) = self.frame_of(object) else { self.refuse(object) };
        let head = self.slabs.head_of(frame);
        let (tag, order) = (self.slabs.tag(head), self.order_of(head));
        let (start, objects) = (self.slabs.start(head), tag.objects());
        OpenSlab { head, order, start, tag, objects, was_in_use: objects.in_use }
    }

    /// Puts back `object` and those behind it that are of the same slab, and returns the first that is not.
    ///
    /// # Safety
    /// As for [`put`](Self::put); the caller holds the lock, and `slab` holds the object's address.
    unsafe fn put_into(
        &self,
        slab: &mut OpenSlab,
        mut object: NonNull<u8>,
        rest: &mut impl Iterator<Item = NonNull<u8>>,
    ) -> Option<NonNull<u8>> {
        let Objects { mut free, fresh, mut in_use } = slab.objects;
        let next = loop {
            let offset = object.addr().get() - slab.start.addr().get();
            let Some(index) = self.geometry.index_of(offset) else { self.refuse(object) };
            if index >= fresh || in_use == 0 || free == index + 1 {
                self.refuse_free(object, index < self.geometry.nr_objects(slab.order));
            }
            // SAFETY: 1. in the slab: the object's own offset. Derived from the slab's start, because the
            // user's pointer may be good for a part of the object only.
            let own = unsafe { slab.start.add(offset) };
            // SAFETY: 1. an object that was handed out: its index is below `fresh`. 2. given up: the caller's
            // obligation.
            unsafe { self.checked(own).put() };
            // SAFETY: 1. in the object: the geometry has room for the link.
            let link = unsafe { own.add(self.geometry.link_at) }.cast::<u64>();
            // SAFETY: 1. aligned: strides are multiples of a link's size. 2. given up: the caller's obligation.
            unsafe { link.write(free as u64) };
            (free, in_use) = (index + 1, in_use - 1);
            match rest.next() {
                Some(other) if slab.has(other) => object = other,
                next => break next,
            }
        };
        slab.objects = Objects { free, fresh, in_use };
        next
    }

    /// Writes the state of a slab of which objects were freed, and moves it to the list where it belongs.
    fn close(&self, lists: &mut Lists, slab: OpenSlab) {
        let OpenSlab { head, order, tag, objects, was_in_use, .. } = slab;
        self.slabs.set_tag(head, tag.with_objects(objects));
        lists.nr_in_use -= was_in_use - objects.in_use;
        let was_full = was_in_use == self.geometry.nr_objects(order);
        match (was_full, objects.in_use) {
            (true, 0) => lists.empty.push(self.slabs, head),
            (true, _) => lists.partial.push(self.slabs, head),
            (false, 0) => {
                lists.partial.remove(self.slabs, head);
                lists.empty.push(self.slabs, head);
            }
            (false, _) => {}
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse_free(&self, object: NonNull<u8>, is_object: bool) -> ! {
        if !is_object {
            self.refuse(object);
        }
        panic!(
            "cache {}: the object at {object:p} is freed twice, or was never allocated",
            self.name
        )
    }

    fn checked(&self, object: NonNull<u8>) -> Checked<'_> {
        Checked { name: self.name, geometry: &self.geometry, checks: self.checks, object }
    }
}

impl OpenSlab {
    /// Returns whether an address is in the slab.
    #[inline]
    fn has(&self, object: NonNull<u8>) -> bool {
        let offset = object.addr().get().wrapping_sub(self.start.addr().get());
        offset < PAGE_SIZE << self.order.value()
    }
}

impl<S: PageSource<Platform: DirectMap>> Drop for Store<'_, S> {
    /// Frees the pages of empty slabs. Slabs with objects in use stay, with their objects, for good.
    fn drop(&mut self) {
        self.shrink(usize::MAX);
    }
}

impl Lists {
    /// Returns the number of pages of the next refill: refills in a row double it.
    fn next_refill(&mut self) -> usize {
        let nr = 1 << self.refills.min(MAX_BATCH.ilog2());
        self.refills = self.refills.saturating_add(1);
        nr
    }
}
