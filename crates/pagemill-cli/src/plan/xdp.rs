//! What the options of `pagemill xdp` mean on this machine.

use core::time::Duration;
use std::path::PathBuf;

use pagemill::units::CpuId;
use pagemill_host::ArenaConfig;
use pagemill_host::machine::Cpus;
use pagemill_xdp::attach::{AttachMode, Capabilities, CopyMode};
use pagemill_xdp::frames::Refill;
use pagemill_xdp::{InterfaceConfig, SocketConfig, XdpError};

use crate::args::xdp::{
    AllocArg, CopyArg, DropArgs, Endpoint, ModeArg, PoolArg, RedirectArgs, RunArgs, StackArgs,
    TrafficArg, XdpBenchArgs,
};
use crate::output::Output;
use crate::usage::UsageError;

/// What becomes of packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// They leave here.
    Redirect(Endpoint),
    /// They are dropped.
    Drop,
    /// They are kept, and dropped all at once every now and then.
    Stack(Duration),
}

/// Everything that a command needs which runs until it is stopped.
#[derive(Debug)]
pub(crate) struct RunPlan {
    /// Where packets come from.
    pub(crate) input: Endpoint,
    /// What becomes of them.
    pub(crate) fate: Fate,
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// The program and where it runs.
    pub(crate) interface: InterfaceConfig,
    /// Rings.
    pub(crate) socket: SocketConfig,
    /// How pages are allocated.
    pub(crate) refill: Refill,
    /// Places in the ring of the page pool that recycles them, if one does.
    pub(crate) pool_ring: Option<u32>,
    /// How long it lasts; `None` until it is stopped.
    pub(crate) duration: Option<Duration>,
    /// What the thread that moves packets does when there are none.
    pub(crate) polling: Polling,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
    /// Where the status is served, if not where `top` looks.
    pub(crate) status: Option<PathBuf>,
}

/// What the thread that moves packets does when there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polling {
    /// It polls for a while that depends on recent traffic, then sleeps.
    Adaptive,
    /// It polls and never sleeps.
    Busy,
}

/// What makes the packets of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// The kernel, and where it cannot, a packet socket.
    Auto,
    /// The kernel's live frames.
    Live,
    /// A packet socket.
    Packet,
    /// An AF_XDP socket.
    Xsk,
}

/// Everything that `xdp bench` needs.
#[derive(Debug)]
pub(crate) struct BenchPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// The measurements.
    pub(crate) trial: TrialConfig,
    /// Places in the ring of the page pool that recycles pages, if one does.
    pub(crate) pool_ring: Option<u32>,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// What is measured by `xdp bench`, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrialConfig {
    /// Pairs of slices.
    pub(crate) nr_pairs: u32,
    /// How long a slice lasts.
    pub(crate) slice: Duration,
    /// The time between two times that packets are dropped; zero to drop them as they come.
    pub(crate) hold: Duration,
    /// What makes packets.
    pub(crate) traffic: Traffic,
    /// Bytes in a packet.
    pub(crate) len: usize,
    /// The CPU that makes packets.
    pub(crate) generator_cpu: CpuId,
    /// The CPU that receives them.
    pub(crate) worker_cpu: CpuId,
    /// The CPU that keeps them.
    pub(crate) holder_cpu: CpuId,
    /// Rings.
    pub(crate) socket: SocketConfig,
}

impl TrialConfig {
    /// Tells whether the CPU that receives packets also makes or keeps them.
    pub(crate) fn shares_cpu(&self) -> bool {
        let keeps = !self.hold.is_zero() && self.holder_cpu == self.worker_cpu;
        self.generator_cpu == self.worker_cpu || keeps
    }
}

/// Finds out what the options of `xdp redirect` mean.
///
/// # Errors
/// A missing capability, and what the system answers where the output cannot be opened.
pub(crate) fn redirect(args: &RedirectArgs) -> anyhow::Result<RunPlan> {
    if args.input == args.output {
        let line =
            "--in and --out name the same queue, which only one socket can use: name two queues";
        return Err(UsageError::new(line).into());
    }
    run(args.input, Fate::Redirect(args.output), &args.run)
}

/// Finds out what the options of `xdp drop` mean.
///
/// # Errors
/// As [`redirect`].
pub(crate) fn drop(args: &DropArgs) -> anyhow::Result<RunPlan> {
    run(args.input, Fate::Drop, &args.run)
}

/// Finds out what the options of `xdp stack` mean.
///
/// # Errors
/// As [`redirect`].
pub(crate) fn stack(args: &StackArgs) -> anyhow::Result<RunPlan> {
    run(args.input, Fate::Stack(Duration::from_millis(args.hold)), &args.run)
}

/// Finds out what the options of `xdp bench` mean.
///
/// # Errors
/// As [`redirect`].
pub(crate) fn bench(args: &XdpBenchArgs) -> anyhow::Result<BenchPlan> {
    ring(args.ring)?;
    may(Capabilities::NEEDED.with(Capabilities::SYS_ADMIN))?;
    let cpus = Cpus::allowed()?;
    let (Some(&first), Some(&last)) = (cpus.first(), cpus.last()) else {
        anyhow::bail!("the system allows this process no CPU");
    };
    if args.two_cpus && first == last {
        let line = "--two-cpus needs two CPUs, and this process may use only one";
        return Err(UsageError::new(line).into());
    }
    Ok(BenchPlan {
        arena: ArenaConfig { prefault: true, ..ArenaConfig::new(args.size.bytes()) },
        trial: TrialConfig {
            nr_pairs: args.pairs,
            slice: Duration::from_millis(args.slice),
            hold: Duration::from_millis(args.hold),
            traffic: match args.traffic {
                TrafficArg::Auto => Traffic::Auto,
                TrafficArg::Live => Traffic::Live,
                TrafficArg::Packet => Traffic::Packet,
                TrafficArg::Xsk => Traffic::Xsk,
            },
            len: args.len.into(),
            generator_cpu: if args.two_cpus { first } else { last },
            worker_cpu: last,
            holder_cpu: first,
            socket: SocketConfig {
                fill_size: args.ring,
                rx_size: args.ring,
                tx_size: 64,
                completion_size: 64,
                copy: CopyMode::Copy,
                ..SocketConfig::new()
            },
        },
        pool_ring: pool_ring(
            args.pool,
            args.pool_ring,
            if args.hold == 0 { args.ring } else { 1024 },
        ),
        json: Output::open("--json", args.json.as_deref())?,
    })
}

fn run(input: Endpoint, fate: Fate, args: &RunArgs) -> anyhow::Result<RunPlan> {
    ring(args.ring)?;
    may(Capabilities::NEEDED)?;
    Ok(RunPlan {
        input,
        fate,
        arena: ArenaConfig { prefault: true, ..ArenaConfig::new(args.size.bytes()) },
        interface: InterfaceConfig {
            mode: match args.mode {
                ModeArg::Auto => AttachMode::Auto,
                ModeArg::Native => AttachMode::Native,
                ModeArg::Generic => AttachMode::Generic,
            },
            multi_buffer: args.multi_buffer,
        },
        socket: SocketConfig {
            fill_size: args.ring,
            rx_size: args.ring,
            tx_size: args.ring,
            completion_size: args.ring,
            copy: match args.copy {
                CopyArg::Auto => CopyMode::Auto,
                CopyArg::Copy => CopyMode::Copy,
                CopyArg::ZeroCopy => CopyMode::ZeroCopy,
            },
            ..SocketConfig::new()
        },
        refill: match args.alloc {
            AllocArg::Single => Refill::Single,
            AllocArg::Bulk => Refill::Bulk,
        },
        duration: args.duration.map(Duration::from_secs),
        polling: if args.busy { Polling::Busy } else { Polling::Adaptive },
        pool_ring: pool_ring(args.pool, args.pool_ring, args.ring),
        json: Output::open("--json", args.json.as_deref())?,
        status: args.status.clone(),
    })
}

/// Returns how many places the ring of the page pool has, if there is one.
fn pool_ring(pool: PoolArg, asked: Option<u16>, otherwise: u32) -> Option<u32> {
    match pool {
        PoolArg::Page => Some(asked.map_or(otherwise.min(POOL_RING_MAX), u32::from)),
        PoolArg::None => None,
    }
}

/// Places in the ring of a page pool at most.
const POOL_RING_MAX: u32 = 16384;

fn ring(size: u32) -> Result<(), UsageError> {
    if size.is_power_of_two() && size <= 1 << 16 {
        return Ok(());
    }
    Err(UsageError::new(format!("--ring {size}: use a power of two up to 65536")))
}

/// Says which of `needed` this process lacks.
fn may(needed: Capabilities) -> Result<(), XdpError> {
    let missing = needed.without(Capabilities::effective());
    if missing.is_empty() { Ok(()) } else { Err(XdpError::Capability { missing }) }
}
