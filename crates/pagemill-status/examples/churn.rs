//! A process for `pagemill top` to watch: one thread allocates and frees in bulk, charged to two accounts, and
//! another one takes pages from a page pool and returns them. Ends after the number of seconds that it is
//! given, or never.
//!
//! ```console
//! cargo run --release -p pagemill-status --example churn
//! ```

#![expect(clippy::print_stderr, reason = "an example tells where it serves")]

extern crate alloc;

use alloc::sync::Arc;
use core::time::Duration;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::{AllocPages as _, BulkRequest, Gfp, Page};
use pagemill_host::{AllocatorConfig, ArenaConfig, HostAllocator, SharedAllocator};
use pagemill_pool::dma::NoDma;
use pagemill_pool::{PagePool, PoolOwner, PoolParams, Returner};
use pagemill_status::sections::{Column, Table};
use pagemill_status::snapshots::PoolStatus;
use pagemill_status::{Section, Status, Unit};

type Pool = PagePool<Page<SharedAllocator>, NoDma>;

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let seconds = std::env::args().nth(1).map(|text| text.parse()).transpose()?;
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let is_over = move || end.is_some_and(|end| Instant::now() >= end);

    let config =
        AllocatorConfig { nr_accounts: 8, ..AllocatorConfig::new(ArenaConfig::new(256 << 20)) };
    let frames = SharedAllocator::new(HostAllocator::with_config(&config)?);
    let pool: Arc<OnceLock<Pool>> = Arc::default();
    let of_status = Arc::clone(&pool);
    let server = Status::of("churn", env!("CARGO_PKG_VERSION"))
        .allocator("frames", frames.clone())
        .pool(move || {
            of_status.get().map(|pool| PoolStatus::of("rx", &pool.stats(), pool.inflight()))
        })
        .section(jobs)
        .serve()?;
    eprintln!("serving at {}", server.path().display());
    let pool = pool.get_or_init(|| {
        PagePool::new(&PoolParams::new(), frames.clone(), NoDma).expect("the parameters are valid")
    });

    let tenants = Account::open(frames.clone(), AccountLimits { max: 20_000, high: 15_000 })?;
    let limits = |max| AccountLimits { max, ..AccountLimits::NONE };
    let accounts = [tenants.open_child(limits(8_000))?, tenants.open_child(limits(16_000))?];
    thread::scope(|scope| {
        scope.spawn(|| recycle(pool, is_over));
        let mut slots: Vec<_> = (0..12_000).map(|_| None).collect();
        while !is_over() {
            for (account, nr) in accounts.iter().zip([9_000, 12_000]) {
                let account = Some(account.id());
                let request = BulkRequest { account, ..BulkRequest::new(Gfp::KERNEL) };
                let _within_its_limit = frames.clone().bulk_fill(&request, &mut slots[..nr]);
                thread::sleep(Duration::from_millis(10));
                frames.clone().release_pages(&mut slots);
            }
        }
    });
    Ok(())
}

/// Takes pages from the pool; a part of them returns through its ring.
fn recycle(pool: &Pool, is_over: impl Fn() -> bool) {
    let mut owner = PoolOwner::claim(pool).expect("the pool has no owner yet");
    let mut pages = Vec::new();
    while !is_over() {
        owner.alloc_bulk(64, &mut pages);
        Returner::new(pool).put_bulk(pages.drain(..));
        thread::sleep(Duration::from_millis(1));
    }
}

fn jobs() -> Section {
    let mut table = Table::new("queues", ["queue"], [Column::gauge("waiting", Unit::Count)]);
    table.push(["urgent".to_owned()], [3]);
    table.push(["later".to_owned()], [17]);
    Section::new("jobs", "Jobs").gauge("waiting", Unit::Count, 20).table(table)
}
