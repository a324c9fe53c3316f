//! What the kernel checks of its allocator, and of itself.

mod baseline;
mod collections;
mod crowd;
mod exhaustion;
mod interrupts;
mod mapper;
mod pages;
mod window;
mod zones;

use baseline::Baseline;

/// Runs every check; each must leave the free blocks as it found them.
pub(crate) fn run() {
    println!();
    let baseline = Baseline::take();
    let checks: [(&str, fn()); 8] = [
        ("zones", zones::check),
        ("pages", pages::check),
        ("window", window::check),
        ("mapper", mapper::check),
        ("heap", collections::check),
        ("interrupts", interrupts::check),
        ("crowd", crowd::check),
        ("exhaustion", exhaustion::check),
    ];
    for (name, check) in checks {
        print!("{name:<11} ");
        check();
        baseline.assert_back(name);
    }
    println!("{:<11} {}", "afterwards", baseline);
}
