//! The state of an allocator, as the files of `/proc` show that of Linux, and as JSON.

use core::fmt::{self, Display};

use pagemill::PageAllocator;
use pagemill::gfp::MigrateType;
use pagemill::stats::NR_PAGE_ORDERS;
use pagemill::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use pagemill_host::Host;
use pagemill_status::snapshots::{Counters, PagesetStatus, TypeStatus, ZoneStatus};
use serde::Serialize;

use crate::output::json;
use pagemill_bench::Size;
use pagemill_bench::document::JsonArena;

/// The number of the schema of the JSON; it rises where a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// One look at an allocator: what text and JSON are both written from.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    schema_version: u32,
    pagemill_version: &'static str,
    arena: JsonArena,
    zones: Vec<ZoneStatus>,
    vmstat: Counters,
    #[serde(skip)]
    heading: String,
}

impl Info {
    /// Looks at `allocator`.
    pub(crate) fn of(allocator: &PageAllocator<Host>) -> Self {
        let memory = allocator.platform().memory();
        let (len_bytes, kind) = (memory.len_bytes() as u64, memory.kind());
        Self {
            schema_version: SCHEMA_VERSION,
            pagemill_version: env!("CARGO_PKG_VERSION"),
            arena: JsonArena::of(len_bytes, kind),
            zones: ZoneStatus::all(allocator),
            vmstat: allocator.vmstat().counters().collect(),
            heading: format!("A fresh allocator over an arena of {}, {kind}", Size::of(len_bytes)),
        }
    }

    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None that is known of: numbers and texts can all be written.
    pub(crate) fn to_json(&self) -> anyhow::Result<String> {
        json(self)
    }
}

fn title(zone: &ZoneStatus) -> String {
    format!("Node {}, zone {:>8}", zone.node, zone.zone)
}

impl Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading)?;
        writeln!(f, "\n# free blocks of each order, as in /proc/buddyinfo")?;
        for zone in &self.zones {
            writeln!(f, "{} {}", title(zone), Counts(&zone.free_blocks))?;
        }
        writeln!(f, "\n# the same by kind of page, and pageblocks, as in /proc/pagetypeinfo")?;
        self.pagetypeinfo(f)?;
        writeln!(f, "\n# pages and limits of each zone, as in /proc/zoneinfo")?;
        self.zones.iter().try_for_each(|zone| ZoneInfo(zone).fmt(f))?;
        writeln!(f, "\n# counters, as in /proc/vmstat")?;
        self.vmstat.iter().try_for_each(|(name, count)| writeln!(f, "{name} {count}"))
    }
}

impl Info {
    fn pagetypeinfo(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Page block order: {PAGEBLOCK_ORDER}")?;
        writeln!(f, "Pages per block:  {PAGEBLOCK_NR_PAGES}\n")?;
        let orders: [u64; NR_PAGE_ORDERS] = core::array::from_fn(|order| order as u64);
        let heading = "Free pages count per migrate type at order";
        writeln!(f, "{heading:<42}{}", Counts(&orders))?;
        for zone in &self.zones {
            for TypeStatus { name, free_blocks, .. } in &zone.types {
                writeln!(f, "{}, type {name:>12}  {}", title(zone), Counts(free_blocks))?;
            }
        }
        write!(f, "\nNumber of blocks type ")?;
        MigrateType::ALL.iter().try_for_each(|kind| write!(f, " {:>12}", kind.name()))?;
        writeln!(f)?;
        for zone in &self.zones {
            write!(f, "{:<22}", title(zone))?;
            zone.types.iter().try_for_each(|kind| write!(f, " {:>12}", kind.pageblocks))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Shows a zone as `/proc/zoneinfo` does.
struct ZoneInfo<'a>(&'a ZoneStatus);

impl Display for ZoneInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(zone) = self;
        writeln!(f, "{}", title(zone))?;
        writeln!(f, "  pages free     {}", zone.free)?;
        for (name, nr_pages) in [
            ("min", zone.min),
            ("low", zone.low),
            ("high", zone.high),
            ("spanned", zone.spanned),
            ("present", zone.present),
            ("managed", zone.managed),
        ] {
            writeln!(f, "        {name:<8} {nr_pages}")?;
        }
        let protection: Vec<String> = zone.protection.iter().map(u64::to_string).collect();
        writeln!(f, "        protection: ({})", protection.join(", "))?;
        writeln!(f, "  pagesets")?;
        let mut cpu = None;
        for PagesetStatus { cpu: of, name, order, count, high, batch, .. } in &zone.pagesets {
            if cpu.replace(of) != Some(of) {
                writeln!(f, "    cpu: {of}")?;
            }
            write!(f, "      {name:>12}  order: {order}  ")?;
            writeln!(f, "count: {count:<5} high: {high:<5} batch: {batch}")?;
        }
        writeln!(f, "  start_pfn:           {}", zone.start_pfn)
    }
}

/// Numbers in columns of seven.
struct Counts<'a>(&'a [u64]);

impl Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|count| write!(f, "{count:>7}"))
    }
}

#[cfg(test)]
mod tests {
    use pagemill::{AllocPages, Gfp};
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};
    use serde_json::Value;

    use super::*;

    fn frames() -> PageAllocator<Host> {
        let arena = ArenaConfig::new(64 << 20);
        allocator(&AllocatorConfig { movable_bytes: 16 << 20, ..AllocatorConfig::new(arena) })
            .unwrap()
    }

    #[test]
    fn every_zone_is_in_every_part() {
        let text = Info::of(&frames()).to_string();
        for zone in ["  Normal", " Movable"] {
            let lines = text.lines().filter(|line| line.contains(&format!("zone {zone}")));
            // buddyinfo, three kinds, pageblocks, zoneinfo.
            assert_eq!(lines.count(), 6, "{text}");
        }
        assert!(text.contains("Node 0, zone   Normal       0      0      0"), "{text}");
        assert!(text.contains("\nnr_free_pages 16384\n"), "{text}");
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let text = Info::of(&frames()).to_string();
        let width = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start) && line.len() > 100);
            line.unwrap().len()
        };
        assert_eq!(width("Free pages count"), width("Node 0"));
        let blocks: Vec<usize> = text
            .lines()
            .skip_while(|line| !line.starts_with("Number of blocks"))
            .take(3)
            .map(str::len)
            .collect();
        assert_eq!(blocks, [blocks[0]; 3], "{text}");
    }

    #[test]
    fn json_tells_what_happened() {
        let frames = frames();
        let page = frames.alloc_page(Gfp::KERNEL).unwrap();
        let document: Value = serde_json::from_str(&Info::of(&frames).to_json().unwrap()).unwrap();
        assert_eq!(document["vmstat"]["pgalloc_normal"], 1);
        let zone = &document["zones"][0];
        assert_eq!(zone["zone"], "Normal");
        let pagesets = zone["pagesets"].as_array().unwrap();
        let in_lists: u64 = pagesets.iter().map(|list| list["count"].as_u64().unwrap()).sum();
        assert_eq!(zone["free"].as_u64().unwrap() + in_lists + 1, zone["managed"]);
        assert_eq!(zone["free_blocks"].as_array().unwrap().len(), 11);
        assert_eq!(zone["types"][0]["type"], "Unmovable");
        drop(page);
    }
}
