//! Page array: the page slots of a request, emptied from the front and refilled in bulk.

use core::time::Duration;
use std::thread;

use pagemill::machine::DirectMap;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, BulkRequest, Gfp, Page};

use crate::stats::RefillStats;
use crate::wire::xdr::Chunks;

/// The source of a server's pages: an allocator with mapped pages that any thread can use for as long
/// as the server runs.
///
/// [`Static`](pagemill::source::Static) makes a slot one word.
pub trait Frames: PageSource<Platform: DirectMap> + Send + Sync + 'static {}

impl<S: PageSource<Platform: DirectMap> + Send + Sync + 'static> Frames for S {}

/// How empty slots are refilled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "bulk, and what it is compared with")]
pub enum RefillCalls {
    /// One call for all of them.
    #[default]
    Bulk,
    /// One call per page, as before the bulk call existed.
    Single,
}

/// Which slots a refill checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the hint, and what it is compared with")]
pub enum RefillScan {
    /// Only the slots at the front that may have been emptied.
    #[default]
    Emptied,
    /// All slots, as Linux did before it tracked the number of emptied slots.
    All,
}

/// How an array is refilled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Refill {
    /// One bulk call or one call per page.
    pub calls: RefillCalls,
    /// Which slots it checks.
    pub scan: RefillScan,
}

/// Slots for pages. Pages are taken only from the front, and the array tracks the length of the front
/// part that may have empty slots: a refill checks only that part.
pub struct PageArray<S: PageSource> {
    slots: Box<[Option<Page<S>>]>,
    /// No slot from this index on is empty.
    nr_emptied: usize,
    /// Number of empty slots.
    nr_missing: usize,
}

/// Longest pause after a refill without result, for threads that cannot wait in the allocator's queue.
const PAUSE: Duration = Duration::from_millis(1);

impl<S: PageSource> PageArray<S> {
    /// Makes an array of `nr_pages` empty slots.
    #[must_use]
    pub fn new(nr_pages: usize) -> Self {
        Self {
            slots: (0..nr_pages).map(|_| None).collect(),
            nr_emptied: nr_pages,
            nr_missing: nr_pages,
        }
    }

    /// Returns the number of slots.
    #[must_use]
    pub fn nr_slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns the length of the front part that may have empty slots.
    #[must_use]
    pub fn nr_emptied(&self) -> usize {
        self.nr_emptied
    }

    /// Fills the empty slots; returns false if `stop` returned true first.
    ///
    /// Repeats at once as long as there is progress. After an attempt without result, it waits its turn
    /// among all requests that wait for pages, and calls `stop` from time to time.
    ///
    /// # Source
    /// `linux-7.0` `net/sunrpc/svc_xprt.c` `svc_alloc_arg`, `svc_fill_pages`. Differs: waits in the
    /// allocator's queue, not for a fixed time, so that freed pages are noticed at once.
    pub fn fill(
        &mut self,
        source: &S,
        refill: Refill,
        stop: &dyn Fn() -> bool,
        stats: &RefillStats,
    ) -> bool {
        let end = match refill.scan {
            RefillScan::Emptied => self.nr_emptied,
            RefillScan::All => self.slots.len(),
        };
        while self.nr_missing > 0 {
            let slots = &mut self.slots[..end];
            let now = match refill.calls {
                RefillCalls::Bulk => source.clone().alloc_pages_bulk(Gfp::KERNEL, slots),
                RefillCalls::Single => fill_singly(source, slots),
            };
            let missing = if now == end { 0 } else { nr_empty(slots) };
            let (wanted, new) = (self.nr_missing, self.nr_missing - missing);
            self.nr_missing = missing;
            match refill.calls {
                RefillCalls::Bulk if new == 1 && missing > 0 => stats.fell_back(),
                _ => {}
            }
            stats.called(if refill.calls == RefillCalls::Bulk { 1 } else { wanted }, new);
            if new == 0 {
                stats.waited();
                if !wait(source, slots, stop) {
                    self.nr_missing = nr_empty(slots);
                    return false;
                }
                self.nr_missing = nr_empty(slots);
            }
        }
        self.nr_emptied = 0;
        true
    }

    /// Takes the page out of slot `index`.
    pub fn take(&mut self, index: usize) -> Option<Page<S>> {
        let page = self.slots.get_mut(index)?.take()?;
        self.nr_emptied = self.nr_emptied.max(index + 1);
        self.nr_missing += 1;
        Some(page)
    }

    /// Puts a page into slot `index` and returns what was there.
    ///
    /// # Errors
    /// The page, if `index` is not below [`nr_slots`](Self::nr_slots).
    pub fn replace(&mut self, index: usize, page: Page<S>) -> Result<Option<Page<S>>, Page<S>> {
        let Some(slot) = self.slots.get_mut(index) else { return Err(page) };
        let before = slot.replace(page);
        self.nr_missing -= usize::from(before.is_none());
        Ok(before)
    }

    /// Frees the first `nr_pages` in one call and returns how many there were.
    pub fn release(&mut self, source: &S, nr_pages: usize) -> usize {
        let nr_pages = nr_pages.min(self.slots.len());
        self.nr_emptied = self.nr_emptied.max(nr_pages);
        let freed = source.clone().release_pages(&mut self.slots[..nr_pages]);
        self.nr_missing += freed;
        freed
    }

    /// Frees up to `nr` pages in one call, from the first slots that have not been emptied, and returns
    /// how many there were.
    pub fn shrink(&mut self, source: &S, nr: usize) -> usize {
        let end = self.nr_emptied.saturating_add(nr).min(self.slots.len());
        let freed = source.clone().release_pages(&mut self.slots[self.nr_emptied..end]);
        self.nr_emptied = end;
        self.nr_missing += freed;
        freed
    }

    /// Returns whether no slot is empty.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        self.nr_missing == 0
    }

    /// Returns how many slots hold a page.
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.slots.len() - self.nr_missing
    }
}

impl<S: PageSource<Platform: DirectMap>> PageArray<S> {
    /// Returns the bytes of the page in slot `index`.
    #[must_use]
    pub fn bytes(&self, index: usize) -> Option<&[u8; PAGE_SIZE]> {
        self.slots.get(index)?.as_ref().map(Page::as_bytes)
    }

    /// Returns the bytes of the page in slot `index`, for writing.
    pub fn bytes_mut(&mut self, index: usize) -> Option<&mut [u8; PAGE_SIZE]> {
        self.slots.get_mut(index)?.as_mut().map(Page::as_bytes_mut)
    }

    /// Returns the bytes from `start` to `end`, counted over all pages, as slices.
    pub fn slices(&self, start: usize, end: usize) -> impl Iterator<Item = &[u8]> {
        let (first, last) = page_range(start, end, self.slots.len());
        self.slots[first..last].iter().flatten().zip(first..).filter_map(move |(page, index)| {
            let base = index * PAGE_SIZE;
            page.as_bytes().get(start.saturating_sub(base)..(end - base).min(PAGE_SIZE))
        })
    }

    /// Returns the bytes from `start` to `end`, counted over all pages, as mutable slices.
    pub fn slices_mut(&mut self, start: usize, end: usize) -> impl Iterator<Item = &mut [u8]> {
        let (first, last) = page_range(start, end, self.slots.len());
        let pages = self.slots[first..last].iter_mut().flatten();
        pages.zip(first..).filter_map(move |(page, index)| {
            let base = index * PAGE_SIZE;
            page.as_bytes_mut().get_mut(start.saturating_sub(base)..(end - base).min(PAGE_SIZE))
        })
    }
}

/// One chunk per page.
impl<S: PageSource<Platform: DirectMap>> Chunks for PageArray<S> {
    fn chunk(&self, index: usize) -> Option<&[u8]> {
        self.bytes(index).map(<[u8; PAGE_SIZE]>::as_slice)
    }
}

impl<S: PageSource> core::fmt::Debug for PageArray<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageArray")
            .field("nr_slots", &self.slots.len())
            .field("nr_emptied", &self.nr_emptied)
            .finish()
    }
}

/// Returns the indexes of the pages that hold the bytes from `start` to `end`.
fn page_range(start: usize, end: usize, nr_slots: usize) -> (usize, usize) {
    let last = end.div_ceil(PAGE_SIZE).min(nr_slots);
    ((start / PAGE_SIZE).min(last), if start < end { last } else { (start / PAGE_SIZE).min(last) })
}

fn nr_empty<S: PageSource>(slots: &[Option<Page<S>>]) -> usize {
    slots.iter().filter(|slot| slot.is_none()).count()
}

fn fill_singly<S: PageSource>(source: &S, slots: &mut [Option<Page<S>>]) -> usize {
    let mut filled = 0;
    for slot in slots {
        if slot.is_none() {
            *slot = source.clone().alloc_page(Gfp::KERNEL);
        }
        filled += usize::from(slot.is_some());
    }
    filled
}

/// Waits until pages came or may have come; returns false if the caller is to stop.
#[cold]
fn wait<S: PageSource>(source: &S, slots: &mut [Option<Page<S>>], stop: &dyn Fn() -> bool) -> bool {
    if stop() {
        return false;
    }
    let request = BulkRequest { stop: Some(stop), ..BulkRequest::new(Gfp::KERNEL) };
    if source.clone().bulk_fill(&request, slots).new == 0 {
        // Fault injection, or memory that no wait can supply: pauses instead of spinning.
        thread::park_timeout(PAUSE);
    }
    !stop()
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
