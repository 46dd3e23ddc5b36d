//! Exact search in three steps: a scan of vectors in eight bits a component with a proven error bound, then a
//! comparison in f32 of the few rows that can still win, then a comparison in f64 of the rows that can still win after
//! that.
//!
//! The result is that of brute force in f64. The search is bound by memory: a query reads rows x dimension bytes, a
//! quarter of what a scan in f32 reads. Insertion and removal cost O(dimension), at any place.

use alloc::vec::Vec;

use super::room::{Allocate, plain};
use super::vectors::{Search, Vectors};
use super::{Match, Query, RetrievalIndex};
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::table::Table;

/// Number of rows whose scores are held at a time.
const BLOCK: usize = 256;

/// Exact index, the default.
#[derive(Debug)]
pub struct ExactIndex {
    allocate: Allocate,
    /// Vectors in no particular order: the last row takes the place of a removed row.
    vectors: Vectors,
    rows: Vec<IndexRow>,
    places: Table<ImageId, usize>,
    inserted: u64,
}

#[derive(Clone, Copy, Debug)]
struct IndexRow {
    image: ImageId,
    /// Order of insertion: lower is older.
    age: u64,
}

impl ExactIndex {
    /// Returns an empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::allocated_by(plain)
    }

    /// Returns an empty index whose codes are in memory of `allocate`.
    #[must_use]
    pub fn allocated_by(allocate: Allocate) -> Self {
        let vectors = Vectors::new(0, allocate);
        Self { allocate, vectors, rows: Vec::new(), places: Table::default(), inserted: 0 }
    }

    /// Returns the oldest wanted entry, which is the nearest if all similarities are 0.
    fn oldest(&self, without: &[ImageId]) -> Option<Match> {
        let wanted = self.rows.iter().filter(|row| !without.contains(&row.image));
        wanted.min_by_key(|row| row.age).map(|row| Match { image: row.image, similarity: 0.0 })
    }
}

impl Default for ExactIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl RetrievalIndex for ExactIndex {
    fn insert(&mut self, image: ImageId, embedding: &Embedding) {
        let vector = embedding.as_slice();
        // The first entry says how many components there are.
        if self.rows.is_empty() && self.vectors.dimension() != vector.len() {
            self.vectors = Vectors::new(vector.len(), self.allocate);
        }
        let before = self.places.insert(image, self.rows.len());
        assert!(before.is_none(), "image {image} is in the index already");
        self.vectors.push(vector);
        self.rows.push(IndexRow { image, age: self.inserted });
        self.inserted += 1;
    }

    fn remove(&mut self, image: ImageId) {
        let Some(row) = self.places.remove(&image) else { return };
        self.rows.swap_remove(row);
        // Both lists move their last row, so that the numbers of rows stay the same in both.
        self.vectors.swap_remove(row);
        if let Some(moved) = self.rows.get(row) {
            self.places.insert(moved.image, row);
        }
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        self.nearest_of_each(core::slice::from_ref(query)).pop().flatten()
    }

    /// Reads each block from memory once for all queries.
    fn nearest_of_each(&self, queries: &[Query<'_>]) -> Vec<Option<Match>> {
        let mut searches: Vec<Search<'_>> =
            queries.iter().map(|query| Search::new(query.embedding.as_slice())).collect();
        for first in (0..self.rows.len()).step_by(BLOCK) {
            let last = (first + BLOCK).min(self.rows.len());
            for (search, query) in searches.iter_mut().zip(queries) {
                if query.without.is_empty() {
                    self.vectors.scan(first..last, true, |_| true, search);
                } else {
                    let is_wanted = |row: usize| !query.without.contains(&self.rows[row].image);
                    self.vectors.scan(first..last, true, is_wanted, search);
                }
            }
        }
        let settled = searches.into_iter().zip(queries).map(|(mut search, query)| {
            self.vectors.settle(|row| self.rows[row].age, &mut search);
            // A search finds no row whose similarity is 0. If all are, the oldest is the nearest of equals.
            match search.best {
                Some(best) => Some(Match { image: self.rows[best.row].image, similarity: best.similarity }),
                None => self.oldest(query.without),
            }
        });
        settled.collect()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }
}
