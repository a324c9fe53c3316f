//! Tidy checks: the rules of this workspace that no compiler knows.
//!
//! A check is a function from a [`Tree`] of files to a list of [`Finding`]s. `tests/tidy.rs` runs
//! every check over the real tree, so `cargo test --workspace` fails where a rule is broken; the
//! unit tests beside each check run it over small trees that break the rule on purpose.
//!
//! The checks read Rust as a stream of words and signs ([`tokens`]), not as a syntax tree: enough
//! to tell code from comments and a test module from the rest. `serde_json` reads recorded results.
#![forbid(unsafe_code)]
#![expect(clippy::std_instead_of_alloc, reason = "only a host with std runs this")]

pub mod dependencies;
pub mod docs;
pub mod fences;
pub mod figures;
pub mod guides;
pub mod layers;
pub mod links;
pub mod packages;
pub mod readmes;
mod results;
pub mod roots;
pub mod scripts;
pub mod size;
pub mod sources;
pub mod tokens;
pub mod tree;
pub mod unsafe_modules;
pub mod words;

pub use tree::{Finding, Tree};
