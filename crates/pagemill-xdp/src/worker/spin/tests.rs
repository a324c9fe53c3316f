//! The budget on simulated time, alone and beside a naive model.

use super::*;

/// How long a simulated poll takes.
const POLL_NS: u64 = 100;

/// How long the simulated system takes to wake a thread.
const WAKE_NS: u64 = 60_000;

/// What a simulated thread did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Times that it went to sleep.
    nr_sleeps: u64,
    /// Time in polls that found nothing.
    in_vain_ns: u64,
    /// When it slept for the last time.
    last_sleep_ns: u64,
}

/// Runs a thread on packets that arrive at these times, in ascending order, until it has them all
/// and sleeps.
fn simulate(arrivals: &[u64]) -> Seen {
    let mut spin = SpinBudget::new();
    let mut seen = Seen::default();
    let (mut now, mut next) = (0, 0);
    loop {
        now += POLL_NS;
        let nr = arrivals[next..].iter().take(64).filter(|&&arrival| arrival <= now).count();
        next += nr;
        if nr > 0 {
            spin.found(nr);
        } else if spin.may_poll(now) {
            seen.in_vain_ns += POLL_NS;
        } else {
            seen.nr_sleeps += 1;
            seen.in_vain_ns += POLL_NS;
            seen.last_sleep_ns = now;
            let Some(&arrival) = arrivals.get(next) else {
                return seen;
            };
            now = now.max(arrival) + WAKE_NS;
        }
    }
}

/// Returns when `nr` packets arrive in batches of `batch`, one batch each `gap_ns`.
fn every(gap_ns: u64, batch: u64, nr: u64) -> Vec<u64> {
    (0..nr).map(|nth| 1_000_000 + nth / batch * gap_ns).collect()
}

#[test]
fn a_thread_does_not_sleep_while_packets_come_often() {
    for (gap_ns, batch) in [
        (280, 1),     // 3.5 million packets a second
        (18_000, 64), // the same in batches of a NAPI budget
        (5_000, 1),
        (40_000, 1), // 25,000 a second
        (190_000, 4),
    ] {
        let arrivals = every(gap_ns, batch, 10_000);
        let seen = simulate(&arrivals);
        // Once before the first packet, and once after the last.
        assert_eq!(seen.nr_sleeps, 2, "{gap_ns} ns, {batch} packets: {seen:?}");
    }
}

#[test]
fn a_thread_sleeps_soon_after_the_last_packet() {
    for nr in [1, 2, 4, 1000] {
        let arrivals = every(1_000, 1, nr);
        let seen = simulate(&arrivals);
        let last_ns = arrivals[arrivals.len() - 1].max(1_000_000 + WAKE_NS);
        let max_ns = nr * POLL_NS + SpinBudget::MAX_NS + 3 * POLL_NS;
        assert!(seen.last_sleep_ns <= last_ns + max_ns, "{nr}: {seen:?}");
    }
}

#[test]
fn rare_packets_cost_little_polling() {
    // A thousand a second, for ten seconds.
    let arrivals = every(1_000_000, 1, 10_000);
    let seen = simulate(&arrivals);
    assert_eq!(seen.nr_sleeps, 10_001);
    let share = seen.in_vain_ns as f64 / 10e9;
    assert!(share < 0.06, "polls for {:.1} % of the time", share * 100.0);
}

#[test]
fn a_thread_that_is_woken_for_nothing_sleeps_again_after_two_polls() {
    let mut spin = SpinBudget::new();
    for nth in 0..100 {
        let now_ns = nth * 100_000_000;
        assert!(spin.may_poll(now_ns));
        assert!(!spin.may_poll(now_ns + POLL_NS));
    }
}

/// The rule in plain words: all that was bought, less all that was used, nanosecond by nanosecond.
#[derive(Default)]
struct Naive {
    events: Vec<Event>,
}

#[derive(Clone, Copy)]
enum Event {
    Found(usize),
    Empty(u64),
}

impl Naive {
    fn may_poll(&self) -> bool {
        let mut left = 0;
        let mut last_empty: Option<u64> = None;
        let mut answer = true;
        for &event in &self.events {
            match event {
                Event::Found(nr) => {
                    (0..nr).for_each(|_| left = SpinBudget::MAX_NS.min(left + 50_000));
                    last_empty = None;
                }
                Event::Empty(now) => {
                    let is_first = last_empty.is_none();
                    for _ in last_empty.unwrap_or(now)..now {
                        left = if left > 0 { left - 1 } else { 0 };
                    }
                    answer = is_first || left > 0;
                    last_empty = answer.then_some(now);
                }
            }
        }
        answer
    }
}

#[test]
fn random_polls_are_decided_as_the_naive_model_does() {
    let nr_rounds = if cfg!(miri) { 2 } else { 60 };
    for seed in 0..nr_rounds {
        let mut random = seed;
        let mut below = |end: u64| {
            // Vigna's splitmix64.
            random = u64::wrapping_add(random, 0x9e37_79b9_7f4a_7c15);
            let bits = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (bits ^ (bits >> 27)) % end
        };
        let (mut spin, mut naive) = (SpinBudget::new(), Naive::default());
        let mut now_ns = 0;
        for _ in 0..60 {
            now_ns += below(30_000);
            if below(4) == 0 {
                let nr = 1 + usize::try_from(below(6)).unwrap();
                spin.found(nr);
                naive.events.push(Event::Found(nr));
                continue;
            }
            naive.events.push(Event::Empty(now_ns));
            assert_eq!(spin.may_poll(now_ns), naive.may_poll(), "seed {seed}, {now_ns} ns");
        }
    }
}

#[test]
fn polls_in_vain_are_paid_for_by_packets() {
    for seed in 1..20_u64 {
        let mut random = seed;
        let mut now_ns = 1_000_000;
        let arrivals: Vec<u64> = (0..2_000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                now_ns += (random >> 40) % (20_000 * seed);
                now_ns
            })
            .collect();
        let seen = simulate(&arrivals);
        let paid_ns = SpinBudget::PER_PACKET_NS * arrivals.len() as u64;
        assert!(
            seen.in_vain_ns <= paid_ns + 4 * POLL_NS * (seen.nr_sleeps + arrivals.len() as u64),
            "seed {seed}: {seen:?}"
        );
    }
}

#[test]
fn a_clock_that_goes_back_uses_up_nothing() {
    let mut spin = SpinBudget::new();
    spin.found(1);
    assert!(spin.may_poll(1_000_000));
    assert!(spin.may_poll(900_000));
    assert!(spin.may_poll(920_000));
    assert!(!spin.may_poll(u64::MAX));
}
