//! Bounds on similarity that do not fit the embeddings: the bounds of one encoder say nothing about another encoder.
//! With bounds that are too low, any image is a hit; with bounds that are too high, no image is. The check uses random
//! pairs of a prompt and an image of another request.

use rand::RngExt;

use super::{Compared, Topic, Vector, Warning, percent};
use crate::draw::{Purpose, stream};

/// Number of random pairs to compare. With 2,000 pairs a share of 5 % has a standard error of half a point.
const PAIRS: usize = 2_000;

/// Smallest number of rows for which pairs are compared: fewer prompts have few images in common.
const LEAST_ROWS: usize = 50;

/// Share of random pairs above which bounds are taken not to fit. At 5 % a cache of 14 images "hits" every other
/// request by chance alone, and a cache of 100 images hits 99 in 100. Where bounds fit, a random pair reaches them
/// because both prompts ask for the same, so that a trace of few topics has more such pairs; a limit of 1 % would
/// report such a trace.
const MOST_BY_CHANCE: f64 = 0.05;

/// Share of the requests below which hits are taken to be absent.
const NEXT_TO_NOTHING: f64 = 0.005;

/// Number of images, and of requests, from which on some requests should hit if prompts have anything in common.
const ENOUGH: u64 = 100;

/// Counts of a run: its look-ups, hits and cached images.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetrievalTotals {
    /// Share of the requests that hit.
    pub hit_rate: Option<f64>,
    /// Number of requests that count.
    pub requests: u64,
    /// Number of images that were cached, those before time zero included.
    pub cached: u64,
}

/// Shares of pairs that reach the lowest bound.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reached {
    /// Share of the pairs of a prompt and an image of another request.
    random: f64,
    /// Share of the pairs of a prompt and its own image.
    own: f64,
}

/// Compares a sample of pairs; returns `None` if there are too few rows or pairs. Pairs of equal prompts are left out,
/// because such pairs are similar under any encoder.
fn reached(compared: &Compared) -> Option<Reached> {
    let rows = compared.queries.len().min(compared.keys.len());
    if rows < LEAST_ROWS {
        return None;
    }
    let mut draws = stream(compared.seed, Purpose::Pairs, 0);
    let (mut query, mut other, mut key, mut own) =
        (Vector::default(), Vector::default(), Vector::default(), Vector::default());
    let (mut random, mut owns) = ((0, 0), (0, 0));
    for _ in 0..PAIRS {
        let (asked, made) = (draws.random_range(0..rows), draws.random_range(0..rows));
        let known = compared.queries.read(asked, &mut query) && compared.queries.read(made, &mut other);
        if !known || query.values == other.values || !compared.keys.read(made, &mut key) {
            continue;
        }
        random.0 += usize::from(compared.reaches((asked, &query), (made, &key)));
        random.1 += 1;
        // The prompt's own image tells bounds that are too high from requests that have nothing in common.
        if compared.keys.read(asked, &mut own) {
            owns.0 += usize::from(compared.reaches((asked, &query), (asked, &own)));
            owns.1 += 1;
        }
    }
    let share = |(reached, of): (usize, usize)| reached as f64 / of as f64;
    // Where most pairs are left out, because prompts repeat or were not embedded, the rest says too little.
    (random.1 >= PAIRS / 4 && owns.1 > 0).then(|| Reached { random: share(random), own: share(owns) })
}

/// Returns a warning if the lowest bound does not fit the embeddings.
#[must_use]
pub fn bounds_warning(compared: &Compared, looked: RetrievalTotals) -> Option<Warning> {
    let Reached { random, own } = reached(compared)?;
    let (bound, origin, key) = (compared.lowest_bound, &compared.origin, compared.keys_are);
    let way_out = "`modm calibrate` finds bounds that do";
    let text = if random > MOST_BY_CHANCE {
        // The chance that at least one of 100 images reaches the bound, if they do so independently.
        let by_chance = 1.0 - libm::pow(1.0 - random, 100.0);
        format!(
            "{} of random pairs of a prompt and another request's {key} reach the lowest bound ({bound}), so that a cache of \
             100 images hits {} of the requests by chance: the bounds do not fit {origin}; {way_out}",
            percent(random),
            percent(by_chance)
        )
    } else {
        let none = looked.hit_rate.is_some_and(|share| share < NEXT_TO_NOTHING);
        if !none || looked.cached < ENOUGH || looked.requests < ENOUGH {
            return None;
        }
        let cause = if own < 0.5 {
            format!("of the prompts' own images {} do: the bounds do not fit {origin}; {way_out}", percent(own))
        } else {
            format!("the requests have too little in common, or the bounds do not fit {origin}; {way_out}")
        };
        format!(
            "{} of the requests reach the lowest bound ({bound}) although {} images were cached; {cause}",
            percent(looked.hit_rate.unwrap_or(0.0)),
            looked.cached
        )
    };
    Some(Warning { topic: Topic::Bounds, text })
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::super::Rows;
    use super::*;
    use crate::draw::normal;
    use crate::embedding::EmbeddingMatrix;

    /// Returns embeddings with one component that is the same for all, as the embeddings of one modality of an encoder
    /// have it.
    fn compared(common: f64, lowest_bound: f64) -> Compared {
        let mut draws = stream(5, Purpose::Test, 0);
        let (rows, dimension) = (300, 24);
        let value = |at: usize, draws: &mut _| if at == 0 { common } else { normal(draws) };
        let values: Vec<f32> = (0..rows * dimension).map(|at| value(at % dimension, &mut draws) as f32).collect();
        let rows = Rows::Matrix(EmbeddingMatrix::new(dimension, values).expect("rows"));
        let (queries, keys) = (rows.clone(), rows);
        Compared {
            queries,
            keys,
            lowest_bound,
            strict: false,
            keys_are: "image",
            origin: "the encoder e".into(),
            warmed_by: "trace.warm_requests",
            seed: 3,
        }
    }

    fn said(compared: &Compared, hit_rate: f64, cached: u64) -> Option<String> {
        let looked = RetrievalTotals { hit_rate: Some(hit_rate), requests: 1_000, cached };
        bounds_warning(compared, looked).map(|warning| warning.text)
    }

    #[test]
    fn a_bound_that_chance_reaches_is_told() {
        let low = said(&compared(3.0, 0.1), 0.97, 1_000).expect("a warning");
        assert!(low.contains("do not fit the encoder e") && low.contains("`modm calibrate`"), "{low}");
        assert!(low.contains("another request's image reach the lowest bound (0.1)"), "{low}");
        assert_eq!(said(&compared(0.0, 0.8), 0.4, 1_000), None);
    }

    #[test]
    fn a_bound_that_nothing_reaches_is_told_once_there_is_enough_to_find() {
        // Prompts and images have the same embeddings here, and no similarity is above 1.
        let high = said(&Compared { strict: true, ..compared(0.0, 1.0) }, 0.0, 500).expect("a warning");
        assert!(high.contains("0 % of the requests") && high.contains("although 500 images were cached"), "{high}");
        let rare = said(&compared(0.0, 0.9), 0.001, 500).expect("a warning");
        assert!(rare.contains("too little in common, or the bounds do not fit"), "{rare}");
        assert_eq!(said(&compared(0.0, 0.9), 0.001, 99), None, "too few images");
        assert_eq!(said(&compared(0.0, 0.9), 0.02, 500), None, "some hit");
    }

    #[test]
    fn equal_prompts_are_no_chance_and_few_rows_say_nothing() {
        // Two prompts in turns: half of the pairs are of equal prompts, the others of two prompts that have nothing in
        // common.
        let values: Vec<f32> = (0..200).flat_map(|row| if row % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        let rows = |values: &[f32]| Rows::Matrix(EmbeddingMatrix::new(2, values.to_vec()).expect("rows"));
        let with = |rows: Rows| Compared { queries: rows.clone(), keys: rows, ..compared(0.0, 0.5) };
        assert_eq!(reached(&with(rows(&values))), Some(Reached { random: 0.0, own: 1.0 }));
        assert_eq!(reached(&with(rows(&values[..80]))), None);
    }
}
