//! Figures of a saved report, with the names and units that identify them.

/// A report that was read back.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedReport {
    /// The command that wrote it, such as `bench bulk`.
    pub command: String,
    /// Program, machine and options, as pairs of a name and a value, such as `machine.governor`.
    pub circumstances: Vec<(String, String)>,
    /// The tables of figures.
    pub tables: Vec<Table>,
}

/// Rows that are identified by the same keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The name of the array in the JSON document.
    pub name: &'static str,
    /// The names of the keys.
    pub keys: &'static [&'static str],
    /// The rows, in the order of the document.
    pub rows: Vec<Row>,
}

/// One measurement with all its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The value of each key.
    pub key: Vec<String>,
    /// The figures that the row has.
    pub figures: Vec<Figure>,
}

/// One figure of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name in the document.
    pub name: &'static str,
    /// Its unit.
    pub unit: String,
    /// Which of two values is better.
    pub better: Better,
    /// How often it was measured, and with what result.
    pub values: Values,
}

/// Direction in which a figure improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Times and costs.
    Lower,
    /// Rates and blocks.
    Higher,
}

/// What a report records of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Every run has the same value: nothing was timed.
    Exact(f64),
    /// One value, whose noise is unknown.
    Once(f64),
    /// Median and extremes of several runs.
    Runs {
        /// The median.
        median: f64,
        /// The minimum.
        min: f64,
        /// The maximum.
        max: f64,
        /// The number of runs, if it is recorded.
        nr: Option<usize>,
        /// The value of each run; empty in reports of older versions.
        samples: Vec<f64>,
    },
}

impl Values {
    /// Returns the value that stands for all of them.
    pub fn middle(&self) -> f64 {
        match *self {
            Self::Exact(value) | Self::Once(value) => value,
            Self::Runs { median, .. } => median,
        }
    }
}
