//! The cost of a page against the batch size, as a picture.
//!
//! Both axes are logarithmic: what bulk saves is a factor, and a factor is the same distance
//! everywhere. The texts are text in the picture too, so no fonts are needed to draw it.

use core::ops::Range;

use anyhow::ensure;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, DashedLineSeries, DrawingArea, IntoDrawingArea, IntoFont,
    LineSeries, PathElement, RGBColor, SVGBackend, ShapeStyle, Text, WHITE,
};

use super::Context;
use crate::{Operation, Results, Shape, Spread};

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 600;
/// The column on the right that belongs to the legend, so that it covers no line.
const LEGEND_WIDTH: u32 = 190;
/// The band on top that belongs to the title.
const TITLE_HEIGHT: u32 = 58;
const FONT: &str = "sans-serif";
/// What is shown for a cost of nothing, which has no place on a logarithmic axis.
const NS_MIN: f64 = 0.01;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the results.
///
/// # Errors
/// If there are none; drawing into memory itself cannot fail.
pub fn bulk(context: &Context, results: &Results) -> anyhow::Result<String> {
    ensure!(!results.rows.is_empty(), "there is nothing to draw");
    let mut picture = String::new();
    {
        let canvas = SVGBackend::with_string(&mut picture, (WIDTH, HEIGHT)).into_drawing_area();
        canvas.fill(&WHITE)?;
        let (title, rest) = canvas.split_vertically(TITLE_HEIGHT);
        let (plot, legend) = rest.split_horizontally(WIDTH - LEGEND_WIDTH);
        let lines = lines(results);
        draw_title(&title, context)?;
        draw_lines(&plot, &lines)?;
        draw_legend(&legend, &lines)?;
        canvas.present()?;
    }
    Ok(picture)
}

/// One line of the picture.
#[derive(Debug)]
struct Line {
    name: String,
    color: RGBColor,
    stroke: Stroke,
    /// Batch size and cost of a page, smallest batch first.
    points: Vec<(usize, Spread)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

impl Line {
    /// Returns the middle of each point, on the axes.
    fn middles(&self) -> Vec<(f64, f64)> {
        self.points.iter().map(|(n, ns)| (log_n(*n), log_ns(ns.median))).collect()
    }

    fn style(&self) -> ShapeStyle {
        ShapeStyle { color: self.color.into(), filled: false, stroke_width: 2 }
    }
}

/// Returns a line for each shape and operation, and one for the limit.
fn lines(results: &Results) -> Vec<Line> {
    let mut lines = Vec::new();
    for shape in results.shapes() {
        for operation in Operation::ALL {
            let row = |n| results.row(shape, operation, n).map(|row| (n, row.both));
            let (color, stroke) = look(shape, operation);
            let name = format!("{}, {}", shape.name(), operation.name());
            let points = results.sizes().filter_map(row).collect();
            lines.push(Line { name, color, stroke, points });
        }
    }
    lines.push(Line {
        name: "limit".to_owned(),
        color: BLACK,
        stroke: Stroke::Dotted,
        points: results.limit.iter().map(|row| (row.n, row.ns)).collect(),
    });
    lines
}

/// Returns how a line is told from the others: the colour says the operation, the dashes the
/// shape. The colours differ for the colour-blind too.
fn look(shape: Shape, operation: Operation) -> (RGBColor, Stroke) {
    let color = match operation {
        Operation::Single => RGBColor(213, 94, 0),
        Operation::List => RGBColor(0, 114, 178),
        Operation::Array => RGBColor(0, 158, 115),
    };
    let stroke = match shape {
        Shape::Ping => Stroke::Solid,
        Shape::Burst => Stroke::Dashed,
    };
    (color, stroke)
}

fn draw_title(area: &Canvas<'_>, context: &Context) -> anyhow::Result<()> {
    let title = "Cost of a page: allocated one at a time and in bulk, and freed";
    area.draw(&Text::new(title, (20, 12), (FONT, 21).into_font()))?;
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
    let circumstances = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let grey = (FONT, 14).into_font().color(&RGBColor(90, 90, 90));
    area.draw(&Text::new(circumstances, (20, 38), grey))?;
    Ok(())
}

fn draw_lines(area: &Canvas<'_>, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let costs = points().flat_map(|(_, ns)| [log_ns(ns.min), log_ns(ns.max)]);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(52)
        .y_label_area_size(66)
        .build_cartesian_2d(
        Axis::around(points().map(|(n, _)| log_n(*n))),
        Axis::around(costs),
    )?;
    chart
        .configure_mesh()
        .x_desc("pages per call (N)")
        .y_desc("ns per page, allocation plus free")
        .x_label_formatter(&|x| x.exp2().round().to_string())
        .y_label_formatter(&|y| y.exp2().to_string())
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()?;
    for line in lines {
        let (middles, style) = (line.middles(), line.style());
        match line.stroke {
            Stroke::Solid => chart.draw_series(LineSeries::new(middles.clone(), style))?,
            Stroke::Dashed => {
                chart.draw_series(DashedLineSeries::new(middles.clone(), 8, 5, style))?
            }
            Stroke::Dotted => {
                chart.draw_series(DashedLineSeries::new(middles.clone(), 2, 4, style))?
            }
        };
        chart.draw_series(middles.iter().map(|&at| Circle::new(at, 3, line.color.filled())))?;
        let spreads = line.points.iter().map(|(n, ns)| {
            let ends = [ns.min, ns.max].map(|end| (log_n(*n), log_ns(end)));
            PathElement::new(ends, ShapeStyle { stroke_width: 1, ..style })
        });
        chart.draw_series(spreads)?;
    }
    Ok(())
}

fn draw_legend(area: &Canvas<'_>, lines: &[Line]) -> anyhow::Result<()> {
    let mut y = 24;
    for line in lines {
        let (ends, style) = ([(6, y), (48, y)], line.style());
        match line.stroke {
            Stroke::Solid => area.draw(&PathElement::new(ends, style))?,
            Stroke::Dashed => draw_dashes(area, y, 8, 5, style)?,
            Stroke::Dotted => draw_dashes(area, y, 2, 4, style)?,
        }
        area.draw(&Circle::new((27, y), 3, line.color.filled()))?;
        area.draw(&Text::new(line.name.clone(), (56, y - 8), (FONT, 15).into_font()))?;
        y += 24;
    }
    let notes = [
        "single: a call for each page",
        "list: one call, a list",
        "array: one call, an array",
        "ping: N allocated, N freed",
        "burst: many allocated,",
        "then all freed",
        "limit: N handles copied",
        "there and back",
    ];
    y += 12;
    for note in notes {
        let grey = (FONT, 12).into_font().color(&RGBColor(90, 90, 90));
        area.draw(&Text::new(note, (6, y), grey))?;
        y += 17;
    }
    Ok(())
}

fn draw_dashes(
    area: &Canvas<'_>,
    y: i32,
    dash: i32,
    gap: i32,
    style: ShapeStyle,
) -> anyhow::Result<()> {
    let mut x = 6;
    while x < 48 {
        area.draw(&PathElement::new([(x, y), ((x + dash).min(48), y)], style))?;
        x += dash + gap;
    }
    Ok(())
}

/// The logarithms to the base of two that an axis shows; it is labelled at the whole ones.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Makes an axis for `values` and a little more.
    fn around(values: impl Iterator<Item = f64>) -> Self {
        const MARGIN: f64 = 0.25;

        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        Self { low: low - MARGIN, high: high + MARGIN }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        (-8..=40).map(f64::from).filter(|tick| self.range().contains(tick)).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

fn log_n(n: usize) -> f64 {
    (n as f64).log2()
}

fn log_ns(ns: f64) -> f64 {
    ns.max(NS_MIN).log2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulk::results;
    use crate::report::samples;

    #[test]
    fn every_line_is_named_and_every_axis_labelled() {
        let picture = bulk(&samples::context(), &results::samples::results()).unwrap();
        assert!(picture.starts_with("<svg"), "{picture}");
        assert!(picture.ends_with("</svg>\n"), "{picture}");
        for text in [
            "ping, single",
            "burst, array",
            "limit",
            "pages per call (N)",
            "ns per page, allocation plus free",
            "Cost of a page",
            "Mill 1, arena of 64 MiB, 2 threads",
        ] {
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
    fn one_batch_size_and_a_cost_of_nothing_can_be_drawn() {
        let mut results = results::samples::results();
        results.limit.truncate(1);
        results.rows.retain(|row| row.n == 1);
        results.limit[0].ns = Spread { median: 0.0, min: 0.0, max: 0.0 };
        assert!(bulk(&samples::context(), &results).is_ok());
        results.rows.clear();
        assert!(bulk(&samples::context(), &results).is_err());
    }
}
