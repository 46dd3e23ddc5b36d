//! Removal for FAISS indexes that have none, or move all their rows for it: new entries go to the newest segment, what
//! leaves stays in its segment as a dead row, a segment whose rows are all dead is dropped, and where more than
//! half of all rows are dead what is left is put into one new segment.
//!
//! Under a sliding window segments die of age and nothing is copied; under removals at random each entry is copied
//! at most once, on average, for each that leaves.

use std::fmt::Debug;

use faiss::index::SearchResult;

use super::entries::Entries;
use super::{Nearest, Structure};

/// Rows that the newest segment takes at least before another begins.
const LEAST_ROWS: usize = 1024;

/// A FAISS index that only grows, its rows numbered from 0.
pub trait Part: Debug + Send {
    /// Whether it finds what is nearest but for rounding.
    const EXACT: bool;
    /// Without rows.
    fn new(dimension: usize) -> Self;
    /// Adds rows, one after the other in `vectors`.
    fn append(&mut self, vectors: &[f32]);
    /// So many rows, most similar first; a missing one has no label.
    fn search(&self, query: &[f32], wanted: usize) -> SearchResult;
}

#[derive(Debug)]
struct Segment<P> {
    part: P,
    /// Of each row, rising.
    ages: Vec<u64>,
    /// Rows that are not dead.
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
    /// All entries in one segment.
    pub(super) fn compact(entries: &Entries) -> Self {
        let Some((_, first)) = entries.iter().next() else { return Self::default() };
        let mut segment = Segment::new(first.len());
        entries.in_batches(|ages, vectors| segment.append(ages, vectors));
        Self { segments: vec![segment] }
    }

    /// Rows, dead ones too.
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
        // A third of all rows, so that a sliding window has few segments and few dead rows.
        let most = LEAST_ROWS.max(entries.len() / 2);
        if self.segments.last().is_none_or(|newest| newest.ages.len() >= most) {
            self.segments.push(Segment::new(vector.len()));
        }
        if let Some(newest) = self.segments.last_mut() {
            newest.append(&[age], vector);
        }
    }

    fn remove(&mut self, age: u64, entries: &Entries) {
        // A segment begins where its first row does, dead or not.
        let place = self.segments.partition_point(|segment| segment.ages[0] <= age) - 1;
        self.segments[place].living -= 1;
        if self.segments[place].living == 0 {
            self.segments.remove(place);
        }
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
