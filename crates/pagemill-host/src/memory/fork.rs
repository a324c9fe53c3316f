//! Fork handler: closes the child's copies of all allocators, which must not be used.
//!
//! Only the thread that called `fork` exists in the child. Locks that other threads held at that moment
//! stay held there forever, and data that they were changing may be copied half changed. So the handler
//! closes all per-CPU lists in the child before `fork` returns there. Every call then leaves the fast
//! path, which has nothing to check, and finds that its host is of another [`generation`].
//!
//! Only `fork` of the C library runs the handler. Does not support `vfork`, `clone` and the C library's
//! `_Fork`, unless their child only calls `exec` or `_exit`.

use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use pagemill::machine::ListCloser;

use crate::cpu::resident;

#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type Generation = core::sync::atomic::AtomicU32;
#[expect(clippy::disallowed_types, reason = "not part of the core: loom has no business here")]
type Flag = core::sync::atomic::AtomicBool;

/// Number of forks between this process and the first one.
static GENERATION: Generation = Generation::new(0);

/// The first place of the list; places are added and never removed.
static FIRST: Place = Place::new();

/// Room for the lists of one host's allocator.
///
/// A child must never wait for a lock that another thread of its parent held, so places are taken and
/// added without locks. The lock of `lists` is waited for only by the place's host; the handler tries
/// it.
#[derive(Debug)]
struct Place {
    lists: Mutex<Option<ListCloser>>,
    is_taken: Flag,
    /// Null, or the next place, which is never freed.
    next: AtomicPtr<Place>,
}

/// A host's registration, removed on drop.
#[derive(Debug)]
pub(crate) struct Registration(&'static Place);

/// Returns the number of this process among its ancestors that forked.
#[inline]
pub(crate) fn generation() -> u32 {
    // Relaxed: it changes only before a child has any thread that could read it.
    GENERATION.load(Ordering::Relaxed)
}

impl Place {
    const fn new() -> Self {
        let next = AtomicPtr::new(ptr::null_mut());
        Self { lists: Mutex::new(None), is_taken: Flag::new(false), next }
    }

    fn try_take(&self) -> bool {
        // Acquire pairs with the Release in the drop of the registration that used the place before.
        !self.is_taken.swap(true, Ordering::Acquire)
    }

    fn next(&self) -> Option<&'static Self> {
        // Acquire pairs with the Release in `next_or_new`.
        let next = self.next.load(Ordering::Acquire);
        // SAFETY:
        // 1. Null, or made from a box that is never dropped.
        unsafe { next.as_ref() }
    }

    fn next_or_new(&self) -> &'static Self {
        if let Some(next) = self.next() {
            return next;
        }
        let new = Box::into_raw(Box::new(Self::new()));
        let (null, acquire) = (ptr::null_mut(), Ordering::Acquire);
        // AcqRel pairs with the Acquire in `next`, and with itself where another thread was faster.
        match self.next.compare_exchange(null, new, Ordering::AcqRel, acquire) {
            // SAFETY:
            // 1. Made from a box above, which is never dropped once it is linked.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY:
                // 1. Made from a box above, which was not linked, so no other thread has the
                //    pointer.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY:
                // 1. Made from a box that is never dropped: it is linked.
                unsafe { &*other }
            }
        }
    }
}

impl Registration {
    /// Registers a host.
    pub(crate) fn new() -> Self {
        watch();
        let mut place = &FIRST;
        while !place.try_take() {
            place = place.next_or_new();
        }
        Self(place)
    }

    /// Returns the entry at which an allocator on this host is registered.
    pub(crate) fn entry(&self) -> Entry {
        Entry(self.0)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        *self.0.lists.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Release pairs with the Acquire in `try_take`.
        self.0.is_taken.store(false, Ordering::Release);
    }
}

/// The entry for an allocator on a host.
pub(crate) struct Entry(&'static Place);

impl Entry {
    /// Registers an allocator's lists.
    ///
    /// # Safety
    /// The lists are those of the allocator on this entry's host, and stay mapped until the host
    /// has removed the entry.
    pub(crate) unsafe fn set(&self, lists: ListCloser) {
        *self.0.lists.lock().unwrap_or_else(PoisonError::into_inner) = Some(lists);
    }
}

/// Installs the handler, so that children are counted and their lists are closed.
///
/// Never waits for another thread, which may not exist in this process: two threads that are here
/// concurrently both install the handler, which may safely run twice.
pub(crate) fn watch() {
    static IS_WATCHED: Flag = Flag::new(false);
    // Acquire pairs with the Release below.
    if IS_WATCHED.load(Ordering::Acquire) {
        return;
    }
    let _stays = resident::keep();
    // SAFETY:
    // 1. The handler takes no arguments, and stays mapped: `code-resident`. If the library could
    //    not be kept mapped, the C library removes the handler when it unloads the library.
    // 2. The handler does only what is allowed in a child of fork: see `in_child`.
    let error = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    assert!(error == 0, "pthread_atfork: no memory for a handler (error {error})");
    // Release pairs with the Acquire above: a thread that sees the flag has the handler.
    IS_WATCHED.store(true, Ordering::Release);
}

/// Closes the per-CPU lists of all allocators in a child of this process.
///
/// Runs in the child's only thread, under the rules for signal handlers: it never waits.
extern "C" fn in_child() {
    // Relaxed: there is no other thread.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let mut place = Some(&FIRST);
    while let Some(here) = place {
        // A place that another thread was changing has no lists that the forking thread could use.
        if let Ok(lists) = here.lists.try_lock()
            && let Some(lists) = &*lists
        {
            // SAFETY:
            // 1. The allocator and its host are alive: their entry is removed before they are
            //    dropped.
            // 2. No other thread uses it: a child of fork has one thread.
            unsafe { lists.close() };
        }
        place = here.next();
    }
}
