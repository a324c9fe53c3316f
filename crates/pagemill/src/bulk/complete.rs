//! Complete bulk calls: all slots filled, or exactly `nr` pages, or an error with count and reason.

use core::fmt;

use crate::base::gfp::Gfp;
use crate::base::shortage::Shortage;
use crate::bulk::request::{self, BulkOutcome, BulkRequest, Effort};
use crate::page::list::PageList;
use crate::page::page::Page;
use crate::page::source::PageSource;
use crate::page_alloc::allocator::Site;

/// A bulk call could not allocate all pages that it was asked for.
///
/// # Examples
/// ```
/// # use pagemill::{AllocPages, Gfp, Page, Shortage};
/// # fn example<S: AllocPages>(frames: S) {
/// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
/// if let Err(error) = frames.fill(Gfp::KERNEL, &mut slots) {
///     // "allocated 5 of 16 pages: no zone that the request admits has enough memory left above its
///     // reserve"
///     assert!(error.new < error.wanted && error.short == Shortage::Memory);
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkError {
    /// Pages that the call had to allocate.
    pub wanted: usize,
    /// Pages that it allocated and the caller has now.
    pub new: usize,
    /// Why there are not more.
    pub short: Shortage,
}

impl fmt::Display for BulkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allocated {} of {} pages: {}", self.new, self.wanted, self.short)
    }
}

impl core::error::Error for BulkError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.short)
    }
}

/// Fills all empty slots; see [`AllocPages::fill`](crate::AllocPages::fill).
pub(crate) fn fill<S: PageSource>(
    source: &S,
    gfp: Gfp,
    slots: &mut [Option<Page<S>>],
    site: Site,
) -> Result<(), BulkError> {
    let all = 0..slots.len();
    let outcome = request::fill(source, &BulkRequest::new(gfp), slots, all, site);
    complete(outcome, slots.len() - (outcome.populated - outcome.new))
}

/// Allocates exactly `nr` pages; see
/// [`AllocPages::alloc_exactly`](crate::AllocPages::alloc_exactly).
pub(crate) fn exactly<S: PageSource>(
    source: &S,
    gfp: Gfp,
    nr: usize,
    site: Site,
) -> Result<PageList<Page<S>>, BulkError> {
    let mut pages = PageList::new(source.clone());
    let request = BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(gfp) };
    complete(request::append(source, &request, nr, &mut pages, site), nr)?;
    Ok(pages)
}

fn complete(outcome: BulkOutcome, wanted: usize) -> Result<(), BulkError> {
    match outcome.short {
        None => Ok(()),
        Some(short) => Err(BulkError { wanted, new: outcome.new, short }),
    }
}
