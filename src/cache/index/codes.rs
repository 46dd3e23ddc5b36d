//! Vectors in eight bits a component, dot products of them, and a proven bound of how far those are from the
//! exact ones. Not an index: which rows are there is `super::exact`'s business.
//!
//! A row v is stored as v' = s q, q whole numbers from -127 to 127, a query w likewise as w' with thirteen bits or
//! fewer, so that sums of products fit 32 bits whatever the vectors. Then
//! |w.v - w'.v'| <= |w'| |v - v'| + |w - w'| |v| (Cauchy-Schwarz), and each norm on the right is known.

use multiversion::multiversion;

/// Codes of rows go from minus this to this.
const MOST: f64 = 127.0;

/// Codes of queries go no further than this, and no further than 32 bits allow.
const MOST_OF_QUERY: i32 = 8191;

/// Unit vectors are rounded to f32: their norms are at most this.
const NORM: f64 = 1.0 + 1e-6;

/// What is known of a row beside its codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// s of v' = s q.
    scale: f32,
    /// At least |v - v'|.
    residual: f32,
}

/// A query ready to be compared with rows.
#[derive(Clone, Debug)]
pub(super) struct QueryCodes {
    codes: Vec<i16>,
    scale: f64,
    /// At least |w'|.
    norm: f64,
    /// At least |w - w'| |v| for any row v, and all that rounding adds.
    residual: f64,
}

/// A factor that covers the rounding of a sum of so many terms in f64.
fn rounding(terms: usize) -> f64 {
    (terms + 8) as f64 * f64::EPSILON
}

/// The nearest whole number, or one as near: any will do, the bounds are computed from what was chosen. Quicker than
/// `round`, which is a call on many processors.
fn whole(value: f64) -> f64 {
    f64::from((value + 0.5_f64.copysign(value)) as i32)
}

/// The codes of a unit vector, as the bytes that they are stored in.
pub(super) fn of(vector: &[f32]) -> (Scale, impl ExactSizeIterator<Item = u8>) {
    let largest = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = (f64::from(largest) / MOST).max(f64::from(f32::MIN_POSITIVE)) as f32;
    let code = move |value: f32| whole(f64::from(value) / f64::from(scale)).clamp(-MOST, MOST);
    let squares: f64 = vector.iter().map(|&value| (f64::from(value) - f64::from(scale) * code(value)).powi(2)).sum();
    let residual = squares.sqrt() * (1.0 + rounding(vector.len()));
    let scale_of = Scale { scale, residual: (residual as f32).next_up() };
    (scale_of, vector.iter().map(move |&value| (code(value) as i8).cast_unsigned()))
}

impl QueryCodes {
    /// Of a unit vector.
    pub(super) fn new(vector: &[f32]) -> Self {
        let fits = i32::MAX / (MOST as i32 * i32::try_from(vector.len().max(1)).unwrap_or(i32::MAX / 127));
        let most = f64::from(MOST_OF_QUERY.min(fits).max(1));
        let largest = vector.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = (f64::from(largest) / most).max(f64::MIN_POSITIVE);
        let (mut squares, mut residual) = (0.0_f64, 0.0_f64);
        let codes = vector.iter().map(|&value| {
            let code = whole(f64::from(value) / scale).clamp(-most, most);
            squares += (scale * code).powi(2);
            residual += (f64::from(value) - scale * code).powi(2);
            code as i16
        });
        let codes = codes.collect();
        let more = 1.0 + rounding(vector.len());
        // The last term covers the rounding of the similarity itself, of the score, and of their bounds.
        let residual = residual.sqrt() * more * NORM + 4.0 * rounding(vector.len());
        Self { codes, scale, norm: squares.sqrt() * more, residual }
    }

    /// Dot products of the codes with those of `rows`, as many as `dots` has; what comes after them is asked for ahead.
    pub(super) fn dots(&self, rows: &[u8], dots: &mut [i32]) {
        dot_products(&self.codes, rows, dots);
    }

    /// From a dot product of codes: what the similarity is at least and at most, before it is clamped at 0.
    pub(super) fn bounds(&self, dot: i32, row: Scale) -> (f64, f64) {
        let score = self.scale * f64::from(row.scale) * f64::from(dot);
        let error = self.norm * f64::from(row.residual) + self.residual;
        (score - error, score + error)
    }
}

/// How far ahead of itself a scan asks for what it will read, in bytes: measured, `docs/performance.md`.
const AHEAD: usize = 8192;

/// Bytes that memory hands over together.
const LINE: usize = 64;

/// Asks for some bytes from here on, if there are so many, so that they are near when they are read. The processor does
/// so by itself, but stops at the end of each page.
#[cfg(target_arch = "x86_64")]
fn fetch_ahead(rows: &[u8], from: usize, count: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let Some(bytes) = rows.get(from..(from + count).min(rows.len())) else { return };
    for line in bytes.iter().step_by(LINE) {
        #[expect(unsafe_code, reason = "a hint: it reads nothing")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast());
        }
    }
}

/// Elsewhere there is no stable way to ask.
#[cfg(not(target_arch = "x86_64"))]
const fn fetch_ahead(_: &[u8], _: usize, _: usize) {
    _ = LINE;
}

/// The inner loop of every search; the compiler makes SIMD of it, for the processor that it runs on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2+fma", "aarch64+neon"))]
fn dot_products(query: &[i16], rows: &[u8], dots: &mut [i32]) {
    for (at, (row, dot)) in rows.chunks_exact(query.len()).zip(dots).enumerate() {
        fetch_ahead(rows, at * query.len() + AHEAD, query.len());
        let products = row.iter().zip(query).map(|(&a, &b)| i32::from(i16::from(a.cast_signed())) * i32::from(b));
        *dot = products.sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Purpose, normal, stream};
    use crate::embedding::Embedding;

    /// Vectors of many shapes: isotropic, sparse, one large component, all equal, tiny components.
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
        let (scale, codes) = of(vector);
        (scale, codes.collect())
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
                coded.dots(&codes, &mut dots);
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
            query.dots(&codes, &mut dots);
            let (low, high) = query.bounds(dots[0], scale);
            assert!(low <= 1.0 && high >= 1.0 - 1e-6 && high - low < 0.05, "{dimension}: {low} {high}");
        }
    }
}
