//! Pages that idle users hold, before and after others take all the memory that they can get.
//!
//! The question of the patch series is whether users that keep pages need a shrinker.

use alloc::sync::Arc;
use core::time::Duration;
use std::net::TcpListener;
use std::time::Instant;

use anyhow::Context as _;
use pagemill::source::PageSource as _;
use pagemill::{AllocPages as _, Gfp, Page};
use pagemill_pool::config::PP_ALLOC_CACHE_SIZE;
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolParams};
use pagemill_rpc::buffer::nr_request_pages;
use pagemill_rpc::program::Version;
use pagemill_rpc::{Call, CallError, Listener, Program, Server, ServerConfig};

use crate::frames::Frames;

pagemill_pool::static_pool! {
    static POOL: Page<Frames>;
    /// How pages reach the static.
    type Idle;
}

/// Pages that an idle user holds.
#[derive(Clone, Debug)]
pub struct HeldRow {
    /// The user.
    pub user: &'static str,
    /// Whether it has a shrinker.
    pub has_shrinker: bool,
    /// Pages before.
    pub before: u64,
    /// Pages afterwards.
    pub after: u64,
}

/// Places in the ring of the pool: the default.
const RING: usize = 1024;
/// How long something is waited for that happens soon unless it never does.
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures the users one after the other.
///
/// # Errors
/// If a user cannot start, or does not get its pages.
pub(super) fn measure(frames: Frames) -> anyhow::Result<Vec<HeldRow>> {
    let free = frames.allocator().nr_free_pages();
    let pool = idle_pool(frames)?;
    let pool_row = row(frames, "page_pool", false, free);
    pool.shutdown().wait(|_| false)?;
    let server = idle_server(frames, free)?;
    let server_row = row(frames, "sunrpc", true, free);
    server.stop(Duration::ZERO);
    Ok(vec![pool_row, server_row])
}

/// Makes a pool that keeps as many pages as it can.
fn idle_pool(frames: Frames) -> anyhow::Result<PoolOwner<Idle>> {
    let params = PoolParams { pool_size: RING, ..PoolParams::new() };
    let pool = PagePool::new(&params, frames, NoDma)?;
    anyhow::ensure!(POOL.set(pool).is_ok(), "a process measures once");
    let mut owner = PoolOwner::claim(Idle::new()).context("a process measures once")?;
    let pages: Vec<_> =
        core::iter::from_fn(|| owner.alloc()).take(RING + PP_ALLOC_CACHE_SIZE).collect();
    let mut pages = pages.into_iter();
    pages.by_ref().take(RING).for_each(drop);
    pages.for_each(|page| owner.put(page));
    Ok(owner)
}

/// Counts before and after all memory is taken that can be had; `free` were free without the user.
fn row(frames: Frames, user: &'static str, has_shrinker: bool, free: u64) -> HeldRow {
    let held = |hog: &[Page<Frames>]| {
        free.saturating_sub(frames.allocator().nr_free_pages()).saturating_sub(hog.len() as u64)
    };
    let before = held(&[]);
    let gfp = Gfp::KERNEL | Gfp::NORETRY | Gfp::NOWARN;
    let deadline = Instant::now() + PATIENCE;
    let mut hog = Vec::new();
    loop {
        hog.extend(core::iter::from_fn(|| frames.alloc_page(gfp)));
        // A thread that was just awake keeps its pages until it sleeps.
        if !has_shrinker || held(&hog) == 0 || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    HeldRow { user, has_shrinker, before, after: held(&hog) }
}

/// A program without procedures.
struct Nothing;

impl Program<Frames> for Nothing {
    fn number(&self) -> u32 {
        0x2000_0001
    }

    fn name(&self) -> &'static str {
        "nothing"
    }

    fn versions(&self) -> &'static [Version] {
        &[]
    }

    fn call(&self, _call: &mut Call<'_, Frames>) -> Result<(), CallError> {
        Err(CallError::SystemErr)
    }
}

/// Starts a server whose workers have all their pages and wait for calls.
fn idle_server(frames: Frames, free: u64) -> anyhow::Result<Server<Frames>> {
    let config = ServerConfig::default();
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
    let server =
        Server::start(config, frames, vec![Arc::new(Nothing)], vec![Listener::Tcp(listener)])?;
    let wanted = 2 * config.nr_threads * nr_request_pages(config.max_payload_bytes);
    let deadline = Instant::now() + PATIENCE;
    while free - frames.allocator().nr_free_pages() < wanted as u64 {
        anyhow::ensure!(Instant::now() < deadline, "the workers did not get their pages");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(server)
}
