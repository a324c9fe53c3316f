//! The wait queue on a platform with one CPU.

use super::*;
use crate::base::units::{CpuId, NodeId, Pfn};

struct Alone;

impl Platform for Alone {
    fn nr_cpus(&self) -> u32 {
        1
    }
    fn pin(&self) -> CpuId {
        CpuId::new(0)
    }
    unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {}
}

fn nodes(nodes: &[u8]) -> NodeMask {
    nodes.iter().fold(NodeMask::NONE, |mask, &node| mask.with(NodeId::new(node)))
}

#[test]
fn turns_come_in_order_and_skip_who_left() {
    let queue = WaitQueue::new();
    let [a, b, c] = [(); 3].map(|()| queue.enter(&Alone, NodeMask::ALL).unwrap());
    assert!(a.is_served() && !b.is_served());
    drop(b);
    assert!(!c.is_served());
    drop(a);
    assert!(c.is_served());
}

#[test]
fn who_claims_other_nodes_is_not_waited_for() {
    let queue = WaitQueue::new();
    let enter = |claims| queue.enter(&Alone, claims).unwrap();
    let (a, b, c) = (enter(nodes(&[0])), enter(nodes(&[1, 2])), enter(nodes(&[2, 3])));
    let d = enter(nodes(&[3]));
    assert!(a.is_served() && b.is_served());
    // The third holds nothing yet, but what frees up on its nodes is for it first.
    assert!(!c.is_served() && !d.is_served());
    drop(b);
    assert!(c.is_served() && !d.is_served());
    drop(c);
    assert!(d.is_served());
}

#[test]
fn the_queue_has_64_places_and_tickets_wrap() {
    let queue = WaitQueue::new();
    queue.state.try_lock().unwrap().oldest = u32::MAX;
    queue.state.try_lock().unwrap().next = u32::MAX;
    let enter = || queue.enter(&Alone, NodeMask::ALL);
    let tickets: alloc::vec::Vec<_> = (0..64).map(|_| enter().unwrap()).collect();
    assert!(enter().is_none());
    for ticket in tickets {
        assert!(ticket.is_served());
    }
    assert!(enter().is_some());
}

#[test]
fn an_attempt_that_panics_gives_its_place_up() {
    let queue = WaitQueue::new();
    let attempt = core::panic::AssertUnwindSafe(|| {
        queue.in_turn::<()>(&Alone, NodeMask::ALL, None, || panic!("for the test"))
    });
    assert!(std::panic::catch_unwind(attempt).is_err());
    assert!(!queue.has_waiters() && queue.enter(&Alone, NodeMask::ALL).unwrap().is_served());
}

#[test]
fn an_attempt_is_made_before_the_first_question_whether_to_stop() {
    let queue = WaitQueue::new();
    for claims in [NodeMask::NONE, NodeMask::ALL] {
        assert_eq!(queue.in_turn(&Alone, claims, Some(&|| true), || Some(7)), Some(7));
        assert_eq!(queue.in_turn(&Alone, claims, Some(&|| true), || None::<()>), None);
    }
}

#[test]
fn who_claims_nothing_has_no_turn_to_wait_for() {
    let queue = WaitQueue::new();
    let _first = queue.enter(&Alone, NodeMask::ALL).unwrap();
    let attempt = |claims| queue.in_turn(&Alone, claims, Some(&|| true), || Some(()));
    assert_eq!((attempt(NodeMask::ALL), attempt(NodeMask::NONE)), (None, Some(())));
}
