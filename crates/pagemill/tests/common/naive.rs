//! A naive model of the allocator: sets of frame numbers, and the rules of the contract.
//!
//! It knows which frames are free, but not which of those wait in per-CPU lists: how lists are
//! refilled and drained is the allocator's own business. So before each request it looks at how
//! many pages each list holds ([`Seen`]), and from that foretells what the request must give.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Range;

use pagemill::gfp::{NR_ZONE_KINDS, ZoneKind};
use pagemill::stats::{NR_PAGE_ORDERS, VmStat, Watermarks};
use pagemill::units::{NodeId, PAGE_SHIFT, PAGEBLOCK_NR_PAGES};
use pagemill::{Config, Gfp, Order, PageAllocator};
use pagemill_testkit::{Machine, check_balance};

/// What is known of every frame, and what should have been counted so far.
#[derive(Clone, Debug)]
pub(crate) struct Naive {
    zones: Vec<Zone>,
    /// The zone of each frame of the map.
    zone_of: BTreeMap<u64, usize>,
    reserved: BTreeSet<u64>,
    cpu_nodes: Vec<u8>,
    distances: Vec<u8>,
    nr_nodes: usize,
    counters: Counters,
}

#[derive(Clone, Debug)]
struct Zone {
    node: u8,
    kind: ZoneKind,
    free: BTreeSet<u64>,
    marks: Watermarks,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    pgalloc: [u64; NR_ZONE_KINDS],
    pgfree: u64,
    numa_hit: u64,
    numa_miss: u64,
    numa_foreign: u64,
    numa_local: u64,
    numa_other: u64,
}

/// A request, as far as it decides who serves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) gfp: Gfp,
    pub(crate) node: Option<u8>,
    pub(crate) cpu: u32,
}

/// How the free frames are spread over zones and lists at the moment.
#[derive(Debug)]
pub(crate) struct Seen {
    zones: Vec<SeenZone>,
}

#[derive(Debug)]
struct SeenZone {
    name: (NodeId, ZoneKind),
    /// Free frames that are in no list.
    free: u64,
    blocks: [u64; NR_PAGE_ORDERS],
    /// Pages in lists, by CPU, kind of page and order of the list's blocks.
    listed: BTreeMap<(u32, usize, Order), usize>,
}

impl Naive {
    /// Works out by itself which frames the allocator of `config` has, and checks that it agrees.
    pub(crate) fn new(config: &Config<'_>, allocator: &PageAllocator<Machine>) -> Self {
        let first_node = config.memory[0].node;
        let cpu_node = |cpu| config.cpu_nodes.get(cpu).copied().unwrap_or(first_node).value();
        let nr_cpus = usize::try_from(config.nr_cpus).expect("a few");
        let cpu_nodes: Vec<u8> = (0..nr_cpus).map(cpu_node).collect();
        let nodes = config.memory.iter().map(|region| region.node.value());
        let nr_nodes = nodes.chain(cpu_nodes.iter().copied()).max().map_or(0, usize::from) + 1;
        let mut naive = Self {
            zones: Vec::new(),
            zone_of: BTreeMap::new(),
            reserved: BTreeSet::new(),
            cpu_nodes,
            distances: config.distances.to_vec(),
            nr_nodes,
            counters: Counters::default(),
        };
        for info in allocator.zone_info() {
            let (node, kind) = (info.node.value(), info.kind);
            let zone = Zone { node, kind, free: BTreeSet::new(), marks: info.watermarks };
            naive.zones.push(zone);
        }
        naive.place_frames(config);
        naive.check_facts(allocator);
        naive
    }

    fn place_frames(&mut self, config: &Config<'_>) {
        let shift = u64::from(PAGE_SHIFT);
        let frames = |node: Option<NodeId>| {
            let regions = config.memory.iter().filter(move |r| node.is_none_or(|n| n == r.node));
            regions.flat_map(move |region| {
                let start = region.start.value() >> shift;
                (start..start + (region.len_bytes >> shift)).map(|pfn| (pfn, region.node))
            })
        };
        for (pfn, node) in frames(None) {
            let nr_movable = usize::try_from(config.movable_bytes >> shift).expect("a small world");
            let of_node: Vec<u64> = frames(Some(node)).map(|(pfn, _)| pfn).collect();
            let movable = of_node.len().saturating_sub(nr_movable);
            let block = PAGEBLOCK_NR_PAGES as u64;
            let is_movable = of_node
                .get(movable)
                .is_some_and(|&first| nr_movable > 0 && pfn >= first.next_multiple_of(block));
            let kind = match pfn << shift {
                address if config.zone_dma && address < 16 << 20 => ZoneKind::Dma,
                _ if is_movable => ZoneKind::Movable,
                address if config.zone_dma32 && address < 4 << 30 => ZoneKind::Dma32,
                _ => ZoneKind::Normal,
            };
            let zone = self.zones.iter().position(|z| z.node == node.value() && z.kind == kind);
            let zone = zone.expect("the allocator has the zone of each frame");
            self.zone_of.insert(pfn, zone);
            let start = pfn << shift;
            let is_reserved = config.reserved.iter().any(|range| {
                let reserved = range.start.value();
                range.len_bytes > 0
                    && start < reserved + range.len_bytes
                    && reserved < start + (1 << shift)
            });
            if is_reserved {
                self.reserved.insert(pfn);
            } else {
                self.zones[zone].free.insert(pfn);
            }
        }
    }

    fn check_facts(&self, allocator: &PageAllocator<Machine>) {
        for (index, (zone, info)) in self.zones.iter().zip(allocator.zone_info()).enumerate() {
            let pfns = || self.zone_of.iter().filter(|&(_, &of)| of == index).map(|(&pfn, _)| pfn);
            let (first, last) = (pfns().min().expect("no zone is empty"), pfns().max());
            assert_eq!(info.start_pfn, first);
            assert_eq!(info.spanned, last.expect("no zone is empty") + 1 - first);
            assert_eq!(info.present, pfns().count() as u64);
            assert_eq!(info.managed, zone.free.len() as u64);
        }
    }

    /// Yields the reserved frames that were not handed in yet.
    pub(crate) fn reserved(&self) -> impl Iterator<Item = u64> + '_ {
        self.reserved.iter().copied()
    }

    pub(crate) fn has_frame(&self, pfn: u64) -> bool {
        self.zone_of.contains_key(&pfn)
    }

    pub(crate) fn nr_nodes(&self) -> usize {
        self.nr_nodes
    }

    pub(crate) fn nr_free(&self) -> usize {
        self.zones.iter().map(|zone| zone.free.len()).sum()
    }

    /// Returns the zones that `want` admits, best first.
    fn admitted(&self, want: Want) -> Vec<usize> {
        let from = usize::from(want.node.unwrap_or(self.local(want)));
        let distance = |to: u8| match usize::from(to) {
            to if to == from => 0,
            to => self.distances.get(from * self.nr_nodes + to).copied().unwrap_or(20).max(10),
        };
        let highest = want.gfp.highest_zone();
        let kinds = |&zone: &usize| self.zones[zone].kind <= highest;
        let mut zones: Vec<usize> = (0..self.zones.len()).filter(kinds).collect();
        zones.sort_by_key(|&zone| {
            let Zone { node, kind, .. } = self.zones[zone];
            (distance(node), node, core::cmp::Reverse(kind))
        });
        zones
    }

    /// As [`admitted`](Self::admitted), without the nodes that `THISNODE` excludes.
    fn eligible(&self, want: Want) -> Vec<usize> {
        let mut zones = self.admitted(want);
        if want.gfp.contains(Gfp::THISNODE) {
            let node = want.node.unwrap_or(self.local(want));
            zones.retain(|&zone| self.zones[zone].node == node);
        }
        zones
    }

    fn local(&self, want: Want) -> u8 {
        let cpu = usize::try_from(want.cpu).expect("a few");
        self.cpu_nodes[cpu % self.cpu_nodes.len()]
    }

    /// Tells whether zone `zone` has more than `mark`, its reserve and the rest of the block free.
    fn above(&self, zone: usize, free: u64, mark: u64, want: Want, order: Order) -> bool {
        let reserve = self.zones[zone].marks.lowmem_reserve[want.gfp.highest_zone().index()];
        free + 1 > mark + reserve + order.nr_pages() as u64
    }

    /// Returns how many adjacent frames from a multiple of `align` on, up to `nr`, each zone that `want`
    /// admits could give, with all lists empty.
    pub(crate) fn ranges(&self, want: Want, nr: u64, align: u64) -> BTreeMap<usize, u64> {
        let of_zone = |zone: usize| {
            let Zone { free, marks, .. } = &self.zones[zone];
            let reserve = marks.lowmem_reserve[want.gfp.highest_zone().index()];
            let limit = self.lowest(zone, want).map_or(0, |mark| mark + reserve);
            let spare = (free.len() as u64).saturating_sub(limit).min(nr);
            let starts = free.iter().filter(|&&pfn| pfn.is_multiple_of(align));
            let run = |&start: &u64| {
                (start..start + spare).take_while(|pfn| free.contains(pfn)).count() as u64
            };
            (zone, starts.map(run).max().unwrap_or(0))
        };
        self.eligible(want).into_iter().map(of_zone).collect()
    }

    /// Returns whether all of `pfns` are free frames of one zone that has so many to give to `want`.
    pub(crate) fn has_range(&self, want: Want, mut pfns: Range<u64>) -> bool {
        let Some(&zone) = self.zone_of.get(&pfns.start) else { return false };
        let Zone { kind, free, marks, .. } = &self.zones[zone];
        // Named frames are of their zone, whichever others the request could use.
        let reserve = marks.lowmem_reserve[kind.index()];
        let limit = self.lowest(zone, want).map_or(0, |mark| mark + reserve);
        let spare = (free.len() as u64).saturating_sub(limit);
        pfns.end - pfns.start <= spare && pfns.all(|pfn| free.contains(&pfn))
    }

    /// Foretells which zone serves a request for one block; `None` if none may.
    pub(crate) fn single(&self, seen: &Seen, want: Want, order: Order) -> Option<usize> {
        let zones = self.eligible(want);
        let kind = want.gfp.migratetype().index();
        let own = |zone: usize| {
            seen.zones[zone].listed.get(&(want.cpu, kind, order)).copied().unwrap_or(0)
        };
        let lowest = |zone: usize| self.lowest(zone, want);
        let now = |zone: usize, mark: Option<u64>| {
            let seen = &seen.zones[zone];
            mark.is_none_or(|mark| self.above(zone, seen.free, mark, want, order))
                && (own(zone) > 0 || has_block(&seen.blocks, order))
        };
        let by_low = |&&zone: &&usize| now(zone, Some(self.zones[zone].marks.low));
        let by_min = |&&zone: &&usize| now(zone, lowest(zone));
        if let Some(&zone) = zones.iter().find(by_low).or_else(|| zones.iter().find(by_min)) {
            return Some(zone);
        }
        if want.gfp.contains(Gfp::DIRECT_RECLAIM) && seen.nr_listed() > 0 {
            // Every list is emptied before the request is given up.
            return zones.into_iter().find(|&zone| {
                let free = &self.zones[zone].free;
                let enough = |mark| self.above(zone, free.len() as u64, mark, want, order);
                lowest(zone).is_none_or(enough) && has_block(&maximal_blocks(free), order)
            });
        }
        // The CPU's own pages leave the zones as they are, but not those that a zone keeps back.
        let kept =
            |zone: usize| self.zones[zone].marks.lowmem_reserve[want.gfp.highest_zone().index()];
        let own =
            zones.into_iter().find(|&zone| own(zone) > 0 && seen.zones[zone].free >= kept(zone));
        if order > Order::ZERO {
            return own;
        }
        own.or_else(|| self.drained(seen, want, order).first().copied())
    }

    /// Returns the zones, best first, that have enough pages for a request for one block that cannot
    /// reclaim once the CPU's blocks are back in them. Where there are enough, one of order zero can be
    /// had; whether a larger one can depends on which frames the blocks are.
    pub(crate) fn drained(&self, seen: &Seen, want: Want, order: Order) -> Vec<usize> {
        if want.gfp.contains(Gfp::DIRECT_RECLAIM) {
            return Vec::new();
        }
        let mut zones = self.eligible(want);
        zones.retain(|&zone| {
            let listed = seen.zones[zone].listed.iter();
            let own = listed.filter(|&(&(cpu, _, of), _)| cpu == want.cpu && of > Order::ZERO);
            let nr_own = own.map(|(_, &nr)| nr as u64).sum::<u64>();
            let enough = |mark| self.above(zone, seen.zones[zone].free + nr_own, mark, want, order);
            nr_own > 0 && self.lowest(zone, want).is_none_or(enough)
        });
        zones
    }

    /// Returns the zone of a frame.
    pub(crate) fn zone_of(&self, pfn: u64) -> usize {
        self.zone_of[&pfn]
    }

    /// Returns how many pages the last attempt of a request leaves in a zone; `None` if it may take all.
    fn lowest(&self, zone: usize, want: Want) -> Option<u64> {
        let marks = &self.zones[zone].marks;
        if want.gfp.may_use_all_reserves() {
            None
        } else if want.gfp.contains(Gfp::HIGH) {
            Some(marks.min - marks.min / 2)
        } else {
            Some(marks.min)
        }
    }

    /// Foretells which zone serves a bulk request of `claim` pages; `None` if none has so many.
    pub(crate) fn bulk(&self, seen: &Seen, want: Want, claim: usize) -> Option<usize> {
        let node = self.zones[*self.admitted(want).first()?].node;
        let near =
            self.eligible(want).into_iter().take_while(|&zone| self.zones[zone].node == node);
        near.into_iter().find(|&zone| {
            let marks = &self.zones[zone].marks;
            let reserve = marks.lowmem_reserve[want.gfp.highest_zone().index()];
            let claim = claim as u128;
            u128::from(seen.zones[zone].free) > u128::from(marks.low + reserve) + claim
        })
    }

    /// Notes that `pfns`, which must be free frames of `zone`, belong to somebody now.
    pub(crate) fn take(&mut self, zone: usize, pfns: impl IntoIterator<Item = u64>) {
        for pfn in pfns {
            let was_free = self.zones[zone].free.remove(&pfn);
            assert!(was_free, "frame {pfn:#x} was handed out, but is not free in its zone");
        }
    }

    /// Records that `pfns` were freed.
    pub(crate) fn give(&mut self, pfns: impl IntoIterator<Item = u64>) {
        for pfn in pfns {
            assert!(self.zones[self.zone_of[&pfn]].free.insert(pfn), "the test freed {pfn} twice");
            self.counters.pgfree += 1;
        }
    }

    /// Notes that reserved frame `pfn` belongs to somebody who will free it.
    pub(crate) fn hand_in(&mut self, pfn: u64) {
        assert!(self.reserved.remove(&pfn), "the test handed in {pfn} twice");
    }

    /// Takes over the watermarks, after a frame was handed in.
    pub(crate) fn follow_marks(&mut self, allocator: &PageAllocator<Machine>) {
        for (index, info) in allocator.zone_info().enumerate() {
            let pfns = self.zone_of.iter().filter(|&(_, &of)| of == index).map(|(pfn, _)| pfn);
            let managed = pfns.filter(|pfn| !self.reserved.contains(pfn)).count();
            assert_eq!(info.managed, managed as u64);
            self.zones[index].marks = info.watermarks;
        }
    }

    /// Counts `events` allocations of `pages` pages together.
    pub(crate) fn count(&mut self, want: Want, zone: usize, pages: usize, events: usize) {
        let (pages, events) = (pages as u64, events as u64);
        let Zone { node, kind, .. } = self.zones[zone];
        let preferred = self.admitted(want).first().map(|&zone| self.zones[zone].node);
        let local = self.local(want);
        let counters = &mut self.counters;
        counters.pgalloc[kind.index()] += pages;
        if preferred == Some(node) {
            counters.numa_hit += events;
        } else {
            counters.numa_miss += events;
            counters.numa_foreign += events;
        }
        if node == local {
            counters.numa_local += events;
        } else {
            counters.numa_other += events;
        }
    }

    /// Compares everything that the allocator tells about itself.
    pub(crate) fn check(&self, allocator: &PageAllocator<Machine>) -> Seen {
        check_balance();
        let seen = Seen::new(allocator);
        let in_zones: u64 = seen.zones.iter().map(|zone| zone.free).sum();
        assert_eq!(self.counters, Counters::of(&allocator.vmstat()));
        assert_eq!(allocator.vmstat().nr_free_pages, in_zones);
        assert_eq!(allocator.nr_free_pages(), self.nr_free() as u64);
        for (zone, seen) in self.zones.iter().zip(&seen.zones) {
            let listed: usize = seen.listed.values().sum();
            let name = (zone.node, zone.kind);
            assert_eq!(seen.free + listed as u64, zone.free.len() as u64, "free in {name:?}");
            let in_blocks = Order::all().zip(seen.blocks).map(|(o, nr)| nr << o.value());
            assert_eq!(in_blocks.sum::<u64>(), seen.free, "free blocks of {name:?}");
            if listed == 0 {
                assert_eq!(seen.blocks, maximal_blocks(&zone.free), "free blocks of {name:?}");
            }
        }
        seen
    }
}

impl Seen {
    pub(crate) fn new(allocator: &PageAllocator<Machine>) -> Self {
        let mut zones: Vec<SeenZone> = allocator
            .zone_info()
            .map(|info| SeenZone {
                name: (info.node, info.kind),
                free: info.nr_free_pages,
                blocks: info.buddyinfo(),
                listed: BTreeMap::new(),
            })
            .collect();
        for info in allocator.pcp_info() {
            assert!(info.count <= info.high, "{info:?} holds too many");
            if info.count > 0 {
                let name = (info.node, info.kind);
                let zone = zones.iter_mut().find(|zone| zone.name == name);
                let key = (info.cpu.value(), info.migratetype.index(), info.order);
                zone.expect("it has a zone").listed.insert(key, info.count);
            }
        }
        Self { zones }
    }

    /// Returns the number of pages in all lists.
    pub(crate) fn nr_listed(&self) -> usize {
        self.zones.iter().flat_map(|zone| zone.listed.values()).sum()
    }
}

impl Counters {
    fn of(stat: &VmStat) -> Self {
        Self {
            pgalloc: stat.pgalloc,
            pgfree: stat.pgfree,
            numa_hit: stat.numa_hit,
            numa_miss: stat.numa_miss,
            numa_foreign: stat.numa_foreign,
            numa_local: stat.numa_local,
            numa_other: stat.numa_other,
        }
    }
}

/// Tells whether there is a block of `order` or a larger one.
fn has_block(blocks: &[u64; NR_PAGE_ORDERS], order: Order) -> bool {
    blocks[usize::from(order.value())..].iter().any(|&nr| nr > 0)
}

/// Counts the blocks that `free` consists of, each as large as it can be.
fn maximal_blocks(free: &BTreeSet<u64>) -> [u64; NR_PAGE_ORDERS] {
    let mut blocks = [0; NR_PAGE_ORDERS];
    let mut frames = free.iter().copied().peekable();
    while let Some(&first) = frames.peek() {
        let fits = |order: &Order| {
            let nr = order.nr_pages() as u64;
            first % nr == 0 && free.range(first..first + nr).count() as u64 == nr
        };
        let largest = Order::all().rev().find(fits).expect("one frame fits");
        blocks[usize::from(largest.value())] += 1;
        for _ in 0..largest.nr_pages() {
            frames.next();
        }
    }
    blocks
}
