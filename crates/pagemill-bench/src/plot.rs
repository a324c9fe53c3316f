//! Plot of costs against a number, such as the pages per call, as SVG; shared by all reports.
//!
//! Both axes are logarithmic, because the gain of bulk calls is a factor, and a factor is the same
//! distance everywhere. Each line is labelled at its right end. Texts remain text in the SVG, so no
//! fonts are needed to draw it.

use core::ops::Range;

use anyhow::ensure;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    ChartBuilder, Circle, Color as _, DashedLineSeries, DrawingArea, IntoDrawingArea, IntoFont,
    LineSeries, PathElement, RGBColor, SVGBackend, ShapeStyle, Text, WHITE,
};

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 600;
/// Width of the column on the right for the labels of the lines.
const NAMES_WIDTH: u32 = 190;
/// Height of the band that holds the title.
const TITLE_HEIGHT: u32 = 58;
/// Vertical distance of two lines of notes below the title, in pixels.
const NOTE_HEIGHT: u32 = 17;
/// Smallest vertical distance of two labels, in pixels.
const NAME_DISTANCE: i32 = 17;
const FONT: &str = "sans-serif";
/// Value that is drawn for a cost of zero, which a logarithmic axis cannot show.
const COST_MIN: f64 = 0.01;
const GREY_TEXT: RGBColor = RGBColor(90, 90, 90);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The contents of a plot.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "reports fill it in")]
pub struct Plot<'a> {
    /// The title.
    pub title: &'a str,
    /// The circumstances of the measurement.
    pub circumstances: &'a str,
    /// Remarks below the circumstances, one per line.
    pub notes: &'a [&'a str],
    /// The name of the horizontal axis.
    pub axis: &'a str,
    /// The lines; a line without points is left out.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "reports fill it in")]
pub struct Line {
    /// Its label.
    pub name: String,
    /// The colour.
    pub color: Color,
    /// The stroke.
    pub stroke: Stroke,
    /// The points, by increasing number.
    pub points: Vec<Point>,
}

/// A median and its spread.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "reports fill it in")]
pub struct Point {
    /// The number on the horizontal axis, such as the pages per call.
    pub n: usize,
    /// Median of the cost, in nanoseconds per page.
    pub median: f64,
    /// Lower end of the bar.
    pub low: f64,
    /// Upper end of the bar.
    pub high: f64,
}

/// Colour of a line. The first four can also be distinguished by colour-blind readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "reports choose one")]
pub enum Color {
    /// Orange.
    Orange,
    /// Blue.
    Blue,
    /// Green.
    Green,
    /// Pink.
    Pink,
    /// Grey, for comparisons.
    Grey,
    /// Black, for limits.
    Black,
}

/// Stroke of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "reports choose one")]
pub enum Stroke {
    /// Unbroken.
    Solid,
    /// Long dashes.
    Dashed,
    /// Short dashes.
    Dotted,
}

impl Plot<'_> {
    /// Draws the plot as SVG.
    ///
    /// # Errors
    /// If no line has a point; drawing into memory cannot fail.
    pub fn draw(&self) -> anyhow::Result<String> {
        let lines: Vec<_> = self.lines.iter().filter(|line| !line.points.is_empty()).collect();
        ensure!(!lines.is_empty(), "there is nothing to draw");
        let mut picture = String::new();
        {
            let canvas = SVGBackend::with_string(&mut picture, (WIDTH, HEIGHT)).into_drawing_area();
            canvas.fill(&WHITE)?;
            let notes_height: u32 = self.notes.iter().map(|_| NOTE_HEIGHT).sum();
            let (title, rest) = canvas.split_vertically(TITLE_HEIGHT + notes_height);
            let (plot, names) = rest.split_horizontally(WIDTH - NAMES_WIDTH);
            self.draw_title(&title)?;
            let ends = draw_lines(&plot, self.axis, &lines)?;
            self.draw_names(&names, &lines, &ends)?;
            canvas.present()?;
        }
        Ok(picture)
    }

    fn draw_title(&self, area: &Canvas<'_>) -> anyhow::Result<()> {
        area.draw(&Text::new(self.title, (20, 12), (FONT, 21).into_font()))?;
        let grey = (FONT, 13).into_font().color(&GREY_TEXT);
        let lines = (38..).step_by(NOTE_HEIGHT as usize);
        for (y, text) in lines.zip([self.circumstances].iter().chain(self.notes)) {
            area.draw(&Text::new(*text, (20, y), grey.clone()))?;
        }
        Ok(())
    }

    /// Writes each label beside the end of its line, moved if two would overlap.
    fn draw_names(&self, area: &Canvas<'_>, lines: &[&Line], ends: &[i32]) -> anyhow::Result<()> {
        let mut places: Vec<_> = ends.iter().copied().zip(lines).collect();
        places.sort_by_key(|(y, _)| *y);
        let top = area.get_pixel_range().1.start;
        let mut below = i32::MIN;
        for (end, line) in places {
            let y = (end - top).max(below);
            below = y + NAME_DISTANCE;
            let style = ShapeStyle { stroke_width: 1, ..line.style() };
            area.draw(&PathElement::new([(0, end - top), (12, y)], style))?;
            let font = (FONT, 15).into_font().color(&line.rgb());
            area.draw(&Text::new(line.name.clone(), (16, y - 8), font))?;
        }
        Ok(())
    }
}

impl Line {
    fn rgb(&self) -> RGBColor {
        match self.color {
            Color::Orange => RGBColor(213, 94, 0),
            Color::Blue => RGBColor(0, 114, 178),
            Color::Green => RGBColor(0, 158, 115),
            Color::Pink => RGBColor(204, 121, 167),
            Color::Grey => RGBColor(150, 150, 150),
            Color::Black => RGBColor(0, 0, 0),
        }
    }

    fn style(&self) -> ShapeStyle {
        ShapeStyle { color: self.rgb().into(), filled: false, stroke_width: 2 }
    }
}

/// Draws axes and lines, and returns the height at which each line ends, in pixels.
fn draw_lines(area: &Canvas<'_>, axis: &str, lines: &[&Line]) -> anyhow::Result<Vec<i32>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let costs = points().flat_map(|point| [log_cost(point.low), log_cost(point.high)]);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(0)
        .x_label_area_size(52)
        .y_label_area_size(66)
        .build_cartesian_2d(
            Axis::around(points().map(|point| log_n(point.n))),
            Axis::around(costs),
        )?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .y_desc("ns per page, allocation plus free")
        .x_label_formatter(&|x| x.exp2().round().to_string())
        .y_label_formatter(&|y| y.exp2().to_string())
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()?;
    let mut ends = Vec::with_capacity(lines.len());
    for line in lines {
        let style = line.style();
        let middles: Vec<_> =
            line.points.iter().map(|point| (log_n(point.n), log_cost(point.median))).collect();
        match line.stroke {
            Stroke::Solid => chart.draw_series(LineSeries::new(middles.clone(), style))?,
            Stroke::Dashed => {
                chart.draw_series(DashedLineSeries::new(middles.clone(), 8, 5, style))?
            }
            Stroke::Dotted => {
                chart.draw_series(DashedLineSeries::new(middles.clone(), 2, 4, style))?
            }
        };
        chart.draw_series(middles.iter().map(|&at| Circle::new(at, 3, line.rgb().filled())))?;
        let spreads = line.points.iter().map(|point| {
            let ends = [point.low, point.high].map(|end| (log_n(point.n), log_cost(end)));
            PathElement::new(ends, ShapeStyle { stroke_width: 1, ..style })
        });
        chart.draw_series(spreads)?;
        ends.extend(middles.last().map(|at| chart.backend_coord(at).1));
    }
    Ok(ends)
}

/// The base-2 logarithms that an axis shows; whole numbers are labelled.
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

fn log_cost(ns: f64) -> f64 {
    ns.max(COST_MIN).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, medians: &[(usize, f64)]) -> Line {
        let point = |&(n, median)| Point { n, median, low: median, high: 2.0 * median };
        let points = medians.iter().map(point).collect();
        Line { name: name.to_owned(), color: Color::Blue, stroke: Stroke::Solid, points }
    }

    fn plot(lines: Vec<Line>) -> Plot<'static> {
        let axis = "pages per call (N)";
        Plot { title: "Costs", circumstances: "Mill 1", notes: &["a note"], axis, lines }
    }

    #[test]
    fn everything_is_named_and_every_axis_labelled() {
        let picture = plot(vec![line("ours", &[(1, 8.0), (64, 2.0)])]).draw().unwrap();
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"), "{picture}");
        for text in ["Costs", "Mill 1", "a note", "ours", "pages per call (N)", "ns per page"] {
            assert!(picture.contains(text), "{text}");
        }
    }

    #[test]
    fn names_of_lines_that_end_together_do_not_overlap() {
        let names = ["first", "second", "third"];
        let lines = names.map(|name| line(name, &[(1, 8.0), (64, 2.0)]));
        let picture = plot(lines.into()).draw().unwrap();
        let mut heights: Vec<i32> = names
            .iter()
            .map(|name| {
                let at = picture.find(&format!("\n{name}\n")).unwrap();
                let (_, y) = picture[..at].rsplit_once(" y=\"").unwrap();
                y.split('"').next().unwrap().parse().unwrap()
            })
            .collect();
        heights.sort_unstable();
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= NAME_DISTANCE), "{heights:?}");
    }

    #[test]
    fn one_point_and_a_cost_of_nothing_can_be_drawn_and_no_point_cannot() {
        assert!(plot(vec![line("ours", &[(1, 0.0)])]).draw().is_ok());
        assert!(plot(vec![line("ours", &[])]).draw().is_err());
    }
}
