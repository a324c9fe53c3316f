//! A page allocator with a bulk interface.
#![no_std]

#[cfg(test)]
extern crate std;

mod platform;
mod units;

pub use platform::{DirectMap, Platform};
pub use units::{
    CpuId, MAX_NR_NODES, MAX_ORDER, NodeId, Order, OrderTooLarge, PAGE_SHIFT, PAGE_SIZE,
    PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, PFN_BITS, Pfn, PhysAddr,
};
