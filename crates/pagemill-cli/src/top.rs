//! The live view of a process: figures as lines of text (`views`), on a screen (`screen`).

pub(crate) mod format;
pub(crate) mod rates;
pub(crate) mod sampler;
pub(crate) mod screen;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod theme;
pub(crate) mod views;
