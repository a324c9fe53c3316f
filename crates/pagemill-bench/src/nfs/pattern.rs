//! Pattern of file contents: every word encodes its offset, so that misplaced data is detected.

use core::ops::Range;

use anyhow::ensure;

/// Bytes of a word of the pattern.
const WORD: usize = 8;

/// Fills `bytes` with the pattern from `offset` on, both multiples of eight.
pub fn fill(offset: u64, bytes: &mut [u8]) {
    for (word, at) in bytes.chunks_exact_mut(WORD).zip(0..) {
        word.copy_from_slice(&value(offset + at * WORD as u64));
    }
}

/// Checks that `bytes` are the pattern from `offset` on.
///
/// # Errors
/// One that names the first difference.
pub fn check(offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
    for (word, at) in bytes.chunks_exact(WORD).zip(0..) {
        let place = offset + at * WORD as u64;
        let wanted = value(place);
        ensure!(word == wanted, "at offset {place} the file has {word:02x?} and not {wanted:02x?}");
    }
    Ok(())
}

/// Returns the blocks of `size` in a file of `len` bytes, in order.
pub fn blocks(len: u64, size: usize) -> impl Iterator<Item = Range<u64>> {
    let size = size as u64;
    (0..len / size).map(move |block| block * size..(block + 1) * size)
}

/// Returns the word at `place`: a mix of its bits, so that adjacent words look different.
fn value(place: u64) -> [u8; WORD] {
    let mut mixed = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_at_another_place_is_noticed() {
        let mut bytes = vec![0; 4096];
        fill(8192, &mut bytes);
        check(8192, &bytes).unwrap();
        assert!(check(4096, &bytes).is_err());
        bytes[4088] ^= 1;
        assert!(check(8192, &bytes).unwrap_err().to_string().contains("at offset 12280"));
    }

    #[test]
    fn blocks_cover_a_file() {
        assert_eq!(blocks(12, 4).collect::<Vec<_>>(), [0..4, 4..8, 8..12]);
    }
}
