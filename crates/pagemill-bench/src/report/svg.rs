//! Plot of `bench bulk`: the cost of a page against the batch size.

use super::context::Context;
use crate::plot::{Color, Line, Plot, Point, Stroke};
use crate::{Operation, Results, Shape, Spread};

/// Draws the results.
///
/// # Errors
/// If there are none; drawing into memory itself cannot fail.
pub fn bulk(context: &Context, results: &Results) -> anyhow::Result<String> {
    let machine = &context.machine;
    let parts = [
        machine.cpu_model.clone(),
        machine.kernel_release.as_ref().map(|release| format!("Linux {release}")),
        Some(format!("arena of {}", context.arena)),
        Some(match context.experiment.cpus.len() {
            1 => "1 thread".to_owned(),
            nr => format!("{nr} threads"),
        }),
        Some(format!("medians of {} runs, bars from fastest to slowest", context.experiment.runs)),
    ];
    let plot = Plot {
        title: "Cost of a page: allocated one at a time and in bulk, and freed",
        circumstances: &parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        axis: "pages per call (N)",
        notes: &[
            "single: a call for each page; list, array: one call for N; limit: N handles copied there and back",
            "ping: N allocated, N freed, again and again; burst: many allocated, then all freed",
        ],
        lines: lines(results),
    };
    plot.draw()
}

/// Returns a line for each shape and operation, and one for the limit.
fn lines(results: &Results) -> Vec<Line> {
    let point = |n, ns: &Spread| Point { n, median: ns.median, low: ns.min, high: ns.max };
    let mut lines = Vec::new();
    for shape in results.shapes() {
        for operation in Operation::ALL {
            let row = |n| results.row(shape, operation, n).map(|row| point(n, &row.both));
            let (color, stroke) = look(shape, operation);
            let name = format!("{}, {}", shape.name(), operation.name());
            let points = results.sizes().filter_map(row).collect();
            lines.push(Line { name, color, stroke, points });
        }
    }
    lines.push(Line {
        name: "limit".to_owned(),
        color: Color::Black,
        stroke: Stroke::Dotted,
        points: results.limit.iter().map(|row| point(row.n, &row.ns)).collect(),
    });
    lines
}

/// Returns the style of a line: the colour stands for the operation, the stroke for the shape.
fn look(shape: Shape, operation: Operation) -> (Color, Stroke) {
    let color = match operation {
        Operation::Single => Color::Orange,
        Operation::List => Color::Blue,
        Operation::Array => Color::Green,
    };
    let stroke = match shape {
        Shape::Ping => Stroke::Solid,
        Shape::Burst => Stroke::Dashed,
    };
    (color, stroke)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::results;
    use crate::report::context::samples;

    #[test]
    fn every_line_is_named_and_the_circumstances_are_there() {
        let picture = bulk(&samples::context(), &results::samples::results()).unwrap();
        for text in ["ping, single", "burst, array", "limit", "Mill 1, arena of 64 MiB, 2 threads"]
        {
            assert!(picture.contains(text), "{text}");
        }
    }

    #[test]
    fn no_two_lines_look_alike() {
        let lines = lines(&results::samples::results());
        assert_eq!(lines.len(), 7);
        for (index, line) in lines.iter().enumerate() {
            let alike = |other: &Line| (other.color, other.stroke) == (line.color, line.stroke);
            assert!(!lines[..index].iter().any(alike), "{line:?}");
        }
    }

    #[test]
    fn results_without_rows_cannot_be_drawn() {
        let mut results = results::samples::results();
        results.rows.clear();
        results.limit.clear();
        assert!(bulk(&samples::context(), &results).is_err());
    }
}
