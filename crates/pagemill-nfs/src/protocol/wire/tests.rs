use pagemill_rpc::xdr::SliceWriter;

use super::*;
use crate::protocol::attr::FileKind;
use crate::protocol::fh::{ExportId, FhKey, FhParts, ObjectId, Stamp};

fn attr() -> Fattr {
    Fattr {
        kind: FileKind::Directory,
        mode: 0o1755,
        nlink: 3,
        uid: 4,
        gid: 5,
        size: 0x0102_0304_0506_0708,
        used: 9,
        rdev: (10, 11),
        fsid: 12,
        fileid: 13,
        atime: NfsTime { secs: 14, nsecs: 15 },
        mtime: NfsTime { secs: 16, nsecs: 17 },
        ctime: NfsTime { secs: 18, nsecs: 19 },
    }
}

const ATTR: [u32; 21] = [
    2,
    0o1755,
    3,
    4,
    5,
    0x0102_0304,
    0x0506_0708,
    0,
    9,
    10,
    11,
    0,
    12,
    0,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
];

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), XdrError>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

#[test]
fn attributes_are_84_bytes_in_the_order_of_the_rfc() {
    assert_eq!(written(|out| put_fattr(out, &attr())), bytes(&ATTR));
    assert_eq!(written(|out| put_post_op_attr(out, None)), bytes(&[0]));
    let some = [&[1], &ATTR[..]].concat();
    assert_eq!(written(|out| put_post_op_attr(out, Some(&attr()))), bytes(&some));
}

#[test]
fn changes_are_told_before_and_after() {
    let wcc = Wcc { before: Some(attr().wcc()), after: None };
    let words = [1, 0x0102_0304, 0x0506_0708, 16, 17, 18, 19, 0];
    assert_eq!(written(|out| put_wcc(out, &wcc)), bytes(&words));
    assert_eq!(written(|out| put_wcc(out, &Wcc::default())), bytes(&[0, 0]));
}

#[test]
fn handles_are_opaque_and_padded() {
    let object = ObjectId::new(0, 1, b"12345").unwrap();
    let parts = FhParts { export: ExportId(0x0a0b_0c0d), stamp: Stamp(0x0e0f_1011), object };
    let fh = Fh::new(&FhKey::new([0; 16]), &parts);
    let out = written(|out| put_fh(out, &fh));
    assert_eq!(out.len(), 4 + 25 + 3);
    assert_eq!(out[..4], [0, 0, 0, 25]);
    assert_eq!(out[4..12], [2, 0, 1, 5, 0x0a, 0x0b, 0x0c, 0x0d]);
    assert_eq!(out[12..21], [0x0e, 0x0f, 0x10, 0x11, b'1', b'2', b'3', b'4', b'5']);
    assert_eq!(out[29..], [0; 3]);
    assert_eq!(written(|out| put_post_op_fh(out, None)), bytes(&[0]));
    let raw = RawFh::read(&mut XdrReader::new(&out)).unwrap();
    assert_eq!(raw.as_bytes(), fh.as_bytes());
}

#[test]
fn what_is_to_be_set_is_read_in_every_combination() {
    for mask in 0..64_u32 {
        let has = |bit: u32| mask >> bit & 1;
        let mut words = Vec::new();
        for (bit, value) in [(0, 0o644), (1, 7), (2, 8)] {
            words.push(has(bit));
            if has(bit) == 1 {
                words.push(value);
            }
        }
        words.push(has(3));
        words.extend([1, 2].iter().filter(|_| has(3) == 1));
        for bit in [4, 5] {
            words.push(2 * has(bit));
            words.extend([bit, 9].iter().filter(|_| has(bit) == 1));
        }
        let xdr = bytes(&words);
        let mut reader = XdrReader::new(&xdr);
        let sattr = read_sattr(&mut reader).unwrap();
        assert!(reader.is_empty());
        assert_eq!(sattr.mode, (has(0) == 1).then_some(0o644));
        assert_eq!(sattr.uid, (has(1) == 1).then_some(7));
        assert_eq!(sattr.gid, (has(2) == 1).then_some(8));
        assert_eq!(sattr.size, (has(3) == 1).then_some(0x1_0000_0002));
        let time = |bit| match has(bit) {
            0 => SetTime::Keep,
            _ => SetTime::To(NfsTime { secs: bit, nsecs: 9 }),
        };
        assert_eq!((sattr.atime, sattr.mtime), (time(4), time(5)));
        for cut in (0..xdr.len()).step_by(4) {
            assert!(read_sattr(&mut XdrReader::new(&xdr[..cut])).is_err());
        }
    }
}

#[test]
fn targets_of_links_have_a_length_and_no_zero_bytes() {
    let read = |target: &[u8]| {
        let xdr = written(|out| out.opaque(target));
        read_path(&mut XdrReader::new(&xdr)).unwrap()
    };
    assert_eq!(read(b"../x"), Ok(b"../x".to_vec()));
    assert_eq!(read(&[b'x'; 4095]).unwrap().len(), 4095);
    assert_eq!(read(&[b'x'; 4096]), Err(NfsStatus::Nametoolong));
    assert_eq!(read(b""), Err(NfsStatus::Inval));
    assert_eq!(read(b"a\0b"), Err(NfsStatus::Inval));
}

#[test]
fn a_writer_without_room_says_so() {
    for len in 0..84 {
        let mut room = vec![0; len];
        assert_eq!(put_fattr(&mut SliceWriter::new(&mut room), &attr()), Err(XdrError::NoRoom));
    }
}

#[test]
fn a_choice_that_does_not_exist_is_named_with_its_value() {
    let words = [0_u32, 0, 0, 0, 7, 0].map(u32::to_be_bytes).concat();
    let error = read_sattr(&mut XdrReader::new(&words)).unwrap_err();
    assert_eq!(error.to_string(), "time_how is 7; it must be 0, 1 or 2");
}
