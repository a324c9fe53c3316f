//! The state of a cache, under the names of `/proc/slabinfo`.

use core::fmt;

/// The state of a cache; its `Display` is a line of `/proc/slabinfo`.
///
/// # Source
/// `linux-6.12` `mm/slab_common.c` `cache_show`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlabInfo {
    /// The cache's name.
    pub name: &'static str,
    /// Objects in use. Differs: Linux also counts those in the arrays of CPUs.
    pub active_objs: usize,
    /// Objects of all slabs, free ones included.
    pub num_objs: usize,
    /// Bytes of an object that its user may use.
    pub objsize: usize,
    /// Objects in a slab of the cache's usual order.
    pub objperslab: usize,
    /// Pages in a slab of the cache's usual order.
    pub pagesperslab: usize,
    /// Slabs with objects in use or in arrays.
    pub active_slabs: usize,
    /// All slabs.
    pub num_slabs: usize,
    /// Free objects in arrays of CPUs and in the depot. Not in `/proc/slabinfo`.
    pub cached_objs: usize,
    /// Pages of all slabs, which may be of several orders. Not in `/proc/slabinfo`.
    pub pages: usize,
}

impl SlabInfo {
    pub(crate) fn new(name: &'static str, objsize: usize) -> Self {
        Self {
            name,
            active_objs: 0,
            num_objs: 0,
            objsize,
            objperslab: 0,
            pagesperslab: 0,
            active_slabs: 0,
            num_slabs: 0,
            cached_objs: 0,
            pages: 0,
        }
    }
}

impl fmt::Display for SlabInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4} : tunables {:>4} {:>4} {:>4} : slabdata {:>6} {:>6} {:>6}",
            self.name,
            self.active_objs,
            self.num_objs,
            self.objsize,
            self.objperslab,
            self.pagesperslab,
            0,
            0,
            0,
            self.active_slabs,
            self.num_slabs,
            0
        )
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_line_has_the_columns_of_slabinfo() {
        let info = SlabInfo { active_objs: 3, num_objs: 16, ..SlabInfo::new("inode", 256) };
        assert_eq!(
            info.to_string(),
            "inode                  3     16    256    0    0 : tunables    0    0    0 : slabdata      0      0      0"
        );
    }
}
