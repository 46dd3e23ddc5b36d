//! Exact search: a scan of vectors in eight bits a component with a proven error bound, then the few rows that can
//! still win in f32, then those that can still win in f64.
//!
//! What it returns is what brute force in f64 returns. Bound by memory: rows x dimension bytes a query, a quarter of
//! what an f32 scan reads. Insert and remove cost O(dimension), at any place.

use std::collections::BTreeMap;

use super::codes::{self, QueryCodes, Scale};
use super::{Match, Query, RetrievalIndex};
use crate::embedding::{Embedding, similarity};
use crate::image::ImageId;

/// Rows whose scores are held at a time.
const BLOCK: usize = 256;

/// The default index.
#[derive(Debug, Default)]
pub struct ExactIndex {
    dimension: usize,
    /// Row-major, in no particular order: a removed row's place is taken by the last.
    codes: Vec<i8>,
    /// The vectors themselves, likewise.
    values: Vec<f32>,
    rows: Vec<Row>,
    places: BTreeMap<ImageId, usize>,
    inserted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    image: ImageId,
    /// Order of insertion: lower is older.
    age: u64,
    scale: Scale,
}

impl ExactIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.values[row * self.dimension..(row + 1) * self.dimension]
    }

    /// The oldest entry: what is nearest when everything is at similarity 0.
    fn oldest(&self) -> Option<Match> {
        self.rows.iter().min_by_key(|row| row.age).map(|row| Match { image: row.image, similarity: 0.0 })
    }

    /// Rows that may be nearest, with the most that their similarity can be, highest first.
    fn candidates(&self, query: &Query<'_>) -> Vec<(usize, f64)> {
        let coded = QueryCodes::new(query.embedding.as_slice());
        let (mut found, mut least) = (Vec::new(), f64::NEG_INFINITY);
        let mut dots = [0_i32; BLOCK];
        for (block, rows) in self.rows.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            coded.dots(
                &self.codes[first * self.dimension..(first + rows.len()) * self.dimension],
                &mut dots[..rows.len()],
            );
            for (at, (row, &dot)) in rows.iter().zip(&dots).enumerate() {
                let (low, high) = coded.bounds(dot, row.scale);
                if high >= least {
                    least = least.max(low);
                    found.push((first + at, high));
                }
            }
        }
        found.retain(|&(_, high)| high >= least);
        found.sort_unstable_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
        found
    }
}

/// How far an f32 score may be from the f64 similarity: the error bounds of both sums, n u / (1 - n u) for any order
/// of summation and norms of at most 1 + 1e-6 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
pub(super) fn margin(dimension: usize) -> f64 {
    let gamma = |unit: f64| {
        let error = (dimension + 2) as f64 * unit;
        error / (1.0 - error)
    };
    // The last term covers underflow.
    (gamma(f64::from(f32::EPSILON) / 2.0) + gamma(f64::EPSILON / 2.0)) * (1.0 + 4e-6) + 1e-30
}

/// Dot product in f32 over independent lanes, which the compiler turns into SIMD.
fn scan_score(a: &[f32], b: &[f32]) -> f32 {
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

impl RetrievalIndex for ExactIndex {
    fn insert(&mut self, image: ImageId, embedding: &Embedding) {
        let vector = embedding.as_slice();
        if self.rows.is_empty() {
            self.dimension = vector.len();
            self.values.clear();
            self.codes.clear();
        }
        assert_eq!(vector.len(), self.dimension, "one dimension for all embeddings was checked on load");
        let before = self.places.insert(image, self.rows.len());
        assert!(before.is_none(), "image {image} is in the index already");
        self.values.extend_from_slice(vector);
        let scale = codes::append(vector, &mut self.codes);
        self.rows.push(Row { image, age: self.inserted, scale });
        self.inserted += 1;
    }

    fn remove(&mut self, image: ImageId) {
        let Some(row) = self.places.remove(&image) else { return };
        let last = self.rows.len() - 1;
        self.rows.swap_remove(row);
        if row != last {
            self.places.insert(self.rows[row].image, row);
            self.values.copy_within(last * self.dimension.., row * self.dimension);
            self.codes.copy_within(last * self.dimension.., row * self.dimension);
        }
        self.values.truncate(last * self.dimension);
        self.codes.truncate(last * self.dimension);
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        let (wanted, margin) = (query.embedding.as_slice(), margin(self.dimension));
        let mut best: Option<(f64, Row)> = None;
        for (row, high) in self.candidates(query) {
            let top = best.map_or(f64::NEG_INFINITY, |(top, _)| top);
            if high < top {
                break;
            }
            if f64::from(scan_score(wanted, self.vector(row))) + margin < top {
                continue;
            }
            let (found, row) = (similarity(wanted, self.vector(row)), self.rows[row]);
            let nearer = |(top, other): (f64, Row)| found.total_cmp(&top).then(other.age.cmp(&row.age)).is_gt();
            if best.is_none_or(nearer) {
                best = Some((found, row));
            }
        }
        let (top, row) = best?;
        if top > 0.0 { Some(Match { image: row.image, similarity: top }) } else { self.oldest() }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::draw::{Purpose, normal, stream};
    use crate::request::RequestId;

    fn id(row: u32) -> ImageId {
        ImageId::of_request(RequestId(row))
    }

    fn unit(values: &[f32]) -> Embedding {
        Embedding::normalised(values).expect("a good row")
    }

    fn nearest(index: &ExactIndex, embedding: &Embedding) -> Option<Match> {
        index.nearest(&Query { request: None, embedding })
    }

    #[test]
    fn ties_go_to_the_older_even_after_removals_moved_rows() {
        let mut index = ExactIndex::new();
        let axis = unit(&[1.0, 0.0]);
        for row in 0..4 {
            index.insert(id(row), &axis);
        }
        assert_eq!(nearest(&index, &axis).map(|found| found.image), Some(id(0)));
        index.remove(id(0)); // row 3 moves to its place
        assert_eq!(nearest(&index, &axis).map(|found| found.image), Some(id(1)));
    }

    #[test]
    fn everything_at_zero_is_a_tie() {
        let mut index = ExactIndex::new();
        index.insert(id(7), &unit(&[-1.0, 0.0]));
        index.insert(id(8), &unit(&[-0.1, 1.0]));
        let found = nearest(&index, &unit(&[1.0, 0.0]));
        assert_eq!(found, Some(Match { image: id(7), similarity: 0.0 }));
        assert_eq!(nearest(&ExactIndex::new(), &unit(&[1.0])), None);
    }

    /// Brute force in f64 over a shadow copy, on vectors so close together that f32 cannot tell them apart.
    #[test]
    fn agrees_with_brute_force_on_clustered_vectors_under_churn() {
        let mut generator = stream(11, Purpose::Test, 0);
        let dimension = 37;
        let centre: Vec<f32> = (0..dimension).map(|_| normal(&mut generator) as f32).collect();
        let mut vector = |spread: f64| -> Embedding {
            let row: Vec<f32> =
                centre.iter().map(|c| (f64::from(*c) + spread * normal(&mut generator)) as f32).collect();
            unit(&row)
        };
        let mut pick = stream(12, Purpose::Test, 0);
        let mut index = ExactIndex::new();
        let mut shadow: Vec<(ImageId, Embedding)> = Vec::new();
        for round in 0..3000_u32 {
            let spread = if round % 2 == 0 { 1e-6 } else { 0.3 };
            let embedding = vector(spread);
            index.insert(id(round), &embedding);
            shadow.push((id(round), embedding));
            if shadow.len() > 200 {
                let (gone, _) = shadow.remove(pick.random_range(0..shadow.len()));
                index.remove(gone);
            }
            let query = vector(spread);
            let mut expected: Option<Match> = None;
            for (image, embedding) in &shadow {
                let similarity = similarity(query.as_slice(), embedding.as_slice());
                if expected.is_none_or(|best| similarity > best.similarity) {
                    expected = Some(Match { image: *image, similarity });
                }
            }
            assert_eq!(nearest(&index, &query), expected, "round {round}");
            assert_eq!(index.len(), shadow.len());
        }
    }
}
