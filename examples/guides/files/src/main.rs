//! Serves a directory by NFS, and beside it a small RPC program that reports the server's free pages.
//!
//! Arguments: the directory, a file for the server's secret, and optionally an address to listen on.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use std::{env, fs, io, thread};

use pagemill_host::{HostAllocator, SharedAllocator};
use pagemill_nfs::exports::{Access, ClientMatch, ClientRule, ExportOptions, ExportRule, Ports};
use pagemill_nfs::fh::FhKey;
use pagemill_nfs::vfs::{Actors, Vfs, VfsConfig};
use pagemill_nfs::{MountProgram, NfsConfig, NfsProgram};
use pagemill_rpc::program::{Procedure, Version};
use pagemill_rpc::xdr::XdrWrite;
use pagemill_rpc::{Call, CallError, Listener, Program, Server, ServerConfig};

/// Enough for [`ServerConfig::default`]; a server with too little says how many pages it needs.
const ARENA_BYTES: u64 = 128 << 20;

/// An RPC program of our own. Its number is from the range that is free for local use.
struct Status {
    frames: SharedAllocator,
}

/// By number; the server itself answers number 0. `quick`: it does not block, and may be repeated.
const PROCEDURES: &[Procedure] = &[Procedure::quick("NULL"), Procedure::quick("FREE_PAGES")];

impl Program<SharedAllocator> for Status {
    fn number(&self) -> u32 {
        0x2000_0000
    }

    fn name(&self) -> &'static str {
        "status"
    }

    fn versions(&self) -> &'static [Version] {
        &[Version { number: 1, procedures: PROCEDURES }]
    }

    fn call(&self, call: &mut Call<'_, SharedAllocator>) -> Result<(), CallError> {
        call.reply.u64(self.frames.nr_free_pages())?;
        Ok(())
    }
}

/// Exports `dir` to every client that reaches the port, on any of its ports, for reading and writing.
fn export(dir: &Path, key_file: &Path, nr_threads: usize) -> Result<Arc<Vfs>, Box<dyn Error>> {
    // Handles survive a restart as long as the secret stays.
    let key = FhKey::load_or_create(key_file)?;
    // As root, the server acts as the user that each call names; otherwise as its own user.
    let actors = Actors::detect();
    let vfs = Vfs::new(VfsConfig { key, actors, max_nr_files: 256, nr_threads })?;
    let options =
        ExportOptions { access: Access::ReadWrite, ports: Ports::Any, ..ExportOptions::default() };
    let clients = vec![ClientRule { client: ClientMatch::Any, options }];
    vfs.set_exports(vec![ExportRule { path: dir.to_owned(), clients }])?;
    Ok(Arc::new(vfs))
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, dir, key_file, rest @ ..] = &args[..] else {
        return Err("usage: guide-files DIRECTORY KEY-FILE [ADDRESS:PORT]".into());
    };
    let dir = fs::canonicalize(dir)?;
    let listener = TcpListener::bind(rest.first().map_or("127.0.0.1:20490", String::as_str))?;

    let config = ServerConfig::default();
    let vfs = export(&dir, key_file.as_ref(), config.nr_threads)?;
    // From here on, files get the modes that clients ask for.
    rustix::process::umask(rustix::fs::Mode::empty());
    let frames = SharedAllocator::new(HostAllocator::new(ARENA_BYTES)?);
    let nr_pages = frames.nr_free_pages();
    let programs: Vec<Arc<dyn Program<SharedAllocator>>> = vec![
        Arc::new(NfsProgram::new(Arc::clone(&vfs), NfsConfig::default())),
        Arc::new(MountProgram::new(Arc::clone(&vfs))),
        Arc::new(Status { frames: frames.clone() }),
    ];
    let server = Server::start(config, frames.clone(), programs, vec![Listener::Tcp(listener)])?;
    let address = server.addrs()[0];
    let port = address.port();
    println!(
        "mount -t nfs -o vers=3,proto=tcp,port={port},mountproto=tcp,mountport={port},nolock \
         {}:{} /mnt",
        address.ip(),
        dir.display()
    );

    // Serves until the standard input ends.
    let (ended, end) = channel();
    thread::spawn(move || ended.send(io::stdin().read_to_end(&mut Vec::new())));
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(Duration::from_secs(1)) {
        vfs.sweep(); // closes files that were not used for a while
    }
    let in_time = server.stop(Duration::from_secs(5));
    println!("stopped; all replies sent: {in_time}");
    drop(server);
    assert_eq!(frames.nr_free_pages(), nr_pages);
    println!("all {nr_pages} pages are free again");
    Ok(())
}
