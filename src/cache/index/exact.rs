//! Exact search: a scan of vectors in eight bits a component with a proven error bound, then the few rows that can
//! still win in f32, then those that can still win in f64.
//!
//! What it returns is what brute force in f64 returns. Bound by memory: rows x dimension bytes a query, a quarter of
//! what an f32 scan reads. Insert and remove cost O(dimension), at any place.

use std::collections::BTreeMap;

use super::vectors::{Search, Vectors};
use super::{Match, Query, RetrievalIndex};
use crate::embedding::Embedding;
use crate::image::ImageId;

/// Rows whose scores are held at a time.
const BLOCK: usize = 256;

/// The default index.
#[derive(Debug, Default)]
pub struct ExactIndex {
    /// In no particular order: a removed row's place is taken by the last.
    vectors: Vectors,
    rows: Vec<Row>,
    places: BTreeMap<ImageId, usize>,
    inserted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    image: ImageId,
    /// Order of insertion: lower is older.
    age: u64,
}

impl ExactIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The oldest entry: what is nearest when everything is at similarity 0.
    fn oldest(&self) -> Option<Match> {
        self.rows.iter().min_by_key(|row| row.age).map(|row| Match { image: row.image, similarity: 0.0 })
    }
}

impl RetrievalIndex for ExactIndex {
    fn insert(&mut self, image: ImageId, embedding: &Embedding) {
        let vector = embedding.as_slice();
        if self.rows.is_empty() && self.vectors.dimension() != vector.len() {
            self.vectors = Vectors::new(vector.len());
        }
        let before = self.places.insert(image, self.rows.len());
        assert!(before.is_none(), "image {image} is in the index already");
        self.vectors.push(vector);
        self.rows.push(Row { image, age: self.inserted });
        self.inserted += 1;
    }

    fn remove(&mut self, image: ImageId) {
        let Some(row) = self.places.remove(&image) else { return };
        self.rows.swap_remove(row);
        self.vectors.swap_remove(row);
        if let Some(moved) = self.rows.get(row) {
            self.places.insert(moved.image, row);
        }
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        self.nearest_of_each(std::slice::from_ref(query)).pop().flatten()
    }

    /// Each block is read from memory once for all queries.
    fn nearest_of_each(&self, queries: &[Query<'_>]) -> Vec<Option<Match>> {
        let mut searches: Vec<Search<'_>> =
            queries.iter().map(|query| Search::new(query.embedding.as_slice())).collect();
        for first in (0..self.rows.len()).step_by(BLOCK) {
            let last = (first + BLOCK).min(self.rows.len());
            for search in &mut searches {
                self.vectors.scan(first..last, true, |_| true, search);
            }
        }
        let settled = searches.into_iter().map(|mut search| {
            self.vectors.settle(|row| self.rows[row].age, &mut search);
            match search.best {
                Some(best) => Some(Match { image: self.rows[best.row].image, similarity: best.similarity }),
                None => self.oldest(),
            }
        });
        settled.collect()
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
    use crate::embedding::similarity;
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
            let other = vector(0.3);
            let both = [&query, &other].map(|embedding| Query { request: None, embedding });
            assert_eq!(index.nearest_of_each(&both), [expected, nearest(&index, &other)]);
            assert_eq!(index.len(), shadow.len());
        }
    }
}
