//! Searches that several runs over one trace share: the decision that a search is worth its time, and the place where
//! it is kept. `retrieval::ahead` does the searches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Scenario, TraceInputs};
use crate::cache::eviction::{Eviction, Foresight};
use crate::embedding::EmbeddingMatrix;
use crate::output::OutputError;
use crate::retrieval::ahead::{Ahead, History, SearchFile, Uses};

/// Kind of keys that prompts are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookedUp {
    /// Images by their own embeddings.
    Images,
    /// Images by the embeddings of their prompts.
    Prompts,
}

impl LookedUp {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Images, Self::Prompts];
}

/// Searches that have been done, kept while some run needs them. Each takes five bytes for every component of the
/// embeddings in the history.
#[derive(Debug, Default)]
pub struct Searched {
    images: Mutex<Option<Arc<Ahead>>>,
    prompts: Mutex<Option<Arc<Ahead>>>,
    /// True if the trace is made anew for each run, so that its searches are not worth a file.
    passing: bool,
    /// Requests that each image could serve, by the bits of the lowest bound.
    uses: Mutex<BTreeMap<u64, Arc<Uses>>>,
}

/// Copy without searches: it belongs to another copy of the trace, for which nothing has been searched.
impl Clone for Searched {
    fn clone(&self) -> Self {
        Self { passing: self.passing, ..Self::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Searched {
    fn slot(&self, what: LookedUp) -> MutexGuard<'_, Option<Arc<Ahead>>> {
        lock(match what {
            LookedUp::Images => &self.images,
            LookedUp::Prompts => &self.prompts,
        })
    }

    /// Makes an empty collection, whose searches will not be stored in files.
    #[must_use]
    pub fn passing() -> Self {
        Self { passing: true, ..Self::default() }
    }

    /// Returns the same searches, for a trace that differs only in its times.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self {
            images: Mutex::new(lock(&self.images).clone()),
            prompts: Mutex::new(lock(&self.prompts).clone()),
            passing: self.passing,
            uses: Mutex::new(lock(&self.uses).clone()),
        }
    }

    /// Returns a search, if it has been done.
    pub fn get(&self, what: LookedUp) -> Option<Arc<Ahead>> {
        self.slot(what).clone()
    }

    /// Drops all searches, once no run needs them any more.
    pub fn forget(&self) {
        for what in LookedUp::ALL {
            *self.slot(what) = None;
        }
        lock(&self.uses).clear();
    }
}

/// Number of products of components up to which a direct search takes one or two tenths of a second at most, which is
/// too little to be worth a search ahead.
const UNNOTICED: u64 = 1 << 32;

/// Factor by which a product in a search ahead is quicker than one in a direct search. A direct search compares one by
/// one, through memory. A search ahead compares in tiles, on all cores (`docs/performance.md`).
const QUICKER: u64 = 4;

impl TraceInputs {
    /// Returns the prompts, and the history that they are compared with, if the trace has both.
    fn history(&self, what: LookedUp) -> Option<(&EmbeddingMatrix, History)> {
        let (prompts, rows, warm) = match what {
            LookedUp::Images => (self.trace.prompt_embeddings()?, self.trace.image_embeddings()?, &self.warm_images),
            LookedUp::Prompts => (self.trace.text_embeddings()?, self.trace.text_embeddings()?, &self.warm_prompts),
        };
        Some((prompts, History { warm: warm.clone(), rows: rows.clone() }))
    }

    /// Returns whether runs of these scenarios over this trace are done sooner if the trace is searched ahead.
    pub fn is_worth_searching<'a>(&self, what: LookedUp, runs: impl Iterator<Item = &'a Scenario>) -> bool {
        let Some((prompts, history)) = self.history(what) else { return false };
        // Images that are no candidates for some requests stand in indexes of their own.
        if self.trace.differs() {
            return false;
        }
        let warm = history.warm.as_ref().map_or(0, EmbeddingMatrix::rows) as u64;
        let rows = prompts.rows() as u64;
        let compared = |scenario: &Scenario| {
            let entries = scenario.capacity_entries(self);
            (0..rows).map(|row| (warm + row).min(entries)).sum::<u64>()
        };
        let direct: u64 = runs.filter(|run| run.looks_up() == Some(what)).map(compared).sum();
        // Request i is compared with the warm entries and with the i images before its own.
        let ahead = rows * warm + rows * rows / 2;
        direct * prompts.dimension() as u64 > UNNOTICED && direct * QUICKER >= ahead
    }

    /// Searches ahead, unless that has been done, and stores the search in the folder of `requests` if that file is
    /// given.
    ///
    /// # Errors
    /// Returns an error if the search cannot be stored. The search itself has been done then and can be used.
    pub fn search_ahead(
        &self,
        what: LookedUp,
        requests: Option<&Path>,
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), OutputError> {
        let Some((prompts, history)) = self.history(what) else { return Ok(()) };
        // The lock is held during the search, so that another run waits for the result instead of searching as well.
        let mut searched = self.searched.slot(what);
        if searched.is_some() {
            return Ok(());
        }
        let requests = requests.filter(|_| !self.searched.passing);
        let Some(requests) = requests else {
            *searched = Some(Arc::new(Ahead::search(prompts, history, threads, progress)));
            return Ok(());
        };
        let file = SearchFile::beside(requests, prompts, &history);
        let (ahead, stored) = file.search(prompts, history, threads, progress);
        *searched = Some(Arc::new(ahead));
        stored
    }
}

impl Scenario {
    /// Estimates the number of entries that the cache may hold.
    fn capacity_entries(&self, inputs: &TraceInputs) -> u64 {
        match self.capacity_bytes() {
            None => self.capacity() / self.states_per_entry() as u64,
            Some(bytes) => {
                let sizes = inputs.image_bytes.as_deref().filter(|sizes| !sizes.is_empty());
                let mean = sizes.map(|sizes| sizes.iter().sum::<u64>() / sizes.len() as u64);
                bytes / mean.or(self.cache.image_bytes).unwrap_or(1).max(1)
            }
        }
    }

    /// Returns whether the cache evicts by knowledge of the future, and so needs a search ahead.
    pub fn foresees(&self) -> bool {
        self.eviction() == Eviction::Farthest
    }

    /// Returns the future uses of each image, if the eviction goes by them and the trace has been searched ahead.
    pub(super) fn foresight(&self, inputs: &TraceInputs) -> Option<Arc<dyn Foresight>> {
        let lowest = self.lowest_bound().filter(|_| self.foresees())?;
        let (prompts, _) = inputs.history(LookedUp::Images)?;
        let ahead = inputs.searched.get(LookedUp::Images)?;
        let mut known = lock(&inputs.searched.uses);
        let uses = known.entry(lowest.to_bits()).or_insert_with(|| Arc::new(Uses::new(ahead, prompts, lowest)));
        Some(uses.clone())
    }

    /// Returns the path of the requests' file, if the scenario names one, found from the scenario's `file`.
    #[must_use]
    pub fn requests_file(&self, file: &Path) -> Option<PathBuf> {
        self.trace.requests.as_ref().map(|requests| Self::resolve(file, requests))
    }
}
