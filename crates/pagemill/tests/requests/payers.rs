//! A naive model of accounts: who pays, under whom, and what fits.

use pagemill::accounts::{Account, AccountError, AccountId, AccountLimits};
use pagemill_testkit::Frames;

/// Accounts that were opened, and those closed ones that still have pages or children.
pub(crate) struct Payers<'w> {
    frames: Frames<'w>,
    all: Vec<Payer<'w>>,
    /// Places in the allocator's table.
    room: usize,
}

struct Payer<'w> {
    account: Option<Account<Frames<'w>>>,
    parent: Option<usize>,
    max: u64,
    /// The largest limit that it ever had.
    largest_max: u64,
    /// Pages charged to it, those of its children not counted.
    pages: u64,
    peak: u64,
    /// Whether a request that may not fail could take it above its limit.
    is_forced: bool,
}

impl<'w> Payers<'w> {
    pub(crate) fn new(frames: Frames<'w>, room: usize) -> Self {
        Self { frames, all: Vec::new(), room }
    }

    /// Opens an account, and checks that there is room exactly if the model says so.
    pub(crate) fn open(&mut self, parent: Option<usize>, max: u64) {
        let limits = AccountLimits { max, high: max / 2 };
        let parent = parent.filter(|&parent| self.all[parent].account.is_some());
        let opened = match parent.and_then(|parent| self.all[parent].account.as_ref()) {
            Some(parent) => parent.open_child(limits),
            None => Account::open(self.frames, limits),
        };
        let taken = (0..self.all.len()).filter(|&payer| self.is_kept(payer)).count();
        match opened {
            Ok(account) => {
                assert!(taken < self.room, "more accounts than the table has places");
                let account = Some(account);
                self.all.push(Payer {
                    account,
                    parent,
                    max,
                    largest_max: max,
                    pages: 0,
                    peak: 0,
                    is_forced: false,
                });
            }
            Err(error) => {
                assert_eq!(error, AccountError::TableFull { nr_accounts: self.room });
                assert_eq!(taken, self.room, "refused although {taken} are taken");
            }
        }
    }

    /// Tells whether an account has a place in the table: open, with pages, or with children.
    fn is_kept(&self, payer: usize) -> bool {
        let Payer { account, pages, .. } = &self.all[payer];
        let has_child = || {
            let of = |child: &usize| self.all[*child].parent == Some(payer);
            (0..self.all.len()).filter(of).any(|child| self.is_kept(child))
        };
        account.is_some() || *pages > 0 || has_child()
    }

    pub(crate) fn close(&mut self, payer: usize) {
        self.all[payer].account = None;
    }

    pub(crate) fn set_max(&mut self, payer: usize, max: u64) {
        let payer = &mut self.all[payer];
        if let Some(account) = &payer.account {
            account.set_limits(AccountLimits { max, high: max });
            payer.max = max;
            payer.largest_max = payer.largest_max.max(max);
        }
    }

    /// Returns the numbers of the accounts that can be named.
    pub(crate) fn open_ones(&self) -> Vec<usize> {
        (0..self.all.len()).filter(|&payer| self.all[payer].account.is_some()).collect()
    }

    pub(crate) fn id(&self, payer: usize) -> Option<AccountId> {
        self.all[payer].account.as_ref().map(Account::id)
    }

    pub(crate) fn charge(&mut self, payer: usize, pages: u64) {
        self.all[payer].pages += pages;
    }

    pub(crate) fn uncharge(&mut self, payer: usize, pages: u64) {
        self.all[payer].pages -= pages;
    }

    /// Returns how many more pages can be charged to an account.
    pub(crate) fn fit(&self, payer: usize) -> u64 {
        let Payer { parent, max, .. } = self.all[payer];
        let here = max.saturating_sub(self.current(payer));
        parent.map_or(here, |parent| here.min(self.fit(parent)))
    }

    /// Notes that a request may take an account, and those above it, past their limits.
    pub(crate) fn force(&mut self, payer: usize) {
        self.all[payer].is_forced = true;
        if let Some(parent) = self.all[payer].parent {
            self.force(parent);
        }
    }

    fn current(&self, payer: usize) -> u64 {
        let of = |child: &usize| self.all[*child].parent == Some(payer);
        let below: u64 = (0..self.all.len()).filter(of).map(|child| self.current(child)).sum();
        self.all[payer].pages + below
    }

    /// Compares every open account with the sum of the pages held.
    pub(crate) fn check(&mut self) {
        for index in 0..self.all.len() {
            let current = self.current(index);
            let payer = &mut self.all[index];
            let Some(account) = &payer.account else { continue };
            let usage = account.usage();
            assert_eq!(usage.current, current, "account {index} and the pages held");
            assert!(usage.peak >= payer.peak.max(current), "a peak that shrinks: {usage:?}");
            let within = usage.peak <= payer.largest_max;
            assert!(within || payer.is_forced, "a peak above every limit: {usage:?}");
            payer.peak = usage.peak;
        }
    }
}
