//! The wait queue under loom: every order of waiting, freeing and giving up.
//!
//! Unlike on real platforms, waiting has no time limit here: a lost wakeup leaves a thread waiting
//! for ever, which loom reports as a deadlock. For the same reason, a thread that frees a page
//! always notifies the queue, without checking whether a thread waits: that check is a hint, and on
//! real platforms the end of a wait compensates for it.

use alloc::sync::Arc;

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::WaitQueue;
use crate::base::policy::NodeMask;
use crate::base::sync::{AtomicBool, AtomicU32, Ordering};
use crate::base::units::{CpuId, NodeId, Pfn};
use crate::platform::platform::Platform;

/// A queue, the memory that its users wait for, and how they wait.
struct Scene {
    queue: WaitQueue,
    machine: Machine,
    free: AtomicU32,
    /// How many make an attempt at the moment.
    inside: AtomicU32,
}

struct Machine {
    woken: Mutex<u32>,
    changed: Condvar,
}

impl Platform for Machine {
    fn nr_cpus(&self) -> u32 {
        1
    }

    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }

    fn relax(&self, _spins: u32) {
        thread::yield_now();
    }

    fn wait(&self, still: &dyn Fn() -> bool) {
        let mut woken = self.woken.lock().expect("no thread panics");
        let before = *woken;
        if still() {
            while *woken == before {
                woken = self.changed.wait(woken).expect("no thread panics");
            }
        }
    }

    fn wake(&self) {
        *self.woken.lock().expect("no thread panics") += 1;
        self.changed.notify_all();
    }

    unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {}
}

impl Scene {
    fn new(free: u32) -> Arc<Self> {
        Arc::new(Self {
            queue: WaitQueue::new(),
            machine: Machine { woken: Mutex::new(0), changed: Condvar::new() },
            free: AtomicU32::new(free),
            inside: AtomicU32::new(0),
        })
    }

    /// Waits for `nr` pages, which it gathers one by one and keeps from one attempt to the next.
    fn take(&self, nr: u32) {
        let mut held = 0;
        let taken = self.queue.in_turn(&self.machine, NodeMask::ALL, None, || {
            assert_eq!(self.inside.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
            while held < nr && self.take_one() {
                held += 1;
            }
            self.inside.fetch_sub(1, Ordering::Relaxed);
            (held == nr).then_some(())
        });
        assert!(taken.is_some(), "no request was stopped");
    }

    fn take_one(&self) -> bool {
        let less = |free: u32| free.checked_sub(1);
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give(&self, nr: u32) {
        self.free.fetch_add(nr, Ordering::Relaxed);
        self.queue.notify(&self.machine);
    }
}

/// Runs `body` in every order that two forced switches of thread allow.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.max_branches = 20_000;
    builder.check(body);
}

#[test]
fn what_is_freed_just_before_a_wait_ends_it() {
    model(|| {
        let scene = Scene::new(0);
        let other = Arc::clone(&scene);
        let waiting = thread::spawn(move || other.take(2));
        scene.give(1);
        scene.give(1);
        waiting.join().expect("it does not panic");
        assert!(!scene.queue.has_waiters());
    });
}

#[test]
fn two_that_each_need_all_there_is_finish_one_after_the_other() {
    model(|| {
        let scene = Scene::new(2);
        let other = Arc::clone(&scene);
        let waiting = thread::spawn(move || {
            other.take(2);
            other.give(2);
        });
        scene.take(2);
        scene.give(2);
        waiting.join().expect("it does not panic");
        assert!(!scene.queue.has_waiters());
    });
}

#[test]
fn who_came_later_is_served_later() {
    model(|| {
        let scene = Scene::new(1);
        let first = scene.queue.enter(&scene.machine, NodeMask::ALL).expect("there is room");
        let left = Arc::new(AtomicBool::new(false));
        let (other, is_left) = (Arc::clone(&scene), Arc::clone(&left));
        let second = thread::spawn(move || {
            let attempt = || is_left.load(Ordering::Relaxed).then_some(());
            let checked = || Some(attempt().expect("the first is served before"));
            other.queue.in_turn(&other.machine, NodeMask::ALL, None, checked)
        });
        assert!(first.is_served(), "it came first");
        left.store(true, Ordering::Relaxed);
        drop(first);
        assert!(second.join().expect("it is served in its turn").is_some());
    });
}

#[test]
fn who_gives_up_holds_up_nobody_behind() {
    model(|| {
        let scene = Scene::new(0);
        let stop = Arc::new(AtomicBool::new(false));
        let (other, told) = (Arc::clone(&scene), Arc::clone(&stop));
        let stopped = thread::spawn(move || {
            let stop = || told.load(Ordering::Relaxed);
            other.queue.in_turn(&other.machine, NodeMask::ALL, Some(&stop), || None::<()>)
        });
        let other = Arc::clone(&scene);
        let served = thread::spawn(move || {
            let attempt = || other.take_one().then_some(());
            other.queue.in_turn(&other.machine, NodeMask::ALL, None, attempt)
        });
        stop.store(true, Ordering::Relaxed);
        scene.give(1);
        assert!(stopped.join().expect("it does not panic").is_none());
        assert!(served.join().expect("it does not panic").is_some());
        assert!(!scene.queue.has_waiters());
    });
}

#[test]
fn who_left_before_its_turn_is_passed_over() {
    model(|| {
        let scene = Scene::new(0);
        let enter = || scene.queue.enter(&scene.machine, NodeMask::ALL).expect("there is room");
        let (first, second) = (enter(), enter());
        let other = Arc::clone(&scene);
        let third = thread::spawn(move || other.take(1));
        drop(second);
        drop(first);
        scene.give(1);
        third.join().expect("it does not panic");
        assert!(!scene.queue.has_waiters());
    });
}

#[test]
fn who_claims_other_nodes_or_none_goes_on_while_others_wait() {
    model(|| {
        let scene = Scene::new(2);
        let claim = |node| NodeMask::of(&[NodeId::new(node)]);
        let first = scene.queue.enter(&scene.machine, claim(0)).expect("there is room");
        let [other, another] = [claim(1), NodeMask::NONE].map(|claims| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let attempt = || scene.take_one().then_some(());
                scene.queue.in_turn(&scene.machine, claims, None, attempt)
            })
        });
        // Both are served although the first never leaves.
        assert!(other.join().expect("it does not panic").is_some());
        assert!(another.join().expect("it does not panic").is_some());
        assert!(first.is_served() && !scene.queue.has_waiters());
    });
}
