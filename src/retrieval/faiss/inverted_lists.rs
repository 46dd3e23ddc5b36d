//! Inverted lists of FAISS: a vector stands in the list of the nearest of many centres, and a query looks into the
//! lists of the centres nearest to it. Rows leave their list at once.
//!
//! The centres are trained (k-means, FAISS' fixed seed) on the content of the index, and again after as many insertions
//! as there were entries: the size has then doubled or the content has changed. So n insertions take about n / size
//! trainings, each of which holds the index up. If there are too few entries for lists, all entries are searched.

use std::fmt::Debug;

use faiss::index::ivf_flat::IVFFlatIndex;
use faiss::index::scalar_quantizer::{IVFScalarQuantizerIndex, QuantizerType};
use faiss::selector::IdSelector;
use faiss::{ConcurrentIndex, FlatIndex, Idx, Index};

use super::entries::Entries;
use super::flat::Flat;
use super::segments::Segments;
use super::{Nearest, OUT_OF_MEMORY, Structure};

/// Smallest number of lists. Fewer lists would spare too little: until there are enough entries for this number, all
/// entries are searched.
const LEAST_LISTS: usize = 64;
/// Number of entries on which each centre is trained. FAISS warns of fewer, and more cost time in proportion.
const TRAINING_ROWS: usize = 39;
/// Number of lists for n entries, in square roots of n. More lists make queries faster and training slower.
const LISTS_PER_ROOT: f64 = 2.0;
/// Number of lists for each list that a query looks into. Prompts lie apart from images, and the lists of the centres
/// nearest to a prompt are not always those of its nearest images: with a small fixed number of lists, half of the hits
/// of the stand-ins are lost.
const LISTS_PER_PROBE: u32 = 4;
/// Smallest number of lists that a query looks into.
const LEAST_PROBES: u32 = 16;

/// Inverted lists of vectors in eight bits a component, which store the difference from the centre.
pub(super) type EightBits = IVFScalarQuantizerIndex<FlatIndex>;

/// FAISS index of inverted lists.
pub trait Lists: Index + ConcurrentIndex + Debug + Send + Sized {
    /// Returns an index of inner products that is not trained.
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

/// Inverted lists that are trained once there are enough entries.
#[derive(Debug)]
pub struct InvertedLists<L> {
    trained: Option<Trained<L>>,
    /// Entries until the lists are trained.
    few: Segments<Flat>,
}

#[derive(Debug)]
struct Trained<L> {
    lists: L,
    /// Number of entries at the training.
    rows: usize,
    /// Number of insertions since the training.
    inserted: usize,
}

impl<L> Default for InvertedLists<L> {
    fn default() -> Self {
        Self { trained: None, few: Segments::default() }
    }
}

/// Returns the number of lists for this many entries; `None` if there are too few entries.
fn number_of_lists(entries: usize) -> Option<usize> {
    let wanted = (LISTS_PER_ROOT * (entries as f64).sqrt()) as usize;
    let lists = wanted.min(entries / TRAINING_ROWS);
    (lists >= LEAST_LISTS).then_some(lists)
}

fn probes(lists: u32) -> u32 {
    (lists / LISTS_PER_PROBE).max(LEAST_PROBES)
}

impl<L: Lists> Trained<L> {
    /// Trains the lists on entries of all ages alike, then adds all entries.
    fn new(entries: &Entries, lists: usize) -> Self {
        let dimension = entries.iter().next().map_or(0, |(_, vector)| vector.len());
        // The entries are in order of age. A step over all of them samples old and new content alike, without a draw.
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
    /// Returns the structure for the entries as they are, with lists if there are enough entries.
    fn from_entries(entries: &Entries) -> Self {
        match number_of_lists(entries.len()) {
            Some(lists) => Self { trained: Some(Trained::new(entries, lists)), few: Segments::default() },
            None => Self { trained: None, few: Segments::compact(entries) },
        }
    }

    /// Returns the number of entries at the last training, and of insertions since.
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
            // Where the index has shrunk since the training, as many insertions as it has entries now have replaced its
            // content.
            if trained.inserted >= trained.rows.min(entries.len()) {
                *self = Self::from_entries(entries);
            }
        } else {
            self.few.insert(age, entries);
            if number_of_lists(entries.len()).is_some() {
                *self = Self::from_entries(entries);
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
