//! A kernel whose only allocator is pagemill: it boots by PVH, takes its zones from the memory map,
//! checks itself, and prints what a page costs.
//!
//! It is an example of what a kernel has to supply, and a test of pagemill without an operating
//! system. `docs/kernel-guide.md` leads through it; `run.sh` builds and boots it.
//!
//! # Invariants
//! The arguments beside unsafe code cite these by name.
//!
//! - `direct-map` (`direct_map.rs`): every byte of memory that the map calls usable is mapped,
//!   writable, at [`direct_map::BASE`] plus its address, from before the allocator is built and
//!   for good.
//! - `reserved-early` (`memory.rs`): the image, the first MiB, what the loader left, and what was
//!   carved out before the allocator was built are reserved, so no frame of theirs is handed out.
//! - `own-block` (`cpu.rs`): a CPU's GS base is the address of its own [`cpu::PerCpu`].
//! - `legacy-ports` (`port.rs`): the ports written are those of devices that the machines have, or
//!   of nothing.
#![no_std]
#![no_main]

extern crate alloc;

#[macro_use]
mod serial;

mod bench;
mod boot;
mod check;
mod content;
mod cpu;
mod direct_map;
mod exit;
mod firmware;
mod frames;
mod heap;
mod interrupt;
mod lapic;
mod lock;
mod memory;
mod memory_ops;
mod platform;
mod port;
mod random;
mod reentry;
mod section;
mod smp;
mod stack;
mod start_info;
mod tenant;
mod ticks;
mod view;
mod watch;

use exit::Code;

/// What the boot code calls, with the address of the loader's start info.
extern "C" fn kernel_main(start_info: u64) -> ! {
    cpu::claim(0);
    serial::init();
    interrupt::init();
    lapic::init();
    println!("pagemill on bare metal");
    let mut map = memory::Map::of(start_info);
    direct_map::cover(&mut map);
    let nr_cpus = firmware::nr_cpus();
    frames::build(&mut map, nr_cpus);
    heap::start();
    cpu::enable_interrupts();
    smp::start(nr_cpus);
    view::zones();
    check::run();
    bench::run();
    view::buddyinfo();
    println!("pass");
    exit::with(Code::Pass)
}
