//! Arrays of numbers with a row for each prompt, and the ways to join them.

use ort::value::{DynTensor, TensorElementType};

use super::super::super::error::Error;
use super::super::super::onnx::{floats, numbers, shape};

/// Array of numbers, `[rows, ...]`.
#[derive(Clone, Debug)]
pub(in super::super) struct Rows {
    pub(in super::super) shape: Vec<usize>,
    pub(in super::super) values: Vec<f32>,
}

impl Rows {
    pub(super) fn from_tensor(tensor: &DynTensor) -> Result<Self, Error> {
        Ok(Self { shape: shape(tensor), values: numbers(tensor)? })
    }

    /// Makes rows of numbers of tokens, or of their masks.
    pub(super) fn of_tokens(tokens: &[u32], rows: usize) -> Self {
        let values: Vec<f32> = tokens.iter().map(|&token| token as f32).collect();
        Self { shape: vec![rows, values.len() / rows.max(1)], values }
    }

    pub(super) fn zeros(shape: Vec<usize>) -> Self {
        Self { values: vec![0.0; shape.iter().product()], shape }
    }

    /// Converts the rows to a tensor in the precision that a model takes.
    pub(in super::super) fn tensor(self, element: TensorElementType) -> Result<DynTensor, Error> {
        floats(element, &self.shape, self.values)
    }

    pub(super) fn clear_first(&mut self, rows: usize) {
        let each = self.values.len() / self.shape[0].max(1);
        self.values[..rows * each].fill(0.0);
    }

    /// Returns the width of the last dimension, and the number of lines of this width.
    fn lines(&self) -> (usize, usize) {
        let width = self.shape.last().copied().unwrap_or(0);
        (width, self.values.len().checked_div(width).unwrap_or(0))
    }

    /// Joins rows side by side along the last dimension. Returns `None` if they differ in the number of lines or have
    /// none.
    pub(super) fn beside(parts: &[&Self]) -> Option<Self> {
        let lines = parts.first()?.lines().1;
        if lines == 0 || parts.iter().any(|part| part.lines().1 != lines) {
            return None;
        }
        let total: usize = parts.iter().map(|part| part.lines().0).sum();
        let mut shape = parts[0].shape.clone();
        *shape.last_mut()? = total;
        let mut values = Vec::with_capacity(lines * total);
        for line in 0..lines {
            for part in parts {
                let width = part.lines().0;
                values.extend_from_slice(&part.values[line * width..(line + 1) * width]);
            }
        }
        Some(Self { shape, values })
    }

    /// Appends zeros to each line of the last dimension, up to `width`. Returns `None` if the lines are wider or there
    /// are none.
    pub(super) fn padded(&self, width: usize) -> Option<Self> {
        let (own, lines) = self.lines();
        if lines == 0 || own > width {
            return None;
        }
        let mut shape = self.shape.clone();
        *shape.last_mut()? = width;
        let mut values = Vec::with_capacity(lines * width);
        for line in self.values.chunks(own) {
            values.extend_from_slice(line);
            values.resize(values.len() + width - own, 0.0);
        }
        Some(Self { shape, values })
    }

    /// Joins two arrays one after the other along the second dimension. Returns `None` if the other dimensions differ.
    pub(super) fn after(first: &Self, second: &Self) -> Option<Self> {
        let ([rows, tokens, width], [other_rows, other_tokens, other_width]) = (first.three()?, second.three()?);
        if (rows, width) != (other_rows, other_width) || rows == 0 {
            return None;
        }
        let each = |part: &Self| part.values.len() / rows;
        let mut values = Vec::with_capacity(first.values.len() + second.values.len());
        for row in 0..rows {
            for part in [first, second] {
                values.extend_from_slice(&part.values[row * each(part)..(row + 1) * each(part)]);
            }
        }
        Some(Self { shape: vec![rows, tokens + other_tokens, width], values })
    }

    fn three(&self) -> Option<[usize; 3]> {
        self.shape.as_slice().try_into().ok()
    }

    /// Keeps these positions of the second dimension of every row.
    pub(super) fn keep(&self, positions: &[usize]) -> Option<Self> {
        let (rows, tokens) = (*self.shape.first()?, *self.shape.get(1)?);
        let width = self.values.len().checked_div(rows * tokens)?;
        let mut values = Vec::with_capacity(rows * positions.len() * width);
        for row in self.values.chunks(tokens * width) {
            for &position in positions {
                values.extend_from_slice(row.get(position * width..(position + 1) * width)?);
            }
        }
        let mut shape = self.shape.clone();
        shape[1] = positions.len();
        Some(Self { shape, values })
    }

    /// Puts rows below these rows. Returns `None` if the other dimensions differ.
    pub(super) fn above(mut self, below: &Self) -> Option<Self> {
        if self.shape.get(1..) != below.shape.get(1..) {
            return None;
        }
        self.shape[0] += below.shape[0];
        self.values.extend_from_slice(&below.values);
        Some(self)
    }

    /// Repeats the first row.
    pub(super) fn repeated(mut self, rows: usize) -> Self {
        let each = self.values.len() / self.shape[0].max(1);
        self.values = self.values[..each].repeat(rows);
        self.shape[0] = rows;
        self
    }
}
