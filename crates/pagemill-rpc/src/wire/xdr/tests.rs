//! Every length word at its limits; every way to cut bytes into pieces reads the same.

use super::*;

/// Pieces of any lengths.
struct Pieces(Vec<Vec<u8>>);

impl Chunks for Pieces {
    fn chunk(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index).map(Vec::as_slice)
    }
}

fn message() -> Vec<u8> {
    let mut xdr = Vec::new();
    xdr.u32(7).unwrap();
    xdr.u64(1 << 40).unwrap();
    xdr.bool(true).unwrap();
    xdr.opaque(b"hello").unwrap();
    xdr.opaque(b"").unwrap();
    xdr.fixed_bytes(b"abcdef").unwrap();
    xdr.u32(u32::MAX).unwrap();
    xdr
}

fn read_message(mut reader: XdrReader<'_>) -> Result<(), XdrError> {
    let mut room = [0; 8];
    assert_eq!(reader.u32()?, 7);
    assert_eq!(reader.u64()?, 1 << 40);
    assert!(reader.bool()?);
    assert_eq!(reader.opaque_into(&mut room)?, b"hello");
    assert!(reader.opaque(0)?.is_empty());
    let bytes = reader.fixed_bytes(6)?;
    let pieces: Vec<u8> = bytes.slices().flatten().copied().collect();
    assert_eq!(pieces, b"abcdef");
    assert_eq!(bytes.copy_to(&mut room).unwrap(), b"abcdef");
    assert_eq!(reader.i32()?, -1);
    assert!(reader.is_empty());
    Ok(())
}

#[test]
fn every_cut_into_two_and_into_bytes_reads_the_same() {
    let xdr = message();
    assert_eq!(read_message(XdrReader::new(&xdr)), Ok(()));
    for at in 0..=xdr.len() {
        let pieces = Pieces(vec![xdr[..at].to_vec(), Vec::new(), xdr[at..].to_vec()]);
        assert_eq!(read_message(XdrReader::over(&pieces, xdr.len())), Ok(()), "cut at {at}");
    }
    let bytes = Pieces(xdr.iter().map(|&byte| vec![byte]).collect());
    assert_eq!(read_message(XdrReader::over(&bytes, xdr.len())), Ok(()));
}

#[test]
fn every_truncation_is_told() {
    let xdr = message();
    for len in 0..xdr.len() {
        assert_eq!(read_message(XdrReader::new(&xdr[..len])), Err(XdrError::Truncated), "{len}");
        // Pieces that hold less than they are said to hold are no different.
        let pieces = Pieces(vec![xdr[..len].to_vec()]);
        assert!(read_message(XdrReader::over(&pieces, xdr.len())).is_err(), "{len}");
    }
}

#[test]
fn lengths_are_compared_with_their_limits() {
    let with = |len: u32, data: usize| [&len.to_be_bytes()[..], &vec![1; data]].concat();
    for (len, data, max, wanted) in [
        (0, 0, 0, Ok(0)),
        (1, 4, 1, Ok(1)),
        (4, 4, 4, Ok(4)),
        (2, 4, 1, Err(XdrError::TooLong { len: 2, max: 1 })),
        (u32::MAX, 8, 400, Err(XdrError::TooLong { len: u32::MAX, max: 400 })),
        (u32::MAX, 8, usize::MAX, Err(XdrError::Truncated)),
        (u32::MAX - 3, 8, usize::MAX, Err(XdrError::Truncated)),
        (0x8000_0000, 8, usize::MAX, Err(XdrError::Truncated)),
        (5, 4, 8, Err(XdrError::Truncated)),
        // The padding is part of the value.
        (5, 5, 8, Err(XdrError::Truncated)),
        (5, 8, 8, Ok(5)),
    ] {
        let bytes = with(len, data);
        let got = XdrReader::new(&bytes).opaque(max).map(|bytes| bytes.len());
        assert_eq!(got, wanted, "length {len}, {data} bytes, at most {max}");
    }
    assert_eq!(XdrReader::new(&[]).fixed_bytes(usize::MAX).err(), Some(XdrError::Truncated));
    let mut short = [0; 2];
    let text = with(3, 4);
    let error = XdrReader::new(&text).opaque_into(&mut short).unwrap_err();
    assert_eq!(error, XdrError::TooLong { len: 3, max: 2 });
}

#[test]
fn a_truth_value_is_zero_or_one() {
    assert_eq!(XdrReader::new(&[0, 0, 0, 0]).bool(), Ok(false));
    assert_eq!(XdrReader::new(&[0, 0, 0, 2]).bool(), Err(XdrError::BadBool { value: 2 }));
}

#[test]
fn a_failed_skip_passes_over_nothing() {
    let mut reader = XdrReader::new(&[0; 8]);
    assert_eq!(reader.skip(9), Err(XdrError::Truncated));
    assert_eq!(reader.remaining(), 8);
    assert_eq!(reader.skip(8), Ok(()));
}

#[test]
fn a_slice_takes_what_fits() {
    let mut room = [0; 10];
    let mut writer = SliceWriter::new(&mut room);
    assert!(writer.is_empty());
    writer.opaque(b"ab").unwrap();
    assert_eq!(writer.u32(1), Err(XdrError::NoRoom));
    assert_eq!(writer.len(), 8);
    writer.put(&[9, 9]).unwrap();
    assert_eq!(room, [0, 0, 0, 2, b'a', b'b', 0, 0, 9, 9]);
}
