//! Theme: styles that do not need colours, and characters that the terminal can show.

use std::env;
use std::ffi::OsStr;

use ratatui::style::{Color, Modifier, Style};

/// How text looks. What a colour shows is also said in words or by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Whether there are colours.
    pub(crate) colours: bool,
    /// Whether there are only ASCII characters.
    pub(crate) ascii: bool,
}

impl Theme {
    /// Reads `NO_COLOR` and the locale.
    pub(crate) fn detect() -> Self {
        let no_color = env::var_os("NO_COLOR");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .filter_map(env::var_os)
            .find(|value| !value.is_empty());
        Self::of(no_color.as_deref(), locale.as_deref())
    }

    /// # Source
    /// `no-color`
    fn of(no_color: Option<&OsStr>, locale: Option<&OsStr>) -> Self {
        let locale = locale.unwrap_or_default().to_string_lossy().to_lowercase();
        Self {
            colours: no_color.is_none_or(OsStr::is_empty),
            ascii: !(locale.contains("utf-8") || locale.contains("utf8")),
        }
    }

    pub(crate) fn plain(self) -> Style {
        Style::new()
    }

    /// Headings.
    pub(crate) fn heading(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Titles of columns, and what is less important.
    pub(crate) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Figures that catch the eye.
    pub(crate) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(crate) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(crate) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    pub(crate) fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(crate) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Returns a bar of `width` characters, filled to `share`, with marks at other shares.
    pub(crate) fn bar(self, width: usize, share: f64, marks: &[f64]) -> String {
        let (full, empty, mark) = if self.ascii { ('#', '.', '|') } else { ('█', '░', '│') };
        let cell = |share: f64| (share.clamp(0.0, 1.0) * width as f64).round();
        let filled = cell(share);
        let mut bar: Vec<char> =
            (0..width).map(|at| if (at as f64) < filled { full } else { empty }).collect();
        for &share in marks {
            // At the first character that is not below the mark.
            let at = (share.clamp(0.0, 1.0) * width as f64).ceil();
            if let Some(place) = (0..width).find(|&place| place as f64 >= at)
                && share > 0.0
            {
                bar[place] = mark;
            }
        }
        bar.into_iter().collect()
    }

    /// Returns the latest of `values` as columns of one character, the newest at the right.
    pub(crate) fn sparkline(
        self,
        width: usize,
        values: impl ExactSizeIterator<Item = f64>,
    ) -> String {
        let levels: &[char] = if self.ascii {
            &['_', '.', ':', '-', '=', '+', '*', '#']
        } else {
            &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        };
        let skipped = values.len().saturating_sub(width);
        let values: Vec<f64> = values.skip(skipped).collect();
        let most = values.iter().copied().fold(0.0, f64::max);
        let level = |value: &f64| {
            let height = if most > 0.0 { value / most * (levels.len() - 1) as f64 } else { 0.0 };
            let at = levels.iter().enumerate().rev().find(|&(at, _)| at as f64 <= height.round());
            at.map_or(levels[0], |(_, &level)| level)
        };
        values.iter().map(level).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Theme = Theme { colours: false, ascii: true };

    #[test]
    fn the_environment_decides() {
        let of = |no_color: Option<&str>, locale: Option<&str>| {
            let theme = Theme::of(no_color.map(OsStr::new), locale.map(OsStr::new));
            (theme.colours, theme.ascii)
        };
        assert_eq!(of(None, Some("en_GB.UTF-8")), (true, false));
        assert_eq!(of(Some(""), Some("C.utf8")), (true, false));
        assert_eq!(of(Some("1"), Some("C")), (false, true));
        assert_eq!(of(None, None), (true, true));
    }

    #[test]
    fn a_bar_shows_its_share_and_its_marks() {
        assert_eq!(PLAIN.bar(10, 0.5, &[]), "#####.....");
        assert_eq!(PLAIN.bar(10, 0.5, &[0.12]), "##|##.....");
        assert_eq!(PLAIN.bar(4, 7.0, &[0.0]), "####");
        assert_eq!(
            (PLAIN.bar(4, -1.0, &[2.0]), PLAIN.bar(0, 0.5, &[0.5])),
            ("....".into(), "".into())
        );
        assert_eq!(PLAIN.bar(4, f64::NAN, &[f64::NAN]).len(), 4);
    }

    #[test]
    fn a_sparkline_ends_with_the_newest() {
        let of = |width, values: &[f64]| PLAIN.sparkline(width, values.iter().copied());
        assert_eq!(of(3, &[9.0, 0.0, 5.0, 10.0]), "_=#");
        assert_eq!(of(8, &[0.0, 0.0]), "__");
        assert_eq!(of(8, &[]), "");
    }
}
