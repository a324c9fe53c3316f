//! Slab: caches of objects that grow and shrink, so that pages come from the page allocator and return.

use core::time::Duration;

use anyhow::Context as _;
use pagemill::{Gfp, Order};
use pagemill_slab::{CacheConfig, Refill, SlabBox, Slabs, TypedCache};

use super::pages::{Slot, Taker};
use super::sample::{AllocTicks, Meter};
use super::{Arm, Sample, Setup, Start, User};
use crate::frames::Frames;
use crate::rng::Rng;

/// Objects that live at once.
const NR_OBJECTS: usize = 1 << 16;
/// Those of a trial.
const TRIAL_NR_OBJECTS: usize = 1 << 10;
/// Most pages in one refill of a cache.
const REFILL_PAGES: usize = 16;

/// Sizes of objects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sizes {
    /// 64 bytes.
    Small,
    /// 8 to 512 bytes, each power of two as often.
    Mixed,
    /// 512 bytes.
    Large,
}

/// Starts caches of objects of some sizes.
pub(super) fn start(setup: &Setup, sizes: Sizes) -> Start {
    let nr_objects = if setup.is_trial { TRIAL_NR_OBJECTS } else { NR_OBJECTS };
    Start::Ready(Box::new(SlabUser { setup: setup.clone(), sizes, nr_objects }))
}

#[derive(Debug)]
struct SlabUser {
    setup: Setup,
    sizes: Sizes,
    nr_objects: usize,
}

/// The caches, one for each power of two, and the objects of each.
struct Caches<'s> {
    c8: TypedCache<'s, [u64; 1], Frames>,
    c16: TypedCache<'s, [u64; 2], Frames>,
    c32: TypedCache<'s, [u64; 4], Frames>,
    c64: TypedCache<'s, [u64; 8], Frames>,
    c128: TypedCache<'s, [u64; 16], Frames>,
    c256: TypedCache<'s, [u64; 32], Frames>,
    c512: TypedCache<'s, [u64; 64], Frames>,
}

/// An object of any size.
#[expect(dead_code, reason = "objects are held and dropped")]
enum Object<'c> {
    B8(SlabBox<'c, [u64; 1], Frames>),
    B16(SlabBox<'c, [u64; 2], Frames>),
    B32(SlabBox<'c, [u64; 4], Frames>),
    B64(SlabBox<'c, [u64; 8], Frames>),
    B128(SlabBox<'c, [u64; 16], Frames>),
    B256(SlabBox<'c, [u64; 32], Frames>),
    B512(SlabBox<'c, [u64; 64], Frames>),
}

impl<'s> Caches<'s> {
    fn new(slabs: &'s Slabs<Frames>, arm: Arm) -> anyhow::Result<Self> {
        let refill = match arm {
            Arm::Single => Refill::Single,
            Arm::Bulk => Refill::Bulk,
            Arm::Block => Refill::Split,
        };
        // The sizes are those of the types.
        let plain = CacheConfig::new("bench", 8, 8);
        let config = CacheConfig { refill, order: Some(Order::ZERO), ..plain };
        Ok(Self {
            c8: TypedCache::with_config(slabs, &config)?,
            c16: TypedCache::with_config(slabs, &config)?,
            c32: TypedCache::with_config(slabs, &config)?,
            c64: TypedCache::with_config(slabs, &config)?,
            c128: TypedCache::with_config(slabs, &config)?,
            c256: TypedCache::with_config(slabs, &config)?,
            c512: TypedCache::with_config(slabs, &config)?,
        })
    }

    /// Allocates an object of 8 bytes, shifted by `shift`.
    #[inline]
    fn alloc(&self, shift: usize) -> Option<Object<'_>> {
        match shift {
            0 => self.c8.alloc(Gfp::KERNEL, [0; 1]).ok().map(Object::B8),
            1 => self.c16.alloc(Gfp::KERNEL, [0; 2]).ok().map(Object::B16),
            2 => self.c32.alloc(Gfp::KERNEL, [0; 4]).ok().map(Object::B32),
            3 => self.c64.alloc(Gfp::KERNEL, [0; 8]).ok().map(Object::B64),
            4 => self.c128.alloc(Gfp::KERNEL, [0; 16]).ok().map(Object::B128),
            5 => self.c256.alloc(Gfp::KERNEL, [0; 32]).ok().map(Object::B256),
            _ => self.c512.alloc(Gfp::KERNEL, [0; 64]).ok().map(Object::B512),
        }
    }

    /// Returns how many pages the slabs have.
    fn nr_pages(&self) -> usize {
        let infos = [
            self.c8.info(),
            self.c16.info(),
            self.c32.info(),
            self.c64.info(),
            self.c128.info(),
            self.c256.info(),
            self.c512.info(),
        ];
        infos.iter().map(|info| info.pages).sum()
    }
}

impl User for SlabUser {
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample> {
        let slabs = Slabs::new(self.setup.frames)?;
        let caches = Caches::new(&slabs, arm)?;
        let mut rng = Rng::new(1);
        let shifts: Vec<usize> = (0..self.nr_objects).map(|_| self.sizes.shift(&mut rng)).collect();
        let mut objects = Vec::with_capacity(self.nr_objects);
        let meter = Meter::start();
        let (mut nr_rounds, mut nr_pages) = (0, 0);
        while nr_rounds == 0 || meter.elapsed() < slice {
            for &shift in &shifts {
                let object = caches.alloc(shift);
                objects
                    .push(object.context("the experiment ran out of pages: use a larger --arena")?);
            }
            nr_pages += caches.nr_pages();
            objects.clear();
            nr_rounds += 1;
        }
        let sample =
            meter.stop((nr_rounds * self.nr_objects) as u64, Duration::ZERO, AllocTicks::default());
        Ok(sample.with_alloc(self.replay(arm, nr_pages)?))
    }
}

impl SlabUser {
    /// Takes and frees as many pages as the caches did, in batches of their refills, and returns what that
    /// took: the caches' own calls cannot be timed from outside.
    fn replay(&self, arm: Arm, nr_pages: usize) -> anyhow::Result<AllocTicks> {
        let mut taker = Taker::new(self.setup.frames, self.setup.clock, arm);
        let mut slots: Vec<Slot> = (0..self.nr_objects / 2).map(|_| None).collect();
        let mut left = nr_pages;
        while left > 0 {
            // As many at once as the caches have, so that pages come from the same lists.
            let nr = left.min(slots.len());
            for batch in slots[..nr].chunks_mut(REFILL_PAGES) {
                taker.take(batch)?;
            }
            for batch in slots[..nr].chunks_mut(REFILL_PAGES) {
                taker.give_back(batch);
            }
            left -= nr;
        }
        Ok(taker.alloc)
    }
}

impl Sizes {
    /// Returns how often 8 is doubled for the next object.
    fn shift(self, rng: &mut Rng) -> usize {
        match self {
            Self::Small => 3,
            Self::Mixed => rng.below(7),
            Self::Large => 6,
        }
    }
}
