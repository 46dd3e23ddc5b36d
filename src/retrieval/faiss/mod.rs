//! FAISS as indexes of the image cache. FAISS names candidates, and our copy of the vectors decides among them in f64
//! and says how similar they are, so that no reported similarity depends on the arithmetic of FAISS. Each structure has
//! its own file.
//!
//! Equal runs on one machine give equal answers: FAISS uses one thread and fixed seeds. Between processors, the sums of
//! FAISS differ in the last places, and so may the lists that it trains.

use std::cmp::Reverse;
use std::fmt::Debug;

use faiss::index::SearchResult;

use crate::cache::index::{Match, Query, RetrievalIndex, margin};
use crate::embedding::{Embedding, similarity};
use crate::image::ImageId;

mod entries;
mod flat;
mod hnsw;
mod inverted_lists;
mod segments;
mod threads;

use entries::Entries;
use flat::Flat;
use hnsw::Hnsw;
use inverted_lists::InvertedLists;
use segments::Segments;

/// Number of candidates that are asked for at first. With fewer, the rounding of FAISS would decide.
const CANDIDATES: usize = 8;

/// Reason for which the calls of FAISS are not checked.
const OUT_OF_MEMORY: &str = "FAISS refuses only what breaks its rules, or when memory is out";

/// Exact index in 32 bits a component.
pub type FaissFlat = FaissIndex<Segments<Flat>>;
/// Inverted lists of vectors as they are.
pub type FaissIvf = FaissIndex<InvertedLists<faiss::index::ivf_flat::IVFFlatIndex>>;
/// Inverted lists of vectors in eight bits a component.
pub type FaissIvfSq8 = FaissIndex<InvertedLists<inverted_lists::EightBits>>;
/// Graph of near neighbours.
pub type FaissHnsw = FaissIndex<Segments<Hnsw>>;

/// Structure in which FAISS holds the entries, known by their age.
pub trait Structure: Debug + Default + Send {
    /// Adds the youngest of the entries, which is new.
    fn insert(&mut self, age: u64, entries: &Entries);
    /// Removes the entry of an age, which is no longer among the entries.
    fn remove(&mut self, age: u64, entries: &Entries);
    /// Offers entries until no entry that the structure might still find is nearer.
    fn search(&self, nearest: &mut Nearest<'_>);
}

/// Index of the image cache with candidates from FAISS.
#[derive(Debug, Default)]
pub struct FaissIndex<S> {
    entries: Entries,
    structure: S,
}

impl<S: Structure> FaissIndex<S> {
    /// Returns an empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: Structure> RetrievalIndex for FaissIndex<S> {
    fn insert(&mut self, image: ImageId, embedding: &Embedding) {
        threads::use_one();
        let age = self.entries.insert(image, embedding);
        self.structure.insert(age, &self.entries);
    }

    fn remove(&mut self, image: ImageId) {
        threads::use_one();
        if let Some(age) = self.entries.remove(image) {
            self.structure.remove(age, &self.entries);
        }
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        threads::use_one();
        let oldest = self.entries.oldest(query.without)?;
        let Query { embedding, without, .. } = *query;
        let mut nearest = Nearest { entries: &self.entries, query: embedding.as_slice(), without, best: None };
        self.structure.search(&mut nearest);
        if nearest.best.is_none_or(|(top, _)| top <= 0.0) {
            // If nothing was found, or everything is at 0, the oldest entry is as near as any.
            nearest.offer(oldest);
        }
        let (similarity, Reverse(age)) = nearest.best?;
        Some(Match { image: self.entries.image(age)?, similarity })
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Search in progress: the best of the entries that were offered so far.
#[derive(Debug)]
pub struct Nearest<'a> {
    entries: &'a Entries,
    query: &'a [f32],
    without: &'a [ImageId],
    /// Similarity and age of the best entry.
    best: Option<(f64, Reverse<u64>)>,
}

impl Nearest<'_> {
    /// Compares an entry in f64. Returns whether the entry is still there and wanted. To offer an entry again changes
    /// nothing.
    fn offer(&mut self, age: u64) -> bool {
        let Some(vector) = self.entries.vector(age) else { return false };
        if self.entries.image(age).is_some_and(|image| self.without.contains(&image)) {
            return false;
        }
        let found = (similarity(self.query, vector), Reverse(age));
        if self.best.is_none_or(|best| found.0.total_cmp(&best.0).then(found.1.cmp(&best.1)).is_gt()) {
            self.best = Some(found);
        }
        true
    }

    /// Asks `search` for more and more rows until one of them is an entry that is still there, so that entries that
    /// left hide no others. An exact index is asked until rounding cannot have put the nearest entry further down.
    fn ask(&mut self, exact: bool, search: impl Fn(&[f32], usize) -> SearchResult, age_of: impl Fn(u64) -> u64) {
        let margin = margin(self.query.len());
        let mut wanted = CANDIDATES;
        loop {
            let SearchResult { distances, labels } = search(self.query, wanted);
            let (mut named, mut there) = (0, false);
            for label in labels.iter().filter_map(|label| label.get()) {
                named += 1;
                there |= self.offer(age_of(label));
            }
            // What FAISS did not name has at most the last distance named, give or take the rounding of a sum in f32.
            let last = distances.last().map_or(f64::NEG_INFINITY, |&last| f64::from(last));
            let top = self.best.map_or(f64::NEG_INFINITY, |(top, _)| top);
            let settled = last + margin < top || (there && !exact);
            // Fewer rows than were asked for means that there are no more.
            if named < wanted || settled {
                return;
            }
            wanted *= 2;
        }
    }
}

#[cfg(test)]
mod tests;
