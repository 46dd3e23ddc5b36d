//! Unit vectors in rows, in eight bits a component and in f32, and the exact search for the nearest of some rows:
//! bounds from eight bits, then f32 for the rows that the bounds allow to win, then f64. The indexes decide which rows
//! are searched.

use alloc::vec::Vec;

use super::codes::{self, QueryCodes, Scale};
use super::room::{Allocate, Room};
use crate::embedding::{rough_product, similarity};

/// Size of codes, in bytes, up to which they stay in a core's own cache from one search to the next. Larger codes are
/// prefetched.
const CACHED: usize = 1 << 20;

/// Unit vectors of one dimension, a row each.
#[derive(Debug)]
pub struct Vectors {
    dimension: usize,
    /// Codes of the vectors, row-major.
    codes: Room,
    /// Components of the vectors, row-major.
    values: Vec<f32>,
    scales: Vec<Scale>,
}

/// Nearest row so far.
#[derive(Clone, Copy, Debug)]
pub struct Nearest {
    /// Similarity of the row.
    pub similarity: f64,
    /// Order of insertion of the row: lower is older.
    pub age: u64,
    /// Number of the row.
    pub row: usize,
}

/// Search for the nearest row: the query, the result so far, and scratch memory.
#[derive(Debug)]
pub struct Search<'a> {
    wanted: &'a [f32],
    coded: QueryCodes,
    margin: f64,
    dots: Vec<i32>,
    most: Vec<f64>,
    /// Rows that may be the nearest, each with the upper bound of its similarity.
    candidates: Vec<(f64, usize)>,
    /// Lower bound of the similarity of the nearest row, from the rows seen so far.
    least: f64,
    /// Nearest row so far; `None` while no row has a similarity above 0.
    pub best: Option<Nearest>,
}

impl<'a> Search<'a> {
    /// Returns a search for a unit vector that has seen no rows.
    #[must_use]
    pub fn new(wanted: &'a [f32]) -> Self {
        Self {
            wanted,
            coded: QueryCodes::new(wanted),
            margin: margin(wanted.len()),
            dots: Vec::new(),
            most: Vec::new(),
            candidates: Vec::new(),
            // Similarities are clamped at 0, so rows below 0 are all equal: such rows are skipped and never found.
            least: 0.0,
            best: None,
        }
    }

    /// Returns the lower bound of the similarity of the nearest row.
    pub const fn least(&self) -> f64 {
        self.least
    }
}

impl Vectors {
    /// Returns an empty set of vectors of this dimension. The codes are in memory of `allocate`.
    #[must_use]
    pub fn new(dimension: usize, allocate: Allocate) -> Self {
        Self { dimension, codes: Room::new(allocate), values: Vec::new(), scales: Vec::new() }
    }

    /// Returns the number of components of a row.
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Appends a unit vector.
    pub fn push(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimension, "one dimension for all embeddings was checked on load");
        self.values.extend_from_slice(vector);
        let (scale, codes) = codes::quantised(vector);
        self.codes.extend(codes.into_iter().map(i8::cast_unsigned));
        self.scales.push(scale);
    }

    /// Removes a row. The last row takes its place.
    pub fn swap_remove(&mut self, row: usize) {
        self.scales.swap_remove(row);
        let last = self.scales.len();
        if row != last {
            self.values.copy_within(last * self.dimension.., row * self.dimension);
            self.codes.as_mut_slice().copy_within(last * self.dimension.., row * self.dimension);
        }
        self.values.truncate(last * self.dimension);
        self.codes.truncate(last * self.dimension);
    }

    fn codes_of(&self, from: usize, to: usize) -> &[u8] {
        &self.codes.as_slice()[from * self.dimension..to * self.dimension]
    }

    fn vector(&self, row: usize) -> &[f32] {
        &self.values[row * self.dimension..(row + 1) * self.dimension]
    }

    /// Returns whether the similarity of a row is at least `lowest`.
    pub fn reaches(&self, row: usize, wanted: &[f32], coded: &QueryCodes, lowest: f64) -> bool {
        let mut dot = [0];
        coded.dots(self.codes_of(row, row + 1), false, &mut dot);
        let (low, high) = coded.bounds(dot[0], self.scales[row]);
        // Similarities are clamped at 0, so that every row reaches a bound of 0. The exact product is the last resort.
        low >= lowest || lowest <= 0.0 || high >= lowest && similarity(wanted, self.vector(row)) >= lowest
    }

    /// Notes the rows of a range that may be the nearest. With `all`, most rows are of interest, and all are compared
    /// in one go.
    pub fn scan(
        &self,
        rows: core::ops::Range<usize>,
        all: bool,
        of_interest: impl Fn(usize) -> bool,
        search: &mut Search<'_>,
    ) {
        let Search { coded, dots, most, candidates, least, .. } = search;
        dots.resize(rows.len(), 0);
        most.resize(rows.len(), 0.0);
        if all {
            // If the codes do not fit the core's own cache, the following rows are prefetched while these rows are
            // compared.
            let far = self.codes.as_slice().len() > CACHED;
            coded.dots(self.codes_of(rows.start, if far { self.scales.len() } else { rows.end }), far, dots);
            coded.at_most(dots, &self.scales[rows.clone()], most);
        }
        for (at, row) in rows.enumerate() {
            // Equal bounds go on: a row as similar as the best so far may be older.
            if all && most[at] < *least || !of_interest(row) {
                continue;
            }
            if !all {
                coded.dots(self.codes_of(row, row + 1), false, &mut dots[at..=at]);
            }
            let (low, high) = coded.bounds(dots[at], self.scales[row]);
            if high >= *least {
                *least = least.max(low);
                candidates.push((high, row));
            }
        }
    }

    /// Compares the candidates exactly, the most promising first, and keeps the nearest.
    pub fn settle(&self, age: impl Fn(usize) -> u64, search: &mut Search<'_>) {
        let Search { wanted, margin, candidates, least, best, .. } = search;
        // The lower bound rose during the scan: early candidates may have no chance any more, and need not be sorted.
        candidates.retain(|(high, _)| high >= least);
        candidates.sort_unstable_by(|(x, a), (y, b)| y.total_cmp(x).then(a.cmp(b)));
        for (high, row) in candidates.drain(..) {
            // Candidates are in falling order of their bounds, so that no later one can win.
            if high < *least {
                break;
            }
            let vector = self.vector(row);
            if f64::from(rough_product(wanted, vector)) + *margin < *least {
                continue;
            }
            let (similarity, age) = (similarity(wanted, vector), age(row));
            *least = least.max(similarity);
            // Of equals the older wins, in whatever order the candidates come.
            let nearer = |best: Nearest| similarity.total_cmp(&best.similarity).then(best.age.cmp(&age)).is_gt();
            if best.is_none_or(nearer) {
                *best = Some(Nearest { similarity, age, row });
            }
        }
        // A similarity that was clamped at 0 is no result.
        *best = best.filter(|best| best.similarity > 0.0);
    }
}

/// Returns the largest distance of an f32 score from the f64 similarity: the error bounds of both sums, n u / (1 - n u)
/// for any order of summation and norms of at most 1 + 1e-6 (Higham, Accuracy and Stability of Numerical Algorithms,
/// section 3.1).
pub fn margin(dimension: usize) -> f64 {
    let gamma = |unit: f64| {
        let error = (dimension + 2) as f64 * unit;
        error / (1.0 - error)
    };
    // The last term covers underflow.
    (gamma(f64::from(f32::EPSILON) / 2.0) + gamma(f64::EPSILON / 2.0)) * (1.0 + 4e-6) + 1e-30
}
