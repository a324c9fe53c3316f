//! What the server has done so far, as text for people and for Prometheus.

use core::fmt::Write as _;

use pagemill_rpc::{Counter, ProcedureStats, Stats};

use super::Service;

/// One line: calls since the start, with the busiest procedures, and what pages did.
pub(crate) fn line(service: &Service) -> String {
    let stats = service.server.dispatcher().stats();
    let mut procedures: Vec<_> =
        procedures(service).filter(|(_, stats)| stats.served.value() > 0).collect();
    procedures.sort_by_key(|(_, stats)| core::cmp::Reverse(stats.served.value()));
    let mut text = format!("{} calls", stats.calls.value());
    for (name, stats) in procedures.iter().take(6) {
        let (mean, p99) = (mean_us(stats), stats.quantile_us(0.99));
        let _ = write!(text, ", {name} {} ({mean:.1} us, 99 % {p99})", stats.served.value());
    }
    let refills = &stats.refills;
    let _ = write!(
        text,
        "; {} connections, in {} out {} MiB; refills {} for {} pages, {} single, {} waits",
        service.server.nr_connections(),
        stats.received_bytes.value() >> 20,
        stats.sent_bytes.value() >> 20,
        refills.calls.value(),
        refills.pages.value(),
        refills.single_fallbacks.value(),
        refills.waits.value(),
    );
    text
}

/// A table of all procedures that were called, and all counters.
pub(crate) fn table(service: &Service) -> String {
    let mut text = String::from("procedure       calls  refused    mean us   50 % us   99 % us\n");
    let refused = service.nfs.refused();
    for ((name, stats), refused) in procedures(service).zip(refused) {
        let calls = stats.served.value();
        if calls > 0 {
            let [half, most] = [0.5, 0.99].map(|share| stats.quantile_us(share));
            let mean = mean_us(stats);
            let _ = writeln!(text, "{name:11} {calls:9} {refused:8} {mean:10.1} {half:9} {most:9}");
        }
    }
    for (name, value) in counters(service) {
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

/// Everything in Prometheus' text format.
pub(crate) fn prometheus(service: &Service) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# TYPE pagemill_nfs_refused_total counter");
    for ((name, _), refused) in procedures(service).zip(service.nfs.refused()) {
        let _ = writeln!(text, "pagemill_nfs_refused_total{{procedure=\"{name}\"}} {refused}");
    }
    let _ = writeln!(text, "# TYPE pagemill_nfs_call_seconds histogram");
    for (name, stats) in procedures(service) {
        histogram(&mut text, name, stats);
    }
    for (name, value) in counters(service) {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let _ = writeln!(text, "# TYPE pagemill_{name} {kind}\npagemill_{name} {value}");
    }
    text
}

fn histogram(text: &mut String, name: &str, stats: &ProcedureStats) {
    let mut sum = 0;
    for (class, count) in stats.latency.iter().map(Counter::value).enumerate() {
        sum += count;
        let last = class + 1 == stats.latency.len();
        let bound = match last {
            true => "+Inf".to_owned(),
            false => format!("{}", (1_u64 << class) as f64 / 1e6),
        };
        let _ = writeln!(
            text,
            "pagemill_nfs_call_seconds_bucket{{procedure=\"{name}\",le=\"{bound}\"}} {sum}"
        );
    }
    let seconds = stats.busy_us.value() as f64 / 1e6;
    let _ = writeln!(text, "pagemill_nfs_call_seconds_sum{{procedure=\"{name}\"}} {seconds}");
    let _ = writeln!(text, "pagemill_nfs_call_seconds_count{{procedure=\"{name}\"}} {sum}");
}

/// Returns the procedures of NFS in the order of their numbers.
fn procedures(service: &Service) -> impl Iterator<Item = (&'static str, &ProcedureStats)> {
    service
        .server
        .dispatcher()
        .procedure_stats()
        .filter(|(program, ..)| *program == "nfs")
        .map(|(_, _, procedure, stats)| (procedure, stats))
}

fn counters(service: &Service) -> impl Iterator<Item = (&'static str, u64)> {
    let stats: &Stats = service.server.dispatcher().stats();
    let of_server = [
        ("rpc_calls_total", &stats.calls),
        ("rpc_refused_total", &stats.refused),
        ("rpc_ignored_total", &stats.ignored),
        ("rpc_received_bytes_total", &stats.received_bytes),
        ("rpc_aside_bytes_total", &stats.aside_bytes),
        ("rpc_sent_bytes_total", &stats.sent_bytes),
        ("rpc_accepted_total", &stats.accepted),
        ("rpc_turned_away_total", &stats.turned_away),
        ("rpc_timed_out_total", &stats.timed_out),
        ("rpc_misbehaved_total", &stats.misbehaved),
        ("rpc_accept_failures_total", &stats.accept_failures),
        ("rpc_parked_total", &stats.parked),
        ("rpc_backlogged_total", &stats.backlogged),
        ("refill_calls_total", &stats.refills.calls),
        ("refill_pages_total", &stats.refills.pages),
        ("refill_single_total", &stats.refills.single_fallbacks),
        ("refill_waits_total", &stats.refills.waits),
    ]
    .map(|(name, counter)| (name, counter.value()));
    let now = [
        ("rpc_connections", service.server.nr_connections() as u64),
        ("rpc_parked_bytes", service.server.parked_bytes() as u64),
        ("rpc_threads", service.server.nr_threads() as u64),
        ("nfs_open_files", service.vfs.nr_files() as u64),
    ];
    of_server.into_iter().chain(now)
}

fn mean_us(stats: &ProcedureStats) -> f64 {
    stats.busy_us.value() as f64 / stats.served.value().max(1) as f64
}
