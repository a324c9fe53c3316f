//! The memory that was asked for.

use pagemill_host::ArenaConfig;
use pagemill_host::arena::{Backing, HugePages};

use crate::args::arena::{ArenaArgs, HugeArg};
use crate::usage::UsageError;

/// The size of a huge page, of which hugetlb arenas are made.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Returns the arena that the options describe.
///
/// # Errors
/// Huge pages of which the size is no multiple.
pub(super) fn arena(args: &ArenaArgs) -> Result<ArenaConfig, UsageError> {
    let huge = match args.huge {
        HugeArg::Never => HugePages::Never,
        HugeArg::Auto => HugePages::Auto,
        HugeArg::Transparent => HugePages::Transparent,
        HugeArg::Hugetlb => HugePages::HugeTlb,
    };
    if huge == HugePages::HugeTlb && !args.size.bytes().is_multiple_of(HUGE_PAGE_BYTES) {
        let line = "with --huge hugetlb, --arena must be a multiple of 2 MiB";
        return Err(UsageError::new(format!("{line}, and {} is not", args.size)));
    }
    Ok(ArenaConfig {
        len_bytes: args.size.bytes(),
        backing: if args.memfd { Backing::Memfd } else { Backing::Anonymous },
        huge,
        prefault: args.prefault,
        lock: args.lock,
    })
}
