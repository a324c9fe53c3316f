//! What the server has done so far, as text for people and for Prometheus.

use alloc::sync::Arc;
use core::fmt::{self, Write as _};

use pagemill_nfs::vfs::ExportStats;
use pagemill_rpc::stats::{Counter, ProcedureStats, Stats};
use pagemill_status::sections::{Column, Table};
use pagemill_status::{Section, Status, Unit};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Service;
use super::exports::clients;
use super::service::Source;

/// One line: calls since the start, with the busiest procedures, and what pages did.
pub(crate) fn line(service: &Service) -> String {
    let stats = service.server.dispatcher().stats();
    let mut procedures: Vec<_> =
        procedures(service).filter(|(_, stats)| stats.served.value() > 0).collect();
    procedures.sort_by_key(|(_, stats)| core::cmp::Reverse(stats.served.value()));
    let mut text = format!("{} calls", stats.calls.value());
    for (name, stats) in procedures.iter().take(6) {
        let (mean, p99) = (mean_us(stats), stats.quantile_us(0.99));
        let _ =
            write!(text, ", {name} {} ({mean:.1} us, 99 % below {p99} us)", stats.served.value());
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
    let mut text =
        String::from("procedure       calls  refused    mean us   50 % below us   99 % below us\n");
    let refused = service.nfs.refused();
    for ((name, stats), refused) in procedures(service).zip(refused) {
        let calls = stats.served.value();
        if calls > 0 {
            let [half, most] = [0.5, 0.99].map(|share| stats.quantile_us(share));
            let mean = mean_us(stats);
            let _ =
                writeln!(text, "{name:11} {calls:9} {refused:8} {mean:10.1} {half:15} {most:15}");
        }
    }
    for (name, _, value) in counters(service) {
        let _ = writeln!(text, "{name} {value}");
    }
    text
}

/// What `pagemill top` shows.
pub(crate) fn status(service: &Arc<Service>) -> Status {
    let (of_nfs, of_rpc) = (Arc::clone(service), Arc::clone(service));
    Status::of("nfsd", env!("CARGO_PKG_VERSION"))
        .allocator("requests", Source::new())
        .section(move || nfs_section(&of_nfs))
        .section(move || rpc_section(&of_rpc))
}

fn nfs_section(service: &Service) -> Section {
    let dispatcher = service.server.dispatcher();
    let (stats, replies) = (dispatcher.stats(), dispatcher.replies());
    let (nr_replies, reply_bytes) = replies.usage();
    Section::new("nfs", "NFS")
        .counter("calls", Unit::Count, stats.calls.value())
        .titled("RPC calls, all programs")
        .counter("received", Unit::Bytes, stats.received_bytes.value())
        .titled("bytes received")
        .counter("sent", Unit::Bytes, stats.sent_bytes.value())
        .titled("bytes sent")
        .gauge("connections", Unit::Count, service.server.nr_connections() as u64)
        .titled("open connections")
        .counter("page_refills", Unit::Count, stats.refills.calls.value())
        .titled("page allocator calls")
        .counter("waits_for_pages", Unit::Count, stats.refills.waits.value())
        .titled("waits for free pages")
        .gauge("open_files", Unit::Count, service.vfs.nr_files() as u64)
        .titled("open files")
        .counter("reply_cache_hits", Unit::Count, replies.hits.value())
        .titled("replies from reply cache")
        .gauge("reply_cache_replies", Unit::Count, nr_replies as u64)
        .titled("replies in reply cache")
        .gauge("reply_cache", Unit::Bytes, reply_bytes as u64)
        .titled("reply cache size")
        .table(export_table(service))
        .table(client_table(service))
        .table(procedure_table(service))
}

fn export_table(service: &Service) -> Table {
    let columns = [
        Column::counter("calls", Unit::Count),
        Column::counter("bytes read", Unit::Bytes),
        Column::counter("bytes written", Unit::Bytes),
    ];
    let mut table = Table::new("exports", ["export", "clients"], columns);
    for export in service.vfs.exports().iter() {
        let rule = export.rule();
        let labels = [rule.path.to_string_lossy().into_owned(), clients(rule)];
        let values = EXPORT_COUNTERS.map(|(.., counter)| counter(export.stats()).value());
        table.push(labels, values);
    }
    table
}

fn client_table(service: &Service) -> Table {
    let columns = [Column::gauge("connections", Unit::Count)];
    let mut table = Table::new("clients", ["address", "known"], columns);
    for client in service.server.clients() {
        let known = if client.is_stranger { "no" } else { "yes" };
        table.push([client.addr.to_string(), known.to_owned()], [client.nr_connections as u64]);
    }
    table
}

fn procedure_table(service: &Service) -> Table {
    let columns = [
        Column::counter("calls", Unit::Count),
        Column::counter("error replies", Unit::Count),
        Column::gauge("mean time", Unit::Micros),
        Column::gauge("99 % within", Unit::Micros),
    ];
    let mut table = Table::new("procedures", ["procedure"], columns);
    for ((name, stats), refused) in procedures(service).zip(service.nfs.refused()) {
        let calls = stats.served.value();
        if let Some(mean) = stats.busy_us.value().checked_div(calls) {
            table.push([name.to_owned()], [calls, refused, mean, stats.quantile_us(0.99)]);
        }
    }
    table
}

fn rpc_section(service: &Service) -> Section {
    counters(service).fold(Section::new("rpc", "RPC").detail(), |section, (name, help, value)| {
        let unit = if name.ends_with("_bytes") || name.ends_with("_bytes_total") {
            Unit::Bytes
        } else {
            Unit::Count
        };
        let name = name.strip_prefix("rpc_").unwrap_or(name);
        let section = match name.strip_suffix("_total") {
            Some(name) => section.counter(name, unit, value),
            None => section.gauge(name, unit, value),
        };
        section.titled(help.trim_end_matches('.'))
    })
}

/// Everything in the `OpenMetrics` format, which Prometheus reads.
///
/// # Errors
/// None that is known of: a string takes all that is written.
pub(crate) fn prometheus(service: &Arc<Service>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("pagemill");
    registry.register_collector(Box::new(Statistics(Arc::clone(service))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Reads the counters when it is asked to.
#[derive(Debug)]
struct Statistics(Arc<Service>);

impl Collector for Statistics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(service) = self;
        encode_build(&mut encoder)?;
        encode_procedures(&mut encoder, service)?;
        encode_exports(&mut encoder, service)?;
        for (name, help, value) in counters(service) {
            let kind = match name.ends_with("_total") {
                true => MetricType::Counter,
                false => MetricType::Gauge,
            };
            // The encoder writes the ending of counters itself.
            let name = name.trim_end_matches("_total");
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            match kind {
                MetricType::Counter => count(&mut metric, value)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

fn encode_build(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "The version of the program; the value is 1.";
    let mut metric = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
    metric.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?.encode_gauge(&1_u64)
}

fn encode_procedures(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let names: Vec<_> = procedures(service).map(|(name, _)| name).collect();
    let help = "Calls that NFS answered with a status other than NFS3_OK.";
    let mut refused = encoder.encode_descriptor("nfs_refused", help, None, MetricType::Counter)?;
    for (procedure, status, value) in service.nfs.refused_by_status() {
        let (procedure, status) = (names.get(procedure).copied().unwrap_or(""), status.to_string());
        let labels = [("procedure", procedure), ("status", &status)];
        count(&mut refused.encode_family(&labels)?, value)?;
    }
    let help = "Time from a call's arrival at a thread to its reply.";
    let mut latency =
        encoder.encode_descriptor("nfs_call_seconds", help, None, MetricType::Histogram)?;
    for (name, stats) in procedures(service) {
        let counts = stats.latency.iter().map(Counter::value).enumerate();
        let last = stats.latency.len() - 1;
        let buckets: Vec<_> = counts
            .map(|(class, count)| {
                // The library's word for infinity.
                let bound = if class == last { f64::MAX } else { (1_u64 << class) as f64 / 1e6 };
                (bound, count)
            })
            .collect();
        let all = buckets.iter().map(|(_, count)| count).sum();
        let seconds = stats.busy_us.value() as f64 / 1e6;
        latency
            .encode_family(&[("procedure", name)])?
            .encode_histogram::<NoLabelSet>(seconds, all, &buckets, None)?;
    }
    Ok(())
}

/// A counter of an export: its name, its help, and how it is read.
type ExportCounter = (&'static str, &'static str, fn(&ExportStats) -> &Counter);

const EXPORT_COUNTERS: [ExportCounter; 3] = [
    (
        "nfs_export_calls",
        "File handles of the export in calls that were carried out; RENAME and LINK have two.",
        |stats| &stats.calls,
    ),
    ("nfs_export_read_bytes", "Bytes read from files of the export.", |stats| &stats.read_bytes),
    ("nfs_export_written_bytes", "Bytes written to files of the export.", |stats| {
        &stats.written_bytes
    }),
];

fn encode_exports(encoder: &mut DescriptorEncoder<'_>, service: &Service) -> fmt::Result {
    let exports = service.vfs.exports();
    for (name, help, counter) in EXPORT_COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for export in exports.iter() {
            let path = label(&export.rule().path.to_string_lossy());
            let labels = [("export", path.as_str())];
            count(&mut metric.encode_family(&labels)?, counter(export.stats()).value())?;
        }
    }
    Ok(())
}

fn count(metric: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
}

/// Escapes a label's value, which the library does not do.
///
/// # Source
/// `openmetrics` "Text format"
fn label(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
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

/// Returns the name, the help and the value of each number that has no label.
fn counters(service: &Service) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let stats: &Stats = service.server.dispatcher().stats();
    let of_server = [
        ("rpc_calls_total", "Well-formed calls to all programs.", &stats.calls),
        (
            "rpc_refused_total",
            "Calls refused: header, program, version, procedure.",
            &stats.refused,
        ),
        ("rpc_ignored_total", "Messages without reply: too short or not a call.", &stats.ignored),
        ("rpc_received_bytes_total", "Bytes received.", &stats.received_bytes),
        (
            "rpc_spliced_bytes_total",
            "Bytes received straight into a file, without pages.",
            &stats.spliced_bytes,
        ),
        ("rpc_sent_bytes_total", "Bytes sent.", &stats.sent_bytes),
        ("rpc_accepted_total", "Connections accepted.", &stats.accepted),
        ("rpc_turned_away_total", "Connections refused because of the limit.", &stats.turned_away),
        ("rpc_evicted_total", "Connections closed to make room for others.", &stats.evicted),
        ("rpc_panicked_total", "Panics in calls and in threads.", &stats.panicked),
        ("rpc_timed_out_total", "Connections closed for being too slow.", &stats.timed_out),
        ("rpc_misbehaved_total", "Connections closed because of invalid data.", &stats.misbehaved),
        (
            "rpc_accept_failures_total",
            "Failures to accept: no descriptors or memory.",
            &stats.accept_failures,
        ),
        ("rpc_parked_total", "Times that a connection waited for pages.", &stats.parked),
        (
            "rpc_backlogged_total",
            "Replies that did not fit into the socket at once.",
            &stats.backlogged,
        ),
        ("refill_calls_total", "Calls to the page allocator.", &stats.refills.calls),
        ("refill_pages_total", "Pages that the allocator returned.", &stats.refills.pages),
        (
            "refill_single_total",
            "Bulk calls for several pages that returned one.",
            &stats.refills.single_fallbacks,
        ),
        ("refill_waits_total", "Times that a thread waited for pages.", &stats.refills.waits),
    ]
    .map(|(name, help, counter)| (name, help, counter.value()));
    let now = [
        ("rpc_connections", "Open connections.", service.server.nr_connections() as u64),
        (
            "rpc_parked_bytes",
            "Bytes of pages that idle connections hold.",
            service.server.parked_bytes() as u64,
        ),
        ("rpc_threads", "Threads that carry out calls.", service.server.nr_threads() as u64),
        ("nfs_open_files", "Open files.", service.vfs.nr_files() as u64),
    ];
    of_server.into_iter().chain(now)
}

fn mean_us(stats: &ProcedureStats) -> f64 {
    stats.busy_us.value() as f64 / stats.served.value().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_in_labels() {
        assert_eq!(label("/srv/a b"), "/srv/a b");
        assert_eq!(label("/a\"b\\c\nd"), r#"/a\"b\\c\nd"#);
    }
}
