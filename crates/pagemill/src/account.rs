//! Who pays for pages: accounts with limits, one under another, charged once for a batch.
//!
//! A charged page names its account in its handle, so it is uncharged wherever it is freed, and a
//! batch of pages of one account is uncharged at once.

use core::fmt;

use crate::handle::AccountNumber;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::units::PFN_BITS;

/// The limits of an account, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct AccountLimits {
    /// What its pages and those of the accounts under it may not exceed.
    pub max: u64,
    /// Above this, it is counted as being over; nothing is refused.
    pub high: u64,
}

impl AccountLimits {
    /// No limits.
    pub const NONE: Self = Self { max: u64::MAX, high: u64::MAX };
}

/// What an account holds and has seen, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountUsage {
    /// Pages charged to it and to the accounts under it.
    pub current: u64,
    /// The largest number that `current` ever reached.
    pub peak: u64,
    /// How often a charge took it above its high mark.
    pub nr_high: u64,
    /// How often a charge was cut short or refused at its limit.
    pub nr_max: u64,
}

/// An account could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountError {
    /// Every entry of the table is taken; [`Config::nr_accounts`](crate::Config::nr_accounts) sets
    /// their number.
    TableFull {
        /// Number of accounts that the allocator has room for.
        nr_accounts: usize,
    },
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableFull { nr_accounts } => write!(
                f,
                "all {nr_accounts} accounts are open: close one, or raise Config::nr_accounts"
            ),
        }
    }
}

impl core::error::Error for AccountError {}

/// Pages charged at once at most: no allocator has more, and no sum of a few overflows.
const MAX_CHARGE: u64 = 1 << PFN_BITS;

/// Names an account, for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId(pub(crate) AccountNumber);

/// One account.
///
/// `account-alive`: an entry that is open, has pages, or has entries under it is not given to
/// anybody else. `users` counts these: one for being open, one for having pages, one for each child.
#[derive(Debug)]
pub(crate) struct Entry {
    users: AtomicU32,
    /// Index of the entry above; zero for none.
    parent: AtomicU32,
    max: AtomicU64,
    high: AtomicU64,
    current: AtomicU64,
    peak: AtomicU64,
    nr_high: AtomicU64,
    nr_max: AtomicU64,
}

impl Entry {
    pub(crate) fn new() -> Self {
        Self {
            users: AtomicU32::new(0),
            parent: AtomicU32::new(0),
            max: AtomicU64::new(0),
            high: AtomicU64::new(0),
            current: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            nr_high: AtomicU64::new(0),
            nr_max: AtomicU64::new(0),
        }
    }
}

/// The accounts of an allocator; entry zero stands for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts(&'static [Entry]);

impl Accounts {
    pub(crate) const fn new(entries: &'static [Entry]) -> Self {
        Self(entries)
    }

    /// Opens an account under `parent`, which is open.
    pub(crate) fn open(
        &self,
        parent: AccountNumber,
        limits: AccountLimits,
    ) -> Result<AccountNumber, AccountError> {
        // Acquire pairs with the Release decrement of the entry's last user in `leave`.
        let claim = |entry: &Entry| {
            entry.users.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let Some(index) = (1..self.0.len()).find(|&index| claim(&self.0[index])) else {
            return Err(AccountError::TableFull { nr_accounts: self.0.len().saturating_sub(1) });
        };
        let entry = &self.0[index];
        if !parent.is_none() {
            // Relaxed: the caller holds the parent open.
            self.0[parent.index()].users.fetch_add(1, Ordering::Relaxed);
        }
        let parent = u32::try_from(parent.index()).expect("ten bits");
        // Relaxed, all of them: nobody else knows the entry yet; its number is passed on by means
        // that order.
        entry.parent.store(parent, Ordering::Relaxed);
        entry.max.store(limits.max, Ordering::Relaxed);
        entry.high.store(limits.high, Ordering::Relaxed);
        for count in [&entry.current, &entry.peak, &entry.nr_high, &entry.nr_max] {
            count.store(0, Ordering::Relaxed);
        }
        Ok(AccountNumber::new(index))
    }

    /// Ends one use of an entry; the last one frees it and ends its use of its parent.
    pub(crate) fn leave(&self, account: AccountNumber) {
        let mut account = account;
        while !account.is_none() {
            let entry = &self.0[account.index()];
            // Read before the entry can be given away. Relaxed: it is in use.
            let parent = entry.parent.load(Ordering::Relaxed);
            // AcqRel pairs with itself and with the Acquire in `open`: what all users did comes
            // before the entry is used again.
            if entry.users.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            account = AccountNumber::new(parent as usize);
        }
    }

    /// Charges up to `nr` pages, at least `min`, to an account and those above it, and returns
    /// how many it charged: zero if `min` do not fit.
    pub(crate) fn charge(&self, account: AccountNumber, nr: u64, min: u64) -> u64 {
        if account.is_none() {
            return nr;
        }
        let mut wanted = nr.min(MAX_CHARGE);
        while wanted >= min && wanted > 0 {
            match self.try_charge(account, wanted) {
                Ok(()) => return wanted,
                // What is left was seen a moment ago; less than before is asked in any case.
                Err(left) => wanted = left.min(wanted - 1),
            }
        }
        0
    }

    /// Gives `nr` pages back to an account and those above it.
    pub(crate) fn uncharge(&self, account: AccountNumber, nr: u64) {
        if account.is_none() || nr == 0 {
            return;
        }
        self.uncharge_up_to(account, None, nr);
    }

    pub(crate) fn set_limits(&self, account: AccountNumber, limits: AccountLimits) {
        let entry = &self.0[account.index()];
        // Relaxed: a charge sees the old or the new limits.
        entry.max.store(limits.max, Ordering::Relaxed);
        entry.high.store(limits.high, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self, account: AccountNumber) -> AccountUsage {
        let entry = &self.0[account.index()];
        // Relaxed: a snapshot.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AccountUsage {
            current: read(&entry.current),
            peak: read(&entry.peak),
            nr_high: read(&entry.nr_high),
            nr_max: read(&entry.nr_max),
        }
    }

    /// Charges exactly `nr`, or nothing and returns how many fitted at the limit that refused.
    fn try_charge(&self, account: AccountNumber, nr: u64) -> Result<(), u64> {
        let mut next = account;
        while !next.is_none() {
            let entry = &self.0[next.index()];
            // Relaxed, all of them: a count that the charge itself does not order anything by.
            let before = entry.current.fetch_add(nr, Ordering::Relaxed);
            if before == 0 {
                // Having pages is a use of the entry; it is open, or a child of it is.
                entry.users.fetch_add(1, Ordering::Relaxed);
            }
            let max = entry.max.load(Ordering::Relaxed);
            if before + nr > max {
                entry.nr_max.fetch_add(1, Ordering::Relaxed);
                self.uncharge_up_to(account, Some(next), nr);
                return Err(max.saturating_sub(before));
            }
            if before + nr > entry.high.load(Ordering::Relaxed) {
                entry.nr_high.fetch_add(1, Ordering::Relaxed);
            }
            entry.peak.fetch_max(before + nr, Ordering::Relaxed);
            next = AccountNumber::new(entry.parent.load(Ordering::Relaxed) as usize);
        }
        Ok(())
    }

    /// Gives `nr` pages back to `account` and those above it, up to and with `last`.
    fn uncharge_up_to(&self, account: AccountNumber, last: Option<AccountNumber>, nr: u64) {
        let mut next = account;
        while !next.is_none() {
            let entry = &self.0[next.index()];
            // Relaxed: the entry is in use, since it has these pages.
            let parent = AccountNumber::new(entry.parent.load(Ordering::Relaxed) as usize);
            // AcqRel pairs with itself: the use that came with the first page was counted before the
            // last one, which ends it, was given back.
            let before = entry.current.fetch_sub(nr, Ordering::AcqRel);
            assert!(before >= nr, "account {next:?} gives back {nr} pages and has {before}");
            if before == nr {
                self.leave(next);
            }
            if last == Some(next) {
                return;
            }
            next = parent;
        }
    }
}

#[cfg(test)]
mod tests;
