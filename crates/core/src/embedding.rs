//! Unit vectors, the definition of similarity, and matrices of embeddings.
//!
//! Not an index: `cache::index` finds the nearest of many embeddings.

use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize};

/// Unit vector. The norm is computed in f64, and the components are rounded to f32. A clone is cheap.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Embedding(Arc<[f32]>);

/// Reads the components as they were written, bit by bit: another normalisation could change the last bit.
impl<'de> Deserialize<'de> for Embedding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<f32>::deserialize(deserializer)?;
        match norm(&values) {
            Ok(norm) if (norm - 1.0).abs() < 1e-3 => Ok(Self(values.into())),
            _ => Err(serde::de::Error::custom("expected a vector of length 1")),
        }
    }
}

/// Reason for which a row cannot be an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRow {
    /// Component that is NaN or infinite, by its index.
    #[error("component {0} is not finite")]
    NotFinite(usize),
    /// Row of zeros, which has no direction.
    #[error("all components are zero")]
    Zero,
}

/// Returns the norm of a row, computed in f64.
///
/// # Errors
/// A component that is not finite, or a row of zeros.
pub fn norm(row: &[f32]) -> Result<f64, BadRow> {
    let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    // The squares of finite f32 and their sum fit an f64, so that a component is to blame.
    if !squares.is_finite() {
        let bad = row.iter().position(|x| !x.is_finite());
        return Err(BadRow::NotFinite(bad.unwrap_or(0)));
    }
    // No square of an f32 underflows in f64: only zeros add up to 0.
    if squares == 0.0 {
        return Err(BadRow::Zero);
    }
    Ok(libm::sqrt(squares))
}

/// Returns the components of a row over a norm, divided in f64.
fn scaled(row: &[f32], norm: f64) -> impl Iterator<Item = f32> {
    row.iter().map(move |&x| (f64::from(x) / norm) as f32)
}

impl Embedding {
    /// Scales a row to unit length.
    ///
    /// # Errors
    /// A component that is not finite, or a row of zeros.
    pub fn normalised(row: &[f32]) -> Result<Self, BadRow> {
        Ok(Self(scaled(row, norm(row)?).collect()))
    }

    /// Returns a row that was written as a unit vector, bit by bit; `None` if the row is not a unit vector.
    #[must_use]
    pub fn stored(matrix: &EmbeddingMatrix, row: usize) -> Option<Self> {
        let values = matrix.row(row);
        norm(values).is_ok_and(|norm| (norm - 1.0).abs() < 1e-3).then(|| Self(values.into()))
    }

    /// Returns the components.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }
}

/// Returns the cosine of two unit vectors, as it decides and is reported: the f64 dot product of the f32 components,
/// summed in index order and clamped below at 0.
#[must_use]
pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = 0.0_f64;
    for (&x, &y) in a.iter().zip(b) {
        sum += f64::from(x) * f64::from(y);
    }
    // `max` is not used, since it may keep the sign of a negative zero.
    if sum > 0.0 { sum } else { 0.0 }
}

/// Returns the dot product in single precision, over sixteen independent sums that the compiler turns into SIMD
/// instructions. Scans use it, and decide close calls by [`similarity`]. The order of additions is fixed, so that the
/// result is the same on every machine.
#[must_use]
#[inline]
pub fn rough_product(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Rows of one dimension. A row is normalised when it is taken. Runs share the rows, which are never copied as a whole.
#[derive(Clone, Debug)]
pub struct EmbeddingMatrix {
    dimension: usize,
    values: Arc<dyn Components>,
    /// Norm of each row of `values`. Norms are computed once, since that takes longer than all other work on a row.
    norms: Arc<[f64]>,
    /// Rows of `values` in the order of the matrix; `None` for all rows in their own order.
    order: Option<Arc<[u32]>>,
}

/// Components, row by row, wherever they are: in memory, or in a mapped file.
pub trait Components: AsRef<[f32]> + core::fmt::Debug + Send + Sync {}

impl<T: AsRef<[f32]> + core::fmt::Debug + Send + Sync> Components for T {}

impl EmbeddingMatrix {
    /// Makes a matrix of row-major components, which are not copied.
    ///
    /// # Errors
    /// The first bad row, and what is wrong with it.
    ///
    /// # Panics
    /// If `dimension` is 0 or does not divide the number of components.
    pub fn new(dimension: usize, values: impl Components + 'static) -> Result<Self, (usize, BadRow)> {
        assert!(dimension > 0 && values.as_ref().len().is_multiple_of(dimension));
        let norms =
            values.as_ref().chunks_exact(dimension).enumerate().map(|(row, x)| norm(x).map_err(|bad| (row, bad)));
        let norms = norms.collect::<Result<_, _>>()?;
        Ok(Self { dimension, values: Arc::new(values), norms, order: None })
    }

    /// Returns the place of a row among the values.
    fn place(&self, row: usize) -> usize {
        self.order.as_ref().map_or(row, |order| order[row] as usize)
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.order.as_ref().map_or(self.norms.len(), |order| order.len())
    }

    /// Returns a matrix of these rows in this order. The values are shared.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        assert!(rows.iter().all(|&row| (row as usize) < self.rows()), "no such row");
        Self { order: Some(rows.iter().map(|&row| self.place(row as usize) as u32).collect()), ..self.clone() }
    }

    /// Returns the number of components of a row.
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns a row as stored, not normalised.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        let begin = self.place(row) * self.dimension;
        &(*self.values).as_ref()[begin..begin + self.dimension]
    }

    /// Copies a row, normalised, into `buffer`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn read_unit(&self, row: usize, buffer: &mut Vec<f32>) {
        buffer.clear();
        buffer.extend(scaled(self.row(row), self.norm(row)));
    }

    /// Returns the norm of a row as stored.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn norm(&self, row: usize) -> f64 {
        self.norms[self.place(row)]
    }

    /// Returns a row as a unit vector.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn embedding(&self, row: usize) -> Embedding {
        Embedding(scaled(self.row(row), self.norm(row)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_normalised_in_f64() {
        let matrix = EmbeddingMatrix::new(2, vec![3.0, 4.0, 0.0, -2.0]).expect("good rows");
        assert_eq!(matrix.rows(), 2);
        assert_eq!(matrix.embedding(0).as_slice(), [0.6, 0.8]);
        assert_eq!(matrix.embedding(1).as_slice(), [0.0, -1.0]);
    }

    #[test]
    fn bad_rows_are_named() {
        assert_eq!(EmbeddingMatrix::new(2, vec![1.0, 0.0, 0.0, 0.0]).err(), Some((1, BadRow::Zero)));
        assert_eq!(EmbeddingMatrix::new(1, vec![f32::NAN]).err(), Some((0, BadRow::NotFinite(0))));
    }

    #[test]
    fn tiny_rows_have_a_direction() {
        let tiny = Embedding::normalised(&[1e-30, 0.0]).expect("norm in f64 does not underflow");
        assert_eq!(tiny.as_slice(), [1.0, 0.0]);
    }

    #[test]
    fn similarity_is_clamped_below() {
        assert!(similarity(&[1.0, 0.0], &[-1.0, 0.0]).abs() < f64::EPSILON);
        assert!((similarity(&[0.6, 0.8], &[0.6, 0.8]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn only_unit_vectors_are_read() {
        let embedding = Embedding::normalised(&[3.0, 4.0]).unwrap();
        let written = serde_json::to_string(&embedding).unwrap();
        assert_eq!(serde_json::from_str::<Embedding>(&written).unwrap(), embedding);
        for bad in ["[]", "[3.0,4.0]", "[0.0,0.0]", "[1e39,0.0]", "[0.6,null]"] {
            assert!(serde_json::from_str::<Embedding>(bad).is_err(), "{bad}");
        }
    }
}
