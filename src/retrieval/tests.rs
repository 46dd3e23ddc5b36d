//! Tests of what holds for every index, and of what holds for the exact ones. They run for each kind that is built in.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::IndexKind;
use crate::cache::index::{Audited, ExactIndex, Match, Query, RetrievalIndex};
use crate::draw::{Purpose, normal, stream};
use crate::embedding::{Embedding, similarity};
use crate::image::ImageId;
use crate::request::RequestId;

const EXACT: &[IndexKind] = &[
    IndexKind::Exact,
    #[cfg(feature = "faiss")]
    IndexKind::FaissFlat,
];

const APPROXIMATE: &[IndexKind] = &[
    #[cfg(feature = "faiss")]
    IndexKind::FaissIvf,
    #[cfg(feature = "faiss")]
    IndexKind::FaissIvfSq8,
    #[cfg(feature = "faiss")]
    IndexKind::FaissHnsw,
];

fn every_kind() -> impl Iterator<Item = IndexKind> {
    EXACT.iter().chain(APPROXIMATE).copied()
}

fn empty(kind: IndexKind) -> Box<dyn RetrievalIndex> {
    kind.build(false).expect("this kind is built in").make()
}

fn id(row: u32) -> ImageId {
    ImageId::of_request(RequestId(row))
}

fn unit(values: &[f32]) -> Embedding {
    Embedding::normalised(values).expect("a good row")
}

fn nearest(index: &dyn RetrievalIndex, embedding: &Embedding) -> Option<Match> {
    index.nearest(&Query { request: None, embedding, without: &[] })
}

/// Vectors like those of a trace: a common direction, topics around it, and the vectors of a topic close to it.
struct Clustered {
    generator: ChaCha8Rng,
    topics: Vec<Vec<f32>>,
}

impl Clustered {
    fn new(seed: u64, dimension: usize, topics: usize) -> Self {
        let mut generator = stream(seed, Purpose::Test, 0);
        let mut row = || -> Vec<f32> { (0..dimension).map(|_| normal(&mut generator) as f32).collect() };
        let common = row();
        let topics = (0..topics).map(|_| row().iter().zip(&common).map(|(own, shared)| own + shared).collect());
        let topics = topics.collect();
        Self { generator, topics }
    }

    fn next(&mut self, spread: f64) -> Embedding {
        let topic = self.generator.random_range(0..self.topics.len());
        let row = self.topics[topic].iter().map(|&value| value + (spread * normal(&mut self.generator)) as f32);
        unit(&row.collect::<Vec<_>>())
    }
}

#[test]
fn ties_go_to_the_older_even_after_removals_moved_rows() {
    for kind in every_kind() {
        let mut index = empty(kind);
        let axis = unit(&[1.0, 0.0]);
        for row in 0..4 {
            index.insert(id(row), &axis);
        }
        assert_eq!(nearest(&*index, &axis).map(|found| found.image), Some(id(0)), "{kind:?}");
        index.remove(id(0)); // row 3 moves to the place of row 0 in the exact index
        assert_eq!(nearest(&*index, &axis).map(|found| found.image), Some(id(1)), "{kind:?}");
    }
}

#[test]
fn everything_at_zero_is_a_tie() {
    for kind in every_kind() {
        let mut index = empty(kind);
        assert_eq!(nearest(&*index, &unit(&[1.0])), None, "{kind:?}");
        index.insert(id(7), &unit(&[-1.0, 0.0]));
        index.insert(id(8), &unit(&[-0.1, 1.0]));
        let found = nearest(&*index, &unit(&[1.0, 0.0]));
        assert_eq!(found, Some(Match { image: id(7), similarity: 0.0 }), "{kind:?}");
    }
}

#[test]
fn what_was_emptied_takes_vectors_of_another_dimension() {
    for kind in every_kind() {
        let mut index = empty(kind);
        for dimension in [3, 5] {
            let axis: Vec<f32> = (0..dimension).map(|at| if at == 0 { 1.0 } else { 0.0 }).collect();
            index.insert(id(1), &unit(&axis));
            assert_eq!(nearest(&*index, &unit(&axis)), Some(Match { image: id(1), similarity: 1.0 }), "{kind:?}");
            index.remove(id(1));
            index.remove(id(1)); // the image has left already
            assert!(index.is_empty() && nearest(&*index, &unit(&axis)).is_none(), "{kind:?}");
        }
    }
}

/// Compares with brute force in f64 over a copy of the entries, on vectors so close together that f32 cannot tell them
/// apart.
#[test]
fn exact_kinds_agree_with_brute_force_on_clustered_vectors_under_churn() {
    for &kind in EXACT {
        let mut vectors = Clustered::new(11, 37, 1);
        let mut pick = stream(12, Purpose::Test, 0);
        let mut index = empty(kind);
        let mut shadow: Vec<(ImageId, Embedding)> = Vec::new();
        for round in 0..3000_u32 {
            let spread = if round % 2 == 0 { 1e-6 } else { 0.3 };
            let embedding = vectors.next(spread);
            index.insert(id(round), &embedding);
            shadow.push((id(round), embedding));
            if shadow.len() > 200 {
                let (gone, _) = shadow.remove(pick.random_range(0..shadow.len()));
                index.remove(gone);
            }
            let query = vectors.next(spread);
            let mut expected: Option<Match> = None;
            for (image, embedding) in &shadow {
                let similarity = similarity(query.as_slice(), embedding.as_slice());
                if expected.is_none_or(|best| similarity > best.similarity) {
                    expected = Some(Match { image: *image, similarity });
                }
            }
            assert_eq!(nearest(&*index, &query), expected, "{kind:?}, round {round}");
            let other = vectors.next(0.3);
            let both = [&query, &other].map(|embedding| Query { request: None, embedding, without: &[] });
            assert_eq!(index.nearest_of_each(&both), [expected, nearest(&*index, &other)], "{kind:?}, round {round}");
            assert_eq!(index.len(), shadow.len());
        }
    }
}

/// Entry that leaves a full index.
#[derive(Clone, Copy, Debug)]
enum Removal {
    Oldest,
    AnyOne,
    /// Any entry, and now and then all but a few.
    Most,
}

/// Inserts more than twice as many entries as the index holds, enough for lists to be trained several times, and checks
/// the answers. Returns the answers, and the share of them that are as near as those of an exact index.
fn churn(kind: IndexKind, removal: Removal) -> (Vec<Option<Match>>, f64) {
    const HELD: usize = 3000;
    let mut vectors = Clustered::new(21, 24, 60);
    let mut pick = stream(22, Purpose::Test, 0);
    let (mut index, mut exact) = (empty(kind), ExactIndex::new());
    let mut shadow: BTreeMap<ImageId, Embedding> = BTreeMap::new();
    let (mut answers, mut as_near) = (Vec::new(), 0.0);
    for round in 0..7000_u32 {
        let embedding = vectors.next(0.8);
        index.insert(id(round), &embedding);
        exact.insert(id(round), &embedding);
        shadow.insert(id(round), embedding);
        let leaving = match removal {
            Removal::Most if round % 3200 == 3199 => shadow.len() - 3,
            _ => shadow.len().saturating_sub(HELD),
        };
        for _ in 0..leaving {
            let place = if matches!(removal, Removal::Oldest) { 0 } else { pick.random_range(0..shadow.len()) };
            let gone = *shadow.keys().nth(place).expect("a place in it");
            shadow.remove(&gone);
            index.remove(gone);
            exact.remove(gone);
        }
        assert_eq!(index.len(), shadow.len(), "{kind:?}, {removal:?}, round {round}");
        if round % 4 == 0 || leaving > 1 {
            let query = vectors.next(0.8);
            let found = nearest(&*index, &query);
            let Match { image, similarity: reported } = found.expect("an index that holds something");
            let vector = shadow.get(&image).unwrap_or_else(|| panic!("{kind:?}, {removal:?}: {image} is not there"));
            assert_eq!(reported.to_bits(), similarity(query.as_slice(), vector.as_slice()).to_bits(), "{kind:?}");
            let best = nearest(&exact, &query).expect("the same entries");
            as_near += f64::from(u8::from(best.similarity - reported <= 1e-9));
            answers.push(found);
        }
    }
    let recall = as_near / answers.len() as f64;
    (answers, recall)
}

#[test]
fn every_kind_keeps_in_step_with_what_comes_and_leaves() {
    for kind in every_kind() {
        for removal in [Removal::Oldest, Removal::AnyOne, Removal::Most] {
            let (_, recall) = churn(kind, removal);
            println!("{kind:?}, {removal:?}: recall {recall}");
            let least = if EXACT.contains(&kind) { 1.0 } else { 0.95 };
            assert!(recall >= least, "{kind:?}, {removal:?}: {recall}");
        }
    }
}

#[test]
fn equal_runs_give_equal_answers() {
    for kind in every_kind() {
        assert!(churn(kind, Removal::AnyOne).0 == churn(kind, Removal::AnyOne).0, "{kind:?}");
    }
}

#[test]
fn a_check_says_how_near_the_nearest_is_and_changes_no_answer() {
    /// Index that finds only the last entry.
    #[derive(Debug, Default)]
    struct Last(Vec<(ImageId, Embedding)>);
    impl RetrievalIndex for Last {
        fn insert(&mut self, image: ImageId, embedding: &Embedding) {
            self.0.push((image, embedding.clone()));
        }
        fn remove(&mut self, image: ImageId) {
            self.0.retain(|(other, _)| *other != image);
        }
        fn nearest(&self, query: &Query<'_>) -> Option<Match> {
            let (image, vector) = self.0.last()?;
            let similarity = similarity(query.embedding.as_slice(), vector.as_slice());
            Some(Match { image: *image, similarity })
        }
        fn len(&self) -> usize {
            self.0.len()
        }
    }
    let mut index = Audited::new(Last::default());
    let axis = unit(&[1.0, 0.0]);
    let query = Query { request: None, embedding: &axis, without: &[] };
    assert_eq!(index.audit(&query), None);
    index.insert(id(0), &axis);
    index.insert(id(1), &unit(&[0.6, 0.8]));
    assert_eq!(index.nearest(&query).map(|found| found.image), Some(id(1)));
    assert_eq!(index.audit(&query), Some(1.0));
    index.remove(id(0));
    assert_eq!(index.audit(&query), index.nearest(&query).map(|found| found.similarity));
}
