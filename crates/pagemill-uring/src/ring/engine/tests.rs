//! The engine over a kernel that the tests play, compared with a naive account of every page.

use alloc::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;

use pagemill::AllocPages;
use pagemill::units::PAGE_SIZE;
use pagemill_host::{HostAllocator, SharedAllocator};

use super::*;
use crate::pages::supply::{AllocatorSupply, Refill};
use crate::random::Random;

type Page = pagemill::Page<SharedAllocator>;
type Ring = Engine<AllocatorSupply<SharedAllocator>, Mock>;

/// A kernel whose completions are random, or chosen by the test.
struct Mock {
    /// Whether there are only those completions that the test adds.
    is_quiet: bool,
    random: Random,
    nr_slots: usize,
    posted: VecDeque<Page>,
    /// Receive and accept requests, and how many bytes each connection got.
    receives: BTreeMap<u64, ()>,
    accepts: BTreeMap<u64, ()>,
    bytes: HashMap<u64, u64>,
    sends: BTreeMap<u64, Parcel<Page>>,
    completions: VecDeque<Completion<Page>>,
}

impl Mock {
    fn new(seed: u64, nr_slots: usize) -> Self {
        Self {
            is_quiet: false,
            random: Random(seed),
            nr_slots,
            posted: VecDeque::new(),
            receives: BTreeMap::new(),
            accepts: BTreeMap::new(),
            bytes: HashMap::new(),
            sends: BTreeMap::new(),
            completions: VecDeque::new(),
        }
    }

    fn any<T>(random: &mut Random, map: &BTreeMap<u64, T>) -> Option<u64> {
        let nr = map.len();
        (nr > 0).then(|| map.keys().nth(random.below(nr)).copied()).flatten()
    }

    /// Returns the number of pages in completions that the ring has not seen: that arrived, and were sent.
    fn in_completions(&self) -> (usize, usize) {
        self.completions.iter().fold((0, 0), |(arrived, sent), completion| match completion {
            Completion::Received { pages, .. } => (arrived + pages.len(), sent),
            Completion::Sent { parcel, .. } => (arrived, sent + parcel.nr_pages()),
            _ => (arrived, sent),
        })
    }

    /// Ends a receive request.
    fn end_receive(&mut self, number: u64, error: Option<i32>) {
        if self.receives.remove(&number).is_some() {
            let error = error.map(OsError::from_raw);
            self.completions.push_back(Completion::ReceiveEnded { number, error });
        }
    }

    /// Delivers some pages, whose bytes are their places in the stream.
    fn deliver(&mut self, number: u64) {
        let nr = self.random.below(4) + 1;
        if self.posted.is_empty() {
            return self.end_receive(number, Some(libc::ENOBUFS));
        }
        let (mut pages, mut len) = (Vec::new(), 0);
        for _ in 0..nr {
            let Some(mut page) = self.posted.pop_front() else { break };
            // Now and then, a page in the middle is short.
            let filled = if self.random.below(4) == 0 {
                self.random.below(PAGE_SIZE) + 1
            } else {
                PAGE_SIZE
            };
            let place = self.bytes.entry(number).or_default();
            page.as_bytes_mut()[..8.min(filled)]
                .copy_from_slice(&place.to_le_bytes()[..8.min(filled)]);
            *place += filled as u64;
            len += filled;
            pages.push(FilledPage::new(page, u32::try_from(filled).unwrap()));
        }
        let has_more = self.random.below(3) > 0;
        if !has_more {
            self.receives.remove(&number);
        }
        self.completions.push_back(Completion::Received { number, pages, len, has_more });
    }

    fn receive_something(&mut self) {
        let Some(number) = Self::any(&mut self.random, &self.receives) else { return };
        match self.random.below(12) {
            0 => self.end_receive(number, None),
            1 => self.end_receive(number, Some(libc::ECONNRESET)),
            2 => self.end_receive(number, Some(libc::EINTR)),
            3 => self.end_receive(number, Some(libc::ENOBUFS)),
            _ => self.deliver(number),
        }
    }

    fn send_something(&mut self) {
        let Some(number) = Self::any(&mut self.random, &self.sends) else { return };
        let Some(parcel) = self.sends.remove(&number) else { return };
        let result = match self.random.below(6) {
            0 => Err(OsError::from_raw(libc::EPIPE)),
            1 | 2 => Ok(self.random.below(parcel.len() + 1)),
            _ => Ok(parcel.len()),
        };
        self.completions.push_back(Completion::Sent { number, parcel, result });
    }

    fn accept_something(&mut self) {
        let Some(number) = Self::any(&mut self.random, &self.accepts) else { return };
        match self.random.below(4) {
            0 => {
                self.accepts.remove(&number);
                let error = OsError::from_raw(libc::ECONNABORTED);
                self.completions.push_back(Completion::AcceptEnded { number, error });
            }
            _ => self.completions.push_back(Completion::Accepted {
                number,
                socket: socket(),
                has_more: true,
            }),
        }
    }
}

impl Port<Page> for Mock {
    fn nr_posted(&self) -> usize {
        self.posted.len()
    }

    fn room(&self) -> usize {
        self.nr_slots - self.posted.len()
    }

    fn post(&mut self, pages: &mut Vec<Page>) {
        let room = self.room().min(pages.len());
        self.posted.extend(pages.drain(pages.len() - room..));
    }

    fn receive(&mut self, number: u64, _socket: BorrowedFd<'_>) -> Result<(), UringError> {
        assert!(self.receives.insert(number, ()).is_none(), "two requests for {number}");
        Ok(())
    }

    fn accept(&mut self, number: u64, _socket: BorrowedFd<'_>) -> Result<(), UringError> {
        assert!(self.accepts.insert(number, ()).is_none(), "two requests for {number}");
        Ok(())
    }

    fn send(
        &mut self,
        number: u64,
        _socket: BorrowedFd<'_>,
        parcel: Parcel<Page>,
    ) -> Result<(), UringError> {
        assert_eq!(parcel.pieces().map(<[u8]>::len).sum::<usize>(), parcel.len());
        assert!(self.sends.insert(number, parcel).is_none(), "two sends for {number}");
        Ok(())
    }

    fn cancel(&mut self, number: u64, what: Cancelled) -> Result<(), UringError> {
        match what {
            Cancelled::Receive => self.end_receive(number, Some(libc::ECANCELED)),
            Cancelled::Accept => {
                if self.accepts.remove(&number).is_some() {
                    let error = OsError::from_raw(libc::ECANCELED);
                    self.completions.push_back(Completion::AcceptEnded { number, error });
                }
            }
            Cancelled::Send => {
                if let Some(parcel) = self.sends.remove(&number) {
                    let result = Err(OsError::from_raw(libc::ECANCELED));
                    self.completions.push_back(Completion::Sent { number, parcel, result });
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> Result<(), UringError> {
        let nr = if self.is_quiet { 0 } else { self.random.below(4) };
        for _ in 0..nr {
            match self.random.below(6) {
                0 | 1 => self.send_something(),
                2 => self.accept_something(),
                _ => self.receive_something(),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Completion<Page>>, UringError> {
        Ok(self.completions.pop_front())
    }

    fn keep_vec(&mut self, _pages: Vec<FilledPage<Page>>) {}

    fn nr_overflows(&self) -> u64 {
        0
    }

    fn has_bundles(&self) -> bool {
        true
    }

    fn shut(&mut self, _patience: Duration, pages: &mut Vec<Page>) -> Result<(), usize> {
        self.sends.clear();
        self.completions.clear();
        pages.extend(self.posted.drain(..));
        Ok(())
    }
}

fn socket() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn frames(len_bytes: u64) -> SharedAllocator {
    SharedAllocator::new(HostAllocator::new(len_bytes).unwrap())
}

fn ring(frames: &SharedAllocator, seed: u64, nr_slots: usize, config: &ReceiveConfig) -> Ring {
    let supply = AllocatorSupply::new(frames.clone(), Refill::Bulk);
    Engine::new(Mock::new(seed, nr_slots), supply, config)
}

/// What the test knows about a connection.
#[derive(Default)]
struct Known {
    /// Where the stream goes on.
    place: u64,
    is_listener: bool,
    has_ended: bool,
    is_closing: bool,
}

/// A ring, and everything that a user of it knows.
struct World {
    frames: SharedAllocator,
    nr_free: u64,
    ring: Ring,
    random: Random,
    known: HashMap<ConnectionId, Known>,
    kept: Vec<Received<Page>>,
    /// Pages that leave the allocator without any for the ring.
    hog: Vec<Page>,
    config: ReceiveConfig,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5eed);
        let frames = frames(4 << 20);
        let config = ReceiveConfig {
            nr_connections_max: 8,
            nr_held_max: random.below(200) + 1,
            nr_held_per_connection_max: random.below(60) + 1,
            ..ReceiveConfig::new()
        };
        let ring = ring(&frames, seed, 1 << random.below(7), &config);
        let nr_free = frames.nr_free_pages();
        Self {
            frames,
            nr_free,
            ring,
            random,
            known: HashMap::new(),
            kept: Vec::new(),
            hog: Vec::new(),
            config,
        }
    }

    fn any(&mut self) -> Option<ConnectionId> {
        let mut ids: Vec<_> = self.known.keys().copied().collect();
        ids.sort_by_key(|id| id.to_number());
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len())])
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0 => self.add(),
            1 => self.close(),
            2 => self.kept.truncate(self.kept.len() / 2),
            3 => self.send(),
            4 => self.starve(),
            _ => self.wait(),
        }
        self.note_all();
        self.check();
    }

    fn add(&mut self) {
        let is_listener = self.random.below(5) == 0;
        let added = if is_listener { self.ring.listen(socket()) } else { self.ring.add(socket()) };
        let nr = u32::try_from(self.known.len()).unwrap();
        assert_eq!(added.is_ok(), nr < self.config.nr_connections_max);
        if let Ok(id) = added {
            self.known.insert(id, Known { is_listener, ..Known::default() });
        }
    }

    fn close(&mut self) {
        let Some(id) = self.any() else { return };
        let how = if self.random.below(2) == 0 { Closing::AtOnce } else { Closing::WhenSent };
        self.ring.close(id, how).unwrap();
        self.known.get_mut(&id).unwrap().is_closing = true;
    }

    fn send(&mut self) {
        let (Some(id), Some(received)) = (self.any(), self.kept.pop()) else { return };
        let known = &self.known[&id];
        let expected = !known.is_listener && !known.is_closing;
        assert_eq!(self.ring.send(id, received).is_ok(), expected);
    }

    /// Takes all pages from the allocator, or lets most of them go.
    fn starve(&mut self) {
        let left = self.random.below(2 * self.hog.len() + 2);
        if left < self.hog.len() {
            self.hog.truncate(left);
        } else {
            let page = || self.frames.clone().alloc_page(pagemill::Gfp::ATOMIC);
            self.hog.extend(core::iter::from_fn(page));
        }
    }

    fn wait(&mut self) {
        self.ring.wait(Some(Duration::ZERO)).unwrap();
        self.note_all();
    }

    fn note_all(&mut self) {
        while let Some(event) = self.ring.next_event() {
            self.note(event);
        }
    }

    fn note(&mut self, event: Event<Page>) {
        match event {
            Event::Data { connection, received } => {
                let known = self.known.get_mut(&connection).unwrap();
                assert!(!known.has_ended && !known.is_listener);
                for piece in received.pieces() {
                    let nr = piece.len().min(8);
                    assert_eq!(piece[..nr], known.place.to_le_bytes()[..nr], "{connection}");
                    known.place += piece.len() as u64;
                }
                match self.random.below(3) {
                    0 => self.ring.put(received),
                    1 => drop(received),
                    _ => self.kept.push(received),
                }
            }
            Event::End { connection } => {
                assert!(!core::mem::replace(
                    &mut self.known.get_mut(&connection).unwrap().has_ended,
                    true
                ));
            }
            Event::Error { connection, .. } => assert!(self.known.contains_key(&connection)),
            Event::Accepted { listener, connection } => {
                assert!(self.known[&listener].is_listener);
                assert!(self.known.insert(connection, Known::default()).is_none());
            }
            Event::Closed { connection } => {
                assert!(self.known.remove(&connection).unwrap().is_closing);
                assert_eq!(
                    self.ring.close(connection, Closing::AtOnce),
                    Err(UringError::NoConnection)
                );
            }
        }
    }

    /// Every page is free, with the kernel, held or kept between supply and port.
    fn check(&self) {
        let stats = self.ring.stats();
        let kept: usize = self.kept.iter().map(Received::nr_pages).sum();
        let (arrived, sent) = self.ring.port.in_completions();
        let sending: usize = self.ring.port.sends.values().map(Parcel::nr_pages).sum();
        let held = kept + sent + sending + self.ring.nr_pages_unsent();
        assert_eq!(stats.nr_held, held, "{stats:?}");
        assert!(held <= self.config.nr_held_max + self.ring.port.nr_slots);
        let out = held + arrived + stats.nr_posted + self.ring.pages.len();
        assert_eq!(self.frames.nr_free_pages() + (out + self.hog.len()) as u64, self.nr_free);
        assert_eq!(stats.nr_connections, self.known.len());
    }
}

impl Ring {
    /// Returns the number of pages that wait to be sent.
    fn nr_pages_unsent(&self) -> usize {
        self.connections.all().map(|connection| connection.unsent.nr_pages()).sum()
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a random test tells its seed")]
fn random_use_and_faults_lose_no_page_no_byte_and_no_connection() {
    for seed in 1..=150 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        // In the end, everything is closed and comes back.
        let ids: Vec<_> = world.known.keys().copied().collect();
        for id in ids {
            world.ring.close(id, Closing::AtOnce).unwrap();
            world.known.get_mut(&id).unwrap().is_closing = true;
        }
        world.kept.clear();
        world.hog.clear();
        while !world.known.is_empty() {
            world.wait();
            world.check();
        }
        let World { frames, nr_free, ring, .. } = world;
        assert_eq!(ring.shut(Duration::ZERO).1, Ok(()));
        assert_eq!(frames.nr_free_pages(), nr_free, "seed {seed}");
    }
}

#[test]
fn a_ring_can_be_shut_in_any_state() {
    for seed in 1000..1100 {
        let mut world = World::new(seed);
        for _ in 0..seed % 90 {
            world.step();
        }
        let World { frames, nr_free, ring, kept, hog, .. } = world;
        assert_eq!(ring.shut(Duration::ZERO).1, Ok(()));
        drop((kept, hog));
        assert_eq!(frames.nr_free_pages(), nr_free, "seed {seed}");
    }
}

#[test]
fn completions_of_unknown_connections_stop_the_ring() {
    let frames = frames(4 << 20);
    let nr_free = frames.nr_free_pages();
    let stray = |completion| {
        let mut ring = ring(&frames, 1, 4, &ReceiveConfig::new());
        ring.port.is_quiet = true;
        ring.add(socket()).unwrap();
        ring.port.completions.push_back(completion);
        let broken = ring.wait(Some(Duration::ZERO)).unwrap_err();
        assert!(matches!(broken, UringError::Broken { .. }), "{broken}");
    };
    let error = OsError::from_raw(libc::EPIPE);
    stray(Completion::ReceiveEnded { number: 1, error: None });
    stray(Completion::ReceiveEnded { number: 1 << 24, error: None });
    stray(Completion::AcceptEnded { number: u64::MAX, error });
    stray(Completion::Accepted { number: 5, socket: socket(), has_more: true });
    // A connection that exists, and did not send.
    stray(Completion::Sent { number: 0, parcel: Parcel::new(), result: Ok(0) });
    assert_eq!(frames.nr_free_pages(), nr_free);
}

#[test]
fn a_supply_without_pages_starves_connections_until_it_has_some() {
    let frames = frames(4 << 20);
    let all: Vec<_> =
        core::iter::from_fn(|| frames.clone().alloc_page(pagemill::Gfp::ATOMIC)).collect();
    let mut ring = ring(&frames, 1, 4, &ReceiveConfig::new());
    ring.port.is_quiet = true;
    let id = ring.add(socket()).unwrap();
    ring.port.end_receive(id.to_number(), Some(libc::ENOBUFS));
    assert_eq!(ring.wait(Some(Duration::ZERO)), Ok(0));
    assert_eq!(ring.wait(Some(Duration::ZERO)), Ok(0));
    let stats = ring.stats();
    assert!(stats.nr_short > 0 && stats.nr_starved >= 1, "{stats:?}");
    assert_eq!((stats.nr_posted, ring.port.receives.len()), (0, 0));
    drop(all);
    assert_eq!(ring.wait(Some(Duration::ZERO)), Ok(0));
    assert_eq!((ring.stats().nr_posted, ring.port.receives.len()), (4, 1));
}
