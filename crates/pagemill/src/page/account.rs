//! Account handle: opens, limits and closes an account to which pages are charged.

use core::fmt;

use crate::account::table::{AccountError, AccountId, AccountLimits, AccountUsage};
use crate::base::raw_page::AccountNumber;
use crate::page::source::PageSource;

/// An open account, to which pages can be charged.
///
/// An allocator has no accounts by default: [`Config::nr_accounts`](crate::Config::nr_accounts) (in a
/// process, `AllocatorConfig::nr_accounts`) sets how many may be open.
///
/// Name it in [`BulkRequest::account`](crate::BulkRequest::account), or let the platform name it for
/// requests with [`Gfp::ACCOUNT`](crate::Gfp::ACCOUNT). A charge counts for the account and for all its
/// ancestors, and is refused if it would take any of them above its limit. Charged pages are uncharged
/// when any thread frees them.
///
/// Dropping it closes the account: no new charge succeeds, and its table entry is free again once the
/// last of its pages has been freed.
///
/// # Cost
/// A batch is charged or uncharged at once, with three atomic operations for the account and for each
/// ancestor.
///
/// # Examples
/// ```
/// use pagemill::accounts::{Account, AccountLimits};
/// use pagemill::{AllocPages, BulkRequest, Gfp, Shortage};
/// # use pagemill_testkit::World;
/// # let frames = &*World::bare(1024);
///
/// // `frames` is an allocator whose configuration sets `nr_accounts`.
/// let limits = AccountLimits { max: 10, ..AccountLimits::NONE };
/// let account = Account::open(frames, limits)?;
/// let request = BulkRequest { account: Some(account.id()), ..BulkRequest::new(Gfp::KERNEL) };
/// let mut slots = [const { None }; 64];
/// let outcome = frames.bulk_fill(&request, &mut slots);
/// assert_eq!((outcome.new, outcome.short), (10, Some(Shortage::Account)));
/// assert_eq!(account.usage().current, 10);
/// frames.release_pages(&mut slots);
/// assert_eq!(account.usage().current, 0);
/// # Ok::<(), pagemill::accounts::AccountError>(())
/// ```
pub struct Account<S: PageSource> {
    number: AccountNumber,
    source: S,
}

impl<S: PageSource> Account<S> {
    /// Opens an account without a parent.
    ///
    /// # Errors
    /// [`AccountError::TableFull`], always if the allocator's `nr_accounts` is zero, the default.
    pub fn open(source: S, limits: AccountLimits) -> Result<Self, AccountError> {
        let number = source.allocator().accounts().open(AccountNumber::NONE, limits)?;
        Ok(Self { number, source })
    }

    /// Opens a child of this account; the parent's table entry stays in use as long as the child's.
    ///
    /// # Errors
    /// [`AccountError::TableFull`].
    pub fn open_child(&self, limits: AccountLimits) -> Result<Self, AccountError> {
        let number = self.source.allocator().accounts().open(self.number, limits)?;
        Ok(Self { number, source: self.source.clone() })
    }

    /// Returns the account's id.
    ///
    /// After the account is closed, and in other allocators, the id is invalid: a request that names it
    /// fails with [`Shortage::Account`](crate::Shortage::Account), or is charged to no account if it
    /// may not fail.
    #[must_use]
    pub fn id(&self) -> AccountId {
        self.source.allocator().accounts().id(self.number)
    }

    /// Changes the limits. Pages above a lower limit stay; new charges fail until they are freed.
    pub fn set_limits(&self, limits: AccountLimits) {
        self.source.allocator().accounts().set_limits(self.number, limits);
    }

    /// Returns the account's current charges and its counters.
    #[must_use]
    pub fn usage(&self) -> AccountUsage {
        self.source.allocator().accounts().usage(self.number)
    }
}

impl<S: PageSource> Drop for Account<S> {
    fn drop(&mut self) {
        self.source.allocator().accounts().close(self.number);
    }
}

impl<S: PageSource> fmt::Debug for Account<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id()).field("usage", &self.usage()).finish()
    }
}
