//! What a page costs, in the table of `pagemill bench bulk`, in ticks of the time stamp counter.
//!
//! Under QEMU's `-icount shift=0` a tick is an instruction, and the table says so.

mod heap;
mod limits;
mod measure;
mod orders;
#[path = "../../../crates/pagemill-bench/src/bulk/workload.rs"]
#[expect(unreachable_pub, reason = "the program `pagemill` measures the same loops")]
mod workload;

use alloc::vec::Vec;

use measure::{Blocks, Figures, Hundredths};
use pagemill::{Order, PageList};
use workload::{Arrays, Lists, Singles};

use crate::frames::{FRAMES, allocator};
use crate::ticks::Clock;

/// Pages in a batch, as the program `pagemill` measures them.
const SIZES: [usize; 11] = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512];
/// Pages of which a group of batches consists whose halves are timed: half of a CPU's list.
const GROUP_PAGES: usize = 512;
/// Most pages that are all taken before the first is freed.
const BURST_PAGES: usize = 16_384;

/// A batch for which the instructions have a limit, allocation and release of a page together.
const LIMITED: usize = 64;
const INSTRUCTIONS_MAX: Hundredths = Hundredths(1600);

/// Prints both tables, and under a clock that counts instructions checks the limit.
pub(crate) fn run() {
    let clock = Clock::detect();
    let lists = allocator().pcp_info().filter(|list| list.order == Order::ZERO);
    let high = lists.map(|list| list.high).max().unwrap_or(1);
    println!();
    println!("{} per page, this CPU alone; medians of {} runs", clock.unit(), measure::RUNS);
    println!("saved: by array, of single; spread: from the fastest run to the slowest");
    println!();
    println!("ping: allocate N, free N, again and again; pages of the CPU's own list");
    let group = GROUP_PAGES.min(high);
    let arrays = table(clock, |n| (group / n).max(1), measure::Shape::Ping);
    println!();
    let free = usize::try_from(allocator().nr_free_pages()).unwrap_or(usize::MAX);
    let burst = BURST_PAGES.min(free / 4);
    println!("burst: allocate {burst} in batches of N, then free them; pages of the zone");
    table(clock, |n| burst / n, measure::Shape::Burst);
    println!();
    orders::table(clock);
    println!();
    heap::run(clock);
    if clock.counts_instructions {
        println!();
        limits::table();
        let Figures { alloc, free, both, .. } = arrays;
        println!();
        println!(
            "an array of {LIMITED}: {alloc} + {free} instructions per page to allocate and to free, \
             {both} together; limit {INSTRUCTIONS_MAX}"
        );
        assert!(both <= INSTRUCTIONS_MAX, "an array of {LIMITED} costs more than its limit");
    }
}

/// Prints one table, and returns the figures of an array of [`LIMITED`].
fn table(clock: Clock, nr_batches: impl Fn(usize) -> usize, shape: measure::Shape) -> Figures {
    println!("{:6} | {:^23} | {:^23} | {:^23} |", "", "single", "list", "array");
    print!("{:>6}", "N");
    for _ in 0..3 {
        print!(" | {:>7} {:>7} {:>7}", "alloc", "free", "both");
    }
    println!(" | {:>6} {:>6}", "saved", "spread");
    let mut limited = Figures::default();
    for n in SIZES {
        let nr = nr_batches(n);
        let mut slots: Vec<_> = (0..n * nr).map(|_| None).collect();
        let mut lists: Vec<_> = (0..nr).map(|_| PageList::new(FRAMES)).collect();
        let blocks = Blocks { n, nr_batches: nr, order: Order::ZERO };
        let rows = [
            measure::figures(clock, shape, blocks, &mut Singles::new(FRAMES, &mut slots, n)),
            measure::figures(clock, shape, blocks, &mut Lists::new(FRAMES, &mut lists, n)),
            measure::figures(clock, shape, blocks, &mut Arrays::new(FRAMES, &mut slots, n)),
        ];
        print!("{n:>6}");
        for row in &rows {
            print!(" | {:>7} {:>7} {:>7}", row.alloc, row.free, row.both);
        }
        let [single, _, array] = rows;
        let spread = rows.iter().map(|row| row.spread_percent).max().unwrap_or(0);
        println!(" | {:>4} % {spread:>4} %", saved_percent(array.both, single.both));
        if n == LIMITED {
            limited = array;
        }
    }
    limited
}

fn saved_percent(array: Hundredths, single: Hundredths) -> i64 {
    let of = |cost: Hundredths| i64::try_from(cost.0).expect("costs are small");
    100 - of(array) * 100 / of(single).max(1)
}
