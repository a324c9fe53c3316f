//! What a person sees while measurements run.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Says so where figures are worth nothing.
pub(super) fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        output::note(
            "warning: this is a debug build, whose figures mean nothing: build it with cargo build \
             --release",
        );
    }
}

/// Makes the bar that shows how far the measurements are, on a terminal.
///
/// It is drawn between two measurements, by the thread that leads them, and never beside one.
pub(super) fn progress_bar(nr_steps: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(nr_steps as u64), target);
    let style = ProgressStyle::with_template("measuring {wide_bar} {pos}/{len}, {eta} left")
        .expect("the template is well-formed");
    bar.with_style(style)
}
