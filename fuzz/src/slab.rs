//! A cache and a heap that follow any sequence of calls, beside a list of objects.

use core::alloc::Layout;
use core::ptr::NonNull;

use pagemill::{AllocPages, Gfp, Order};
use pagemill_host::HostAllocator;
use pagemill_slab::{Cache, CacheConfig, Checks, Heap, HeapConfig, Refill, Slabs};

/// Most objects at a time.
const MAX_NR_OBJECTS: usize = 500;

/// An object, its layout, whether the cache has it, and the byte that it is filled with.
#[derive(Clone, Copy)]
struct Object {
    start: NonNull<u8>,
    layout: Layout,
    of_cache: bool,
    fill: u8,
}

impl Object {
    fn fill(self) {
        // SAFETY: 1. an object of this size, just allocated.
        unsafe { self.start.write_bytes(self.fill, self.layout.size()) };
    }

    fn check(self, len: usize) {
        // SAFETY: 1. an object of this size that `fill` filled, and that is not freed.
        let bytes = unsafe { core::slice::from_raw_parts(self.start.as_ptr(), len) };
        assert!(bytes.iter().all(|&byte| byte == self.fill), "another wrote to the object");
    }
}

/// Takes numbers from the front of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes([self.byte()?, self.byte()?])))
    }

    /// A size: small ones are as likely as large ones.
    fn size(&mut self) -> Option<usize> {
        let (shift, number) = (self.byte()? % 19, self.number()?);
        Some(((number << 3) & ((1 << shift) - 1)) + usize::from(shift))
    }

    fn layout(&mut self) -> Option<Layout> {
        let align = 1 << (self.byte()? % 14);
        Layout::from_size_align(self.size()?, align).ok()
    }

    fn config(&mut self) -> Option<CacheConfig> {
        let [refill, checks, array, order] =
            [self.byte()?, self.byte()?, self.byte()?, self.byte()?].map(usize::from);
        let size = self.size()?.max(1);
        Some(CacheConfig {
            refill: [Refill::Single, Refill::Bulk, Refill::Split][refill % 3],
            checks: [Checks::Off, Checks::Owner, Checks::RedZone, Checks::Poison][checks % 4],
            array: [None, Some(0), Some(1), Some(3)][array % 4],
            order: u8::try_from(order % 8).ok().and_then(|order| Order::new(order).ok()),
            ..CacheConfig::new("fuzz", size, 1 << (order / 8 % 14))
        })
    }
}

/// Follows the calls that `data` describes.
pub fn calls(data: &[u8]) {
    let mut input = Input(data);
    let frames = HostAllocator::new(8 << 20).expect("8 MiB can be mapped");
    let free = frames.nr_free_pages();
    {
        let slabs = Slabs::new(&*frames).expect("there is memory for the table");
        let Some(config) = input.config() else { return };
        let heap_config = HeapConfig { array: config.array, ..HeapConfig::new() };
        let heap = Heap::new(&slabs, &heap_config).expect("there is memory for the arrays");
        // A size, an alignment or an order that is not allowed.
        let Ok(cache) = Cache::new(&slabs, &config) else { return };
        follow(&mut input, &heap, &cache);
    }
    frames.drain_all_pages();
    assert_eq!(frames.nr_free_pages(), free, "memory is back to the last page");
}

fn follow<'f, S>(input: &mut Input<'_>, heap: &Heap<'f, S>, cache: &Cache<'f, S>)
where
    S: AllocPages<Platform: pagemill::machine::DirectMap>,
{
    let mut objects: Vec<Object> = Vec::new();
    let mut fill = 0_u8;
    while let Some(call) = input.byte() {
        fill = fill.wrapping_add(1);
        let position = |input: &mut Input<'_>, nr: usize| input.number().map(|at| at % nr.max(1));
        let is_full = objects.len() == MAX_NR_OBJECTS;
        match call % 8 {
            0 | 1 if !is_full => {
                if let Some(start) = cache.alloc(Gfp::NOWAIT) {
                    let layout = Layout::from_size_align(cache.size(), 1).expect("small");
                    objects.push(Object { start, layout, of_cache: true, fill });
                    objects[objects.len() - 1].fill();
                }
            }
            2 | 3 if !is_full => {
                let Some(layout) = input.layout() else { break };
                if let Some(start) = heap.alloc(Gfp::NOWAIT, layout) {
                    assert!(start.addr().get().is_multiple_of(layout.align()));
                    objects.push(Object { start, layout, of_cache: false, fill });
                    objects[objects.len() - 1].fill();
                }
            }
            4 | 5 if !objects.is_empty() => {
                let Some(at) = position(input, objects.len()) else { break };
                free(heap, cache, objects.swap_remove(at));
            }
            6 if !objects.is_empty() => {
                let (Some(at), Some(size)) = (position(input, objects.len()), input.size()) else {
                    break;
                };
                resize(heap, &mut objects[at], size);
            }
            7 => {
                cache.shrink();
                heap.shrink();
            }
            _ => {}
        }
        let in_use = objects.iter().filter(|object| object.of_cache).count();
        assert_eq!(cache.info().active_objs, in_use, "objects in use");
    }
    objects.into_iter().for_each(|object| free(heap, cache, object));
}

fn free<S>(heap: &Heap<'_, S>, cache: &Cache<'_, S>, object: Object)
where
    S: AllocPages<Platform: pagemill::machine::DirectMap>,
{
    object.check(object.layout.size());
    if object.of_cache {
        // SAFETY: 1. from this cache. 2. not used again: the list forgot it.
        unsafe { cache.free(object.start) };
    } else if object.fill % 2 == 0 {
        // SAFETY: 1. from this heap. 2. not used again: the list forgot it.
        unsafe { heap.free(object.start) };
    } else {
        // SAFETY: 1. from this heap with this layout. 2. not used again: the list forgot it.
        unsafe { heap.free_sized(object.start, object.layout) };
    }
}

fn resize<S>(heap: &Heap<'_, S>, object: &mut Object, size: usize)
where
    S: AllocPages<Platform: pagemill::machine::DirectMap>,
{
    if object.of_cache {
        return;
    }
    let layout = object.layout;
    // SAFETY: 1. from this heap with this layout. 2. used at its old place only if it did not move.
    if let Some(moved) = unsafe { heap.realloc(Gfp::NOWAIT, object.start, layout, size) } {
        object.start = moved;
        object.check(layout.size().min(size));
        object.layout = Layout::from_size_align(size, layout.align()).expect("small");
        object.fill();
    }
}
