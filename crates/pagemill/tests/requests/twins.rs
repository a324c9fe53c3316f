//! Requests that the caller's list can serve at once, compared with the long way.
//!
//! Two equal worlds get the same random requests. One gets them for the caller's node, so that a plain
//! request may be served by one copy from the caller's list. The other one names all nodes as a policy:
//! that means the same, but such a request always goes the long way. Results, frames, counters, lists
//! and trace events are compared after every step.

use core::cell::Cell;
use core::mem::MaybeUninit;

use pagemill::accounts::{Account, AccountLimits};
use pagemill::debug::{Event, FaultConfig};
use pagemill::policy::{NodeMask, Policy};
use pagemill::request::{BulkItem, BulkOutcome, Effort};
use pagemill::units::NodeId;
use pagemill::{AllocPages, BulkRequest, Config, Folio, Gfp, Order, Page, PageList};
use pagemill_testkit::{
    Frames, NORMAL, Rng, Traces, World, order, region, set_account, set_cpu, traced,
};

#[derive(Clone, Copy, Debug)]
enum Sink {
    Slots,
    Folios,
    Uninit,
    List,
}

/// A request, without its nodes.
#[derive(Clone, Copy, Debug)]
struct Ask {
    sink: Sink,
    gfp: Gfp,
    effort: Effort,
    is_charged: bool,
    /// How often the stop callback returns false, if there is one.
    patience: Option<u32>,
    nr: usize,
    /// Every which slot is full before; none if zero.
    every: usize,
}

/// An allocator and the pages taken from it.
struct Twin<'w> {
    frames: Frames<'w>,
    account: Account<Frames<'w>>,
    policy: Policy<'static>,
    held: Vec<Page<Frames<'w>>>,
    folios: Vec<Folio<Frames<'w>>>,
}

/// What one step shows.
#[derive(Debug, PartialEq)]
struct Seen {
    outcome: Option<BulkOutcome>,
    /// How often the stop callback was called.
    nr_asked: u32,
    /// Frames that the step handed out, in order.
    pfns: Vec<u64>,
    events: Vec<Event>,
    counters: String,
}

impl<'w> Twin<'w> {
    fn new(world: &'w World, policy: Policy<'static>) -> Self {
        let frames = world.frames();
        let account = Account::open(frames, AccountLimits::NONE).expect("room for one");
        Self { frames, account, policy, held: Vec::new(), folios: Vec::new() }
    }

    /// Runs `body` as one step.
    fn see(
        &mut self,
        traces: Traces,
        body: impl FnOnce(&mut Self) -> Option<(BulkOutcome, u32)>,
    ) -> Seen {
        let (held, folios) = (self.held.len(), self.folios.len());
        let mut outcome = None;
        let mut events = traced(traces, || outcome = body(self));
        // A list that holds too little is looked at twice.
        events.retain(|event| !matches!(event, Event::ListsLocked | Event::ListsUnlocked));
        let pages = self.held.get(held..).unwrap_or_default().iter().map(Page::pfn);
        let blocks = self.folios.get(folios..).unwrap_or_default().iter().map(Folio::pfn);
        let pfns = pages.chain(blocks).map(|pfn| pfn.value()).collect();
        let frames = self.frames;
        let zones: Vec<_> = frames.zone_info().collect();
        let lists: Vec<_> = frames.pcp_info().collect();
        let counters =
            format!("{:?} {zones:?} {lists:?} {:?}", frames.vmstat(), self.account.usage());
        let (outcome, nr_asked) = outcome.map_or((None, 0), |(outcome, nr)| (Some(outcome), nr));
        Seen { outcome, nr_asked, pfns, events, counters }
    }

    fn ask(&mut self, ask: &Ask) -> (BulkOutcome, u32) {
        let nr_asked = Cell::new(0);
        let stop = || {
            nr_asked.set(nr_asked.get() + 1);
            nr_asked.get() > ask.patience.unwrap_or(0)
        };
        let stop: Option<&dyn Fn() -> bool> = ask.patience.is_some().then_some(&stop);
        set_account(ask.gfp.contains(Gfp::ACCOUNT).then(|| self.account.id()));
        let account = ask.is_charged.then(|| self.account.id());
        let Ask { gfp, effort, .. } = *ask;
        let (policy, frames) = (self.policy, self.frames);
        let request = BulkRequest { effort, policy, account, stop, ..BulkRequest::new(gfp) };
        let outcome = match ask.sink {
            Sink::Slots => fill(frames, &request, ask, &mut self.held),
            Sink::Folios => fill(frames, &request, ask, &mut self.folios),
            Sink::Uninit => {
                let mut room: Vec<_> = (0..ask.nr).map(|_| MaybeUninit::uninit()).collect();
                let outcome = frames.bulk_write(&request, &mut room);
                for entry in room.into_iter().take(outcome.new) {
                    // SAFETY: 1. initialised: the first `new` entries are.
                    self.held.push(unsafe { entry.assume_init() });
                }
                outcome
            }
            Sink::List => {
                let mut list = PageList::new(frames);
                let outcome = frames.bulk_list(&request, ask.nr, &mut list);
                self.held.extend(list);
                outcome
            }
        };
        set_account(None);
        (outcome, nr_asked.get())
    }

    /// Frees pages from the end, one by one or together.
    fn free(&mut self, nr: usize, one_by_one: bool) {
        self.folios.truncate(self.folios.len().saturating_sub(nr));
        let pages = self.held.split_off(self.held.len().saturating_sub(nr));
        if one_by_one {
            drop(pages);
        } else {
            let mut slots: Vec<_> = pages.into_iter().map(Some).collect();
            self.frames.release_pages(&mut slots);
        }
    }
}

/// Fills slots of which some hold a page, and takes the new ones out of them.
fn fill<'w, T: BulkItem<Source = Frames<'w>>>(
    frames: Frames<'w>,
    request: &BulkRequest<'_>,
    ask: &Ask,
    held: &mut Vec<T>,
) -> BulkOutcome {
    let mut slots: Vec<Option<T>> = (0..ask.nr).map(|_| None).collect();
    let is_full = |index: usize| ask.every > 0 && index.is_multiple_of(ask.every);
    for index in (0..ask.nr).filter(|&index| is_full(index)) {
        slots[index] = held.pop();
    }
    let before: Vec<bool> = slots.iter().map(Option::is_some).collect();
    let outcome = frames.bulk_fill(request, &mut slots);
    assert_eq!(outcome.populated, slots.iter().flatten().count(), "{ask:?}");
    let (old, new): (Vec<_>, Vec<_>) =
        slots.into_iter().zip(before).partition(|&(_, was_full)| was_full);
    held.extend(old.into_iter().chain(new).filter_map(|(slot, _)| slot));
    outcome
}

fn random_ask(rng: &mut Rng) -> Ask {
    let mut gfp = rng.pick(&[Gfp::KERNEL, Gfp::KERNEL, Gfp::ATOMIC, Gfp::HIGHUSER_MOVABLE]);
    for (percent, flag) in [(10, Gfp::ZERO), (10, Gfp::ACCOUNT), (10, Gfp::THISNODE)] {
        if rng.chance(percent) {
            gfp |= flag;
        }
    }
    // Without the means to stop it, the only thread would wait for itself.
    let patience = rng.chance(30).then(|| u32::try_from(rng.below(3)).expect("small"));
    if patience.is_some() && rng.chance(20) {
        gfp |= Gfp::NOFAIL;
    }
    Ask {
        sink: rng.pick(&[Sink::Slots, Sink::Slots, Sink::Folios, Sink::Uninit, Sink::List]),
        gfp,
        effort: rng.pick(&[Effort::Fast, Effort::TryHard, Effort::AllOrNothing]),
        is_charged: rng.chance(10),
        patience,
        nr: rng.pick(&[0, 1, 1, 2, 7, 16, 64, 65, 600]),
        every: rng.pick(&[0, 0, 1, 2, 5]),
    }
}

/// Plays the same random steps in two worlds of `config`; returns how many requests were complete and
/// how many fell short.
fn play(config: &Config<'_>, seed: u64) -> (usize, usize) {
    let all = (0..8).map(NodeId::new).collect::<Vec<_>>();
    let worlds = [World::new(config), World::new(config)];
    let mut short = Twin::new(&worlds[0], Policy::Local);
    let mut long = Twin::new(&worlds[1], Policy::Bind(NodeMask::of(&all)));
    let mut rng = Rng::new(seed);
    let (mut complete, mut fell_short) = (0, 0);
    for _ in 0..1000 {
        let traces = rng.pick(&[Traces::Events, Traces::Events, Traces::Pages]);
        let (kind, ask) = (rng.below(20), random_ask(&mut rng));
        let (nr, one_by_one) = (rng.pick(&[1, 16, 64, 300]), rng.chance(30));
        let cpu = u32::try_from(rng.below(2)).expect("small");
        let faults = rng.pick(&[FaultConfig::NEVER, FaultConfig::NEVER, FaultConfig::nth(3)]);
        let step = |twin: &mut Twin<'_>| {
            twin.see(traces, |twin| match kind {
                0..10 => Some(twin.ask(&ask)),
                10..18 => {
                    twin.free(nr, one_by_one);
                    None
                }
                18 => {
                    twin.frames.inject_faults(&faults);
                    None
                }
                _ => {
                    set_cpu(cpu);
                    None
                }
            })
        };
        let (one, other) = (step(&mut short), step(&mut long));
        assert_eq!(one, other, "seed {seed}, step {kind}, {ask:?}");
        if let Some(outcome) = one.outcome {
            complete += usize::from(outcome.short.is_none());
            fell_short += usize::from(outcome.short.is_some());
        }
    }
    set_cpu(0);
    (complete, fell_short)
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes: the world is large")]
fn a_request_served_at_once_is_served_as_on_the_long_way() {
    let memory = [region(NORMAL, 1024, 0), region(NORMAL + 1024, 512, 1)];
    let cpu_nodes = [0, 1].map(NodeId::new);
    let two_nodes = Config { cpu_nodes: &cpu_nodes, nr_accounts: 1, ..Config::new(&memory, 2) };
    let one_node = Config { nr_accounts: 1, ..Config::new(&memory[..1], 2) };
    let (mut complete, mut fell_short) = (0, 0);
    for seed in 1..=6 {
        for config in [&one_node, &two_nodes, &Config { page_owner: true, ..one_node }] {
            let (whole, partial) = play(config, seed);
            complete += whole;
            fell_short += partial;
        }
    }
    assert!(complete > 1000 && fell_short > 100, "{complete} {fell_short}");
}

#[test]
fn a_list_of_single_pages_serves_no_request_for_blocks() {
    let world = World::with_memory(1024, 1);
    drop(world.frames().alloc_page(Gfp::KERNEL));
    for wanted in [order(1), Order::ZERO, order(2)] {
        let mut slots = [const { None::<Folio<_>> }; 4];
        let request = BulkRequest { order: wanted, ..BulkRequest::new(Gfp::KERNEL) };
        assert_eq!(world.frames().bulk_fill(&request, &mut slots).new, 4);
        assert!(slots.iter().flatten().all(|folio| folio.order() == wanted), "order {wanted}");
    }
}
