use alloc::sync::Arc;
use std::fs::File;

use pagemill::{AllocPages, Gfp};
use pagemill_host::{HostAllocator, SharedAllocator};

use super::*;
use crate::pages::held::{Held, Lease};
use crate::pages::parcel::Parcel;
use crate::pages::received::Received;
use crate::random::Random;
use crate::sync::AtomicUsize;

type Page = pagemill::Page<SharedAllocator>;

const NR_SLOTS: u16 = 8;

fn page(frames: &SharedAllocator) -> Page {
    frames.clone().alloc_page(Gfp::KERNEL).unwrap()
}

fn own(_descriptor: u32) -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Returns a send request of one page.
fn send(frames: &SharedAllocator) -> SendRequest<Page> {
    let mut parcel = Parcel::new();
    let lease = Lease::new(&Held::new(&Arc::new(AtomicUsize::new(0))), 1);
    parcel.push(Received::new(vec![FilledPage::new(page(frames), 100)], 100, lease));
    SendRequest::new(parcel)
}

/// Returns a completion that is often nearly right: arbitrary words would all be refused alike.
fn raw(random: &mut Random) -> RawCompletion {
    let kind = random.below(6) as u64;
    let number = random.below(4) as u64;
    let result = match random.below(6) {
        0 => 0,
        1 => -i32::try_from(random.below(200)).unwrap(),
        2 => [i32::MIN, i32::MAX, -1, -4096][random.below(4)],
        _ => i32::try_from(random.below(5 * 4096)).unwrap(),
    };
    let buffer = u32::try_from(random.below(usize::from(NR_SLOTS) + 3)).unwrap();
    let flags = buffer << 16 | u32::try_from(random.below(16)).unwrap();
    let user_data = if random.below(20) == 0 { u64::MAX } else { kind << 56 | number };
    RawCompletion { user_data, result, flags }
}

/// Whatever the kernel writes, every page stays with one owner, and lengths stay within pages.
#[test]
#[expect(clippy::print_stdout, reason = "a random test tells its seed")]
fn random_completions_lose_no_page_and_are_refused_or_consistent() {
    let frames = SharedAllocator::new(HostAllocator::new(4 << 20).unwrap());
    let nr_free = frames.nr_free_pages();
    for seed in 1..=300 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let nr_per_completion = if seed % 2 == 0 { NR_SLOTS } else { 1 };
        let mut ledger = Ledger::new(NR_SLOTS, nr_per_completion);
        let mut returned = Vec::new();
        for _ in 0..200 {
            while random.below(4) > 0 && ledger.books.put(page(&frames)).is_ok() {}
            if random.below(3) == 0
                && ledger.put_send(random.below(4) as u64, send(&frames)).is_ok()
            {
                ledger.note_request();
            }
            if random.below(2) == 0 {
                ledger.note_request();
            }
            let before = (ledger.nr_pages(), ledger.nr_requests());
            let shortened = u32::try_from(random.below(6000)).unwrap();
            let short = u16::try_from(random.below(NR_SLOTS.into())).unwrap();
            let capacity = |slot| if slot == short { shortened } else { 4096 };
            match ledger.resolve(raw(&mut random), capacity, own) {
                Ok(Some(Completion::Received { pages, len, .. })) => {
                    assert_eq!(pages.iter().map(FilledPage::len).sum::<usize>(), len);
                    assert!(pages.iter().all(|page| (1..=4096).contains(&page.len())));
                    assert!(pages.len() <= usize::from(nr_per_completion));
                    assert_eq!(ledger.nr_pages() + pages.len(), before.0);
                    returned.extend(pages);
                }
                Ok(Some(Completion::Sent { parcel, .. })) => {
                    assert_eq!(ledger.nr_pages() + parcel.nr_pages(), before.0);
                }
                Ok(_) => assert!(ledger.nr_pages() + 1 >= before.0),
                Err(_) => assert_eq!(ledger.nr_pages(), before.0),
            }
            assert!(before.1 - ledger.nr_requests() <= 1);
            returned.truncate(10);
            let held = ledger.nr_pages() + returned.len();
            assert_eq!(frames.nr_free_pages() + held as u64, nr_free);
        }
    }
    assert_eq!(frames.nr_free_pages(), nr_free);
}
