//! Page owners ([`Config::page_owner`](pagemill::Config::page_owner)): how many pages each call site
//! holds, as a table and for flame graphs.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;
use core::fmt;
use core::panic::Location;

use pagemill::PageAllocator;
use pagemill::units::PAGE_SIZE;

use crate::allocator::platform::Host;

/// The pages in use at one moment, by the call site that allocated them.
///
/// # Examples
/// ```
/// use pagemill::{AllocPages, Gfp};
/// use pagemill_host::debug::PageOwners;
/// use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};
///
/// let arena = ArenaConfig::new(16 << 20);
/// let frames = allocator(&AllocatorConfig { page_owner: true, ..AllocatorConfig::new(arena) })?;
/// let page = frames.alloc_page(Gfp::KERNEL);
/// let owners = PageOwners::collect(&frames);
/// assert_eq!(owners.nr_pages(), 1);
/// print!("{owners}");
/// # drop(page);
/// # Ok::<(), pagemill_host::HostError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOwners {
    /// Most pages first; equal numbers in the order of files, lines and columns.
    sites: Vec<PageOwner>,
}

/// One call site that holds pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageOwner {
    /// The call that allocated them.
    pub site: Location<'static>,
    /// Number of its pages; a block of order n counts as 2^n.
    pub nr_pages: u64,
}

impl PageOwner {
    /// Returns the size of its pages in bytes.
    #[must_use]
    pub const fn nr_bytes(&self) -> u64 {
        self.nr_pages * PAGE_SIZE as u64
    }
}

impl PageOwners {
    /// Visits every frame of `allocator`.
    ///
    /// Returns no call sites unless the allocator was built with
    /// [`page_owner`](crate::AllocatorConfig::page_owner).
    ///
    /// # Concurrency
    /// Pages that are allocated or freed during the call may be counted or not.
    ///
    /// # Cost
    /// One load per frame of the memory map, and a look-up per frame in use.
    #[must_use]
    pub fn collect(allocator: &PageAllocator<Host>) -> Self {
        // Keyed by value: the compiler may keep one call site as several objects.
        let mut sums: BTreeMap<Location<'static>, u64> = BTreeMap::new();
        allocator.for_each_owner(|_pfn, site| *sums.entry(*site).or_default() += 1);
        let mut sites: Vec<PageOwner> =
            sums.into_iter().map(|(site, nr_pages)| PageOwner { site, nr_pages }).collect();
        // A stable sort, so that equal numbers stay in the order of the map.
        sites.sort_by_key(|owner| Reverse(owner.nr_pages));
        Self { sites }
    }

    /// Returns the call sites, most pages first.
    #[must_use]
    pub fn sites(&self) -> &[PageOwner] {
        &self.sites
    }

    /// Returns the number of pages in use.
    #[must_use]
    pub fn nr_pages(&self) -> u64 {
        self.sites.iter().map(|owner| owner.nr_pages).sum()
    }

    /// Writes one line `file;line count` for each source line that holds pages: collapsed stacks of two
    /// frames, the input format of flame graph tools.
    ///
    /// # Units
    /// The count is in pages. Calls on the same line are added up.
    #[must_use]
    pub fn collapsed(&self) -> String {
        let mut sums: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        for PageOwner { site, nr_pages } in &self.sites {
            *sums.entry((site.file(), site.line())).or_default() += nr_pages;
        }
        let line = |((file, line), nr_pages): ((&str, u32), u64)| {
            // A semicolon would end the frame.
            format!("{};{line} {nr_pages}\n", file.replace(';', ":"))
        };
        sums.into_iter().map(line).collect()
    }
}

impl fmt::Display for PageOwners {
    /// Writes a table: pages, bytes, and the call site as `file:line:column`, followed by the sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10} {:>14} site", "pages", "bytes")?;
        for owner in &self.sites {
            writeln!(f, "{:>10} {:>14} {}", owner.nr_pages, owner.nr_bytes(), owner.site)?;
        }
        let nr_pages = self.nr_pages();
        writeln!(f, "{nr_pages:>10} {:>14} in all", nr_pages * PAGE_SIZE as u64)
    }
}

#[cfg(test)]
mod tests {
    use pagemill::{AllocPages, Gfp, Order};

    use super::*;
    use crate::{AllocatorConfig, ArenaConfig, allocator};

    fn frames(page_owner: bool) -> PageAllocator<Host> {
        let config =
            AllocatorConfig { page_owner, ..AllocatorConfig::new(ArenaConfig::new(16 << 20)) };
        allocator(&config).unwrap()
    }

    #[test]
    fn each_call_site_is_named_with_the_pages_it_holds() {
        let frames = frames(true);
        let mut slots = [const { None }; 100];
        let bulk_line = line!() + 1;
        assert_eq!(frames.alloc_pages_bulk(Gfp::KERNEL, &mut slots), 100);
        let folio_line = line!() + 1;
        let folio = frames.alloc_pages(Gfp::KERNEL, Order::new(3).unwrap()).unwrap();

        let owners = PageOwners::collect(&frames);
        let found: Vec<_> =
            owners.sites().iter().map(|owner| (owner.site.line(), owner.nr_pages)).collect();
        assert_eq!(found, [(bulk_line, 100), (folio_line, 8)]);
        assert!(owners.sites().iter().all(|owner| owner.site.file() == file!()));
        assert_eq!(owners.sites()[1].nr_bytes(), 8 * 4096);

        frames.release_pages(&mut slots[..60]);
        let owners = PageOwners::collect(&frames);
        assert_eq!(owners.nr_pages(), 48);
        drop(folio);
        frames.release_pages(&mut slots);
        assert_eq!(PageOwners::collect(&frames).sites(), []);
    }

    #[test]
    fn tables_and_stacks_name_the_same_lines() {
        let frames = frames(true);
        let pages: Vec<_> = (0..3).map_while(|_| frames.alloc_page(Gfp::KERNEL)).collect();
        let (one, two) = (frames.alloc_page(Gfp::KERNEL), frames.alloc_page(Gfp::KERNEL));
        let (three_line, two_line) = (line!() - 2, line!() - 1);
        let owners = PageOwners::collect(&frames);
        assert_eq!(owners.sites().len(), 3, "calls on one line are told apart by their columns");
        let file = file!();
        let expected = format!("{file};{three_line} 3\n{file};{two_line} 2\n");
        assert_eq!(owners.collapsed(), expected);
        let table = owners.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "     pages          bytes site");
        assert!(lines[1].starts_with("         3          12288 "), "{table}");
        assert!(lines[1].contains(&format!("{file}:{three_line}:")), "{table}");
        assert_eq!(lines[4], "         5          20480 in all");
        drop((pages, one, two));
    }

    #[test]
    fn nobody_is_noted_unless_asked_for() {
        let frames = frames(false);
        let page = frames.alloc_page(Gfp::KERNEL).unwrap();
        let owners = PageOwners::collect(&frames);
        assert_eq!((owners.nr_pages(), owners.collapsed()), (0, String::new()));
        drop(page);
    }
}
