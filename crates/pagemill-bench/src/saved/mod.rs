//! Reports that were saved as JSON: reading them, judging their differences, and exporting them.
//!
//! [`SavedReport::parse`] reads what `pagemill bench ... --json` and `pagemill bench peers` write, by
//! the tables in `kind.rs`. [`Comparison::of`] matches the figures of two reports of one kind and judges
//! each difference against the noise of the measurement. [`export`] turns one report into tables, and
//! [`show`] does so with a comparison.

pub mod compare;
pub mod export;
pub mod figure;
pub mod grid;
pub mod judge;
mod kind;
pub mod rank;
pub mod read;
pub mod show;

pub use compare::Comparison;
pub use figure::{Better, Figure, SavedReport};
pub use judge::{Judge, Verdict};
