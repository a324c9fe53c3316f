//! Counts instructions: runs this program under callgrind, for each heap and each path.

use core::fmt::Write as _;
use std::env;
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;

use crate::paths::{HeapName, NR_GROWN, Path};

/// Rounds of the paths that do not grow. The first fill the slots.
const ROUNDS: usize = 50_000;
/// Rounds of those that grow.
const GROW_ROUNDS: usize = 2;

/// Returns the instructions of this program with some arguments.
///
/// # Errors
/// If valgrind is not installed, or the program fails.
pub(crate) fn instructions(args: &[String]) -> anyhow::Result<f64> {
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(args)
        .output()
        .context("cannot run valgrind (Debian: valgrind)")?;
    let said = String::from_utf8_lossy(&valgrind.stderr);
    ensure!(valgrind.status.success(), "{args:?} failed under valgrind:\n{said}");
    let total = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, total) = total.with_context(|| format!("valgrind counted nothing:\n{said}"))?;
    Ok(total.trim().parse()?)
}

/// Returns the instructions of one allocation and its free, with those of the loop. What a run of twice the
/// rounds takes longer leaves out start-up.
fn per_pair(heap: HeapName, path: Path) -> anyhow::Result<f64> {
    let (rounds, pairs) = match (path.grows(), heap) {
        (false, _) => (ROUNDS, 1),
        // It takes thousands of instructions for each object.
        (true, HeapName::LinkedList) => (1, NR_GROWN),
        (true, _) => (GROW_ROUNDS, NR_GROWN),
    };
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map_or(String::new(), |value| value.get_name().to_owned())
    };
    let (heap, path) = (name(heap.to_possible_value()), name(path.to_possible_value()));
    let of = |rounds: usize| {
        instructions(&["path".into(), heap.clone(), path.clone(), rounds.to_string()])
    };
    Ok((of(2 * rounds)? - of(rounds)?) / (rounds * pairs) as f64)
}

/// Returns the table of heaps and paths.
///
/// # Errors
/// As for [`instructions`].
pub(crate) fn table() -> anyhow::Result<String> {
    let mut table = "Instructions of an allocation and its free, without the loop (callgrind)\n\n\
         | heap | larson | fixed 64 B | grow 64 B | grow mixed | grow 512 B |\n\
         | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let row = |heap: HeapName| -> anyhow::Result<Vec<f64>> {
        Path::value_variants().iter().map(|&path| per_pair(heap, path)).collect()
    };
    let minus =
        |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a - b).collect::<Vec<_>>();
    let mut line = |name: &str, figures: &[f64]| -> anyhow::Result<()> {
        let figures: Vec<_> = figures.iter().map(|figure| format!("{figure:.1}")).collect();
        Ok(writeln!(table, "| {name} | {} |", figures.join(" | "))?)
    };
    let empty = row(HeapName::Loop)?;
    let claims = minus(&row(HeapName::Claims)?, &empty);
    for &heap in HeapName::value_variants() {
        if matches!(heap, HeapName::Loop | HeapName::Claims) {
            continue;
        }
        let net = minus(&row(heap)?, &empty);
        let name = heap.to_possible_value().context("every heap has a name")?;
        line(name.get_name(), &net)?;
        if heap == HeapName::Pagemill {
            line("two empty claims", &claims)?;
            line("pagemill without them", &minus(&net, &claims))?;
        }
    }
    Ok(table)
}
