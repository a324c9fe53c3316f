//! The loop of `measure` in the kernel in C, in Rust: what a bulk call costs without the C interface.
#![no_std]
#![no_main]

use core::arch::x86_64::_rdtsc;
use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::hint::black_box;
use core::panic::PanicInfo;
use core::ptr::{self, NonNull};

use pagemill::machine::DirectMap;
use pagemill::setup::MemoryRegion;
use pagemill::units::{CpuId, NodeId, Pfn, PhysAddr};
use pagemill::{AllocPages, Config, Gfp, Page, PageAllocator, Platform};

global_asm!(include_str!("../../../guides/kernel/src/boot.s"), options(att_syntax));

/// The platform of the kernel in C, where each method is a function of a table.
struct Machine;

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        1
    }

    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }

    unsafe fn zero_pages(&self, _first: Pfn, _nr_pages: usize) {
        unreachable!("no request asks for zeroes");
    }
}

// SAFETY: boot.s maps the first GiB at its own addresses; the memory map begins above frame zero.
unsafe impl DirectMap for Machine {
    fn frame_ptr(&self, pfn: Pfn) -> NonNull<u8> {
        let address = usize::try_from(pfn.start().value()).expect("addresses have 64 bits");
        NonNull::new(ptr::with_exposed_provenance_mut(address)).expect("not frame zero")
    }
}

pagemill::static_allocator! {
    static ALLOCATOR: Machine;
    type Frames;
}
const FRAMES: Frames = Frames::new();

const MIB: u64 = 1 << 20;
const NR_PAGES: usize = 64;

/// Memory that QEMU's machine has with `-m 256M`, behind the image, for metadata and for pages.
const METADATA: PhysAddr = PhysAddr::new(32 * MIB);
const PAGES: PhysAddr = PhysAddr::new(64 * MIB);
const LEN_BYTES: u64 = 128 * MIB;

fn build_allocator() {
    let memory = [MemoryRegion { start: PAGES, len_bytes: LEN_BYTES, node: NodeId::new(0) }];
    let config = Config::new(&memory, 1);
    let layout = PageAllocator::<Machine>::metadata_layout(&config).expect("a valid memory map");
    assert!(layout.size() as u64 <= PAGES.value() - METADATA.value(), "the metadata is small");
    let metadata = NonNull::slice_from_raw_parts(Machine.frame_ptr(METADATA.pfn()), layout.size());
    // SAFETY: memory that the machine has, and that neither the image nor the loader uses.
    let allocator = unsafe { PageAllocator::new(&config, metadata, Machine) };
    assert!(
        ALLOCATOR.set(allocator.expect("a valid memory map")).is_ok(),
        "there is one allocator"
    );
}

/// Ticks of the time stamp counter; under QEMU's `-icount shift=0`, instructions.
fn ticks() -> u64 {
    // SAFETY: every x86-64 machine has the counter. The empty block keeps memory accesses in their place.
    unsafe {
        asm!("", options(nostack));
        let now = _rdtsc();
        asm!("", options(nostack));
        now
    }
}

#[unsafe(no_mangle)]
extern "C" fn kernel_main() -> ! {
    build_allocator();
    let mut slots: [Option<Page<Frames>>; NR_PAGES] = [const { None }; NR_PAGES];
    // A call from C does not know the number at compile time either.
    let slots = black_box(slots.as_mut_slice());
    let (mut allocating, mut freeing) = (0, 0);
    // Not the first rounds, which fill the lists.
    for round in 0..24 {
        let start = ticks();
        let nr = FRAMES.alloc_pages_bulk(Gfp::KERNEL, slots);
        let middle = ticks();
        assert_eq!(nr, NR_PAGES, "memory is free");
        FRAMES.release_pages(slots);
        if round >= 8 {
            allocating += middle - start;
            freeing += ticks() - middle;
        }
    }
    let (allocating, freeing) = (allocating / 16, freeing / 16);
    let _ =
        writeln!(Serial, "64 pages in one call: {allocating} ticks to allocate, {freeing} to free");
    end(16)
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

/// Ends QEMU by its device isa-debug-exit, with the status 2 * code + 1.
fn end(code: u8) -> ! {
    out(0xf4, code);
    loop {
        // SAFETY: waits for an interrupt, and none comes.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "{info}");
    end(17)
}
