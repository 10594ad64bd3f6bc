//! Cuts RON text into brackets, commas, colons and atoms; skips blanks, comments and attributes.
//!
//! Every lexeme is at least one byte, so any text comes to an end. What an atom means is not looked at.

use std::ops::Range;

/// What a lexeme is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open(u8),
    Close(u8),
    Comma,
    Colon,
    /// A name, number, string or character.
    Atom,
}

/// A piece of the text.
#[derive(Debug)]
pub(super) struct Lexeme {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// Walks over a text.
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// A string, character or comment runs into the end of the text.
    pub(super) unclosed: bool,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut lexer = Self { text, at: 0, unclosed: false };
        lexer.skip_attributes();
        lexer
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    pub(super) fn next_lexeme(&mut self) -> Option<Lexeme> {
        self.skip_blanks();
        let start = self.at;
        let kind = match *self.text.as_bytes().get(start)? {
            bracket @ (b'(' | b'[' | b'{') => Kind::Open(bracket),
            bracket @ (b')' | b']' | b'}') => Kind::Close(bracket),
            b',' => Kind::Comma,
            b':' => Kind::Colon,
            _ => Kind::Atom,
        };
        match kind {
            Kind::Atom => self.skip_atom(),
            _ => self.at += 1,
        }
        Some(Lexeme { kind, range: start..self.at })
    }

    /// `#![enable(...)]` at the head of a file, with blanks and comments anywhere in it.
    fn skip_attributes(&mut self) {
        loop {
            self.skip_blanks();
            let start = self.at;
            if !self.skip_mark('#') || !self.skip_mark('!') {
                self.at = start;
                return;
            }
            while self.next_lexeme().is_some_and(|lexeme| lexeme.kind != Kind::Close(b']')) {}
        }
    }

    /// One character and the blanks after it, if it is there.
    fn skip_mark(&mut self, mark: char) -> bool {
        let found = self.rest().starts_with(mark);
        if found {
            self.at += mark.len_utf8();
            self.skip_blanks();
        }
        found
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest().trim_start_matches(is_blank);
            self.at = self.text.len() - rest.len();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.skip_block_comment();
            } else {
                return;
            }
        }
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) {
        let bytes = self.text.as_bytes();
        let mut depth = 0_usize;
        while self.at < bytes.len() {
            match &bytes[self.at..(self.at + 2).min(bytes.len())] {
                b"/*" => (depth, self.at) = (depth + 1, self.at + 2),
                b"*/" => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
        self.unclosed = true;
    }

    fn skip_atom(&mut self) {
        let rest = self.rest();
        if let Some(hashes) = raw_string_hashes(rest) {
            return self.skip_raw_string(hashes);
        }
        let quoted = rest.strip_prefix('b').filter(|after| after.starts_with(['"', '\''])).unwrap_or(rest);
        match quoted.as_bytes()[0] {
            quote @ (b'"' | b'\'') => {
                self.at = self.text.len() - quoted.len() + 1;
                self.skip_quoted(quote);
            }
            _ => self.skip_word(),
        }
    }

    /// To the closing quote; a backslash takes the next character with it.
    fn skip_quoted(&mut self, quote: u8) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at += self.rest_char_len(),
                _ if byte == quote => return,
                _ => {}
            }
        }
        self.at = bytes.len();
        self.unclosed = true;
    }

    /// Bytes of the character here; 0 at the end of the text.
    fn rest_char_len(&self) -> usize {
        self.rest().chars().next().map_or(0, char::len_utf8)
    }

    fn skip_raw_string(&mut self, hashes: usize) {
        let head = self.text.len() - self.at - self.rest().trim_start_matches(['b', 'r', '#']).len();
        self.at += head + 1;
        self.skip_past(&format!("\"{}", "#".repeat(hashes)));
    }

    fn skip_past(&mut self, mark: &str) {
        match self.rest().find(mark) {
            Some(at) => self.at += at + mark.len(),
            None => (self.at, self.unclosed) = (self.text.len(), true),
        }
    }

    /// At least one character, so that every lexeme makes progress.
    fn skip_word(&mut self) {
        let rest = self.rest();
        let first = self.rest_char_len();
        let ends = |c: char| is_blank(c) || "()[]{},:\"'/".contains(c);
        self.at += rest[first..].find(ends).map_or(rest.len(), |length| first + length);
    }
}

/// How many `#` a raw string starts with, if this is one: `r"`, `r#"`, `br##"`.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let quote = after.trim_start_matches('#');
    quote.starts_with('"').then(|| after.len() - quote.len())
}

/// What RON skips between lexemes: Unicode's Pattern_White_Space.
fn is_blank(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{85}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}')
}
