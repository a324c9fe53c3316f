//! The worst of every call: how deep its stack is, and how long it keeps interrupts off.
//!
//! Each call is made on free memory, on memory of which every second page is in use, and with no memory
//! left.

use pagemill::fragment::Carver;
use pagemill::handles::free_pages_bulk;
use pagemill::policy::{NodeMask, Policy};
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::request::Effort;
use pagemill::reserves::{LocalPages, Mempool};
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Folio, Gfp, Order, Page, PageList, PageVec};

use crate::frames::{FRAMES, Frame, Frames, allocator};
use crate::{section, stack};

/// What calls write to, so that it is not on the stack that is measured.
struct Room {
    slots: [Option<Frame>; NR_SLOTS],
    folios: [Option<Folio<Frames>>; 16],
    list: PageList<Frame>,
    vec: PageVec<Frames, 64>,
    local: LocalPages<Frames, 64>,
    /// Pages that are in use all the time.
    kept: PageList<Frame>,
}

const NR_SLOTS: usize = 512;

type Call = (&'static str, fn(&mut Room));

const CALLS: [Call; 17] = [
    ("alloc_page", |_| drop(FRAMES.alloc_page(Gfp::KERNEL))),
    ("alloc_page, ZERO", |_| drop(FRAMES.alloc_page(Gfp::KERNEL | Gfp::ZERO))),
    ("alloc_pages", |_| {
        Order::all().for_each(|order| drop(FRAMES.alloc_pages(Gfp::KERNEL, order)));
    }),
    ("split", |_| drop(FRAMES.alloc_pages(Gfp::KERNEL, order(10)).map(Folio::split))),
    ("alloc_pages_bulk", |room| {
        FRAMES.alloc_pages_bulk(Gfp::KERNEL, &mut room.slots);
        FRAMES.release_pages(&mut room.slots);
    }),
    ("alloc_pages_bulk_mempolicy", |room| {
        let policy = Policy::Bind(NodeMask::of(&[NodeId::new(0)]));
        FRAMES.alloc_pages_bulk_mempolicy(policy, Gfp::KERNEL, &mut room.slots);
        FRAMES.release_pages(&mut room.slots);
    }),
    ("alloc_pages_bulk_list", |room| {
        FRAMES.alloc_pages_bulk_list(Gfp::KERNEL, 4096, &mut room.list);
        free_pages_bulk(&mut room.list);
    }),
    ("alloc_pages_bulk_vec", |room| {
        FRAMES.alloc_pages_bulk_vec(Gfp::KERNEL, 64, &mut room.vec);
        room.vec.clear();
    }),
    ("alloc_exactly", |_| drop(FRAMES.alloc_exactly(Gfp::KERNEL, 4096))),
    ("bulk_fill", |room| {
        let request = BulkRequest { order: order(3), ..whole() };
        let _got = FRAMES.bulk_fill(&request, &mut room.folios);
        room.folios.iter_mut().for_each(|folio| *folio = None);
        let _got = FRAMES.bulk_fill(&whole(), &mut room.slots);
        FRAMES.release_pages(&mut room.slots);
    }),
    ("bulk_extents", |_| {
        let _got = FRAMES.bulk_extents(&whole(), 3333, drop);
    }),
    ("alloc_contig", |_| {
        // Where every second page is in use, there are no such ranges, and each bitmap has 256 runs.
        for nr in [2, 3, 5] {
            drop(FRAMES.alloc_contig(Gfp::KERNEL, nr, 1, None));
        }
        drop(FRAMES.alloc_contig(Gfp::KERNEL, 33, 1, None));
        drop(FRAMES.alloc_contig(Gfp::KERNEL, 4097, 1024, None));
    }),
    ("alloc_contig_range", |_| {
        let middle = allocator().zone_info().last().expect("a zone");
        let start = pagemill::units::Pfn::new(middle.start_pfn + middle.spanned / 2);
        drop(FRAMES.alloc_contig_range(Gfp::KERNEL, start, 700));
    }),
    ("Mempool", |room| {
        let Ok(pool) = Mempool::new(FRAMES, 32, Gfp::KERNEL) else { return };
        let _got = pool.alloc_bulk(Gfp::KERNEL, &mut room.slots[..32], None);
        pool.free_bulk(&mut room.slots[..32]);
    }),
    ("LocalPages", |room| {
        let page = room.local.alloc(Gfp::KERNEL);
        page.into_iter().for_each(|page| room.local.free(page));
        room.local.drain();
    }),
    ("SharedPage, Fragment", |_| {
        drop(FRAMES.alloc_page(Gfp::KERNEL).map(Page::share));
        let carver = FRAMES.alloc_page(Gfp::KERNEL).map(Carver::new);
        drop(carver.and_then(|mut carver| carver.carve(100, 8)));
    }),
    ("zone_info, validate, drain", |_| {
        assert!(allocator().zone_info().count() > 0 && allocator().vmstat().nr_free_pages > 0);
        assert!(allocator().pcp_info().count() > 0);
        allocator().drain_all_pages();
        allocator().balance();
        assert!(allocator().validate().is_ok());
    }),
];

fn order(order: u8) -> Order {
    Order::new(order).expect("an order that there is")
}

/// All or nothing: the pages are gathered before they are handed over.
fn whole() -> BulkRequest<'static> {
    BulkRequest { effort: Effort::AllOrNothing, ..BulkRequest::new(Gfp::KERNEL) }
}

/// A cache of which nothing can be freed.
struct Empty;

impl Shrinker for Empty {
    fn count(&self, _control: ShrinkControl) -> usize {
        1
    }

    fn scan(&self, _nr: usize, _control: ShrinkControl) -> usize {
        0
    }
}

/// Prints the worst stack depth and the longest section of all calls, and of which call each is; the clock
/// must count instructions.
pub(super) fn table() {
    static EMPTY: Empty = Empty;
    let _guard = allocator().register_shrinker(&EMPTY).expect("the first shrinker");
    let mut room = Room {
        slots: [const { None }; NR_SLOTS],
        folios: [const { None }; 16],
        list: PageList::new(FRAMES),
        vec: PageVec::new(FRAMES),
        local: LocalPages::new(FRAMES),
        kept: PageList::new(FRAMES),
    };
    println!(
        "limits: the worst of each call; with free memory, with every second page in use, with none"
    );
    println!("{:<26} | {:>11} | instructions with interrupts off", "call", "stack bytes");
    let mut worst = [(0, ""); 2];
    for (name, call) in CALLS {
        let mut of_call = [0; 2];
        for fill in [keep_none, keep_every_second, keep_all] {
            // Each time with empty lists, so that they must be filled.
            fill(&mut room);
            let depth = stack::depth(&mut || call(&mut room)) as u64;
            allocator().drain_all_pages();
            let longest = section::longest(|| call(&mut room));
            of_call = [of_call[0].max(depth), of_call[1].max(longest)];
            keep_none(&mut room);
        }
        println!("{name:<26} | {:>11} | {:>12}", of_call[0], of_call[1]);
        for (worst, value) in worst.iter_mut().zip(of_call) {
            *worst = (*worst).max((value, name));
        }
    }
    let [(depth, deepest), (longest, at)] = worst;
    println!("worst stack depth: {depth} bytes ({deepest})");
    println!("longest section with interrupts off: {longest} instructions ({at})");
}

fn keep_none(room: &mut Room) {
    free_pages_bulk(&mut room.kept);
    allocator().drain_all_pages();
}

fn keep_all(room: &mut Room) {
    while FRAMES.alloc_pages_bulk_list(Gfp::KERNEL, 4096, &mut room.kept) > 0 {}
    while let Some(page) = FRAMES.alloc_page(Gfp::KERNEL) {
        room.kept.push(page);
    }
    allocator().drain_all_pages();
}

fn keep_every_second(room: &mut Room) {
    keep_all(room);
    let mut others = PageList::new(FRAMES);
    while let Some(page) = room.kept.pop() {
        let list = if page.pfn().value() % 2 == 0 { &mut room.list } else { &mut others };
        list.push(page);
    }
    free_pages_bulk(&mut room.list);
    room.kept.append(&mut others);
    allocator().drain_all_pages();
}
