//! The run queue against lists that are searched from end to end, and what clients may rely on.

use super::*;
use crate::limits::client::numbered::{NUMBERS, client, client_of};

const LANES: [Lane; 2] = [Lane::Fresh, Lane::Busy];

/// A task of the client with a number.
type Numbered = (u64, u32);

fn push(ready: &RunQueue<Numbered>, tasks: &[Numbered], lane: Lane) -> usize {
    ready.push(tasks.iter().map(|&task| (client(task.0), task)), lane)
}

fn pop_all(ready: &RunQueue<Numbered>) -> Vec<Numbered> {
    core::iter::from_fn(|| ready.pop()).collect()
}

#[test]
fn no_thread_sleeps_while_there_is_a_task() {
    let ready = RunQueue::new();
    assert!(ready.sleep());
    assert_eq!(push(&ready, &[(1, 1)], Lane::Fresh), 1, "a sleeper must be woken");
    assert_eq!(push(&ready, &[(1, 2), (1, 3)], Lane::Fresh), 1, "there is one sleeper");
    ready.awake();
    assert!(!ready.sleep());
    assert_eq!(push(&ready, &[(1, 4)], Lane::Busy), 0, "no thread sleeps");
    assert_eq!(pop_all(&ready), [(1, 1), (1, 2), (1, 3), (1, 4)]);
    assert!(ready.sleep());
}

#[test]
fn who_pushes_and_takes_one_wakes_threads_for_the_others_only() {
    let ready = RunQueue::new();
    for _ in 0..4 {
        assert!(ready.sleep());
    }
    let tasks = |nr: u32| (1..=nr).map(|task| (client(1), (1, task)));
    assert_eq!(ready.push_and_pop(tasks(0), Lane::Fresh), (None, 0));
    assert_eq!(ready.push_and_pop(tasks(1), Lane::Fresh), (Some((1, 1)), 0));
    assert_eq!(ready.push_and_pop(tasks(3), Lane::Fresh), (Some((1, 1)), 2));
    // The caller may be the thread that was woken for one of the two that are left.
    assert_eq!(ready.push_and_pop(tasks(1), Lane::Fresh), (Some((1, 2)), 1));
    assert_eq!(ready.push_and_pop(tasks(9), Lane::Fresh), (Some((1, 3)), 4));
}

#[test]
fn neither_lane_of_an_address_starves_the_other() {
    let ready = RunQueue::new();
    let tasks: Vec<_> = (0..100).map(|task| (1, task)).collect();
    let _ = push(&ready, &tasks, Lane::Busy);
    let tasks: Vec<_> = (100..200).map(|task| (1, task)).collect();
    let _ = push(&ready, &tasks, Lane::Fresh);
    let (mut waited, mut next) = ([0; 2], [100, 0]);
    for (_, task) in pop_all(&ready) {
        let [own, other] = if task >= 100 { [0, 1] } else { [1, 0] };
        assert_eq!(task, next[own], "each lane is in order");
        next[own] += 1;
        waited[own] = 0;
        waited[other] += u32::from(next[other] < [200, 100][other]);
        assert!(waited[0] <= 1 && waited[1] <= FRESH_TURNS, "{waited:?}");
    }
    assert_eq!(next, [200, 100]);
}

#[test]
fn a_client_with_250_tasks_delays_another_by_one() {
    for lane in LANES {
        for nr_taken in [0, 1, 2, 100] {
            let ready = RunQueue::new();
            let tasks: Vec<_> = (0..250).map(|task| (1, task)).collect();
            let _ = push(&ready, &tasks, lane);
            for _ in 0..nr_taken {
                assert_eq!(ready.pop().unwrap().0, 1, "a client that is alone has all turns");
            }
            for other in [2, 0, 10] {
                let _ = push(&ready, &[(other, 0)], lane);
                let next = [ready.pop().unwrap().0, ready.pop().unwrap().0];
                assert!(next.contains(&other), "{next:?} instead of {other}");
            }
        }
    }
}

#[test]
fn an_address_with_250_tasks_delays_another_of_its_network_by_one() {
    let ready = RunQueue::new();
    let tasks: Vec<_> = (0..250).map(|task| (10, task)).collect();
    let _ = push(&ready, &tasks, Lane::Busy);
    let _ = push(&ready, &[(11, 0)], Lane::Busy);
    let next = [ready.pop().unwrap().0, ready.pop().unwrap().0];
    assert_eq!(next, [10, 11]);
}

#[test]
fn each_of_many_clients_has_one_turn_in_a_round() {
    let ready = RunQueue::new();
    let numbers: Vec<_> = (1..10).collect();
    for &number in &numbers {
        let tasks: Vec<_> =
            (0..u32::try_from(100 - number).unwrap()).map(|task| (number, task)).collect();
        let _ = push(&ready, &tasks, Lane::Fresh);
    }
    // After the first turn of each, none is fresh.
    while !lock(&ready.tasks).clients.order.fresh.is_empty() {
        assert!(ready.pop().is_some());
    }
    for (index, round) in pop_all(&ready).chunks(numbers.len()).take(80).enumerate() {
        let mut round: Vec<_> = round.iter().map(|&(number, _)| number).collect();
        round.sort_unstable();
        assert_eq!(round, numbers, "round {index}");
    }
}

#[test]
fn clients_that_are_always_fresh_leave_every_second_turn_to_one_with_many_tasks() {
    let ready = RunQueue::new();
    let tasks: Vec<_> = (0..250).map(|task| (1, task)).collect();
    let _ = push(&ready, &tasks, Lane::Fresh);
    assert_eq!(ready.pop(), Some((1, 0)));
    let fresh = [2, 10, 20];
    fresh.iter().for_each(|&number| _ = push(&ready, &[(number, 0)], Lane::Fresh));
    let mut nr_own = 0;
    for _ in 0..100 {
        let (number, _) = ready.pop().unwrap();
        match number {
            1 => nr_own += 1,
            // It has another task at once.
            _ => _ = push(&ready, &[(number, 0)], Lane::Fresh),
        }
    }
    assert_eq!(nr_own, 50);
}

#[test]
fn clients_that_come_and_go_leave_no_memory_behind() {
    let ready = RunQueue::new();
    let of = |bits: u32| Client::of(core::net::Ipv4Addr::from_bits(bits).into(), true);
    let task = alloc::rc::Rc::new(());
    for bits in 1..10_000 {
        // Two at a time.
        let tasks = [(of(bits), task.clone()), (of(bits + 1), task.clone())];
        let _ = ready.push(tasks, LANES[usize::from(bits % 2 == 0)]);
        assert!(ready.pop().is_some() && ready.pop().is_some());
    }
    assert_eq!(alloc::rc::Rc::strong_count(&task), 1);
    let tasks = lock(&ready.tasks);
    let clients = &tasks.clients;
    assert_eq!((tasks.len, clients.queues.len()), (0, 0));
    let spare = clients.spare.as_ref().unwrap();
    assert!(spare.queues.is_empty());
    let lanes = spare.spare.as_ref().unwrap();
    assert!(lanes.is_empty() && clients.order.is_empty() && spare.order.is_empty());
    let room = |lane: &VecDeque<ClientKey>| lane.capacity();
    let rooms = [room(&clients.order.fresh), room(&clients.order.busy), lanes.fresh.capacity()];
    assert!(rooms.iter().all(|&room| room <= 16), "{rooms:?}");
}

/// Those of one kind that wait: in their lanes, in the order in which they came to them.
fn choose<K: Copy>(waiting: &[(K, Lane)], nr_fresh_taken: &mut u32, most: u32) -> Option<K> {
    let first = |lane| waiting.iter().find(|(_, of)| *of == lane).map(|&(key, _)| key);
    let (fresh, busy) = (first(Lane::Fresh), first(Lane::Busy));
    match (fresh, busy) {
        (Some(_), Some(_)) if *nr_fresh_taken < most => {
            *nr_fresh_taken += 1;
            fresh
        }
        _ => {
            *nr_fresh_taken = 0;
            busy.or(fresh)
        }
    }
}

#[derive(Default)]
struct Naive {
    clients: Vec<(u64, Lane)>,
    addresses: Vec<(u64, Lane)>,
    tasks: Vec<(Numbered, Lane)>,
    nr_fresh_clients: u32,
    /// By the first number of the client.
    nr_fresh_addresses: [u32; 21],
    nr_fresh_tasks: [u32; 21],
}

impl Naive {
    fn push(&mut self, task: Numbered, lane: Lane) {
        self.tasks.push((task, lane));
        let key = client_of(task.0);
        if !self.clients.iter().any(|&(of, _)| of == key) {
            self.clients.push((key, Lane::Fresh));
        }
        if !self.addresses.iter().any(|&(of, _)| of == task.0) {
            self.addresses.push((task.0, Lane::Fresh));
        }
    }

    fn pop(&mut self) -> Option<Numbered> {
        let at = |number: u64| usize::try_from(number).unwrap();
        let key = choose(&self.clients, &mut self.nr_fresh_clients, FRESH_CLIENTS)?;
        let of_client = self.addresses.iter().filter(|&&(number, _)| client_of(number) == key);
        let of_client: Vec<_> = of_client.copied().collect();
        let nr_fresh = &mut self.nr_fresh_addresses[at(key)];
        let number = choose(&of_client, nr_fresh, FRESH_CLIENTS)?;
        let of_address = self.tasks.iter().filter(|((of, _), _)| *of == number);
        let of_address: Vec<_> = of_address.copied().collect();
        let task = choose(&of_address, &mut self.nr_fresh_tasks[at(number)], FRESH_TURNS)?;

        self.tasks.retain(|&(other, _)| other != task);
        self.addresses.retain(|&(of, _)| of != number);
        self.clients.retain(|&(of, _)| of != key);
        if self.tasks.iter().any(|((of, _), _)| *of == number) {
            self.addresses.push((number, Lane::Busy));
        }
        if self.tasks.iter().any(|((of, _), _)| client_of(*of) == key) {
            self.clients.push((key, Lane::Busy));
        }
        Some(task)
    }
}

#[test]
fn every_short_sequence_gives_the_order_of_the_naive_queue() {
    const LEN: u32 = 6;
    // A task of one of three addresses, two of them of one network, in either lane; or a pop.
    let numbers = [1, 10, 11];
    for sequence in 0..7_u32.pow(LEN) {
        let (ready, mut model) = (RunQueue::new(), Naive::default());
        let mut left = sequence;
        for step in 0..LEN {
            let choice = usize::try_from(left % 7).unwrap();
            left /= 7;
            if choice == 6 {
                assert_eq!(ready.pop(), model.pop(), "sequence {sequence}, step {step}");
            } else {
                let (task, lane) = ((numbers[choice / 2], step), LANES[choice % 2]);
                let _ = push(&ready, &[task], lane);
                model.push(task, lane);
            }
        }
        let rest: Vec<_> = core::iter::from_fn(|| model.pop()).collect();
        assert_eq!(pop_all(&ready), rest, "sequence {sequence}");
    }
}

#[test]
fn random_tasks_come_in_the_order_of_the_naive_queue() {
    for seed in 1..200_u64 {
        let mut state = seed;
        let mut next = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let (ready, mut model) = (RunQueue::new(), Naive::default());
        // Sequences that fill the queue, and such that empty it.
        let nr_ways = 2 + seed % 3;
        for step in 0..400 {
            let lane = LANES[usize::try_from(next(2)).unwrap()];
            let number = NUMBERS[usize::try_from(next(7)).unwrap()];
            let nr = u32::try_from(next(12)).unwrap();
            let tasks: Vec<_> = (0..nr).map(|index| (number, step * 100 + index)).collect();
            let place = format!("seed {seed}, step {step}");
            match next(nr_ways * 4) {
                0 => {
                    let _ = push(&ready, &tasks, lane);
                    tasks.iter().for_each(|&task| model.push(task, lane));
                }
                1 => {
                    let tasks = tasks.into_iter().inspect(|&task| model.push(task, lane));
                    let tasks: Vec<_> = tasks.map(|task| (client(task.0), task)).collect();
                    assert_eq!(ready.push_and_pop(tasks, lane).0, model.pop(), "{place}");
                }
                _ => assert_eq!(ready.pop(), model.pop(), "{place}"),
            }
            assert_eq!(lock(&ready.tasks).len, model.tasks.len(), "{place}");
        }
        ready.clear();
        assert_eq!(ready.pop(), None);
    }
}
