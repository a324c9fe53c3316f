//! Tables as lines of text that fit a width: a table that is too wide shows its first column and those
//! that it is scrolled to, and its heading says where there are more.

use core::cell::Cell as StdCell;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::format::shortened;
use super::theme::Theme;

/// Blanks between two columns.
const GAP: usize = 2;
/// Characters of the mark behind the last column that is shown.
const MARK: usize = 2;
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

/// How far tables are scrolled sideways.
#[derive(Debug, Default)]
pub(crate) struct Sideways {
    /// Columns that are skipped behind the first one.
    pub(crate) skipped: usize,
    /// The most columns that a table since the last [`Sideways::clamp`] has to skip to show its last one.
    most: StdCell<usize>,
}

impl Sideways {
    /// Ends a pass over all tables of a view: skips no more columns than one of them can, and returns
    /// whether there are columns further on.
    pub(crate) fn clamp(&mut self) -> bool {
        let most = self.most.take();
        self.skipped = self.skipped.min(most);
        self.skipped < most
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

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the lines of the table, of at most `width` characters.
    ///
    /// Shortens texts before it leaves out columns. The first column stays; where others are left out,
    /// the heading has the key that scrolls there, `<` or `>`.
    pub(crate) fn lines(
        &self,
        width: usize,
        theme: Theme,
        sideways: &Sideways,
    ) -> Vec<Line<'static>> {
        let widths = self.widths(width);
        let most = nr_skipped_at_end(&widths, width);
        sideways.most.set(sideways.most.get().max(most));
        let skipped = sideways.skipped.min(most);
        let mut shown = vec![0];
        let mut used = widths.first().map_or(0, |first| first + GAP);
        for column in 1 + skipped..widths.len() {
            let is_last = column + 1 == widths.len();
            used += widths[column] + GAP;
            // At least one, however wide.
            if used + if is_last { 0 } else { MARK } > width && shown.len() > 1 {
                break;
            }
            shown.push(column);
        }
        let is_more = shown.last().is_some_and(|&last| last + 1 < widths.len());
        let titles: Vec<Cell> =
            self.titles.iter().map(|title| Cell::styled(title.clone(), theme.faint())).collect();
        let end = width.saturating_sub(if is_more { MARK } else { 0 });
        let mut heading = self.line(&titles, &widths, &shown, end);
        // In the gap behind the first column.
        if let Some(second) = heading.spans.get_mut(1).filter(|_| skipped > 0) {
            second.content = second.content.replacen(' ', "<", 1).into();
        }
        if is_more {
            heading.push_span(Span::styled(" >", theme.strong()));
        }
        let rows = self.rows.iter().map(|row| self.line(row, &widths, &shown, end));
        core::iter::once(heading).chain(rows).collect()
    }

    /// Returns the width of each column, after texts were cut as far as they have to be.
    fn widths(&self, width: usize) -> Vec<usize> {
        let widest = |(column, title): (usize, &String)| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
            cells.max().unwrap_or(0).max(title.chars().count())
        };
        let mut widths: Vec<usize> = self.titles.iter().enumerate().map(widest).collect();
        loop {
            let surplus = total(&widths).saturating_sub(width);
            let texts = widths.iter().copied().enumerate().take(self.nr_texts);
            // The widest text gives way, as long as it can.
            match texts.max_by_key(|&(_, width)| width) {
                Some((widest, len)) if surplus > 0 && self.may_cut && len > MIN_TEXT => {
                    widths[widest] = len.saturating_sub(surplus).max(MIN_TEXT);
                }
                _ => break,
            }
        }
        widths
    }

    /// Returns the cells in the columns `shown`, cut at `end` characters.
    fn line(&self, cells: &[Cell], widths: &[usize], shown: &[usize], end: usize) -> Line<'static> {
        let mut spans = Vec::new();
        let mut left = end;
        for &column in shown {
            let (Some(cell), Some(&width)) = (cells.get(column), widths.get(column)) else {
                continue;
            };
            let gap = GAP.min(left);
            let width = width.min(left - gap);
            left -= gap + width;
            let text = shortened(&cell.text, width);
            let padding = " ".repeat(width - text.chars().count());
            let gap = " ".repeat(gap);
            let text = match column < self.nr_texts {
                true => [gap, text, padding].concat(),
                false => [gap, padding, text].concat(),
            };
            spans.push(Span::styled(text, cell.style));
        }
        Line::from(spans)
    }
}

/// Returns the characters of a line with columns of these widths.
fn total(widths: &[usize]) -> usize {
    widths.iter().map(|width| width + GAP).sum()
}

/// Returns how many columns behind the first one must be left out to show the last one.
fn nr_skipped_at_end(widths: &[usize], width: usize) -> usize {
    let Some((first, others)) = widths.split_first() else { return 0 };
    let fits = |skipped: &usize| total(&others[*skipped..]) + first + GAP <= width;
    (0..others.len()).find(fits).unwrap_or(others.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEME: Theme = Theme { colours: false, ascii: true };

    fn scrolled(width: usize, sideways: &Sideways) -> Vec<String> {
        let mut table = TextTable::new(&["export"], &["calls/s", "read"]).with_long_texts();
        table.push(vec!["/srv/data/of/projects".into(), "12".into(), "1.00 GiB".into()]);
        table.push(vec!["/b".into(), "123456".into(), "0 B".into()]);
        table.lines(width, THEME, sideways).iter().map(|line| line.to_string()).collect()
    }

    fn shown(width: usize) -> Vec<String> {
        scrolled(width, &Sideways::default())
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
        assert_eq!(lines[0].trim_end(), "  export      calls/s >");
        for width in 0..60 {
            for line in shown(width) {
                assert!(line.chars().count() <= width.max(MARK), "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_narrow_table_scrolls_behind_its_first_column_as_far_as_there_are_columns() {
        let mut sideways = Sideways::default();
        scrolled(24, &sideways);
        assert!(sideways.clamp(), "there is a column further on");
        sideways.skipped = 9;
        let lines = scrolled(24, &sideways);
        assert_eq!(lines[0], "  export    <     read");
        assert_eq!(lines[1], "  /srv/\u{2026}ects  1.00 GiB");
        assert!(!sideways.clamp());
        assert_eq!(sideways.skipped, 1);
        // In a wider terminal, there is nothing to skip.
        assert_eq!(scrolled(80, &sideways), shown(80));
        assert!(!sideways.clamp());
        assert_eq!(sideways.skipped, 0);
    }
}
