//! What the types promise to those who store and send them.

use core::error::Error;
use core::fmt::Debug;

use pagemill::handles::{FolioPages, RawPage, SharedPage};
use pagemill::setup::ConfigError;
use pagemill::source::{OnceAllocator, Static, StaticAllocator};
use pagemill::stats::{VmStat, ZoneInfo};
use pagemill::units::OrderTooLarge;
use pagemill::{AllocPages, Config, Folio, Gfp, Page, PageAllocator, PageList};
use pagemill_testkit::{Frames, Machine, NORMAL, World, region};

static FRAMES: OnceAllocator<Machine> = OnceAllocator::new();

/// Names [`FRAMES`].
enum Global {}

impl StaticAllocator for Global {
    type Platform = Machine;
    const ALLOCATOR: &'static OnceAllocator<Machine> = &FRAMES;
}

pagemill::static_allocator! {
    static LOCAL: Machine;
    type Local;
}

type Of<'w> = Frames<'w>;

#[test]
fn a_page_of_a_static_is_one_word_and_others_are_two() {
    assert_eq!(size_of::<RawPage>(), 8);
    assert_eq!(size_of::<Option<RawPage>>(), 8);
    assert_eq!(size_of::<Option<Page<Static<Global>>>>(), 8);
    assert_eq!(size_of::<Option<Folio<Static<Global>>>>(), 8);
    assert_eq!(size_of::<Option<SharedPage<Static<Global>>>>(), 8);
    assert_eq!(size_of::<Option<Page<Local>>>(), 8);
    assert_eq!(size_of::<Page<Of<'_>>>(), 16);
    assert_eq!(size_of::<Option<Page<Of<'_>>>>(), 16);
}

#[test]
fn everything_can_be_sent_and_shared() {
    fn check<T: Send + Sync + Debug>() {}
    check::<PageAllocator<Machine>>();
    check::<OnceAllocator<Machine>>();
    check::<Page<Of<'_>>>();
    check::<Folio<Of<'_>>>();
    check::<FolioPages<Of<'_>>>();
    check::<SharedPage<Of<'_>>>();
    check::<PageList<Page<Of<'_>>>>();
    check::<PageList<SharedPage<Of<'_>>>>();
    check::<Page<Static<Global>>>();
    check::<(Page<Local>, Local)>();
    check::<RawPage>();
    check::<(VmStat, ZoneInfo)>();
}

#[test]
fn errors_are_errors() {
    fn check<T: Error + Copy + Send + Sync + 'static>() {}
    check::<ConfigError>();
    check::<OrderTooLarge>();
}

#[test]
fn a_list_of_no_source_is_made_in_a_constant() {
    const LIST: PageList<Page<Static<Global>>> = PageList::new(Static::new());
    assert_eq!((LIST.is_empty(), LIST.len()), (true, 0));
}

#[test]
fn a_declared_static_is_filled_once_and_serves_pages() {
    let memory = [region(NORMAL, 512, 0)];
    let config = Config::new(&memory, 1);
    assert!(LOCAL.get().is_none());
    assert!(LOCAL.set(World::leaked(&config)).is_ok());
    // Miri would report the metadata of one that is dropped.
    if !cfg!(miri) {
        assert!(LOCAL.set(World::leaked(&config)).is_err(), "the static has one");
    }
    let page = Local::new().alloc_page(Gfp::KERNEL).expect("512 frames");
    let allocator = LOCAL.get().expect("just stored");
    assert_eq!(allocator.nr_free_pages(), 511);
    drop(page);
    assert_eq!(allocator.validate(), Ok(()));
}

#[test]
#[should_panic(expected = "the static has no allocator yet")]
fn a_static_that_was_given_no_allocator_says_so() {
    let _page = Static::<Global>::new().alloc_page(Gfp::KERNEL);
}
