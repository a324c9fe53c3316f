//! Location table: where files were last seen, for a process that cannot open files by handle.
//!
//! Its entries are hints. A caller that opens a file by it compares the file's lasting name with the
//! one looked for, and searches the whole export if they differ.

use alloc::ffi::CString;
use std::collections::HashMap;

use crate::protocol::fh::ObjectId;

/// Maximum number of files that are remembered.
pub(crate) const MAX_NR_ENTRIES: usize = 1 << 20;
/// Maximum number of folders between an export's root and a file.
pub(crate) const MAX_DEPTH: usize = 1024;

/// A tree of names, from each file up to the folder that it was seen in.
///
/// When half of the room is full, entries that have not been used since the last time are dropped. A
/// file that is used stays, with the folders that lead to it.
#[derive(Debug)]
pub(crate) struct Table {
    root: ObjectId,
    /// Entries used since the last time.
    recent: HashMap<ObjectId, Entry>,
    /// Entries not used since.
    old: HashMap<ObjectId, Entry>,
    max_nr_recent: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    dir: ObjectId,
    name: Box<[u8]>,
}

impl Table {
    /// Makes a table with only the root.
    pub(crate) fn with_room(root: ObjectId, max_nr_entries: usize) -> Self {
        let max_nr_recent = max_nr_entries.div_ceil(2);
        Self { root, recent: HashMap::new(), old: HashMap::new(), max_nr_recent }
    }

    /// Records that `object` is `name` in `dir`, wherever it was before.
    pub(crate) fn insert(&mut self, object: ObjectId, dir: ObjectId, name: &[u8]) {
        if object == self.root {
            return;
        }
        self.refresh(&dir);
        let known = self.recent.get(&object);
        if known.is_some_and(|entry| entry.dir == dir && *entry.name == *name) {
            return;
        }
        self.old.remove(&object);
        self.put(object, Entry { dir, name: name.into() });
    }

    /// Records the location of a file that no client has asked for, if there is room for it.
    pub(crate) fn insert_if_room(&mut self, object: ObjectId, dir: ObjectId, name: &[u8]) {
        let is_known = self.recent.contains_key(&object) || self.old.contains_key(&object);
        if is_known || self.recent.len() + 1 < self.max_nr_recent {
            self.insert(object, dir, name);
        }
    }

    /// Returns the names on the way from the root to `object`; `None` if unknown.
    pub(crate) fn way_to(&mut self, object: &ObjectId) -> Option<Vec<CString>> {
        let mut names = Vec::new();
        let mut at = *object;
        while at != self.root {
            let entry = self.refresh(&at)?;
            names.push(CString::new(&entry.name[..]).ok()?);
            at = entry.dir;
            if names.len() > MAX_DEPTH {
                return None;
            }
        }
        names.reverse();
        Some(names)
    }

    /// Returns the entry of a file and marks it as used.
    fn refresh(&mut self, object: &ObjectId) -> Option<&Entry> {
        if let Some(entry) = self.old.remove(object) {
            self.put(*object, entry);
        }
        self.recent.get(object)
    }

    fn put(&mut self, object: ObjectId, entry: Entry) {
        if self.recent.len() >= self.max_nr_recent && !self.recent.contains_key(&object) {
            self.old = core::mem::take(&mut self.recent);
        }
        self.recent.insert(object, entry);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.recent.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: u32) -> ObjectId {
        ObjectId::new(0, 1, &number.to_be_bytes()).unwrap()
    }

    /// A table with room for 100, a file in a folder in a folder, and its names.
    fn deep() -> (Table, ObjectId, Option<Vec<CString>>) {
        let mut table = Table::with_room(object(0), 100);
        table.insert(object(1), object(0), b"a");
        table.insert(object(2), object(1), b"b");
        table.insert(object(3), object(2), b"c");
        let names = table.way_to(&object(3));
        assert_eq!(names, Some([c"a", c"b", c"c"].map(CString::from).to_vec()));
        (table, object(3), names)
    }

    #[test]
    fn what_is_used_is_not_forgotten_however_many_others_come() {
        let (mut table, file, names) = deep();
        for number in 10..10_000 {
            table.insert(object(number), object(0), b"x");
            assert!(table.len() <= 100);
            if number % 40 == 0 {
                assert_eq!(table.way_to(&file), names, "after {number}");
            }
        }
        assert_eq!(table.way_to(&object(10)), None, "it was not used");
    }

    #[test]
    fn the_folders_of_new_files_are_not_forgotten() {
        let (mut table, ..) = deep();
        for number in 10..10_000 {
            table.insert(object(number), object(2), b"x");
            let names = table.way_to(&object(number)).unwrap();
            assert_eq!(names, [c"a", c"b", c"x"].map(CString::from).to_vec());
        }
    }

    #[test]
    fn a_file_that_no_client_asked_for_displaces_none() {
        let (mut table, file, names) = deep();
        for number in 10..10_000 {
            table.insert_if_room(object(number), object(0), b"x");
        }
        assert_eq!(table.way_to(&file), names);
        assert!(table.way_to(&object(10)).is_some(), "there was room for it");
        assert!(table.way_to(&object(9_999)).is_none());
    }

    #[test]
    fn a_file_that_moved_is_where_it_was_seen_last() {
        let (mut table, file, _) = deep();
        table.insert(file, object(1), b"moved");
        let names = [c"a", c"moved"].map(CString::from).to_vec();
        assert_eq!(table.way_to(&file), Some(names));
    }
}
