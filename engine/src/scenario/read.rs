//! Reads a scenario: text to data, with a report for the user that shows every fault in its place.
//!
//! Overrides (`--set path=value`) change the text before it is read, so what they break is reported like anything else, and the
//! report says which override it was. Faults of syntax and of shape come one at a time, because what follows one is a guess;
//! faults of meaning come all at once.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use ron::error::{Position, SpannedError};
use ron::{Deserializer, Options, extensions::Extensions};
use thiserror::Error;

use super::check::{Fault, VERSION, check};
use super::format::Scenario;
use super::nearest::did_you_mean;
use super::place::{self, Outline, OutlineError, SetError};

/// A scenario file may have this many bytes. It is enough for 400 000 written bodies; more belong in a table.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// A report shows this many faults. Ten thousand bodies that all lack the same thing are one mistake.
const FAULTS_SHOWN_MAX: usize = 20;

/// How scenario files are written: RON in which `Some(...)` may be left away.
pub(crate) fn options() -> Options {
    Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

/// Reads and checks a scenario. `name` is what reports call the text; `overrides` are paths and values, set in this order.
pub fn read(name: &str, text: &str, overrides: &[(String, String)]) -> Result<Scenario, Report> {
    let edited = match Edited::new(text, overrides) {
        Ok(edited) => edited,
        Err(fault) => return Err(Report::new(name, text.into(), vec![*fault])),
    };
    understand(&edited.text).map_err(|not| edited.report(name, text, not.faults))
}

/// A report of faults that were found after reading, as by `generate`, in the text that was read.
pub fn report(name: &str, text: &str, overrides: &[(String, String)], faults: &[Fault]) -> Report {
    match Edited::new(text, overrides) {
        Err(fault) => Report::new(name, text.into(), vec![*fault]),
        Ok(edited) => {
            let placed = put_in_place(&edited.text, faults);
            edited.report(name, text, placed)
        }
    }
}

// ---------------------------------------------------------------------------------------------- the file

/// Why a file could not be read.
#[derive(Debug, Error, Diagnostic)]
pub enum ReadError {
    /// There is no such file.
    #[error("{}: there is no such file", path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// It is a directory.
    #[error("{}: this is a directory, not a scenario file", path.display())]
    IsDirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// It is not text.
    #[error("{}: not UTF-8 text; the first wrong byte is at offset {offset}", path.display())]
    #[diagnostic(help("save the file as UTF-8"))]
    NotUtf8 {
        /// The path as given.
        path: PathBuf,
        /// The first byte that is wrong, from 0.
        offset: usize,
    },
    /// It is too large.
    #[error("{}: more than {} MiB", path.display(), FILE_BYTES_MAX >> 20)]
    #[diagnostic(help("put the bodies into a CSV file and read it with `generators: [Table(path: \"...\")]`"))]
    TooLarge {
        /// The path as given.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path as given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The text of a scenario file; `-` is standard input. A byte order mark at the start is left out.
pub fn read_file(path: &Path) -> Result<String, ReadError> {
    let wrong = |source: io::Error| refusal(path, source);
    let bytes = match path == Path::new("-") {
        true => read_bytes(io::stdin().lock()),
        false => File::open(path).and_then(read_bytes),
    };
    let bytes = bytes.map_err(wrong)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge { path: path.into() });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        ReadError::NotUtf8 { path: path.into(), offset }
    })?;
    Ok(text.strip_prefix('\u{FEFF}').map(String::from).unwrap_or(text))
}

/// One byte more than allowed, and no more: the file may be endless.
fn read_bytes(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refusal(path: &Path, source: io::Error) -> ReadError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::NotFound => ReadError::NotFound { path },
        io::ErrorKind::IsADirectory => ReadError::IsDirectory { path },
        _ if path.is_dir() => ReadError::IsDirectory { path },
        _ => ReadError::Io { path, source },
    }
}

// --------------------------------------------------------------------------------------------- the report

/// The faults of a scenario, with its text. Show it with `miette`.
#[derive(Debug)]
pub struct Report {
    source: Source,
    faults: Vec<PlacedFault>,
}

/// The text of a report. Of lines so long that nobody would look at all of them it shows what is near the fault.
struct Source {
    name: String,
    text: String,
}

/// More bytes around a fault than this are cut: a scenario written by a program may have all its bodies on one line.
const EXCERPT_BYTES_MAX: usize = 4096;
/// What is left before and after the fault then.
const EXCERPT_MARGIN: usize = 120;

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} bytes)", self.name, self.text.len())
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = self.text.read_span(span, lines_before, lines_after)?;
        let (mut line, mut column) = (whole.line(), whole.column());
        let mut range = self.characters(byte_range(whole.span()));
        if range.len() > EXCERPT_BYTES_MAX {
            let near = self.near(byte_range(span), &range);
            let skipped = &self.text[range.start..near.start];
            line += skipped.matches('\n').count();
            column = near.start - skipped.rfind('\n').map_or(range.start, |at| range.start + at + 1);
            range = near;
        }
        let text = &self.text[range.clone()];
        let (span, lines) = ((range.start, range.len()).into(), text.lines().count());
        let name = self.name.clone();
        Ok(Box::new(MietteSpanContents::new_named(name, text.as_bytes(), span, line, column, lines)))
    }
}

impl Source {
    /// The surroundings of some bytes, within others.
    fn near(&self, span: Range<usize>, within: &Range<usize>) -> Range<usize> {
        let start = span.start.saturating_sub(EXCERPT_MARGIN).max(within.start);
        let end = span.end.min(span.start + EXCERPT_BYTES_MAX) + EXCERPT_MARGIN;
        self.characters(start..end.min(within.end))
    }

    /// Bytes, and those that make whole characters of them: `miette` may stop in the middle of one.
    fn characters(&self, bytes: Range<usize>) -> Range<usize> {
        self.text.floor_char_boundary(bytes.start)..self.text.ceil_char_boundary(bytes.end)
    }
}

fn byte_range(span: &SourceSpan) -> Range<usize> {
    span.offset()..span.offset() + span.len()
}

/// A fault and where it is in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFault {
    /// What is wrong.
    pub message: String,
    /// Bytes of the text and what to write under them; the first is the place of the fault.
    pub labels: Vec<(Range<usize>, String)>,
    /// What can be done about it.
    pub help: Option<String>,
}

impl Report {
    fn new(name: &str, text: String, faults: Vec<PlacedFault>) -> Self {
        let source = Source { name: name.into(), text };
        Self { source, faults }
    }

    /// All faults; never empty.
    pub fn faults(&self) -> &[PlacedFault] {
        &self.faults
    }

    /// The one fault, if there is only one: it is then shown by itself.
    fn single(&self) -> Option<&PlacedFault> {
        match self.faults.as_slice() {
            [fault] => Some(fault),
            _ => None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str(&self.faults[0].message),
            count if count > FAULTS_SHOWN_MAX => {
                write!(f, "{} has {count} faults; the first {FAULTS_SHOWN_MAX} are shown", self.source.name)
            }
            count => write!(f, "{} has {count} faults", self.source.name),
        }
    }
}

impl std::error::Error for Report {}

impl Diagnostic for Report {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.single()?.labels()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.single()?.help()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self.single() {
            Some(_) => None,
            None => Some(Box::new(self.faults.iter().take(FAULTS_SHOWN_MAX).map(|fault| fault as &dyn Diagnostic))),
        }
    }
}

impl fmt::Display for PlacedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PlacedFault {}

impl Diagnostic for PlacedFault {
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.labels.iter().enumerate().map(|(k, (range, label))| {
            let span = (range.start, range.len());
            match k {
                0 => LabeledSpan::new_primary_with_span(Some(label.clone()), span),
                _ => LabeledSpan::new_with_span(Some(label.clone()), span),
            }
        });
        Some(Box::new(labels))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }
}

// ------------------------------------------------------------------------------------------- the overrides

/// A text with overrides in it.
struct Edited<'o> {
    text: String,
    overrides: Vec<Override<'o>>,
}

/// An override that was made.
struct Override<'o> {
    wanted: &'o (String, String),
    /// The bytes of its value in the text, unless a later override took them.
    value: Option<Range<usize>>,
}

impl<'o> Edited<'o> {
    fn new(text: &str, overrides: &'o [(String, String)]) -> Result<Self, Box<PlacedFault>> {
        let mut edited = Self { text: text.into(), overrides: Vec::new() };
        for wanted in overrides {
            edited.set(wanted).map_err(|error| Box::new(edited.refused(wanted, &error)))?;
        }
        Ok(edited)
    }

    fn set(&mut self, wanted: &'o (String, String)) -> Result<(), SetError> {
        let edit = place::edit(&self.text, &wanted.0, &wanted.1)?;
        for earlier in &mut self.overrides {
            let value = earlier.value.take();
            earlier.value = value.and_then(|range| moved(range, &edit.range, edit.text.len()));
        }
        let start = edit.range.start + edit.value.start;
        self.overrides.push(Override { wanted, value: Some(start..start + edit.value.len()) });
        self.text.replace_range(edit.range, &edit.text);
        Ok(())
    }

    /// An override that cannot be made. If the file cannot be read either, that comes first.
    fn refused(&self, wanted: &(String, String), error: &SetError) -> PlacedFault {
        if let (SetError::Malformed { .. } | SetError::Outline(_), Err(not)) = (error, understand(&self.text))
            && let Some(first) = not.faults.into_iter().next()
        {
            return first;
        }
        let outline = Outline::of(&self.text);
        let range = outline.map_or(0..0, |outline| outline.underline(&self.text, &wanted.0));
        PlacedFault {
            message: format!("{}: {error}", as_written(wanted)),
            labels: vec![(range, "here".into())],
            help: None,
        }
    }

    fn report(self, name: &str, original: &str, mut faults: Vec<PlacedFault>) -> Report {
        if self.overrides.is_empty() {
            return Report::new(name, self.text, faults);
        }
        let free_of_faults = Misunderstood { parsed: true, faults: Vec::new() };
        let before = understand(original).err().unwrap_or(free_of_faults);
        for fault in &mut faults {
            let known = before.faults.iter().any(|old| old.message == fault.message);
            self.blame(fault, known || !before.parsed);
        }
        let name = format!("{name} with {}", self.all_as_written());
        Report::new(&name, self.text, faults)
    }

    /// Says which override a fault comes from: one whose value it touches, or all of them if the file alone is free of it.
    fn blame(&self, fault: &mut PlacedFault, known: bool) {
        let blame = match self.overrides.iter().find(|made| made.touches(fault)) {
            Some(made) => format!("this was set by {}", as_written(made.wanted)),
            None if !known => {
                format!("the file alone is free of this; it comes with {}", self.all_as_written())
            }
            None => return,
        };
        fault.help = Some(match fault.help.take() {
            Some(help) => format!("{help}\n{blame}"),
            None => blame,
        });
    }

    fn all_as_written(&self) -> String {
        let all: Vec<String> = self.overrides.iter().map(|made| as_written(made.wanted)).collect();
        all.join(" ")
    }
}

impl Override<'_> {
    /// Whether a fault underlines some of the value.
    fn touches(&self, fault: &PlacedFault) -> bool {
        let Some(value) = &self.value else {
            return false;
        };
        fault.labels.iter().any(|(range, _)| range.start < value.end && value.start < range.end)
    }
}

fn as_written((path, value): &(String, String)) -> String {
    format!("--set {path}={value}")
}

/// Where bytes are after an edit; `None` if the edit took them.
fn moved(range: Range<usize>, edit: &Range<usize>, inserted: usize) -> Option<Range<usize>> {
    if range.end <= edit.start {
        return Some(range);
    }
    let shift = |at: usize| at - edit.len() + inserted;
    match (range.start >= edit.end, range.start <= edit.start && edit.end <= range.end) {
        (true, _) => Some(shift(range.start)..shift(range.end)),
        (_, true) => Some(range.start..shift(range.end)),
        _ => None,
    }
}

// ---------------------------------------------------------------------------------------------- the reading

/// A text that is not a scenario.
struct Misunderstood {
    /// Whether it has the shape of one, so that the faults are all there are.
    parsed: bool,
    faults: Vec<PlacedFault>,
}

impl From<PlacedFault> for Misunderstood {
    fn from(fault: PlacedFault) -> Self {
        Self { parsed: false, faults: vec![fault] }
    }
}

fn understand(text: &str) -> Result<Scenario, Misunderstood> {
    let top = Outline::of_top(text).map_err(|error| no_outline(text, error))?;
    if let Some(fault) = wrong_version(text, &top) {
        return Err(fault.into());
    }
    let scenario = parse(text).map_err(|fault| with_unclosed_bracket(text, fault))?;
    let faults = check(&scenario);
    match faults.is_empty() {
        true => Ok(scenario),
        false => Err(Misunderstood { parsed: true, faults: put_in_place(text, &faults) }),
    }
}

fn no_outline(text: &str, error: OutlineError) -> PlacedFault {
    let range = match error {
        OutlineError::TooDeep { at } => at..at + 1,
        OutlineError::TooLong => 0..0,
    };
    debug_assert!(range.end <= text.len());
    PlacedFault { message: error.to_string(), labels: vec![(range, "here".into())], help: None }
}

/// The version is looked at before the rest, which may have a shape this program does not know.
fn wrong_version(text: &str, outline: &Outline) -> Option<PlacedFault> {
    match outline.find(text, "version") {
        Some(range) => {
            let version: u64 = text[range.clone()].parse().ok()?;
            (version != u64::from(VERSION)).then(|| PlacedFault {
                message: format!("this program reads version {VERSION}, and the scenario has version {version}"),
                labels: vec![(range, "version".into())],
                help: Some("use a program that reads it, or rewrite the scenario for this one".into()),
            })
        }
        None => missing_version(text, outline),
    }
}

fn missing_version(text: &str, outline: &Outline) -> Option<PlacedFault> {
    let range = outline.underline(text, "version");
    let is_group = text[range.clone()].contains('(');
    (is_group && outline.flaw().is_none()).then(|| PlacedFault {
        message: "the scenario has no version".into(),
        labels: vec![(range, "in this group".into())],
        help: Some(format!("write `version: {VERSION}` as its first field")),
    })
}

fn parse(text: &str) -> Result<Scenario, PlacedFault> {
    let wrong = |error: SpannedError, path: &str| misread(text, &error, path);
    let mut parser = Deserializer::from_str_with_options(text, &options()).map_err(|error| wrong(error, "."))?;
    let scenario = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        wrong(parser.span_error(error.into_inner()), &path)
    })?;
    // Anything after the last bracket.
    parser.end().map_err(|error| wrong(parser.span_error(error), "."))?;
    Ok(scenario)
}

/// A parser stumbles over a missing bracket long after it; the outline knows which one was opened and not closed.
fn with_unclosed_bracket(text: &str, mut fault: PlacedFault) -> PlacedFault {
    if let Some(at) = Outline::of(text).ok().and_then(|outline| outline.unclosed()) {
        fault.labels.push((at..at + 1, "this bracket is not closed".into()));
        fault.help.get_or_insert_with(|| "close the bracket".into());
    }
    fault
}

/// Underlines values in the text.
fn put_in_place(text: &str, faults: &[Fault]) -> Vec<PlacedFault> {
    let outline = Outline::of(text).ok();
    let underline = |path: &str| outline.as_ref().map_or(0..0, |outline| outline.underline(text, path));
    let place = |fault: &Fault| {
        let also = fault.also.iter().map(|path| (underline(path), path.clone()));
        let labels = std::iter::once((underline(&fault.path), fault.path.clone())).chain(also).collect();
        PlacedFault { message: fault.message.clone(), labels, help: fault.help.clone() }
    };
    faults.iter().map(place).collect()
}

// --------------------------------------------------------------------------------------- what ron has to say

fn misread(text: &str, error: &SpannedError, path: &str) -> PlacedFault {
    // A span may begin at the blank before the value, and may be empty.
    let skip_blanks = |at: usize| text.len() - text[at..].trim_start().len();
    let start = skip_blanks(byte_offset(text, error.span.start));
    let end = byte_offset(text, error.span.end).max(start);
    let next = text[skip_blanks(end)..].chars().next();
    // One line is enough to look at, and one character is the least that can be seen.
    let end = text[start..end].find('\n').map_or(end, |length| start + length);
    let first = text[start..].chars().next();
    let end = end.max(start + first.map_or(0, char::len_utf8));
    PlacedFault {
        message: message(&error.code),
        labels: vec![(start..end, if matches!(path, "." | "?") { "here".into() } else { path.into() })],
        help: help(&error.code, next, first),
    }
}

/// RON counts lines, and characters in them, from 1; labels want bytes.
fn byte_offset(text: &str, at: Position) -> usize {
    let line_start: usize = text.split_inclusive('\n').take(at.line.saturating_sub(1)).map(str::len).sum();
    let line = &text[line_start..];
    let column = at.col.saturating_sub(1);
    line_start + line.char_indices().nth(column).map_or(line.len(), |(byte, _)| byte)
}

fn message(error: &ron::Error) -> String {
    use ron::Error as E;
    match error {
        E::ExpectedFloat => "expected a number".into(),
        E::ExpectedInteger => "expected a whole number".into(),
        E::IntegerOutOfBounds => "this whole number is negative or too large".into(),
        E::ExpectedString => "expected text in double quotes".into(),
        E::ExpectedBoolean => "expected `true` or `false`".into(),
        E::ExpectedComma => "expected a comma".into(),
        E::ExceededRecursionLimit => "brackets are nested too deep".into(),
        E::TrailingCharacters => "there is something after the end of the scenario".into(),
        E::InvalidIdentifier(_) | E::SuggestRawIdentifier(_) => "expected a name".into(),
        E::NoSuchStructField { expected, found, outer } => {
            let (owner, fields) = (outer.as_deref().unwrap_or("this group"), expected.join("`, `"));
            format!("`{found}` is not a field of `{owner}`, which has `{fields}`")
        }
        E::NoSuchEnumVariant { expected, found, .. } => {
            format!("`{found}` is not one of `{}`", expected.join("`, `"))
        }
        E::MissingStructField { field, .. } => format!("the field `{field}` is missing"),
        E::DuplicateStructField { field, .. } => format!("the field `{field}` is given twice"),
        other => other.to_string(),
    }
}

/// `next` is the first character after the span, `first` the first in it.
fn help(error: &ron::Error, next: Option<char>, first: Option<char>) -> Option<String> {
    use ron::Error as E;
    let unclosed = || Some("the file is empty, or a bracket that was opened above is not closed".into());
    match error {
        E::Eof => unclosed(),
        E::ExpectedNamedStructLike(_) | E::ExpectedStructLike if matches!(next, Some(')' | ']') | None) => unclosed(),
        E::ExpectedNamedStructLike(_) | E::ExpectedStructLike => {
            Some("a group is written in round brackets, as in `(x: 1)` or `Name(x: 1)`".into())
        }
        E::NoSuchStructField { expected, found, .. } | E::NoSuchEnumVariant { expected, found, .. } => {
            did_you_mean(found, expected.iter().copied())
        }
        E::MissingStructField { field, outer } => {
            Some(format!("add `{field}: ...` to this {}", outer.as_deref().unwrap_or("group")))
        }
        E::ExpectedComma => Some("a comma or a closing bracket is missing at or before this place".into()),
        E::ExpectedFloat => Some("numbers are written 1, 1.5 or 1e-3, without quotes".into()),
        E::InvalidIdentifier(_) | E::SuggestRawIdentifier(_) => {
            Some("a choice begins with its name, as in `Steps(1000)` or `Leapfrog(dt: 0.1)`".into())
        }
        E::DuplicateStructField { .. } => Some("leave one of them away".into()),
        E::ExpectedInteger | E::InvalidIntegerDigit { .. } => {
            Some("whole numbers are written 1000 or 1_000, without point, exponent and quotes".into())
        }
        E::ExpectedIdentifier if first == Some('"') => Some("names like this one are written without quotes".into()),
        E::ExpectedArray => Some("a list is written in square brackets, as in `[a, b]`".into()),
        _ => None,
    }
}
