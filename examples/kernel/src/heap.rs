//! The heap: slabs of equal objects in blocks of frames, and whole blocks for what is larger.
//!
//! `slab-header`: a block that serves objects begins with a [`Slab`], which the lock of its class
//! guards; blocks are aligned to their size, so an object's address leads to it. The objects that
//! are not in use are linked from `free` on, each holding the address of the next.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use pagemill::handles::RawPage;
use pagemill::units::{PAGE_SIZE, PhysAddr};
use pagemill::{AllocPages, Folio, Gfp, Order};

use crate::direct_map;
use crate::frames::{FRAMES, Frames};
use crate::lock::SpinLock;

/// What `alloc`'s collections allocate from.
#[global_allocator]
static HEAP: Heap = Heap { classes: [const { SpinLock::new(Class::new()) }; NR_CLASSES] };

/// Classes of objects: 16 bytes, and twice that of the class before, up to 2 KiB.
const NR_CLASSES: usize = 8;
const SMALLEST_BYTES: usize = 16;
const LARGEST_BYTES: usize = SMALLEST_BYTES << (NR_CLASSES - 1);
/// Objects, the header's place included, that a slab has room for at least.
const OBJECTS_PER_SLAB: usize = 16;

/// The heap.
struct Heap {
    classes: [SpinLock<Class>; NR_CLASSES],
}

/// Objects of one size.
struct Class {
    /// The slabs that have objects to give, linked both ways; null if there is none.
    partial: *mut Slab,
}

/// The head of a block that serves objects.
#[repr(C)]
struct Slab {
    block: RawPage,
    next: *mut Slab,
    previous: *mut Slab,
    free: *mut Object,
    nr_used: usize,
}

/// An object that is not in use.
struct Object {
    next: *mut Object,
}

// SAFETY: 1. the slabs that a class leads to are reached through its lock alone (`slab-header`),
// from whichever CPU holds it.
unsafe impl Send for Class {}

// SAFETY: 1. objects are in use once: they leave their list when they are handed out. 2. of the
// size and alignment asked for: both are at most the class's, which is a power of two, and blocks
// are aligned to their size. 3. nothing unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size_bytes = layout.size().max(layout.align()).max(SMALLEST_BYTES);
        if size_bytes > LARGEST_BYTES {
            return take_block(size_bytes);
        }
        self.classes[class_of(size_bytes)].lock().take(size_bytes.next_power_of_two())
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let size_bytes = layout.size().max(layout.align()).max(SMALLEST_BYTES);
        if size_bytes > LARGEST_BYTES {
            // SAFETY: 1. from `take_block` with this size, and given up: the caller's obligation.
            unsafe { put_block(object, size_bytes) };
            return;
        }
        let mut class = self.classes[class_of(size_bytes)].lock();
        // SAFETY: 1. from `take` with this size, and given up: the caller's obligation.
        unsafe { class.put(object.cast(), size_bytes.next_power_of_two()) };
    }
}

impl Class {
    const fn new() -> Self {
        Self { partial: ptr::null_mut() }
    }

    /// Takes an object of `size_bytes`, the class's; null if there is no memory.
    fn take(&mut self, size_bytes: usize) -> *mut u8 {
        if self.partial.is_null() && !self.grow(size_bytes) {
            return ptr::null_mut();
        }
        // SAFETY: 1. a slab of this class (`slab-header`), whose lock is held.
        let slab = unsafe { &mut *self.partial };
        let object = slab.free;
        // SAFETY: 1. not in use, and linked (`slab-header`): a partial slab has one.
        slab.free = unsafe { (*object).next };
        slab.nr_used += 1;
        if slab.free.is_null() {
            self.unlink(slab);
        }
        object.cast()
    }

    /// Takes an object back; a slab without objects in use gives up its block.
    ///
    /// # Safety
    /// `object` was taken from this class, whose objects have `size_bytes`, and is not used again.
    unsafe fn put(&mut self, object: *mut Object, size_bytes: usize) {
        let mask = PAGE_SIZE << slab_order(size_bytes).value();
        let head = object.map_addr(|address| address & !(mask - 1)).cast::<Slab>();
        // SAFETY: 1. a slab of this class (`slab-header`), whose lock is held.
        let slab = unsafe { &mut *head };
        let was_full = slab.free.is_null();
        // SAFETY: 1. ours again: the caller's obligation; large and aligned enough for a link.
        unsafe { object.write(Object { next: slab.free }) };
        slab.free = object;
        slab.nr_used -= 1;
        if slab.nr_used > 0 {
            if was_full {
                self.link(slab);
            }
            return;
        }
        if !was_full {
            self.unlink(slab);
        }
        // SAFETY: 1. made by `into_raw` in `grow`, and used once: the slab ends here.
        drop(unsafe { Folio::from_raw(FRAMES, slab.block) });
    }

    /// Makes a slab of one more block.
    fn grow(&mut self, size_bytes: usize) -> bool {
        let order = slab_order(size_bytes);
        let Some(block) = FRAMES.alloc_pages(Gfp::KERNEL, order) else { return false };
        let start = start_of(&block);
        let mut free: *mut Object = ptr::null_mut();
        let header_bytes = size_of::<Slab>().next_multiple_of(size_bytes);
        for offset in (header_bytes..PAGE_SIZE << order.value()).step_by(size_bytes).rev() {
            let object = start.wrapping_add(offset).cast::<Object>();
            // SAFETY: 1. inside the block, which is ours; aligned: offsets are multiples of 16.
            unsafe { object.write(Object { next: free }) };
            free = object;
        }
        let (next, previous) = (ptr::null_mut(), ptr::null_mut());
        let head = start.cast::<Slab>();
        // SAFETY: 1. the beginning of the block, which is ours; aligned to a page.
        unsafe { head.write(Slab { block: block.into_raw(), next, previous, free, nr_used: 0 }) };
        // SAFETY: 1. just written, and known to nobody else.
        self.link(unsafe { &mut *head });
        true
    }

    fn link(&mut self, slab: &mut Slab) {
        slab.next = self.partial;
        slab.previous = ptr::null_mut();
        // SAFETY: 1. a slab of this class (`slab-header`), whose lock is held, and another than
        // `slab`, which was not linked.
        if let Some(next) = unsafe { slab.next.as_mut() } {
            next.previous = slab;
        }
        self.partial = slab;
    }

    fn unlink(&mut self, slab: &mut Slab) {
        // SAFETY: 1. as in `link`: a slab is not its own neighbour.
        if let Some(next) = unsafe { slab.next.as_mut() } {
            next.previous = slab.previous;
        }
        // SAFETY: 1. as above.
        match unsafe { slab.previous.as_mut() } {
            Some(previous) => previous.next = slab.next,
            None => self.partial = slab.next,
        }
    }
}

/// Takes a block that holds `size_bytes`; null if there is none.
fn take_block(size_bytes: usize) -> *mut u8 {
    let Some(block) = order_of(size_bytes).and_then(|order| FRAMES.alloc_pages(Gfp::KERNEL, order))
    else {
        return ptr::null_mut();
    };
    let start = start_of(&block);
    let _named_by_its_address = block.into_pfn();
    start
}

/// Takes a block back.
///
/// # Safety
/// `start` is from [`take_block`] with the same `size_bytes`, and is not used again.
unsafe fn put_block(start: *mut u8, size_bytes: usize) {
    let order = order_of(size_bytes).expect("taken with this size");
    let first = PhysAddr::new(start.addr() as u64 - direct_map::BASE).pfn();
    // SAFETY: 1. given up by `into_pfn` in `take_block`, and now the caller's to free.
    unsafe { FRAMES.free_pfn_range(first, order.nr_pages()) }.expect("a block of the map");
}

fn start_of(block: &Folio<Frames>) -> *mut u8 {
    direct_map::pointer(block.phys_addr().value()).as_ptr()
}

fn order_of(size_bytes: usize) -> Option<Order> {
    let nr_pages = size_bytes.div_ceil(PAGE_SIZE).checked_next_power_of_two()?;
    Order::new(u8::try_from(nr_pages.ilog2()).ok()?).ok()
}

fn slab_order(size_bytes: usize) -> Order {
    order_of(size_bytes * OBJECTS_PER_SLAB).expect("at most 8 frames")
}

fn class_of(size_bytes: usize) -> usize {
    (size_bytes.next_power_of_two() / SMALLEST_BYTES).ilog2() as usize
}
