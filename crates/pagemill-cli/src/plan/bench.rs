//! What the options of `bench` mean on this machine.

mod nfs;
mod saved;

use core::time::Duration;

use pagemill::units::{CpuId, PAGE_SIZE};
use pagemill_bench::{
    Experiment, FragExperiment, LatencyExperiment, PoolExperiment, RefillExperiment, Shape, Size,
    UsersExperiment, frag, users::USERS,
};
use pagemill_host::ArenaConfig;
use pagemill_host::arena::HugePages;
use pagemill_host::machine::Cpus;
use pagemill_rpc::buffer::{MAX_PAYLOAD_BYTES, nr_request_pages};

pub(crate) use self::nfs::{NfsPlan, nfs};
pub(crate) use self::saved::{ComparePlan, ExportPlan, Input, TablesPlan, compare, export};
use super::arena::arena;
use crate::args::bench::{
    BulkArgs, CpuList, FragArgs, LatencyArgs, PoolArgs, RpcArgs, ShapeArg, UsersArgs,
};
use crate::output::Output;
use crate::usage::UsageError;

/// Everything that `bench bulk` needs.
#[derive(Debug)]
pub(crate) struct BulkPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// The measurements.
    pub(crate) experiment: Experiment,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
    /// Where the picture goes.
    pub(crate) svg: Option<Output>,
}

/// Everything that `bench frag` needs.
#[derive(Debug)]
pub(crate) struct FragPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// What is done to it.
    pub(crate) experiment: FragExperiment,
    /// The CPU that does it: the way of a page depends on where it is freed.
    pub(crate) cpu: CpuId,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// Everything that `bench latency` needs.
#[derive(Debug)]
pub(crate) struct LatencyPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// The measurements.
    pub(crate) experiment: LatencyExperiment,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// Everything that `bench rpc` needs.
#[derive(Debug)]
pub(crate) struct RpcPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// Bytes of data that a request can have.
    pub(crate) payload_bytes: usize,
    /// The measurements.
    pub(crate) experiment: RefillExperiment,
    /// The CPU that makes them.
    pub(crate) cpu: CpuId,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// Everything that `bench pool` needs.
#[derive(Debug)]
pub(crate) struct PoolPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// The measurements.
    pub(crate) experiment: PoolExperiment,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// Everything that `bench users` needs.
#[derive(Debug)]
pub(crate) struct UsersPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// The measurements.
    pub(crate) experiment: UsersExperiment,
    /// Where the figures go.
    pub(crate) json: Option<Output>,
}

/// The batch sizes of `page_bench04_bulk`.
const SIZES: [usize; 11] = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512];
/// Those of the quick selection: enough to see the curve.
const QUICK_SIZES: [usize; 5] = [1, 4, 16, 64, 256];
/// Pages in a burst, where the arena has them: many times what the lists of a CPU hold.
const BURST_PAGES_MIN: u64 = 32 << 10;
/// Most pages in a burst: more of them show nothing new, and need memory for their handles.
const BURST_PAGES_MAX: u64 = 256 << 10;
/// Pages that the probe of `bench latency` holds at most: more than the list of a CPU does.
const PROBE_PAGES: u64 = 4096;
/// Memory for a receive ring and what is held of it, twice, so that the watermarks are far.
const POOL_BYTES_MIN: u64 = 128 << 20;
/// Memory for the users of `bench users`, several times, so that the watermarks are far.
const USERS_BYTES_MIN: u64 = 256 << 20;

/// Finds out what the options of `bench bulk` mean, and opens its outputs.
///
/// # Errors
/// A [`UsageError`] for what this machine or this arena cannot do; what the system answers where
/// an output cannot be opened.
pub(crate) fn bulk(args: &BulkArgs) -> anyhow::Result<BulkPlan> {
    let cpus = choose_cpus(args.threads, args.cpus.as_ref(), &Cpus::allowed()?)?;
    let sizes = sizes(args);
    let burst_pages = burst_pages(&args.arena.size, &sizes, cpus.len())?;
    let shapes = match args.shape {
        ShapeArg::Ping => vec![Shape::Ping],
        ShapeArg::Burst => vec![Shape::Burst],
        ShapeArg::Both => Shape::ALL.to_vec(),
    };
    let json = Output::open("--json", args.json.as_deref())?;
    let svg = Output::open("--svg", args.svg.as_deref())?;
    if json.as_ref().zip(svg.as_ref()).is_some_and(|(json, svg)| json.is_same_as(svg)) {
        let line = "--json and --svg name the same output: give each a file of its own";
        return Err(UsageError::new(line).into());
    }
    Ok(BulkPlan {
        arena: arena(&args.arena)?,
        experiment: Experiment {
            shapes,
            sizes,
            runs: args.runs,
            slice: Duration::from_millis(args.slice),
            cpus,
            burst_pages,
        },
        json,
        svg,
    })
}

/// Finds out what the options of `bench frag` mean, and opens its output.
///
/// # Errors
/// As [`bulk`].
pub(crate) fn frag(args: &FragArgs) -> anyhow::Result<FragPlan> {
    if args.size.nr_pages() < frag::MIN_NR_PAGES {
        let line = format!("--arena {} has no block of 2 MiB: use 2M or more", args.size);
        return Err(UsageError::new(line).into());
    }
    let cpus = choose_cpus(1, None, &Cpus::allowed()?)?;
    Ok(FragPlan {
        arena: untouched(args.size),
        experiment: FragExperiment { rounds: args.rounds.into(), seed: args.seed },
        cpu: cpus[0],
        json: Output::open("--json", args.json.as_deref())?,
    })
}

/// Finds out what the options of `bench latency` mean, and opens its output.
///
/// # Errors
/// As [`bulk`].
pub(crate) fn latency(args: &LatencyArgs) -> anyhow::Result<LatencyPlan> {
    let allowed = Cpus::allowed()?;
    let nr_cpus = args.cpus.as_ref().map_or(allowed.len(), |CpuList(numbers)| numbers.len()).min(2);
    let cpus = choose_cpus(nr_cpus, args.cpus.as_ref(), &allowed)?;
    let most = args.size.nr_pages() / 2;
    if args.pages as u64 > most {
        return Err(UsageError::new(format!(
            "--pages {} is more than half of an arena of {}: use at most {most}, or a larger \
             --arena",
            args.pages, args.size
        ))
        .into());
    }
    let probe_pages = PROBE_PAGES.min(args.size.nr_pages() / 8).max(1);
    Ok(LatencyPlan {
        arena: untouched(args.size),
        experiment: LatencyExperiment {
            probe_cpu: cpus[0],
            other_cpu: cpus.get(1).copied(),
            hog_pages: args.pages,
            probe_pages: usize::try_from(probe_pages).expect("it is at most 4096"),
            time: Duration::from_millis(args.time),
        },
        json: Output::open("--json", args.json.as_deref())?,
    })
}

/// Finds out what the options of `bench pool` mean, and opens its output.
///
/// # Errors
/// As [`bulk`].
pub(crate) fn pool(args: &PoolArgs) -> anyhow::Result<PoolPlan> {
    if args.size.bytes() < POOL_BYTES_MIN {
        let least = Size::of(POOL_BYTES_MIN);
        let line = format!("--arena {} is too small: use {least} or more", args.size);
        return Err(UsageError::new(line).into());
    }
    if !args.work.is_sorted() || args.work.first() != Some(&0) {
        let line = "--work must begin with 0 and increase, as in 0,50,100";
        return Err(UsageError::new(line.to_owned()).into());
    }
    let (driver_cpu, stack_cpu) = two_cpus(args.cpus.as_ref())?;
    Ok(PoolPlan {
        arena: untouched(args.size),
        experiment: PoolExperiment {
            runs: args.runs,
            slice: Duration::from_millis(args.slice),
            work_ns: args.work.clone(),
            driver_cpu,
            stack_cpu,
        },
        json: Output::open("--json", args.json.as_deref())?,
    })
}

/// Finds out what the options of `bench users` mean, and opens its output.
///
/// # Errors
/// As [`bulk`].
pub(crate) fn users(args: &UsersArgs) -> anyhow::Result<UsersPlan> {
    if args.size.bytes() < USERS_BYTES_MIN {
        let least = Size::of(USERS_BYTES_MIN);
        let line = format!("--arena {} is too small: use {least} or more", args.size);
        return Err(UsageError::new(line).into());
    }
    let folder = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    if !folder.is_dir() {
        let line = format!("--folder {}: there is no such folder", folder.display());
        return Err(UsageError::new(line).into());
    }
    let names = USERS.iter().map(|kind| kind.name);
    let (cpu, peer_cpu) = two_cpus(args.cpus.as_ref())?;
    Ok(UsersPlan {
        arena: ArenaConfig { huge: HugePages::Never, ..ArenaConfig::new(args.size.bytes()) },
        experiment: UsersExperiment {
            runs: args.runs,
            slice: Duration::from_millis(args.slice),
            users: names
                .filter(|name| args.only.is_empty() || args.only.iter().any(|only| only == name))
                .collect(),
            folder,
            cpu,
            peer_cpu,
        },
        json: Output::open("--json", args.json.as_deref())?,
    })
}

/// Finds out what the options of `bench rpc` mean, and opens its output.
///
/// # Errors
/// As [`bulk`].
pub(crate) fn rpc(args: &RpcArgs) -> anyhow::Result<RpcPlan> {
    let bytes = args.payload.bytes();
    let payload_bytes = usize::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= MAX_PAYLOAD_BYTES)
        .ok_or_else(|| {
            let most = Size::of(MAX_PAYLOAD_BYTES as u64);
            UsageError::new(format!("--payload {} is more than {most}: use less", args.payload))
        })?;
    let nr_slots = nr_request_pages(payload_bytes);
    let usual = [1, 4, 64, nr_slots];
    let consumed = if args.used.is_empty() {
        usual.into_iter().filter(|&used| used <= nr_slots).collect()
    } else {
        args.used.clone()
    };
    if let Some(used) = consumed.iter().find(|&&used| used > nr_slots) {
        let line = format!(
            "--used {used} is more than the {nr_slots} pages of a request: use {nr_slots} or fewer"
        );
        return Err(UsageError::new(line).into());
    }
    let experiment = RefillExperiment { nr_slots, consumed, runs: args.runs, rounds: args.rounds };
    // Half of it, so that the watermarks are far.
    let least = Size::of((experiment.nr_pages() * 2 * PAGE_SIZE) as u64);
    if args.size.bytes() < least.bytes() {
        let line = format!("--arena {} is too small: use {least} or more", args.size);
        return Err(UsageError::new(line).into());
    }
    Ok(RpcPlan {
        arena: untouched(args.size),
        payload_bytes,
        experiment,
        cpu: choose_cpus(1, None, &Cpus::allowed()?)?[0],
        json: Output::open("--json", args.json.as_deref())?,
    })
}

/// Returns memory for pages that nobody touches, so that it need not even be there.
fn untouched(size: Size) -> ArenaConfig {
    ArenaConfig { huge: HugePages::Never, ..ArenaConfig::new(size.bytes()) }
}

/// Returns the batch sizes asked for, each once, smallest first.
fn sizes(args: &BulkArgs) -> Vec<usize> {
    let mut sizes = match (&args.n[..], args.quick) {
        ([], false) => SIZES.to_vec(),
        ([], true) => QUICK_SIZES.to_vec(),
        (asked, _) => asked.to_vec(),
    };
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Returns how many pages one of `nr_threads` holds at the height of a burst: all of them together
/// a quarter of the arena, within limits, and never more than half of it.
fn burst_pages(arena: &Size, sizes: &[usize], nr_threads: usize) -> Result<usize, UsageError> {
    let nr_threads = nr_threads as u64;
    let most = arena.nr_pages() / 2 / nr_threads;
    if let Some(n) = sizes.iter().find(|&&n| n as u64 > most) {
        let line = format!("--n {n} does not fit: of an arena of {arena}, each thread can have");
        return Err(UsageError::new(match most {
            0 => format!("{line} no page; use a larger --arena"),
            _ => format!("{line} {most} pages; use a smaller --n or a larger --arena"),
        }));
    }
    let all = (arena.nr_pages() / 4).clamp(BURST_PAGES_MIN, BURST_PAGES_MAX);
    let each = (all / nr_threads).min(most);
    Ok(usize::try_from(each).expect("a burst is below 2^18 pages"))
}

/// Returns the CPUs of two threads: the same, where only one is named or allowed.
fn two_cpus(asked: Option<&CpuList>) -> anyhow::Result<(CpuId, CpuId)> {
    let allowed = Cpus::allowed()?;
    let nr_cpus = asked.map_or(allowed.len(), |CpuList(numbers)| numbers.len()).min(2);
    let cpus = choose_cpus(nr_cpus, asked, &allowed)?;
    Ok((cpus[0], cpus[nr_cpus - 1]))
}

/// Returns the CPU of each thread.
fn choose_cpus(
    threads: usize,
    asked: Option<&CpuList>,
    allowed: &[CpuId],
) -> Result<Vec<CpuId>, UsageError> {
    let cpus = match asked {
        None => allowed.to_vec(),
        Some(CpuList(numbers)) => numbers.iter().copied().map(CpuId::new).collect(),
    };
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(UsageError::new(format!(
            "--cpus names CPU {cpu}, which this process may not use: choose from {}",
            ranges(allowed)
        )));
    }
    if threads > cpus.len() {
        let found = match cpus.len() {
            1 => format!("only CPU {} is available", ranges(&cpus)),
            nr => format!("only {nr} are available ({})", ranges(&cpus)),
        };
        return Err(UsageError::new(format!(
            "--threads {threads} needs {threads} CPUs and {found}: use fewer threads{}",
            if asked.is_some() { " or more --cpus" } else { "" }
        )));
    }
    Ok(cpus[..threads].to_vec())
}

/// Writes CPUs as the system does: `0-1,4`.
fn ranges(cpus: &[CpuId]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus.iter().map(|cpu| cpu.value()) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let texts = ranges.iter().map(|&(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(numbers: &[u32]) -> Vec<CpuId> {
        numbers.iter().copied().map(CpuId::new).collect()
    }

    fn chosen(threads: usize, asked: Option<&[u32]>) -> Result<Vec<CpuId>, String> {
        let asked = asked.map(|numbers| CpuList(numbers.to_vec()));
        choose_cpus(threads, asked.as_ref(), &cpus(&[0, 1, 4])).map_err(|error| error.to_string())
    }

    #[test]
    fn threads_get_the_first_cpus_of_those_named_or_allowed() {
        assert_eq!(chosen(2, None).unwrap(), cpus(&[0, 1]));
        assert_eq!(chosen(2, Some(&[4, 0, 1])).unwrap(), cpus(&[4, 0]));
    }

    #[test]
    fn cpus_that_are_not_there_are_told_with_those_that_are() {
        assert_eq!(
            chosen(1, Some(&[0, 9])).unwrap_err(),
            "--cpus names CPU 9, which this process may not use: choose from 0-1,4"
        );
        assert_eq!(
            chosen(4, None).unwrap_err(),
            "--threads 4 needs 4 CPUs and only 3 are available (0-1,4): use fewer threads"
        );
        assert_eq!(
            chosen(2, Some(&[1])).unwrap_err(),
            "--threads 2 needs 2 CPUs and only CPU 1 is available: use fewer threads or more --cpus"
        );
    }

    #[test]
    fn bursts_are_a_quarter_of_the_arena_within_limits() {
        let burst =
            |arena: &str, threads| burst_pages(&arena.parse().unwrap(), &[512], threads).unwrap();
        assert_eq!(burst("1G", 1), 65_536);
        assert_eq!(burst("1G", 2), 32_768);
        assert_eq!(burst("256M", 1), 32_768);
        assert_eq!(burst("64M", 1), 8192);
        assert_eq!(burst("64M", 2), 4096);
        assert_eq!(burst("1T", 1), 262_144);
    }

    #[test]
    fn batches_that_do_not_fit_are_told_with_what_does() {
        let refused = |arena: &str, n| {
            burst_pages(&arena.parse().unwrap(), &[1, n], 2).unwrap_err().to_string()
        };
        assert_eq!(
            refused("4M", 512),
            "--n 512 does not fit: of an arena of 4 MiB, each thread can have 256 pages; \
             use a smaller --n or a larger --arena"
        );
        assert!(refused("8K", 1).ends_with("can have no page; use a larger --arena"));
    }
}
