//! Account table: limits, charges and uncharges of a tree of accounts, one batch at a time.
//!
//! The handle of a charged page names the account, so any thread can uncharge it when it frees the
//! page, and a batch of pages of one account is uncharged at once.

use core::fmt;

use crate::base::book::{Book, BookError, Place};
use crate::base::gfp::Gfp;
use crate::base::raw_page::AccountNumber;
use crate::base::sync::{AtomicU32, AtomicU64, Lock, Ordering, StaticCounter};
use crate::base::units::PFN_BITS;

/// The limits of an account, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct AccountLimits {
    /// Limit on the pages of the account and its descendants. Allocations that may not fail
    /// ([`Gfp::NOFAIL`](crate::Gfp::NOFAIL)) exceed every limit.
    pub max: u64,
    /// Above this mark, charges are counted in `nr_high`; none is refused.
    pub high: u64,
}

impl AccountLimits {
    /// No limits.
    pub const NONE: Self = Self { max: u64::MAX, high: u64::MAX };
}

/// The current charges and the counters of an account, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountUsage {
    /// Pages charged to it and to its descendants.
    pub current: u64,
    /// Largest value that `current` ever had.
    pub peak: u64,
    /// Number of charges that took it above its high mark.
    pub nr_high: u64,
    /// Number of charges that were cut short or refused at the limit, or that exceeded it because they
    /// may not fail.
    pub nr_max: u64,
}

/// One account, as [`PageAllocator::account_info`](crate::PageAllocator::account_info) shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountInfo {
    /// Its number, as [`AccountId::number`] returns it.
    pub number: usize,
    /// The number of its parent.
    pub parent: Option<usize>,
    /// Its limits.
    pub limits: AccountLimits,
    /// Its current charges and its counters.
    pub usage: AccountUsage,
}

/// An account could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountError {
    /// Every entry of the table is in use; [`Config::nr_accounts`](crate::Config::nr_accounts) sets
    /// their number, which is zero by default.
    TableFull {
        /// Number of entries.
        nr_accounts: usize,
    },
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TableFull { nr_accounts: 0 } => f.write_str(
                "this allocator was configured without accounts: set nr_accounts of its \
                 configuration",
            ),
            Self::TableFull { nr_accounts } => write!(
                f,
                "all {nr_accounts} accounts are open: close one, or raise nr_accounts of the \
                 allocator's configuration"
            ),
        }
    }
}

impl core::error::Error for AccountError {}

/// Maximum of one charge: no allocator has more pages, and sums of a few charges do not overflow.
const MAX_CHARGE: u64 = 1 << PFN_BITS;

/// The name of an account of one allocator, valid while the account is open.
///
/// Names are unique: no other account of this or any other allocator gets the same one, not even after
/// the allocator was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId {
    number: AccountNumber,
    /// Number of accounts that used this entry before and were closed.
    generation: u64,
    allocator: AllocatorId,
}

/// Distinguishes allocators, including dropped ones. An address would not: a new allocator may get the
/// memory of one that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AllocatorId(u64);

impl AllocatorId {
    /// Returns an id that was never used before in this program.
    fn next() -> Self {
        static NEXT: StaticCounter = StaticCounter::new();
        Self(NEXT.next())
    }
}

impl AccountId {
    /// Returns the account's number in its allocator, for people and logs.
    #[must_use]
    pub const fn number(self) -> usize {
        self.number.index()
    }
}

/// One entry of the account table.
///
/// `account-alive`: an entry that is open, has pages, or has entries under it is not reused for
/// another account. Its users are counted: one for being open, one for having pages, one for each
/// child, one for each request that it is to pay for.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The number of users, and above [`USER_BITS`] the number of accounts closed here.
    state: AtomicU64,
    /// Index of the parent entry; zero for none.
    parent: AtomicU32,
    max: AtomicU64,
    high: AtomicU64,
    current: AtomicU64,
    peak: AtomicU64,
    nr_high: AtomicU64,
    nr_max: AtomicU64,
    /// In an account without a parent: held while a descendant is charged, which takes several steps.
    /// So no charge is refused because of another one that is then undone.
    nested: Lock<()>,
}

/// Bits of a state that count users: enough for 1023 children and 16 million concurrent requests.
const USER_BITS: u32 = 24;

/// Added to the state when an account is closed.
const GENERATION: u64 = 1 << USER_BITS;

/// The last generation of an entry. Closing an account of this generation would make the next one reuse
/// a name, so no account of this generation is opened. At a million accounts per second, an entry lasts
/// 12 days.
const LAST_GENERATION: u64 = u64::MAX >> USER_BITS;

/// Returns the number of users in a state.
fn users(state: u64) -> u64 {
    state % GENERATION
}

/// Returns the number of accounts that were closed in this state's entry.
fn generation(state: u64) -> u64 {
    state >> USER_BITS
}

impl Entry {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            parent: AtomicU32::new(0),
            max: AtomicU64::new(0),
            high: AtomicU64::new(0),
            current: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            nr_high: AtomicU64::new(0),
            nr_max: AtomicU64::new(0),
            nested: Lock::new(()),
        }
    }

    /// Adds `nr` pages, regardless of the limit, and returns the new total.
    fn add(&self, nr: u64) -> u64 {
        // Relaxed: the charge orders nothing by this count.
        let before = self.current.fetch_add(nr, Ordering::Relaxed);
        self.use_if_first(before);
        before + nr
    }

    /// Adds up to `nr` pages, at least `min`, as the limit allows. Returns how many it added, and the
    /// new total.
    ///
    /// A single step: adding first and comparing afterwards would refuse concurrent charges that fit.
    fn add_up_to(&self, nr: u64, min: u64) -> Option<(u64, u64)> {
        // Relaxed: a snapshot of a limit, and a count that orders nothing.
        let max = self.max.load(Ordering::Relaxed);
        let fits = |current: u64| nr.min(max.saturating_sub(current));
        let add = |current| (fits(current) >= min.max(1)).then(|| current + fits(current));
        let before = self.current.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        self.use_if_first(before);
        Some((fits(before), before + fits(before)))
    }

    /// Counts the use that comes with the first page.
    fn use_if_first(&self, nr_before: u64) {
        if nr_before == 0 {
            // Relaxed: the charging thread uses the entry or a child of it, so the last use does not
            // end meanwhile.
            self.state.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many more pages fit under the limit.
    fn room(&self) -> u64 {
        // Relaxed, both: a snapshot.
        let (max, current) = (&self.max, &self.current);
        max.load(Ordering::Relaxed).saturating_sub(current.load(Ordering::Relaxed))
    }

    /// Counts a charge that was cut short or refused here, or that exceeded the limit.
    fn note_limit(&self) {
        // Relaxed: a statistic.
        self.nr_max.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the new total `now` after a charge.
    fn note_level(&self, now: u64) {
        // Relaxed, all of them: statistics.
        if now > self.high.load(Ordering::Relaxed) {
            self.nr_high.fetch_add(1, Ordering::Relaxed);
        }
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    /// Returns the parent account.
    fn parent(&self) -> AccountNumber {
        // Relaxed: the entry is in use, and its parent does not change meanwhile.
        AccountNumber::new(self.parent.load(Ordering::Relaxed) as usize)
    }
}

/// The accounts of an allocator; entry zero stands for no account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accounts {
    entries: &'static [Entry],
    allocator: AllocatorId,
}

impl Accounts {
    /// Makes the accounts of a new allocator.
    pub(crate) fn new(entries: &'static [Entry]) -> Self {
        Self { entries, allocator: AllocatorId::next() }
    }

    /// Returns whether there is an entry for `account`, open or not; the account zero needs none.
    pub(crate) fn has(&self, account: AccountNumber) -> bool {
        account.is_none() || account.index() < self.entries.len()
    }

    /// Opens an account under `parent`, which is open.
    pub(crate) fn open(
        &self,
        parent: AccountNumber,
        limits: AccountLimits,
    ) -> Result<AccountNumber, AccountError> {
        // Acquire pairs with the Release decrement of the entry's last user in `leave`.
        let claim = |entry: &Entry| {
            let is_free = |state| users(state) == 0 && generation(state) < LAST_GENERATION;
            let take = |state| is_free(state).then_some(state + 1);
            entry.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_ok()
        };
        let Some(index) = (1..self.entries.len()).find(|&index| claim(&self.entries[index])) else {
            return Err(AccountError::TableFull {
                nr_accounts: self.entries.len().saturating_sub(1),
            });
        };
        let entry = &self.entries[index];
        if !parent.is_none() {
            // Relaxed: the caller holds the parent open.
            self.entries[parent.index()].state.fetch_add(1, Ordering::Relaxed);
        }
        let parent = u32::try_from(parent.index()).expect("ten bits");
        // Relaxed, all of them: no other thread knows the entry yet; its number is passed on by means
        // that order these stores.
        entry.parent.store(parent, Ordering::Relaxed);
        entry.max.store(limits.max, Ordering::Relaxed);
        entry.high.store(limits.high, Ordering::Relaxed);
        for count in [&entry.current, &entry.peak, &entry.nr_high, &entry.nr_max] {
            count.store(0, Ordering::Relaxed);
        }
        Ok(AccountNumber::new(index))
    }

    /// Closes an account and invalidates its name.
    pub(crate) fn close(&self, account: AccountNumber) {
        // Relaxed: a request either began before the account was closed, or does not begin.
        self.entries[account.index()].state.fetch_add(GENERATION, Ordering::Relaxed);
        self.leave(account);
    }

    /// Returns the name of an account that the caller keeps open.
    pub(crate) fn id(&self, account: AccountNumber) -> AccountId {
        // Relaxed: it changes only when the account is closed.
        let state = self.entries[account.index()].state.load(Ordering::Relaxed);
        AccountId { number: account, generation: generation(state), allocator: self.allocator }
    }

    /// Begins to use an account if it is open and belongs to this table.
    pub(crate) fn pay_from(&self, id: AccountId) -> Option<Payer> {
        // Checked before the number is used, which could be one of another table.
        if id.allocator != self.allocator {
            return None;
        }
        let use_it = |state| (generation(state) == id.generation).then_some(state + 1);
        let state = &self.entries[id.number.index()].state;
        // Relaxed: what belongs to the account came before its name.
        state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, use_it).ok()?;
        Some(Payer { accounts: *self, account: id.number, generation: id.generation, left: 0 })
    }

    /// Ends one use of an entry; the last one frees the entry and ends its use of its parent.
    fn leave(&self, account: AccountNumber) {
        let mut account = account;
        while !account.is_none() {
            let entry = &self.entries[account.index()];
            // Read before the entry can be reused. Relaxed: it is in use.
            let parent = entry.parent.load(Ordering::Relaxed);
            // AcqRel pairs with itself and with the Acquire in `open`: everything that users did
            // happens before the entry is reused.
            if users(entry.state.fetch_sub(1, Ordering::AcqRel)) > 1 {
                return;
            }
            account = AccountNumber::new(parent as usize);
        }
    }

    /// Charges up to `nr` pages, at least `min`, to an account and its ancestors. Returns how many it
    /// charged: zero if `min` do not fit.
    ///
    /// # Concurrency
    /// A charge that fits is never refused because of one that does not. An account without a parent is
    /// charged in one step. For all others, the accounts of the tree are charged one after the other
    /// under a lock, for which `relax` waits; the root is the last, since it can be charged without the
    /// lock.
    pub(crate) fn charge(
        &self,
        account: AccountNumber,
        nr: u64,
        min: u64,
        relax: impl FnMut(u32),
    ) -> u64 {
        if account.is_none() {
            return nr;
        }
        let nr = nr.min(MAX_CHARGE);
        let entry = &self.entries[account.index()];
        if !entry.parent().is_none() {
            let root = self.up_from(account).last().unwrap_or(entry);
            let _nested = root.nested.lock(relax);
            return self.charge_nested(account, nr, min);
        }
        let added = entry.add_up_to(nr, min);
        let (charged, now) = added.unwrap_or_default();
        if charged < nr {
            entry.note_limit();
        }
        if charged > 0 {
            entry.note_level(now);
        }
        charged
    }

    /// Does what [`charge`](Self::charge) does for an account with a parent, under the lock of its
    /// tree.
    fn charge_nested(&self, account: AccountNumber, nr: u64, min: u64) -> u64 {
        let mut wanted = nr;
        let mut tightest = None;
        loop {
            for entry in self.up_from(account) {
                let room = entry.room();
                if room < wanted {
                    (wanted, tightest) = (room, Some(entry));
                }
            }
            let is_refused = wanted < min.max(1);
            // The root, and limits, change without the lock.
            if is_refused || self.try_charge(account, wanted) {
                if let Some(entry) = tightest {
                    entry.note_limit();
                }
                if is_refused {
                    return 0;
                }
                // Relaxed: for statistics.
                let now = |entry: &Entry| entry.current.load(Ordering::Relaxed);
                self.up_from(account).for_each(|entry| entry.note_level(now(entry)));
                return wanted;
            }
        }
    }

    /// Yields the entry of an account in use, and those of its ancestors.
    fn up_from(&self, account: AccountNumber) -> impl Iterator<Item = &'static Entry> + use<> {
        let entries = self.entries;
        let entry =
            move |account: AccountNumber| (!account.is_none()).then(|| &entries[account.index()]);
        core::iter::successors(entry(account), move |below| entry(below.parent()))
    }

    /// Charges `nr` pages to an account and its ancestors, past their limits if necessary. Returns how
    /// many: fewer only if no allocator has that many.
    ///
    /// # Source
    /// `linux-6.12` `mm/memcontrol.c` `try_charge_memcg`, for `__GFP_NOFAIL`
    pub(crate) fn charge_past_limits(&self, account: AccountNumber, nr: u64) -> u64 {
        let nr = nr.min(MAX_CHARGE);
        let mut next = account;
        while !next.is_none() && nr > 0 {
            let entry = &self.entries[next.index()];
            let now = entry.add(nr);
            // Relaxed: a snapshot of a limit.
            if now > entry.max.load(Ordering::Relaxed) {
                entry.note_limit();
            }
            entry.note_level(now);
            next = entry.parent();
        }
        nr
    }

    /// Uncharges `nr` pages from an account and its ancestors.
    pub(crate) fn uncharge(&self, account: AccountNumber, nr: u64) {
        if account.is_none() || nr == 0 {
            return;
        }
        self.uncharge_up_to(account, None, nr);
    }

    pub(crate) fn set_limits(&self, account: AccountNumber, limits: AccountLimits) {
        let entry = &self.entries[account.index()];
        // Relaxed: a charge sees the old or the new limits.
        entry.max.store(limits.max, Ordering::Relaxed);
        entry.high.store(limits.high, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self, account: AccountNumber) -> AccountUsage {
        let entry = &self.entries[account.index()];
        // Relaxed: a snapshot.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AccountUsage {
            current: read(&entry.current),
            peak: read(&entry.peak),
            nr_high: read(&entry.nr_high),
            nr_max: read(&entry.nr_max),
        }
    }

    /// Yields the accounts in use, by number: those that are open, and closed ones that have pages or
    /// children.
    pub(crate) fn info(&self) -> impl Iterator<Item = AccountInfo> + use<> {
        let accounts = *self;
        (1..self.entries.len()).filter_map(move |index| {
            let entry = &accounts.entries[index];
            // Relaxed, all of them: a snapshot, in which an entry may be of two accounts if one is
            // closed and another opened meanwhile.
            if users(entry.state.load(Ordering::Relaxed)) == 0 {
                return None;
            }
            let parent = entry.parent();
            Some(AccountInfo {
                number: index,
                parent: (!parent.is_none()).then(|| parent.index()),
                limits: AccountLimits {
                    max: entry.max.load(Ordering::Relaxed),
                    high: entry.high.load(Ordering::Relaxed),
                },
                usage: accounts.usage(AccountNumber::new(index)),
            })
        })
    }

    /// Checks the entries in use against each other, and their pages against the frames in use; no charge
    /// and no request may be in progress.
    ///
    /// # Cost
    /// Quadratic in the number of entries, of which there are at most 1023.
    pub(crate) fn check(&self, nr_in_use: u64) -> Result<(), BookError> {
        // Relaxed, all of them: snapshots.
        let users = |entry: &Entry| users(entry.state.load(Ordering::Relaxed));
        let pages = |entry: &Entry| entry.current.load(Ordering::Relaxed);
        let parent = |entry: &Entry| entry.parent.load(Ordering::Relaxed) as usize;
        let mut nr_charged = 0_u64;
        for (index, entry) in self.entries.iter().enumerate().skip(1) {
            let (place, nr_users) = (Place::Account(index), users(entry));
            let children = self.entries.iter().skip(1);
            let children = children.filter(|child| users(child) > 0 && parent(child) == index);
            let (nr_children, in_children) = children
                .fold((0, 0_u64), |(nr, sum), child| (nr + 1, sum.saturating_add(pages(child))));
            let least = nr_children + u64::from(pages(entry) > 0);
            place.at_least(Book::AccountUsers, nr_users, least)?;
            place.at_most(Book::AccountUsers, nr_users, least + 1)?;
            if nr_users == 0 {
                continue;
            }
            place.at_least(Book::AccountPages, pages(entry), in_children)?;
            // Relaxed: a snapshot.
            let peak = entry.peak.load(Ordering::Relaxed);
            place.at_least(Book::AccountPeak, peak, pages(entry))?;
            // No more steps than entries: parents could lead in a circle.
            let up = |at: usize| self.entries.get(at).map_or(at, parent);
            let top = self.entries.iter().fold(index, |at, _| if at == 0 { 0 } else { up(at) });
            place.expect(Book::AccountParent, top as u64, 0)?;
            if parent(entry) == 0 {
                nr_charged = nr_charged.saturating_add(pages(entry));
            }
        }
        Place::Allocator.at_most(Book::Charged, nr_charged, nr_in_use)
    }

    /// Charges exactly `nr` pages to an account and its ancestors, or nothing; returns whether it did.
    fn try_charge(&self, account: AccountNumber, nr: u64) -> bool {
        let (mut next, mut last) = (account, None);
        while !next.is_none() {
            let entry = &self.entries[next.index()];
            if entry.add_up_to(nr, nr).is_none() {
                if last.is_some() {
                    self.uncharge_up_to(account, last, nr);
                }
                return false;
            }
            last = Some(next);
            next = entry.parent();
        }
        true
    }

    /// Uncharges `nr` pages from `account` and its ancestors, up to and including `last`.
    fn uncharge_up_to(&self, account: AccountNumber, last: Option<AccountNumber>, nr: u64) {
        let mut next = account;
        while !next.is_none() {
            let entry = &self.entries[next.index()];
            // Read while the entry is in use: it has these pages.
            let parent = entry.parent();
            // AcqRel pairs with itself: the use that came with the first page was counted before the
            // last page, which ends it, is uncharged.
            let before = entry.current.fetch_sub(nr, Ordering::AcqRel);
            assert!(before >= nr, "account {next:?} returns {nr} pages and has {before}");
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

/// The account that pays for one request. Pages that were charged and not handed over are uncharged on
/// drop, also if the request panics.
#[derive(Debug)]
pub(crate) struct Payer {
    accounts: Accounts,
    /// Its entry stays valid meanwhile, because it is in use.
    account: AccountNumber,
    /// The generation of the account's name.
    generation: u64,
    /// Pages that are charged and not handed over.
    left: u64,
}

impl Payer {
    /// Makes a payer without an account.
    pub(crate) const fn nobody(accounts: Accounts) -> Self {
        Self { accounts, account: AccountNumber::NONE, generation: 0, left: 0 }
    }

    #[inline]
    pub(crate) fn account(&self) -> AccountNumber {
        self.account
    }

    /// Returns the id of the account; `None` if there is none.
    pub(crate) fn id(&self) -> Option<AccountId> {
        let (number, generation) = (self.account, self.generation);
        let allocator = self.accounts.allocator;
        (!number.is_none()).then_some(AccountId { number, generation, allocator })
    }

    /// Charges up to `nr` pages, at least `min`, and returns how many it charged. A request that may
    /// not fail is charged all of them, past every limit. See [`Accounts::charge`] for `relax`.
    pub(crate) fn charge(&mut self, nr: u64, min: u64, gfp: Gfp, relax: impl FnMut(u32)) -> u64 {
        let mut charged = self.accounts.charge(self.account, nr, min, relax);
        if charged < nr && gfp.contains(Gfp::NOFAIL) {
            charged += self.accounts.charge_past_limits(self.account, nr - charged);
        }
        self.left += charged;
        charged
    }

    /// Passes the charge of `nr` pages on to the pages: it ends when they are freed.
    #[inline]
    pub(crate) fn hand_over(&mut self, nr: u64) {
        self.left -= nr;
    }

    /// Returns how many pages are charged and not handed over.
    pub(crate) fn charged(&self) -> u64 {
        self.left
    }

    /// Uncharges all but `nr` of the pages that were charged and not handed over.
    pub(crate) fn keep(&mut self, nr: u64) {
        let more = self.left.saturating_sub(nr);
        self.left -= more;
        self.accounts.uncharge(self.account, more);
    }
}

impl Drop for Payer {
    #[inline]
    fn drop(&mut self) {
        if !self.account.is_none() {
            self.keep(0);
            self.accounts.leave(self.account);
        }
    }
}

#[cfg(all(test, loom))]
mod loom;

#[cfg(all(test, not(loom)))]
mod tests;
