//! The options of `bench`.

mod count;
mod nfs;
mod saved;

use core::str::FromStr;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pagemill_bench::Size;
use pagemill_bench::users::USERS;

use self::count::at_least_one;
pub(crate) use self::nfs::{NfsArgs, ServerArg, WorkloadArg};
pub(crate) use self::saved::{CompareArgs, ExportArgs, TableArgs};
use super::arena::ArenaArgs;

/// The experiment.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    experiment: Option<ExperimentArgs>,
}

impl BenchArgs {
    /// Returns the experiment and its options; without an experiment, those of `bulk --quick`.
    pub(crate) fn experiment(&self) -> ExperimentArgs {
        let quick = || QuickDefaults::parse_from(["bulk", "--quick"]).bulk;
        self.experiment.clone().unwrap_or_else(|| ExperimentArgs::Bulk(quick()))
    }
}

/// Parser that yields the defaults of the options of `bench bulk`.
#[derive(Debug, Parser)]
struct QuickDefaults {
    #[command(flatten)]
    bulk: BulkArgs,
}

/// The experiments.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ExperimentArgs {
    /// Compares a loop over single pages with the bulk calls, for lists and for arrays
    ///
    /// Times three ways to allocate and free N pages:
    ///
    ///   single  one call for each page, one drop for each page
    ///   list    one call that appends N pages to a list, one that frees the list
    ///   array   one call that fills N slots, one that empties them
    ///
    /// in two shapes:
    ///
    ///   ping    allocates and frees N pages repeatedly: pages come from the CPU's own list and
    ///           return to it
    ///   burst   allocates tens of thousands of pages in batches of N, then frees all in batches of
    ///           N: pages come from the zone and return to it
    ///
    /// Each figure is the median of several runs. All measurements take turns within a run, so that
    /// noise affects all of them. The limit, copying N handles from one array to another and back,
    /// is measured in the same run.
    #[command(verbatim_doc_comment)]
    Bulk(BulkArgs),
    /// Shows which 2 MiB blocks are free after random churn
    ///
    /// Fills the arena with single pages and frees a random half. Each round frees a random tenth
    /// of the pages and allocates as many, one at a time and then in batches of 64. At the end, the
    /// experiment frees all but one page in eight, and then those pages. After each step it reports
    /// how many 2 MiB blocks are free, by the allocator's counters and by allocating them. The
    /// tables show the rounds that are powers of two and the last; the JSON has all rounds.
    ///
    /// The experiment runs twice: with pages of one kind, and with the pages that stay until the
    /// end declared unmovable and all others movable, so that the allocator keeps them apart.
    ///
    /// It measures no times and accesses no page, so the arena uses hardly any memory.
    #[command(verbatim_doc_comment)]
    Frag(FragArgs),
    /// Times single calls while another thread allocates very many pages in one call
    ///
    /// One thread, the probe, times calls one by one. Another thread, the hog, repeatedly allocates
    /// all its pages in one call and frees them in one. The probe runs alone, with the hog on
    /// another CPU, and with the hog on its own CPU. It times two kinds of calls:
    ///
    ///   single  the allocation of a page, thousands of them before any is freed
    ///   locked  the allocation and the free of a block of 16 pages, which take the zone lock
    ///           each time
    ///
    /// In separate turns, each holder of the zone lock or of a CPU's lists measures its hold.
    ///
    ///   calm    longest hold, or round of locked calls, during which the scheduler did not
    ///           preempt the thread
    #[command(verbatim_doc_comment)]
    Latency(LatencyArgs),
    /// Puts a load on NFS servers and reports the cost of each call
    ///
    /// One thread keeps calls in flight on several connections and waits for none. The servers
    /// that --server names take turns under each load, and so do two sinks that keep no files: one
    /// drops written data, which shows the limit of load and sockets; the other copies it twice, as
    /// a server does. Without --server, the experiment starts two servers of pagemill on a folder
    /// in memory, one with bulk and one with single refill of requests.
    ///
    /// The loads are:
    ///
    ///   read, write          1 connection with 4 calls of 1 MiB in flight
    ///   read-4k, write-4k    4 connections with 8 calls of 4 KiB each, at random offsets
    ///   getattr, null        4 connections with 8 calls each
    ///   getattr-1            1 call at a time
    ///   read-8, read-64      8 or 64 connections with 1 call of 1 MiB each
    ///   write-8, write-64    8 or 64 connections with 1 call of 1 MiB each
    ///
    /// Files are created in the export and removed at the end. CPU time and memory of a server are
    /// reported if its process is named.
    #[command(verbatim_doc_comment)]
    Nfs(NfsArgs),
    /// Times the refill of a request's pages, which an RPC server does before each call
    ///
    /// A request of 1 MiB has 259 slots for pages. The experiment empties some, as a transport or
    /// a reply does, and times the refill in three ways:
    ///
    ///   single      one call to the allocator for each page
    ///   bulk        one call that scans all slots
    ///   bulk, hint  one call that scans the emptied slots
    ///
    /// Fresh requests have no pages, and take theirs from the zone.
    #[command(verbatim_doc_comment)]
    Rpc(RpcArgs),
    /// Runs a receive ring with a page pool, refilled one page at a time and in bulk
    ///
    /// The driver of the bulk allocator's patch series, in this process: a ring of 1024
    /// descriptors, polled 64 at a time and then refilled. A packet gets one of three verdicts:
    ///
    ///   drop      the pages return to the pool directly
    ///   redirect  the pages of a poll return through the pool's ring at once
    ///   hold      the pages leave the pool; the second CPU, or the only one, frees them, many at
    ///             a time, while the driver waits: each page comes from the page allocator
    ///
    /// The pool asks the page allocator for one page (single) or for 64 (bulk). The limit is the
    /// same loop with a static stack of buffers. Held packets are also measured with other work,
    /// to find the cost of a packet at which the gain of bulk falls to 5 %. At the end, one page by
    /// itself is timed on each path through the pool.
    #[command(verbatim_doc_comment)]
    Pool(PoolArgs),
    /// Measures users of pages that take them singly, in bulk, or as a block of a higher order
    ///
    /// Each user does its real work, and the experiment reports the CPU time of one operation, all
    /// threads of the user together, and the page allocator's share of it:
    ///
    ///   page_pool       packets are copied into pages of a pool and leave it with them
    ///   sunrpc          requests of 1 MiB arrive over TCP in pages that are filled before each
    ///   slab-64         caches of objects of 64, of 8 to 512, or of 512 bytes grow to 65,536
    ///   slab-mixed      objects and shrink; the allocator's share is that of the same calls
    ///   slab-512        without the objects
    ///   receive-ring    a ring of 1,024 pages receives over TCP by io_uring
    ///   readahead-128k  windows of a file are read past the kernel's cache (O_DIRECT) into a small
    ///   readahead-1m    cache of our own
    ///   fault-around-16 a pager of this process supplies missing pages (userfaultfd), 16 or 64
    ///   fault-around-64 at each fault
    ///   fault-move-1    the same, but its pages themselves move to where they are missing, and back
    ///   fault-move-16   when the region has too many
    ///   fault-move-64
    ///   fault-move-512
    ///
    /// in three ways, which take turns within a run:
    ///
    ///   single  one call for each page
    ///   bulk    one call for all pages of an operation
    ///   block   one block of a higher order, split into pages or used whole; fragmented memory
    ///           has none
    ///
    /// A user that cannot run here is skipped, and the report says why.
    #[command(verbatim_doc_comment)]
    Users(UsersArgs),
    /// Compares pagemill with other page allocators
    ///
    /// Runs the program pagemill-peers with all options that follow. It has its own workspace,
    /// because it builds other allocators:
    ///
    ///   cargo build --release --manifest-path benches/peers/Cargo.toml \
    ///     --target-dir target
    ///
    /// When it is built, --help shows its options.
    #[command(verbatim_doc_comment, disable_help_flag = true)]
    Peers(PeersArgs),
    /// Compares saved results, and judges each difference against the noise
    ///
    /// Reads files that --json of an experiment wrote. The first is A; each other one is compared
    /// with it as B. Every figure gets one verdict:
    ///
    ///   faster, slower  B differs beyond the noise, by at least --threshold (better, worse for
    ///                   figures that are not times)
    ///   same            B differs by less than --threshold
    ///   unclear (N)     too much noise to tell; N runs of each side may tell
    ///   not judged      measured once, so that its noise is unknown
    ///
    /// The interval of a change comes from the ranks of the runs (Mann-Whitney), and is widened for
    /// the number of figures (Benjamini-Hochberg): 5 % of the reported changes are false on
    /// average, and of comparisons without any change, 5 % report one. That covers the noise within
    /// each file, but not what differs between two processes of one program, such as the placement
    /// of its memory or other work on the machine: measure that with another run of A's program,
    /// and name its results by --noise.
    #[command(verbatim_doc_comment)]
    Compare(CompareArgs),
    /// Writes saved results as CSV or Markdown
    ///
    /// Reads a file that --json of an experiment wrote.
    ///
    ///   pagemill bench rpc --json - | pagemill bench export - --csv rpc.csv
    #[command(verbatim_doc_comment)]
    Export(ExportArgs),
}

/// The options of `bench bulk`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BulkArgs {
    /// Pages per call, such as 1,8,64 [default: 1,2,3,4,8,16,32,64,128,256,512]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = at_least_one)]
    pub(crate) n: Vec<usize>,
    /// Order in which pages are allocated and freed
    #[arg(long, value_enum, default_value_t = ShapeArg::Both)]
    pub(crate) shape: ShapeArg,
    /// Number of runs; the median is reported, and fewer than 9 runs say little
    #[arg(long, value_name = "R", default_value = "15", value_parser = at_least_one)]
    pub(crate) runs: usize,
    /// Approximate milliseconds of one measurement; 0 for a single round, as a trial
    #[arg(long, value_name = "MS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) slice: u64,
    /// Threads that measure at the same time, each on its own CPU
    ///
    /// Times are per page and thread: the mean of the threads in each run.
    #[arg(long, value_name = "T", default_value = "1", value_parser = at_least_one)]
    pub(crate) threads: usize,
    /// CPUs of the threads, in this order, such as 0,2-3 [default: those the process may use]
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
    /// Measure only the batch sizes 1,4,16,64,256, or those of --n
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Plot the cost of a page against the batch size as SVG to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    // Last, because its heading applies to all options after it.
    #[command(flatten)]
    pub(crate) arena: ArenaArgs,
}

/// The options of `bench frag`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FragArgs {
    /// Size of the memory that pages are allocated from: 1G, 64MiB, 16777216
    #[arg(long = "arena", value_name = "SIZE", default_value = "1G")]
    pub(crate) size: Size,
    /// Number of rounds of random churn
    #[arg(long, value_name = "R", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) rounds: u16,
    /// Seed of the random choices
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The options of `bench latency`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LatencyArgs {
    /// Size of the memory that pages are allocated from: 2G, 64MiB, 16777216
    #[arg(long = "arena", value_name = "SIZE", default_value = "2G")]
    pub(crate) size: Size,
    /// Pages that the hog allocates in one call; at most half of the arena
    #[arg(long, value_name = "N", default_value = "262144", value_parser = at_least_one)]
    pub(crate) pages: usize,
    /// Approximate milliseconds of the experiment; 0 for a few calls of each kind
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) time: u64,
    /// CPUs of the probe and of the hog, such as 0,1 [default: the first two allowed]
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The options of `bench rpc`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RpcArgs {
    /// Size of the memory that pages are allocated from: 256M, 64MiB, 16777216
    #[arg(long = "arena", value_name = "SIZE", default_value = "256M")]
    pub(crate) size: Size,
    /// Maximum data of a request: 1M, 64KiB, 4096; at most 4M
    #[arg(long, value_name = "SIZE", default_value = "1M")]
    pub(crate) payload: Size,
    /// Pages that a request consumes before a refill, such as 1,64 [default: 1,4,64 and all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = at_least_one)]
    pub(crate) used: Vec<usize>,
    /// Number of runs; the median is reported, and fewer than 9 runs say little
    #[arg(long, value_name = "R", default_value = "15", value_parser = at_least_one)]
    pub(crate) runs: usize,
    /// Refills in each measurement
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The options of `bench pool`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PoolArgs {
    /// Size of the memory that pages are allocated from: 256M, 128MiB, 134217728; at least 128M
    #[arg(long = "arena", value_name = "SIZE", default_value = "256M")]
    pub(crate) size: Size,
    /// Number of runs; the median is reported, and fewer than 9 runs say little
    #[arg(long, value_name = "R", default_value = "15", value_parser = at_least_one)]
    pub(crate) runs: usize,
    /// Approximate milliseconds of one measurement; 0 for a single turn, as a trial
    #[arg(long, value_name = "MS", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) slice: u64,
    /// Nanoseconds of other work per held packet; a list that begins with 0 and increases
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0,20,50,100,200,400,800"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) work: Vec<u32>,
    /// CPUs of the driver and of the stack, such as 0,1; with one CPU they share it [default: the
    /// first two allowed]
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The options of `bench users`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UsersArgs {
    /// Size of the memory that pages are allocated from: 512M, 256MiB, 268435456; at least 256M
    #[arg(long = "arena", value_name = "SIZE", default_value = "512M")]
    pub(crate) size: Size,
    /// Users to measure, such as page_pool,sunrpc [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = user_names())]
    pub(crate) only: Vec<String>,
    /// Number of runs; the median is reported, and fewer than 9 runs say little
    #[arg(long, value_name = "R", default_value = "15", value_parser = at_least_one)]
    pub(crate) runs: usize,
    /// Approximate milliseconds of one measurement; 0 for one operation each, as a trial
    #[arg(long, value_name = "MS", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) slice: u64,
    /// Folder for the file that readahead reads: on a disk [default: that for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// CPUs of the user and of the peer that it talks to, such as 0,1 [default: the first two
    /// allowed]
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<CpuList>,
    /// Write all figures as JSON (docs/bench-json.md) to FILE; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn user_names() -> clap::builder::PossibleValuesParser {
    USERS.iter().map(|kind| kind.name).collect::<Vec<_>>().into()
}

/// The options of `bench peers`, which `pagemill-peers` parses.
#[derive(Clone, Debug, Args)]
pub(crate) struct PeersArgs {
    /// Options of pagemill-peers
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) rest: Vec<OsString>,
}

/// Shapes to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShapeArg {
    /// Allocate N and free N, repeatedly: the CPU's own list
    Ping,
    /// Allocate tens of thousands, then free all: the zone
    Burst,
    /// Both shapes, one after the other
    Both,
}

/// CPU numbers, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuList(pub(crate) Vec<u32>);

/// Largest CPU number accepted: the size of the system's own masks by default.
const CPU_MAX: u32 = 1023;

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = Vec::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
                return Err(format!(
                    "'{range}' is not a CPU: write numbers and ranges, as in 0,2-3"
                ));
            };
            if last > CPU_MAX {
                return Err(format!("there is no CPU {last}: the largest number is {CPU_MAX}"));
            }
            if first > last {
                return Err(format!("the range {range} runs backwards: write {last}-{first}"));
            }
            numbers.extend(first..=last);
        }
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("CPU {} is named twice: name each once", pair[0])),
            None => Ok(Self(numbers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::usage::UsageError;

    fn bulk(options: &[&str]) -> Result<BulkArgs, String> {
        let command_line = ["pagemill", "bench", "bulk"].iter().chain(options);
        match Cli::try_parse_from(command_line) {
            Ok(Cli { command: Command::Bench(args) }) => match args.experiment() {
                ExperimentArgs::Bulk(args) => Ok(args),
                _ => unreachable!("bulk was asked for"),
            },
            Ok(_) => unreachable!("bench was asked for"),
            Err(error) => Err(UsageError::from(error).to_string()),
        }
    }

    #[test]
    fn bench_alone_is_the_quick_selection_of_bulk() {
        let ExperimentArgs::Bulk(args) = BenchArgs { experiment: None }.experiment() else {
            unreachable!("bulk is what runs unasked")
        };
        assert!(args.quick);
        assert_eq!(format!("{args:?}"), format!("{:?}", bulk(&["--quick"]).unwrap()));
    }

    #[test]
    fn lists_are_read() {
        let args = bulk(&["--n", "8,1,64", "--cpus", "3,0-1"]).unwrap();
        assert_eq!(args.n, [8, 1, 64]);
        assert_eq!(args.cpus.unwrap(), CpuList(vec![3, 0, 1]));
    }

    #[test]
    fn each_bad_value_is_told_with_its_option() {
        for (option, value, told) in [
            ("--n", "0", "use 1 or more"),
            ("--n", "1,x", "'x' is not a count"),
            ("--runs", "0", "use 1 or more"),
            ("--slice", "10001", "0..=10000"),
            ("--threads", "-1", "unexpected argument"),
            ("--cpus", "1-0", "write 0-1"),
            ("--cpus", "0-4000000000", "largest number is 1023"),
            ("--cpus", "0,0-1", "named twice"),
            ("--cpus", "", "is not a CPU"),
            ("--arena", "5", "not a multiple of the page size"),
            ("--arena", "1X", "is not a size"),
            ("--huge", "big", "possible values"),
            ("--shape", "round", "possible values"),
        ] {
            let line = bulk(&[option, value]).unwrap_err();
            assert!(line.contains(told), "{line}");
            assert!(line.contains(option) || value.starts_with('-'), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
