//! The word of a frame: what the frame is part of, and the state of a slab that begins with it.

use pagemill::Order;

use crate::geometry::MAX_NR_OBJECTS;

/// The number of a cache, where a word has it; zero for none. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheId(u64);

/// The word of a frame.
///
/// ```text
///   63....52   51....40   39....28   27.........6   5....2   1..0
///   objects    first      first      cache          order,   kind
///   in use     fresh      free + 1                  distance
/// ```
///
/// The lower half says what the frame is, and does not change while it is that: threads read it without a
/// lock. The upper half is the state of a slab, in the word of its first frame, and changes under the lock
/// of the slab's cache. Zero is a frame that no cache has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag(u64);

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing that this crate handed out.
    Other,
    /// The first frame of a slab.
    Head(CacheId, Order),
    /// Another frame of a slab, this many frames behind the first.
    Tail(CacheId, u32),
    /// The first frame of a large object.
    Large,
}

/// The objects of a slab: the state in its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    /// One more than the index of the object that was freed last; zero if none is free.
    pub(crate) free: usize,
    /// The index of the first object that was never handed out; those behind it were not either.
    pub(crate) fresh: usize,
    /// Number of objects that are in use or in an array.
    pub(crate) in_use: usize,
}

const KIND_BITS: u32 = 2;
const PLACE_BITS: u32 = 4;
const ID_SHIFT: u32 = KIND_BITS + PLACE_BITS;
const ID_BITS: u32 = 22;
const ID_MASK: u64 = ((1 << ID_BITS) - 1) << ID_SHIFT;
const STATE_SHIFT: u32 = ID_SHIFT + ID_BITS;
const COUNT_BITS: u32 = 12;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const _: () = assert!(STATE_SHIFT + 3 * COUNT_BITS == u64::BITS);
const _: () = assert!(MAX_NR_OBJECTS as u64 == COUNT_MASK);

const HEAD: u64 = 1;
const TAIL: u64 = 2;
const LARGE: u64 = 3;

impl CacheId {
    /// Makes the first number of `nr` caches that are made after `nr_before` others; `None` if there were too
    /// many.
    pub(crate) fn first_of(nr: u32, nr_before: u32) -> Option<Self> {
        let last = nr_before.checked_add(nr)?;
        (last < 1 << ID_BITS).then_some(Self(u64::from(nr_before + 1) << ID_SHIFT))
    }

    /// Returns the number `distance` behind this one.
    pub(crate) fn behind(self, distance: usize) -> Self {
        Self(self.0 + ((distance as u64) << ID_SHIFT))
    }

    /// Returns how far behind `first` this number is; `None` if it is before.
    pub(crate) fn distance_from(self, first: Self) -> Option<usize> {
        let distance = self.0.checked_sub(first.0)? >> ID_SHIFT;
        usize::try_from(distance).ok()
    }
}

impl Tag {
    /// The word of a frame that no cache has.
    pub(crate) const NONE: Self = Self(0);
    /// The word of the first frame of a large object.
    pub(crate) const LARGE: Self = Self(LARGE);

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// Makes the word of the first frame of a slab whose objects are fresh.
    pub(crate) fn head(id: CacheId, order: Order) -> Self {
        Self(HEAD | u64::from(order.value()) << KIND_BITS | id.0)
    }

    /// Makes the word of a frame `distance` behind the first frame of a slab.
    pub(crate) fn tail(id: CacheId, distance: u32) -> Self {
        debug_assert!(distance > 0 && distance < 1 << PLACE_BITS);
        Self(TAIL | u64::from(distance) << KIND_BITS | id.0)
    }

    /// Returns whether the frame is part of a slab of this cache.
    #[inline]
    pub(crate) fn is_of(self, id: CacheId) -> bool {
        self.0 & ID_MASK == id.0
    }

    pub(crate) fn kind(self) -> Kind {
        let place = (self.0 >> KIND_BITS & 0xf) as u8;
        let id = CacheId(self.0 & ID_MASK);
        match self.0 & ((1 << KIND_BITS) - 1) {
            HEAD => Kind::Head(id, Order::new(place).unwrap_or_default()),
            TAIL => Kind::Tail(id, u32::from(place)),
            LARGE => Kind::Large,
            _ => Kind::Other,
        }
    }

    pub(crate) fn objects(self) -> Objects {
        let count = |at: u32| (self.0 >> (STATE_SHIFT + at * COUNT_BITS) & COUNT_MASK) as usize;
        Objects { free: count(0), fresh: count(1), in_use: count(2) }
    }

    /// Returns the same word with another state.
    pub(crate) fn with_objects(self, objects: Objects) -> Self {
        let Objects { free, fresh, in_use } = objects;
        debug_assert!(free.max(fresh).max(in_use) <= MAX_NR_OBJECTS);
        let state = [free, fresh, in_use].into_iter().rev();
        let state = state.fold(0, |bits, count| bits << COUNT_BITS | count as u64);
        Self(self.0 & ((1 << STATE_SHIFT) - 1) | state << STATE_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_returns_what_was_put_in() {
        let id = |nr_before| CacheId::first_of(1, nr_before).expect("a number");
        let (id, last) = (id(6), id((1 << 22) - 2));
        let order = Order::new(3).expect("3");
        for objects in [
            Objects::default(),
            Objects { free: 4095, fresh: 0, in_use: 1 },
            Objects { free: 0, fresh: 4095, in_use: 4095 },
            Objects { free: 1, fresh: 2, in_use: 3 },
        ] {
            let tag = Tag::head(last, order).with_objects(Objects { free: 9, fresh: 9, in_use: 9 });
            let tag = tag.with_objects(objects);
            assert_eq!((tag.kind(), tag.objects()), (Kind::Head(last, order), objects));
            assert!(tag.is_of(last) && !tag.is_of(id));
        }
        assert_eq!(Tag::tail(id, 7).kind(), Kind::Tail(id, 7));
        assert!(Tag::tail(id, 7).is_of(id));
        assert_eq!((Tag::NONE.kind(), Tag::LARGE.kind()), (Kind::Other, Kind::Large));
        assert!(!Tag::NONE.is_of(id) && !Tag::LARGE.is_of(id));
    }

    #[test]
    fn numbers_of_caches_end_before_the_field_does() {
        assert_eq!(CacheId::first_of(26, 0), Some(CacheId(1 << ID_SHIFT)));
        assert_eq!(CacheId::first_of(1, (1 << 22) - 1), None);
        assert_eq!(CacheId::first_of(2, (1 << 22) - 2), None);
        assert_eq!(CacheId::first_of(1, u32::MAX), None);
        let id = |nr_before| CacheId::first_of(1, nr_before).expect("a number");
        assert_eq!(id(9).distance_from(id(7).behind(1)), Some(1));
        assert_eq!(id(6).distance_from(id(7)), None);
    }
}
