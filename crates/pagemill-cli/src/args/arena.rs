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
    /// Use of huge pages of 2 MiB for the memory
    #[arg(long, value_enum, default_value_t = HugeArg::Auto)]
    pub(crate) huge: HugeArg,
    /// Take the memory from a memfd instead of anonymous memory
    #[arg(long)]
    pub(crate) memfd: bool,
    /// Fault all of the memory in before the start, instead of page by page on first touch
    #[arg(long)]
    pub(crate) prefault: bool,
    /// Lock the memory, so that it is not swapped out
    #[arg(long)]
    pub(crate) lock: bool,
}

/// Huge pages of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HugeArg {
    /// None, even where the system would use them by itself
    Never,
    /// From the hugetlb pool if it has enough, else transparent
    Auto,
    /// Transparent huge pages, if the system grants them
    Transparent,
    /// From the hugetlb pool; fails if it does not have enough
    Hugetlb,
}
