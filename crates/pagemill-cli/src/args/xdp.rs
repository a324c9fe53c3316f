//! The options of `pagemill xdp`.

use core::str::FromStr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pagemill_xdp::attach::Name;

use pagemill_bench::Size;

/// The command.
#[derive(Debug, Args)]
pub(crate) struct XdpArgs {
    #[command(subcommand)]
    pub(crate) command: XdpCommand,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum XdpCommand {
    /// Receives packets on one interface and sends them on another
    ///
    /// An XDP program on the first interface passes its packets to this process, which checks their
    /// headers, drops malformed packets, and sends all others without copying them. All frames are
    /// pages of one arena. The kernel detaches the program when this process ends for any reason.
    #[command(verbatim_doc_comment)]
    Redirect(RedirectArgs),
    /// Receives packets on an interface and drops them
    Drop(DropArgs),
    /// Receives packets on an interface and passes them to a thread that keeps them for some time
    ///
    /// The pages return late, from another CPU, and more at once than the pool's ring holds. So the
    /// rings are always refilled with new pages, which is the purpose of a bulk allocator.
    #[command(verbatim_doc_comment)]
    Stack(StackArgs),
    /// Compares single pages with bulk on a virtual pair of interfaces, with generated traffic
    ///
    /// Creates a network namespace with two interfaces, lets the kernel generate millions of packets
    /// a second, and receives them with a socket whose rings are filled from a page pool. The pool
    /// asks the page allocator for one page per call in one slice of time, and for many in the next.
    /// Packets are generated and received on one CPU, so that each nanosecond shows in the packets
    /// per second. As long as pages return at once, the pool reuses them and bulk brings nothing;
    /// with --hold 20 they do not. Needs root. Changes nothing outside the namespace, which the kernel removes when
    /// the process ends.
    #[command(verbatim_doc_comment)]
    Bench(XdpBenchArgs),
}

/// The options of `xdp redirect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RedirectArgs {
    /// Interface that packets come from, and its queue [default queue: 0]
    #[arg(long = "in", value_name = "IF[:QUEUE]")]
    pub(crate) input: Endpoint,
    /// Interface that packets go to, and its queue [default queue: 0]
    #[arg(long = "out", value_name = "IF[:QUEUE]")]
    pub(crate) output: Endpoint,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// The options of `xdp drop`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DropArgs {
    /// Interface that packets come from, and its queue [default queue: 0]
    #[arg(long = "in", value_name = "IF[:QUEUE]")]
    pub(crate) input: Endpoint,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// The options of `xdp stack`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StackArgs {
    /// Interface that packets come from, and its queue [default queue: 0]
    #[arg(long = "in", value_name = "IF[:QUEUE]")]
    pub(crate) input: Endpoint,
    /// Milliseconds between drops of all kept packets
    #[arg(long, value_name = "MS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) hold: u64,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Options of the commands that run until they are stopped.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Seconds to run [default: until Ctrl-C]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub(crate) duration: Option<u64>,
    /// Pages per call to the page allocator
    #[arg(long, value_enum, default_value_t = AllocArg::Bulk)]
    pub(crate) alloc: AllocArg,
    /// How pages are recycled
    #[arg(long, value_enum, default_value_t = PoolArg::Page)]
    pub(crate) pool: PoolArg,
    /// Pages that the page pool's ring holds, up to 16384 [default: that of --ring]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub(crate) pool_ring: Option<u16>,
    /// Where the XDP program runs
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    pub(crate) mode: ModeArg,
    /// Which side copies bytes between the device and the pages
    #[arg(long, value_enum, default_value_t = CopyArg::Auto)]
    pub(crate) copy: CopyArg,
    /// Accept packets of several pages, such as jumbo frames
    #[arg(long)]
    pub(crate) multi_buffer: bool,
    /// Entries of each ring, a power of two up to 65536
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub(crate) ring: u32,
    /// Poll all the time, which uses a whole CPU [default: sleep when packets are rare]
    #[arg(long)]
    pub(crate) busy: bool,
    /// Size of the memory that pages are allocated from: 64M, 1G; all of it is locked
    #[arg(long = "arena", value_name = "SIZE", default_value = "128M")]
    pub(crate) size: Size,
    /// Write all figures to FILE as JSON, one sample a second; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Socket for pagemill top, or none [default: in a private directory, where top finds it]
    #[arg(long, value_name = "PATH")]
    pub(crate) status: Option<PathBuf>,
}

/// The options of `xdp bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct XdpBenchArgs {
    /// Pairs of slices: single pages in one slice, bulk in the other
    #[arg(long, value_name = "N", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pairs: u32,
    /// Milliseconds of a slice
    #[arg(long, value_name = "MS", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) slice: u64,
    /// Milliseconds between drops of all kept packets; 0 drops packets as they arrive
    ///
    /// A thread keeps the packets, on another CPU if there is one. They are more than the pool's
    /// ring holds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub(crate) hold: u64,
    /// How pages are recycled
    #[arg(long, value_enum, default_value_t = PoolArg::Page)]
    pub(crate) pool: PoolArg,
    /// Pages that the page pool's ring holds, up to 16384 [default: that of --ring; 1024 with
    /// --hold]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub(crate) pool_ring: Option<u16>,
    /// Generator of the packets
    #[arg(long, value_enum, default_value_t = TrafficArg::Auto)]
    pub(crate) traffic: TrafficArg,
    /// Bytes of a packet
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(60..=1514))]
    pub(crate) len: u16,
    /// Generate and receive packets on different CPUs, to find the highest rate
    #[arg(long)]
    pub(crate) two_cpus: bool,
    /// Entries of the rings, a power of two up to 65536
    #[arg(long, value_name = "N", default_value_t = 16384)]
    pub(crate) ring: u32,
    /// Size of the memory that pages are allocated from; all of it is locked
    #[arg(long = "arena", value_name = "SIZE", default_value = "512M")]
    pub(crate) size: Size,
    /// Write all figures to FILE as JSON; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// An interface and one of its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) name: Name,
    pub(crate) queue: u32,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, queue) = text.split_once(':').unwrap_or((text, "0"));
        let queue = queue.parse().map_err(|_not_a_number| {
            format!("'{queue}' is not a queue: write a number after the colon, as in {name}:0")
        })?;
        let name =
            name.parse().map_err(|error: pagemill_xdp::attach::InvalidName| error.to_string())?;
        Ok(Self { name, queue })
    }
}

/// Pages per call to the page allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AllocArg {
    /// One page
    Single,
    /// As many pages as are needed
    Bulk,
}

/// Recycling of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolArg {
    /// A page pool: a cache of 128 pages, and a ring for pages from other threads
    Page,
    /// No recycling: every page comes from the page allocator and returns to it
    None,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// In the driver if it can, else in the stack
    Auto,
    /// In the driver
    Native,
    /// In the stack, which works on any interface
    Generic,
}

/// Copying of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CopyArg {
    /// The device if it can, else the kernel
    Auto,
    /// The kernel
    Copy,
    /// The device; fails if it cannot
    ZeroCopy,
}

/// Generator of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrafficArg {
    /// The kernel's live frames if it has them, else a packet socket
    Auto,
    /// The kernel: BPF_PROG_TEST_RUN with live frames
    Live,
    /// A packet socket (AF_PACKET)
    Packet,
    /// An AF_XDP socket on the other end
    Xsk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_name_and_perhaps_a_queue() {
        let endpoint = |text: &str| text.parse::<Endpoint>();
        let read = endpoint("eth0:3").unwrap();
        assert_eq!((read.name.as_str(), read.queue), ("eth0", 3));
        assert_eq!(endpoint("eth0").unwrap().queue, 0);
        assert!(endpoint("eth0:x").unwrap_err().contains("eth0:0"));
        assert!(endpoint("eth0:-1").unwrap_err().contains("is not a queue"));
        assert!(endpoint(":1").unwrap_err().contains("no interface"));
        assert!(endpoint("a-name-that-is-too-long").unwrap_err().contains("15 bytes"));
    }
}
