//! What the options of `bench nfs` mean: loads, and servers that are there.

use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use anyhow::Context as _;

use crate::args::bench::{NfsArgs, ServerArg, WorkloadArg};
use crate::output::Output;
use crate::usage::UsageError;
use pagemill_bench::NfsExperiment;
use pagemill_bench::nfs::meter::Meter;
use pagemill_bench::nfs::proto::Credential;
use pagemill_bench::nfs::target::{Target, TargetKind};
use pagemill_bench::nfs::{Operation, Workload};

/// Everything that `bench nfs` needs.
#[derive(Debug)]
pub(crate) struct NfsPlan {
    /// The measurements.
    pub(crate) experiment: NfsExperiment,
    /// The servers; none for our own.
    pub(crate) targets: Vec<Target>,
    /// Who calls.
    pub(crate) credential: Credential,
    /// Whether the sinks are measured with them.
    pub(crate) with_sinks: bool,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// The largest files of one load: they are in memory twice.
const SIZE_MAX: u64 = 4 << 30;

/// Finds out what the options of `bench nfs` mean, and opens its output.
///
/// # Errors
/// A [`UsageError`] for a server that is not there or files that are too large; what the system
/// answers where the output cannot be opened.
pub(crate) fn nfs(args: &NfsArgs) -> anyhow::Result<NfsPlan> {
    if args.size.bytes() > SIZE_MAX {
        let line = format!("--size {} is too large: use at most 4G", args.size);
        return Err(UsageError::new(line).into());
    }
    // Whoever owns our process calls.
    let me = fs::metadata("/proc/self").context("cannot read /proc/self; mount /proc")?;
    let credential = Credential::unix(me.uid(), me.gid());
    let export = args.export.as_deref().unwrap_or_default();
    let targets = args.servers.iter().map(|server| target(server, export, &credential));
    Ok(NfsPlan {
        experiment: NfsExperiment {
            workloads: args.workloads.iter().map(|&name| workload(name)).collect(),
            rounds: args.rounds,
            time: Duration::from_millis(args.time),
            file_bytes: args.size.bytes(),
            verify: args.verify,
        },
        targets: targets.collect::<anyhow::Result<_>>()?,
        credential,
        with_sinks: !args.no_sinks,
        json: Output::open("--json", args.json.as_deref())?,
    })
}

fn target(server: &ServerArg, export: &str, credential: &Credential) -> anyhow::Result<Target> {
    let process = |pid: u32| {
        Meter::process(pid).map_err(|error| {
            let io = error.downcast_ref::<io::Error>();
            let is_gone = io.is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
            let at = format!("--server {}", server.name);
            match is_gone {
                true => UsageError::new(format!("{at}: there is no process {pid}")).into(),
                false => error.context(at),
            }
        })
    };
    let mount_port = server.mount_port.unwrap_or(server.address.port());
    Ok(Target {
        name: server.name.clone(),
        address: server.address,
        mount_address: SocketAddr::new(server.address.ip(), mount_port),
        export: export.to_owned(),
        credential: credential.clone(),
        meter: server.pid.map(process).transpose()?,
        kind: TargetKind::Server,
    })
}

fn workload(name: WorkloadArg) -> Workload {
    match name {
        WorkloadArg::Read => Workload::stream(Operation::Read, 1, 4),
        WorkloadArg::Write => Workload::stream(Operation::Write, 1, 4),
        WorkloadArg::Read4k => Workload::random(Operation::Read, 4, 8),
        WorkloadArg::Write4k => Workload::random(Operation::Write, 4, 8),
        WorkloadArg::Getattr => Workload::calls(Operation::Getattr, 4, 8),
        WorkloadArg::Getattr1 => Workload::calls(Operation::Getattr, 1, 1),
        WorkloadArg::Null => Workload::calls(Operation::Null, 4, 8),
        WorkloadArg::Read8 => Workload::stream(Operation::Read, 8, 1),
        WorkloadArg::Read64 => Workload::stream(Operation::Read, 64, 1),
        WorkloadArg::Write8 => Workload::stream(Operation::Write, 8, 1),
        WorkloadArg::Write64 => Workload::stream(Operation::Write, 64, 1),
    }
}
