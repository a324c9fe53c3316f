//! The limit on the owners of a shared page.

use alloc::boxed::Box;
use core::panic::AssertUnwindSafe;
use core::ptr::NonNull;

use super::*;
use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::base::units::{CpuId, NodeId, PhysAddr};
use crate::config::config::{Config, MemoryRegion};
use crate::page_alloc::allocator::PageAllocator;
use crate::platform::platform::Platform;

struct Alone;

impl Platform for Alone {
    fn nr_cpus(&self) -> u32 {
        1
    }
    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }
    unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {}
}

#[derive(Clone, Copy)]
#[repr(align(128))]
struct Aligned {
    _bytes: [u8; 128],
}

#[test]
fn a_refused_owner_is_not_counted() {
    let region = MemoryRegion { start: PhysAddr::new(0), len_bytes: 1 << 20, node: NodeId::new(0) };
    let memory = [region];
    let config = Config::new(&memory, 1);
    let size = PageAllocator::<Alone>::metadata_layout(&config).unwrap().size();
    let metadata = Box::leak(alloc::vec![Aligned { _bytes: [0; 128] }; size / 128 + 1].into());
    let metadata: &mut [Aligned] = metadata;
    let metadata = NonNull::slice_from_raw_parts(NonNull::from(metadata).cast(), size);
    // SAFETY: 1. the metadata memory is initialised, aligned, and leaked for this test alone.
    // 2. no access to frames: they have no memory.
    let allocator = unsafe { PageAllocator::new(&config, metadata, Alone) }.unwrap();
    let page = allocator.alloc_page(Gfp::KERNEL).unwrap().share();
    page.count().store(MAX_OWNERS, Ordering::Relaxed);
    for _ in 0..3 {
        let clone = AssertUnwindSafe(|| page.clone().pfn());
        assert!(std::panic::catch_unwind(clone).is_err());
        assert_eq!(page.nr_owners(), MAX_OWNERS);
    }
    page.count().store(1, Ordering::Relaxed);
}
