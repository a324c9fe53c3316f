//! The clock of the measurements: the time stamp counter, less what reading it costs.

use crate::cpu;

/// More ticks than anything here takes, and less than a minute on any machine.
pub(crate) const MANY_SECONDS: u64 = 30_000_000_000;

/// What a tick is, and what taking the time costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    overhead: u64,
    /// Whether a tick is an instruction, as under QEMU's `-icount shift=0`.
    pub(crate) counts_instructions: bool,
}

impl Clock {
    /// Looks how the counter counts.
    pub(crate) fn detect() -> Self {
        let raw = Self { overhead: 0, counts_instructions: false };
        let overhead = (0..100).map(|_| raw.ticks(|| ())).min().unwrap_or(0);
        let clock = Self { overhead, ..raw };
        // Loops of two instructions a round: their difference is exact on no other clock.
        let of = |rounds| clock.ticks(|| cpu::count_down(rounds));
        // On a busy machine the shorter loop may take longer: no difference is no error.
        let counts_instructions =
            (0..3).all(|_| of(30_000).checked_sub(of(10_000)) == Some(40_000));
        Self { counts_instructions, ..clock }
    }

    /// Returns the ticks that `work` takes.
    #[inline]
    pub(crate) fn ticks(self, work: impl FnOnce()) -> u64 {
        let start = cpu::timestamp();
        work();
        let end = cpu::timestamp();
        end.saturating_sub(start).saturating_sub(self.overhead)
    }

    /// Returns the name of a tick.
    pub(crate) fn unit(self) -> &'static str {
        if self.counts_instructions { "instructions" } else { "ticks" }
    }
}
