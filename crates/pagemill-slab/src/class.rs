//! Size classes: which cache of a heap serves a request.

use core::alloc::Layout;
use core::hint::assert_unchecked;

/// The sizes of the caches of a heap, smallest first: powers of two, and three sizes between each two of
/// them from 32 bytes on, so that rounding up wastes less than a quarter.
pub(crate) const CLASS_SIZES: [usize; NR_CLASSES] = [
    8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896,
    1024, 1280, 1536, 1792, 2048,
];
/// Number of caches.
pub(crate) const NR_CLASSES: usize = 26;
/// The largest object that comes from a cache.
pub(crate) const MAX_CLASS_SIZE: usize = CLASS_SIZES[NR_CLASSES - 1];

/// Sizes are looked up in steps of this.
const STEP: usize = 8;

/// The class of each size, in steps.
static CLASS_OF: [u8; MAX_CLASS_SIZE / STEP + 1] = {
    let mut classes = [0; MAX_CLASS_SIZE / STEP + 1];
    let (mut step, mut class) = (0, 0);
    while step < classes.len() {
        if step * STEP > CLASS_SIZES[class as usize] {
            class += 1;
        }
        assert!((class as usize) < NR_CLASSES);
        classes[step] = class;
        step += 1;
    }
    classes
};

/// Returns the class for a layout whose alignment is at most 8; `None` for other layouts and for large objects.
///
/// For fast paths; [`of_layout`] finds all classes.
#[inline]
pub(crate) fn of_usual(layout: Layout) -> Option<usize> {
    if layout.align() > STEP { None } else { of_size(layout.size()) }
}

/// Returns the class for a layout; `None` for a large object.
pub(crate) fn of_layout(layout: Layout) -> Option<usize> {
    if layout.align() > STEP {
        return of_aligned(layout.size(), layout.align());
    }
    of_size(layout.size())
}

/// Returns the class whose objects have at least `size` bytes; `None` if there is none.
#[inline]
fn of_size(size: usize) -> Option<usize> {
    if size > MAX_CLASS_SIZE {
        return None;
    }
    let class = usize::from(CLASS_OF[size.div_ceil(STEP)]);
    // SAFETY: 1. checked when this is compiled: see `CLASS_OF`.
    unsafe { assert_unchecked(class < NR_CLASSES) };
    Some(class)
}

/// Returns the class for an alignment above 8: objects of a power of two are aligned to their size, because
/// slabs begin with pages.
fn of_aligned(size: usize, align: usize) -> Option<usize> {
    let size = size.max(align).checked_next_multiple_of(align)?;
    let class = of_size(size)?;
    if CLASS_SIZES[class].is_multiple_of(align) {
        return Some(class);
    }
    of_size(size.checked_next_power_of_two()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_has_the_smallest_class_that_holds_it() {
        for size in 0..=MAX_CLASS_SIZE {
            let class = of_size(size).expect("a class");
            assert!(CLASS_SIZES[class] >= size);
            assert!(class == 0 || CLASS_SIZES[class - 1] < size);
        }
        assert_eq!(of_size(MAX_CLASS_SIZE + 1), None);
        assert_eq!(of_size(usize::MAX), None);
    }

    #[test]
    fn each_alignment_has_a_class_of_aligned_sizes() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048] {
            for size in (0..=MAX_CLASS_SIZE).step_by(7) {
                let layout = Layout::from_size_align(size, align).expect("small");
                let class = of_layout(layout).expect("a class");
                assert_eq!(of_usual(layout), (align <= 8).then_some(class));
                assert!(CLASS_SIZES[class] >= size);
                assert!(CLASS_SIZES[class].is_multiple_of(align.min(4096)), "{size} {align}");
            }
        }
        assert_eq!(of_layout(Layout::from_size_align(8, 4096).expect("small")), None);
    }

    #[test]
    fn rounding_up_wastes_less_than_a_quarter_from_forty_bytes_on() {
        for size in 40..=MAX_CLASS_SIZE {
            let class = CLASS_SIZES[of_size(size).expect("a class")];
            assert!((class - size) * 4 < class, "{size} in {class}");
        }
    }
}
