//! Figures as tables for people.

use core::fmt::Write;

use super::Context;
use crate::rows::{Rows, Spread};
use crate::runner::BATCH;
use crate::scenario::blocks::{LEVELS, PEERS};
use crate::scenario::scale;

/// Returns the circumstances, and a table for each scenario.
pub(crate) fn tables(context: &Context, rows: &Rows) -> String {
    let mut text = String::new();
    let mut line = |parts: &str| text.push_str(&(parts.trim_end().to_owned() + "\n"));
    heading(context, &mut line);
    steady(context, rows, &mut line);
    pair(context, rows, &mut line);
    handover(context, rows, &mut line);
    for (scenario, title) in [
        ("drain", "drain: 31/32 of the arena allocated, 64 at a time, and freed in the same order"),
        (
            "drain-random",
            "drain, random: 31/32 of the arena allocated, 64 at a time, and freed in random order",
        ),
    ] {
        drain(context, rows, scenario, title, &mut line);
    }
    aged(context, rows, &mut line);
    orders(context, rows, &mut line);
    scale(context, rows, &mut line);
    blocks(rows, &mut line);
    text
}

fn heading(context: &Context, line: &mut impl FnMut(&str)) {
    line(&format!("machine  {}", context.machine));
    line(&format!("load     {} before the run", context.load));
    let cpus: Vec<_> = context.cpus.iter().map(u32::to_string).collect();
    line(&format!(
        "run      CPUs {}, {} pages each, slices of {} ms, seed {}; bytes of pages are not accessed",
        cpus.join(" and "),
        context.nr_pages,
        context.slice_ms,
        context.seed
    ));
    line("figures  medians; [min, lower..upper quartile]");
    line("");
    for peer in &context.peers {
        line(&format!("{:16} {}", peer.name, peer.note));
    }
}

/// Writes the titles, and then the row of each peer that has figures.
fn section(
    context: &Context,
    rows: &Rows,
    scenario: &str,
    titles: &[&str],
    line: &mut impl FnMut(&str),
    row: impl Fn(&'static str) -> String,
) {
    if rows.iter().all(|(key, _)| key.scenario != scenario) {
        return;
    }
    line("");
    titles.iter().for_each(|title| line(title));
    for peer in &context.peers {
        if rows.iter().any(|(key, _)| (key.scenario, key.peer) == (scenario, peer.name)) {
            line(&format!("{:16}{}", peer.name, row(peer.name)));
        }
    }
}

fn steady(context: &Context, rows: &Rows, line: &mut impl FnMut(&str)) {
    let mut sizes: Vec<_> =
        rows.iter().filter(|(key, _)| key.scenario == "steady").map(|(key, _)| key.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut head = format!("{:16}", "N");
    for n in &sizes {
        let _never_fails = write!(head, " {n:>7}");
    }
    let cell = |peer, n| {
        let spread = rows.get("steady", peer, n, "both");
        spread.map_or_else(|| format!(" {:>7}", "-"), |it| format!(" {:>7.2}", it.median))
    };
    let title = "steady: allocate N, free N, repeatedly; ns per page for both";
    section(context, rows, "steady", &[title, &head], line, |peer| {
        sizes.iter().map(|&n| cell(peer, n)).collect()
    });
    let shown: Vec<_> =
        sizes.iter().copied().filter(|&n| sizes.len() <= 2 || n == 1 || n == BATCH).collect();
    let mut head = format!("{:16}", "spread");
    for n in &shown {
        let _never_fails = write!(head, "  {:<26}", format!("N = {n}"));
    }
    section(context, rows, "steady", &[&head], line, |peer| {
        let cells = shown.iter().map(|&n| rows.get("steady", peer, n, "both"));
        cells.map(|spread| format!("  {:<26}", spread.map_or_else(dash, wide))).collect()
    });
}

fn pair(context: &Context, rows: &Rows, line: &mut impl FnMut(&str)) {
    let title =
        "pair: two threads at once; ns per page in each thread, and the ratio to one thread";
    let half = format!("{:>8} {:>8}  {:<28}", "one", "two", "two / one");
    let head = format!("{:16}{half}{half}", "N = 1, then 64");
    section(context, rows, "pair", &[title, &head], line, |peer| {
        let part = |n| {
            let get = |what| rows.get("pair", peer, n, what);
            let (one, two) = (get("one"), get("two"));
            let ratio = get("ratio").map_or_else(dash, wide);
            format!("{:>8} {:>8}  {ratio:<28}", median(one), median(two))
        };
        [1, 64].map(part).concat()
    });
}

fn handover(context: &Context, rows: &Rows, line: &mut impl FnMut(&str)) {
    let title =
        "handover: 64 allocated on one CPU, through a ring, freed on another; million pages/s";
    section(context, rows, "handover", &[title], line, |peer| {
        rows.get("handover", peer, BATCH, "passed").map_or_else(dash, |spread| {
            let Spread { median, lower, upper, max, .. } = spread;
            format!(" {median:>7.1} [{lower:.1}..{upper:.1}, max {max:.1}]")
        })
    });
}

fn drain(
    context: &Context,
    rows: &Rows,
    scenario: &'static str,
    title: &str,
    line: &mut impl FnMut(&str),
) {
    let head = format!(
        "{:16}  {:<30}  {:<30}  {:>7}  {}",
        "ns per page", "alloc", "free", "pages", "free 2 MiB blocks after, of"
    );
    section(context, rows, scenario, &[title, &head], line, |peer| {
        let get = |what| rows.get(scenario, peer, BATCH, what);
        let cell = |what| get(what).map_or_else(dash, wide);
        let first = rows.get("drain", peer, BATCH, "whole at first");
        let whole = match (get("whole"), first) {
            (Some(whole), Some(first)) => format!("{:.0} of {:.0}", whole.min, first.min),
            (Some(whole), None) => format!("{:.0}", whole.min),
            _ => dash(),
        };
        let nr = get("taken").map_or_else(dash, |taken| format!("{:.0}", taken.median));
        format!("  {:<30}  {:<30}  {nr:>7}  {whole}", cell("alloc"), cell("free"))
    });
}

fn aged(context: &Context, rows: &Rows, line: &mut impl FnMut(&str)) {
    let title =
        "aged: after random churn; ns per page, and the ratio of the medians after and before";
    let head = format!(
        "{:16}{:>8} {:>6}{:>8} {:>6}{:>8} {:>6}",
        "", "steady", "x", "alloc", "x", "free", "x"
    );
    section(context, rows, "aged", &[title, &head], line, |peer| {
        let part = |what, before: Option<Spread>| {
            let after = rows.get("aged", peer, BATCH, what);
            let ratio = match (after, before) {
                (Some(after), Some(before)) => format!("{:.2}", after.median / before.median),
                _ => dash(),
            };
            format!("{:>8} {ratio:>6}", median(after))
        };
        let drained = |what| rows.get("drain", peer, BATCH, what);
        [
            part("steady", rows.get("steady", peer, BATCH, "both")),
            part("alloc", drained("alloc")),
            part("free", drained("free")),
        ]
        .concat()
    });
}

fn orders(context: &Context, rows: &Rows, line: &mut impl FnMut(&str)) {
    let titles = [
        ("bulk", "blocks, bulk: the arena allocated one by one and freed in the same order"),
        ("rand", "blocks, rand: the arena allocated one by one and freed in random order"),
        ("repeat", "blocks, repeat: one block allocated and freed, repeatedly"),
    ];
    for (scenario, title) in titles {
        for (what, threads) in [("one", "one thread"), ("two", "two threads at once")] {
            let get = |peer, order: usize| rows.get(scenario, peer, 1 << order, what);
            if context.peers.iter().all(|peer| get(peer.name, 0).is_none()) {
                continue;
            }
            let orders: String = (0..=10).map(|order| format!(" {order:>7}")).collect();
            let head = format!("{:16}{orders}", "order");
            let title = format!("{title}; {threads}; ns per block for both");
            section(context, rows, scenario, &[&title, &head], line, |peer| {
                (0..=10).map(|order| format!(" {:>7}", short(get(peer, order)))).collect()
            });
        }
    }
}

fn scale(context: &Context, rows: &Rows, line: &mut impl FnMut(&str)) {
    let titles = [
        ("scale-single", "scale, single pages: ns per page in each thread"),
        ("scale-bulk", "scale, 64 pages at a time: ns per page in each thread"),
        ("scale-handover", "scale, handover: every second thread frees; ns per page and pair"),
        ("scale-order9", "scale, one block of order 9 repeatedly: ns per block in each thread"),
        ("scale-random", "scale, arena freed in random order: ns per page in each thread"),
    ];
    for (scenario, title) in titles {
        let of_peer = |peer: &str| -> Vec<(&str, Spread)> {
            let rows = rows.iter().filter(|(key, _)| (key.scenario, key.peer) == (scenario, peer));
            rows.map(|(key, spread)| (key.what, spread)).collect()
        };
        let threads: String =
            scale::THREADS.iter().map(|(_, name)| format!(" {name:>24}")).collect();
        let head = format!("{:16}{threads}  most / fewest", "threads");
        section(context, rows, scenario, &[title, &head], line, |peer| {
            let figures = of_peer(peer);
            let cell = |name: &str| {
                let found = figures.iter().find(|(what, _)| *what == name);
                let text = found.map_or_else(dash, |(_, spread)| {
                    format!("{:.2} [{:.2}..{:.2}]", spread.median, spread.lower, spread.upper)
                });
                format!(" {text:>24}")
            };
            let cells: String = scale::THREADS.iter().map(|(_, name)| cell(name)).collect();
            let ratio = match figures.as_slice() {
                [(_, fewest), .., (_, most)] => format!("{:.2}", most.median / fewest.median),
                _ => dash(),
            };
            format!("{cells}  {ratio}")
        });
    }
    let is_scale = rows.iter().any(|(key, _)| key.scenario.starts_with("scale-"));
    let most = scale::THREADS.iter().map(|(nr, _)| *nr).max().unwrap_or(1);
    if is_scale && context.cpus.len() < most {
        line("");
        line(&format!(
            "{} CPUs: more threads than that were not measured; `cargo run --release -p pagemill \
             --example scale` models up to 256",
            context.cpus.len()
        ));
    }
}

/// A median in at most seven characters.
fn short(spread: Option<Spread>) -> String {
    spread.map_or_else(dash, |spread| {
        let digits = if spread.median < 1000.0 { 1 } else { 0 };
        format!("{:.digits$}", spread.median)
    })
}

fn blocks(rows: &Rows, line: &mut impl FnMut(&str)) {
    if rows.iter().all(|(key, _)| key.scenario != "blocks") {
        return;
    }
    line("");
    line(
        "blocks: requests for 20 to 100 of 524,288 block numbers, random lifetimes; blocks per run \
         until offset-allocator fails, and around levels of use",
    );
    let mut head = format!("{:16}{:>14} {:>8}", "", "first failure", "run");
    for (percent, _) in LEVELS {
        let _never_fails = write!(head, " {:>8}", format!("at {percent} %"));
    }
    line(&format!("{head}  {}", "ns per block"));
    for (peer, note) in PEERS {
        let get = |what| rows.get("blocks", peer, 60, what);
        let share = get("in use at first failure");
        let share = share.map_or_else(dash, |spread| format!("{:.2} %", spread.median));
        let mut row = format!("{peer:16}{share:>14} {:>8}", median(get("run")));
        for (_, what) in LEVELS {
            let _never_fails = write!(row, " {:>8}", median(get(what)));
        }
        line(&format!("{row}  {:<28}  {note}", get("both").map_or_else(dash, wide)));
    }
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(dash, |spread| format!("{:.2}", spread.median))
}

fn wide(spread: Spread) -> String {
    let Spread { median, min, lower, upper, .. } = spread;
    format!("{median:.2} [{min:.2}, {lower:.2}..{upper:.2}]")
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn each_measured_scenario_has_a_table() {
        let text = tables(&samples::context(), &samples::rows());
        for part in
            ["\nsteady: ", "\npair: ", "\nhandover: ", "\ndrain: ", "\naged: ", "\nblocks: "]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("drain, random"), "{text}");
        assert!(text.contains("mutex-vec         2.00 [1.00, 1.00..2.00]"), "{text}");
        assert!(!tables(&samples::context(), &Rows::default()).contains("steady"));
    }
}
