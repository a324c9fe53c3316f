//! Random operations on a tree, and on a naive one in memory: results and contents agree.

use super::*;

type Id = usize;

#[derive(Clone, Debug)]
enum Thing {
    Dir(BTreeMap<String, Id>),
    File(Vec<u8>),
}

/// A tree as simple as can be.
struct Naive {
    things: Vec<Thing>,
}

const ROOT: Id = 0;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Naive {
    fn entries(&mut self, dir: Id) -> NfsResult<&mut BTreeMap<String, Id>> {
        match &mut self.things[dir] {
            Thing::Dir(entries) => Ok(entries),
            Thing::File(_) => Err(NfsStatus::Notdir),
        }
    }

    fn lookup(&mut self, dir: Id, name: &str) -> NfsResult<Id> {
        self.entries(dir)?.get(name).copied().ok_or(NfsStatus::Noent)
    }

    fn make(&mut self, dir: Id, name: &str, thing: Thing) -> NfsResult<Id> {
        let id = self.things.len();
        let entries = self.entries(dir)?;
        if entries.contains_key(name) {
            return Err(NfsStatus::Exist);
        }
        entries.insert(name.to_owned(), id);
        self.things.push(thing);
        Ok(id)
    }

    fn remove(&mut self, dir: Id, name: &str, wants_dir: bool) -> NfsResult<()> {
        let id = self.lookup(dir, name)?;
        match (&self.things[id], wants_dir) {
            (Thing::Dir(_), false) => return Err(NfsStatus::Isdir),
            (Thing::File(_), true) => return Err(NfsStatus::Notdir),
            (Thing::Dir(entries), true) if !entries.is_empty() => return Err(NfsStatus::Notempty),
            _ => {}
        }
        self.entries(dir)?.remove(name);
        Ok(())
    }

    /// Whether `inner` is `outer` or below it.
    fn is_within(&self, inner: Id, outer: Id) -> bool {
        inner == outer
            || match &self.things[outer] {
                Thing::Dir(entries) => entries.values().any(|&id| self.is_within(inner, id)),
                Thing::File(_) => false,
            }
    }

    fn rename(&mut self, (from, name): (Id, &str), (to, new): (Id, &str)) -> NfsResult<()> {
        self.entries(from)?;
        self.entries(to)?;
        let id = self.lookup(from, name)?;
        if self.is_within(to, id) {
            return Err(NfsStatus::Inval);
        }
        if let Ok(over) = self.lookup(to, new) {
            if over == id {
                return Ok(());
            }
            // What would be lost may be on the way to what moves.
            if self.is_within(from, over) {
                return Err(NfsStatus::Notempty);
            }
            match (&self.things[id], &self.things[over]) {
                (Thing::Dir(_), Thing::File(_)) => return Err(NfsStatus::Notdir),
                (Thing::File(_), Thing::Dir(_)) => return Err(NfsStatus::Isdir),
                (Thing::Dir(_), Thing::Dir(entries)) if !entries.is_empty() => {
                    return Err(NfsStatus::Notempty);
                }
                _ => {}
            }
        }
        self.entries(from)?.remove(name);
        self.entries(to)?.insert(new.to_owned(), id);
        Ok(())
    }

    fn link(&mut self, file: Id, dir: Id, name: &str) -> NfsResult<()> {
        self.entries(dir)?;
        if matches!(self.things[file], Thing::Dir(_)) {
            return Err(NfsStatus::Isdir);
        }
        if self.lookup(dir, name).is_ok() {
            return Err(NfsStatus::Exist);
        }
        self.entries(dir)?.insert(name.to_owned(), file);
        Ok(())
    }

    fn write(&mut self, file: Id, offset: usize, bytes: &[u8]) -> NfsResult<usize> {
        match &mut self.things[file] {
            Thing::Dir(_) => Err(NfsStatus::Isdir),
            Thing::File(content) => {
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn resize(&mut self, file: Id, size: usize) -> NfsResult<()> {
        match &mut self.things[file] {
            Thing::Dir(_) => Err(NfsStatus::Isdir),
            Thing::File(content) => {
                content.resize(size, 0);
                Ok(())
            }
        }
    }
}

/// The smallest generator that will do.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }
}

/// Both trees, and which file is which thing.
struct Pair {
    world: World,
    naive: Naive,
    files: BTreeMap<Id, Object>,
}

impl Pair {
    /// Returns the things that are still in the tree.
    fn alive(&self) -> Vec<Id> {
        self.files.keys().copied().filter(|&id| self.naive.is_within(id, ROOT)).collect()
    }

    fn made(&mut self, expected: NfsResult<Id>, made: NfsResult<Object>) {
        match (expected, made) {
            (Ok(id), Ok(object)) => {
                self.files.insert(id, object);
            }
            (expected, made) => assert_eq!(expected.err(), made.err()),
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let alive = self.alive();
        let mut any = || alive[rng.below(alive.len())];
        let (one, two) = (any(), any());
        let (a, b) = (self.files[&one].clone(), self.files[&two].clone());
        let (x, y) = (rng.name(), rng.name());
        let (nx, ny) = (name(x), name(y));
        let vfs = &self.world.vfs;
        match rng.below(9) {
            0 => {
                let made = vfs.create(&a, &nx, &HowToCreate::Guarded(Sattr::default())).result;
                let expected = self.naive.make(one, x, Thing::File(Vec::new()));
                self.made(expected, made);
            }
            1 => {
                let made = vfs.mkdir(&a, &nx, &Sattr::default()).result;
                let expected = self.naive.make(one, x, Thing::Dir(BTreeMap::new()));
                self.made(expected, made);
            }
            2 => assert_eq!(vfs.remove(&a, &nx).result, self.naive.remove(one, x, false)),
            3 => assert_eq!(vfs.rmdir(&a, &nx).result, self.naive.remove(one, x, true)),
            4 | 5 => {
                let expected = self.naive.rename((one, x), (two, y));
                assert_eq!(vfs.rename((&a, &nx), (&b, &ny)).0.result, expected, "{x} {y}");
            }
            6 => assert_eq!(vfs.link(&a, &b, &nx).result, self.naive.link(one, two, x)),
            7 => {
                let (offset, byte) = (rng.below(100), u8::try_from(rng.below(256)).unwrap());
                let bytes = vec![byte; rng.below(50)];
                // Nothing written at an offset beyond the end leaves the size alone.
                let written = self.world.write(&a, offset as u64, &bytes);
                let offset = if bytes.is_empty() { 0 } else { offset };
                assert_eq!(written, self.naive.write(one, offset, &bytes));
            }
            _ => {
                let size = rng.below(100);
                let sattr = Sattr { size: Some(size as u64), ..Sattr::default() };
                let result = vfs.setattr(&a, &sattr, None).result;
                assert_eq!(result, self.naive.resize(one, size));
            }
        }
    }

    /// Compares everything that is in the two trees.
    fn check(&mut self) {
        for id in self.alive() {
            let object = self.files[&id].clone();
            match self.naive.things[id].clone() {
                Thing::File(content) => {
                    assert_eq!(self.world.read_all(&object), content);
                    assert_eq!(self.world.vfs.attr(&object).unwrap().size, content.len() as u64);
                }
                Thing::Dir(entries) => {
                    let names: Vec<_> = entries.keys().cloned().collect();
                    assert_eq!(self.world.names(&object), names);
                    for (text, id) in entries {
                        let found = self.world.vfs.lookup(&object, &name(&text)).unwrap();
                        assert_eq!(found.fh(), self.files[&id].fh());
                    }
                }
            }
        }
        for (id, object) in &self.files {
            if !self.naive.is_within(*id, ROOT) {
                let gone = resolve_patiently(&self.world.vfs, object.fh());
                let gone = gone.and_then(|object| self.world.vfs.attr(&object));
                assert_eq!(gone.unwrap_err(), NfsStatus::Stale);
            }
        }
        self.files.retain(|id, _| self.naive.is_within(*id, ROOT));
    }
}

#[test]
fn random_changes_end_in_the_same_tree() {
    let seeds = match std::env::var("PAGEMILL_SEED") {
        Ok(seed) => vec![seed.parse().expect("PAGEMILL_SEED is a number")],
        Err(_) => (1..=12).collect(),
    };
    for seed in seeds {
        let world = World::server();
        let naive = Naive { things: vec![Thing::Dir(BTreeMap::new())] };
        let files = BTreeMap::from([(ROOT, world.root())]);
        let mut pair = Pair { world, naive, files };
        let mut rng = Rng(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for _ in 0..40 {
            for _ in 0..10 {
                pair.step(&mut rng);
            }
            pair.check();
        }
    }
}
