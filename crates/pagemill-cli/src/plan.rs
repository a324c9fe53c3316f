//! What was typed means on this machine: CPUs that exist, memory that suffices, open files.

#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod nfsd;
pub(crate) mod xdp;

use pagemill_host::{ArenaConfig, Backing, HugePages};

use crate::args::{ArenaArgs, HugeArg, InfoArgs};
use crate::output::Output;
use crate::usage::UsageError;

/// Everything that `info` needs.
#[derive(Debug)]
pub(crate) struct InfoPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// Where JSON goes; `None` for text on the standard output.
    pub(crate) json: Option<Output>,
}

/// The size of a huge page, of which hugetlb arenas are made.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Finds out what the options of `info` mean, and opens its output.
///
/// # Errors
/// As [`bulk`].
pub(crate) fn info(args: &InfoArgs) -> anyhow::Result<InfoPlan> {
    Ok(InfoPlan { arena: arena(&args.arena)?, json: Output::open("--json", args.json.as_deref())? })
}

fn arena(args: &ArenaArgs) -> Result<ArenaConfig, UsageError> {
    let huge = match args.huge {
        HugeArg::Never => HugePages::Never,
        HugeArg::Auto => HugePages::Auto,
        HugeArg::Transparent => HugePages::Transparent,
        HugeArg::Hugetlb => HugePages::HugeTlb,
    };
    if huge == HugePages::HugeTlb && !args.size.bytes().is_multiple_of(HUGE_PAGE_BYTES) {
        let line = "with --huge hugetlb, --arena must be a multiple of 2 MiB";
        return Err(UsageError::new(format!("{line}, and {} is none", args.size)));
    }
    Ok(ArenaConfig {
        len_bytes: args.size.bytes(),
        backing: if args.memfd { Backing::Memfd } else { Backing::Anonymous },
        huge,
        prefault: args.prefault,
        lock: args.lock,
    })
}
