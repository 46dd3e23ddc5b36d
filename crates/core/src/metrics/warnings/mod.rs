//! Warnings for the reader of a run, as sentences, and the data that they are computed from. They are about rows that
//! the profile lacks (`super::quality`), bounds that do not fit the embeddings (`bounds`), and hits that were missed
//! because images came too late (`hidden`).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::embedding::{Embedding, EmbeddingMatrix, rough_product, similarity};

mod bounds;
mod hidden;

pub use bounds::{RetrievalTotals, bounds_warning};
pub use hidden::{KeptImages, Timing, hidden_hits};

/// Subject of a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Scores that the profile lacks.
    Quality,
    /// Bounds that do not fit the embeddings.
    Bounds,
    /// Images that came too late to be found.
    HiddenHits,
    /// Sizes whose service times are assumed.
    Sizes,
    /// Models whose service times are assumed.
    Times,
}

/// Sentence that a reader of a run's results must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Subject of the warning.
    pub topic: Topic,
    /// Sentence, without a full stop.
    pub text: String,
}

impl Warning {
    /// Returns the sentences of the warnings.
    #[must_use]
    pub fn texts(warnings: &[Self]) -> Vec<String> {
        warnings.iter().map(|warning| warning.text.clone()).collect()
    }
}

/// Merges the warnings of several runs, each with the name of its variant, into as few sentences as possible. For each
/// variant and subject, the first run with a warning stands for the other runs of the variant. Variants with equal
/// sentences share one.
#[must_use]
pub fn merged(runs: &[(String, Vec<Warning>)]) -> Vec<String> {
    let mut said: Vec<(&str, Topic)> = Vec::new();
    let mut sentences: Vec<(&str, Vec<&str>)> = Vec::new();
    for (variant, warnings) in runs {
        // Copied, since one run may have several warnings on a subject, and all of them count.
        let known = said.clone();
        for warning in warnings.iter().filter(|warning| !known.contains(&(variant.as_str(), warning.topic))) {
            said.push((variant, warning.topic));
            match sentences.iter_mut().find(|(text, _)| *text == warning.text) {
                Some((_, variants)) if !variants.contains(&variant.as_str()) => variants.push(variant),
                Some(_) => {}
                None => sentences.push((&warning.text, vec![variant])),
            }
        }
    }
    sentences.into_iter().map(|(text, variants)| format!("{}: {text}", variants.join(", "))).collect()
}

/// Merges the warnings of many runs, each with its name, into a sentence for each subject. The sentence is that of the
/// first run, with the number of other runs that have one. Sentences on scores are all kept, each once, because they
/// name models and no runs.
#[must_use]
pub fn of_many(runs: &[(String, Vec<Warning>)]) -> Vec<String> {
    let all = || runs.iter().flat_map(|(name, warnings)| warnings.iter().map(move |warning| (name, warning)));
    let mut sentences: Vec<String> = Vec::new();
    for (_, warning) in all().filter(|(_, warning)| warning.topic == Topic::Quality) {
        if !sentences.contains(&warning.text) {
            sentences.push(warning.text.clone());
        }
    }
    for topic in [Topic::Bounds, Topic::HiddenHits, Topic::Sizes, Topic::Times] {
        let mut about = all().filter(|(_, warning)| warning.topic == topic);
        let Some((name, first)) = about.next() else { continue };
        let others = match about.count() {
            0 => String::new(),
            others => format!(" (and {others} of the other {} runs likewise)", runs.len() - 1),
        };
        sentences.push(format!("{name}{others}: {}", first.text));
    }
    sentences
}

/// Embeddings, by row of the trace.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Embeddings of a trace.
    Matrix(EmbeddingMatrix),
    /// Unit vectors of a live run; rows that were not embedded are absent.
    Recorded(Arc<[Option<Embedding>]>),
}

/// Row of [`Rows`].
#[derive(Clone, Debug, Default)]
struct Vector {
    values: Vec<f32>,
    norm: f64,
}

impl Rows {
    /// Returns the number of rows.
    fn len(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.rows(),
            Self::Recorded(rows) => rows.len(),
        }
    }

    /// Copies a row into `to`; returns whether the row is there.
    fn read(&self, row: usize, to: &mut Vector) -> bool {
        match self {
            Self::Matrix(matrix) if row < matrix.rows() => {
                to.values.clear();
                to.values.extend_from_slice(matrix.row(row));
                to.norm = matrix.norm(row);
                true
            }
            Self::Recorded(rows) => rows.get(row).and_then(Option::as_ref).is_some_and(|embedding| {
                to.values.clear();
                to.values.extend_from_slice(embedding.as_slice());
                to.norm = 1.0;
                true
            }),
            Self::Matrix(_) => false,
        }
    }

    /// Returns a row as the look-up compares it.
    fn unit(&self, row: usize) -> Option<Embedding> {
        match self {
            Self::Matrix(matrix) => (row < matrix.rows()).then(|| matrix.embedding(row)),
            Self::Recorded(rows) => rows.get(row).cloned().flatten(),
        }
    }
}

/// Embeddings that a system compares, and the bound from which on a request is a hit.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Embedding that each request looks up.
    pub queries: Rows,
    /// Embedding by which the image of each request is found.
    pub keys: Rows,
    /// Lowest bound in force.
    pub lowest_bound: f64,
    /// True if a similarity equal to the bound does not reach it.
    pub strict: bool,
    /// Word for the keys: "image" or "prompt".
    pub keys_are: &'static str,
    /// Source of the embeddings, in words.
    pub origin: String,
    /// Key of the scenario that gives a run images from before its first request.
    pub warmed_by: &'static str,
    /// Seed of the samples.
    pub seed: u64,
}

/// Distance from the bound below which a similarity is computed again as the look-up does. The error of single
/// precision is smaller.
const SINGLE_PRECISION: f64 = 1e-4;

impl Compared {
    /// Returns whether the similarity of a query and a key reaches the lowest bound. `query` and `key` are the vectors
    /// that were read from these rows.
    fn reaches(&self, (query_row, query): (usize, &Vector), (key_row, key): (usize, &Vector)) -> bool {
        if query.values.len() != key.values.len() {
            return false;
        }
        let cosine = f64::from(rough_product(&query.values, &key.values)) / (query.norm * key.norm);
        let near = (cosine - self.lowest_bound).abs() < SINGLE_PRECISION;
        let exact = || {
            let (query, key) = (self.queries.unit(query_row)?, self.keys.unit(key_row)?);
            Some(similarity(query.as_slice(), key.as_slice()))
        };
        // Far from the bound, single precision decides as the look-up would, without two vectors to be made.
        let cosine = if near { exact().unwrap_or(cosine) } else { cosine.max(0.0) };
        if self.strict { cosine > self.lowest_bound } else { cosine >= self.lowest_bound }
    }
}

/// Returns a share in per cent, with two significant digits: "31 %", "0.024 %".
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let decimals =
        if percent >= 10.0 || percent <= 0.0 { 0 } else { (1.0 - libm::floor(libm::log10(percent))) as usize };
    format!("{percent:.decimals$} %")
}

#[cfg(test)]
mod tests {
    use alloc::borrow::ToOwned;

    use super::*;

    fn warning(topic: Topic, text: &str) -> Warning {
        Warning { topic, text: text.to_owned() }
    }

    #[test]
    fn each_sentence_is_said_once() {
        let runs = [
            ("a".to_owned(), vec![warning(Topic::Quality, "q1"), warning(Topic::Quality, "q2")]),
            ("a".to_owned(), vec![warning(Topic::Quality, "q1 of another seed"), warning(Topic::Bounds, "b")]),
            ("b".to_owned(), vec![warning(Topic::Bounds, "b"), warning(Topic::HiddenHits, "h")]),
            ("b".to_owned(), vec![warning(Topic::Bounds, "b of another seed")]),
        ];
        assert_eq!(merged(&runs), ["a: q1", "a: q2", "a, b: b", "b: h"]);
    }

    #[test]
    fn many_runs_say_a_subject_once() {
        let run = |name: &str, warnings: &[Warning]| (name.to_owned(), warnings.to_vec());
        let runs = [
            run("a=1", &[warning(Topic::Quality, "q")]),
            run("a=2", &[warning(Topic::Quality, "q"), warning(Topic::HiddenHits, "12 %")]),
            run("a=3", &[warning(Topic::HiddenHits, "15 %")]),
        ];
        assert_eq!(of_many(&runs), ["q", "a=2 (and 1 of the other 2 runs likewise): 12 %"]);
    }

    #[test]
    fn single_precision_decides_as_the_look_up_does() {
        let values: Vec<f32> = (0..40 * 37).map(|at| ((at * 7919 % 101) as f32 - 50.0) / 17.0).collect();
        let rows = Rows::Matrix(EmbeddingMatrix::new(37, values).expect("rows"));
        let (mut query, mut key) = (Vector::default(), Vector::default());
        for (a, b) in (0..40).flat_map(|a| (0..40).map(move |b| (a, b))) {
            let (left, right) = (rows.unit(a).expect("a row"), rows.unit(b).expect("a row"));
            let exact = similarity(left.as_slice(), right.as_slice());
            assert!(rows.read(a, &mut query) && rows.read(b, &mut key));
            for (bound, strict) in [(exact, false), (exact, true), (exact + 0.01, false), (exact - 0.01, true)] {
                let compared = Compared {
                    queries: rows.clone(),
                    keys: rows.clone(),
                    lowest_bound: bound,
                    strict,
                    keys_are: "image",
                    origin: String::new(),
                    warmed_by: "trace.warm_requests",
                    seed: 1,
                };
                let met = if strict { exact > bound } else { exact >= bound };
                assert_eq!(compared.reaches((a, &query), (b, &key)), met, "{a} {b} {bound} {strict}");
            }
        }
        assert!(!rows.read(40, &mut key) && !Rows::Recorded(Arc::new([None])).read(0, &mut key));
    }

    #[test]
    fn shares_have_two_digits() {
        assert_eq!(
            [0.31, 1.0, 0.054, 0.00024, 0.0].map(percent),
            ["31 %", "100 %", "5.4 %", "0.024 %", "0 %"].map(str::to_owned)
        );
    }
}
