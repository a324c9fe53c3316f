//! Validation: checks all books of an allocator against each other, for tests and kernels.

use crate::base::book::{Book, BookError, Place};
use crate::base::raw_page::{Class, ListId, RawPage};
use crate::base::sync::Ordering;
use crate::base::units::CpuId;
use crate::page_alloc::allocator::PageAllocator;
use crate::page_alloc::setup::for_each_watermarks;
use crate::page_alloc::slow_path_flags::OWNERS;
use crate::platform::platform::Platform;
use crate::zone::block_state::Special;
use crate::zone::watermark::Watermarks;
use crate::zone::zone::Zone;

impl<P: Platform> PageAllocator<P> {
    /// Checks that all books of the allocator agree.
    ///
    /// - Pageblocks: free counts, list links and lists against the bitmaps; free frames against the
    ///   zone's frames and the reserved ones.
    /// - Shards and zones: free counts against the pageblocks, managed frames against present and
    ///   reserved ones, watermarks and their copies in each CPU against managed frames.
    /// - Per-CPU lists: each page against its list's class, its zone's bitmaps and all other lists.
    /// - Accounts: users, pages and parents against each other; all charges against the frames in use.
    /// - With [`page_owner`](crate::Config::page_owner): call sites against the frames in use.
    ///
    /// Does not check tables that never change after setup, pages in use, and their contents. A call of
    /// the platform that panicked may have lost pages: with `page_owner`, their call sites may then look
    /// wrong for good.
    ///
    /// # Errors
    /// The first value that is wrong, what it belongs to, and what it should be.
    ///
    /// # Concurrency
    /// No thread may allocate, free, charge, or be inside of a call of the allocator, not even one that
    /// works by itself, such as a thread for background reclaim: values that change meanwhile look
    /// wrong. Nothing worse happens: the call takes the locks that it needs, each for a bounded time. It
    /// must not be made from a shrinker or a stop callback.
    ///
    /// # Cost
    /// Reads all metadata of the zones and of the free pages. Each page in a per-CPU list takes its
    /// shard's lock.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::{PageAllocator, Platform};
    /// # fn example<P: Platform>(frames: &PageAllocator<P>) {
    /// if let Err(error) = frames.validate() {
    ///     // "CPU 3: pages in the list, at most its capacity: found 65, expected 64"
    ///     panic!("{error}");
    /// }
    /// # }
    /// ```
    pub fn validate(&self) -> Result<(), BookError> {
        let mut nr_in_use = 0;
        for zone in self.zones() {
            zone.check(self.platform())?;
            nr_in_use += self.check_lists(zone)?;
        }
        self.check_watermarks()?;
        self.accounts().check(nr_in_use)?;
        if self.slow_path_flags.has(OWNERS) { self.check_owners(nr_in_use) } else { Ok(()) }
    }

    /// Checks the per-CPU lists of a zone, and returns how many of its frames are in use.
    fn check_lists(&self, zone: &Zone) -> Result<u64, BookError> {
        // Each page's share count, which no free page needs, receives the page's position in the walk.
        // A page that is met twice has a later position than its first.
        let mut nr_listed = 0_u32;
        self.for_each_listed(zone, &mut |class, page| {
            let place = Place::Frame(page.pfn());
            let expected = class.at(page.pfn());
            place.expect(Book::ListedClass, page.word(), expected.word())?;
            let Some(span) = zone.facts.spans.find(page.pfn().value()) else {
                return place.expect(Book::ListedOutside, page.pfn().value(), 0);
            };
            let is_free = zone.is_free(self.platform(), page.pfn());
            place.expect(Book::ListedFree, is_free.into(), 0)?;
            let is_reserved = zone.states.set(Special::Reserved).holds(span, page.pfn().value());
            place.expect(Book::FrameReserved, is_reserved.into(), 0)?;
            // Relaxed: the page is in a list that is held.
            let position = self.frames().refs(span.frame(page.pfn().value()));
            position.store(nr_listed, Ordering::Relaxed);
            nr_listed += 1;
            Ok(())
        })?;
        let mut next = 0_u32;
        self.for_each_listed(zone, &mut |_, page| {
            // Relaxed: as above.
            let position = self.frames().refs(self.frame_of(page)).load(Ordering::Relaxed);
            let is_twice = position != next;
            next += 1;
            Place::Frame(page.pfn()).expect(Book::ListedTwice, is_twice.into(), 0)
        })?;
        // No underflow: these frames are of the zone, not reserved, and counted once.
        Ok(zone.managed.get().saturating_sub(zone.nr_free() + u64::from(nr_listed)))
    }

    /// Calls `visit` with each frame in a per-CPU list of a zone, as a block that begins there, and the
    /// list's class.
    fn for_each_listed(
        &self,
        zone: &Zone,
        visit: &mut dyn FnMut(Class, RawPage) -> Result<(), BookError>,
    ) -> Result<(), BookError> {
        for (cpu, number) in self.cpus().iter().zip(0..) {
            let place = Place::Cpu(CpuId::new(number));
            let Some(mut lists) = cpu.try_visit(self.platform()) else {
                return place.expect(Book::ListsInUse, 1, 0);
            };
            let of_zone = |id: &ListId| id.zone() == usize::from(zone.facts.index);
            for (id, order) in cpu.list_ids().filter(|(id, _)| of_zone(id)) {
                let list = lists.block_list(id, order);
                let pages = list.checked_pages().or_else(|(count, capacity)| {
                    place.at_most(Book::ListCount, count as u64, capacity as u64).map(|()| &[][..])
                })?;
                let class = Class::new(id, order.order());
                for &block in pages {
                    let frames = 0..order.order().nr_pages() as u64;
                    let mut frames = frames.map(|nr| block.class().at(block.pfn().offset(nr)));
                    frames.try_for_each(|frame| visit(class, frame))?;
                }
            }
        }
        Ok(())
    }

    /// Checks the watermarks of all zones, and their copies in all CPUs.
    fn check_watermarks(&self) -> Result<(), BookError> {
        self.with_mark_policy(|policy| {
            let mut result = Ok(());
            for_each_watermarks(policy, self.zones(), |zone, expected| {
                result = result.and_then(|()| check_marks(zone, expected));
            });
            result
        })?;
        for (cpu, number) in self.cpus().iter().zip(0..) {
            let place = Place::Cpu(CpuId::new(number));
            for (found, expected) in cpu.limits() {
                place.expect(Book::HotZoneLimit, found, expected)?;
            }
        }
        Ok(())
    }

    /// Checks that frames in use have a recorded call site, and free ones do not.
    fn check_owners(&self, nr_in_use: u64) -> Result<(), BookError> {
        for zone in self.zones() {
            let mut result = Ok(());
            zone.for_each_free(self.platform(), |pfn| {
                let Some(span) = zone.facts.spans.find(pfn.value()) else { return };
                let has_owner = self.owners().holder(span.frame(pfn.value())).is_some();
                let check = Place::Frame(pfn).expect(Book::OwnerOfFree, has_owner.into(), 0);
                result = result.and(check);
            });
            result?;
            self.for_each_listed(zone, &mut |_, page| {
                let has_owner = self.owners().holder(self.frame_of(page)).is_some();
                Place::Frame(page.pfn()).expect(Book::OwnerOfFree, has_owner.into(), 0)
            })?;
        }
        let mut nr_owners = 0;
        self.for_each_owner(|_, _| nr_owners += 1);
        Place::Allocator.expect(Book::NrOwners, nr_owners, nr_in_use)
    }
}

/// Checks each watermark and reserve of a zone.
fn check_marks(zone: &Zone, expected: &Watermarks) -> Result<(), BookError> {
    let found = zone.marks.get();
    let pairs = [(found.min, expected.min), (found.low, expected.low), (found.high, expected.high)];
    let reserves = found.lowmem_reserve.into_iter().zip(expected.lowmem_reserve);
    let mut all = pairs.into_iter().chain(reserves);
    all.try_for_each(|(found, expected)| zone.place().expect(Book::Watermark, found, expected))
}

#[cfg(all(test, not(loom)))]
mod tests;
