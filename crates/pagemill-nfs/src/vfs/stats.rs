//! Counters of one export.

use pagemill_rpc::stats::Counter;

/// Counters of an export since the start of the process; they survive reloads of the exports.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExportStats {
    /// Handles of this export in calls that were carried out; RENAME and LINK have two.
    pub calls: Counter,
    /// Bytes that READ replies announced.
    pub read_bytes: Counter,
    /// Bytes that WRITE calls wrote.
    pub written_bytes: Counter,
}
