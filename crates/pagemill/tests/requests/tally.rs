//! What was seen in a run.

use pagemill::Shortage;

use crate::shape::Outcome;

/// How often each outcome was seen: a run that never fails a request proves little.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) whole: usize,
    pub(crate) partial: usize,
    pub(crate) memory: usize,
    pub(crate) account: usize,
    pub(crate) stopped: usize,
    pub(crate) fault: usize,
    pub(crate) nothing_of_all: usize,
    pub(crate) spread: usize,
}

impl Tally {
    /// Counts the outcome of a request for `wanted` blocks, of which it may want all.
    pub(crate) fn count(&mut self, outcome: Outcome, wanted: usize, all: bool) {
        self.whole += usize::from(outcome.short.is_none() && wanted > 0);
        self.partial += usize::from(outcome.short.is_some() && outcome.new > 0);
        self.nothing_of_all += usize::from(outcome.short.is_some() && all);
        match outcome.short {
            Some(Shortage::Memory) => self.memory += 1,
            Some(Shortage::Account) => self.account += 1,
            Some(Shortage::Stopped) => self.stopped += 1,
            Some(Shortage::Fault) => self.fault += 1,
            _ => {}
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.whole += other.whole;
        self.partial += other.partial;
        self.memory += other.memory;
        self.account += other.account;
        self.stopped += other.stopped;
        self.fault += other.fault;
        self.nothing_of_all += other.nothing_of_all;
        self.spread += other.spread;
    }

    /// Checks that every outcome was seen often enough to be worth comparing.
    pub(crate) fn check_coverage(self) {
        let Self { whole, partial, memory, account, stopped, fault, nothing_of_all, spread } = self;
        let seen = [whole, partial, memory, account, stopped, fault, nothing_of_all, spread];
        assert!(seen.iter().all(|&times| times >= 10), "rarely seen: {self:?}");
    }
}
