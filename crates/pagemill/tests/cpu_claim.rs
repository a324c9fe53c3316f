//! A user's data that belongs to CPUs: one claim at a time, beside the CPU's own lists.

#![cfg(not(loom))]

use pagemill::machine::CpuClaim;
use pagemill::units::CpuId;
use pagemill::{AllocPages, Config, Gfp, PageAllocator};
use pagemill_testkit::{Machine, NORMAL, World, check_balance, interrupted_by, region, set_cpu};

fn index(claim: Option<CpuClaim<'_, Machine>>) -> Option<usize> {
    claim.map(|claim| claim.index())
}

#[test]
fn a_cpu_is_claimed_once_and_others_are_not_affected() {
    let world = World::with_memory(1024, 1);
    let claim = world.try_claim_cpu().expect("nobody has it");
    assert_eq!((claim.cpu(), claim.index()), (CpuId::new(0), 0));
    assert!(world.try_claim_cpu().is_none() && world.try_claim_cpu_at_once().is_none());
    assert!(world.try_visit_cpu(CpuId::new(0)).is_none());
    assert_eq!(index(world.try_visit_cpu(CpuId::new(1))), Some(1));
    set_cpu(1);
    assert_eq!(index(world.try_claim_cpu_at_once()), Some(1));
    drop(claim);
    assert_eq!(index(world.try_visit_cpu(CpuId::new(0))), Some(0));
    check_balance();
    set_cpu(0);
}

#[test]
fn pages_are_allocated_and_freed_while_the_cpu_is_claimed() {
    let world = World::with_memory(1024, 1);
    let claim = world.try_claim_cpu().expect("nobody has it");
    let page = world.alloc_page(Gfp::KERNEL);
    assert!(page.is_some(), "from the zone");
    drop(page);
    assert_eq!(world.drain_all_pages(), 0, "the lists are in use");
    drop(claim);
}

#[test]
fn an_interrupt_in_the_lists_finds_the_cpu_claimed() {
    let world = World::with_memory(1024, 1);
    let mut found = Vec::new();
    interrupted_by(&mut || found.push(index(world.try_claim_cpu())), || {
        // The lists are empty, so this refills them from a zone, under its lock.
        drop(world.alloc_page(Gfp::KERNEL));
    });
    assert!(!found.is_empty() && found.iter().all(Option::is_none), "{found:?}");
}

#[test]
fn cpus_that_share_lists_share_the_claim() {
    let memory = [region(NORMAL, 1024, 0)];
    let world = World::on(Machine::new(4), &Config::new(&memory, 2));
    set_cpu(3);
    assert!(world.try_claim_cpu_at_once().is_none(), "CPU 3 has no lists of its own");
    check_balance();
    let claim = world.try_claim_cpu().expect("nobody has it");
    assert_eq!(claim.index(), 1, "3 modulo 2");
    set_cpu(1);
    assert!(world.try_claim_cpu().is_none());
    drop(claim);
    set_cpu(0);
}

#[test]
#[should_panic(expected = "unknown CPU 2: this allocator has CPUs 0 to 1")]
fn a_cpu_that_does_not_exist_is_refused() {
    let world = World::with_memory(1024, 1);
    let _claim = world.try_visit_cpu(CpuId::new(2));
}

#[test]
fn the_claims_of_an_abandoned_allocator_are_never_free() {
    let memory = [region(NORMAL, 1024, 0)];
    let world: PageAllocator<Machine> = World::leaked(&Config::new(&memory, 2));
    // SAFETY: 1. alive. 2. no other thread uses it.
    unsafe { world.list_closer().close() };
    assert!(world.try_claim_cpu().is_none() && world.try_claim_cpu_at_once().is_none());
    assert!(world.try_visit_cpu(CpuId::new(1)).is_none());
}
