//! Frame numbers of a process: no two of its allocators use the same, so that each recognises the pages of
//! the others.

use core::sync::atomic::Ordering;

use pagemill::units::Pfn;
use pagemill_host::arena::DEFAULT_BASE_PFN;

use super::handles::NR_HANDLES;

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type AtomicBool = core::sync::atomic::AtomicBool;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type AtomicU64 = core::sync::atomic::AtomicU64;

/// The first frame of each range is a multiple of this many: 4 GiB, as in Rust by default.
const ALIGN: u64 = DEFAULT_BASE_PFN.value();
/// Frames of a part of the frame numbers: 64 TiB.
const PART: u64 = (Pfn::MAX.value() + 1) / NR_HANDLES as u64;
/// Most frames of an allocator: the first [`ALIGN`] of each part stay unused.
pub(super) const NR_FRAMES_MAX: u64 = PART - ALIGN;

static PARTS: [Part; NR_HANDLES] = [const { Part::new() }; NR_HANDLES];

/// A part of the frame numbers, for one allocator at a time.
struct Part {
    is_taken: AtomicBool,
    /// Offset behind the frames of the last allocator. The next one begins there, so that it does not accept
    /// pages of a destroyed one until the numbers of the part are used up.
    next: AtomicU64,
}

impl Part {
    const fn new() -> Self {
        Self { is_taken: AtomicBool::new(false), next: AtomicU64::new(ALIGN) }
    }
}

/// Frame numbers of one allocator; dropped after it.
pub(super) struct FrameRange {
    part: usize,
    pub(super) base: Pfn,
}

impl FrameRange {
    /// Takes `nr_frames` numbers, at most [`NR_FRAMES_MAX`]; `None` if there are [`NR_HANDLES`] ranges.
    // No lock: a child of fork could find it taken for ever.
    pub(super) fn take(nr_frames: u64) -> Option<Self> {
        debug_assert!(nr_frames <= NR_FRAMES_MAX, "{nr_frames} frames");
        // Acquire pairs with the Release in `drop`.
        let part = PARTS.iter().position(|part| !part.is_taken.swap(true, Ordering::Acquire))?;
        // Relaxed: only the taker of the part changes it, ordered by `is_taken`.
        let next = PARTS[part].next.load(Ordering::Relaxed);
        let start = if next + nr_frames <= PART { next } else { ALIGN };
        PARTS[part].next.store((start + nr_frames).next_multiple_of(ALIGN), Ordering::Relaxed);
        Some(Self { part, base: Pfn::new(part as u64 * PART + start) })
    }
}

impl Drop for FrameRange {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `take`.
        PARTS[self.part].is_taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The only test that takes ranges: others would take some of the 64 meanwhile.
    #[test]
    fn ranges_are_apart_and_numbers_return_last() {
        let sizes = [1, ALIGN, ALIGN + 1, NR_FRAMES_MAX];
        for round in 0..40 {
            let all: Vec<_> = (0..NR_HANDLES)
                .map(|at| {
                    (FrameRange::take(sizes[(at + round) % 4]).unwrap(), sizes[(at + round) % 4])
                })
                .collect();
            assert!(FrameRange::take(1).is_none());
            let mut bounds: Vec<_> = all
                .iter()
                .map(|(range, nr)| (range.base.value(), range.base.value() + nr))
                .collect();
            bounds.sort_unstable();
            assert!(bounds.windows(2).all(|two| two[0].1 <= two[1].0), "{bounds:x?}");
            assert!(bounds.iter().all(|range| range.0 >= ALIGN && range.0 % ALIGN == 0));
            assert!(bounds[NR_HANDLES - 1].1 <= Pfn::MAX.value() + 1);
        }
        let mut seen = Vec::new();
        for _ in 0..1000 {
            let base = FrameRange::take(100).unwrap().base;
            assert!(!seen.contains(&base), "{base}");
            seen.push(base);
        }
    }
}
