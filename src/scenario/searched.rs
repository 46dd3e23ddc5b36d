//! Searches that several runs over one trace share: when they are worth it, and where they are kept. How they are done
//! is `retrieval::ahead`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Scenario, TraceInputs};
use crate::cache::eviction::{Eviction, Foresight};
use crate::embedding::EmbeddingMatrix;
use crate::output::OutputError;
use crate::retrieval::ahead::{Ahead, History, SearchFile, Uses};

/// What prompts are looked up among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookedUp {
    /// Images, by their own embeddings.
    Images,
    /// Images, by the embeddings of their prompts.
    Prompts,
}

impl LookedUp {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Images, Self::Prompts];
}

/// Searches that have been done, while some run needs them: each takes five bytes a component of the history.
#[derive(Debug, Default)]
pub struct Searched {
    images: Mutex<Option<Arc<Ahead>>>,
    prompts: Mutex<Option<Arc<Ahead>>>,
    /// Whether they are of a trace that is made anew each time, and so not worth a file.
    passing: bool,
    /// By lowest bound (its bits), which requests each image could serve.
    uses: Mutex<BTreeMap<u64, Arc<Uses>>>,
}

/// Of another copy of the trace nothing has been searched.
impl Clone for Searched {
    fn clone(&self) -> Self {
        Self { passing: self.passing, ..Self::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Searched {
    fn of(&self, what: LookedUp) -> MutexGuard<'_, Option<Arc<Ahead>>> {
        lock(match what {
            LookedUp::Images => &self.images,
            LookedUp::Prompts => &self.prompts,
        })
    }

    /// None yet, and none that is to be stored.
    #[must_use]
    pub fn passing() -> Self {
        Self { passing: true, ..Self::default() }
    }

    /// The same searches, for a trace that differs in times alone.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self {
            images: Mutex::new(lock(&self.images).clone()),
            prompts: Mutex::new(lock(&self.prompts).clone()),
            passing: self.passing,
            uses: Mutex::new(lock(&self.uses).clone()),
        }
    }

    /// A search, if it has been done.
    pub fn get(&self, what: LookedUp) -> Option<Arc<Ahead>> {
        self.of(what).clone()
    }

    /// No run needs them any more.
    pub fn forget(&self) {
        for what in LookedUp::ALL {
            *self.of(what) = None;
        }
        lock(&self.uses).clear();
    }
}

/// Products of embeddings, below which nobody would notice the time: a tenth of a second or two.
const UNNOTICED: u64 = 1 << 32;

/// A product of a search ahead takes so much less than one of a direct search: those are one by one, through memory,
/// and these in tiles, on all cores (`docs/performance.md`).
const QUICKER: u64 = 4;

impl TraceInputs {
    /// What prompts are looked up among, if the trace has it.
    fn history(&self, what: LookedUp) -> Option<(&EmbeddingMatrix, History)> {
        let (prompts, rows, warm) = match what {
            LookedUp::Images => (self.trace.prompt_embeddings()?, self.trace.image_embeddings()?, &self.warm_images),
            LookedUp::Prompts => (self.trace.text_embeddings()?, self.trace.text_embeddings()?, &self.warm_prompts),
        };
        Some((prompts, History { warm: warm.clone(), rows: rows.clone() }))
    }

    /// Whether runs of these scenarios over this trace are done sooner if it is searched ahead.
    pub fn is_worth_searching<'a>(&self, what: LookedUp, runs: impl Iterator<Item = &'a Scenario>) -> bool {
        let Some((prompts, history)) = self.history(what) else { return false };
        let warm = history.warm.as_ref().map_or(0, EmbeddingMatrix::rows) as u64;
        let rows = prompts.rows() as u64;
        let compared = |scenario: &Scenario| {
            let entries = scenario.capacity_entries(self);
            (0..rows).map(|row| (warm + row).min(entries)).sum::<u64>()
        };
        let direct: u64 = runs.filter(|run| run.looks_up() == Some(what)).map(compared).sum();
        let ahead = rows * warm + rows * rows / 2;
        direct * prompts.dimension() as u64 > UNNOTICED && direct * QUICKER >= ahead
    }

    /// Searches ahead, unless that has been done, and keeps it in the folder of `requests` if there is one.
    ///
    /// # Errors
    /// It could not be stored; it has been done.
    pub fn search_ahead(
        &self,
        what: LookedUp,
        requests: Option<&Path>,
        threads: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), OutputError> {
        let Some((prompts, history)) = self.history(what) else { return Ok(()) };
        let mut searched = self.searched.of(what);
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
    /// Entries that its cache may hold, about.
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

    /// Whether it evicts by knowledge of the future, and so needs a search ahead.
    pub fn foresees(&self) -> bool {
        self.eviction() == Eviction::Farthest
    }

    /// What each image will be of use for, where eviction knows that; it has been searched ahead.
    pub(super) fn foresight(&self, inputs: &TraceInputs) -> Option<Arc<dyn Foresight>> {
        let lowest = self.lowest_bound().filter(|_| self.foresees())?;
        let (prompts, _) = inputs.history(LookedUp::Images)?;
        let ahead = inputs.searched.get(LookedUp::Images)?;
        let mut known = lock(&inputs.searched.uses);
        let uses = known.entry(lowest.to_bits()).or_insert_with(|| Arc::new(Uses::new(ahead, prompts, lowest)));
        Some(uses.clone())
    }

    /// The file of its requests, if it has one, found from the scenario's `file`.
    #[must_use]
    pub fn requests_file(&self, file: &Path) -> Option<PathBuf> {
        self.trace.requests.as_ref().map(|requests| Self::resolve(file, requests))
    }
}
