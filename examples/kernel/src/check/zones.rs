//! The zones are those of the map, and requests stay in the zones that they name.

use pagemill::gfp::ZoneKind;
use pagemill::{AllocPages, Gfp};

use crate::frames::{FRAMES, allocator};

/// Where a zone ends.
const DMA_END: u64 = 16 << 20;
const DMA32_END: u64 = 4 << 30;

/// Checks the limits of zones, and that pages come from where they were asked for.
pub(super) fn check() {
    let mut managed = [0; 3];
    for zone in allocator().zone_info() {
        assert!(zone.managed <= zone.present && zone.present <= zone.spanned, "{zone:?}");
        assert!(zone.nr_free_pages <= zone.managed, "{zone:?}");
        managed[zone.kind.index()] = zone.managed;
    }
    for (gfp, end, kind) in [
        (Gfp::KERNEL | Gfp::DMA, DMA_END, ZoneKind::Dma),
        (Gfp::KERNEL | Gfp::DMA32, DMA32_END, ZoneKind::Dma32),
        (Gfp::KERNEL, u64::MAX, ZoneKind::Normal),
    ] {
        let page = FRAMES.alloc_page(gfp).unwrap_or_else(|| panic!("no page of {}", kind.name()));
        assert!(page.phys_addr().value() < end, "{page:?} is above {}", kind.name());
        // Without memory above 4 GiB there is no zone Normal, and the next lower one serves.
        if kind != ZoneKind::Normal || managed[kind.index()] > 0 {
            let start = [0, DMA_END, DMA32_END][kind.index()];
            assert!(page.phys_addr().value() >= start, "{page:?} is below {}", kind.name());
        }
    }
    let [dma, dma32, normal] = managed;
    println!("DMA, DMA32, Normal manage {dma}, {dma32}, {normal} pages");
}
