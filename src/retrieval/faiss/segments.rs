//! Removal for FAISS indexes that have no removal, or that move all their rows for it. New entries go to the newest
//! segment. An entry that leaves stays in its segment as a dead row. A segment whose rows are all dead is dropped. If
//! more than half of all rows are dead, the other rows are put into one new segment.
//!
//! Under a sliding window, the oldest segment is dropped when its last row leaves, and nothing is copied. Under
//! removals at random, each entry is copied at most once, on average, for each entry that leaves.

use std::fmt::Debug;

use faiss::index::SearchResult;

use super::entries::Entries;
use super::{Nearest, Structure};

/// Smallest number of rows that the newest segment takes before another begins.
const LEAST_ROWS: usize = 1024;

/// FAISS index that only grows, with rows numbered from 0.
pub trait Part: Debug + Send {
    /// True if the index finds the nearest row except for rounding.
    const EXACT: bool;
    /// Returns an index without rows.
    fn new(dimension: usize) -> Self;
    /// Adds rows, which stand one after the other in `vectors`.
    fn append(&mut self, vectors: &[f32]);
    /// Returns this number of rows, the most similar first. A missing row has no label.
    fn search(&self, query: &[f32], wanted: usize) -> SearchResult;
}

#[derive(Debug)]
struct Segment<P> {
    part: P,
    /// Age of each row, rising.
    ages: Vec<u64>,
    /// Number of rows that are not dead.
    living: usize,
}

/// Segments, the one with the oldest entries first.
#[derive(Debug)]
pub struct Segments<P> {
    segments: Vec<Segment<P>>,
}

impl<P> Default for Segments<P> {
    fn default() -> Self {
        Self { segments: Vec::new() }
    }
}

impl<P: Part> Segment<P> {
    fn new(dimension: usize) -> Self {
        Self { part: P::new(dimension), ages: Vec::new(), living: 0 }
    }

    fn append(&mut self, ages: &[u64], vectors: &[f32]) {
        self.part.append(vectors);
        self.ages.extend_from_slice(ages);
        self.living += ages.len();
    }
}

impl<P: Part> Segments<P> {
    /// Returns all entries in one segment.
    pub(super) fn compact(entries: &Entries) -> Self {
        let Some((_, first)) = entries.iter().next() else { return Self::default() };
        let mut segment = Segment::new(first.len());
        entries.in_batches(|ages, vectors| segment.append(ages, vectors));
        Self { segments: vec![segment] }
    }

    /// Returns the number of rows, with the dead ones.
    pub(super) fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.ages.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }
}

impl<P: Part> Structure for Segments<P> {
    fn insert(&mut self, age: u64, entries: &Entries) {
        let vector = entries.vector(age).expect("what is inserted is among the entries");
        // A segment takes half of the entries, about a third of all rows: a sliding window has few segments and few
        // dead rows.
        let most = LEAST_ROWS.max(entries.len() / 2);
        if self.segments.last().is_none_or(|newest| newest.ages.len() >= most) {
            self.segments.push(Segment::new(vector.len()));
        }
        if let Some(newest) = self.segments.last_mut() {
            newest.append(&[age], vector);
        }
    }

    fn remove(&mut self, age: u64, entries: &Entries) {
        // A segment begins at the age of its first row, whether this row is dead or not.
        let place = self.segments.partition_point(|segment| segment.ages[0] <= age) - 1;
        self.segments[place].living -= 1;
        if self.segments[place].living == 0 {
            self.segments.remove(place);
        }
        // The copy costs one insertion for each entry that is left. It comes only after as many removals, so a removal
        // costs one insertion on average.
        if self.rows() > 2 * entries.len() {
            *self = Self::compact(entries);
        }
    }

    fn search(&self, nearest: &mut Nearest<'_>) {
        for segment in self.segments.iter().rev() {
            let search = |query: &[f32], wanted| segment.part.search(query, wanted);
            nearest.ask(P::EXACT, search, |row| segment.ages[row as usize]);
        }
    }
}
