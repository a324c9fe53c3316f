//! Adaptive polling: how long a thread polls an empty device before it sleeps.
//!
//! Sleeping costs a wake-up, during which packets pile up on the ring; polling costs a CPU. The rule
//! works like a prepaid meter: each packet adds a little polling time, and polls that find nothing use
//! it up. So a thread polls without sleeping while packets arrive often, and sleeps almost at once when
//! they are rare.

use core::time::Duration;

/// Polling time that is left before a thread should sleep.
///
/// A pure state machine: the caller reports the result of each poll, and the time.
///
/// - While packets come at least every [`PER_PACKET`](Self::PER_PACKET) on average, in batches whose
///   distance is at most [`MAX`](Self::MAX), the thread never sleeps.
/// - After the last packet it polls for at most [`MAX`](Self::MAX).
/// - Over any run, it spends at most [`PER_PACKET`](Self::PER_PACKET) per packet on polls that find
///   no packet, plus two polls for each time that packets stop arriving.
///
/// # Examples
/// ```
/// use pagemill_xdp::workers::SpinBudget;
///
/// let mut spin = SpinBudget::new();
/// assert!(spin.may_poll(0)); // one poll more: the clock was not read before
/// assert!(!spin.may_poll(100)); // nothing came for long: sleep
/// spin.found(1);
/// assert!(spin.may_poll(1_000));
/// assert!(spin.may_poll(50_000));
/// assert!(!spin.may_poll(52_000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpinBudget {
    left_ns: u64,
    /// When the last poll found nothing; `None` if it found packets or the thread slept.
    empty_since_ns: Option<u64>,
}

impl SpinBudget {
    /// Polling time that one packet buys: approximately what a sleep and a wake-up cost together.
    pub const PER_PACKET: Duration = Duration::from_micros(50);

    /// The longest polling time that can be saved up.
    pub const MAX: Duration = Duration::from_micros(200);

    const PER_PACKET_NS: u64 = 50_000;
    const MAX_NS: u64 = 200_000;

    /// Starts without polling time.
    #[must_use]
    pub const fn new() -> Self {
        Self { left_ns: 0, empty_since_ns: None }
    }

    /// Records a poll that found `nr_packets`, at least one.
    #[inline]
    pub fn found(&mut self, nr_packets: usize) {
        let bought = Self::PER_PACKET_NS.saturating_mul(nr_packets as u64);
        self.left_ns = self.left_ns.saturating_add(bought).min(Self::MAX_NS);
        self.empty_since_ns = None;
    }

    /// Records a poll that found nothing, and returns whether to poll again rather than sleep.
    ///
    /// `now_ns` is the time on any monotonic clock. Time counts from one empty poll to the next, so
    /// that the work on packets is not mistaken for waiting.
    #[inline]
    #[must_use]
    pub fn may_poll(&mut self, now_ns: u64) -> bool {
        let Some(since_ns) = self.empty_since_ns.replace(now_ns) else {
            return true;
        };
        self.left_ns = self.left_ns.saturating_sub(now_ns.saturating_sub(since_ns));
        if self.left_ns == 0 {
            // Time asleep does not count as polling time.
            self.empty_since_ns = None;
        }
        self.left_ns > 0
    }
}

const _: () = assert!(
    SpinBudget::PER_PACKET.as_nanos() == SpinBudget::PER_PACKET_NS as u128
        && SpinBudget::MAX.as_nanos() == SpinBudget::MAX_NS as u128,
    "both say the same"
);

#[cfg(test)]
mod tests;
