//! What the loader tells: PVH's start info and its memory map.
//!
//! Read before the direct map covers more than the first 4 GiB, in which all of it lies.

use core::ptr;

use crate::direct_map;

/// A range of physical addresses that is one kind of memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct MapEntry {
    /// Its first byte.
    pub(crate) start: u64,
    /// Its length.
    pub(crate) len_bytes: u64,
    kind: u32,
    reserved: u32,
}

impl MapEntry {
    /// Tells whether it is memory that anybody may use.
    pub(crate) fn is_usable(&self) -> bool {
        const USABLE: u32 = 1;
        self.kind == USABLE
    }
}

/// `hvm_start_info`, version 1.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Header {
    magic: u32,
    version: u32,
    flags: u32,
    nr_modules: u32,
    modules: u64,
    command_line: u64,
    acpi_root: u64,
    map: u64,
    map_len: u32,
    reserved: u32,
}

/// `hvm_modlist_entry`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Module {
    start: u64,
    len_bytes: u64,
    command_line: u64,
    reserved: u64,
}

/// What the loader left in memory.
#[derive(Debug)]
pub(crate) struct StartInfo {
    address: u64,
    header: Header,
}

impl StartInfo {
    /// Reads what is at `address`, where the loader says it is.
    pub(crate) fn at(address: u64) -> Self {
        const MAGIC: u32 = 0x336e_c578;
        let header: Header = read(address, 0);
        assert!(header.magic == MAGIC, "no start info at {address:#x}: boot this image by PVH");
        assert!(header.version >= 1 && header.map_len > 0, "the loader gives no memory map");
        Self { address, header }
    }

    /// Yields the entries of the memory map.
    pub(crate) fn map(&self) -> impl Iterator<Item = MapEntry> + use<> {
        let address = self.header.map;
        (0..u64::from(self.header.map_len)).map(move |index| read(address, index))
    }

    /// Yields the ranges in which the start info itself and all that it names lie.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        /// More than any loader accepts.
        const COMMAND_LINE_BYTES: u64 = 4096;
        let header = self.header;
        let nr_modules = u64::from(header.nr_modules);
        let modules = (0..nr_modules).map(move |index| {
            let module: Module = read(header.modules, index);
            (module.start, module.len_bytes)
        });
        let line = if header.command_line == 0 { 0 } else { COMMAND_LINE_BYTES };
        let tables = [
            (self.address, size_of::<Header>() as u64),
            (header.map, u64::from(header.map_len) * size_of::<MapEntry>() as u64),
            (header.modules, nr_modules * size_of::<Module>() as u64),
            (header.command_line, line),
        ];
        tables.into_iter().chain(modules)
    }
}

/// Reads the entry at `index` of a table of the loader.
fn read<T: Copy>(table: u64, index: u64) -> T {
    let place = direct_map::pointer(table + index * size_of::<T>() as u64).cast::<T>();
    // SAFETY: 1. readable: the loader's tables lie below 4 GiB, which the boot code has mapped, and
    // are as long as it says. 2. valid: T is made of integers. 3. alignment does not matter.
    unsafe { ptr::read_unaligned(place.as_ptr()) }
}
