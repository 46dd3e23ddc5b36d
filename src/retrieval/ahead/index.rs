//! Index of the images of a history that a run has cached. It finds entries with the bounds that were computed ahead. A
//! search reads two bytes for each block of the history, and then the few blocks that can have the nearest entry.

use std::sync::Arc;

use super::{Ahead, most_under};
use crate::cache::index::{Match, Query, RetrievalIndex, Search};
use crate::embedding::Embedding;
use crate::image::ImageId;

/// Exact index for images of a history that was searched ahead.
#[derive(Debug)]
pub struct AheadIndex {
    ahead: Arc<Ahead>,
    /// Order of insertion by place in the history, from 1; 0 if the place is not cached.
    ages: Vec<u64>,
    /// Number of cached places, by block.
    held: Vec<u32>,
    inserted: u64,
    len: usize,
}

impl AheadIndex {
    pub(super) fn new(ahead: Arc<Ahead>) -> Self {
        let (places, blocks) = (ahead.history.len(), ahead.history.len().div_ceil(ahead.block));
        Self { ahead, ages: vec![0; places], held: vec![0; blocks], inserted: 0, len: 0 }
    }

    /// Compares exactly the entries of a block that can be as near as the nearest so far.
    fn look_into(&self, block: usize, query: &Query<'_>, search: &mut Search<'_>) {
        let places = block * self.ahead.block..((block + 1) * self.ahead.block).min(self.ages.len());
        // Neighbouring codes are compared faster together than one by one, so from half of the places on all are
        // compared.
        let most = self.held[block] as usize * 2 >= places.len();
        self.ahead.vectors.scan(places, most, |place| self.is_wanted(place, query), search);
        self.ahead.vectors.settle(|place| self.ages[place], search);
    }

    /// Returns whether a place has an entry that a query does not rule out.
    fn is_wanted(&self, place: usize, query: &Query<'_>) -> bool {
        self.ages[place] > 0 && (query.without.is_empty() || !query.without.contains(&self.ahead.history.image(place)))
    }

    /// Returns the oldest entry, which is the nearest if all similarities are 0.
    fn oldest(&self, query: &Query<'_>) -> Option<Match> {
        let cached = self.ages.iter().enumerate().filter(|(place, _)| self.is_wanted(*place, query));
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
        // The check for near duplicates asks for no request: such a query has no bounds, and every block is looked
        // into.
        let row = query.request.map(crate::request::RequestId::row).filter(|row| *row < self.ahead.requests());
        let bounds = row.map(|row| self.ahead.bounds_of(row)).unwrap_or_default();
        let mut search = Search::new(query.embedding.as_slice());
        let cached = || bounds.iter().zip(&self.held).enumerate().filter(|(_, (_, held))| **held > 0);
        // The most promising block comes first, so that few others remain. Blocks without a bound follow.
        let promising = cached().max_by_key(|(_, (bound, _))| **bound).map(|(block, _)| block);
        let unbounded = (bounds.len()..self.held.len()).filter(|block| self.held[*block] > 0);
        for block in promising.into_iter().chain(unbounded) {
            self.look_into(block, query, &mut search);
        }
        let least = search.least();
        // A block at bound 0 has nothing above 0, and what is at 0 is found as the oldest entry below. Equality counts
        // as a chance: of equal similarities the older entry is wanted.
        let has_a_chance = |bound: u16| bound > 0 && most_under(bound) >= least;
        let others = cached().filter(|(block, (bound, _))| has_a_chance(**bound) && Some(*block) != promising);
        let mut others: Vec<(u16, usize)> = others.map(|(block, (bound, _))| (*bound, block)).collect();
        others.sort_unstable_by(|(x, a), (y, b)| y.cmp(x).then(a.cmp(b)));
        for (bound, block) in others {
            // The blocks are in falling order of their bounds, so no block that follows has a chance either.
            if most_under(bound) < search.least() {
                break;
            }
            self.look_into(block, query, &mut search);
        }
        match search.best {
            Some(best) => Some(Match { image: self.ahead.history.image(best.row), similarity: best.similarity }),
            None => self.oldest(query),
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}
