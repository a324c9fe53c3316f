//! An open account, as its owner holds it.

use core::fmt;

use crate::account::table::{AccountError, AccountId, AccountLimits, AccountUsage};
use crate::base::raw_page::AccountNumber;
use crate::page::source::PageSource;

/// An open account: who pays for the pages that are charged to it.
///
/// Name it in [`BulkRequest::account`](crate::BulkRequest::account), or let the platform name it
/// for requests with [`Gfp::ACCOUNT`](crate::Gfp::ACCOUNT). A charge counts for the account and for
/// all above it, and is refused if it would take any of them above its limit. Charged pages are
/// uncharged when any thread frees them.
///
/// Dropping it closes the account: nothing new can be charged, and its place is free again once
/// the last of its pages has come back.
///
/// # Cost
/// A batch is charged at once, and so is a batch of its pages uncharged: three atomic operations
/// for the account and for each one above it.
pub struct Account<S: PageSource> {
    number: AccountNumber,
    source: S,
}

impl<S: PageSource> Account<S> {
    /// Opens an account at the top.
    ///
    /// # Errors
    /// [`AccountError::TableFull`].
    pub fn open(source: S, limits: AccountLimits) -> Result<Self, AccountError> {
        let number = source.allocator().accounts().open(AccountNumber::NONE, limits)?;
        Ok(Self { number, source })
    }

    /// Opens an account under this one, which then stays in its place for as long as that does.
    ///
    /// # Errors
    /// [`AccountError::TableFull`].
    pub fn open_child(&self, limits: AccountLimits) -> Result<Self, AccountError> {
        let number = self.source.allocator().accounts().open(self.number, limits)?;
        Ok(Self { number, source: self.source.clone() })
    }

    /// Returns the account's name.
    ///
    /// Once the account is closed, and for other allocators, it names nobody: a request that says
    /// it pays ends with [`Shortage::Account`](crate::Shortage::Account), or is charged to nobody
    /// if it may not fail.
    #[must_use]
    pub fn id(&self) -> AccountId {
        self.source.allocator().accounts().id(self.number)
    }

    /// Changes the limits; pages above a lower one stay, and nothing is charged until they are gone.
    pub fn set_limits(&self, limits: AccountLimits) {
        self.source.allocator().accounts().set_limits(self.number, limits);
    }

    /// Returns what the account holds and has seen.
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
