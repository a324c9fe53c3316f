//! Tables as lines of text that fit a width: columns that do not fit are left out, and the heading says
//! so.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::format::shortened;
use super::theme::Theme;

/// Blanks between two columns.
const GAP: usize = 2;
/// The fewest characters of a text whose rest is cut.
const MIN_TEXT: usize = 10;

/// A cell: a text and its style.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: Style::new() }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A table: the first `nr_texts` columns are texts, at the left; the others are numbers, at the right.
#[derive(Clone, Debug)]
pub(crate) struct TextTable {
    nr_texts: usize,
    /// Whether texts may be cut.
    may_cut: bool,
    titles: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl TextTable {
    pub(crate) fn new(texts: &[&str], numbers: &[&str]) -> Self {
        let titles = texts.iter().chain(numbers).map(|&title| title.to_owned()).collect();
        Self { nr_texts: texts.len(), may_cut: false, titles, rows: Vec::new() }
    }

    /// Lets long texts be cut where the table is too wide.
    pub(crate) fn with_long_texts(mut self) -> Self {
        self.may_cut = true;
        self
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn push(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.titles.len(), "cells of a row");
        self.rows.push(cells);
    }

    /// Returns the lines of the table, of at most `width` characters.
    ///
    /// Shortens texts before it leaves out columns, from the right.
    pub(crate) fn lines(&self, width: usize, theme: Theme) -> Vec<Line<'static>> {
        let widest = |(column, title): (usize, &String)| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
            cells.max().unwrap_or(0).max(title.chars().count())
        };
        let mut widths: Vec<usize> = self.titles.iter().enumerate().map(widest).collect();
        let total = |widths: &[usize]| widths.iter().map(|width| width + GAP).sum::<usize>();
        while total(&widths) > width {
            // The widest text gives way, as long as it can.
            let texts = widths.iter().copied().enumerate().take(self.nr_texts);
            match texts.max_by_key(|&(_, width)| width) {
                Some((widest, len)) if self.may_cut && len > MIN_TEXT => {
                    let surplus = total(&widths) - width;
                    widths[widest] = len.saturating_sub(surplus).max(MIN_TEXT);
                }
                _ if widths.len() > 1 => drop(widths.pop()),
                _ => {
                    widths = vec![width.saturating_sub(GAP)];
                    break;
                }
            }
        }
        let is_cut = widths.len() < self.titles.len();
        let titles: Vec<Cell> =
            self.titles.iter().map(|title| Cell::styled(title.clone(), theme.faint())).collect();
        let mut heading = self.line(&titles, &widths);
        if is_cut && total(&widths) + theme.more().chars().count() <= width {
            heading.push_span(Span::styled(theme.more(), theme.faint()));
        }
        let rows = self.rows.iter().map(|row| self.line(row, &widths));
        core::iter::once(heading).chain(rows).collect()
    }

    fn line(&self, cells: &[Cell], widths: &[usize]) -> Line<'static> {
        let mut spans = Vec::new();
        for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let text = shortened(&cell.text, width);
            let padding = " ".repeat(width - text.chars().count());
            let gap = " ".repeat(GAP);
            let text = match column < self.nr_texts {
                true => [gap, text, padding].concat(),
                false => [gap, padding, text].concat(),
            };
            spans.push(Span::styled(text, cell.style));
        }
        Line::from(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEME: Theme = Theme { colours: false, ascii: true };

    fn shown(width: usize) -> Vec<String> {
        let mut table = TextTable::new(&["export"], &["calls/s", "read"]).with_long_texts();
        table.push(vec!["/srv/data/of/projects".into(), "12".into(), "1.00 GiB".into()]);
        table.push(vec!["/b".into(), "123456".into(), "0 B".into()]);
        table.lines(width, THEME).iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        assert_eq!(
            shown(80),
            [
                "  export                 calls/s      read",
                "  /srv/data/of/projects       12  1.00 GiB",
                "  /b                      123456       0 B",
            ]
        );
    }

    #[test]
    fn a_narrow_table_cuts_texts_then_columns() {
        let lines = shown(35);
        assert_eq!(lines[1], "  /srv/da\u{2026}ojects       12  1.00 GiB");
        let lines = shown(24);
        assert_eq!(lines[0].trim_end(), "  export      calls/s...");
        for width in 0..60 {
            for line in shown(width) {
                assert!(line.chars().count() <= width.max(2), "{width}: {line:?}");
            }
        }
    }
}
