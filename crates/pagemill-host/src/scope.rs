//! What a thread says once for all allocations that it makes: what reclaim must keep away from,
//! and who pays.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use pagemill::{AccountId, Gfp};

thread_local! {
    static CONTEXT: Cell<Context> = const { Cell::new(Context::NONE) };
}

/// What the scopes that a thread is in come down to.
#[derive(Clone, Copy)]
struct Context {
    without: Gfp,
    with: Gfp,
    account: Option<AccountId>,
}

impl Context {
    const NONE: Self = Self { without: Gfp::empty(), with: Gfp::empty(), account: None };
}

/// A scope that the calling thread is in until this is dropped; scopes nest.
///
/// # Source
/// `linux-6.12` `include/linux/sched/mm.h` `memalloc_noio_save`, `memalloc_nofs_save`,
/// `memalloc_noreclaim_save`, `set_active_memcg`
#[must_use = "the scope ends when this is dropped"]
pub struct AllocScope {
    before: Context,
    /// The scope is the thread's that opened it.
    not_send: PhantomData<*mut ()>,
}

impl AllocScope {
    /// No allocation in this scope starts I/O or enters a file system to reclaim.
    pub fn noio() -> Self {
        Self::enter(|context| context.without |= Gfp::IO | Gfp::FS)
    }

    /// No allocation in this scope enters a file system to reclaim.
    pub fn nofs() -> Self {
        Self::enter(|context| context.without |= Gfp::FS)
    }

    /// Allocations in this scope may use all reserves and do not reclaim: they free memory soon.
    pub fn memalloc() -> Self {
        Self::enter(|context| context.with |= Gfp::MEMALLOC)
    }

    /// Allocations in this scope with [`Gfp::ACCOUNT`] are charged to `account`.
    ///
    /// The account must belong to the allocator that is asked.
    pub fn charged_to(account: AccountId) -> Self {
        Self::enter(|context| context.account = Some(account))
    }

    fn enter(change: impl FnOnce(&mut Context)) -> Self {
        let before = CONTEXT.get();
        let mut context = before;
        change(&mut context);
        CONTEXT.set(context);
        Self { before, not_send: PhantomData }
    }
}

impl Drop for AllocScope {
    fn drop(&mut self) {
        CONTEXT.set(self.before);
    }
}

impl fmt::Debug for AllocScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocScope").finish_non_exhaustive()
    }
}

/// Returns `gfp` as the calling thread's scopes have it.
pub(crate) fn gfp_context(gfp: Gfp) -> Gfp {
    let context = CONTEXT.get();
    gfp.difference(context.without) | context.with
}

/// Returns who pays for the calling thread's allocations.
pub(crate) fn current_account() -> Option<AccountId> {
    CONTEXT.get().account
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
    fn a_scope_is_one_threads() {
        let _noio = AllocScope::noio();
        std::thread::spawn(|| assert_eq!(gfp_context(Gfp::KERNEL), Gfp::KERNEL)).join().unwrap();
    }
}
