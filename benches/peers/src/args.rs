//! Command-line arguments.

use core::str::FromStr;
use core::time::Duration;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Parser, ValueEnum as _};
use pagemill::units::CpuId;
use pagemill_host::machine::Cpus;

use crate::peers;
use crate::runner::{BATCH, N_MAX};
use crate::scenario::{Plan, Scenario};

/// Compare pagemill with other page allocators, in alternating turns of one run
///
/// Allocates and frees pages without accessing their bytes. Every run also measures the limit:
/// copying as many page handles between two stacks that stay in the cache.
#[derive(Debug, Parser)]
#[command(name = "pagemill-peers", version)]
pub(crate) struct Args {
    /// Scenarios to measure [default: all but orders and scale]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    pub(crate) scenario: Vec<Scenario>,
    /// Peers to measure, such as pagemill-vec,mimalloc; see --list [default: all]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) peer: Vec<String>,
    /// List the peers of this build and exit
    #[arg(long)]
    pub(crate) list: bool,
    /// Pages per call of the scenario steady [default: 1,2,4,8,16,32,64,128,256,512]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) n: Vec<usize>,
    /// Memory of each peer: 1G, 64M; at most 4G
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub(crate) arena: Size,
    /// Approximate duration of the whole run, in seconds; at least three rounds
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Duration of one measurement, in milliseconds (not of drains)
    #[arg(long, value_name = "MS", default_value_t = 2)]
    pub(crate) slice: u64,
    /// Try it out: one round after the warm-up, fewer sizes, an arena of at most 128M
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seed of the random choices
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    /// CPUs of the threads, such as 0,1 [default: the first two allowed; for scale, up to 16]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) cpus: Vec<u32>,
    /// Write all figures to FILE as JSON; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the cost of a page against the pages per call to FILE, as SVG; - for the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

impl Args {
    /// Checks the combination of options, which the parser does not.
    ///
    /// # Errors
    /// A message for the user.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.json.is_some() && self.json == self.svg {
            return Err(
                "--json and --svg name the same output: give each a file of its own".to_owned()
            );
        }
        let mut cpus = self.cpus.clone();
        cpus.sort_unstable();
        match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("--cpus names CPU {} twice: name each once", pair[0])),
            None => Ok(()),
        }
    }

    /// Returns the plan of the run.
    ///
    /// # Errors
    /// A message that names the invalid option.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let sizes = match (self.n.as_slice(), self.quick) {
            ([], true) => vec![1, 8, 64, 512],
            ([], false) => (0..10).map(|power| 1 << power).collect(),
            (sizes, _) => sizes.to_vec(),
        };
        for &n in &sizes {
            ensure!((1..=N_MAX).contains(&n), "--n {n}: pages per call are 1 to {N_MAX}");
        }
        let arena = if self.quick { self.arena.0.min(QUICK_ARENA) } else { self.arena.0 };
        let nr_pages = arena / 4096;
        let limits = MIN_NR_PAGES..=peers::NR_PAGES_MAX;
        ensure!(
            limits.contains(&nr_pages),
            "--arena: {nr_pages} pages of 4 KiB are not in {} to {}",
            limits.start(),
            limits.end()
        );
        let is_chosen = |one: &Scenario| match self.scenario.as_slice() {
            [] => !matches!(one, Scenario::Orders | Scenario::Scale),
            named => named.contains(one),
        };
        let scenarios: Vec<_> =
            Scenario::value_variants().iter().copied().filter(is_chosen).collect();
        let seconds = if self.quick { 0 } else { self.seconds };
        Ok(Plan {
            share: Duration::from_secs(seconds) / u32::try_from(scenarios.len())?,
            scenarios,
            sizes,
            nr_pages: nr_pages / BATCH * BATCH,
            slice: Duration::from_millis(if self.quick { 1 } else { self.slice }),
            rounds_min: if self.quick { 1 } else { 3 },
            seed: self.seed,
        })
    }

    /// Returns the CPUs to measure on, at most as many as the scenarios of `plan` can use.
    ///
    /// # Errors
    /// The error of the system.
    pub(crate) fn cpus(&self, plan: &Plan) -> anyhow::Result<Vec<CpuId>> {
        let mut cpus = match self.cpus.as_slice() {
            [] => Cpus::allowed()?,
            cpus => cpus.iter().copied().map(CpuId::new).collect(),
        };
        cpus.truncate(plan.scenarios.iter().map(|one| one.nr_cpus_max()).max().unwrap_or(1));
        Ok(cpus)
    }
}

/// The smallest arena: more pages than all per-CPU caches of a peer hold.
const MIN_NR_PAGES: usize = 16_384;
/// The largest arena of `--quick`, in bytes.
const QUICK_ARENA: usize = 128 << 20;

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'M') => (&text[..text.len() - 1], 20),
            Some(b'G') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let count: usize = digits
            .parse()
            .map_err(|_not_a_number| format!("'{text}' is not a size: write 64M or 1G"))?;
        let bytes = count.checked_mul(1 << shift).filter(|&bytes| bytes <= 1 << 40);
        bytes.map(Self).ok_or_else(|| format!("{text} is too large: at most 4G"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scenario_for_one_peer_is_one_line() {
        let args = Args::parse_from([
            "peers",
            "--scenario",
            "steady",
            "--peer",
            "pagemill-vec",
            "--n",
            "64",
            "--arena",
            "64M",
        ]);
        let plan = args.plan().unwrap();
        assert_eq!((plan.scenarios, plan.sizes), (vec![Scenario::Steady], vec![64]));
        assert_eq!(plan.nr_pages, 16_384);
    }

    #[test]
    fn one_output_for_two_things_and_one_cpu_for_two_threads_are_refused() {
        let check = |words: &[&str]| Args::parse_from([&["peers"], words].concat()).check();
        assert!(check(&["--json", "-", "--svg", "-"]).unwrap_err().contains("same output"));
        assert!(check(&["--json", "a", "--svg", "a"]).is_err());
        assert!(check(&["--cpus", "0,1,0"]).unwrap_err().contains("CPU 0 twice"));
        for fine in [&[][..], &["--json", "-", "--svg", "a"], &["--cpus", "1,0"]] {
            assert_eq!(check(fine), Ok(()));
        }
    }

    #[test]
    fn values_out_of_bounds_are_reported_with_the_bounds() {
        let error = |words: &[&str]| {
            Args::parse_from([&["peers"], words].concat()).plan().unwrap_err().to_string()
        };
        assert!(error(&["--n", "513"]).contains("1 to 512"));
        assert!(error(&["--arena", "5G"]).contains("16384 to"));
        assert!("1X".parse::<Size>().is_err());
    }
}
