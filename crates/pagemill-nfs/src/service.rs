//! Service: the state that all NFS procedures share; resolves a call's file handles and its caller, and
//! decides whether READ is sent from the file.

use alloc::sync::Arc;
use std::os::fd::OwnedFd;

use pagemill_rpc::Call;
use pagemill_rpc::auth::Credential;
use pagemill_rpc::buffer::Frames;
use pagemill_rpc::program::Transport;
use rustix::fs::{Mode, OFlags, open, sendfile};
use rustix::io::retry_on_intr;

use crate::protocol::status::NfsResult;
use crate::protocol::wire::RawFh;
use crate::vfs::{Caller, DataRange, Export, Object, Turn, Vfs};

/// Maximum number of data bytes in a datagram: with the headers, it must fit into 64 KiB.
const MAX_DATAGRAM_PAYLOAD_BYTES: usize = 32 << 10;

/// How data of READ leaves the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the ways that a reply has")]
pub enum ReadPath {
    /// Read into the reply's pages.
    Pages,
    /// From the file to the network, from this many bytes on. Shorter data is read into pages, and so
    /// is a range that the file turns out not to have, so that the reply can say so.
    File {
        /// Minimum number of bytes for which a separate system call is worth its cost.
        min_bytes: usize,
    },
}

/// Configuration of the NFS service.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct NfsConfig {
    /// Maximum number of data bytes in a call or a reply.
    pub max_payload_bytes: usize,
    /// How data of READ leaves the server.
    pub read_path: ReadPath,
}

impl Default for NfsConfig {
    /// Requests up to 1 MiB; data goes from the file to the network if that is cheaper.
    fn default() -> Self {
        Self { max_payload_bytes: 1 << 20, read_path: ReadPath::File { min_bytes: 16 << 10 } }
    }
}

/// The shared state of the procedures.
#[derive(Debug)]
pub(crate) struct Service {
    /// The trees.
    pub(crate) vfs: Arc<Vfs>,
    /// The configuration.
    pub(crate) config: NfsConfig,
    /// A destination for data that only needs to be read into memory; without it, all data goes through
    /// pages.
    sink: Option<OwnedFd>,
}

impl Service {
    pub(crate) fn new(vfs: Arc<Vfs>, config: NfsConfig) -> Self {
        let sink = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        if let Err(error) = &sink {
            tracing::warn!(%error, "cannot open /dev/null: READ copies all data");
        }
        Self { vfs, config, sink: sink.ok() }
    }

    /// Returns whether a range of an export's file may be sent directly from the file, after the call.
    ///
    /// The worker thread then reads the file outside of the call's [`Turn`]. It must not wait there for
    /// a process or a machine that serves the file system, because no limit counts such threads.
    pub(crate) fn may_send_file(&self, export: &Export, range: &DataRange) -> bool {
        let ReadPath::File { min_bytes } = self.config.read_path else { return false };
        range.len >= min_bytes
            && export.is_local()
            // Data that exists only in memory need not be fetched.
            && (export.is_volatile() || self.fetch(range))
    }

    /// Reads all bytes of a range into memory; returns false if the file or the disk does not have them
    /// all.
    ///
    /// The thread waits for the disk here, within the call's turn. So the server learns of a disk error
    /// before the reply announces the data.
    ///
    /// # Cost
    /// One system call, which takes and drops a reference to each page without reading any byte.
    fn fetch(&self, range: &DataRange) -> bool {
        let Some(sink) = &self.sink else { return false };
        let mut offset = range.offset;
        retry_on_intr(|| sendfile(sink, &*range.file, Some(&mut offset), range.len))
            == Ok(range.len)
    }

    /// Resolves the first handle of a call to a file.
    pub(crate) fn resolve<S: Frames>(&self, call: &Call<'_, S>, fh: &RawFh) -> NfsResult<Object> {
        let object = self.vfs.resolve(fh.as_bytes(), &caller_of(call))?;
        object.export.stats().calls.add(1);
        Ok(object)
    }

    /// Resolves the second handle of a call to a file.
    pub(crate) fn resolve_beside<S: Frames>(
        &self,
        call: &Call<'_, S>,
        first: &Object,
        fh: &RawFh,
    ) -> NfsResult<Object> {
        self.vfs.resolve_beside(first, fh.as_bytes(), &caller_of(call))
    }

    /// Admits this thread to the export of a call: all arguments except those of NULL begin with a
    /// handle. Returns `None` for a call without an export.
    ///
    /// # Errors
    /// [`Jukebox`](crate::types::NfsStatus::Jukebox) if the export's file system does not respond.
    pub(crate) fn enter<S: Frames>(&self, call: &Call<'_, S>) -> NfsResult<Option<Turn<'_>>> {
        if call.header.proc == 0 {
            return Ok(None);
        }
        // A copy, to look ahead.
        let mut args = call.args;
        match RawFh::read(&mut args) {
            Ok(fh) => self.vfs.enter(fh.as_bytes(), call.peer.addr.ip()),
            Err(_garbage) => Ok(None),
        }
    }

    /// Returns the maximum number of data bytes in the call or its reply.
    pub(crate) fn max_payload_bytes<S: Frames>(&self, call: &Call<'_, S>) -> usize {
        match call.peer.transport {
            Transport::Tcp => self.config.max_payload_bytes,
            Transport::Udp => self.config.max_payload_bytes.min(MAX_DATAGRAM_PAYLOAD_BYTES),
        }
    }
}

/// Returns the caller of a call.
pub(crate) fn caller_of<'a, S: Frames>(call: &'a Call<'_, S>) -> Caller<'a> {
    let claims = match &call.cred {
        Credential::Sys(sys) => Some((sys.uid, sys.gid, sys.gids())),
        _ => None,
    };
    Caller { addr: call.peer.addr, claims }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustix::fs::fstatfs;

    use super::*;
    use crate::exports::ExportRule;
    use crate::protocol::fh::FhKey;
    use crate::vfs::{Actors, VfsConfig};

    const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

    fn may_send_from(dir: &str) -> bool {
        let config = VfsConfig {
            key: FhKey::new([7; 16]),
            actors: Actors::Server,
            max_nr_files: 1,
            nr_threads: 0,
        };
        let vfs = Arc::new(Vfs::new(config).unwrap());
        let rule = ExportRule { path: PathBuf::from(dir), clients: Vec::new() };
        vfs.set_exports(vec![rule]).unwrap();
        let export = vfs.exports().iter().next().unwrap().clone();
        let read_path = ReadPath::File { min_bytes: 0 };
        let service = Service::new(vfs, NfsConfig { read_path, ..NfsConfig::default() });
        let file = open("/dev/zero", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let range = DataRange { file: Arc::new(file), offset: 0, len: 0, eof: true };
        service.may_send_file(&export, &range)
    }

    #[test]
    fn only_files_that_the_kernel_alone_serves_are_read_outside_a_turn() {
        assert!(!may_send_from("/proc"), "a type that is not listed");
        let shm = open("/dev/shm", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        if shm.is_ok_and(|shm| fstatfs(shm).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC)) {
            assert!(may_send_from("/dev/shm"));
        }
    }
}
