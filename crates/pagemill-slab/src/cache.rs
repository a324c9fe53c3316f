//! `Cache`: objects of one size, from arrays of CPUs, a depot, and slabs.

use core::fmt;
use core::iter;
use core::ptr::NonNull;

use pagemill::machine::{CpuClaim, DirectMap};
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::source::PageSource;
use pagemill::{Gfp, Platform};

use crate::config::{CacheConfig, CacheError, Checks, MAX_ARRAY};
use crate::cpus::{Claimed, Cpus};
use crate::depot::{DEPOT_ARRAYS, Depot};
use crate::geometry::Geometry;
use crate::info::SlabInfo;
use crate::pages::Batch;
use crate::slabs::Slabs;
use crate::store::Store;
use crate::sync::Lock;
use crate::tag::CacheId;

/// A cache of objects of one size: Linux's `kmem_cache`.
///
/// Objects are raw pointers here. [`TypedCache`](crate::TypedCache) has owned handles.
///
/// # Concurrency
/// Any thread may allocate and free at any time, also in an interrupt handler; an NMI handler may not. An
/// object may be freed on another CPU than the one that allocated it. The fast paths take the claim on the
/// CPU ([`PageAllocator::try_claim_cpu`](pagemill::PageAllocator::try_claim_cpu)) and move one pointer. A
/// thread that finds the CPU claimed takes the cache's lock, as does each thread whose arrays are empty or
/// full: once for as many objects as an array holds, and not while it allocates pages.
///
/// # Cost
/// No operation takes longer because a cache has more objects.
///
/// # What is checked
/// By default, freeing panics at once if the object is not in a slab of this cache. When objects leave the
/// array of a CPU, those panic that are not the start of an object, that were never allocated, or that were
/// freed twice in a row. Allocating panics if the link in a free object was overwritten with one that is not
/// possible. [`Checks`] has more and fewer checks.
///
/// # Fork
/// In a child of `fork`, allocations fail and objects that are freed stay where they are.
pub struct Cache<'s, S: PageSource<Platform: DirectMap>> {
    cpus: Cpus<'s, S>,
    /// Whether each free checks at once that the object is one of this cache.
    checks_owner: bool,
    store: Store<'s, S>,
    depot: Lock<Depot>,
    has_arrays: bool,
}

impl<'s, S: PageSource<Platform: DirectMap>> Cache<'s, S> {
    /// Makes a cache.
    ///
    /// # Errors
    /// What is wrong with the configuration, or that there is no memory for the arrays: two for each CPU and
    /// 8 more.
    pub fn new(slabs: &'s Slabs<S>, config: &CacheConfig) -> Result<Self, CacheError> {
        let id = slabs.new_ids(1).ok_or(CacheError::TooManyCaches { name: config.name })?;
        Self::with_id(slabs, config, id)
    }

    /// Makes a cache with a new number.
    pub(crate) fn with_id(
        slabs: &'s Slabs<S>,
        config: &CacheConfig,
        id: CacheId,
    ) -> Result<Self, CacheError> {
        let name = config.name;
        let has_red_zones = config.checks.has_red_zones();
        let geometry = Geometry::new(config.size, config.align, config.order, has_red_zones)
            .map_err(|error| CacheError::Geometry { name, error })?;
        let array = config.array_len();
        if array > MAX_ARRAY {
            return Err(CacheError::Array { name, array });
        }
        let mut depot = Depot::new();
        let nr_more = if array == 0 { 0 } else { DEPOT_ARRAYS };
        let cpus = Cpus::new(slabs.source(), usize::from(array), nr_more, |array| depot.add(array))
            .map_err(|error| CacheError::NoMemory { name, error })?;
        let store = Store::new(slabs, id, config, geometry);
        let (depot, has_arrays) = (Lock::new(depot), array > 0);
        let checks_owner = config.checks != Checks::Off;
        Ok(Self { cpus, checks_owner, store, depot, has_arrays })
    }

    /// Returns the cache's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.store.name
    }

    /// Returns the table that the cache was made from.
    #[must_use]
    pub fn slabs(&self) -> &'s Slabs<S> {
        self.store.slabs
    }

    /// Returns the number of bytes of an object that its user may use.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.store.geometry.size
    }

    /// Allocates an object.
    ///
    /// Its bytes have any values, or are zero with [`Gfp::ZERO`]. Of the other flags, those matter that say
    /// how hard to try; which pages to take is for [`CacheConfig::gfp`].
    ///
    /// # Errors
    /// `None` if no object is free and the allocator has no page for a slab.
    ///
    /// # Source
    /// `linux-6.12` `mm/slub.c` `kmem_cache_alloc_noprof`
    #[inline]
    #[must_use = "the object leaks unless it is freed"]
    pub fn alloc(&self, gfp: Gfp) -> Option<NonNull<u8>> {
        let object = match self.pop() {
            Some(object) => object,
            None => self.alloc_slowly(gfp)?,
        };
        if gfp.contains(Gfp::ZERO) {
            self.zero(object);
        }
        Some(object)
    }

    /// Frees an object.
    ///
    /// # Panics
    /// See "What is checked" at [`Cache`].
    ///
    /// # Safety
    /// The object is from this cache, and is not used again.
    ///
    /// # Source
    /// `linux-6.12` `mm/slub.c` `kmem_cache_free`
    #[inline]
    pub unsafe fn free(&self, object: NonNull<u8>) {
        // The claim comes first: in a child of `fork`, where the table of frames may not be mapped, it fails.
        let is_freed = match self.cpus.claim_at_once() {
            // SAFETY: 1. given up: the caller's obligation.
            Some(arrays) => unsafe { self.try_push(arrays, object) },
            None => false,
        };
        if !is_freed {
            // SAFETY: 1. given up: the caller's obligation.
            unsafe { self.free_slowly(object) };
        }
    }

    /// Allocates an object into each of `slots`, in order, whatever they held, and returns how many it
    /// allocated. The slots behind are `None`.
    ///
    /// Stops early only where [`alloc`](Self::alloc) would fail.
    ///
    /// # Source
    /// `linux-6.12` `mm/slub.c` `kmem_cache_alloc_bulk_noprof`. Differs: Linux frees a short result.
    pub fn alloc_bulk(&self, gfp: Gfp, slots: &mut [Option<NonNull<u8>>]) -> usize {
        slots.fill(None);
        let mut got = 0;
        if let Some(mut arrays) = self.cpus.claim() {
            got += arrays.main.pop_into(slots);
            got += arrays.spare.pop_into(&mut slots[got..]);
        }
        while got < slots.len() {
            let max = receive_max(slots.len() - got);
            let mut room = slots[got..].iter_mut();
            let receive = |object| {
                if let Some(slot) = room.next() {
                    *slot = Some(object);
                }
            };
            let mut now = self.store.take_or_grow(gfp, max, receive);
            if now == 0 {
                slots[got] = self.alloc_slowly(gfp);
                now = usize::from(slots[got].is_some());
            }
            if now == 0 {
                break;
            }
            got += now;
        }
        if gfp.contains(Gfp::ZERO) {
            slots.iter().flatten().for_each(|&object| self.zero(object));
        }
        got
    }

    /// Empties the slots, frees their objects, and returns their number.
    ///
    /// # Panics
    /// As for [`free`](Self::free).
    ///
    /// # Safety
    /// As for [`free`](Self::free), for each object.
    ///
    /// # Source
    /// `linux-6.12` `mm/slub.c` `kmem_cache_free_bulk`
    #[track_caller]
    pub unsafe fn free_bulk(&self, slots: &mut [Option<NonNull<u8>>]) -> usize {
        let mut objects = slots.iter_mut().filter_map(Option::take);
        let mut nr = 0;
        let mut rest = None;
        if let Some(mut arrays) = self.cpus.claim() {
            for object in objects.by_ref() {
                let Some(object) = self.own(object) else { self.store.refuse(object) };
                if !arrays.try_push(object) {
                    rest = Some(object);
                    break;
                }
                nr += 1;
            }
        }
        let rest = rest.into_iter().chain(objects).inspect(|_| nr += 1);
        // SAFETY: 1. given up: the caller's obligation.
        let empty = unsafe { self.store.put(rest) };
        empty.free(self.store.slabs);
        nr
    }

    /// Moves the free objects of all CPUs to their slabs, frees the pages of empty slabs, and returns their
    /// number.
    ///
    /// # Concurrency
    /// Skips the arrays of CPUs that are in use.
    ///
    /// # Source
    /// `linux-6.12` `mm/slab_common.c` `kmem_cache_shrink`
    pub fn shrink(&self) -> usize {
        self.flush();
        self.store.shrink(usize::MAX)
    }

    /// Returns the state of the cache, as a line of `/proc/slabinfo` has it.
    ///
    /// # Concurrency
    /// Objects in the arrays of a CPU that is in use count as active.
    #[must_use]
    pub fn info(&self) -> SlabInfo {
        let geometry = &self.store.geometry;
        let mut info = SlabInfo::new(self.name(), geometry.size);
        info.objperslab = geometry.nr_objects(geometry.order);
        info.pagesperslab = geometry.order.nr_pages();
        let cached = self.nr_cached();
        let _read = self.store.read(|lists| {
            info.num_objs = lists.nr_objects;
            info.active_objs = lists.nr_in_use.saturating_sub(cached);
            info.cached_objs = cached;
            info.num_slabs = lists.nr_slabs;
            info.active_slabs = lists.nr_slabs - lists.empty.len();
            info.pages = lists.nr_pages;
        });
        info
    }

    /// Returns the number of objects in arrays.
    fn nr_cached(&self) -> usize {
        let of_cpu =
            |cpu| self.cpus.visit(cpu).map_or(0, |arrays| arrays.main.len() + arrays.spare.len());
        let in_depot = self.depot.lock(self.platform()).map_or(0, |depot| depot.nr_objects());
        in_depot + (0..self.cpus.nr()).map(of_cpu).sum::<usize>()
    }

    #[inline]
    fn platform(&self) -> &S::Platform {
        self.store.slabs.platform()
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        self.cpus.claim_at_once()?.main.pop()
    }

    /// Takes an object from the array of a claimed CPU.
    ///
    /// # Safety
    /// The claim is of the allocator of the cache's pages.
    #[inline]
    pub(crate) unsafe fn pop_claimed(
        &self,
        claim: CpuClaim<'_, S::Platform>,
    ) -> Option<NonNull<u8>> {
        // SAFETY: 1. of this allocator: the caller's obligation.
        unsafe { self.cpus.claimed(claim) }.main.pop()
    }

    /// Puts an object into the array of a claimed CPU, as [`try_push`](Self::try_push) does.
    ///
    /// # Safety
    /// The claim is of the allocator of the cache's pages; and as for `try_push`.
    #[inline]
    pub(crate) unsafe fn try_push_claimed(
        &self,
        claim: CpuClaim<'_, S::Platform>,
        object: NonNull<u8>,
    ) -> bool {
        // SAFETY: 1. of this allocator: the caller's obligation.
        let arrays = unsafe { self.cpus.claimed(claim) };
        // SAFETY: 1. given up: the caller's obligation.
        unsafe { self.try_push(arrays, object) }
    }

    /// Puts an object into a CPU's array if there is room, and if it is one of this cache or the cache does not
    /// check that. Returns whether it did.
    ///
    /// # Safety
    /// If it is an object of this cache, it is given up. Any other is one that this cache may hand out, unless
    /// it checks owners.
    // Always: a call costs a tenth of a free.
    #[inline(always)]
    unsafe fn try_push(&self, mut arrays: Claimed<'_, S>, object: NonNull<u8>) -> bool {
        if self.checks_owner && self.store.frame_of(object).is_none() {
            return false;
        }
        arrays.main.try_push(self.store.slabs.object(object))
    }

    /// Returns an object of a slab of this cache with a pointer that is good for all of its bytes, which the
    /// user's need not be.
    #[inline]
    fn own(&self, object: NonNull<u8>) -> Option<NonNull<u8>> {
        self.store.frame_of(object)?;
        Some(self.store.slabs.object(object))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn alloc_slowly(&self, gfp: Gfp) -> Option<NonNull<u8>> {
        if let Some(object) = self.refill() {
            return Some(object);
        }
        let mut got = None;
        self.store.take_or_grow(gfp, 1, |object| got = Some(object));
        if got.is_none() && gfp.contains(Gfp::DIRECT_RECLAIM) && self.has_arrays {
            // Objects may be free in arrays of other CPUs.
            self.flush();
            self.store.take(1, |object| got = Some(object));
        }
        got
    }

    /// Fills an array of this CPU from the depot or from slabs, and takes an object from it.
    fn refill(&self) -> Option<NonNull<u8>> {
        if !self.has_arrays {
            return None;
        }
        let mut arrays = self.cpus.claim()?;
        if let Some(object) = arrays.pop() {
            return Some(object);
        }
        let is_exchanged = self.depot.lock(self.platform())?.take_full(&mut arrays.main);
        if !is_exchanged {
            let main = &mut arrays.main;
            self.store.take(main.room(), |object| {
                let has_room = main.try_push(object);
                debug_assert!(has_room, "no more than there is room for");
            });
        }
        arrays.main.pop()
    }

    /// # Safety
    /// As for [`free`](Self::free).
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn free_slowly(&self, object: NonNull<u8>) {
        let empty = match self.cpus.claim().filter(|_| self.has_arrays) {
            Some(arrays) => {
                let Some(object) = self.own(object) else { self.store.refuse(object) };
                // SAFETY: 1. given up: the caller's obligation.
                unsafe { self.push(arrays, object) }
            }
            // SAFETY: 1. given up: the caller's obligation.
            None => unsafe { self.store.put(iter::once(object)) },
        };
        empty.free(self.store.slabs);
    }

    /// Puts an object into an array of a CPU, after making room in the depot or in the slabs. Returns pages
    /// to free.
    ///
    /// # Safety
    /// The object is one of this cache and given up.
    unsafe fn push(&self, mut arrays: Claimed<'_, S>, object: NonNull<u8>) -> Batch {
        let none = Batch::new(self.store.geometry.order);
        if arrays.try_push(object) {
            return none;
        }
        let Some(mut depot) = self.depot.lock(self.platform()) else { return none };
        let is_exchanged = depot.take_empty(&mut arrays.main);
        drop(depot);
        let empty = if is_exchanged {
            none
        } else {
            // SAFETY: 1. given up when they were put into the array.
            unsafe { self.store.put(iter::from_fn(|| arrays.main.pop())) }
        };
        let has_room = arrays.main.try_push(object);
        debug_assert!(has_room, "just made");
        empty
    }

    /// Returns approximately how many pages [`shrink`](Self::shrink) would free.
    pub(crate) fn nr_spare_pages(&self) -> usize {
        let geometry = &self.store.geometry;
        let empty = self.store.read(|lists| lists.empty.len()).unwrap_or(0);
        let cached = self.nr_cached() / geometry.nr_objects(geometry.order);
        (empty + cached) << geometry.order.value()
    }

    /// Frees the pages of empty slabs, at least `nr_pages` if there are as many, and returns their number.
    pub(crate) fn free_empty(&self, nr_pages: usize) -> usize {
        self.store.shrink(nr_pages)
    }

    /// Moves the objects of all arrays that are not in use to their slabs.
    pub(crate) fn flush(&self) {
        for cpu in 0..self.cpus.nr() {
            let Some(mut arrays) = self.cpus.visit(cpu) else { continue };
            // SAFETY: 1. given up when they were put into the arrays.
            let empty = unsafe {
                self.store.put(iter::from_fn(|| {
                    let arrays = &mut *arrays;
                    arrays.main.pop().or_else(|| arrays.spare.pop())
                }))
            };
            drop(arrays);
            empty.free(self.store.slabs);
        }
        self.empty_depot();
    }

    fn empty_depot(&self) {
        loop {
            let mut empty = None;
            let Some(mut depot) = self.depot.lock(self.platform()) else { return };
            let was_full = depot.empty_one(|array| {
                // SAFETY: 1. given up when they were put into the array.
                empty = Some(unsafe { self.store.put(iter::from_fn(|| array.pop())) });
            });
            drop(depot);
            if let Some(empty) = empty {
                empty.free(self.store.slabs);
            }
            if !was_full {
                return;
            }
        }
    }

    pub(crate) fn zero(&self, object: NonNull<u8>) {
        // SAFETY: 1. valid for writes, nobody else's: an object that was just taken, of at least this size.
        unsafe { object.write_bytes(0, self.size()) };
    }
}

/// Most objects that are taken under one hold of the lock.
fn receive_max(nr: usize) -> usize {
    nr.min(usize::from(MAX_ARRAY))
}

impl<S: PageSource<Platform: DirectMap>> Drop for Cache<'_, S> {
    /// Frees all pages but those with objects in use, which stay allocated for good.
    fn drop(&mut self) {
        if self.platform().is_abandoned() {
            return;
        }
        for cpu in 0..self.cpus.nr() {
            let arrays = self.cpus.get_mut(cpu);
            let objects = iter::from_fn(|| arrays.main.pop().or_else(|| arrays.spare.pop()));
            // SAFETY: 1. given up when they were put into the arrays.
            let empty = unsafe { self.store.put(objects) };
            empty.free(self.store.slabs);
        }
        self.empty_depot();
    }
}

impl<S: PageSource<Platform: DirectMap>> fmt::Debug for Cache<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.store.name)
            .field("geometry", &self.store.geometry)
            .finish_non_exhaustive()
    }
}

/// A cache that lives for ever can be registered
/// ([`register_shrinker`](pagemill::PageAllocator::register_shrinker)): under memory pressure, it returns the
/// pages of empty slabs, and free objects of CPUs to their slabs.
impl<S: PageSource<Platform: DirectMap>> Shrinker for Cache<'static, S>
where
    Self: Sync,
{
    fn count(&self, _control: ShrinkControl) -> usize {
        self.nr_spare_pages()
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        let freed = self.free_empty(nr);
        if freed >= nr {
            return freed;
        }
        self.flush();
        freed + self.free_empty(nr - freed)
    }
}
