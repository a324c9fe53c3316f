//! The cost of a page against the pages per call, a line for each peer.
//!
//! Both axes are logarithmic, and texts are text in the picture too, as in the one of `bench bulk`.

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
use crate::peers::LIMIT;
use crate::rows::{Rows, Spread};

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 600;
/// The column on the right that belongs to the legend, so that it covers no line.
const LEGEND_WIDTH: u32 = 190;
/// The band on top that belongs to the title.
const TITLE_HEIGHT: u32 = 58;
const FONT: &str = "sans-serif";
/// What is shown for a cost of nothing, which has no place on a logarithmic axis.
const NS_MIN: f64 = 0.01;
/// Colours that differ for the colour-blind too; those who come later get dashes with them.
const COLORS: [RGBColor; 7] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the scenario steady.
///
/// # Errors
/// If it was not carried out; drawing into memory itself cannot fail.
pub(crate) fn picture(context: &Context, rows: &Rows) -> anyhow::Result<String> {
    let lines = lines(context, rows);
    ensure!(!lines.is_empty(), "--svg draws the scenario steady, which was not carried out");
    let mut picture = String::new();
    {
        let canvas = SVGBackend::with_string(&mut picture, (WIDTH, HEIGHT)).into_drawing_area();
        canvas.fill(&WHITE)?;
        let (title, rest) = canvas.split_vertically(TITLE_HEIGHT);
        let (plot, legend) = rest.split_horizontally(WIDTH - LEGEND_WIDTH);
        draw_title(&title, context)?;
        draw_lines(&plot, &lines)?;
        draw_legend(&legend, &lines)?;
        canvas.present()?;
    }
    Ok(picture)
}

/// One line of the picture.
struct Line {
    name: &'static str,
    color: RGBColor,
    /// Length of a dash and of the gap behind it; none for an unbroken line.
    dashes: Option<(i32, i32)>,
    /// Pages per call and cost of a page.
    points: Vec<(usize, Spread)>,
}

impl Line {
    fn style(&self) -> ShapeStyle {
        ShapeStyle { color: self.color.into(), filled: false, stroke_width: 2 }
    }
}

fn lines(context: &Context, rows: &Rows) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, peer) in context.peers.iter().enumerate() {
        let of_peer =
            rows.iter().filter(|(key, _)| (key.scenario, key.peer) == ("steady", peer.name));
        let points: Vec<_> = of_peer.map(|(key, spread)| (key.n, spread)).collect();
        let (color, dashes) = match index.checked_sub(1) {
            _ if peer.name == LIMIT => (BLACK, Some((2, 4))),
            Some(place) if place >= 2 * COLORS.len() => {
                (COLORS[place % COLORS.len()], Some((3, 3)))
            }
            Some(place) if place >= COLORS.len() => (COLORS[place % COLORS.len()], Some((8, 5))),
            Some(place) => (COLORS[place], None),
            None => (BLACK, None),
        };
        if !points.is_empty() {
            lines.push(Line { name: peer.name, color, dashes, points });
        }
    }
    lines
}

fn draw_title(area: &Canvas<'_>, context: &Context) -> anyhow::Result<()> {
    let title = "Cost of a page: taken and given back, N at a time, by one thread";
    area.draw(&Text::new(title, (20, 12), (FONT, 21).into_font()))?;
    let circumstances = format!(
        "{}; load {}; medians, bars from quartile to quartile",
        context.machine, context.load
    );
    let grey = (FONT, 12).into_font().color(&RGBColor(90, 90, 90));
    area.draw(&Text::new(circumstances, (20, 38), grey))?;
    Ok(())
}

fn draw_lines(area: &Canvas<'_>, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let costs = points().flat_map(|(_, ns)| [log_ns(ns.lower), log_ns(ns.upper)]);
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
        let style = line.style();
        let middles: Vec<_> =
            line.points.iter().map(|(n, ns)| (log_n(*n), log_ns(ns.median))).collect();
        match line.dashes {
            None => chart.draw_series(LineSeries::new(middles.clone(), style))?,
            Some((dash, gap)) => {
                chart.draw_series(DashedLineSeries::new(middles.clone(), dash, gap, style))?
            }
        };
        chart.draw_series(middles.iter().map(|&at| Circle::new(at, 3, line.color.filled())))?;
        let spreads = line.points.iter().map(|(n, ns)| {
            let ends = [ns.lower, ns.upper].map(|end| (log_n(*n), log_ns(end)));
            PathElement::new(ends, ShapeStyle { stroke_width: 1, ..style })
        });
        chart.draw_series(spreads)?;
    }
    Ok(())
}

fn draw_legend(area: &Canvas<'_>, lines: &[Line]) -> anyhow::Result<()> {
    const LEFT: i32 = 6;
    const RIGHT: i32 = 48;

    let mut y = 24;
    for line in lines {
        let (dash, gap) = line.dashes.unwrap_or((RIGHT - LEFT, 1));
        let mut x = LEFT;
        while x < RIGHT {
            area.draw(&PathElement::new([(x, y), ((x + dash).min(RIGHT), y)], line.style()))?;
            x += dash + gap;
        }
        area.draw(&Circle::new((27, y), 3, line.color.filled()))?;
        area.draw(&Text::new(line.name, (56, y - 8), (FONT, 15).into_font()))?;
        y += 24;
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
    use crate::report::samples;

    #[test]
    fn every_line_is_named_and_every_axis_labelled() {
        let picture = picture(&samples::context(), &samples::rows()).unwrap();
        for text in ["pages per call (N)", "ns per page", "limit", "mutex-vec", "Mill 1"] {
            assert!(picture.contains(text), "{text}");
        }
        assert!(super::picture(&samples::context(), &Rows::default()).is_err());
    }
}
