//! Next use of each image of a history, for eviction that knows the future. A next use is searched on demand: the time
//! depends on the distance to the next use, and only the latest answer for each image is kept.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::super::pages;
use super::{Ahead, most_under};
use crate::cache::eviction::Foresight;
use crate::cache::index::{QueryCodes, Vectors};
use crate::embedding::EmbeddingMatrix;
use crate::image::ImageId;

/// Requests of a trace, searched for the next one that an image could serve.
#[derive(Debug)]
pub struct Uses {
    ahead: Arc<Ahead>,
    /// Lowest similarity at which an image can serve a request.
    lowest: f64,
    /// Distinct prompts.
    prompts: Vectors,
    /// Number of distinct prompts.
    distinct: usize,
    /// Distinct prompt of each request.
    prompt_of: Vec<u32>,
    /// First place of the history with the same vector, by place. Equal images have equal uses.
    first_equal: Vec<u32>,
    /// One bit for each request that an image of a block may serve, by block. Made on first use.
    candidates: Vec<OnceLock<Box<[u64]>>>,
    /// Latest answer, by the first place with the same vector.
    known: Mutex<BTreeMap<u32, Answer>>,
}

/// Next use of an image.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// Request after which the next use was searched.
    after: Option<u32>,
    next: Option<u32>,
}

impl Uses {
    /// Prepares the search for images of `ahead` that are at least as similar as `lowest` to one of `prompts`.
    #[must_use]
    pub fn new(ahead: Arc<Ahead>, prompts: &EmbeddingMatrix, lowest: f64) -> Self {
        let mut vectors = Vectors::new(prompts.dimension(), pages::allocate);
        let mut count = 0;
        let keep = |_: u32, vector: &[f32]| {
            vectors.push(vector);
            count += 1;
            count - 1
        };
        let prompt_of = numbers(prompts.rows(), |row, vector| prompts.read_unit(row, vector), keep);
        let history = &ahead.history;
        let first_equal = numbers(history.len(), |place, vector| history.read(place, vector), |place, _| place);
        let blocks = history.len().div_ceil(ahead.block);
        let candidates = (0..blocks).map(|_| OnceLock::new()).collect();
        Self {
            lowest,
            prompts: vectors,
            distinct: count as usize,
            prompt_of,
            first_equal,
            candidates,
            known: Mutex::default(),
            ahead,
        }
    }

    /// Returns the requests that an image of a block may serve: those with a bound that reaches the lowest similarity,
    /// and those without a bound.
    fn candidates(&self, block: usize) -> &[u64] {
        self.candidates[block].get_or_init(|| {
            let Ahead { begins, bounds, .. } = &*self.ahead;
            let mut bits = vec![0_u64; self.prompt_of.len().div_ceil(64)].into_boxed_slice();
            for row in 0..self.prompt_of.len() {
                // A request has bounds only for whole blocks before its own place. Images of other blocks come too late
                // for it, or stand in the block that its own place is in.
                let bound = (block < begins[row + 1] - begins[row]).then(|| bounds.at(begins[row] + block));
                if bound.is_none_or(|bound| most_under(bound) >= self.lowest) {
                    bits[row / 64] |= 1 << (row % 64);
                }
            }
            bits
        })
    }

    /// Searches the next use of the image at a place, after a request.
    fn search(&self, place: usize, after: Option<u32>) -> Option<u32> {
        let mut vector = Vec::new();
        self.ahead.history.read(place, &mut vector);
        let coded = QueryCodes::new(&vector);
        let candidates = self.candidates(place / self.ahead.block);
        let start = after.map_or(0, |after| after as usize + 1);
        // Many requests may have one prompt, which is compared once.
        let mut refused = vec![0_u64; self.distinct.div_ceil(64)];
        let mut mask = u64::MAX << (start % 64);
        for (at, bits) in candidates.iter().enumerate().skip(start / 64) {
            let mut bits = bits & std::mem::replace(&mut mask, u64::MAX);
            while bits != 0 {
                let row = at * 64 + bits.trailing_zeros() as usize;
                let prompt = self.prompt_of[row] as usize;
                let (word, bit) = (&mut refused[prompt / 64], 1 << (prompt % 64));
                if *word & bit == 0 {
                    if self.prompts.reaches(prompt, &vector, &coded, self.lowest) {
                        return Some(row as u32);
                    }
                    *word |= bit;
                }
                bits &= bits - 1;
            }
        }
        None
    }
}

impl Foresight for Uses {
    fn next_use(&self, image: ImageId, after: Option<u32>) -> Option<u32> {
        let place = self.first_equal[self.ahead.history.place(image)?];
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // The latest answer still holds if the request lies between the one it was searched after and the use that it
        // names.
        if let Some(known) = known().get(&place)
            // `None`, the time before the first request, is less than every request.
            && known.after <= after
            && known.next.is_none_or(|next| after.is_none_or(|after| after < next))
        {
            return known.next;
        }
        let next = self.search(place as usize, after);
        known().insert(place, Answer { after, next });
        next
    }
}

/// Returns a number for each row, equal for equal vectors. `new` receives the first row of each distinct vector, in
/// order, and returns its number.
fn numbers(rows: usize, read: impl Fn(usize, &mut Vec<f32>), mut new: impl FnMut(u32, &[f32]) -> u32) -> Vec<u32> {
    // Rows are found by hash first: the vectors of a long trace are too large to keep a second time.
    let mut firsts: BTreeMap<u64, Vec<(u32, u32)>> = BTreeMap::new();
    let (mut vector, mut other) = (Vec::new(), Vec::new());
    let mut numbered = Vec::with_capacity(rows);
    for row in 0..rows {
        read(row, &mut vector);
        let equal_hash = firsts.entry(hash(&vector)).or_default();
        let equal = equal_hash.iter().find(|(first, _)| {
            read(*first as usize, &mut other);
            other == vector
        });
        let number = equal.map(|(_, number)| *number);
        numbered.push(number.unwrap_or_else(|| {
            let number = new(row as u32, &vector);
            equal_hash.push((row as u32, number));
            number
        }));
    }
    numbered
}

/// Returns a hash of the bits of a vector. No result depends on the hash, since vectors with one hash are compared.
fn hash(vector: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in vector {
        hasher.write_u32(value.to_bits());
    }
    hasher.finish()
}
