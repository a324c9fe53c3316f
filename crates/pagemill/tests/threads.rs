//! Threads that allocate, hand pages to each other and free what others allocated.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use pagemill::handles::{SharedPage, free_pages_bulk};
use pagemill::units::NodeId;
use pagemill::{AllocPages, Config, Gfp, Page, PageList};
use pagemill_testkit::{Frames, NORMAL, Rng, Slots, World, order, region, set_cpu};

const NR_THREADS: u32 = 4;
const STEPS: usize = if cfg!(miri) { 10 } else { 100_000 };

/// What threads send to each other.
enum Parcel<'w> {
    Slots(Slots<'w>),
    List(PageList<Page<Frames<'w>>>),
    Shared(SharedPage<Frames<'w>>),
}

struct Worker<'w> {
    frames: Frames<'w>,
    rng: Rng,
    peers: Vec<Sender<Parcel<'w>>>,
    inbox: Receiver<Parcel<'w>>,
    /// Pages that this thread was given so far.
    nr_allocated: usize,
    kept: Vec<Page<Frames<'w>>>,
}

impl<'w> Worker<'w> {
    fn run(mut self, cpu: u32) -> usize {
        for _ in 0..STEPS {
            // Now and then two threads are on one CPU.
            set_cpu(if self.rng.chance(10) { 0 } else { cpu });
            self.step();
            while let Ok(parcel) = self.inbox.try_recv() {
                self.open(parcel);
            }
        }
        self.kept.clear();
        let Self { peers, inbox, frames, nr_allocated, .. } = self;
        drop(peers);
        for parcel in inbox {
            open(frames, parcel);
        }
        nr_allocated
    }

    fn step(&mut self) {
        let gfp = self.rng.pick(&[Gfp::KERNEL, Gfp::ATOMIC, Gfp::HIGHUSER_MOVABLE]);
        match self.rng.below(8) {
            0 | 1 => self.single(gfp),
            2 | 3 => {
                let mut slots: Slots<'w> = Vec::new();
                slots.resize_with(self.rng.below(200), || None);
                let filled = self.frames.alloc_pages_bulk(gfp, &mut slots);
                self.nr_allocated += filled;
                self.send(Parcel::Slots(slots));
            }
            4 => {
                let mut list = PageList::new(self.frames);
                let nr = self.rng.below(100);
                self.nr_allocated += self.frames.alloc_pages_bulk_list(gfp, nr, &mut list);
                self.send(Parcel::List(list));
            }
            5 => {
                let order = order(u8::try_from(self.rng.below(5)).expect("small"));
                if let Some(block) = self.frames.alloc_pages(gfp, order) {
                    self.nr_allocated += order.nr_pages();
                    self.kept.extend(block.split());
                }
            }
            6 => {
                if let Some(page) = self.kept.pop() {
                    let page = page.share();
                    for _ in 0..self.rng.below(4) {
                        self.send(Parcel::Shared(page.clone()));
                    }
                }
            }
            _ if self.rng.chance(5) => drop(self.frames.drain_all_pages()),
            _ => {
                let rest = self.kept.len() - self.rng.below(self.kept.len() + 1);
                let mut slots: Slots<'w> = self.kept.drain(rest..).map(Some).collect();
                self.frames.release_pages(&mut slots);
            }
        }
    }

    fn single(&mut self, gfp: Gfp) {
        if let Some(page) = self.frames.alloc_page(gfp) {
            self.nr_allocated += 1;
            self.kept.push(page);
        }
        self.kept.truncate(300);
    }

    fn send(&mut self, parcel: Parcel<'w>) {
        let to = self.rng.below(self.peers.len());
        // Who has stopped listening frees it by dropping it.
        let _undelivered = self.peers[to].send(parcel);
    }

    fn open(&mut self, parcel: Parcel<'w>) {
        match parcel {
            Parcel::Slots(mut slots) if self.rng.chance(30) => {
                let first_hole = slots.iter().take_while(|slot| slot.is_some()).count();
                let filled = self.frames.alloc_pages_bulk(Gfp::NOWAIT, &mut slots);
                self.nr_allocated += filled - first_hole;
                open(self.frames, Parcel::Slots(slots));
            }
            parcel => open(self.frames, parcel),
        }
    }
}

fn open(frames: Frames<'_>, parcel: Parcel<'_>) {
    match parcel {
        Parcel::Slots(mut slots) => {
            let nr = slots.iter().flatten().count();
            assert_eq!(frames.release_pages(&mut slots), nr);
        }
        Parcel::List(mut list) => {
            let nr = list.len();
            assert_eq!(free_pages_bulk(&mut list), nr);
        }
        Parcel::Shared(page) => match page.try_unshare() {
            Ok(page) => drop(page),
            Err(shared) => drop(shared),
        },
    }
}

fn hand_over(config: &Config<'_>, seed: u64) {
    let world = World::new(config);
    let frames = world.frames();
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..NR_THREADS).map(|_| channel()).unzip();
    let nr_allocated: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..NR_THREADS)
            .zip(inboxes)
            .map(|(cpu, inbox)| {
                let worker = Worker {
                    frames,
                    rng: Rng::new(seed + u64::from(cpu)),
                    peers: senders.clone(),
                    inbox,
                    nr_allocated: 0,
                    kept: Vec::new(),
                };
                scope.spawn(move || worker.run(cpu))
            })
            .collect();
        drop(senders);
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    let stat = frames.vmstat();
    assert_eq!(stat.pgalloc.iter().sum::<u64>(), nr_allocated as u64, "seed {seed}");
    assert_eq!(stat.pgfree, nr_allocated as u64, "seed {seed}");
    assert_eq!(stat.numa_miss, stat.numa_foreign);
    assert_eq!(stat.numa_hit + stat.numa_miss, stat.numa_local + stat.numa_other);
    // That all came back, and in blocks as large as at the start, the world itself checks.
}

#[test]
fn pages_wander_between_threads() {
    let memory = [region(NORMAL, 8192, 0)];
    for shards in [1, 4] {
        let nr_zone_shards = Some(shards);
        hand_over(&Config { nr_zone_shards, ..Config::new(&memory, NR_THREADS) }, 1);
    }
}

#[test]
fn pages_wander_between_threads_with_little_memory_on_two_nodes() {
    let memory = [region(NORMAL, 512, 0), region(NORMAL + 512, 512, 1)];
    let cpu_nodes = [0, 0, 1, 1].map(NodeId::new);
    let pcp_high = Some(8);
    hand_over(&Config { cpu_nodes: &cpu_nodes, pcp_high, ..Config::new(&memory, NR_THREADS) }, 2);
}
