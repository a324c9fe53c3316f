//! DPDK's mempool with a cache for each thread, in bulk and one object at a time.

use alloc::ffi::CString;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::marker::PhantomData;
use core::ptr::NonNull;
use std::sync::OnceLock;
use std::thread;

use anyhow::ensure;

use crate::peer::{NoBlock, Peer, Slots};

/// Additional objects, for those in the caches of two threads.
const NR_SPARE: usize = 4096;

/// An object of a pool, which represents a page.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Object(*mut c_void);

impl Default for Object {
    fn default() -> Self {
        Self(core::ptr::null_mut())
    }
}

// SAFETY:
// 1. An object is memory, which belongs to no thread; nothing here reads or writes it.
unsafe impl Send for Object {}

/// A pool, which lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool(NonNull<c_void>);

// SAFETY:
// 1. All threads that have joined may use a pool at the same time, and every benchmark thread has
//    joined.
unsafe impl Send for Pool {}
// SAFETY: 1. All threads that have joined may use a pool at the same time, and every benchmark
// thread has joined.
unsafe impl Sync for Pool {}

unsafe extern "C" {
    safe fn peers_dpdk_start() -> c_int;
    safe fn peers_dpdk_join() -> c_int;
    fn peers_dpdk_pool(name: *const c_char, nr: c_uint) -> *mut c_void;
    fn peers_dpdk_get_bulk(pool: *mut c_void, objects: *mut Object, nr: c_uint) -> c_uint;
    fn peers_dpdk_put_bulk(pool: *mut c_void, objects: *const Object, nr: c_uint);
    fn peers_dpdk_get_each(pool: *mut c_void, objects: *mut Object, nr: c_uint) -> c_uint;
    fn peers_dpdk_put_each(pool: *mut c_void, objects: *const Object, nr: c_uint);
}

impl Pool {
    /// Makes a pool for an arena, and starts DPDK for the first one.
    ///
    /// # Errors
    /// The error of DPDK.
    pub(crate) fn new(name: &str, nr_pages: usize) -> anyhow::Result<Self> {
        static STARTED: OnceLock<c_int> = OnceLock::new();

        // DPDK binds the thread that starts it to a CPU, so a thread is started for that purpose.
        let start = || thread::spawn(|| peers_dpdk_start()).join().unwrap_or(-1);
        let errno = *STARTED.get_or_init(start);
        ensure!(errno == 0, "DPDK does not start: rte_eal_init returns {errno}");
        let name = CString::new(name)?;
        let pool = create(&name, u32::try_from(nr_pages + NR_SPARE)?);
        pool.ok_or_else(|| anyhow::anyhow!("DPDK cannot create a pool of {nr_pages} objects"))
    }

    fn join() {
        let errno = peers_dpdk_join();
        assert!(errno == 0, "rte_thread_register returns {errno}");
    }
}

fn create(name: &CStr, nr: u32) -> Option<Pool> {
    // SAFETY: 1. The name is a C string, which DPDK copies.
    let pool = unsafe { peers_dpdk_pool(name.as_ptr(), nr) };
    NonNull::new(pool).map(Pool)
}

/// The calls that allocate and free objects.
pub(crate) trait Calls: Sync + 'static {
    /// See [`Peer`].
    const NAME: &'static str;
    /// See [`Peer`].
    const NOTE: &'static str;
    /// Allocates up to the given number of objects, and returns how many.
    const GET: unsafe extern "C" fn(*mut c_void, *mut Object, c_uint) -> c_uint;
    /// Frees the given number of objects.
    const PUT: unsafe extern "C" fn(*mut c_void, *const Object, c_uint);
}

/// One call for all objects.
#[derive(Debug)]
pub(crate) enum Bulk {}

impl Calls for Bulk {
    const NAME: &'static str = "dpdk-bulk";
    const NOTE: &'static str = "rte_mempool, cache of 512, rte_mempool_get_bulk and _put_bulk";
    const GET: unsafe extern "C" fn(*mut c_void, *mut Object, c_uint) -> c_uint =
        peers_dpdk_get_bulk;
    const PUT: unsafe extern "C" fn(*mut c_void, *const Object, c_uint) = peers_dpdk_put_bulk;
}

/// One call per object.
#[derive(Debug)]
pub(crate) enum Single {}

impl Calls for Single {
    const NAME: &'static str = "dpdk-single";
    const NOTE: &'static str = "rte_mempool, cache of 512, a loop of rte_mempool_get and _put";
    const GET: unsafe extern "C" fn(*mut c_void, *mut Object, c_uint) -> c_uint =
        peers_dpdk_get_each;
    const PUT: unsafe extern "C" fn(*mut c_void, *const Object, c_uint) = peers_dpdk_put_each;
}

/// A pool and the calls that it is used with.
#[derive(Debug)]
pub(crate) struct Dpdk<C>(Pool, PhantomData<fn() -> C>);

impl<C> Dpdk<C> {
    /// Makes the peer for a pool.
    pub(crate) const fn new(pool: Pool) -> Self {
        Self(pool, PhantomData)
    }
}

impl<C: Calls> Peer for Dpdk<C> {
    type Block = NoBlock;
    type Batch<const M: usize> = Slots<Object, M>;
    type Worker = ();
    const NAME: &'static str = C::NAME;
    const NOTE: &'static str = C::NOTE;
    const IS_STACK: bool = true;

    fn worker(&'static self) {
        Pool::join();
    }

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Slots<Object, M>, nr: usize) -> usize {
        batch.write(nr, |slots| {
            // SAFETY: 1. `slots` has room for the requested number of objects.
            let got =
                unsafe { (C::GET)(self.0.0.as_ptr(), slots.as_mut_ptr(), count(slots.len())) };
            got as usize
        })
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Slots<Object, M>) {
        let objects = batch.take();
        // SAFETY: 1. The objects came from this pool, and the batch no longer has them.
        unsafe { (C::PUT)(self.0.0.as_ptr(), objects.as_ptr(), count(objects.len())) };
    }
}

/// Returns the length of a batch as a C integer.
#[inline]
fn count(len: usize) -> c_uint {
    u32::try_from(len).expect("a batch is short")
}
