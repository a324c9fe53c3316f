//! The option `--status`: a socket on which `pagemill top` finds this process.

use std::path::Path;

use pagemill_status::errors::ServeError;
use pagemill_status::{Status, StatusServer};

/// Serves the status on a socket at `path`; without one, in a private directory; `none` serves nothing.
///
/// # Errors
/// What the system refuses. A program that serves something else goes on without.
pub(super) fn serve(
    path: Option<&Path>,
    status: Status,
) -> Result<Option<StatusServer>, ServeError> {
    match path {
        None => status.serve().map(Some),
        Some(path) if path == Path::new("none") => Ok(None),
        Some(path) => status.serve_at(path).map(Some),
    }
}
