//! Page words that come from code without handles: checks that they name blocks of the allocator.

use crate::base::raw_page::{InvalidRawPage, RawPage};
use crate::page_alloc::allocator::PageAllocator;
use crate::platform::platform::Platform;

impl<P: Platform> PageAllocator<P> {
    /// Checks that a word names a block of this allocator: frames of one zone, and the list and the account
    /// of a block that can exist.
    ///
    /// For words from outside of the program's types, such as those that C code passes. Does not check
    /// whether the block is in use.
    ///
    /// # Errors
    /// What is wrong with the word.
    ///
    /// # Cost
    /// A comparison of the class and one of the frame, for single pages of the zone with the most adjacent
    /// frames.
    #[inline]
    pub fn check_raw(&self, raw: RawPage) -> Result<(), InvalidRawPage> {
        match self.plain_words(raw.class()) {
            Some(words) if words.has(Some(raw)) => Ok(()),
            _ => self.check_unusual_raw(raw),
        }
    }

    #[cold]
    #[inline(never)]
    fn check_unusual_raw(&self, raw: RawPage) -> Result<(), InvalidRawPage> {
        let bits = raw.word();
        // The integer may have become a word without a check.
        let raw = RawPage::from_bits(bits)?;
        let (first, nr) = (raw.pfn().value(), raw.order().nr_pages() as u64);
        let zone = self.zones().get(raw.list().zone());
        let span = zone.and_then(|zone| zone.facts.spans.find(first));
        if span.is_none_or(|span| span.end - first < nr) {
            return Err(InvalidRawPage::NotInZone { bits, pfn: raw.pfn() });
        }
        if !self.accounts().has(raw.class().account()) {
            return Err(InvalidRawPage::NoAccount { bits });
        }
        Ok(())
    }
}
