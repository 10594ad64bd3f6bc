//! Columns of integers as bytes, little-endian: written by a `Vec`, read by a cursor that never reads beyond the end.

/// What is missing where bytes ended too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it ends {missing} bytes too early")]
pub struct TooShort {
    /// Bytes that should be there.
    pub missing: usize,
}

/// Appends integers.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A count.
    ///
    /// # Panics
    /// If it does not fit 32 bits: no block is that large.
    pub fn count(&mut self, value: usize) {
        let value = u32::try_from(value).expect("what a block holds can be counted in 32 bits");
        self.0.extend(value.to_le_bytes());
    }

    /// A column.
    pub fn column(&mut self, values: &[i64]) {
        self.0.reserve(8 * values.len());
        values.iter().for_each(|value| self.0.extend(value.to_le_bytes()));
    }

    /// Bytes, after their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }
}

/// Reads what a [`Writer`] wrote.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// So many bytes as they are.
    ///
    /// # Errors
    /// If they are not there.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], TooShort> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| TooShort { missing: count - self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// If none is left; so for all others.
    pub fn byte(&mut self) -> Result<u8, TooShort> {
        Ok(self.take(1)?[0])
    }

    /// A count.
    ///
    /// # Errors
    /// If it is not there.
    pub fn count(&mut self) -> Result<usize, TooShort> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")) as usize)
    }

    /// A column of so many values.
    ///
    /// # Errors
    /// If it is not whole: then nothing was allocated for it.
    pub fn column(&mut self, count: usize) -> Result<Vec<i64>, TooShort> {
        let bytes = self.take(count.saturating_mul(8))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect())
    }

    /// Bytes, after their number.
    ///
    /// # Errors
    /// If they are not all there.
    pub fn bytes(&mut self) -> Result<&'a [u8], TooShort> {
        let count = self.count()?;
        self.take(count)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
