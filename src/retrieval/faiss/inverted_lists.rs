//! FAISS' inverted lists: a vector stands in the list of the nearest of many centres, and a query looks into the lists
//! of the centres nearest to it. Rows leave their list at once.
//!
//! The centres are trained (k-means, FAISS' fixed seed) on what is in the index, again after as many insertions as
//! there were entries: its size has doubled or its content changed by then. So n insertions take about n / size
//! trainings, each of which holds the index up. Too few entries for lists are searched one by one.

use std::fmt::Debug;

use faiss::index::ivf_flat::IVFFlatIndex;
use faiss::index::scalar_quantizer::{IVFScalarQuantizerIndex, QuantizerType};
use faiss::selector::IdSelector;
use faiss::{ConcurrentIndex, FlatIndex, Idx, Index};

use super::entries::Entries;
use super::flat::Flat;
use super::segments::Segments;
use super::{Nearest, OUT_OF_MEMORY, Structure};

/// Fewer lists than this would spare too little: until there are entries for so many, all are searched.
const LEAST_LISTS: usize = 64;
/// Entries that each centre is trained on; FAISS warns of fewer, and more cost time in proportion.
const TRAINING_ROWS: usize = 39;
/// Lists for n entries: so many times the square root of n. More make queries faster and training slower.
const LISTS_PER_ROOT: f64 = 2.0;
/// A query looks into one list of so many. Prompts lie apart from images, and the lists of the centres nearest to a
/// prompt are not always those of its nearest images: a fixed few lists lose half of the hits of the stand-ins.
const LISTS_PER_PROBE: u32 = 4;
/// Lists that a query looks into at least.
const LEAST_PROBES: u32 = 16;

/// Inverted lists of vectors in eight bits a component, of what is left after subtracting the centre.
pub(super) type EightBits = IVFScalarQuantizerIndex<FlatIndex>;

/// A FAISS index of lists.
pub trait Lists: Index + ConcurrentIndex + Debug + Send + Sized {
    /// Of inner products, not trained.
    fn untrained(dimension: u32, lists: u32) -> Self;
}

impl Lists for IVFFlatIndex {
    fn untrained(dimension: u32, lists: u32) -> Self {
        let centres = FlatIndex::new_ip(dimension).expect(OUT_OF_MEMORY);
        let mut index = Self::new_ip(centres, dimension, lists).expect(OUT_OF_MEMORY);
        index.set_nprobe(probes(lists));
        index
    }
}

impl Lists for EightBits {
    fn untrained(dimension: u32, lists: u32) -> Self {
        let centres = FlatIndex::new_ip(dimension).expect(OUT_OF_MEMORY);
        let mut index = Self::new_ip(centres, dimension, QuantizerType::QT_8bit, lists).expect(OUT_OF_MEMORY);
        index.set_nprobe(probes(lists));
        index
    }
}

/// Lists, once there is enough to train them on.
#[derive(Debug)]
pub struct InvertedLists<L> {
    trained: Option<Trained<L>>,
    /// Holds the entries until then.
    few: Segments<Flat>,
}

#[derive(Debug)]
struct Trained<L> {
    lists: L,
    /// Entries when it was trained.
    rows: usize,
    /// Inserted since then.
    inserted: usize,
}

impl<L> Default for InvertedLists<L> {
    fn default() -> Self {
        Self { trained: None, few: Segments::default() }
    }
}

/// Lists for so many entries; `None` where they are too few.
fn number_of_lists(entries: usize) -> Option<usize> {
    let wanted = (LISTS_PER_ROOT * (entries as f64).sqrt()) as usize;
    let lists = wanted.min(entries / TRAINING_ROWS);
    (lists >= LEAST_LISTS).then_some(lists)
}

fn probes(lists: u32) -> u32 {
    (lists / LISTS_PER_PROBE).max(LEAST_PROBES)
}

impl<L: Lists> Trained<L> {
    /// Trains on entries of all ages alike, then adds all.
    fn new(entries: &Entries, lists: usize) -> Self {
        let dimension = entries.iter().next().map_or(0, |(_, vector)| vector.len());
        let step = (entries.len() / (TRAINING_ROWS * lists)).max(1);
        let sample: Vec<f32> = entries.iter().step_by(step).flat_map(|(_, vector)| vector).copied().collect();
        let mut index = L::untrained(dimension as u32, lists as u32);
        index.train(&sample).expect(OUT_OF_MEMORY);
        let mut trained = Self { lists: index, rows: entries.len(), inserted: 0 };
        entries.in_batches(|ages, vectors| trained.add(ages, vectors));
        trained
    }

    fn add(&mut self, ages: &[u64], vectors: &[f32]) {
        let ids: Vec<Idx> = ages.iter().map(|age| Idx::new(*age)).collect();
        self.lists.add_with_ids(vectors, &ids).expect(OUT_OF_MEMORY);
    }
}

impl<L: Lists> InvertedLists<L> {
    /// Lists, or none, for the entries as they are.
    fn of(entries: &Entries) -> Self {
        match number_of_lists(entries.len()) {
            Some(lists) => Self { trained: Some(Trained::new(entries, lists)), few: Segments::default() },
            None => Self { trained: None, few: Segments::compact(entries) },
        }
    }

    /// Entries at the last training and insertions since.
    #[cfg(test)]
    pub(super) fn last_training(&self) -> Option<(usize, usize)> {
        self.trained.as_ref().map(|trained| (trained.rows, trained.inserted))
    }
}

impl<L: Lists> Structure for InvertedLists<L> {
    fn insert(&mut self, age: u64, entries: &Entries) {
        if let Some(trained) = &mut self.trained {
            let vector = entries.vector(age).expect("what is inserted is among the entries");
            trained.add(&[age], vector);
            trained.inserted += 1;
            if trained.inserted >= trained.rows.min(entries.len()) {
                *self = Self::of(entries);
            }
        } else {
            self.few.insert(age, entries);
            if number_of_lists(entries.len()).is_some() {
                *self = Self::of(entries);
            }
        }
    }

    fn remove(&mut self, age: u64, entries: &Entries) {
        if entries.len() == 0 {
            *self = Self::default();
        } else if let Some(trained) = &mut self.trained {
            let selector = IdSelector::range(Idx::new(age), Idx::new(age + 1)).expect(OUT_OF_MEMORY);
            let removed = trained.lists.remove_ids(&selector).expect(OUT_OF_MEMORY);
            assert_eq!(removed, 1, "an entry stands in one list");
        } else {
            self.few.remove(age, entries);
        }
    }

    fn search(&self, nearest: &mut Nearest<'_>) {
        match &self.trained {
            Some(Trained { lists, .. }) => {
                let search = |query: &[f32], wanted| ConcurrentIndex::search(lists, query, wanted);
                nearest.ask(false, |query, wanted| search(query, wanted).expect(OUT_OF_MEMORY), |age| age);
            }
            None => self.few.search(nearest),
        }
    }
}
