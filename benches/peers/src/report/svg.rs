//! Plot: cost per page against pages per call. Lines of pagemill are coloured, the others grey.

use anyhow::ensure;
use pagemill_bench::plot::{Color, Line, Plot, Point, Stroke};

use super::Context;
use crate::peers::LIMIT;
use crate::rows::{Rows, Spread};

/// Colours of pagemill's lines, in the order of the peers.
const OURS: [Color; 4] = [Color::Green, Color::Blue, Color::Orange, Color::Pink];

/// Draws the figures of the scenario steady, or else those of the scenario scale.
///
/// # Errors
/// If neither was measured. Drawing itself cannot fail.
pub(crate) fn picture(context: &Context, rows: &Rows) -> anyhow::Result<String> {
    let steady = lines(context, rows);
    let scale = scale_lines(context, rows);
    ensure!(
        !steady.is_empty() || !scale.is_empty(),
        "--svg draws the scenarios steady or scale, which were not measured: add one to --scenario"
    );
    let circumstances = format!(
        "{}; load {}; medians, bars from quartile to quartile",
        context.machine, context.load
    );
    let circumstances = &circumstances;
    let plot = if steady.is_empty() {
        let title = "Cost of a page by the number of threads";
        let notes =
            &["bulk: N = 64; random: the arena is freed in random order; ns in each thread"];
        Plot { title, circumstances, notes, axis: "threads", lines: scale }
    } else {
        let title = "Cost of a page: allocated and freed, N at a time, by one thread";
        Plot { title, circumstances, notes: &[], axis: "pages per call (N)", lines: steady }
    };
    plot.draw()
}

/// Returns a line for pagemill in each load of the scenario scale, and for the other peers in bulk.
fn scale_lines(context: &Context, rows: &Rows) -> Vec<Line> {
    let ours = [
        ("scale-single", "pagemill-single", "single", Color::Green),
        ("scale-bulk", "pagemill-vec", "bulk", Color::Blue),
        ("scale-handover", "pagemill-vec", "handover", Color::Orange),
        ("scale-random", "pagemill-vec", "random", Color::Pink),
    ];
    let mut lines: Vec<Line> = ours
        .into_iter()
        .map(|(scenario, peer, load, color)| {
            let (name, points) = (format!("pagemill, {load}"), scale_points(rows, scenario, peer));
            Line { name, color, stroke: Stroke::Solid, points }
        })
        .collect();
    let others = context.peers.iter().filter(|peer| !peer.name.starts_with("pagemill"));
    lines.extend(others.map(|peer| {
        let (color, stroke) = if peer.name == LIMIT {
            (Color::Black, Stroke::Dotted)
        } else {
            (Color::Grey, Stroke::Solid)
        };
        let points = scale_points(rows, "scale-bulk", peer.name);
        Line { name: format!("{}, bulk", peer.name), color, stroke, points }
    }));
    lines.retain(|line| !line.points.is_empty());
    lines
}

fn scale_points(rows: &Rows, scenario: &str, peer: &str) -> Vec<Point> {
    let point = |n, ns: Spread| Point { n, median: ns.median, low: ns.lower, high: ns.upper };
    let of_peer = rows.iter().filter(|(key, _)| (key.scenario, key.peer) == (scenario, peer));
    of_peer.filter_map(|(key, ns)| Some(point(key.what.parse().ok()?, ns))).collect()
}

fn lines(context: &Context, rows: &Rows) -> Vec<Line> {
    let point = |n, ns: Spread| Point { n, median: ns.median, low: ns.lower, high: ns.upper };
    let mut ours = OURS.into_iter().cycle();
    let mut lines = Vec::new();
    for peer in &context.peers {
        let of_peer =
            rows.iter().filter(|(key, _)| (key.scenario, key.peer) == ("steady", peer.name));
        let points: Vec<_> = of_peer.map(|(key, spread)| point(key.n, spread)).collect();
        if points.is_empty() {
            continue;
        }
        let (color, stroke) = match peer.name {
            LIMIT => (Color::Black, Stroke::Dotted),
            name if name.starts_with("pagemill") => {
                (ours.next().expect("the iterator is endless"), Stroke::Solid)
            }
            _ => (Color::Grey, Stroke::Solid),
        };
        lines.push(Line { name: peer.name.to_owned(), color, stroke, points });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::rows::Key;

    #[test]
    fn every_peer_is_named() {
        let picture = picture(&samples::context(), &samples::rows()).unwrap();
        for text in ["limit", "mutex-vec", "Mill 1"] {
            assert!(picture.contains(text), "{text}");
        }
        assert!(super::picture(&samples::context(), &Rows::default()).is_err());
    }

    #[test]
    fn without_steady_the_numbers_of_threads_are_drawn() {
        let mut rows = Rows::default();
        for (what, figure) in [("1", 2.0), ("2", 2.5), ("16", 3.0)] {
            for peer in ["limit", "mutex-vec", "pagemill-vec"] {
                let key = Key { scenario: "scale-bulk", peer, n: 64, what, unit: "ns/page" };
                rows.add(key, figure);
            }
        }
        let picture = picture(&samples::context(), &rows).unwrap();
        for text in ["threads", "pagemill, bulk", "mutex-vec, bulk"] {
            assert!(picture.contains(text), "{text}");
        }
    }
}
