//! Rates: what counters gained per second between two snapshots.

use alloc::collections::{BTreeMap, VecDeque};

use pagemill_status::sections::{Kind, Table};
use pagemill_status::{Section, Snapshot};

/// The most rates that are kept for a sparkline.
const MAX_HISTORY: usize = 240;

/// A snapshot, the one before it, and a history of the rate of pages.
#[derive(Debug)]
pub(crate) struct Rates {
    /// The latest snapshot.
    pub(crate) now: Snapshot,
    before: Option<Snapshot>,
    /// For each section by name: its last state with other figures than now.
    sections: BTreeMap<String, Section>,
    /// Pages allocated and freed per second, the newest last.
    pub(crate) history: VecDeque<(f64, f64)>,
}

impl Rates {
    /// Begins with one snapshot, of which there are no rates.
    pub(crate) fn new(now: Snapshot) -> Self {
        Self { now, before: None, sections: BTreeMap::new(), history: VecDeque::new() }
    }

    /// Goes on to the next snapshot. Begins anew if it is of another process.
    pub(crate) fn advance(&mut self, next: Snapshot) {
        let (old, new) = (&self.now.process, &next.process);
        if old.pid != new.pid || new.uptime_us <= old.uptime_us {
            *self = Self::new(next);
            return;
        }
        for section in &self.now.sections {
            let next = next.sections.iter().find(|it| it.name == section.name);
            if next.is_some_and(|next| next.taken_us > section.taken_us) {
                self.sections.insert(section.name.clone(), section.clone());
            }
        }
        self.before = Some(core::mem::replace(&mut self.now, next));
        let sums = |name: &dyn Fn(&str) -> bool| {
            let of_allocator = |index| self.vmstat_rate(index, name).unwrap_or(0.0);
            (0..self.now.allocators.len()).map(of_allocator).sum()
        };
        let rate = (sums(&|name| name.starts_with("pgalloc")), sums(&|name| name == "pgfree"));
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(rate);
    }

    fn seconds(&self) -> Option<f64> {
        let before = self.before.as_ref()?.process.uptime_us;
        seconds(before, self.now.process.uptime_us)
    }

    /// Returns the rate of an allocator's counters whose names satisfy `is_of`, together.
    pub(crate) fn vmstat_rate(&self, index: usize, is_of: &dyn Fn(&str) -> bool) -> Option<f64> {
        let now = self.now.allocators.get(index)?;
        let before = self.before.as_ref()?.allocators.iter().find(|it| it.name == now.name)?;
        let sum = |counters: &pagemill_status::snapshots::Counters| -> u64 {
            counters.iter().filter(|(name, _)| is_of(name)).map(|(_, value)| value).sum()
        };
        Some(gained(sum(&before.vmstat), sum(&now.vmstat)) / self.seconds()?)
    }

    /// Returns the rate of a page pool's counter.
    pub(crate) fn pool_rate(&self, pool: &str, counter: &str) -> Option<f64> {
        let of = |snapshot: &Snapshot| {
            snapshot.pools.iter().find(|it| it.name == pool)?.counters.get(counter)
        };
        Some(gained(of(self.before.as_ref()?)?, of(&self.now)?) / self.seconds()?)
    }

    /// Returns the rate of a counter of a section.
    pub(crate) fn figure_rate(&self, section: &Section, name: &str) -> Option<f64> {
        let (before, seconds) = self.section_before(section)?;
        let of = |section: &Section| {
            section.figures.iter().find(|it| it.name == name).map(|it| it.value)
        };
        Some(gained(of(before)?, of(section)?) / seconds)
    }

    /// Returns each value of a table's row: counters as rates, where there are any.
    pub(crate) fn row_values(&self, section: &Section, table: &Table, row: usize) -> Vec<Value> {
        let Some(now) = table.rows.get(row) else { return Vec::new() };
        let before = self.section_before(section).and_then(|(before, seconds)| {
            let table = before.tables.iter().find(|it| it.name == table.name)?;
            let row = table.rows.iter().find(|row| row.labels == now.labels)?;
            Some((row, seconds))
        });
        let columns = table.columns.iter().zip(&now.values).enumerate();
        columns
            .map(|(index, (column, &value))| match (column.kind, before) {
                (Kind::Counter, Some((row, seconds))) => {
                    let before = row.values.get(index).copied().unwrap_or(0);
                    Value::Rate(gained(before, value) / seconds)
                }
                _ => Value::Total(value as f64),
            })
            .collect()
    }

    fn section_before(&self, section: &Section) -> Option<(&Section, f64)> {
        let before = self.sections.get(&section.name)?;
        Some((before, seconds(before.taken_us, section.taken_us)?))
    }
}

/// A number of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// Per second.
    Rate(f64),
    /// Since the start, or now.
    Total(f64),
}

impl Value {
    pub(crate) fn number(self) -> f64 {
        match self {
            Self::Rate(number) | Self::Total(number) => number,
        }
    }
}

/// Returns what a counter gained; zero if it began anew.
fn gained(before: u64, now: u64) -> f64 {
    now.saturating_sub(before) as f64
}

fn seconds(before_us: u64, now_us: u64) -> Option<f64> {
    let us = now_us.checked_sub(before_us).filter(|&us| us > 0)?;
    Some(us as f64 / 1e6)
}
