//! Bytes for the NFS server; also run by a plain test of `pagemill-nfs`, which includes this file.

extern crate alloc;

use alloc::sync::Arc;
use core::cell::RefCell;
use core::net::SocketAddr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use pagemill_host::{AllocatorConfig, ArenaConfig, SharedAllocator, allocator};
use pagemill_nfs::exports::{
    Access, ClientMatch, ClientRule, ExportOptions, ExportRule, Ports, parse_export_arg,
    parse_exports,
};
use pagemill_nfs::fh::FhKey;
use pagemill_nfs::vfs::{Actors, Caller, Vfs, VfsConfig};
use pagemill_nfs::{MOUNT_PROGRAM, MountProgram, NFS_PROGRAM, NfsConfig, NfsProgram, ReadPath};
use pagemill_rpc::buffer::{Refill, Rqst};
use pagemill_rpc::program::{Dispatcher, Peer, Transport, Verdict};
use pagemill_rpc::reply_cache::ReplyCacheLimits;
use pagemill_rpc::stats::RefillStats;
use pagemill_rpc::xdr::{XdrReader, XdrWrite};
use tempfile::TempDir;

/// A tree, and what serves it without a network.
struct Bench {
    dir: TempDir,
    dispatcher: Dispatcher<SharedAllocator>,
    rqst: Rqst<SharedAllocator>,
    stats: RefillStats,
    /// Handles that have been given out, the root's first.
    fhs: Vec<Vec<u8>>,
    nr_calls: u32,
}

/// How many calls a tree is used for before there is a new one.
const NR_CALLS: u32 = 2000;
/// The most handles that are remembered.
const NR_FHS: usize = 32;

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let export = dir.path().join("export");
        fs::create_dir_all(export.join("d")).expect("a directory in it");
        fs::write(export.join("f"), vec![7; 100_000]).expect("a file in it");
        fs::write(dir.path().join("outside"), "untouched").expect("a file beside it");
        symlink("..", export.join("l")).expect("a link in it");
        let key = FhKey::new([1; 16]);
        let config = VfsConfig { key, actors: Actors::Server, max_nr_files: 64, nr_threads: 0 };
        let vfs = Arc::new(Vfs::new(config).expect("/proc is there"));
        let options = ExportOptions {
            access: Access::ReadWrite,
            ports: Ports::Any,
            ..ExportOptions::default()
        };
        let clients = vec![ClientRule { client: ClientMatch::Any, options }];
        let rule = ExportRule { path: export.clone(), clients };
        vfs.set_exports(vec![rule]).expect("it can be exported");
        let caller = Caller { addr: addr(), claims: None };
        let root = vfs.mount(&export, &caller).expect("it can be mounted");
        let config = NfsConfig {
            max_payload_bytes: 32 << 10,
            read_path: ReadPath::File { min_bytes: 8 << 10 },
        };
        let arena = ArenaConfig::new(16 << 20);
        let frames = SharedAllocator::new(allocator(&AllocatorConfig::new(arena)).expect("16 MiB"));
        let limits = ReplyCacheLimits { max_entries: 16, max_bytes: 1 << 14 };
        let nfs = Arc::new(NfsProgram::new(Arc::clone(&vfs), config));
        Self {
            dir,
            dispatcher: Dispatcher::new(vec![nfs, Arc::new(MountProgram::new(vfs))], limits),
            rqst: Rqst::new(frames, 32 << 10),
            stats: RefillStats::default(),
            fhs: vec![root.as_bytes().to_vec()],
            nr_calls: 0,
        }
    }

    /// Carries out a call, and returns the results.
    fn call(&mut self, prog: u32, proc: u32, args: &[u8]) -> Option<Vec<u8>> {
        self.nr_calls += 1;
        let mut message = Vec::new();
        for word in [self.nr_calls, 0, 2, prog, 3, proc, 0, 0, 0, 0] {
            message.u32(word).expect("a vector grows");
        }
        message.extend_from_slice(args);
        message.truncate(self.rqst.max_call_bytes());
        assert!(self.rqst.alloc_arg(Refill::default(), &|| false, &self.stats));
        let mut rest = &message[..];
        for room in self.rqst.arg_pages().slices_mut(0, message.len()) {
            let (now, later) = rest.split_at(room.len());
            room.copy_from_slice(now);
            rest = later;
        }
        self.rqst.set_args_len(message.len());
        let peer = Peer { addr: addr(), transport: Transport::Tcp };
        let route = self.dispatcher.route(&mut self.rqst, &peer);
        if self.dispatcher.run(&mut self.rqst, &peer, &route) != Verdict::Reply {
            return None;
        }
        let head: Vec<u8> = self.rqst.reply().head().flatten().copied().collect();
        assert!(self.rqst.reply().len().is_multiple_of(4));
        assert_eq!(head[..4], message[..4], "the number is the call's");
        let accepted = head[4..24] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        accepted.then(|| head[24..].to_vec())
    }

    /// Remembers the handle that LOOKUP or a call that makes something answers with.
    fn learn(&mut self, proc: u32, results: &[u8]) {
        let mut results = XdrReader::new(results);
        let made = (8..=11).contains(&proc);
        if !(made || proc == 3) || results.u32() != Ok(0) || (made && results.bool() != Ok(true)) {
            return;
        }
        let fh = results.opaque(64).expect("a handle follows");
        let fh: Vec<u8> = fh.slices().flatten().copied().collect();
        if !self.fhs.contains(&fh) && self.fhs.len() < NR_FHS {
            self.fhs.push(fh);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let outside = fs::read(self.dir.path().join("outside")).expect("it is there still");
        assert_eq!(outside, b"untouched", "something outside of the export was changed");
        let beside = fs::read_dir(self.dir.path()).expect("it is there still").count();
        assert_eq!(beside, 2, "something was made outside of the export");
    }
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

fn addr() -> SocketAddr {
    ([127, 0, 0, 1], 999).into()
}

/// Calls a procedure. The first byte says which; then come the arguments, piece by piece: a byte
/// below 32 stands for one of the handles that are known, 32 to 47 for a name, 48 to 63 for a
/// word, each with what follows it; any other byte copies as many bytes as its lower half says.
pub fn nfs3_args(data: &[u8]) {
    let [proc, pieces @ ..] = data else { return };
    BENCH.with_borrow_mut(|bench| {
        if bench.as_ref().is_some_and(|bench| bench.nr_calls > NR_CALLS) {
            *bench = None;
        }
        let bench = bench.get_or_insert_with(Bench::new);
        let args = args(pieces, &bench.fhs);
        let (prog, proc) = match proc {
            0..=127 => (NFS_PROGRAM, u32::from(proc % 23)),
            _ => (MOUNT_PROGRAM, u32::from(proc % 7)),
        };
        if let Some(results) = bench.call(prog, proc, &args)
            && prog == NFS_PROGRAM
        {
            bench.learn(proc, &results);
        }
    });
}

fn args(mut pieces: &[u8], fhs: &[Vec<u8>]) -> Vec<u8> {
    const NAMES: [&[u8]; 8] = [b"f", b"d", b"l", b"..", b".", b"a", b"b", b"../outside"];
    let mut args = Vec::new();
    while let [kind, rest @ ..] = pieces {
        let low = usize::from(kind & 15);
        pieces = rest;
        let put = match kind {
            0..32 => args.opaque(&fhs[usize::from(*kind) % fhs.len()]),
            32..40 => args.opaque(NAMES[low & 7]),
            40..48 => args.opaque(&vec![b'n'; 1 << (low & 7) << 2]),
            48..56 => args.u32(u32::try_from(low & 7).expect("three bits")),
            56..64 => args.u32(u32::MAX >> (4 * (low & 7))),
            _ => {
                let (now, later) = rest.split_at(low.min(rest.len()));
                pieces = later;
                args.put(now)
            }
        };
        put.expect("a vector grows");
    }
    args
}

/// Reads exports from text, and from an argument: whatever is read can be asked about.
pub fn exports(data: &[u8]) {
    let client = [10, 0, 0, 1].into();
    let rules =
        core::str::from_utf8(data).ok().map(|text| parse_exports(text, ExportOptions::default()));
    for rule in rules.into_iter().flatten().flatten() {
        assert!(rule.path.is_absolute() && !rule.clients.is_empty());
        let _options = rule.options_for(client);
    }
    let text = std::ffi::OsStr::from_bytes(data);
    if let Ok(rule) = parse_export_arg(text, ExportOptions::default()) {
        assert!(!rule.path.as_os_str().is_empty() && !rule.clients.is_empty());
    }
}
