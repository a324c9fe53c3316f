//! Bytes for the RPC core; also run by a plain test of `pagemill-rpc`, which includes this file.

extern crate alloc;

use alloc::sync::Arc;
use core::cell::RefCell;
use core::net::SocketAddr;

use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_rpc::buffer::{Frames, Refill, Rqst};
use pagemill_rpc::program::{
    Blocking, Data, Dispatcher, Peer, Procedure, Replies, Transport, Verdict, Version,
};
use pagemill_rpc::record::{Expect, RecordReader};
use pagemill_rpc::reply_cache::ReplyCacheLimits;
use pagemill_rpc::stats::RefillStats;
use pagemill_rpc::xdr::{Chunks, XdrError, XdrReader, XdrWrite};
use pagemill_rpc::{Call, CallError, Program};

struct Pieces<'a>(&'a [u8], usize);

impl Chunks for Pieces<'_> {
    fn chunk(&self, index: usize) -> Option<&[u8]> {
        self.0.chunks(self.1).nth(index)
    }
}

/// Reads the same values from bytes in one piece and in many: the results must not differ.
pub fn xdr(data: &[u8]) {
    let [size, nr_operations, rest @ ..] = data else { return };
    let (operations, bytes) = rest.split_at(rest.len().min(usize::from(*nr_operations)));
    let pieces = Pieces(bytes, usize::from(*size).max(1));
    let mut whole = XdrReader::new(bytes);
    let mut cut = XdrReader::over(&pieces, bytes.len());
    for &operation in operations {
        let (one, two) = (step(&mut whole, operation), step(&mut cut, operation));
        assert_eq!(one, two);
        assert_eq!(whole.remaining(), cut.remaining());
        assert!(whole.remaining() <= bytes.len());
        if one.is_err() {
            break;
        }
    }
}

fn step(reader: &mut XdrReader<'_>, operation: u8) -> Result<Vec<u8>, XdrError> {
    let max = usize::from(operation >> 3);
    Ok(match operation & 7 {
        0 => reader.u32()?.to_be_bytes().to_vec(),
        1 => reader.u64()?.to_be_bytes().to_vec(),
        2 => vec![u8::from(reader.bool()?)],
        3 => reader.opaque(max)?.slices().flatten().copied().collect(),
        4 => reader.opaque_into(&mut vec![0; max])?.to_vec(),
        5 => reader.fixed_bytes(max)?.slices().flatten().copied().collect(),
        6 => reader.skip(max).map(|()| Vec::new())?,
        _ => reader.opaque(usize::MAX)?.len().to_be_bytes().to_vec(),
    })
}

/// Reads records from a stream that comes in pieces: they are the same however it is cut.
pub fn record_marking(data: &[u8]) {
    let [size, stream @ ..] = data else { return };
    let cut = records(stream, usize::from(*size).max(1));
    assert_eq!(records(stream, usize::MAX), cut);
}

/// Returns the records of a stream, and whether it can be read to its end.
fn records(stream: &[u8], size: usize) -> (Vec<Vec<u8>>, bool) {
    const MAX: usize = 1000;
    let mut reader = RecordReader::new(MAX);
    let (mut records, mut record) = (Vec::new(), Vec::new());
    for mut piece in stream.chunks(size) {
        loop {
            match reader.expect() {
                Expect::Nothing => {
                    records.push(core::mem::take(&mut record));
                    reader.restart();
                }
                _ if piece.is_empty() => break,
                Expect::Mark(_) => match reader.take_mark(piece) {
                    Ok(nr) => piece = &piece[nr..],
                    Err(_) => return (records, false),
                },
                Expect::Data(left) => {
                    let (now, later) = piece.split_at(left.min(piece.len()));
                    record.extend_from_slice(now);
                    assert!(record.len() <= MAX);
                    reader.take_data(now.len());
                    piece = later;
                }
                _ => unreachable!("a mark, data or nothing"),
            }
        }
    }
    (records, true)
}

struct Everything;

impl<S: Frames> Program<S> for Everything {
    fn number(&self) -> u32 {
        0
    }

    fn name(&self) -> &'static str {
        "everything"
    }

    fn versions(&self) -> &'static [Version] {
        const fn procedure(name: &'static str, replies: Replies) -> Procedure {
            Procedure { name, blocking: Blocking::No, replies, data: Data::InPages }
        }
        const PROCEDURES: &[Procedure] = &[
            procedure("NULL", Replies::Forgotten),
            procedure("ECHO", Replies::Kept),
            procedure("BODY", Replies::Forgotten),
            procedure("LONG", Replies::Kept),
        ];
        &[Version { number: 0, procedures: &[] }, Version { number: 1, procedures: PROCEDURES }]
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        match call.header.proc {
            1 => {
                let mut room = [0; 400];
                let bytes = call.args.opaque_into(&mut room)?;
                call.reply.opaque(bytes)?;
            }
            2 => {
                let len = call.args.length(usize::MAX)?;
                let at = call.reply.mark();
                call.reply.u32(0)?;
                let filled =
                    call.reply.read_body(len, |room| Ok(room.iter().map(|r| r.len()).sum()));
                let filled = filled.map_err(|_| CallError::SystemErr)?;
                call.reply.patch_u32(at, u32::try_from(filled).unwrap_or(u32::MAX))?;
            }
            _ => {
                call.reply.limit_to(call.args.length(usize::MAX)?);
                loop {
                    call.reply.u64(7)?;
                }
            }
        }
        Ok(())
    }
}

/// A dispatcher, and a request with pages.
struct Bench {
    dispatcher: Dispatcher<SharedAllocator>,
    rqst: Rqst<SharedAllocator>,
    stats: RefillStats,
}

impl Bench {
    fn new() -> Self {
        let arena = ArenaConfig::new(16 << 20);
        let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).expect("16 MiB"));
        let limits = ReplyCacheLimits { max_entries: 64, max_bytes: 1 << 16 };
        Self {
            dispatcher: Dispatcher::new(vec![Arc::new(Everything)], limits),
            rqst: Rqst::new(frames, 16 << 10),
            stats: RefillStats::default(),
        }
    }
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

/// Carries out a message: whatever it says, there is a reply in proper form, or none.
pub fn rpc_call(data: &[u8]) {
    BENCH.with_borrow_mut(|Bench { dispatcher, rqst, stats }| {
        assert!(rqst.alloc_arg(Refill::default(), &|| false, stats));
        let data = &data[..data.len().min(rqst.max_call_bytes())];
        let mut rest = data;
        for room in rqst.arg_pages().slices_mut(0, data.len()) {
            let (now, later) = rest.split_at(room.len());
            room.copy_from_slice(now);
            rest = later;
        }
        rqst.set_args_len(data.len());
        let addr: SocketAddr = ([127, 0, 0, 1], 1).into();
        let peer = Peer { addr, transport: Transport::Tcp };
        let route = dispatcher.route(rqst, &peer);
        let verdict = dispatcher.run(rqst, &peer, &route);
        if verdict == Verdict::Reply {
            let head: Vec<u8> = rqst.reply().head().flatten().copied().collect();
            assert_eq!(head[..4], data[..4], "the number is the call's");
            assert_eq!(head[4..8], [0, 0, 0, 1], "it is a reply");
            assert!(rqst.reply().len() >= 20 && rqst.reply().len().is_multiple_of(4));
        }
    });
}
