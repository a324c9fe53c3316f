//! Sinks of bulk calls for memory of the caller: slots that are all empty, slots of which some hold a
//! page, and uninitialised memory.

use core::mem::{self, ManuallyDrop, MaybeUninit};

use super::engine::Sink;
use crate::base::raw_page::RawPage;
use crate::page::owned::{Owned, Unowned};

/// Returns whether no slot holds a page, without a branch per slot. Checks the last slot first, which
/// still holds its page if the caller used pages from the front.
#[inline]
pub(crate) fn all_empty<T: Owned>(slots: &[Option<T>]) -> bool {
    let word = |slot: &Option<T>| slot.as_ref().map_or(0, |page| page.its_word().word());
    slots.last().is_none_or(Option::is_none)
        && slots.iter().fold(0, |sum, slot| sum | word(slot)) == 0
}

/// A sink of slots that are all empty: pages are copied.
pub(crate) struct Empty<'a, T: Owned> {
    pub(crate) slots: &'a mut [Option<T>],
    pub(crate) source: &'a T::Source,
}

impl<T: Owned> Sink for Empty<'_, T> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        let (filled, rest) = mem::take(&mut self.slots).split_at_mut(pages.len());
        for (slot, &raw) in filled.iter_mut().zip(pages) {
            let page = Some(T::from_unowned(self.source.clone(), Unowned(raw)));
            // The slot is empty; not dropping the old value keeps the loop a copy.
            let _empty = ManuallyDrop::new(mem::replace(slot, page));
        }
        self.slots = rest;
    }
}

/// A sink of slots of which some are full: each is checked.
pub(crate) struct Holes<'a, T: Owned> {
    pub(crate) slots: core::slice::IterMut<'a, Option<T>>,
    pub(crate) source: &'a T::Source,
}

impl<T: Owned> Sink for Holes<'_, T> {
    fn accept(&mut self, pages: &[RawPage]) {
        let holes = self.slots.by_ref().filter(|slot| slot.is_none());
        for (&raw, slot) in pages.iter().zip(holes) {
            *slot = Some(T::from_unowned(self.source.clone(), Unowned(raw)));
        }
    }
}

/// A sink of uninitialised memory, which is written from its start on.
pub(crate) struct Uninit<'a, T: Owned> {
    pub(crate) room: &'a mut [MaybeUninit<T>],
    pub(crate) source: &'a T::Source,
}

impl<T: Owned> Sink for Uninit<'_, T> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        let (written, rest) = mem::take(&mut self.room).split_at_mut(pages.len());
        for (entry, &raw) in written.iter_mut().zip(pages) {
            entry.write(T::from_unowned(self.source.clone(), Unowned(raw)));
        }
        self.room = rest;
    }
}
