//! Finds values in the text of a RON file by path (`bodies[3].mass`).
//!
//! The outline knows brackets, names, commas, colons, strings, characters and comments, and nothing of what they mean. It takes
//! time and memory in proportion to the text, does not recurse, and comes to an end on any text whatever. Text that is not
//! well-formed gets the best outline that can be had, and [`Outline::flaw`] says where it went wrong.
//!
//! A path names fields by `.name` and entries of lists and tuples by `[index]`. The name of a variant is not part of it:
//! `integrator.dt` is the `dt` of whatever integrator is there.

mod edit;
mod lexer;

use std::ops::Range;

use thiserror::Error;

pub use self::edit::{Edit, SetError, edit, set};
use self::lexer::{Kind, Lexeme, Lexer};

/// Brackets may be nested this deep. The deepest scenario has 7; ron itself recurses, and stops at 128 too.
pub const DEPTH_MAX: usize = 128;

// ------------------------------------------------------------------------------------------------ outline

/// The values of a RON file and where they are.
#[derive(Debug)]
pub struct Outline {
    /// Each value after those in it; the values of one group are neighbours, in the order of the text.
    nodes: Vec<Node>,
    /// The outermost value: the last node.
    root: Option<usize>,
    flaw: Option<usize>,
    unclosed: Option<usize>,
}

/// Why a text has no outline.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OutlineError {
    /// Brackets are nested too deep.
    #[error("brackets are nested more than {DEPTH_MAX} deep")]
    TooDeep {
        /// The byte of the bracket that is one too many.
        at: usize,
    },
    /// Places are held in 32 bits.
    #[error("a file of more than 4 GiB is not read")]
    TooLong,
}

/// One value. 32 bits per place: a file of a million bodies has ten million values.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The name or key before the colon; empty for an entry of a list.
    key: Span,
    /// The value, the name of a variant included.
    value: Span,
    /// Where the opening bracket ends; 0 for a value without brackets.
    inner: u32,
    /// The opening bracket, or 0.
    bracket: u8,
    /// The values in it, as a range of `nodes`.
    entries: Span,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Callers hold places in a text that [`Outline::of`] found short enough.
    fn new(range: Range<usize>) -> Self {
        Self { start: range.start as u32, end: range.end as u32 }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Outline {
    /// Outlines a text.
    pub fn of(text: &str) -> Result<Self, OutlineError> {
        Self::to_depth(text, DEPTH_MAX)
    }

    /// Outlines the outermost value and its fields only: however long the lists in them are, this takes no memory for them.
    pub fn of_top(text: &str) -> Result<Self, OutlineError> {
        Self::to_depth(text, 1)
    }

    /// Keeps values within at most so many brackets; flaws are found at any depth.
    fn to_depth(text: &str, depth: usize) -> Result<Self, OutlineError> {
        if u32::try_from(text.len()).is_err() {
            return Err(OutlineError::TooLong);
        }
        let mut builder = Builder { depth_kept: depth, ..Builder::default() };
        let mut lexer = Lexer::new(text);
        while let Some(lexeme) = lexer.next_lexeme() {
            builder.take(lexeme)?;
        }
        if lexer.unclosed {
            builder.flaw_at(text.len());
        }
        let mut outline = builder.finish(text.len());
        // The closing brackets may be inside the string or comment that has no end.
        outline.unclosed.take_if(|_| lexer.unclosed);
        Ok(outline)
    }

    /// The first place where the text is not well-formed: a bracket, string or comment that is not closed, a bracket that does
    /// not match, a comma or colon too many, or two values without a comma between.
    pub fn flaw(&self) -> Option<usize> {
        self.flaw
    }

    /// The first opening bracket that another kind of bracket, or the end of the text, closes.
    pub fn unclosed(&self) -> Option<usize> {
        self.unclosed
    }

    /// The bytes of the outermost value.
    pub fn root(&self) -> Option<Range<usize>> {
        self.root.map(|root| self.nodes[root].value.range())
    }

    /// The bytes of the value at a path, if there is one.
    pub fn find(&self, text: &str, path: &str) -> Option<Range<usize>> {
        let segments = segments(path).ok()?;
        let (node, rest) = self.walk(text, &segments)?;
        rest.is_empty().then(|| self.nodes[node].value.range())
    }

    /// What to underline for a fault at a path: the value, or the innermost group on the way to where it would be.
    /// Of a group over several lines only the head is taken, as in `Plummer(`.
    pub fn underline(&self, text: &str, path: &str) -> Range<usize> {
        let segments = segments(path).unwrap_or_default();
        let Some((node, _)) = self.walk(text, &segments) else {
            return 0..0;
        };
        let node = &self.nodes[node];
        let value = node.value.range();
        match node.inner {
            inner if inner > 0 && text[value.clone()].contains('\n') => value.start..inner as usize,
            _ => value,
        }
    }

    /// Follows a path as far as it goes: the innermost value found, and the segments that were not.
    fn walk<'s, 'p>(&self, text: &str, segments: &'s [Segment<'p>]) -> Option<(usize, &'s [Segment<'p>])> {
        let mut node = self.root?;
        for (k, segment) in segments.iter().enumerate() {
            match self.entry(text, node, *segment) {
                Some(inner) => node = inner,
                None => return Some((node, &segments[k..])),
            }
        }
        Some((node, &[]))
    }

    fn entry(&self, text: &str, node: usize, segment: Segment<'_>) -> Option<usize> {
        let entries = self.nodes[self.unwrapped(text, node)].entries.range();
        match segment {
            Segment::Index(index) => {
                entries.into_iter().nth(index).filter(|&entry| self.nodes[entry].key == Span::default())
            }
            Segment::Field(name) => entries.into_iter().find(|&entry| &text[self.nodes[entry].key.range()] == name),
        }
    }

    /// Looks through `Some(...)`, however often it is written.
    fn unwrapped(&self, text: &str, mut node: usize) -> usize {
        loop {
            let Node { value, inner, entries, .. } = self.nodes[node];
            let entries = entries.range();
            let name = text[value.start as usize..(inner.max(value.start + 1) - 1) as usize].trim_end();
            match inner > 0
                && name == "Some"
                && entries.len() == 1
                && self.nodes[entries.start].key == Span::default()
                && self.nodes[entries.start].inner > 0
            {
                true => node = entries.start,
                false => return node,
            }
        }
    }
}

/// Makes an outline from lexemes, with a stack of its own.
#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    /// Values within more brackets than this are forgotten.
    depth_kept: usize,
    /// Finished values whose group is still open.
    waiting: Vec<Node>,
    open: Vec<Frame>,
    item: Item,
    flaw: Option<usize>,
    unclosed: Option<usize>,
}

/// A group that is still open.
struct Frame {
    /// The item outside of which this group is the value.
    outer: Item,
    /// Where the value starts: at its name, or at its bracket.
    start: usize,
    bracket: u8,
    inner: usize,
    /// How many values were waiting before this group opened.
    waiting: usize,
}

/// What has been seen since the last comma: perhaps a key, perhaps a value.
#[derive(Clone, Copy, Default)]
struct Item {
    key: Option<Span>,
    value: Option<Node>,
}

impl Builder {
    fn take(&mut self, lexeme: Lexeme) -> Result<(), OutlineError> {
        let at = lexeme.range.start;
        match lexeme.kind {
            Kind::Atom => self.atom(lexeme.range),
            Kind::Colon => self.colon(at),
            Kind::Comma => self.comma(at),
            Kind::Open(bracket) => return self.open(bracket, at),
            Kind::Close(bracket) => self.close(bracket, lexeme.range),
        }
        Ok(())
    }

    fn flaw_at(&mut self, at: usize) {
        self.flaw.get_or_insert(at);
    }

    fn atom(&mut self, range: Range<usize>) {
        if self.item.value.is_some() {
            return self.flaw_at(range.start);
        }
        let value = Span::new(range);
        self.item.value = Some(Node { key: Span::default(), value, inner: 0, bracket: 0, entries: Span::default() });
    }

    fn colon(&mut self, at: usize) {
        match (self.item.key, self.item.value.take()) {
            (None, Some(key)) if !self.open.is_empty() => self.item.key = Some(key.value),
            (_, value) => {
                self.item.value = value;
                self.flaw_at(at);
            }
        }
    }

    fn comma(&mut self, at: usize) {
        if self.item.value.is_none() || self.open.is_empty() {
            self.flaw_at(at);
        }
        self.end_item(at);
    }

    /// A key without a value is a flaw; nothing at all is not, since a comma may stand before the closing bracket.
    fn end_item(&mut self, at: usize) {
        let item = std::mem::take(&mut self.item);
        match item.value {
            Some(_) if self.open.len() > self.depth_kept => {}
            Some(node) => self.waiting.push(Node { key: item.key.unwrap_or_default(), ..node }),
            None if item.key.is_some() => self.flaw_at(at),
            None => {}
        }
    }

    fn open(&mut self, bracket: u8, at: usize) -> Result<(), OutlineError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(OutlineError::TooDeep { at });
        }
        let mut outer = std::mem::take(&mut self.item);
        let start = match outer.value.take() {
            None => at,
            Some(name) if name.inner == 0 && bracket == b'(' => name.value.start as usize,
            Some(_) => {
                self.flaw_at(at);
                at
            }
        };
        self.open.push(Frame { outer, start, bracket, inner: at + 1, waiting: self.waiting.len() });
        Ok(())
    }

    /// `range` is that of the closing bracket; it is empty at the end of the text, where none is.
    fn close(&mut self, bracket: u8, range: Range<usize>) {
        self.end_item(range.start);
        let Some(frame) = self.open.pop() else {
            return self.flaw_at(range.start);
        };
        if bracket != closing(frame.bracket) || range.is_empty() {
            self.flaw_at(range.start);
            self.unclosed.get_or_insert(frame.inner - 1);
        }
        let first = self.nodes.len();
        self.nodes.extend(self.waiting.drain(frame.waiting..));
        self.item = Item {
            value: Some(Node {
                key: Span::default(),
                value: Span::new(frame.start..range.end),
                inner: frame.inner as u32,
                bracket: frame.bracket,
                entries: Span::new(first..self.nodes.len()),
            }),
            ..frame.outer
        };
    }

    fn finish(mut self, end: usize) -> Outline {
        while let Some(frame) = self.open.last() {
            let bracket = closing(frame.bracket);
            self.close(bracket, end..end);
        }
        self.end_item(end);
        if self.waiting.len() != 1 {
            self.flaw_at(self.waiting.get(1).map_or(end, |second| second.value.start as usize));
        }
        let root = self.waiting.first().map(|_| self.nodes.len());
        self.nodes.extend(self.waiting.first());
        Outline { nodes: self.nodes, root, flaw: self.flaw, unclosed: self.unclosed }
    }
}

fn closing(bracket: u8) -> u8 {
    match bracket {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

// --------------------------------------------------------------------------------------------------- paths

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'p> {
    Field(&'p str),
    Index(usize),
}

/// Splits `bodies[3].mass` into its segments.
fn segments(path: &str) -> Result<Vec<Segment<'_>>, SetError> {
    let wrong = || SetError::BadPath { path: path.to_string() };
    if path.trim().is_empty() {
        return Err(SetError::EmptyPath);
    }
    let mut segments = Vec::new();
    for part in path.trim().split('.') {
        let (name, mut indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(wrong());
        }
        segments.push(Segment::Field(name));
        while let Some(rest) = indices.strip_prefix('[') {
            let (index, after) = rest.split_once(']').ok_or_else(wrong)?;
            segments.push(Segment::Index(index.parse().map_err(|_| wrong())?));
            indices = after;
        }
        if !indices.is_empty() {
            return Err(wrong());
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that has everything a scanner may stumble over.
    pub(super) const TEXT: &str = r####"# /* ] */ ![enable(/* ] */ implicit_some)]
// a comment with a bracket ( and name: 3
Scenario(
    name: r##"odd "# ) name"##, /* nested /* ( */ , */
    integrator : Leapfrog ( dt: 10.0 ),
    units: Nbody,
    bodies: [
        (mass: 1, position: (0, 1, 2), name: "a \" ) ["),
        (mass: 2.5, position: [3, 4, 5], name: Some("b")),
    ],
    until: Time(5.0),
    mark: '(', quote: '\'',
    audit: (),
    gravity: Some((softening: 0.5)),
    note: Some(a: (b: 1)),
)"####;

    fn found(path: &str) -> Option<&'static str> {
        Outline::of(TEXT).unwrap().find(TEXT, path).map(|range| &TEXT[range])
    }

    #[test]
    fn values_are_found_by_path() {
        assert_eq!(Outline::of(TEXT).unwrap().flaw(), None);
        assert_eq!(found("name"), Some(r###"r##"odd "# ) name"##"###));
        assert_eq!(found("integrator"), Some("Leapfrog ( dt: 10.0 )"));
        assert_eq!(found("integrator.dt"), Some("10.0"));
        assert_eq!(found("bodies[1].mass"), Some("2.5"));
        assert_eq!(found("bodies[1].position[2]"), Some("5"));
        assert_eq!(found("bodies[0].name"), Some(r#""a \" ) [""#));
        assert_eq!(found("until[0]"), Some("5.0"));
        assert_eq!(found("mark"), Some("'('"));
        assert_eq!(found("gravity.softening"), Some("0.5"));
        assert_eq!(found("bodies[2].mass"), None);
        assert_eq!(found("note.a"), Some("(b: 1)"));
        assert_eq!(found("integrator[0]"), None);
    }

    #[test]
    fn depth_has_a_limit_and_no_stack_is_used_up() {
        let deep = |depth: usize| "(".repeat(depth) + &")".repeat(depth);

        assert!(Outline::of(&deep(DEPTH_MAX)).is_ok());
        assert_eq!(Outline::of(&deep(1_000_000)).unwrap_err(), OutlineError::TooDeep { at: DEPTH_MAX });
        assert!(Outline::of(&"/*".repeat(1_000_000)).unwrap().flaw().is_some());
    }

    #[test]
    fn flaws_are_noticed() {
        for text in
            ["", "(", ")", "(]", "(a: )", "(a: 1 b: 2)", "(,)", "() ()", "(a: \"x)", "(a: 1)) ", "a: 1", "(a:: 1)"]
        {
            assert!(Outline::of(text).unwrap().flaw().is_some(), "{text}");
        }
        for text in ["()", "[1, 2,]", "x", "{\"a\": 1}", "(a: b'(', c: b\")\", d: 'x')", "Some(Some(1))"] {
            assert_eq!(Outline::of(text).unwrap().flaw(), None, "{text}");
        }
    }

    #[test]
    fn the_top_of_an_outline_has_the_fields_and_nothing_in_them() {
        let top = Outline::of_top(TEXT).unwrap();

        assert_eq!(top.find(TEXT, "integrator"), Outline::of(TEXT).unwrap().find(TEXT, "integrator"));
        assert_eq!(top.find(TEXT, "integrator.dt"), None);
        assert_eq!((top.flaw(), top.nodes.len()), (None, 11));
    }

    #[test]
    fn the_bracket_that_is_not_closed_is_found() {
        let unclosed = |text| Outline::of(text).unwrap().unclosed();

        assert_eq!(unclosed("(a: [(1), (2), b: [3])"), Some(4));
        assert_eq!(unclosed("(a: [1]"), Some(0));
        assert_eq!(unclosed("(a: [1]))"), None);
    }

    #[test]
    fn a_long_group_is_underlined_at_its_head() {
        let outline = Outline::of(TEXT).unwrap();

        assert_eq!(&TEXT[outline.underline(TEXT, "bodies")], "[");
        assert_eq!(&TEXT[outline.underline(TEXT, "nothing")], "Scenario(");
        assert_eq!(&TEXT[outline.underline(TEXT, "audit.energy_every")], "()");
    }
}
