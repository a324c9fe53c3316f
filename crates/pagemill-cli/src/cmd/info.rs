//! `pagemill info`: shows a fresh allocator.

use super::fresh::fresh_allocator;
use crate::args::InfoArgs;
use crate::output;
use crate::plan;
use crate::report::info::Info;

/// Builds an allocator and shows its zones, free blocks and counters.
///
/// # Errors
/// What is wrong with the options, and what the system refuses.
pub(crate) fn run(args: &InfoArgs) -> anyhow::Result<()> {
    let plan = plan::info(args)?;
    let frames = fresh_allocator(plan.arena)?;
    let info = Info::of(&frames);
    match plan.json {
        Some(output) => output.write(&info.to_json()?),
        None => Ok(output::print(&info.to_string())?),
    }
}
