//! Report of `bench rpc` (the refill of a request's pages), as a table and as JSON.

use core::fmt::{self, Display};

use serde::Serialize;

use super::context::Context;
use super::json::{self, JsonHead, JsonSpread};
use crate::refill::{RefillRow, WAYS};
use crate::{RefillExperiment, Spread};

/// Version of the JSON schema; raised when a field is renamed or removed.
const SCHEMA_VERSION: u32 = 1;

/// The contents of both text and JSON.
#[derive(Debug)]
pub struct RefillReport {
    /// The circumstances.
    pub context: Context<RefillExperiment>,
    /// Maximum bytes of data in a request.
    pub payload_bytes: usize,
    /// The results.
    pub rows: Vec<RefillRow>,
}

impl RefillReport {
    /// Returns everything as JSON.
    ///
    /// # Errors
    /// None known: all numbers and texts can be written.
    pub fn to_json(&self) -> anyhow::Result<String> {
        let experiment = &self.context.experiment;
        let document = Document {
            head: JsonHead::of(&self.context, SCHEMA_VERSION, "bench rpc"),
            runs: experiment.runs,
            rounds: experiment.rounds,
            payload_bytes: self.payload_bytes,
            nr_slots: experiment.nr_slots,
            rows: self.rows.iter().flat_map(json_rows).collect(),
        };
        json::text(&document)
    }

    /// Summarises the result in one sentence.
    fn sentence(&self) -> Option<String> {
        let all = self.context.experiment.nr_slots;
        let fresh = self.rows.iter().find(|row| row.consumed.is_none())?;
        let used = self.rows.iter().find(|row| row.consumed == Some(all)).unwrap_or(fresh);
        let [single, bulk, _] = used.us.each_ref().map(|us| us.median);
        let least =
            self.rows.iter().filter(|row| row.consumed.is_some()).min_by_key(|row| row.consumed)?;
        let [_, scanned, hinted] = least.us.each_ref().map(|us| us.median);
        Some(format!(
            "On this machine the {all} pages of a request take {single:.2} us one at a time and \
             {bulk:.2} us in bulk, which saves {:.0} %; where {} page{} went, looking only there \
             takes {hinted:.3} us instead of {scanned:.3} us.",
            100.0 * (1.0 - bulk / single),
            least.consumed.unwrap_or_default(),
            if least.consumed == Some(1) { "" } else { "s" },
        ))
    }
}

impl Display for RefillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefillExperiment { nr_slots, runs, rounds, .. } = &self.context.experiment;
        self.context.circumstances(f)?;
        writeln!(f, "request  {nr_slots} pages: {} bytes of data", self.payload_bytes)?;
        writeln!(
            f,
            "\nus per refill: the median of {rounds}, of which {runs} runs give median and spread.\n\
             single and bulk look at all slots; bulk with the hint, at those emptied.\n"
        )?;
        write!(f, "{:>8}", "used up")?;
        WAYS.iter().try_for_each(|(name, _)| write!(f, " | {name:^25}"))?;
        writeln!(f, " | saved")?;
        for row in &self.rows {
            match row.consumed {
                Some(consumed) => write!(f, "{consumed:>8}")?,
                None => write!(f, "{:>8}", "fresh")?,
            }
            for Spread { median, min, max, .. } in &row.us {
                write!(f, " | {median:>8.3} {min:>7.3}-{max:<8.3}")?;
            }
            let [single, _, hinted] = row.us.each_ref().map(|us| us.median);
            writeln!(f, " | {:>4.0} %", 100.0 * (1.0 - hinted / single))?;
        }
        self.sentence().map_or(Ok(()), |sentence| writeln!(f, "\n{sentence}"))
    }
}

#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    head: JsonHead,
    runs: usize,
    rounds: usize,
    payload_bytes: usize,
    nr_slots: usize,
    rows: Vec<JsonRow>,
}

/// One way of refilling after one kind of use.
#[derive(Debug, Serialize)]
struct JsonRow {
    consumed: Option<usize>,
    calls: &'static str,
    hint: bool,
    us: JsonSpread,
}

fn json_rows(row: &RefillRow) -> impl Iterator<Item = JsonRow> {
    let consumed = row.consumed;
    WAYS.into_iter().zip(&row.us).map(move |((_, refill), us)| JsonRow {
        consumed,
        calls: match refill.calls {
            pagemill_rpc::buffer::RefillCalls::Single => "single",
            pagemill_rpc::buffer::RefillCalls::Bulk => "bulk",
        },
        hint: refill.scan == pagemill_rpc::buffer::RefillScan::Emptied,
        us: JsonSpread::of(us),
    })
}
