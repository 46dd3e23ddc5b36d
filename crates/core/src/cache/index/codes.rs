//! Vectors in eight bits a component, their dot products, and a proven bound on the distance of these products from the
//! exact ones. Not an index: `super::exact` knows which rows are there.
//!
//! A row v is stored as v' = s q, where q has whole numbers from -127 to 127. A query w is stored as w' in the same
//! way. Then |w.v - w'.v'| <= |w'| |v - v'| + |w - w'| |v| (Cauchy-Schwarz), and each norm on the right is known.

use alloc::vec::Vec;

use multiversion::multiversion;

use super::dot::dot_products;

/// Largest code: codes go from minus this number to this number. Codes of queries are smaller if a sum would not fit 32
/// bits.
const MOST: f64 = 127.0;

/// Largest norm of a unit vector, whose components are rounded to f32.
const NORM: f64 = 1.0 + 1e-6;

/// Scale and error of a row of codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Factor s of v' = s q.
    scale: f32,
    /// Upper bound of |v - v'|.
    residual: f32,
}

/// Query in codes, ready to be compared with rows.
#[derive(Clone, Debug)]
pub struct QueryCodes {
    codes: Vec<i8>,
    scale: f64,
    /// Upper bound of |w'|.
    norm: f64,
    /// Upper bound of |w - w'| |v| for any row v, plus the errors of rounding.
    residual: f64,
}

/// Returns a relative error that covers the rounding of a sum of this many terms in f64.
fn rounding(terms: usize) -> f64 {
    (terms + 8) as f64 * f64::EPSILON
}

/// Returns the nearest whole number, or one that is about as near. Any choice is valid, since the bounds are computed
/// from the number that was chosen. The cast is faster than `round`, which is a function call on many processors.
fn whole(value: f64) -> f64 {
    f64::from((value + 0.5_f64.copysign(value)) as i32)
}

/// Number of sums that run beside each other, so that no addition waits for the one before it.
const LANES: usize = 8;

/// Returns the largest absolute value of a component.
fn largest(vector: &[f32]) -> f32 {
    let (chunks, rest) = vector.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(value.abs());
        }
    }
    lanes.iter().chain(rest).fold(0.0, |most, value| most.max(value.abs()))
}

/// Returns the codes of a vector in steps of `scale`, from `-most` to `most`, with |v'|^2 and |v - v'|^2.
fn quantise(vector: &[f32], scale: f64, most: f64) -> (Vec<i8>, f64, f64) {
    let per_step = 1.0 / scale;
    let mut codes = vec![0_i8; vector.len()];
    let (mut squares, mut residuals) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    for (codes, values) in codes.chunks_mut(LANES).zip(vector.chunks(LANES)) {
        let lanes = squares.iter_mut().zip(&mut residuals);
        for ((code, &value), (square, residual)) in codes.iter_mut().zip(values).zip(lanes) {
            let whole = whole(f64::from(value) * per_step).clamp(-most, most);
            *code = whole as i8;
            *square += (scale * whole) * (scale * whole);
            *residual += (f64::from(value) - scale * whole) * (f64::from(value) - scale * whole);
        }
    }
    (codes, squares.iter().sum(), residuals.iter().sum())
}

/// Returns scale and codes of a unit vector.
pub(super) fn quantised(vector: &[f32]) -> (Scale, Vec<i8>) {
    let scale = (f64::from(largest(vector)) / MOST).max(f64::from(f32::MIN_POSITIVE)) as f32;
    let (codes, _, squares) = quantise(vector, f64::from(scale), MOST);
    let residual = libm::sqrt(squares) * (1.0 + rounding(vector.len()));
    // The residual is rounded up: in f32 too it must not be below the distance that it bounds.
    (Scale { scale, residual: (residual as f32).next_up() }, codes)
}

impl QueryCodes {
    /// Returns the codes of a unit vector.
    #[must_use]
    pub fn new(vector: &[f32]) -> Self {
        // A row has codes up to 127, so that a sum of products is at most 127 x most x dimension.
        let fits = i32::MAX / (MOST as i32 * i32::try_from(vector.len().max(1)).unwrap_or(i32::MAX / 127));
        let most = MOST.min(f64::from(fits)).max(1.0);
        // The scale is not so small that its inverse overflows.
        let scale = (f64::from(largest(vector)) / most).max(1e-300);
        let (codes, squares, residual) = quantise(vector, scale, most);
        let more = 1.0 + rounding(vector.len());
        // The last term covers the rounding of the similarity itself, of the score, and of their bounds.
        let residual = libm::sqrt(residual) * more * NORM + 4.0 * rounding(vector.len());
        Self { codes, scale, norm: libm::sqrt(squares) * more, residual }
    }

    /// Computes the dot products of the codes with those of `rows`, as many as `dots` has. With `far`, the bytes after
    /// these rows are prefetched.
    pub(super) fn dots(&self, rows: &[u8], far: bool, dots: &mut [i32]) {
        dot_products(&self.codes, rows, far, dots);
    }

    /// Computes the upper bound of each similarity, before it is clamped at 0, from dot products of codes.
    pub(super) fn at_most(&self, dots: &[i32], rows: &[Scale], most: &mut [f64]) {
        at_most(self, dots, rows, most);
    }

    /// Returns the lower and the upper bound of the similarity, before it is clamped at 0, from a dot product of codes.
    pub(super) fn bounds(&self, dot: i32, row: Scale) -> (f64, f64) {
        let score = self.scale * f64::from(row.scale) * f64::from(dot);
        let error = self.norm * f64::from(row.residual) + self.residual;
        (score - error, score + error)
    }
}

/// Computes the upper bound of each similarity, as [`QueryCodes::bounds`] does.
#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn at_most(query: &QueryCodes, dots: &[i32], rows: &[Scale], most: &mut [f64]) {
    let (scale, norm, residual) = (query.scale, query.norm, query.residual);
    for ((most, &dot), row) in most.iter_mut().zip(dots).zip(rows) {
        let score = scale * f64::from(row.scale) * f64::from(dot);
        *most = score + (norm * f64::from(row.residual) + residual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Purpose, normal, stream};
    use crate::embedding::Embedding;

    /// Returns vectors of many shapes: isotropic, sparse, one large component, all equal, tiny components.
    fn vectors(dimension: usize) -> Vec<Embedding> {
        let mut generator = stream(3, Purpose::Test, dimension as u64);
        let mut found = Vec::new();
        for kind in 0..60 {
            let row: Vec<f32> = (0..dimension)
                .map(|at| {
                    let value = normal(&mut generator) as f32;
                    match kind % 6 {
                        2 if at % 7 != kind % 7 => 0.0,
                        3 if at == 0 => 1000.0,
                        4 => value.signum(),
                        5 if at > 0 => value * 1e-30,
                        _ => value,
                    }
                })
                .collect();
            found.extend(Embedding::normalised(&row));
        }
        found
    }

    fn coded(vector: &[f32]) -> (Scale, Vec<u8>) {
        let (scale, codes) = quantised(vector);
        (scale, codes.into_iter().map(i8::cast_unsigned).collect())
    }

    #[test]
    fn the_exact_dot_product_lies_within_the_bounds() {
        for dimension in [1, 2, 3, 16, 37, 768, 5000] {
            let vectors = vectors(dimension);
            let coded: Vec<(Scale, Vec<u8>)> = vectors.iter().map(|vector| coded(vector.as_slice())).collect();
            let (scales, codes): (Vec<Scale>, Vec<Vec<u8>>) = coded.into_iter().unzip();
            let codes = codes.concat();
            let mut widest = 0.0_f64;
            for query in &vectors {
                let coded = QueryCodes::new(query.as_slice());
                let mut dots = vec![0; vectors.len()];
                coded.dots(&codes, false, &mut dots);
                for ((vector, &dot), &scale) in vectors.iter().zip(&dots).zip(&scales) {
                    let pairs = query.as_slice().iter().zip(vector.as_slice());
                    let exact: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    let (low, high) = coded.bounds(dot, scale);
                    assert!((low..=high).contains(&exact), "{dimension}: {low} {exact} {high}");
                    widest = widest.max(high - low);
                }
            }
            assert!(widest < 0.3, "{dimension}: bounds {widest} apart say little");
        }
    }

    #[test]
    fn sums_fit_whatever_the_dimension() {
        for dimension in [1, 100, 4096, 100_000] {
            let row = Embedding::normalised(&vec![1.0; dimension]).expect("a direction");
            let (scale, codes) = coded(row.as_slice());
            let query = QueryCodes::new(row.as_slice());
            let mut dots = [0];
            query.dots(&codes, true, &mut dots);
            let (low, high) = query.bounds(dots[0], scale);
            assert!(low <= 1.0 && high >= 1.0 - 1e-6 && high - low < 0.05, "{dimension}: {low} {high}");
        }
    }
}
