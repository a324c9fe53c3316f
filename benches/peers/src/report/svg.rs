//! Plot: cost per page against pages per call. Lines of pagemill are coloured, the others grey.

use anyhow::ensure;
use pagemill_bench::plot::{Color, Line, Plot, Point, Stroke};

use super::Context;
use crate::peers::LIMIT;
use crate::rows::{Rows, Spread};

/// Colours of pagemill's lines, in the order of the peers.
const OURS: [Color; 4] = [Color::Green, Color::Blue, Color::Orange, Color::Pink];

/// Draws the figures of the scenario steady.
///
/// # Errors
/// If the scenario was not measured. Drawing itself cannot fail.
pub(crate) fn picture(context: &Context, rows: &Rows) -> anyhow::Result<String> {
    let lines = lines(context, rows);
    ensure!(
        !lines.is_empty(),
        "--svg draws the scenario steady, which was not measured: add it to --scenario"
    );
    let circumstances = format!(
        "{}; load {}; medians, bars from quartile to quartile",
        context.machine, context.load
    );
    let plot = Plot {
        title: "Cost of a page: allocated and freed, N at a time, by one thread",
        circumstances: &circumstances,
        notes: &[],
        lines,
    };
    plot.draw()
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

    #[test]
    fn every_peer_is_named() {
        let picture = picture(&samples::context(), &samples::rows()).unwrap();
        for text in ["limit", "mutex-vec", "Mill 1"] {
            assert!(picture.contains(text), "{text}");
        }
        assert!(super::picture(&samples::context(), &Rows::default()).is_err());
    }
}
