//! What is written into pages, so that nobody can have written into them since.

use crate::frames::Frame;

/// Bytes from one mark to the next: a cache line, so that every line of a page is marked.
const STEP: usize = 64;

/// Marks a page as its owner's.
pub(crate) fn mark(page: &mut Frame, owner: u64) {
    let seed = seed(page, owner);
    for (line, index) in page.as_bytes_mut().chunks_exact_mut(STEP).zip(0..) {
        line[..8].copy_from_slice(&(seed ^ index).to_ne_bytes());
    }
}

/// Checks that a page holds what [`mark`] wrote.
pub(crate) fn check(page: &Frame, owner: u64) {
    let seed = seed(page, owner);
    for (line, index) in page.as_bytes().chunks_exact(STEP).zip(0..) {
        let expected: u64 = seed ^ index;
        assert!(line[..8] == expected.to_ne_bytes(), "{page:?} of {owner:#x} was overwritten");
    }
}

fn seed(page: &Frame, owner: u64) -> u64 {
    page.pfn().value().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ owner << 32
}
