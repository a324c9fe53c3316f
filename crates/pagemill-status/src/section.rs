//! Sections: figures and tables that a program adds to its status.

use serde::{Deserialize, Serialize};

/// A part of a program's status: figures and tables under one title.
///
/// `pagemill top` shows each section as a view of its own: counters as rates, gauges as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Section {
    /// Its name, for programs: `nfs`.
    pub name: String,
    /// Its title, for people: `NFS`.
    pub title: String,
    /// When its figures were counted, in microseconds from any moment on: between two snapshots in which
    /// it is the same, they have not been counted again. The server sets it where it is zero.
    pub taken_us: u64,
    /// Whether an overview leaves it out.
    #[serde(default)]
    pub is_detail: bool,
    /// Single numbers.
    pub figures: Vec<Figure>,
    /// Numbers by row and column.
    pub tables: Vec<Table>,
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// It only grows: its increase per second is of interest.
    Counter,
    /// It grows and shrinks.
    #[serde(other)]
    Gauge,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pages of 4 KiB.
    Pages,
    /// Microseconds.
    Micros,
    /// Anything else.
    #[serde(other)]
    Count,
}

/// One number of a [`Section`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Figure {
    /// Its name, unique in its section.
    pub name: String,
    /// What it counts, for people. Without it, the name is shown, with blanks for underscores.
    #[serde(default)]
    pub title: Option<String>,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// The number.
    pub value: u64,
}

/// Numbers by row and column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Table {
    /// Its name, unique in its section.
    pub name: String,
    /// Titles of the columns of text, which come first.
    pub labels: Vec<String>,
    /// The columns of numbers.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A column of numbers in a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Column {
    /// Its title.
    pub name: String,
    /// Whether its numbers only grow.
    pub kind: Kind,
    /// What its numbers count.
    pub unit: Unit,
}

/// A row of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// One text for each label of the table; the first identifies the row.
    pub labels: Vec<String>,
    /// One number for each column.
    pub values: Vec<u64>,
}

/// The most rows of a table in a snapshot. Later ones are left out.
pub const MAX_ROWS: usize = 1024;

impl Section {
    /// Makes a section without figures and tables.
    #[must_use]
    pub fn new(name: impl Into<String>, title: impl Into<String>) -> Self {
        let (figures, tables) = (Vec::new(), Vec::new());
        let (name, title) = (name.into(), title.into());
        Self { name, title, taken_us: 0, is_detail: false, figures, tables }
    }

    /// Sets when its figures were counted, if that was not now: microseconds from any moment on.
    #[must_use]
    pub fn taken_us(mut self, taken_us: u64) -> Self {
        self.taken_us = taken_us;
        self
    }

    /// Leaves it out of the overview.
    #[must_use]
    pub fn detail(mut self) -> Self {
        self.is_detail = true;
        self
    }

    /// Adds a number that only grows.
    #[must_use]
    pub fn counter(self, name: impl Into<String>, unit: Unit, value: u64) -> Self {
        self.figure(name.into(), Kind::Counter, unit, value)
    }

    /// Adds a number that grows and shrinks.
    #[must_use]
    pub fn gauge(self, name: impl Into<String>, unit: Unit, value: u64) -> Self {
        self.figure(name.into(), Kind::Gauge, unit, value)
    }

    /// Gives the number that was added last a title that spells out what is counted. Does nothing if there
    /// is no number yet.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        if let Some(figure) = self.figures.last_mut() {
            figure.title = Some(title.into());
        }
        self
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.tables.push(table);
        self
    }

    /// Calls `change` with every text.
    pub(crate) fn for_each_text(&mut self, change: &mut impl FnMut(&mut String)) {
        change(&mut self.name);
        change(&mut self.title);
        for figure in &mut self.figures {
            change(&mut figure.name);
            figure.title.iter_mut().for_each(&mut *change);
        }
        for table in &mut self.tables {
            change(&mut table.name);
            table.labels.iter_mut().for_each(&mut *change);
            table.columns.iter_mut().for_each(|column| change(&mut column.name));
            for row in &mut table.rows {
                row.labels.iter_mut().for_each(&mut *change);
            }
        }
    }

    fn figure(mut self, name: String, kind: Kind, unit: Unit, value: u64) -> Self {
        self.figures.push(Figure { name, title: None, kind, unit, value });
        self
    }
}

impl Column {
    /// Makes a column of numbers that only grow.
    #[must_use]
    pub fn counter(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), kind: Kind::Counter, unit }
    }

    /// Makes a column of numbers that grow and shrink.
    #[must_use]
    pub fn gauge(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), kind: Kind::Gauge, unit }
    }
}

impl Table {
    /// Makes a table without rows.
    #[must_use]
    pub fn new<const L: usize, const C: usize>(
        name: impl Into<String>,
        labels: [&str; L],
        columns: [Column; C],
    ) -> Self {
        Self {
            name: name.into(),
            labels: labels.map(str::to_owned).into(),
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, unless there are [`MAX_ROWS`].
    ///
    /// # Panics
    /// If there are not as many texts as labels, or not as many numbers as columns.
    #[track_caller]
    pub fn push(&mut self, labels: impl Into<Vec<String>>, values: impl Into<Vec<u64>>) {
        let (labels, values) = (labels.into(), values.into());
        let got = (labels.len(), values.len());
        let wanted = (self.labels.len(), self.columns.len());
        assert_eq!(got, wanted, "texts and numbers of a row of the table {}", self.name);
        if self.rows.len() < MAX_ROWS {
            self.rows.push(Row { labels, values });
        }
    }
}
