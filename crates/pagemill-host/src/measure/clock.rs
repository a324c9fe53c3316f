//! Clocks for measurements: the system's monotonic clock, and the CPU's time stamp counter.
//!
//! One instruction reads the counter, which is finer than a nanosecond. It is a clock only if it runs
//! at one rate in every state of the CPU, and equally on every CPU.

use core::time::Duration;
use std::sync::OnceLock;
use std::thread;

use rustix::time::{ClockId, clock_gettime};

/// Returns the time on the system's monotonic clock, in nanoseconds from an arbitrary start.
///
/// # Cost
/// Tens of nanoseconds: the vDSO reads the clock without a system call.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // This clock starts at zero, so neither part is negative.
    time.tv_sec.unsigned_abs() * NS_PER_SECOND + time.tv_nsec.unsigned_abs()
}

/// The time stamp counter, on a machine where it is usable as a clock.
#[derive(Clone, Copy, Debug)]
pub struct Tsc {
    hz: u64,
}

impl Tsc {
    /// Checks that the counter is usable as a clock, and measures its rate.
    ///
    /// Returns `None` on architectures other than x86-64, if the CPU does not promise a constant rate,
    /// or if the kernel has found that promise broken. All calls in a process return the same result.
    ///
    /// # Cost
    /// The first call in a process reads `/proc/cpuinfo` and sleeps for 20 ms; concurrent calls wait
    /// for it. Later calls read the result from memory.
    #[must_use]
    pub fn detect() -> Option<Self> {
        static DETECTED: OnceLock<Option<Tsc>> = OnceLock::new();
        *DETECTED.get_or_init(Self::calibrate)
    }

    /// Does the work of [`detect`](Self::detect), once.
    fn calibrate() -> Option<Self> {
        counter::is_clock().then(|| Self { hz: measure_hz() })
    }

    /// Reads the counter, after all earlier instructions and before all later ones.
    ///
    /// # Cost
    /// Two fences, between which no other instruction is in flight: approximately as much as
    /// [`monotonic_ns`].
    #[inline]
    #[must_use]
    pub fn now(self) -> u64 {
        counter::read_fenced()
    }

    /// Reads the counter, at some moment near this place in the program.
    ///
    /// For intervals of hundreds of instructions or more, which it disturbs less than
    /// [`now`](Self::now).
    #[inline]
    #[must_use]
    pub fn now_unfenced(self) -> u64 {
        counter::read()
    }

    /// Returns the measured rate, in ticks per second.
    #[must_use]
    pub fn hz(self) -> u64 {
        self.hz
    }

    /// Converts a number of ticks to nanoseconds, rounded down.
    ///
    /// # Panics
    /// If the result needs more than 64 bits, which corresponds to approximately 584 years.
    #[must_use]
    #[track_caller]
    pub fn to_ns(self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * u128::from(NS_PER_SECOND) / u128::from(self.hz);
        u64::try_from(ns).expect("an interval is shorter than 584 years")
    }
}

/// Measures the counter's rate against the monotonic clock.
fn measure_hz() -> u64 {
    let start = Reading::take();
    thread::sleep(CALIBRATION);
    let end = Reading::take();
    let ticks = u128::from(end.ticks - start.ticks);
    let hz = ticks * u128::from(NS_PER_SECOND) / u128::from(end.ns - start.ns);
    u64::try_from(hz).expect("a CPU counts fewer than 2^64 ticks a second")
}

/// Both clocks, read at almost the same time.
struct Reading {
    ns: u64,
    ticks: u64,
}

impl Reading {
    /// Reads both clocks several times, and keeps the pair that was read in the shortest time.
    fn take() -> Self {
        let attempt = || {
            let before = counter::read_fenced();
            let ns = monotonic_ns();
            let after = counter::read_fenced();
            // If the counter went backwards, the width is enormous and the pair is not kept.
            let width = after.wrapping_sub(before);
            let ticks = before.wrapping_add(width / 2);
            (width, Self { ns, ticks })
        };
        // An interrupt or another virtual machine may disturb one reading; that all 16 are disturbed is
        // practically impossible.
        let attempts = (0..16).map(|_| attempt());
        let (_, closest) =
            attempts.min_by_key(|&(width, _)| width).expect("there are sixteen attempts");
        closest
    }
}

/// The counter of an x86-64 CPU.
#[cfg(target_arch = "x86_64")]
mod counter {
    use core::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};

    use crate::cpu::sysfs;

    /// CPUID leaf "advanced power management", whose EDX has [`INVARIANT_TSC`].
    const ADVANCED_POWER_MANAGEMENT: u32 = 0x8000_0007;
    /// CPUID leaf with the largest extended leaf.
    const LARGEST_EXTENDED: u32 = 0x8000_0000;
    /// The counter runs at one rate in all power states.
    const INVARIANT_TSC: u32 = 1 << 8;

    /// Returns whether CPU and kernel agree that the counter is usable as a clock.
    pub(super) fn is_clock() -> bool {
        is_invariant()
            && sysfs::read("/proc/cpuinfo").is_some_and(|cpuinfo| kernel_trusts(&cpuinfo))
            && kernel_keeps()
    }

    fn is_invariant() -> bool {
        __cpuid(LARGEST_EXTENDED).eax >= ADVANCED_POWER_MANAGEMENT
            && __cpuid(ADVANCED_POWER_MANAGEMENT).edx & INVARIANT_TSC != 0
    }

    /// Returns whether the kernel, too, found a constant rate that never stops.
    pub(super) fn kernel_trusts(cpuinfo: &str) -> bool {
        let flags = sysfs::field(cpuinfo, "flags").unwrap_or_default();
        let has = |wanted| flags.split_ascii_whitespace().any(|flag| flag == wanted);
        has("constant_tsc") && has("nonstop_tsc")
    }

    /// Returns whether the counter is still among the kernel's clock sources.
    ///
    /// The kernel removes it if its watchdog finds it drifting or different between CPUs. It need not
    /// be the current source: a guest often uses its host's clock.
    fn kernel_keeps() -> bool {
        sysfs::read("/sys/devices/system/clocksource/clocksource0/available_clocksource")
            .is_none_or(|clocks| clocks.split_ascii_whitespace().any(|clock| clock == "tsc"))
    }

    #[inline]
    pub(super) fn read() -> u64 {
        // SAFETY:
        // 1. Every x86-64 CPU has the instruction, and Linux allows processes to execute it. A
        //    process that forbade it to itself by `prctl` is killed by a signal.
        unsafe { _rdtsc() }
    }

    #[inline]
    pub(super) fn read_fenced() -> u64 {
        fence();
        let ticks = read();
        fence();
        ticks
    }

    /// Waits until all earlier instructions are complete.
    ///
    /// On AMD this holds because Linux makes LFENCE serialising.
    #[inline]
    fn fence() {
        // SAFETY:
        // 1. LFENCE is part of SSE2, which every x86-64 CPU has.
        unsafe { _mm_lfence() };
    }
}

/// The same interface on other targets, which have no such counter.
#[cfg(not(target_arch = "x86_64"))]
mod counter {
    /// Returns `false`.
    pub(super) fn is_clock() -> bool {
        false
    }

    /// Returns the system's clock; never called, since there is no `Tsc`.
    pub(super) fn read() -> u64 {
        super::monotonic_ns()
    }

    /// Returns the system's clock; never called.
    pub(super) fn read_fenced() -> u64 {
        super::monotonic_ns()
    }
}

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Long enough that two readings, each approximately 50 ns wide, err by a few parts per million.
const CALIBRATION: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_clock_advances() {
        let start = monotonic_ns();
        thread::sleep(Duration::from_millis(2));
        let elapsed_ns = monotonic_ns() - start;
        assert!(elapsed_ns >= 2_000_000, "{elapsed_ns}");
    }

    #[test]
    fn counter_never_goes_back() {
        let Some(tsc) = Tsc::detect() else { return };
        let mut last = tsc.now();
        for _ in 0..10_000 {
            let now = tsc.now();
            assert!(now >= last);
            last = now;
        }
        assert!(tsc.now_unfenced() >= last);
    }

    #[test]
    fn two_calibrations_agree_within_one_percent() {
        let (Some(first), Some(second)) = (Tsc::calibrate(), Tsc::calibrate()) else {
            return;
        };
        let difference = first.hz().abs_diff(second.hz());
        assert!(difference < first.hz() / 100, "{} Hz, then {} Hz", first.hz(), second.hz());
    }

    #[test]
    fn the_counter_is_calibrated_once_in_a_process() {
        let hz = || Tsc::detect().map(Tsc::hz);
        let first = hz();
        // Two calibrations agree within parts in a million; that a hundred agree to the hertz is
        // as good as impossible.
        assert!((0..100).all(|_| hz() == first));
    }

    #[test]
    fn ticks_become_nanoseconds() {
        let tsc = Tsc { hz: 2_500_000_000 };
        assert_eq!(tsc.to_ns(0), 0);
        assert_eq!(tsc.to_ns(5), 2);
        assert_eq!(tsc.to_ns(2_500_000_000 * 86_400 * 365), NS_PER_SECOND * 86_400 * 365);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn trust_needs_both_flags() {
        let trusts = |flags| counter::kernel_trusts(&format!("flags\t\t: fpu {flags} sse\n"));
        assert!(trusts("constant_tsc rep_good nonstop_tsc"));
        assert!(!trusts("constant_tsc"));
        assert!(!trusts("nonstop_tsc_s3 constant_tsc"));
        assert!(!counter::kernel_trusts("processor : 0\n"));
    }
}
