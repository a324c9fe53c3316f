//! Status of a run that moves packets, for `pagemill top`.

use alloc::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pagemill_status::sections::{Column, Table};
use pagemill_status::snapshots::PoolStatus;
use pagemill_status::{Section, Status, Unit};
use pagemill_xdp::devices::DeviceCounters;

use super::drive::Totals;
use super::supply::Source;
use crate::args::xdp::Endpoint;
use crate::plan::xdp::Fate;

/// The totals that were reported last, for the thread that serves the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownTotals(Arc<Mutex<Totals>>);

impl ShownTotals {
    /// Replaces the totals. The thread that moves packets does not call this.
    pub(crate) fn set(&self, totals: Totals) {
        *self.lock() = totals;
    }

    fn get(&self) -> Totals {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status of a run.
pub(crate) fn status(source: Source, input: Endpoint, fate: Fate, shown: &ShownTotals) -> Status {
    let (of_pool, of_run) = (shown.clone(), shown.clone());
    Status::of("xdp", env!("CARGO_PKG_VERSION"))
        .allocator("packets", source)
        .pool(move || pool(&of_pool.get()))
        .section(move || section(&of_run.get(), input, fate))
}

fn pool(totals: &Totals) -> Option<PoolStatus> {
    let nr_out = i32::try_from(totals.nr_out).unwrap_or(i32::MAX);
    totals.pool.map(|stats| PoolStatus::of("rx", &stats, nr_out))
}

fn section(totals: &Totals, input: Endpoint, fate: Fate) -> Section {
    let columns = [
        Column::counter("packets", Unit::Count),
        Column::counter("no frame", Unit::Count),
        Column::counter("ring full", Unit::Count),
        Column::counter("dropped", Unit::Count),
        Column::counter("malformed", Unit::Count),
        Column::counter("down", Unit::Count),
    ];
    let mut queues = Table::new("queues", ["queue", "direction"], columns);
    let mut push = |endpoint: Endpoint, direction: &str, packets, counters: &DeviceCounters| {
        let labels = [format!("{}:{}", endpoint.name, endpoint.queue), direction.to_owned()];
        let DeviceCounters { no_frame, ring_full, dropped, malformed, down, .. } = *counters;
        queues.push(labels, [packets, no_frame, ring_full, dropped, malformed, down]);
    };
    push(input, "in", totals.input.received, &totals.input);
    if let Fate::Redirect(output) = fate {
        push(output, "out", totals.output.completed, &totals.output);
    }
    let taken_us = u64::try_from(totals.elapsed.as_micros()).unwrap_or(u64::MAX);
    Section::new("xdp", "XDP")
        // Zero would be taken for now.
        .taken_us(taken_us.max(1))
        .counter("received", Unit::Count, totals.worker.received)
        .titled("packets received")
        .counter("lost", Unit::Count, totals.input.lost())
        .titled("packets lost")
        .counter("valid", Unit::Count, totals.worker.passed)
        .titled("valid packets")
        .counter("malformed", Unit::Count, totals.worker.malformed.total())
        .titled("malformed packets")
        .counter("sent", Unit::Count, totals.output.completed)
        .titled("packets sent")
        .gauge("held_frames", Unit::Count, totals.nr_out as u64)
        .titled("frames in use")
        .counter("short_refills", Unit::Count, totals.worker.short)
        .titled("refills cut short")
        .table(queues)
}
