//! The state of the allocator, in the shape of `/proc/zoneinfo` and `/proc/buddyinfo`.

use pagemill::units::PAGE_SIZE;

use crate::frames::allocator;
use crate::smp;

/// Prints the zones and the CPUs.
pub(crate) fn zones() {
    let frames = allocator();
    let free: u64 = frames.zone_info().map(|zone| zone.managed).sum();
    let mib = (free * PAGE_SIZE as u64) >> 20;
    println!("{mib} MiB in zones, {} CPUs", smp::nr_cpus());
    println!("zone         start    present    managed       min       low      high");
    for zone in frames.zone_info() {
        let marks = zone.watermarks;
        println!(
            "{:<8} {:>9x} {:>10} {:>10} {:>9} {:>9} {:>9}",
            zone.kind.name(),
            zone.start_pfn,
            zone.present,
            zone.managed,
            marks.min,
            marks.low,
            marks.high
        );
    }
}

/// Empties the lists of all CPUs, and prints the free blocks of each order.
pub(crate) fn buddyinfo() {
    allocator().drain_all_pages();
    println!();
    for zone in allocator().zone_info() {
        print!("Node {}, zone {:>8}", zone.node, zone.kind.name());
        for count in zone.buddyinfo() {
            print!(" {count:>6}");
        }
        println!();
    }
}
