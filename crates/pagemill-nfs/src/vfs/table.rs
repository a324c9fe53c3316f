//! Where files were last seen: for a process that cannot open files by handle.
//!
//! What it says is a hint. Who opens by it compares the file's lasting name with the one looked
//! for, and searches the whole export if they differ.

use alloc::ffi::CString;
use std::collections::HashMap;

use crate::fh::ObjectId;

/// The most files that are remembered; beyond, all is forgotten and found again by searching.
const MAX_NR_ENTRIES: usize = 1 << 20;
/// The most folders on the way from an export's root to a file.
pub(crate) const MAX_DEPTH: usize = 1024;

/// A tree of names, from each file up to the folder that it was seen in.
#[derive(Debug)]
pub(crate) struct Table {
    root: ObjectId,
    entries: HashMap<ObjectId, Entry>,
}

#[derive(Debug)]
struct Entry {
    dir: ObjectId,
    name: Box<[u8]>,
}

impl Table {
    /// Makes a table that knows the root alone.
    pub(crate) fn new(root: ObjectId) -> Self {
        Self { root, entries: HashMap::new() }
    }

    /// Notes that `object` is `name` in `dir`, wherever it was before.
    pub(crate) fn insert(&mut self, object: ObjectId, dir: ObjectId, name: &[u8]) {
        if object == self.root {
            return;
        }
        if self.entries.len() >= MAX_NR_ENTRIES && !self.entries.contains_key(&object) {
            self.entries.clear();
        }
        match self.entries.get_mut(&object) {
            Some(entry) if entry.dir == dir && *entry.name == *name => {}
            Some(entry) => *entry = Entry { dir, name: name.into() },
            None => {
                self.entries.insert(object, Entry { dir, name: name.into() });
            }
        }
    }

    /// Returns the names that led from the root to `object`; `None` if that is unknown.
    pub(crate) fn way_to(&self, object: &ObjectId) -> Option<Vec<CString>> {
        let mut names = Vec::new();
        let mut at = object;
        while *at != self.root {
            let entry = self.entries.get(at)?;
            names.push(CString::new(&entry.name[..]).ok()?);
            at = &entry.dir;
            if names.len() > MAX_DEPTH {
                return None;
            }
        }
        names.reverse();
        Some(names)
    }
}
