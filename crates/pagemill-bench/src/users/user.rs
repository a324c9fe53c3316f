//! What a user of pages is, and what it starts with.

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;

use pagemill::units::CpuId;

use super::{Arm, Sample};
use crate::Clock;
use crate::frames::Frames;

/// A user that has started.
pub trait User: fmt::Debug {
    /// Works for about `slice` with pages taken by `arm`, at least one round; afterwards it holds no
    /// page that the next measurement could take.
    ///
    /// # Errors
    /// If there are too few pages, or the system refuses something.
    fn measure(&mut self, arm: Arm, slice: Duration) -> anyhow::Result<Sample>;

    /// Ends the user; all its pages are back afterwards.
    ///
    /// # Errors
    /// If a thread of the user has failed.
    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What users start with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The source of pages.
    pub frames: Frames,
    /// The clock of calls to the allocator.
    pub clock: Clock,
    /// The folder for files.
    pub folder: PathBuf,
    /// The CPU of another thread, such as a sender.
    pub peer_cpu: CpuId,
    /// Whether files and rings are as small as possible, for a test.
    pub is_trial: bool,
}

/// The result of a start.
#[derive(Debug)]
pub enum Start {
    /// The user.
    Ready(Box<dyn User>),
    /// It cannot run here; the text says why, and what would help.
    Skipped(String),
}
