//! Fenced blocks of a document: the tables that people and tests read alike.

/// A fenced block: where it opens, and its lines as words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence<'a> {
    /// The line of the opening fence, counted from one.
    pub line: usize,
    /// The lines that hold words, each with its number and without the comment after `#`.
    pub rows: Vec<(usize, Vec<&'a str>)>,
}

impl<'a> Fence<'a> {
    /// Walks over all words with the lines they stand on and their rows, counted from zero.
    pub fn words(&self) -> impl Iterator<Item = (usize, usize, &'a str)> {
        self.rows
            .iter()
            .enumerate()
            .flat_map(|(row, (line, words))| words.iter().map(move |word| (*line, row, *word)))
    }
}

/// Returns the blocks of `document` whose first info word is `info`, each with the word after it.
#[must_use]
pub fn fences<'a>(document: &'a str, info: &str) -> Vec<(&'a str, Fence<'a>)> {
    let mut found = Vec::new();
    let mut lines = document.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(opening) = line.strip_prefix("```") else {
            continue;
        };
        let mut opening = opening.split_whitespace();
        let wanted = opening.next() == Some(info);
        let mut rows = Vec::new();
        for (line, number) in lines.by_ref().take_while(|(line, _)| !line.starts_with("```")) {
            let words: Vec<_> =
                line.split('#').next().unwrap_or_default().split_whitespace().collect();
            if !words.is_empty() {
                rows.push((number, words));
            }
        }
        if wanted {
            found.push((opening.next().unwrap_or_default(), Fence { line: number, rows }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_their_info_words() {
        let document =
            "text\n```layers a\nb c # why\n\nd\n```\n```rust\nlayers\n```\n```rooms\ne\n```";
        let rows = vec![(3, vec!["b", "c"]), (5, vec!["d"])];
        assert_eq!(fences(document, "layers"), [("a", Fence { line: 2, rows })]);
        let rows = vec![(11, vec!["e"])];
        assert_eq!(fences(document, "rooms"), [("", Fence { line: 10, rows })]);
    }
}
