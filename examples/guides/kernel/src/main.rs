//! A kernel with one CPU whose only allocator is pagemill: it allocates, prints, and powers off.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::{self, NonNull};
use core::slice;

use pagemill::machine::DirectMap;
use pagemill::setup::{MemoryRegion, ReservedRange};
use pagemill::units::{CpuId, NodeId, PAGE_SIZE, PAGEBLOCK_ORDER, Pfn, PhysAddr};
use pagemill::{AllocPages, Config, Gfp, Page, PageAllocator, Platform};

global_asm!(include_str!("boot.s"), options(att_syntax));

// 1. The machine.

struct Machine;

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        1
    }

    // One CPU, and interrupts stay off. Otherwise: turn preemption off here and on in `unpin`, and
    // implement `irq_save` and `irq_restore`.
    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn zero_pages(&self, first: Pfn, nr_pages: usize) {
        // SAFETY: the allocator passes frames of the memory map, which nobody else uses.
        unsafe { ptr::write_bytes(self.frame_ptr(first).as_ptr(), 0, nr_pages * PAGE_SIZE) };
    }
}

// SAFETY: boot.s maps the first GiB at its own addresses, writable and for good. `memory_map` keeps
// only memory below it, and reserves frame zero, whose pointer would be null.
unsafe impl DirectMap for Machine {
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        let address = usize::try_from(pfn.start().value()).expect("addresses have 64 bits");
        NonNull::new(ptr::with_exposed_provenance_mut(address)).expect("frame zero is reserved")
    }
}

pagemill::static_allocator! {
    static ALLOCATOR: Machine;
    type Frames;
}
const FRAMES: Frames = Frames::new();

// 2. The memory map.

/// The end of what boot.s maps.
const MAPPED_END: u64 = 1 << 30;
/// How many entries of the loader's map are read; QEMU's have fewer than ten.
const NR_ENTRIES_MAX: usize = 32;

/// `hvm_start_info` of PVH, from its field `memmap_paddr` on.
const START_INFO_MAP: usize = 40;

/// `hvm_memmap_table_entry`.
#[repr(C)]
struct Entry {
    start: u64,
    len_bytes: u64,
    kind: u32,
    reserved: u32,
}

/// Returns the usable memory of the loader's map.
fn memory_map(start_info: usize, regions: &mut [MemoryRegion]) -> usize {
    const USABLE: u32 = 1;
    let field: *const (u64, u32) = ptr::with_exposed_provenance(start_info + START_INFO_MAP);
    // SAFETY: the loader left its start info there, below 1 GiB; nobody writes to it.
    let (map, nr_entries) = unsafe { (*field.cast::<u64>(), *field.cast::<u32>().add(2)) };
    // SAFETY: as for the start info.
    let entries: &[Entry] = unsafe {
        slice::from_raw_parts(ptr::with_exposed_provenance(map as usize), nr_entries as usize)
    };
    let mut nr = 0;
    for entry in entries.iter().filter(|entry| entry.kind == USABLE) {
        let end = (entry.start + entry.len_bytes).min(MAPPED_END);
        let (start, end) = (PhysAddr::new(entry.start), PhysAddr::new(end));
        // `within` rounds to whole pages, and returns `None` if there is none.
        if let Some(region) = MemoryRegion::within(start, end, NodeId::new(0)) {
            regions[nr] = region;
            nr += 1;
        }
    }
    nr
}

unsafe extern "C" {
    // The linker defines these: the first byte of the image, and the byte after its last.
    static __executable_start: u8;
    static _end: u8;
}

// 3. The allocator, whose metadata is part of the memory that it manages.

fn build_allocator(start_info: usize) {
    const FIRST_MIB: u64 = 1 << 20;
    let empty = MemoryRegion { start: PhysAddr::new(0), len_bytes: 0, node: NodeId::new(0) };
    let mut regions = [empty; NR_ENTRIES_MAX];
    let nr_regions = memory_map(start_info, &mut regions);
    let regions = &regions[..nr_regions];

    let range = |start: u64, end: u64| ReservedRange {
        start: PhysAddr::new(start),
        len_bytes: end - start,
    };
    let image_start = (&raw const __executable_start).addr() as u64;
    let image_end = (&raw const _end).addr().next_multiple_of(PAGE_SIZE) as u64;
    // QEMU's start info and its map lie in the first MiB.
    let without_metadata = [range(0, FIRST_MIB), range(image_start, image_end)];
    let config = Config { reserved: &without_metadata, ..Config::new(regions, 1) };
    let layout = PageAllocator::<Machine>::metadata_layout(&config).expect("a valid memory map");

    // Behind the image. Reserving it does not change its size.
    let metadata_end = image_end + layout.size() as u64;
    let holds = |region: &&MemoryRegion| {
        let start = region.start.value();
        start <= image_start && metadata_end <= start + region.len_bytes
    };
    assert!(regions.iter().any(|region| holds(&region)), "too little memory behind the image");
    let metadata = Machine.frame_ptr(PhysAddr::new(image_end).pfn());
    let metadata = NonNull::slice_from_raw_parts(metadata, layout.size());
    let reserved = [range(0, FIRST_MIB), range(image_start, metadata_end)];
    let config = Config { reserved: &reserved, ..Config::new(regions, 1) };
    // SAFETY: the metadata is mapped, aligned to a page, and reserved for good. The map is the
    // loader's, and what it calls usable and is in use is reserved.
    let allocator = unsafe { PageAllocator::new(&config, metadata, Machine) };
    let allocator = allocator.expect("a valid memory map");
    assert!(ALLOCATOR.set(allocator).is_ok(), "there is one allocator");
}

// 4. What the kernel does with it.

#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: usize) -> ! {
    build_allocator(start_info);
    let allocator = ALLOCATOR.get().expect("built above");
    let nr_free = allocator.nr_free_pages();
    println!("{nr_free} free pages, {} MiB", nr_free >> 8);

    // 64 pages in one call; each is memory, and owned.
    let mut slots: [Option<Page<Frames>>; 64] = [const { None }; 64];
    FRAMES.fill(Gfp::KERNEL | Gfp::ZERO, &mut slots).expect("memory is free");
    for (number, page) in (0..).zip(slots.iter_mut().flatten()) {
        page.as_bytes_mut()[0] = number;
    }
    let nr_freed = FRAMES.release_pages(&mut slots);
    println!("{nr_freed} pages allocated in one call, and freed in another");

    // A block of 2 MiB, aligned to its size; 1 MiB and a page in one piece, below 16 MiB, for a device.
    let block = FRAMES.alloc_pages(Gfp::KERNEL, PAGEBLOCK_ORDER).expect("memory is free");
    let ring = FRAMES.alloc_contig(Gfp::KERNEL, 257, 1, Some(PhysAddr::new(16 << 20)));
    let ring = ring.expect("low memory is free");
    println!("a block at {}, a ring at {}", block.pfn(), ring.pfn());

    // A request that cannot be served: the error says how far it got and why. Its pages are in the list.
    let error = FRAMES.alloc_exactly(Gfp::KERNEL, 1 << 20).expect_err("there is no 4 GiB");
    println!("{error}");

    // A page as a number, for a page table entry or for C.
    let pfn = FRAMES.alloc_page(Gfp::KERNEL).expect("memory is free").into_pfn();
    // SAFETY: the number is from `into_pfn`, and is used once.
    drop(unsafe { Page::from_pfn(FRAMES, pfn) });

    drop((block, ring));
    for zone in allocator.zone_info() {
        println!("zone {:?}: {} of {} pages free", zone.kind, zone.nr_free_pages, zone.managed);
    }
    allocator.validate().expect("the books agree");
    assert_eq!(allocator.nr_free_pages(), nr_free);
    println!("all pages are free again");
    power_off()
}

// 5. The console and the end.

#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { let _ = writeln!(Serial, $($arg)*); };
}

/// QEMU's COM1, which needs no setup.
struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out(0x3f8, byte));
        Ok(())
    }
}

/// Writes to a port of COM1 or of QEMU's debug exit.
fn out(port: u16, value: u8) {
    // SAFETY: neither device touches memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

fn stop() -> ! {
    loop {
        // SAFETY: waits for an interrupt, and none comes.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// Powers QEMU's machine off, which ends QEMU with status 0.
fn power_off() -> ! {
    // SAFETY: the port of the power management of QEMU's machine `pc`; 0x2000 is SLP_EN.
    unsafe { asm!("out dx, ax", in("dx") 0x604_u16, in("ax") 0x2000_u16, options(nomem, nostack)) };
    stop()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    out(0xf4, 1); // isa-debug-exit ends QEMU with status 3
    stop()
}
