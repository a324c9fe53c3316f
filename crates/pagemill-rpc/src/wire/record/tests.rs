//! The reader against a naive one that has the whole stream before it.

#![expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "the numbers are small"
)]

use super::*;

/// Cuts a stream into records the slow way; an error ends it.
fn naive(mut stream: &[u8], max: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let (mut nr, mut nr_empty) = (0, 0);
    while stream.len() >= 4 {
        let mark = u32::from_be_bytes(stream[..4].try_into().unwrap());
        let len = (mark & 0x7fff_ffff) as usize;
        nr += 1;
        nr_empty += u32::from(len == 0);
        if record.len() + len > max || nr > MAX_NR_FRAGMENTS || nr_empty > MAX_NR_EMPTY_FRAGMENTS {
            return (records, true);
        }
        stream = &stream[4..];
        let here = len.min(stream.len());
        record.extend_from_slice(&stream[..here]);
        stream = &stream[here..];
        if here < len {
            break;
        }
        if mark & 0x8000_0000 != 0 {
            records.push(core::mem::take(&mut record));
            (nr, nr_empty) = (0, 0);
        }
    }
    (records, false)
}

/// Feeds the reader `step` bytes at a time.
fn read(stream: &[u8], max: usize, mut step: impl FnMut() -> usize) -> (Vec<Vec<u8>>, bool) {
    let (mut records, mut record) = (Vec::new(), Vec::new());
    let mut reader = RecordReader::new(max);
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut now, later) = rest.split_at(step().clamp(1, rest.len()));
        rest = later;
        loop {
            match reader.expect() {
                Expect::Nothing => {
                    assert_eq!(reader.len(), record.len());
                    records.push(core::mem::take(&mut record));
                    reader.restart();
                    assert!(reader.is_idle());
                }
                Expect::Mark(_) | Expect::Data(_) if now.is_empty() => break,
                Expect::Mark(_) => match reader.take_mark(now) {
                    Ok(nr) => now = &now[nr..],
                    Err(_) => return (records, true),
                },
                Expect::Data(left) => {
                    let nr = left.min(now.len());
                    record.extend_from_slice(&now[..nr]);
                    reader.take_data(nr);
                    now = &now[nr..];
                }
            }
        }
    }
    (records, false)
}

#[test]
fn records_are_those_of_the_naive_reader() {
    for seed in 1..400_u64 {
        let mut state = seed;
        let mut next = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let mut stream = Vec::new();
        for _ in 0..1 + next(12) {
            let len = match next(8) {
                0 => 0,
                1 => next(300),
                2 => 0x7fff_ffff - next(3),
                _ => next(20),
            };
            let mark = len as u32 | if next(2) == 0 { 0x8000_0000 } else { 0 };
            stream.extend(mark.to_be_bytes());
            stream.extend((0..len.min(300)).map(|byte| byte as u8));
        }
        let wanted = naive(&stream, 250);
        assert_eq!(read(&stream, 250, || 1), wanted, "seed {seed}, byte by byte");
        assert_eq!(read(&stream, 250, || usize::MAX), wanted, "seed {seed}, at once");
        assert_eq!(read(&stream, 250, || next(9) as usize), wanted, "seed {seed}");
    }
}

#[test]
fn fragments_are_bounded_in_number() {
    let empty = vec![0; 4 * MAX_NR_EMPTY_FRAGMENTS as usize];
    let last = mark_of(0);
    assert_eq!(read(&empty, 9, || 64), (vec![], false));
    assert_eq!(read(&[&empty[..], &last].concat(), 9, || 64), (vec![], true));
    assert_eq!(read(&[&empty[4..], &last].concat(), 9, || 64), (vec![vec![]], false));
    let ones = [0, 0, 0, 1, 9].repeat(MAX_NR_FRAGMENTS as usize + 1);
    assert_eq!(read(&ones, 1 << 20, || 999), (vec![], true));
}

#[test]
fn a_record_may_have_its_limit_and_no_more() {
    assert_eq!(read(&[&mark_of(3)[..], b"abc"].concat(), 3, || 2), (vec![b"abc".to_vec()], false));
    let mut reader = RecordReader::new(3);
    assert_eq!(reader.take_mark(&mark_of(4)), Err(RecordError::TooLong { len: 4, max: 3 }));
    assert_eq!(mark_of(MAX_FRAGMENT_BYTES), [0xff; 4]);
}
