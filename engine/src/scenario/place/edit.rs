//! Changes the value at a path, or puts it there: the override `--set path=value` on the text of a scenario.
//!
//! Everything else stays as it was, byte for byte, comments included.

use std::ops::Range;

use thiserror::Error;

use super::{Node, Outline, OutlineError, Segment, Span, segments};

/// Why a value could not be set.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SetError {
    /// The path is empty.
    #[error("the path is empty: write a path and a value, as in `integrator.dt=0.01`")]
    EmptyPath,
    /// The path cannot be read.
    #[error("`{path}` is not a path: write it as in `integrator.dt` or `bodies[3].mass`")]
    BadPath {
        /// The path as given.
        path: String,
    },
    /// A list is shorter than the index asks for.
    #[error("there is no `{path}`: `{list}` has {len} entries, counted from 0")]
    NoSuchIndex {
        /// The path up to and with the index.
        path: String,
        /// The path of the list.
        list: String,
        /// How many entries the list has.
        len: usize,
    },
    /// The path leads into something that has no fields, or no entries.
    #[error("there is no `{path}`: {why}")]
    NotAGroup {
        /// The path up to and with what is not there.
        path: String,
        /// What is there instead.
        why: String,
    },
    /// The value is not exactly one value.
    #[error("`{value}` is not one value: text needs quotes, and brackets must match")]
    NotOneValue {
        /// The value as given.
        value: String,
    },
    /// The file is not well-formed, so that no place in it is sure.
    #[error("the file is not well-formed at byte {at}")]
    Malformed {
        /// The byte.
        at: usize,
    },
    /// The file has no outline.
    #[error(transparent)]
    Outline(#[from] OutlineError),
}

/// A change of a text: `range` is replaced by `text`, of which `value` is the value that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes that go; empty for an insertion.
    pub range: Range<usize>,
    /// What comes in their place.
    pub text: String,
    /// The bytes of the value within `text`.
    pub value: Range<usize>,
}

/// The text with the value at a path replaced. A field that is not there is inserted at the head of its group, with the groups
/// around it where these are missing too.
pub fn set(text: &str, path: &str, value: &str) -> Result<String, SetError> {
    let edit = edit(text, path, value)?;
    Ok([&text[..edit.range.start], &edit.text, &text[edit.range.end..]].concat())
}

/// The change that [`set`] makes.
pub fn edit(text: &str, path: &str, value: &str) -> Result<Edit, SetError> {
    let segments = segments(path)?;
    let value = one_value(value)?;
    let outline = Outline::of(text)?;
    if let Some(at) = outline.flaw() {
        return Err(SetError::Malformed { at });
    }
    let (node, missing) = outline.walk(text, &segments).ok_or(SetError::Malformed { at: 0 })?;
    if missing.is_empty() {
        let range = outline.nodes[node].value.range();
        return Ok(Edit { range, text: value.to_string(), value: 0..value.len() });
    }
    let group = &outline.nodes[outline.unwrapped(text, node)];
    let found = &segments[..segments.len() - missing.len()];
    let names = missing_fields(&outline, group, found, missing)?;
    Ok(insertion(group.inner as usize, &names, value))
}

/// The value without blanks and comments around it, if it is one value and nothing else.
fn one_value(value: &str) -> Result<&str, SetError> {
    let wrong = || SetError::NotOneValue { value: value.to_string() };
    let outline = Outline::of(value)?;
    match (outline.flaw(), outline.root()) {
        (None, Some(range)) => Ok(&value[range]),
        _ => Err(wrong()),
    }
}

/// The names of the fields to insert into a group, outermost first; an error where fields have no place.
fn missing_fields<'p>(
    outline: &Outline,
    group: &Node,
    found: &[Segment<'p>],
    missing: &[Segment<'p>],
) -> Result<Vec<&'p str>, SetError> {
    let here = written(found);
    let path = written(&[found, &missing[..1]].concat());
    let not_a_group = |why: String| SetError::NotAGroup { path: path.clone(), why };
    let entries = group.entries.range();
    let has_names = entries.clone().any(|entry| outline.nodes[entry].key != Span::default());
    match missing[0] {
        _ if group.inner == 0 => return Err(not_a_group(format!("`{here}` is a plain value"))),
        Segment::Index(_) if group.bracket == b'{' || has_names => {
            return Err(not_a_group(format!("`{here}` has fields with names, not numbers")));
        }
        Segment::Index(_) => {
            return Err(SetError::NoSuchIndex { path, list: here, len: entries.len() });
        }
        Segment::Field(_) if group.bracket == b'[' || !(entries.is_empty() || has_names) => {
            return Err(not_a_group(format!("`{here}` is a list; its entries are `{here}[0]` and so on")));
        }
        Segment::Field(_) => {}
    }
    let names = missing.iter().map(|segment| match segment {
        Segment::Field(name) => Ok(*name),
        Segment::Index(_) => Err(not_a_group("a list is not made entry by entry: set all of it".into())),
    });
    names.collect()
}

/// `audit: (energy_every: 5), ` right behind the opening bracket.
fn insertion(at: usize, names: &[&str], value: &str) -> Edit {
    let head = names.join(": (") + ": ";
    let value_range = head.len()..head.len() + value.len();
    let text = format!("{head}{value}{}, ", ")".repeat(names.len().saturating_sub(1)));
    Edit { range: at..at, text, value: value_range }
}

fn written(segments: &[Segment<'_>]) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Field(name) if path.is_empty() => path += name,
            Segment::Field(name) => path = path + "." + name,
            Segment::Index(index) => path += &format!("[{index}]"),
        }
    }
    match path.is_empty() {
        true => "the file".into(),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TEXT;
    use super::*;

    #[test]
    fn a_value_is_replaced_and_nothing_else() {
        let changed = set(TEXT, "integrator.dt", "5.0 // half").unwrap();

        assert_eq!(changed, TEXT.replace("10.0", "5.0"));
        assert_eq!(set(TEXT, "bodies[1].position[0]", "-7").unwrap(), TEXT.replace("[3,", "[-7,"));
        assert_eq!(
            set(TEXT, "integrator", "Yoshida4(dt: 1)").unwrap(),
            TEXT.replace("Leapfrog ( dt: 10.0 )", "Yoshida4(dt: 1)")
        );
    }

    #[test]
    fn a_missing_field_is_inserted_with_its_missing_groups() {
        assert_eq!(set("(a: 1)", "b", "2").unwrap(), "(b: 2, a: 1)");
        assert_eq!(set("(a: ())", "a.b.c", "2").unwrap(), "(a: (b: (c: 2), ))");
        assert_eq!(set("()", "audit.energy_every", "5").unwrap(), "(audit: (energy_every: 5), )");
        assert_eq!(set("(a: Leapfrog( // x\n))", "a.dt", "1").unwrap(), "(a: Leapfrog(dt: 1,  // x\n))");
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        let error = |path, value| set(TEXT, path, value).unwrap_err().to_string();

        assert_eq!(error("bodies[2].mass", "1"), "there is no `bodies[2]`: `bodies` has 2 entries, counted from 0");
        assert_eq!(error("units.length", "Kpc"), "there is no `units.length`: `units` is a plain value");
        assert_eq!(
            error("bodies.mass", "1"),
            "there is no `bodies.mass`: `bodies` is a list; its entries are `bodies[0]` and so on"
        );
        assert!(error("until.time", "1").contains("is a list"));
        assert!(error("integrator[0]", "1").contains("has fields with names"));
        assert!(error("extra[0]", "1").contains("set all of it"));
        assert!(error("", "1").contains("the path is empty"));
        assert!(error("a..b", "1").contains("is not a path"));
        assert!(error("a[x]", "1").contains("is not a path"));
        assert!(error("name", "two words").contains("is not one value"));
        assert!(error("name", "1), (2").contains("is not one value"));
        assert!(error("name", "").contains("is not one value"));
        assert!(error("name", "\"open").contains("is not one value"));
        assert_eq!(set("(a: 1", "a", "2"), Err(SetError::Malformed { at: 5 }));
    }
}
