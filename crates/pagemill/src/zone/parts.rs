//! Parts of a pageblock: takes, frees and checks adjacent frames at any positions.

use core::ops::Range;

use crate::base::migratetype::MigrateType;
use crate::base::units::{MAX_ORDER, Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Pfn};
use crate::zone::buddy::{Buddy, Filed, PAIRS, Stolen, WHOLE};
use crate::zone::pageblock::position_in_block;

impl Buddy {
    /// Takes the frames at positions `part` of the zone's pageblock `block`, for pages of `migratetype`.
    ///
    /// A wholly free pageblock gets that type. Another one gets it as [`pick`](Self::pick) documents.
    ///
    /// # Errors
    /// The position of the first of these frames that is not free; nothing has changed then.
    pub(super) fn take_part(
        &mut self,
        block: u32,
        part: Range<usize>,
        migratetype: MigrateType,
    ) -> Result<(), usize> {
        self.check_free(block, part.clone())?;
        let block = self.own(block);
        let (nr, is_whole) = (part.len(), self.nr_free_in(block) == PAGEBLOCK_NR_PAGES);
        self.unfile(block);
        if is_whole {
            self.set_migratetype(block, migratetype);
        } else if self.blocks[block].migratetype != migratetype {
            self.steal(block, migratetype, order_of(nr));
        }
        self.bitmaps[block].clear_part(part);
        self.count_taken(block, nr);
        self.file(block);
        Ok(())
    }

    /// Checks that the frames at positions `part` of the zone's pageblock `block` are in use.
    ///
    /// # Errors
    /// The position of the first of them that is free.
    pub(super) fn check_part(&self, block: u32, part: Range<usize>) -> Result<(), usize> {
        let block = self.own(block);
        if self.blocks[block].nr_free == 0 {
            return Ok(());
        }
        self.bitmaps[block].first(false, part).map_or(Ok(()), Err)
    }

    /// Checks that the frames at positions `part` of the zone's pageblock `block` are free.
    ///
    /// # Errors
    /// The position of the first of them that is in use.
    pub(super) fn check_free(&self, block: u32, part: Range<usize>) -> Result<(), usize> {
        let block = self.own(block);
        if self.nr_free_in(block) == PAGEBLOCK_NR_PAGES {
            return Ok(());
        }
        self.bitmaps[block].first(true, part).map_or(Ok(()), Err)
    }

    /// Frees the frames at positions `part` of the zone's pageblock `block`.
    ///
    /// # Errors
    /// The position of the first of these frames that is free already; nothing has changed then.
    pub(super) fn put_part(&mut self, block: u32, part: Range<usize>) -> Result<(), usize> {
        let block = self.own(block);
        let is_used = self.nr_free_in(block) == 0;
        if !is_used && let Some(free) = self.bitmaps[block].first(false, part.clone()) {
            return Err(free);
        }
        self.unfile(block);
        let nr = part.len();
        self.bitmaps[block].set_part(part);
        self.blocks[block].nr_free += u16::try_from(nr).expect("at most 512");
        self.nr_free += nr as u64;
        self.file(block);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn double_free_of_block(&self, pfn: Pfn, block: u32, order: Order) -> ! {
        let half = order.min(PAGEBLOCK_ORDER);
        let upper = || self.first_free_in(pfn.offset(half.nr_pages() as u64), block + 1, half);
        let free = self.first_free_in(pfn, block, half);
        let free = free.or_else(|| if order > half { upper() } else { None }).unwrap_or(pfn);
        panic!(
            "double free of the block of order {order} at frame {pfn}: frame {free} is free in its \
             zone already"
        )
    }

    /// Returns the first free frame of the block of `order` at `pfn`, in the zone's pageblock `block`.
    pub(super) fn first_free_in(&self, pfn: Pfn, block: u32, order: Order) -> Option<Pfn> {
        let start = position_in_block(pfn.value());
        let free = self.bitmaps[self.own(block)].first(false, start..start + order.nr_pages())?;
        Some(pfn.offset((free - start) as u64))
    }

    #[inline]
    fn nr_free_in(&self, block: usize) -> usize {
        self.blocks[block].nr_free.into()
    }

    /// Records that pages of `migratetype` are taken from an unfiled pageblock of another type, and
    /// changes the pageblock's type as [`pick`](Self::pick) documents.
    pub(super) fn steal(&mut self, block: usize, migratetype: MigrateType, order: Order) {
        let half = PAGEBLOCK_NR_PAGES / 2;
        let pollutes = migratetype != MigrateType::Movable;
        let is_whole = pollutes && usize::from(self.blocks[block].nr_free) >= half;
        let from = self.blocks[block].migratetype;
        if is_whole {
            self.set_migratetype(block, migratetype);
        }
        let nr_pageblocks = self.stolen.map_or(0, |stolen| stolen.nr_pageblocks) + 1;
        let pageblock = self.first_pfn(block);
        self.stolen = Some(Stolen { nr_pageblocks, pageblock, order, from, is_whole });
    }

    #[inline]
    pub(super) fn set_migratetype(&mut self, block: usize, migratetype: MigrateType) {
        let old = core::mem::replace(&mut self.blocks[block].migratetype, migratetype);
        if old != migratetype {
            self.states[block].change_migratetype(old, migratetype);
        }
    }

    /// Removes a pageblock from the list that it is on, if any.
    fn unfile(&mut self, block: usize) {
        match self.blocks[block].filed {
            Filed::Nowhere => {}
            Filed::Partial(_) | Filed::Whole => self.unlink(block),
            Filed::Pair => {
                let is_lower = self.blocks[block].base.is_multiple_of(2);
                let (lower, other) =
                    if is_lower { (block, block + 1) } else { (block - 1, block - 1) };
                self.unlink_from(lower, PAIRS);
                self.link_first(other, WHOLE, Filed::Whole);
            }
        }
        self.blocks[block].filed = Filed::Nowhere;
    }
}

/// Returns the smallest order of which a block has at least `nr` frames, or the largest order there is.
pub(crate) fn order_of(nr: usize) -> Order {
    Order::all().find(|order| order.nr_pages() >= nr).unwrap_or(MAX_ORDER)
}
