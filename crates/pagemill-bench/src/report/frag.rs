//! Report of `bench frag`, as a table and as JSON.

use core::fmt::{self, Display};

use pagemill::Order;
use pagemill::stats::NR_PAGE_ORDERS;
use pagemill::units::PAGEBLOCK_ORDER;
use serde::Serialize;

use super::json;
use crate::FragExperiment;
use crate::document::COMMIT;
use crate::frag::{BATCH, CHURNED_ONE_IN, KEPT_ONE_IN, Kinds, Life, Look, Step};
use crate::size::Size;

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;
/// 64 KiB.
const ORDER_4: Order = match Order::new(4) {
    Ok(order) => order,
    Err(_) => unreachable!(),
};

/// The contents of both text and JSON.
#[derive(Debug)]
pub struct FragReport {
    arena: Size,
    experiment: FragExperiment,
    lives: Vec<Life>,
}

impl FragReport {
    /// Makes a report on arenas of one size.
    pub fn new(arena: Size, experiment: FragExperiment, lives: Vec<Life>) -> Self {
        Self { arena, experiment, lives }
    }

    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None known: all numbers and texts can be written.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let document = Document {
            schema_version: SCHEMA_VERSION,
            pagemill_version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            command: "bench frag",
            arena_bytes: self.arena.bytes(),
            rounds: self.experiment.rounds,
            seed: self.experiment.seed,
            lives: self.lives.iter().map(JsonLife::of).collect(),
        };
        json::text(&document)
    }

    fn life(&self, kinds: Kinds) -> Option<&Life> {
        self.lives.iter().find(|life| life.kinds == kinds)
    }

    /// Summarises the result in one sentence.
    fn sentence(&self) -> Option<String> {
        let (one, two) = (self.life(Kinds::One)?, self.life(Kinds::Two)?);
        let churned = |step| !matches!(step, Step::Filled | Step::Kept | Step::Emptied);
        let (churn_one, churn_two) = (one.last(churned)?, two.last(churned)?);
        let kept = |life: &Life| life.last(|step| step == Step::Kept).cloned();
        let (kept_one, kept_two) = (kept(one)?, kept(two)?);
        let end = two.last(|step| step == Step::Emptied)?;
        let rounds = match self.experiment.rounds {
            0 => "Without churn".to_owned(),
            1 => "After 1 round of churn".to_owned(),
            nr => format!("After {nr} rounds of churn"),
        };
        Some(format!(
            "{rounds} in a half-full arena {} of the {} blocks of 2 MiB that its free pages could \
             make are whole ({} with two kinds of pages); once 7 pages in 8 are freed it is {} of {} \
             where the rest lie anywhere and {} where kinds are told apart; there is no compaction, so \
             only frees make blocks whole, and with everything returned all {} are.",
            churn_one.nr_allocated,
            churn_one.nr_at_best(PAGEBLOCK_ORDER),
            churn_two.nr_allocated,
            kept_one.nr_allocated,
            kept_one.nr_at_best(PAGEBLOCK_ORDER),
            kept_two.nr_allocated,
            end.nr_allocated,
        ))
    }
}

impl Display for FragReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FragExperiment { rounds, seed } = self.experiment;
        writeln!(f, "arena    {}, {} pages", self.arena, self.arena.nr_pages())?;
        writeln!(
            f,
            "churn    {rounds} rounds: 1 page in {CHURNED_ONE_IN} freed at random and allocated \
             again, one at a"
        )?;
        writeln!(
            f,
            "         time and then {BATCH} at a time; seed {seed}\n\n\
             Pages in use and free; blocks of 2 MiB: at best, if the free pages lay together,\n\
             whole by the books, and allocated all at once; of 64 KiB: at best, and whole.\n\
             Shown are the rounds 1, 2, 4 and so on, and the last."
        )?;
        for life in &self.lives {
            writeln!(f)?;
            match life.kinds {
                Kinds::One => writeln!(f, "all pages of one kind")?,
                Kinds::Two => writeln!(f, "1 page in {KEPT_ONE_IN} unmovable, the others movable")?,
            }
            table(f, life)?;
        }
        self.sentence().map_or(Ok(()), |sentence| writeln!(f, "\n{sentence}"))
    }
}

fn table(f: &mut fmt::Formatter<'_>, life: &Life) -> fmt::Result {
    writeln!(f, "{:18} | {:^17} | {:^23} | {:^15} |", "", "pages", "2 MiB", "64 KiB")?;
    let heads = ["used", "free", "best", "whole", "alloc", "best", "whole"];
    let [used, free, best, whole, alloc, small_best, small_whole] = heads;
    writeln!(
        f,
        "{:18} | {used:>8} {free:>8} | {best:>7} {whole:>7} {alloc:>7} | \
         {small_best:>7} {small_whole:>7} |",
        "after"
    )?;
    let last = life.last(|step| step.round().is_some()).and_then(|look| look.step.round());
    let shown = |round: usize| round.is_power_of_two() || Some(round) == last;
    let mut looks = life.looks.iter().filter(|look| look.step.round().is_none_or(shown));
    looks.try_for_each(|look| {
        let Look { step, nr_used, nr_free, nr_allocated, .. } = look;
        let [best, small_best] = [PAGEBLOCK_ORDER, ORDER_4].map(|order| look.nr_at_best(order));
        let [whole, small_whole] = [PAGEBLOCK_ORDER, ORDER_4].map(|order| look.nr_blocks(order));
        writeln!(
            f,
            "{:18} | {nr_used:>8} {nr_free:>8} | {best:>7} {whole:>7} {nr_allocated:>7} | \
             {small_best:>7} {small_whole:>7} |",
            words(*step)
        )
    })
}

/// Names a step for people.
fn words(step: Step) -> String {
    match step {
        Step::Filled => "filling".to_owned(),
        Step::Halved => "freeing half".to_owned(),
        Step::Single(round) => format!("round {round}, single"),
        Step::Bulk(round) => format!("round {round}, bulk"),
        Step::Kept => format!("freeing {} in {KEPT_ONE_IN}", KEPT_ONE_IN - 1),
        Step::Emptied => "freeing the rest".to_owned(),
    }
}

#[derive(Debug, Serialize)]
struct Document {
    schema_version: u32,
    pagemill_version: &'static str,
    commit: Option<&'static str>,
    command: &'static str,
    arena_bytes: u64,
    rounds: usize,
    seed: u64,
    lives: Vec<JsonLife>,
}

/// All steps of one arena.
#[derive(Debug, Serialize)]
struct JsonLife {
    kinds: &'static str,
    steps: Vec<JsonStep>,
}

/// The state of the arena after one step.
#[derive(Debug, Serialize)]
struct JsonStep {
    step: &'static str,
    round: Option<usize>,
    used_pages: usize,
    free_pages: u64,
    free_blocks: [u64; NR_PAGE_ORDERS],
    blocks_2m_best: u64,
    blocks_2m_whole: u64,
    blocks_2m_allocated: u64,
}

impl JsonLife {
    fn of(life: &Life) -> Self {
        let kinds = match life.kinds {
            Kinds::One => "one",
            Kinds::Two => "two",
        };
        Self { kinds, steps: life.looks.iter().map(JsonStep::of).collect() }
    }
}

impl JsonStep {
    fn of(look: &Look) -> Self {
        let step = match look.step {
            Step::Filled => "filled",
            Step::Halved => "halved",
            Step::Single(_) => "single",
            Step::Bulk(_) => "bulk",
            Step::Kept => "kept",
            Step::Emptied => "emptied",
        };
        Self {
            step,
            round: look.step.round(),
            used_pages: look.nr_used,
            free_pages: look.nr_free,
            free_blocks: look.free_blocks,
            blocks_2m_best: look.nr_at_best(PAGEBLOCK_ORDER),
            blocks_2m_whole: look.nr_blocks(PAGEBLOCK_ORDER),
            blocks_2m_allocated: look.nr_allocated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(step: Step, nr_used: usize, nr_allocated: u64) -> Look {
        let mut free_blocks = [0; NR_PAGE_ORDERS];
        free_blocks[9] = nr_allocated;
        Look { step, nr_used, nr_free: 4096 - nr_used as u64, free_blocks, nr_allocated }
    }

    fn report() -> FragReport {
        let life = |kinds, kept| Life {
            kinds,
            looks: vec![
                look(Step::Filled, 4096, 0),
                look(Step::Halved, 2048, 0),
                look(Step::Bulk(1), 2048, 1),
                look(Step::Kept, 256, kept),
                look(Step::Emptied, 0, 8),
            ],
        };
        let experiment = FragExperiment { rounds: 1, seed: 5 };
        let lives = vec![life(Kinds::One, 2), life(Kinds::Two, 6)];
        FragReport::new(Size::of(16 << 20), experiment, lives)
    }

    #[test]
    fn people_get_two_tables_and_one_sentence() {
        let text = report().to_string();
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('|')).collect();
        assert_eq!(rows.len(), 2 * (2 + 5), "{text}");
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert_eq!(
            text.lines().last().unwrap(),
            "After 1 round of churn in a half-full arena 1 of the 4 blocks of 2 MiB that its free \
             pages could make are whole (1 with two kinds of pages); once 7 pages in 8 are freed it \
             is 2 of 7 where the rest lie anywhere and 6 where kinds are told apart; there is no \
             compaction, so only frees make blocks whole, and with everything returned all 8 are."
        );
    }

    #[test]
    fn programs_get_every_step() {
        let document: serde_json::Value =
            serde_json::from_str(&report().to_json().unwrap()).unwrap();
        assert_eq!(document["command"], "bench frag");
        assert_eq!(document["seed"], 5);
        assert_eq!(document["lives"][1]["kinds"], "two");
        let step = &document["lives"][1]["steps"][2];
        assert_eq!((&step["step"], &step["round"]), (&"bulk".into(), &1.into()));
        assert_eq!(step["blocks_2m_best"], 4);
        assert_eq!(step["free_blocks"][9], 1);
    }
}
