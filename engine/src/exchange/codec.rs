//! Columns that change smoothly from step to step, in few bytes: both sides predict the next values from the last ones and only the
//! difference travels. Lossless, whatever the values.
//!
//! A prediction is a polynomial through the last few values at the same stage of the steps before, which are equally far apart in
//! time, in integers that wrap, so that both sides have the same bits. What a polynomial of order m leaves is the m-th difference of
//! the values, so both sides keep the last differences of each order: new ones come of them by a subtraction each. A motion with
//! acceleration a leaves a·Δt² at order 2, a third derivative j·Δt³ at order 3, and so on. The sender takes the order that leaves
//! least. What is left is packed by pco, if that pays.

use pco::{
    ChunkConfig, DeltaSpec, ModeSpec,
    errors::PcoError,
    metadata::FormatVersion,
    standalone::{DecompressorItem, FileDecompressor, simple_compress},
};

use crate::{
    backend::cpu::Cpu,
    wire::bytes::{Reader, TooShort, Writer},
};

/// The highest order; so many orders of differences are kept.
const ORDER_MAX: usize = 4;
/// Rows that are looked at to choose an order.
const SAMPLE: usize = 64;
/// Fewer rows than this are sent as they are: the head of a packed column alone is longer.
pub const PACKED_ROWS: usize = 24;
/// Fewer rows than this are packed as one column of all three axes: one head, and what there is to learn of them is learnt once.
const APART_ROWS: usize = 4096;
/// Where a chunk of pco says in which way it is packed, 0 if plainly: after its type (1 byte) and its number of values (3 bytes).
const WAY: usize = 4;

/// How a column stands in a block, or all three of them.
const PLAIN: u8 = 0;
const PACKED: u8 = 1;
const TOGETHER: u8 = 2;

/// Why bytes are not columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// They end too early.
    #[error(transparent)]
    TooShort(#[from] TooShort),
    /// They ask for more of the past than there is.
    #[error("they stand on {asked} columns before them, {kept} are known here")]
    NoPast {
        /// Columns that they need.
        asked: usize,
        /// Columns that are there.
        kept: usize,
    },
    /// They were packed in a way that is not known, or not packed well.
    #[error("they do not unpack: {0}")]
    Packing(String),
}

/// Three columns and how they changed, on one side of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictor {
    axes: [Axis; 3],
}

/// The last differences of one column, from order 0, which is the column itself, to as many as its past gives, less than
/// [`ORDER_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Axis(Vec<Vec<i64>>);

impl Axis {
    /// Differences that are known of a column of so many rows.
    fn known(&self, rows: usize) -> usize {
        if self.0.first().is_some_and(|last| last.len() == rows) { self.0.len() } else { 0 }
    }

    /// Takes in the next values. The highest difference that they make, if it is of an order that is not kept.
    fn advance(&mut self, values: &[i64]) -> Option<Vec<i64>> {
        let known = self.known(values.len());
        self.0.truncate(known);
        let mut next = values.to_vec();
        for last in &mut self.0 {
            for (last, next) in last.iter_mut().zip(&mut next) {
                (*last, *next) = (*next, next.wrapping_sub(*last));
            }
        }
        if known == ORDER_MAX {
            return Some(next);
        }
        self.0.push(next);
        None
    }

    /// The next values, of which only the difference of an order is known.
    fn values(&self, order: usize, mut left: Vec<i64>) -> Vec<i64> {
        for last in self.0[..order].iter().rev() {
            left.iter_mut().zip(last).for_each(|(left, last)| *left = left.wrapping_add(*last));
        }
        left
    }

    /// Bits that the difference of an order takes, in a sample of rows, if these are the next values.
    fn bits(&self, order: usize, values: &[i64]) -> u64 {
        let predicted = |row: usize| self.0[..order].iter().fold(0, |sum: i64, last| sum.wrapping_add(last[row]));
        let bits = |row: usize| {
            let left = values[row].wrapping_sub(predicted(row));
            u64::from(64 - left.unsigned_abs().leading_zeros())
        };
        (0..values.len()).step_by(values.len().div_ceil(SAMPLE)).map(bits).sum()
    }
}

impl Predictor {
    /// Forgets the past: the next columns stand for themselves.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Bytes of these columns, which are then part of the past. `pack`: whether to spend time on fewer bytes.
    #[must_use]
    pub fn encode(&mut self, columns: [&[i64]; 3], pack: bool, cpu: &Cpu) -> Vec<u8> {
        let rows = columns[0].len();
        let pack = pack && rows >= PACKED_ROWS;
        let order = if pack { self.best_order(columns) } else { 0 };
        let highest: [Option<Vec<i64>>; 3] = std::array::from_fn(|axis| self.axes[axis].advance(columns[axis]));
        let left: [&[i64]; 3] = std::array::from_fn(|axis| {
            let kept = self.axes[axis].0.get(order).map(Vec::as_slice);
            kept.or(highest[axis].as_deref()).expect("an order whose differences are known was chosen")
        });
        let mut out = Writer::default();
        out.byte(order as u8);
        let together = if pack && rows < APART_ROWS { packed(&left.concat()) } else { None };
        if let Some(bytes) = together {
            out.byte(TOGETHER);
            out.bytes(&bytes);
            return out.0;
        }
        let apart = if pack { cpu.axes(rows, |axis| packed(left[axis])) } else { [None, None, None] };
        for (left, packed) in left.into_iter().zip(apart) {
            match packed {
                Some(bytes) => {
                    out.byte(PACKED);
                    out.bytes(&bytes);
                }
                None => {
                    out.byte(PLAIN);
                    out.column(left);
                }
            }
        }
        out.0
    }

    /// The columns of so many rows that these bytes spell. They become part of the past when [`Predictor::keep`] is told so: until then
    /// nothing has changed, whatever else is found wrong with them.
    ///
    /// # Errors
    /// If they spell nothing of the kind.
    pub fn decode(&self, bytes: &mut Reader<'_>, rows: usize, cpu: &Cpu) -> Result<[Vec<i64>; 3], ColumnError> {
        let order = usize::from(bytes.byte()?);
        let kept = self.axes[0].0.len();
        if order > kept {
            return Err(ColumnError::NoPast { asked: order, kept });
        }
        if order > self.axes[0].known(rows) {
            return Err(ColumnError::Packing("the columns before them have another length".into()));
        }
        let mut left = differences(bytes, rows, cpu)?;
        Ok(std::array::from_fn(|axis| self.axes[axis].values(order, std::mem::take(&mut left[axis]))))
    }

    /// Makes columns part of the past.
    pub fn keep(&mut self, columns: &[Vec<i64>; 3]) {
        for (axis, column) in self.axes.iter_mut().zip(columns) {
            axis.advance(column);
        }
    }

    /// The order that leaves the fewest bits in a sample of rows.
    fn best_order(&self, columns: [&[i64]; 3]) -> usize {
        let bits = |order: usize| -> u64 {
            self.axes.iter().zip(columns).map(|(axis, column)| axis.bits(order, column)).sum()
        };
        (0..=self.axes[0].known(columns[0].len())).min_by_key(|&order| bits(order)).unwrap_or(0)
    }
}

/// A column of so many rows, as it stands in a block.
enum Spelt<'a> {
    Plain(&'a [u8]),
    Packed(&'a [u8]),
}

impl<'a> Spelt<'a> {
    fn read(bytes: &mut Reader<'a>, rows: usize) -> Result<Self, ColumnError> {
        match bytes.byte()? {
            PLAIN => Ok(Self::Plain(bytes.take(rows.saturating_mul(8))?)),
            PACKED => Ok(Self::Packed(bytes.bytes()?)),
            other => Err(ColumnError::Packing(format!("packing {other} is not known"))),
        }
    }

    fn column(&self, rows: usize) -> Result<Vec<i64>, ColumnError> {
        match self {
            Self::Plain(bytes) => Ok(Reader(bytes).column(rows)?),
            Self::Packed(bytes) => unpacked(bytes, rows),
        }
    }
}

/// Three columns of so many rows, as they stand in a block.
fn differences(bytes: &mut Reader<'_>, rows: usize, cpu: &Cpu) -> Result<[Vec<i64>; 3], ColumnError> {
    if bytes.0.first() == Some(&TOGETHER) {
        bytes.byte()?;
        let all = unpacked(bytes.bytes()?, 3 * rows)?;
        return Ok(std::array::from_fn(|axis| all[axis * rows..(axis + 1) * rows].to_vec()));
    }
    let spelt = [Spelt::read(bytes, rows)?, Spelt::read(bytes, rows)?, Spelt::read(bytes, rows)?];
    let [x, y, z] = cpu.axes(rows, |axis| spelt[axis].column(rows));
    Ok([x?, y?, z?])
}

/// Packed, unless that is no shorter.
fn packed(values: &[i64]) -> Option<Vec<u8>> {
    let config = ChunkConfig::default()
        .with_compression_level(4)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp);
    simple_compress(values, &config).ok().filter(|bytes| bytes.len() < size_of_val(values))
}

/// What [`packed`] packed, and nothing else that pco knows: in its other ways of packing a few bytes can ask for a window or a
/// dictionary of many MiB. So nothing is allocated here but the rows that were agreed upon, and tables of a fixed size.
fn unpacked(bytes: &[u8], rows: usize) -> Result<Vec<i64>, ColumnError> {
    let wrong = |error: PcoError| ColumnError::Packing(error.to_string());
    let refused = |what: &str| ColumnError::Packing(what.to_owned());
    let (file, mut rest) = FileDecompressor::new(bytes).map_err(wrong)?;
    if file.format_version() != &FormatVersion::default() {
        return Err(refused("they were packed by something else"));
    }
    let mut values = vec![0; rows];
    let mut left = values.as_mut_slice();
    loop {
        if rest.first().is_some_and(|&end| end != 0) && rest.get(WAY) != Some(&0) {
            return Err(refused("they were packed in another way"));
        }
        let mut chunk = match file.chunk_decompressor::<i64, _>(rest).map_err(wrong)? {
            DecompressorItem::Chunk(chunk) => chunk,
            DecompressorItem::EndOfData(after) if after.is_empty() && left.is_empty() => return Ok(values),
            DecompressorItem::EndOfData(_) => return Err(refused("not as many values as there are particles")),
        };
        let (now, later) = left.split_at_mut_checked(chunk.n()).ok_or_else(|| refused("too many values"))?;
        chunk.read(now).map_err(wrong)?;
        (left, rest) = (later, chunk.into_src());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::isa::Isa;

    fn cpu() -> Cpu {
        Cpu::new(Isa::widest(), 1).expect("no thread is started")
    }

    /// Uniformly accelerated columns with a little noise.
    fn columns(rows: usize, step: i64) -> [Vec<i64>; 3] {
        std::array::from_fn(|axis| {
            let at = |row: usize| {
                let (row, axis) = (row as i64, axis as i64);
                let noise = (row * 7919 + step * 104_729 + axis) % 1000;
                (row << 40) + step * ((axis + 1) << 30) + step * step * (1 << 20) + noise
            };
            (0..rows).map(at).collect()
        })
    }

    fn slices(columns: &[Vec<i64>; 3]) -> [&[i64]; 3] {
        columns.each_ref().map(Vec::as_slice)
    }

    #[test]
    fn what_goes_in_comes_out_and_a_smooth_motion_takes_few_bytes() {
        let cpu = cpu();
        for pack in [false, true] {
            let (mut here, mut there) = (Predictor::default(), Predictor::default());
            for step in 0..16 {
                let rows = if step < 9 {
                    1000
                } else if step < 12 {
                    7
                } else {
                    APART_ROWS
                };
                let now = columns(rows, step);
                let bytes = here.encode(slices(&now), pack, &cpu);
                let mut reader = Reader(&bytes);
                assert_eq!(there.decode(&mut reader, rows, &cpu).unwrap(), now, "step {step}");
                there.keep(&now);
                assert!(reader.is_empty());
                if pack && (4..9).contains(&step) {
                    assert!(bytes.len() < 6 * rows, "{} bytes for {rows} rows of 24", bytes.len());
                }
            }
        }
    }

    #[test]
    fn the_edges_of_the_range_wrap_and_come_out_again() {
        let cpu = cpu();
        let (mut here, mut there) = (Predictor::default(), Predictor::default());
        for step in 0..8_i64 {
            let edge = |row: usize| if (row as i64 + step) % 2 == 0 { i64::MIN } else { i64::MAX - step };
            let now: [Vec<i64>; 3] = std::array::from_fn(|_| (0..100).map(edge).collect());
            let bytes = here.encode(slices(&now), true, &cpu);
            assert_eq!(there.decode(&mut Reader(&bytes), 100, &cpu).unwrap(), now);
            there.keep(&now);
        }
    }

    #[test]
    fn bytes_that_stand_on_an_unknown_past_are_refused() {
        let cpu = cpu();
        let mut here = Predictor::default();
        let now = columns(100, 0);
        drop(here.encode(slices(&now), true, &cpu));
        let bytes = here.encode(slices(&columns(100, 1)), true, &cpu);
        let refused = Predictor::default().decode(&mut Reader(&bytes), 100, &cpu).unwrap_err();
        assert!(matches!(refused, ColumnError::NoPast { .. }), "{refused}");
    }

    #[test]
    fn bytes_of_any_kind_spell_columns_or_are_refused() {
        let cpu = cpu();
        let mut here = Predictor::default();
        let good = here.encode(slices(&columns(64, 3)), true, &cpu);
        let mut seed = 1_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..=random() % 3 {
                let at = random() as usize % bad.len();
                bad[at] = random() as u8;
            }
            bad.truncate(random() as usize % (bad.len() + 1));
            if let Ok(columns) = Predictor::default().decode(&mut Reader(&bad), 64, &cpu) {
                assert!(columns.iter().all(|column| column.len() == 64));
            }
        }
    }
}
