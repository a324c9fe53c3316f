//! NFS program, version 3, for an RPC server.

use alloc::sync::Arc;
use core::net::IpAddr;

use pagemill_rpc::buffer::Frames;
use pagemill_rpc::program::Version;
use pagemill_rpc::stats::Counter;
use pagemill_rpc::{Call, CallError, Program};
use tracing::debug;

use crate::proc::{NFS_V3, carry_out};
use crate::protocol::status::NfsStatus;
use crate::service::{NfsConfig, Service};
use crate::vfs::Vfs;

/// The program's number.
pub const NFS_PROGRAM: u32 = 100_003;

/// Number of procedures, including NULL.
pub const NR_PROCEDURES: usize = 22;

/// The NFS program over exported trees.
#[derive(Debug)]
pub struct NfsProgram {
    service: Service,
    /// Calls that ended with an error status, by procedure and status.
    refused: [[Counter; NfsStatus::ALL.len()]; NR_PROCEDURES],
}

impl NfsProgram {
    /// Makes a program that serves `vfs`.
    #[must_use]
    pub fn new(vfs: Arc<Vfs>, config: NfsConfig) -> Self {
        Self { service: Service::new(vfs, config), refused: Default::default() }
    }

    /// Returns, for each procedure, how many calls ended with an error status.
    pub fn refused(&self) -> impl Iterator<Item = u64> {
        self.refused.iter().map(|of| of.iter().map(Counter::value).sum())
    }

    /// Returns the number of the procedure, the status, and the number of calls that ended with it, for
    /// each pair that has occurred.
    pub fn refused_by_status(&self) -> impl Iterator<Item = (usize, NfsStatus, u64)> + '_ {
        let procedures = self.refused.iter().enumerate();
        let all = procedures.flat_map(|(procedure, of)| {
            let reasons = NfsStatus::ALL.into_iter().zip(of);
            reasons.map(move |(status, counter)| (procedure, status, counter.value()))
        });
        all.filter(|(.., count)| *count > 0)
    }

    fn count_refusal(&self, procedure: usize, status: NfsStatus) {
        let place = NfsStatus::ALL.iter().position(|&other| other == status);
        let counter = self.refused.get(procedure).zip(place).map(|(of, place)| &of[place]);
        counter.inspect(|counter| counter.add(1));
    }
}

impl<S: Frames> Program<S> for NfsProgram {
    fn number(&self) -> u32 {
        NFS_PROGRAM
    }

    fn name(&self) -> &'static str {
        "nfs"
    }

    fn versions(&self) -> &'static [Version] {
        const { &[NFS_V3] }
    }

    fn knows(&self, addr: IpAddr) -> bool {
        self.service.vfs.serves(addr)
    }

    fn call(&self, call: &mut Call<'_, S>) -> Result<(), CallError> {
        let index = usize::try_from(call.header.proc).unwrap_or(usize::MAX);
        let answered = carry_out(&self.service, call);
        let procedure = NFS_V3.procedures.get(index).map_or("", |procedure| procedure.name);
        match answered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => {
                self.count_refusal(index, status);
                call.mark_useless();
                debug!(client = %call.peer.addr, xid = call.header.xid, procedure, %status);
                Ok(())
            }
            Err(error) => {
                debug!(client = %call.peer.addr, xid = call.header.xid, procedure, %error);
                Err(error)
            }
        }
    }
}
