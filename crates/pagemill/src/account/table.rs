//! Who pays for pages: accounts with limits, one under another, charged once for a batch.
//!
//! A charged page names its account in its handle, so it is uncharged wherever it is freed, and a
//! batch of pages of one account is uncharged at once.

use core::fmt;

use crate::base::gfp::Gfp;
use crate::base::raw_page::AccountNumber;
use crate::base::sync::{AtomicU32, AtomicU64, Lock, Ordering, StaticCounter};
use crate::base::units::PFN_BITS;

/// The limits of an account, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, written out by the caller")]
pub struct AccountLimits {
    /// What its pages and those of the accounts under it may not exceed, but for allocations that
    /// may not fail ([`Gfp::NOFAIL`](crate::Gfp::NOFAIL)): these go past every limit.
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
    /// How often a charge was cut short or refused at its limit, or went past it because it may
    /// not fail.
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

/// Names an account of one allocator, for as long as it is open.
///
/// The name is used once: no other account of this or of any other allocator gets it, also not after
/// the allocator was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountId {
    number: AccountNumber,
    /// How many accounts in this place were closed before.
    generation: u64,
    allocator: AllocatorId,
}

/// Tells allocators apart, also those that are gone. An address does not: the next allocator may
/// get the memory of one that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AllocatorId(u64);

impl AllocatorId {
    /// Returns one that was never used before in this program.
    fn next() -> Self {
        static NEXT: StaticCounter = StaticCounter::new();
        Self(NEXT.next())
    }
}

impl AccountId {
    /// Returns the account's number in its allocator, for people who watch.
    #[must_use]
    pub const fn number(self) -> usize {
        self.number.index()
    }
}

/// One account.
///
/// `account-alive`: an entry that is open, has pages, or has entries under it is not given to
/// anybody else. Its users are counted: one for being open, one for having pages, one for each
/// child, one for each request that it is to pay for.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The users, and above [`USER_BITS`] how many accounts here were closed.
    state: AtomicU64,
    /// Index of the entry above; zero for none.
    parent: AtomicU32,
    max: AtomicU64,
    high: AtomicU64,
    current: AtomicU64,
    peak: AtomicU64,
    nr_high: AtomicU64,
    nr_max: AtomicU64,
    /// Of an account without a parent: held while an account below it is charged, which takes
    /// several steps. So no charge is refused because of one that is then undone.
    nested: Lock<()>,
}

/// Bits of a state that count users: room for 1023 children and 16 million requests at once.
const USER_BITS: u32 = 24;

/// What closing an account adds to its state.
const GENERATION: u64 = 1 << USER_BITS;

/// The last generation of a place: an account that has it could not be closed without the next one
/// getting a name that was used before, so none is opened. At a million accounts a second, a place
/// lasts twelve days.
const LAST_GENERATION: u64 = u64::MAX >> USER_BITS;

/// Returns the number of users that a state says.
fn users(state: u64) -> u64 {
    state % GENERATION
}

/// Returns how many accounts were closed that had this state's place.
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

    /// Adds `nr` pages, whatever the limit, and returns how many there are now.
    fn add(&self, nr: u64) -> u64 {
        // Relaxed: a count that the charge itself does not order anything by.
        let before = self.current.fetch_add(nr, Ordering::Relaxed);
        self.use_if_first(before);
        before + nr
    }

    /// Adds up to `nr` pages, at least `min`, as far as the limit leaves room; returns how many it
    /// added, and how many there are now.
    ///
    /// In one step: adding first and comparing then would refuse other charges that fit.
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
            // Relaxed: the thread that charges uses the entry or a child of it, so its last use does
            // not end meanwhile.
            self.state.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many more pages fit under the limit.
    fn room(&self) -> u64 {
        // Relaxed, both: a snapshot.
        let (max, current) = (&self.max, &self.current);
        max.load(Ordering::Relaxed).saturating_sub(current.load(Ordering::Relaxed))
    }

    /// Notes that a charge was cut short or refused here, or went past the limit.
    fn note_limit(&self) {
        // Relaxed: a statistic.
        self.nr_max.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a charge went through and left `now` pages.
    fn note_level(&self, now: u64) {
        // Relaxed, all of them: statistics.
        if now > self.high.load(Ordering::Relaxed) {
            self.nr_high.fetch_add(1, Ordering::Relaxed);
        }
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    /// Returns the account above.
    fn parent(&self) -> AccountNumber {
        // Relaxed: the entry is in use, and its parent does not change meanwhile.
        AccountNumber::new(self.parent.load(Ordering::Relaxed) as usize)
    }
}

/// The accounts of an allocator; entry zero stands for none.
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

    /// Closes an account: its name means nothing from now on.
    pub(crate) fn close(&self, account: AccountNumber) {
        // Relaxed: a request either began before it was closed or does not begin.
        self.entries[account.index()].state.fetch_add(GENERATION, Ordering::Relaxed);
        self.leave(account);
    }

    /// Returns the name of an account that the caller holds open.
    pub(crate) fn id(&self, account: AccountNumber) -> AccountId {
        // Relaxed: it changes only when the account is closed.
        let state = self.entries[account.index()].state.load(Ordering::Relaxed);
        AccountId { number: account, generation: generation(state), allocator: self.allocator }
    }

    /// Begins to use an account if it is open and one of these.
    pub(crate) fn pay_from(&self, id: AccountId) -> Option<Payer> {
        // Before the number is looked up, which is one of another table then.
        if id.allocator != self.allocator {
            return None;
        }
        let use_it = |state| (generation(state) == id.generation).then_some(state + 1);
        let state = &self.entries[id.number.index()].state;
        // Relaxed: what belongs to the account came before its name.
        state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, use_it).ok()?;
        Some(Payer { accounts: *self, account: id.number, generation: id.generation, left: 0 })
    }

    /// Ends one use of an entry; the last one frees it and ends its use of its parent.
    fn leave(&self, account: AccountNumber) {
        let mut account = account;
        while !account.is_none() {
            let entry = &self.entries[account.index()];
            // Read before the entry can be given away. Relaxed: it is in use.
            let parent = entry.parent.load(Ordering::Relaxed);
            // AcqRel pairs with itself and with the Acquire in `open`: what all users did comes
            // before the entry is used again.
            if users(entry.state.fetch_sub(1, Ordering::AcqRel)) > 1 {
                return;
            }
            account = AccountNumber::new(parent as usize);
        }
    }

    /// Charges up to `nr` pages, at least `min`, to an account and those above it, and returns
    /// how many it charged: zero if `min` do not fit.
    ///
    /// # Concurrency
    /// A charge that fits is never refused for one that does not. An account without a parent is
    /// charged in one step. For all others, the accounts of their tree are charged one after the
    /// other under a lock, which is waited for by `relax`; the topmost is the last, since it can be
    /// charged without the lock.
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

    /// As [`charge`](Self::charge), for an account with a parent, under the lock of its tree.
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
            // The topmost account, and limits, change without the lock.
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

    /// Yields the entries of an account in use and of those above it.
    fn up_from(&self, account: AccountNumber) -> impl Iterator<Item = &'static Entry> + use<> {
        let entries = self.entries;
        let entry =
            move |account: AccountNumber| (!account.is_none()).then(|| &entries[account.index()]);
        core::iter::successors(entry(account), move |below| entry(below.parent()))
    }

    /// Charges `nr` pages to an account and those above it, past their limits if need be, and
    /// returns how many: fewer only if no allocator has so many.
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

    /// Gives `nr` pages back to an account and those above it.
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

    /// Charges exactly `nr` pages to an account and those above it, or nothing; tells whether it did.
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

    /// Gives `nr` pages back to `account` and those above it, up to and with `last`.
    fn uncharge_up_to(&self, account: AccountNumber, last: Option<AccountNumber>, nr: u64) {
        let mut next = account;
        while !next.is_none() {
            let entry = &self.entries[next.index()];
            // Read while the entry is in use: it has these pages.
            let parent = entry.parent();
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

/// Who pays for a request while it is served; what was charged and nobody took over goes back with
/// it, also if the request panics.
#[derive(Debug)]
pub(crate) struct Payer {
    accounts: Accounts,
    /// Stays in its place meanwhile: it is in use.
    account: AccountNumber,
    /// That of the account's name.
    generation: u64,
    /// Pages charged that nobody has taken over.
    left: u64,
}

impl Payer {
    /// Pays nothing.
    pub(crate) const fn nobody(accounts: Accounts) -> Self {
        Self { accounts, account: AccountNumber::NONE, generation: 0, left: 0 }
    }

    #[inline]
    pub(crate) fn account(&self) -> AccountNumber {
        self.account
    }

    /// Returns the name of the account; `None` if nobody pays.
    pub(crate) fn id(&self) -> Option<AccountId> {
        let (number, generation) = (self.account, self.generation);
        let allocator = self.accounts.allocator;
        (!number.is_none()).then_some(AccountId { number, generation, allocator })
    }

    /// Charges up to `nr` pages, at least `min`, and returns how many it charged: all of them,
    /// past every limit, for a request that may not fail. See [`Accounts::charge`] for `relax`.
    pub(crate) fn charge(&mut self, nr: u64, min: u64, gfp: Gfp, relax: impl FnMut(u32)) -> u64 {
        let mut charged = self.accounts.charge(self.account, nr, min, relax);
        if charged < nr && gfp.contains(Gfp::NOFAIL) {
            charged += self.accounts.charge_past_limits(self.account, nr - charged);
        }
        self.left += charged;
        charged
    }

    /// Leaves the charge of `nr` pages with the pages: it ends when they are freed.
    #[inline]
    pub(crate) fn hand_over(&mut self, nr: u64) {
        self.left -= nr;
    }

    /// Returns what was charged and not handed over, in pages.
    pub(crate) fn charged(&self) -> u64 {
        self.left
    }

    /// Gives back what was charged and exceeds `nr` pages.
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
