//! Reads particles from a CSV file.
//!
//! The first line names the columns, in any order: x, y, z, vx, vy, vz, mass, and, if wanted, radius, name, inertia. Lines that
//! begin with `#` are skipped. Every fault names line, column and what was expected.

use std::fs::File;
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::Particle;
use crate::scenario::check::{Fault, MASSLESS, MASSLESS_HELP};
use crate::scenario::nearest::did_you_mean;

/// The columns, required ones first, in the order of [`Columns`].
const NAMES: [&str; 10] = ["x", "y", "z", "vx", "vy", "vz", "mass", "radius", "name", "inertia"];
const REQUIRED: usize = 7;
const MASS: usize = 6;
const RADIUS: usize = 7;
const NAME: usize = 8;
const INERTIA: usize = 9;

/// Where each of [`NAMES`] is in a row.
type Columns = [Option<usize>; NAMES.len()];

/// Adds the rows of a file. Paths of faults are relative to the generator.
pub(super) fn rows(path: &Path, particles: &mut Vec<Particle>) -> Result<(), Fault> {
    let fault = |message: String| Fault::new(".path", format!("{}: {message}", path.display()));
    let file = File::open(path)
        .map_err(|error| fault(error.to_string()).with_help("paths start at the folder of the scenario file"))?;
    let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(file);
    let headers = reader.headers().map_err(|error| fault(in_words(&error)))?;
    let columns = columns(headers).map_err(|(message, help)| Fault { help, ..fault(message) })?;
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| fault(in_words(&error)))? {
        let row = Row { record: &record, columns: &columns };
        particles.push(row.particle().map_err(|(message, help)| Fault { help, ..fault(message) })?);
    }
    Ok(())
}

/// What is wrong, and perhaps a remedy.
type Wrong = (String, Option<String>);

fn columns(headers: &StringRecord) -> Result<Columns, Wrong> {
    let mut columns = Columns::default();
    for (at, header) in headers.iter().enumerate() {
        let place = |message: String| format!("line 1, column {}: {message}", at + 1);
        let Some(known) = NAMES.iter().position(|name| *name == header) else {
            let message = place(format!("\"{}\" is not one of {}", header.escape_debug(), NAMES.join(", ")));
            return Err((message, did_you_mean(header, NAMES)));
        };
        if columns[known].replace(at).is_some() {
            return Err((place(format!("a second column `{header}`")), None));
        }
    }
    match (0..REQUIRED).find(|&known| columns[known].is_none()) {
        None => Ok(columns),
        Some(missing) => Err((
            format!("line 1: there is no column `{}`", NAMES[missing]),
            Some(format!("the first line names the columns, as in `{}`", NAMES[..REQUIRED].join(","))),
        )),
    }
}

struct Row<'r> {
    record: &'r StringRecord,
    columns: &'r Columns,
}

impl Row<'_> {
    fn particle(&self) -> Result<Particle, Wrong> {
        let vector = |first: usize| Ok([self.number(first)?, self.number(first + 1)?, self.number(first + 2)?]);
        let mass = self.not_negative(MASS)?;
        Ok(Particle {
            name: self.text(NAME).filter(|name| !name.is_empty()).map(Box::from),
            mass,
            inertia: self.inertia(mass)?,
            position: vector(0)?,
            velocity: vector(3)?,
            radius: self.given(RADIUS).map_or(Ok(0.0), |_| self.not_negative(RADIUS))?,
        })
    }

    /// As for written bodies: only a test particle has an inertia that is not its mass. An empty field is not given.
    fn inertia(&self, mass: f64) -> Result<f64, Wrong> {
        match self.given(INERTIA) {
            None if mass == 0.0 => Err((self.place(MASS, MASSLESS), Some(MASSLESS_HELP.into()))),
            None => Ok(mass),
            Some(_) => {
                let inertia = self.not_negative(INERTIA)?;
                match (mass == 0.0, inertia > 0.0) {
                    (true, true) => Ok(inertia),
                    (true, false) => Err((self.place(INERTIA, "it must be above zero"), None)),
                    (false, _) if inertia == mass => Ok(inertia),
                    (false, _) => Err((
                        self.place(INERTIA, &format!("a body of mass {mass} cannot have another inertia")),
                        Some("leave the field empty".into()),
                    )),
                }
            }
        }
    }

    fn text(&self, known: usize) -> Option<&str> {
        self.record.get(self.columns[known]?)
    }

    fn given(&self, known: usize) -> Option<&str> {
        self.text(known).filter(|text| !text.is_empty())
    }

    fn number(&self, known: usize) -> Result<f64, Wrong> {
        let text = self.text(known).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => {
                Err((self.place(known, &format!("expected a finite number, found \"{}\"", text.escape_debug())), None))
            }
        }
    }

    fn not_negative(&self, known: usize) -> Result<f64, Wrong> {
        match self.number(known)? {
            number if number >= 0.0 => Ok(number),
            number => Err((self.place(known, &format!("{number} must not be negative")), None)),
        }
    }

    fn place(&self, known: usize, message: &str) -> String {
        let line = self.record.position().map_or(0, csv::Position::line);
        let column = self.columns[known].unwrap_or_default() + 1;
        format!("line {line}, column {column} ({}): {message}", NAMES[known])
    }
}

fn in_words(error: &csv::Error) -> String {
    let line = error.position().map_or_else(String::new, |position| format!("line {}: ", position.line()));
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{line}{len} fields where the first line names {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("{line}column {}: not UTF-8 text", err.field() + 1)
        }
        _ => error.to_string(),
    }
}
