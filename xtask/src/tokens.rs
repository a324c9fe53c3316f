//! Rust source as words and signs with line numbers, without comments and the inside of strings.

/// A word, a number, a sign or a literal of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The characters; `"` stands for a string or a character literal, `::` is one token.
    pub text: &'a str,
    /// The line it begins on, counted from one.
    pub line: usize,
    /// Whether it belongs to an item under `#[cfg(test)]`.
    pub in_test: bool,
}

/// Splits `source` into tokens and marks those that only a test build sees.
#[must_use]
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, at: 0, line: 1, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.step();
    }
    mark_tests(&mut lexer.tokens);
    lexer.tokens
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Moves `len_bytes` on and counts the lines that end there.
    fn skip(&mut self, len_bytes: usize) -> &'a str {
        let end = (self.at + len_bytes).min(self.source.len());
        let skipped = &self.source[self.at..end];
        self.line += skipped.matches('\n').count();
        self.at = end;
        skipped
    }

    fn push(&mut self, text: &'a str, line: usize) {
        self.tokens.push(Token { text, line, in_test: false });
    }

    fn literal(&mut self, len_bytes: usize) {
        let line = self.line;
        self.skip(len_bytes);
        self.push("\"", line);
    }

    fn step(&mut self) {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return;
        };
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(block_comment(rest));
        } else if first == '"' {
            self.literal(quoted(rest, '"'));
        } else if first == '\'' {
            self.quote(rest);
        } else if let Some(len_bytes) = raw_string(rest) {
            self.literal(len_bytes);
        } else if first == '_' || first.is_alphanumeric() {
            let line = self.line;
            let word = self.skip(word(rest));
            self.push(word, line);
        } else {
            let line = self.line;
            let len_bytes = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            let sign = self.skip(len_bytes);
            self.push(sign, line);
        }
    }

    /// Takes a character literal, or a lifetime, which leaves no token.
    fn quote(&mut self, rest: &str) {
        let mut chars = rest.chars().skip(1);
        let (second, third) = (chars.next(), chars.next());
        if second == Some('\\') || third == Some('\'') {
            self.literal(quoted(rest, '\''));
        } else {
            self.skip(1 + word(&rest[1..]));
        }
    }
}

/// Length of the word that `text` begins with.
fn word(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len())
}

/// Length of the block comment that `text` begins with; block comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of the literal that `text` begins with, which ends at the next `quote` without a `\`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Length of the raw string that `text` begins with, if it begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let after = &text[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let open = prefix.len() + hashes + 1;
    Some(body.find(&end).map_or(text.len(), |at| open + at + end.len()))
}

/// Marks each item that stands under `#[cfg(test)]`, or all of a file under `#![cfg(test)]`.
fn mark_tests(tokens: &mut [Token<'_>]) {
    let mut at = 0;
    while at < tokens.len() {
        let inner = tokens.get(at + 1).is_some_and(|token| token.text == "!");
        let Some(end) = attribute_end(tokens, at) else {
            at += 1;
            continue;
        };
        if !is_test_only(&tokens[at..end]) {
            at = end;
            continue;
        }
        let end = if inner { tokens.len() } else { item_end(tokens, end) };
        for token in &mut tokens[at..end] {
            token.in_test = true;
        }
        at = end;
    }
}

/// Index after the attribute that begins at `at`, if one does.
fn attribute_end(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let text = |index: usize| tokens.get(index).map(|token| token.text);
    if text(at) != Some("#") {
        return None;
    }
    let open = if text(at + 1) == Some("!") { at + 2 } else { at + 1 };
    (text(open) == Some("[")).then(|| group_end(tokens, open))
}

/// Whether an attribute is a `cfg` that no build but a test build satisfies.
fn is_test_only(attribute: &[Token<'_>]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token.text == word);
    has("cfg") && has("test") && !has("not") && !has("any")
}

/// Index after the item that begins at `at`, with the attributes before it.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while let Some(end) = attribute_end(tokens, at) {
        at = end;
    }
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "{" => return group_end(tokens, at),
            "(" | "[" => at = group_end(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Index after the bracket that closes the one at `open`.
fn group_end(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_strings_leave_no_words() {
        let source = "a // crate::b\n/* c /* d */ e */ \"f \\\" g\" r#\"h \" i\"# b'j' '\\'' k";
        assert_eq!(texts(source), ["a", "\"", "\"", "b", "\"", "\"", "k"]);
    }

    #[test]
    fn lifetimes_are_not_literals() {
        assert_eq!(texts("&'a str, 'x' r#try"), ["&", "str", ",", "\"", "r", "#", "try"]);
    }

    #[test]
    fn lines_count_through_comments_and_strings() {
        let source = "/* 1\n2 */ a \"3\n4\"\nb";
        let lines: Vec<_> = tokens(source).iter().map(|token| token.line).collect();
        assert_eq!(lines, [2, 2, 4]);
    }

    #[test]
    fn only_the_item_under_cfg_test_is_marked() {
        let source =
            "fn a() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests { fn b([u8; 3]) {} }\nfn c() {}";
        for token in tokens(source) {
            assert_eq!(token.in_test, (2..=4).contains(&token.line), "{token:?}");
        }
    }

    #[test]
    fn other_conditions_are_not_test_only() {
        for cfg in ["not(test)", "any(test, loom)", "loom"] {
            let source = format!("#[cfg({cfg})] mod a;");
            assert!(tokens(&source).iter().all(|token| !token.in_test), "{cfg}");
        }
        assert!(tokens("#![cfg(test)] fn a() {} fn b() {}").iter().all(|token| token.in_test));
    }
}
