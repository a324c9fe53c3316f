//! Text that is safe to show on a terminal.

use std::path::Path;

/// Returns a path as text that cannot control a terminal: another user may have chosen its characters.
pub(crate) fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// Replaces characters that control a terminal, change the direction or the lines of a text, or are
/// invisible, by U+FFFD.
#[must_use]
pub fn visible(text: &str) -> String {
    let is_hidden = |c: char| {
        matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let show =
        |c: char| if c.is_control() || is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_and_separators_are_replaced() {
        for hidden in
            "\u{1b}\n\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200d}\u{200e}\u{2028}\u{2029}\u{202e}\
            \u{2060}\u{2066}\u{feff}\u{fff9}\u{e0041}"
                .chars()
                .filter(|&c| c != ' ')
        {
            assert_eq!(visible(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
        let plain = "nfsd-1.sock /tmp/Größe 日本語 עברית 🙂 e\u{301}";
        assert_eq!(visible(plain), plain);
    }
}
