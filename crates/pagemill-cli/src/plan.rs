//! Plans: options after they were checked against this machine's CPUs, memory and files.

mod arena;
#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod nfsd;
pub(crate) mod xdp;

use pagemill_host::ArenaConfig;

use self::arena::arena;
use crate::args::InfoArgs;
use crate::output::Output;

/// Everything that `info` needs.
#[derive(Debug)]
pub(crate) struct InfoPlan {
    /// The memory.
    pub(crate) arena: ArenaConfig,
    /// Where JSON goes; `None` for text on the standard output.
    pub(crate) json: Option<Output>,
}

/// Finds out what the options of `info` mean, and opens its output.
///
/// # Errors
/// A [`UsageError`](crate::usage::UsageError) for an arena that cannot be; what the system answers where
/// the output cannot be opened.
pub(crate) fn info(args: &InfoArgs) -> anyhow::Result<InfoPlan> {
    Ok(InfoPlan { arena: arena(&args.arena)?, json: Output::open("--json", args.json.as_deref())? })
}
