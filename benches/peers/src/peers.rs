//! The list of peers, and their names.

mod frames;
pub(crate) mod pagemill;
mod stack;

use anyhow::bail;

use self::frames::{Bitmap, Buddy};
use self::pagemill::{Array, List, Local, Single, Vector};
use self::stack::{Limit, LockedVec, Queue, ThreadVec};
use crate::peer::Peer;
#[cfg(feature = "dpdk")]
use crate::raw::dpdk;
use crate::raw::jemalloc::BatchAlloc;
use crate::raw::malloc::{LockedTalc, Malloc};
use crate::runner::Entry;

/// The name of the limit, which every run measures.
pub(crate) const LIMIT: &str = Limit::NAME;
/// Maximum number of pages in an arena.
pub(crate) const NR_PAGES_MAX: usize = Bitmap::NR_PAGES_MAX;

/// Makes an entry for an arena of the given number of pages.
type Make = fn(usize) -> anyhow::Result<Entry>;

/// All peers of this build, the limit first.
const PEERS: &[(&str, Make)] = &[
    (LIMIT, |nr_pages| Ok(Entry::new(Limit { nr_pages }))),
    (Vector::NAME, |nr_pages| ours(nr_pages, Vector)),
    (Array::NAME, |nr_pages| ours(nr_pages, Array)),
    (List::NAME, |nr_pages| ours(nr_pages, List)),
    (Single::NAME, |nr_pages| ours(nr_pages, Single)),
    (Local::NAME, |nr_pages| ours(nr_pages, Local)),
    (ThreadVec::NAME, |nr_pages| Ok(Entry::new(ThreadVec { nr_pages }))),
    #[cfg(feature = "dpdk")]
    (dpdk::Dpdk::<dpdk::Bulk>::NAME, |nr_pages| {
        Ok(Entry::new(dpdk::Dpdk::<dpdk::Bulk>::new(dpdk::Pool::new("bulk", nr_pages)?)))
    }),
    #[cfg(feature = "dpdk")]
    (dpdk::Dpdk::<dpdk::Single>::NAME, |nr_pages| {
        Ok(Entry::new(dpdk::Dpdk::<dpdk::Single>::new(dpdk::Pool::new("single", nr_pages)?)))
    }),
    (LockedVec::NAME, |nr_pages| Ok(Entry::new(LockedVec::new(nr_pages)))),
    (Queue::NAME, |nr_pages| Ok(Entry::new(Queue::new(nr_pages)))),
    (Bitmap::NAME, |nr_pages| Ok(Entry::new(Bitmap::new(nr_pages)))),
    (Buddy::NAME, |nr_pages| Ok(Entry::new(Buddy::new(nr_pages)))),
    (LockedTalc::NAME, |nr_pages| Ok(Entry::new(LockedTalc::new(nr_pages)?))),
    #[cfg(feature = "snmalloc")]
    ("snmalloc", |_| Ok(Entry::new(Malloc(snmalloc_rs::SnMalloc)))),
    ("mimalloc", |_| Ok(Entry::new(Malloc(mimalloc::MiMalloc)))),
    ("jemalloc", |_| Ok(Entry::new(Malloc(tikv_jemallocator::Jemalloc)))),
    (BatchAlloc::NAME, |_| Ok(Entry::new(BatchAlloc::find()?))),
];

fn ours<P: Peer>(nr_pages: usize, peer: P) -> anyhow::Result<Entry> {
    pagemill::install(nr_pages as u64 * 4096)?;
    Ok(Entry::new(peer))
}

/// Returns the names of all peers.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PEERS.iter().map(|(name, _)| *name)
}

/// Makes the peers that `chosen` names, or all if it is empty; always includes the limit.
///
/// # Errors
/// An unknown name, or the error of a peer that cannot be set up.
pub(crate) fn make(chosen: &[String], nr_pages: usize) -> anyhow::Result<Vec<Entry>> {
    if let Some(unknown) = chosen.iter().find(|name| names().all(|known| known != **name)) {
        let known: Vec<_> = names().collect();
        bail!("unknown peer '{unknown}': this build has {}", known.join(", "));
    }
    let is_chosen =
        |name| name == LIMIT || chosen.is_empty() || chosen.iter().any(|wanted| wanted == name);
    PEERS.iter().filter(|(name, _)| is_chosen(*name)).map(|(_, make)| make(nr_pages)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_reported_with_the_known_ones() {
        let error = make(&["malloc".to_owned()], 64).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("'malloc'") && error.contains("pagemill-vec"), "{error}");
        let entries = make(&["mutex-vec".to_owned()], 64).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["limit", "mutex-vec"]);
    }
}
