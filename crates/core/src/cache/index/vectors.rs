//! Unit vectors in rows, in eight bits a component and as they are, and how the nearest of some rows is found among
//! them exactly: bounds from eight bits, then f32 where the bounds allow it to win, then f64. Which rows those are is
//! the business of the indexes.

use alloc::vec::Vec;

use super::codes::{self, QueryCodes, Scale};
use super::room::{Allocate, Room};
use crate::embedding::{rough_product, similarity};

/// Codes of up to so many bytes stay in a core's own cache from one search to the next; more than that is asked for ahead.
const CACHED: usize = 1 << 20;

/// Rows of one dimension.
#[derive(Debug)]
pub struct Vectors {
    dimension: usize,
    /// Row-major.
    codes: Room,
    /// The vectors themselves, likewise.
    values: Vec<f32>,
    scales: Vec<Scale>,
}

/// The nearest row so far.
#[derive(Clone, Copy, Debug)]
pub struct Nearest {
    /// Its similarity.
    pub similarity: f64,
    /// Lower is older.
    pub age: u64,
    /// Its row.
    pub row: usize,
}

/// What is looked for, what has been found, and scratch.
#[derive(Debug)]
pub struct Search<'a> {
    wanted: &'a [f32],
    coded: QueryCodes,
    margin: f64,
    dots: Vec<i32>,
    most: Vec<f64>,
    /// Rows that may be nearest, and the most that their similarity can be.
    candidates: Vec<(f64, usize)>,
    /// What the similarity of the nearest is at least, by the bounds seen so far.
    least: f64,
    /// Nearest row so far; none where all are at similarity 0.
    pub best: Option<Nearest>,
}

impl<'a> Search<'a> {
    /// For a unit vector.
    #[must_use]
    pub fn new(wanted: &'a [f32]) -> Self {
        Self {
            wanted,
            coded: QueryCodes::new(wanted),
            margin: margin(wanted.len()),
            dots: Vec::new(),
            most: Vec::new(),
            candidates: Vec::new(),
            // Below 0 everything is equal: what is there is not looked at, and nothing is found.
            least: 0.0,
            best: None,
        }
    }

    /// What the similarity of the nearest is at least.
    pub const fn least(&self) -> f64 {
        self.least
    }
}

impl Vectors {
    /// For vectors of this dimension; the codes are in memory of `allocate`.
    #[must_use]
    pub fn new(dimension: usize, allocate: Allocate) -> Self {
        Self { dimension, codes: Room::new(allocate), values: Vec::new(), scales: Vec::new() }
    }

    /// Components of a row.
    pub const fn dimension(&self) -> usize {
        self.dimension
    }

    /// Appends a unit vector.
    pub fn push(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimension, "one dimension for all embeddings was checked on load");
        self.values.extend_from_slice(vector);
        let (scale, codes) = codes::of(vector);
        self.codes.extend(codes.into_iter().map(i8::cast_unsigned));
        self.scales.push(scale);
    }

    /// Removes a row; the last one takes its place.
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

    /// Whether a row is at least this similar.
    pub fn reaches(&self, row: usize, wanted: &[f32], coded: &QueryCodes, lowest: f64) -> bool {
        let mut dot = [0];
        coded.dots(self.codes_of(row, row + 1), false, &mut dot);
        let (low, high) = coded.bounds(dot[0], self.scales[row]);
        low >= lowest || lowest <= 0.0 || high >= lowest && similarity(wanted, self.vector(row)) >= lowest
    }

    /// Notes which of these rows may be nearest. `all` says that most are of interest; then they are compared in one go.
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
            // Where the rest is not in the core's own cache anyway, it is asked for while this is compared.
            let far = self.codes.as_slice().len() > CACHED;
            coded.dots(self.codes_of(rows.start, if far { self.scales.len() } else { rows.end }), far, dots);
            coded.at_most(dots, &self.scales[rows.clone()], most);
        }
        for (at, row) in rows.enumerate() {
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

    /// Compares what may be nearest exactly, the most promising first.
    pub fn settle(&self, age: impl Fn(usize) -> u64, search: &mut Search<'_>) {
        let Search { wanted, margin, candidates, least, best, .. } = search;
        candidates.retain(|(high, _)| high >= least);
        candidates.sort_unstable_by(|(x, a), (y, b)| y.total_cmp(x).then(a.cmp(b)));
        for (high, row) in candidates.drain(..) {
            if high < *least {
                break;
            }
            let vector = self.vector(row);
            if f64::from(rough_product(wanted, vector)) + *margin < *least {
                continue;
            }
            let (similarity, age) = (similarity(wanted, vector), age(row));
            *least = least.max(similarity);
            let nearer = |best: Nearest| similarity.total_cmp(&best.similarity).then(best.age.cmp(&age)).is_gt();
            if best.is_none_or(nearer) {
                *best = Some(Nearest { similarity, age, row });
            }
        }
        // Nothing nearer than what was clamped at 0 is nothing found.
        *best = best.filter(|best| best.similarity > 0.0);
    }
}

/// How far an f32 score may be from the f64 similarity: the error bounds of both sums, n u / (1 - n u) for any order
/// of summation and norms of at most 1 + 1e-6 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
pub fn margin(dimension: usize) -> f64 {
    let gamma = |unit: f64| {
        let error = (dimension + 2) as f64 * unit;
        error / (1.0 - error)
    };
    // The last term covers underflow.
    (gamma(f64::from(f32::EPSILON) / 2.0) + gamma(f64::EPSILON / 2.0)) * (1.0 + 4e-6) + 1e-30
}
