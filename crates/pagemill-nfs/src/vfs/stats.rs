//! What is counted of each export.

use pagemill_rpc::Counter;

/// What is counted of an export from the start of the process, also over reloads of the exports.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExportStats {
    /// Handles of this export that calls were carried out on; RENAME and LINK have two.
    pub calls: Counter,
    /// Bytes that READ replies were to contain.
    pub read_bytes: Counter,
    /// Bytes that WRITE calls wrote.
    pub written_bytes: Counter,
}
