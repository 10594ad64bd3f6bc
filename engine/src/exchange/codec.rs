//! Columns that change smoothly from step to step, in few bytes: both sides predict the next values from the last ones and only the
//! difference travels. Lossless, whatever the values.
//!
//! A prediction is a polynomial through the last few values at the same stage of the steps before, which are equally far apart in
//! time: x̂ = Σ (−1)^(k+1)·C(m, k)·x₍₋ₖ₎ of order m, in integers that wrap, so that both sides have the same bits. A motion with
//! acceleration a leaves a·Δt² at order 2, a third derivative j·Δt³ at order 3, and so on. The sender takes the order that leaves
//! least. What is left is packed by pco, if that pays.

use std::collections::VecDeque;

use pco::{
    ChunkConfig, DeltaSpec, ModeSpec,
    errors::PcoError,
    metadata::FormatVersion,
    standalone::{DecompressorItem, FileDecompressor, simple_compress},
};

use crate::wire::bytes::{Reader, TooShort, Writer};

/// The highest order; so many past columns are kept.
const ORDER_MAX: usize = 4;
/// Rows that are looked at to choose an order.
const SAMPLE: usize = 256;
/// Fewer rows than this are sent as they are: the head of a packed column alone is longer.
const PACKED_ROWS: usize = 24;
/// Where a chunk of pco says in which way it is packed, 0 if plainly: after its type (1 byte) and its number of values (3 bytes).
const WAY: usize = 4;

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

/// Three columns and what they were before, on one side of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictor {
    /// The newest first.
    past: VecDeque<[Vec<i64>; 3]>,
}

/// (−1)^(k+1)·C(m, k) for k = 1..=m.
const COEFFICIENTS: [&[i64]; ORDER_MAX + 1] = [&[], &[1], &[2, -1], &[3, -3, 1], &[4, -6, 4, -1]];

impl Predictor {
    /// Forgets the past: the next columns stand for themselves.
    pub fn forget(&mut self) {
        self.past.clear();
    }

    /// Bytes of these columns, which are then part of the past. `pack`: whether to spend time on fewer bytes.
    #[must_use]
    pub fn encode(&mut self, columns: [&[i64]; 3], pack: bool) -> Vec<u8> {
        let rows = columns[0].len();
        let pack = pack && rows >= PACKED_ROWS;
        let order = if pack { self.best_order(columns) } else { 0 };
        let mut out = Writer::default();
        out.byte(order as u8);
        for (axis, column) in columns.into_iter().enumerate() {
            let left: Vec<i64> =
                (0..rows).map(|row| column[row].wrapping_sub(self.predict(order, axis, row))).collect();
            match pack.then(|| packed(&left)).flatten() {
                Some(bytes) => {
                    out.byte(1);
                    out.bytes(&bytes);
                }
                None => {
                    out.byte(0);
                    out.column(&left);
                }
            }
        }
        self.keep(columns.map(<[i64]>::to_vec));
        out.0
    }

    /// The columns of so many rows that these bytes spell. They become part of the past when [`Predictor::keep`] is told so: until then
    /// nothing has changed, whatever else is found wrong with them.
    ///
    /// # Errors
    /// If they spell nothing of the kind.
    pub fn decode(&self, bytes: &mut Reader<'_>, rows: usize) -> Result<[Vec<i64>; 3], ColumnError> {
        let order = usize::from(bytes.byte()?);
        let kept = self.past.len().min(ORDER_MAX);
        if order > kept {
            return Err(ColumnError::NoPast { asked: order, kept });
        }
        if self.past.iter().take(order).any(|past| past[0].len() != rows) {
            return Err(ColumnError::Packing("the columns before them have another length".into()));
        }
        let mut columns: [Vec<i64>; 3] = Default::default();
        for (axis, column) in columns.iter_mut().enumerate() {
            *column = match bytes.byte()? {
                0 => bytes.column(rows)?,
                1 => unpacked(bytes.bytes()?, rows)?,
                other => return Err(ColumnError::Packing(format!("packing {other} is not known"))),
            };
            for (row, value) in column.iter_mut().enumerate() {
                *value = value.wrapping_add(self.predict(order, axis, row));
            }
        }
        Ok(columns)
    }

    /// Makes columns part of the past.
    pub fn keep(&mut self, columns: [Vec<i64>; 3]) {
        if self.past.front().is_some_and(|last| last[0].len() != columns[0].len()) {
            self.past.clear();
        }
        self.past.push_front(columns);
        self.past.truncate(ORDER_MAX);
    }

    fn predict(&self, order: usize, axis: usize, row: usize) -> i64 {
        let terms = COEFFICIENTS[order].iter().zip(&self.past);
        terms.fold(0, |sum, (&c, past)| sum.wrapping_add(c.wrapping_mul(past[axis][row])))
    }

    /// The order that leaves the fewest bits in a sample of rows.
    fn best_order(&self, columns: [&[i64]; 3]) -> usize {
        let rows = columns[0].len();
        let known = if self.past.front().is_some_and(|last| last[0].len() == rows) { self.past.len() } else { 0 };
        let bits = |order: usize| -> u64 {
            let every = rows.div_ceil(SAMPLE);
            let of_row = |row: usize| {
                (0..3).map(move |axis| (axis, row)).map(|(axis, row)| {
                    let left = columns[axis][row].wrapping_sub(self.predict(order, axis, row));
                    u64::from(64 - left.unsigned_abs().leading_zeros())
                })
            };
            (0..rows).step_by(every).flat_map(of_row).sum()
        };
        (0..=known).min_by_key(|&order| bits(order)).unwrap_or(0)
    }
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
        for pack in [false, true] {
            let (mut here, mut there) = (Predictor::default(), Predictor::default());
            for step in 0..12 {
                let rows = if step < 9 { 1000 } else { 7 };
                let now = columns(rows, step);
                let bytes = here.encode(slices(&now), pack);
                let mut reader = Reader(&bytes);
                assert_eq!(there.decode(&mut reader, rows).unwrap(), now, "step {step}");
                there.keep(now);
                assert!(reader.is_empty());
                if pack && (4..9).contains(&step) {
                    assert!(bytes.len() < 6 * rows, "{} bytes for {rows} rows of 24", bytes.len());
                }
            }
        }
    }

    #[test]
    fn the_edges_of_the_range_wrap_and_come_out_again() {
        let (mut here, mut there) = (Predictor::default(), Predictor::default());
        for step in 0..8_i64 {
            let edge = |row: usize| if (row as i64 + step) % 2 == 0 { i64::MIN } else { i64::MAX - step };
            let now: [Vec<i64>; 3] = std::array::from_fn(|_| (0..100).map(edge).collect());
            let bytes = here.encode(slices(&now), true);
            assert_eq!(there.decode(&mut Reader(&bytes), 100).unwrap(), now);
            there.keep(now);
        }
    }

    #[test]
    fn bytes_that_stand_on_an_unknown_past_are_refused() {
        let mut here = Predictor::default();
        let now = columns(100, 0);
        drop(here.encode(slices(&now), true));
        let bytes = here.encode(slices(&columns(100, 1)), true);
        let refused = Predictor::default().decode(&mut Reader(&bytes), 100).unwrap_err();
        assert!(matches!(refused, ColumnError::NoPast { .. }), "{refused}");
    }

    #[test]
    fn bytes_of_any_kind_spell_columns_or_are_refused() {
        let mut here = Predictor::default();
        let good = here.encode(slices(&columns(64, 3)), true);
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
            if let Ok(columns) = Predictor::default().decode(&mut Reader(&bad), 64) {
                assert!(columns.iter().all(|column| column.len() == 64));
            }
        }
    }
}
