//! The options that describe the memory of pages.

use clap::{Args, ValueEnum};
use pagemill_bench::Size;

/// The memory that the pages are made of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Arena")]
pub(crate) struct ArenaArgs {
    /// Size of the memory that pages are allocated from: 1G, 64MiB, 16777216
    ///
    /// A multiple of 4 KiB. K, M, G and T, or KiB to TiB, stand for powers of 1024.
    #[arg(long = "arena", value_name = "SIZE", default_value = "1G")]
    pub(crate) size: Size,
    /// Whether the memory is to be in huge pages of 2 MiB
    #[arg(long, value_enum, default_value_t = HugeArg::Auto)]
    pub(crate) huge: HugeArg,
    /// Take the memory from a memfd rather than from anonymous memory
    #[arg(long)]
    pub(crate) memfd: bool,
    /// Find all of the memory before the start, rather than page by page when first touched
    #[arg(long)]
    pub(crate) prefault: bool,
    /// Keep the memory from being swapped out
    #[arg(long)]
    pub(crate) lock: bool,
}

/// Which huge pages an arena is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HugeArg {
    /// None, even where the system would use them unasked
    Never,
    /// From the hugetlb pool if it has enough, else transparent
    Auto,
    /// Advised to the system, which may decline
    Transparent,
    /// From the hugetlb pool, or not at all
    Hugetlb,
}
