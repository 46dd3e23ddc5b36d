//! Which of a history a run has cached, and looking up among it with the bounds that were found ahead.
//! Costs two bytes a block of the history, then what the few blocks with a chance hold.

use std::sync::Arc;

use super::super::codes::QueryCodes;
use super::super::{Match, Query, RetrievalIndex};
use super::{Ahead, most_under};
use crate::embedding::{Embedding, similarity};
use crate::image::ImageId;

/// Exact, for images of the history that was searched.
#[derive(Debug)]
pub struct AheadIndex {
    ahead: Arc<Ahead>,
    /// By place in the history: order of insertion, from 1; 0 where it is not cached.
    ages: Vec<u32>,
    /// Cached places of each block.
    held: Vec<u32>,
    inserted: u32,
    len: usize,
}

/// The nearest so far.
#[derive(Clone, Copy)]
struct Best {
    similarity: f64,
    age: u32,
    place: usize,
}

/// What is looked for, and scratch.
struct Search<'a> {
    wanted: &'a [f32],
    coded: QueryCodes,
    best: Option<Best>,
    dots: Vec<i32>,
    candidates: Vec<(f64, usize)>,
    vector: Vec<f32>,
}

impl Search<'_> {
    /// What beats nothing: at a similarity of 0 everything is equal.
    fn least(&self) -> f64 {
        self.best.map_or(0.0, |best| best.similarity)
    }
}

impl AheadIndex {
    pub(super) fn new(ahead: Arc<Ahead>) -> Self {
        let (places, blocks) = (ahead.history.len(), ahead.history.len().div_ceil(ahead.block));
        Self { ahead, ages: vec![0; places], held: vec![0; blocks], inserted: 0, len: 0 }
    }

    /// Looks into a block: all that can be as near as the nearest so far is compared exactly.
    fn look_into(&self, block: usize, search: &mut Search<'_>) {
        let Ahead { history, codes, scales, .. } = &*self.ahead;
        let dimension = history.dimension();
        let places = block * self.ahead.block..((block + 1) * self.ahead.block).min(history.len());
        search.candidates.clear();
        search.dots.clear();
        search.dots.resize(places.len(), 0);
        // One pass over all is quicker than single ones where most are cached.
        let dense = self.held[block] as usize * 2 >= places.len();
        if dense {
            search.coded.dots(&codes[places.start * dimension..places.end * dimension], &mut search.dots);
        }
        let mut least = search.least();
        for (at, place) in places.enumerate().filter(|(_, place)| self.ages[*place] > 0) {
            if !dense {
                let row = &codes[place * dimension..(place + 1) * dimension];
                search.coded.dots(row, &mut search.dots[at..=at]);
            }
            let (low, high) = search.coded.bounds(search.dots[at], scales[place]);
            if high >= least {
                least = least.max(low);
                search.candidates.push((high, place));
            }
        }
        search.candidates.sort_unstable_by(|(x, a), (y, b)| y.total_cmp(x).then(a.cmp(b)));
        for at in 0..search.candidates.len() {
            let (high, place) = search.candidates[at];
            if high < least.max(search.least()) {
                break;
            }
            history.read(place, &mut search.vector);
            let (similarity, age) = (similarity(search.wanted, &search.vector), self.ages[place]);
            let nearer = |best: Best| similarity.total_cmp(&best.similarity).then(best.age.cmp(&age)).is_gt();
            if search.best.is_none_or(nearer) {
                search.best = Some(Best { similarity, age, place });
            }
        }
    }

    /// The oldest entry: what is nearest when everything is at similarity 0.
    fn oldest(&self) -> Option<Match> {
        let cached = self.ages.iter().enumerate().filter(|(_, age)| **age > 0);
        let (place, _) = cached.min_by_key(|(_, age)| **age)?;
        Some(Match { image: self.ahead.history.image(place), similarity: 0.0 })
    }
}

impl RetrievalIndex for AheadIndex {
    fn insert(&mut self, image: ImageId, _: &Embedding) {
        let place = self.ahead.history.place(image).expect("a run caches what was searched ahead");
        assert!(self.ages[place] == 0, "image {image} is in the index already");
        self.inserted += 1;
        self.ages[place] = self.inserted;
        self.held[place / self.ahead.block] += 1;
        self.len += 1;
    }

    fn remove(&mut self, image: ImageId) {
        let place = self.ahead.history.place(image).filter(|place| self.ages[*place] > 0);
        if let Some(place) = place {
            self.ages[place] = 0;
            self.held[place / self.ahead.block] -= 1;
            self.len -= 1;
        }
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        let row = query.request.map(crate::request::RequestId::row).filter(|row| *row < self.ahead.requests());
        let bounds = row.map(|row| self.ahead.bounds_of(row)).unwrap_or_default();
        let wanted = query.embedding.as_slice();
        let mut search = Search {
            wanted,
            coded: QueryCodes::new(wanted),
            best: None,
            dots: Vec::with_capacity(self.ahead.block),
            candidates: Vec::new(),
            vector: Vec::with_capacity(wanted.len()),
        };
        let cached = || bounds.iter().zip(&self.held).enumerate().filter(|(_, (_, held))| **held > 0);
        // The most promising first, so that few others are left to look into; then what has no bound.
        let promising = cached().max_by_key(|(_, (bound, _))| **bound).map(|(block, _)| block);
        let unbounded = (bounds.len()..self.held.len()).filter(|block| self.held[*block] > 0);
        for block in promising.into_iter().chain(unbounded) {
            self.look_into(block, &mut search);
        }
        let least = search.least();
        let has_a_chance = |bound: u16| bound > 0 && most_under(bound) >= least;
        let others = cached().filter(|(block, (bound, _))| has_a_chance(**bound) && Some(*block) != promising);
        let mut others: Vec<(u16, usize)> = others.map(|(block, (bound, _))| (*bound, block)).collect();
        others.sort_unstable_by(|(x, a), (y, b)| y.cmp(x).then(a.cmp(b)));
        for (bound, block) in others {
            if most_under(bound) < search.least() {
                break;
            }
            self.look_into(block, &mut search);
        }
        match search.best.filter(|best| best.similarity > 0.0) {
            Some(best) => Some(Match { image: self.ahead.history.image(best.place), similarity: best.similarity }),
            None => self.oldest(),
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}
