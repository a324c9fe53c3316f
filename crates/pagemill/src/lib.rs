//! A page allocator with a bulk interface, for kernels, hypervisors and processes.
#![no_std]

#[cfg(test)]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod alloc_pages;
mod allocator;
mod batch;
mod buddy;
mod bulk;
mod config;
mod error;
mod gfp;
mod handle;
mod list;
mod memmap;
mod migratetype;
mod page;
mod pageblock;
mod pcp;
mod percpu;
mod platform;
mod setup;
mod shared;
mod source;
mod span;
mod stats;
mod sync;
mod units;
mod view;
mod watermark;
mod zone;
mod zonelist;

pub use alloc_pages::{AllocPages, free_pages_bulk};
pub use allocator::PageAllocator;
pub use config::{Config, MemoryRegion, ReservedRange};
pub use error::ConfigError;
pub use gfp::{Gfp, NR_ZONE_KINDS, ZoneKind};
pub use handle::RawPage;
pub use list::{Listable, PageList};
pub use migratetype::{MigrateType, NR_MIGRATE_TYPES};
pub use page::{Folio, FolioPages, Page};
pub use platform::{DirectMap, Platform};
pub use shared::SharedPage;
pub use source::PageSource;
#[cfg(not(loom))]
pub use source::{OnceAllocator, Static, StaticAllocator};
pub use stats::VmStat;
pub use units::{
    CpuId, MAX_NR_NODES, MAX_ORDER, NodeId, Order, OrderTooLarge, PAGE_SHIFT, PAGE_SIZE,
    PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PFN_BITS, Pfn, PhysAddr,
};
pub use view::{NR_PAGE_ORDERS, PcpInfo, ZoneInfo};
pub use watermark::Watermarks;
