//! Allocation scopes ([`AllocScope`]): per-thread restrictions on reclaim (`noio`, `nofs`, `memalloc`)
//! and the account to charge.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::marker::PhantomData;

use pagemill::Gfp;
use pagemill::accounts::AccountId;

thread_local! {
    static CONTEXT: Context = const { Context::new() };
}

/// The scopes of a thread. Scopes of one kind are counted, since they may end in any order.
struct Context {
    noio: Cell<u32>,
    nofs: Cell<u32>,
    memalloc: Cell<u32>,
    /// The accounts of the scopes, each with its scope's number; the last one is charged.
    accounts: RefCell<Vec<(u64, AccountId)>>,
    next_number: Cell<u64>,
}

impl Context {
    const fn new() -> Self {
        Self {
            noio: Cell::new(0),
            nofs: Cell::new(0),
            memalloc: Cell::new(0),
            accounts: RefCell::new(Vec::new()),
            next_number: Cell::new(0),
        }
    }

    fn count(&self, kind: Kind) -> Option<&Cell<u32>> {
        match kind {
            Kind::Noio => Some(&self.noio),
            Kind::Nofs => Some(&self.nofs),
            Kind::Memalloc => Some(&self.memalloc),
            Kind::Account(_) => None,
        }
    }

    fn enter(&self, kind: Kind) {
        if let Some(count) = self.count(kind) {
            count.set(count.get() + 1);
        }
    }

    fn leave(&self, kind: Kind) {
        match kind {
            Kind::Account(number) => self.accounts.borrow_mut().retain(|&(its, _)| its != number),
            Kind::Noio | Kind::Nofs | Kind::Memalloc => {
                if let Some(count) = self.count(kind) {
                    // `Platform::leave_reclaim` can be called without `enter_reclaim`.
                    count.set(count.get().saturating_sub(1));
                }
            }
        }
    }
}

/// The kind of a scope.
#[derive(Clone, Copy)]
enum Kind {
    Noio,
    Nofs,
    Memalloc,
    /// The number of the scope among those with an account.
    Account(u64),
}

/// An allocation scope of the calling thread, until this is dropped.
///
/// Scopes nest, and may end in any order: a restriction that several of them ask for holds until the
/// last of them ends. Of several accounts, the one of the scope opened last is charged.
///
/// # Examples
/// ```
/// use pagemill::accounts::{Account, AccountLimits};
/// use pagemill::{AllocPages, Gfp};
/// use pagemill_host::{AllocScope, AllocatorConfig, ArenaConfig, HostAllocator};
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let config =
///     AllocatorConfig { nr_accounts: 1, ..AllocatorConfig::new(ArenaConfig::new(16 << 20)) };
/// let frames = HostAllocator::with_config(&config)?;
/// let account = Account::open(&frames, AccountLimits::NONE)?;
/// let scope = AllocScope::charged_to(account.id());
/// let charged = frames.alloc_page(Gfp::KERNEL_ACCOUNT);
/// let free_of_charge = frames.alloc_page(Gfp::KERNEL); // without Gfp::ACCOUNT
/// drop(scope);
/// assert_eq!(account.usage().current, 1);
/// drop(charged);
/// assert_eq!(account.usage().current, 0);
/// # drop(free_of_charge);
/// # Ok(())
/// # }
/// ```
///
/// # Source
/// `linux-6.12` `include/linux/sched/mm.h` `memalloc_noio_save`, `memalloc_nofs_save`,
/// `memalloc_noreclaim_save`, `set_active_memcg`. Differs: those must end in the reverse order.
#[must_use = "the scope ends when this is dropped"]
pub struct AllocScope {
    kind: Kind,
    /// A scope belongs to the thread that opened it.
    not_send: PhantomData<*mut ()>,
}

impl AllocScope {
    /// No allocation in this scope starts I/O or enters a file system to reclaim.
    pub fn noio() -> Self {
        Self::enter(Kind::Noio)
    }

    /// No allocation in this scope enters a file system to reclaim.
    pub fn nofs() -> Self {
        Self::enter(Kind::Nofs)
    }

    /// Allocations in this scope may use all reserves and do not reclaim: the thread will soon free
    /// memory.
    pub fn memalloc() -> Self {
        Self::enter(Kind::Memalloc)
    }

    /// Allocations in this scope with [`Gfp::ACCOUNT`] are charged to `account`.
    ///
    /// The account must belong to the allocator that the requests go to.
    pub fn charged_to(account: AccountId) -> Self {
        let number = CONTEXT.with(|context| {
            let number = context.next_number.get();
            context.next_number.set(number + 1);
            context.accounts.borrow_mut().push((number, account));
            number
        });
        Self::enter(Kind::Account(number))
    }

    fn enter(kind: Kind) -> Self {
        CONTEXT.with(|context| context.enter(kind));
        Self { kind, not_send: PhantomData }
    }
}

impl Drop for AllocScope {
    fn drop(&mut self) {
        // If the thread is already ending, the scope has no further effect.
        let _ended = CONTEXT.try_with(|context| context.leave(self.kind));
    }
}

impl fmt::Debug for AllocScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocScope").finish_non_exhaustive()
    }
}

/// Marks the calling thread as one that will soon free memory.
pub(crate) fn enter_reclaim() {
    let _ended = CONTEXT.try_with(|context| context.enter(Kind::Memalloc));
}

/// Reverts one [`enter_reclaim`].
pub(crate) fn leave_reclaim() {
    let _ended = CONTEXT.try_with(|context| context.leave(Kind::Memalloc));
}

/// Returns `gfp` as changed by the calling thread's scopes.
pub(crate) fn gfp_context(gfp: Gfp) -> Gfp {
    let in_context = |context: &Context| {
        let without = match (context.noio.get(), context.nofs.get()) {
            (0, 0) => Gfp::empty(),
            (0, _) => Gfp::FS,
            _ => Gfp::IO | Gfp::FS,
        };
        let with = if context.memalloc.get() > 0 { Gfp::MEMALLOC } else { Gfp::empty() };
        gfp.difference(without) | with
    };
    CONTEXT.try_with(in_context).unwrap_or(gfp)
}

/// Returns the account that is charged for the calling thread's allocations.
pub(crate) fn current_account() -> Option<AccountId> {
    let last = |context: &Context| context.accounts.borrow().last().map(|&(_, account)| account);
    CONTEXT.try_with(last).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_nest_and_end() {
        let noio = AllocScope::noio();
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::RECLAIM);
        {
            let _memalloc = AllocScope::memalloc();
            assert_eq!(gfp_context(Gfp::KERNEL), Gfp::RECLAIM | Gfp::MEMALLOC);
        }
        drop(noio);
        let _nofs = AllocScope::nofs();
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::NOFS);
    }

    #[test]
    fn scopes_end_in_any_order() {
        let (noio, nofs, again) = (AllocScope::noio(), AllocScope::nofs(), AllocScope::nofs());
        drop(noio);
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::NOFS);
        drop(nofs);
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::NOFS, "the other is open still");
        drop(again);
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::KERNEL);
    }

    #[test]
    fn of_the_accounts_whose_scopes_are_open_the_last_pays() {
        let limits = pagemill::accounts::AccountLimits::NONE;
        let config = crate::AllocatorConfig {
            nr_accounts: 2,
            ..crate::AllocatorConfig::new(crate::ArenaConfig::new(4 << 20))
        };
        let frames = crate::allocator(&config).unwrap();
        let accounts =
            [(); 2].map(|()| pagemill::accounts::Account::open(&frames, limits).unwrap());
        let [first, second] = [0, 1].map(|index| AllocScope::charged_to(accounts[index].id()));
        drop(first);
        assert_eq!(current_account(), Some(accounts[1].id()));
        let third = AllocScope::charged_to(accounts[0].id());
        assert_eq!(current_account(), Some(accounts[0].id()));
        drop(third);
        assert_eq!(current_account(), Some(accounts[1].id()));
        drop(second);
        assert_eq!(current_account(), None);
    }

    #[test]
    fn leaving_without_entering_does_nothing() {
        leave_reclaim();
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::KERNEL);
        enter_reclaim();
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::KERNEL | Gfp::MEMALLOC);
        leave_reclaim();
        assert_eq!(gfp_context(Gfp::KERNEL), Gfp::KERNEL);
    }

    #[test]
    fn a_scope_is_one_threads() {
        let _noio = AllocScope::noio();
        std::thread::spawn(|| assert_eq!(gfp_context(Gfp::KERNEL), Gfp::KERNEL)).join().unwrap();
    }
}
