//! Exact search by a contiguous f32 scan with f64 rescoring of the few rows that can still win.
//!
//! The scan's rounding error has a proven bound, so what it returns is what brute force in f64
//! returns. Memory-bound: rows x dimension x 4 bytes a query. Insert and remove cost O(dimension).

use std::collections::BTreeMap;

use super::{Match, Query, RetrievalIndex};
use crate::embedding::{Embedding, similarity};
use crate::image::ImageId;
use crate::request::TenantId;

/// The default index.
#[derive(Debug, Default)]
pub struct ExactIndex {
    dimension: usize,
    /// Row-major, in no particular order: a removed row's place is taken by the last.
    values: Vec<f32>,
    rows: Vec<Row>,
    places: BTreeMap<ImageId, usize>,
    inserted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    image: ImageId,
    owner: TenantId,
    /// Order of insertion: lower is older.
    age: u64,
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

    /// The oldest entry in scope: what is nearest when everything is at similarity 0.
    fn oldest(&self, query: &Query<'_>) -> Option<Match> {
        let rows = self.rows.iter().filter(|row| query.scope.admits(row.owner));
        rows.min_by_key(|row| row.age).map(|row| Match { image: row.image, similarity: 0.0 })
    }
}

/// How far apart the f32 scan's scores of two rows may be although the f64 similarities say the
/// opposite: twice the sum of both sums' error bounds, n u / (1 - n u) for any order of summation
/// and norms of at most 1 + u (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
fn margin(dimension: usize) -> f32 {
    let gamma = |unit: f64| {
        // Two more than the terms: `best - margin` is rounded too.
        let error = (dimension + 2) as f64 * unit;
        error / (1.0 - error)
    };
    let norms = 1.0 + 1e-6;
    let error = gamma(f64::from(f32::EPSILON) / 2.0) + gamma(f64::EPSILON / 2.0);
    // The last term covers underflow.
    (2.0 * error * norms * (1.0 + 1e-6) + 1e-30) as f32
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
    fn insert(&mut self, image: ImageId, owner: TenantId, embedding: &Embedding) {
        let vector = embedding.as_slice();
        if self.rows.is_empty() {
            self.dimension = vector.len();
            self.values.clear();
        }
        assert_eq!(vector.len(), self.dimension, "one dimension for all embeddings was checked on load");
        let before = self.places.insert(image, self.rows.len());
        assert!(before.is_none(), "image {image} is in the index already");
        self.values.extend_from_slice(vector);
        self.rows.push(Row { image, owner, age: self.inserted });
        self.inserted += 1;
    }

    fn remove(&mut self, image: ImageId) {
        let Some(row) = self.places.remove(&image) else { return };
        let last = self.rows.len() - 1;
        self.rows.swap_remove(row);
        if row != last {
            self.places.insert(self.rows[row].image, row);
            self.values.copy_within(last * self.dimension.., row * self.dimension);
        }
        self.values.truncate(last * self.dimension);
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        let wanted = query.embedding.as_slice();
        let margin = margin(self.dimension);
        let mut best = f32::NEG_INFINITY;
        let mut candidates: Vec<(usize, f32)> = Vec::new();
        for (row, vector) in self.values.chunks_exact(self.dimension.max(1)).enumerate() {
            let score = scan_score(wanted, vector);
            if score >= best - margin && query.scope.admits(self.rows[row].owner) {
                best = best.max(score);
                candidates.push((row, score));
            }
        }
        candidates.retain(|&(_, score)| score >= best - margin);
        let scored = candidates.iter().map(|&(row, _)| (similarity(wanted, self.vector(row)), self.rows[row]));
        let (top, row) = scored.max_by(|(a, x), (b, y)| a.total_cmp(b).then(y.age.cmp(&x.age)))?;
        if top > 0.0 { Some(Match { image: row.image, similarity: top }) } else { self.oldest(query) }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::cache::index::Scope;
    use crate::draw::{Purpose, normal, stream};
    use crate::request::RequestId;

    fn id(row: u32) -> ImageId {
        ImageId::of_request(RequestId(row))
    }

    fn unit(values: &[f32]) -> Embedding {
        Embedding::normalised(values).expect("a good row")
    }

    fn nearest(index: &ExactIndex, embedding: &Embedding, scope: Scope) -> Option<Match> {
        index.nearest(&Query { request: RequestId(0), embedding, scope })
    }

    #[test]
    fn ties_go_to_the_older_even_after_removals_moved_rows() {
        let mut index = ExactIndex::new();
        let axis = unit(&[1.0, 0.0]);
        for row in 0..4 {
            index.insert(id(row), TenantId(0), &axis);
        }
        assert_eq!(nearest(&index, &axis, Scope::Shared).map(|found| found.image), Some(id(0)));
        index.remove(id(0)); // row 3 moves to its place
        assert_eq!(nearest(&index, &axis, Scope::Shared).map(|found| found.image), Some(id(1)));
    }

    #[test]
    fn everything_at_zero_is_a_tie() {
        let mut index = ExactIndex::new();
        index.insert(id(7), TenantId(0), &unit(&[-1.0, 0.0]));
        index.insert(id(8), TenantId(0), &unit(&[-0.1, 1.0]));
        let found = nearest(&index, &unit(&[1.0, 0.0]), Scope::Shared);
        assert_eq!(found, Some(Match { image: id(7), similarity: 0.0 }));
        assert_eq!(nearest(&ExactIndex::new(), &unit(&[1.0]), Scope::Shared), None);
    }

    #[test]
    fn a_scope_hides_other_tenants() {
        let mut index = ExactIndex::new();
        let axis = unit(&[1.0, 0.0]);
        index.insert(id(0), TenantId(1), &axis);
        index.insert(id(1), TenantId(2), &unit(&[0.5, 1.0]));
        let found = nearest(&index, &axis, Scope::Tenant(TenantId(2)));
        assert_eq!(found.map(|found| found.image), Some(id(1)));
        assert_eq!(nearest(&index, &axis, Scope::Tenant(TenantId(3))), None);
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
            index.insert(id(round), TenantId(0), &embedding);
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
            assert_eq!(nearest(&index, &query, Scope::Shared), expected, "round {round}");
            assert_eq!(index.len(), shadow.len());
        }
    }
}
