//! Image cache over time, as `cache.csv` has it: the entries that came, the entries that left and why, and the hits and
//! misses of requests. A row is a window in which any of these happened. The fold runs beside the others, for systems
//! that keep images; the cache itself is `crate::cache`. The definitions are in docs/semantics.md, section 8.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::summary::CacheSummary;
use crate::cache::Cause;
use crate::image::ImageId;
use crate::request::RequestId;
use crate::scheduler::Decision;
use crate::time::{Duration, Time};

/// Bounds in seconds of the ages in the columns `hits_age_<s>s`. A hit counts under the first bound that is above the
/// age of its source.
pub const AGE_BOUNDS_S: [u64; 5] = [60, 600, 3600, 14_400, 86_400];

/// Criteria of hits, near misses and false hits in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct HitCriteria {
    /// Numbers of steps that hits may skip (k), in rising order; all T for a system that returns images as they are.
    pub skipped_steps: Vec<u32>,
    /// Lowest bound on similarity in force.
    pub lowest_bound: f64,
    /// Largest distance of a near miss from the lowest bound: the similarity of its nearest entry is at most this much
    /// below the bound.
    pub near_miss: f64,
    /// Share of the misses' mean below which the similarity of a hit's image to its prompt makes the hit a false one
    /// (the paper's alpha).
    pub false_hit: f64,
}

/// Rows of `cache.csv` and the numbers that name its columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheTimeline {
    /// Skipped steps, in the order of [`CacheRow::hits_by_skipped_steps`].
    pub skipped_steps: Vec<u32>,
    /// Rows in the order of time. Windows in which no entry came or left and no request was routed are left out.
    pub rows: Vec<CacheRow>,
}

/// Window of `cache.csv`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheRow {
    /// Start of the window.
    pub time: Time,
    /// Number of entries at the end of the window.
    pub entries: u64,
    /// Number of bytes at the end of the window, if the size of every entry is known.
    pub bytes: Option<u64>,
    /// Number of entries that came.
    pub inserts: u64,
    /// Number of entries that left because the capacity was full.
    pub evictions: u64,
    /// Number of entries that left because they were too old.
    pub expiries: u64,
    /// Number of entries that left because their images could not be read.
    pub unreadable: u64,
    /// Number of entries that were withdrawn. Only servers withdraw entries, and servers write no `cache.csv`.
    pub withdrawn: u64,
    /// Number of requests routed for the first time.
    pub searches: u64,
    /// Number of misses among these requests.
    pub misses: u64,
    /// Number of near misses among these requests.
    pub near_misses: u64,
    /// Number of hits by skipped steps; returns skip all steps.
    pub hits_by_skipped_steps: Vec<u64>,
    /// Number of hits by the age of their source, in the ranges of [`AGE_BOUNDS_S`]; the last range is above all
    /// bounds.
    pub hits_by_age: [u64; AGE_BOUNDS_S.len() + 1],
    /// Number of false hits; `None` where no images were measured.
    pub false_hits: Option<u64>,
}

/// Hit whose image may turn out to be a false hit.
#[derive(Clone, Copy, Debug)]
struct Hit {
    /// Index of the row of the window in which the request was routed.
    row: usize,
    /// True if the request arrived at or after the warm-up.
    counts: bool,
}

/// Mark in the rows: their number, and the last row as it was at the mark.
#[derive(Clone, Debug)]
pub(super) struct CacheMark {
    rows: usize,
    last: Option<CacheRow>,
}

#[derive(Clone, Debug)]
pub(super) struct CacheFold {
    criteria: HitCriteria,
    /// Time of insertion and size in bytes of every entry.
    entries: BTreeMap<ImageId, (Time, Option<u64>)>,
    known_bytes: u64,
    unknown_sizes: u64,
    rows: Vec<CacheRow>,
    /// Number of near misses among requests that count. The next two fields are the number of hits of requests that
    /// count whose age is known, and the sum of these ages in nanoseconds.
    near_misses: u64,
    aged_hits: u64,
    age_ns: u128,
    /// Hits whose images are measured; `None` unless the run is in real time.
    hits: Option<BTreeMap<RequestId, Hit>>,
}

impl CacheFold {
    pub(super) fn new(criteria: HitCriteria, real_time: bool) -> Self {
        Self {
            criteria,
            entries: BTreeMap::new(),
            known_bytes: 0,
            unknown_sizes: 0,
            rows: Vec::new(),
            near_misses: 0,
            aged_hits: 0,
            age_ns: 0,
            hits: real_time.then(BTreeMap::new),
        }
    }

    /// Returns the row of the window that starts at `window`, with the present numbers of entries and bytes.
    fn row(&mut self, window: Time) -> &mut CacheRow {
        if self.rows.last().is_none_or(|row| row.time != window) {
            let hits_by_skipped_steps = vec![0; self.criteria.skipped_steps.len()];
            self.rows.push(CacheRow { time: window, hits_by_skipped_steps, ..CacheRow::default() });
        }
        let row = self.rows.last_mut().expect("there is one now");
        row.entries = self.entries.len() as u64;
        row.bytes = (self.unknown_sizes == 0).then_some(self.known_bytes);
        row
    }

    /// Counts an entry that came.
    pub(super) fn kept(&mut self, now: Time, window: Time, image: ImageId, bytes: Option<u64>) {
        self.entries.insert(image, (now, bytes));
        self.known_bytes += bytes.unwrap_or(0);
        self.unknown_sizes += u64::from(bytes.is_none());
        self.row(window).inserts += 1;
    }

    /// Counts an entry that left.
    pub(super) fn left(&mut self, window: Time, image: ImageId, cause: Cause) {
        let Some((_, bytes)) = self.entries.remove(&image) else { return };
        self.known_bytes -= bytes.unwrap_or(0);
        self.unknown_sizes -= u64::from(bytes.is_none());
        let row = self.row(window);
        match cause {
            Cause::Evicted => row.evictions += 1,
            Cause::Expired => row.expiries += 1,
            Cause::Unreadable => row.unreadable += 1,
            Cause::Withdrawn => row.withdrawn += 1,
        }
    }

    /// Counts a request that was routed for the first time. `counts` says whether the request arrived at or after the
    /// warm-up.
    pub(super) fn routed(&mut self, now: Time, window: Time, request: RequestId, decision: &Decision, counts: bool) {
        let hit = decision.kind.is_hit();
        // Nothing was searched for a request that brings its own source.
        if hit && decision.source.is_none() {
            return;
        }
        let near_miss = !hit && decision.similarity.is_some_and(|similarity| self.is_near(similarity));
        let place = self.criteria.skipped_steps.iter().position(|k| hit && *k == decision.skipped_steps);
        // The note comes in the event of the look-up, so that the source is still among the entries.
        let inserted = decision.source.and_then(|source| self.entries.get(&source)).map(|(inserted, _)| *inserted);
        let age = inserted.map(|inserted| now.since(inserted));
        let row = self.row(window);
        row.searches += 1;
        row.misses += u64::from(!hit);
        row.near_misses += u64::from(near_miss);
        if let Some(place) = place {
            row.hits_by_skipped_steps[place] += 1;
        }
        if let Some(age) = age {
            row.hits_by_age[age_bucket(age)] += 1;
        }
        if counts {
            self.near_misses += u64::from(near_miss);
            self.aged_hits += u64::from(age.is_some());
            self.age_ns += age.map_or(0, |age| u128::from(age.nanoseconds()));
        }
        // The last row is that of the present window: `row` was called above.
        if let Some(hits) = self.hits.as_mut().filter(|_| hit) {
            hits.insert(request, Hit { row: self.rows.len() - 1, counts });
        }
    }

    /// Forgets the hit of a request that was routed again because its source could not be read: its image is not that
    /// of a hit.
    pub(super) fn routed_again(&mut self, request: RequestId) {
        if let Some(hits) = &mut self.hits {
            hits.remove(&request);
        }
    }

    /// Returns whether a miss with this similarity is a near miss. A similarity that equals the bound is a miss only
    /// where bounds are strict. A similarity above the bound is a miss for want of a state, which is no near miss.
    fn is_near(&self, similarity: f64) -> bool {
        let HitCriteria { lowest_bound, near_miss, .. } = self.criteria;
        (lowest_bound - near_miss..=lowest_bound).contains(&similarity)
    }

    /// Returns a mark at the present rows, for [`Self::back_to`]. The mark leaves out the entries, because the results
    /// of a run are made of the rows alone.
    pub(super) fn mark(&self) -> CacheMark {
        CacheMark { rows: self.rows.len(), last: self.rows.last().cloned() }
    }

    /// Restores the rows at a mark and leaves out the rows that came after the mark.
    pub(super) fn back_to(&mut self, mark: CacheMark) {
        self.rows.truncate(mark.rows);
        if let (Some(row), Some(last)) = (self.rows.last_mut(), mark.last) {
            *row = last;
        }
    }

    /// Counts the false hits into the rows. `quality` is the similarity of images to their prompts by request, and
    /// `misses` is the mean of this similarity over the misses. Returns the number of false hits after the warm-up;
    /// returns `None`, and counts none in the rows, if there are hits and none of them was measured.
    fn count_false_hits(&mut self, quality: &BTreeMap<RequestId, f64>, misses: f64) -> Option<u64> {
        let hits = self.hits.take()?;
        let measured = |(request, hit): (&RequestId, &Hit)| Some((*quality.get(request)?, *hit));
        let measured: Vec<(f64, Hit)> = hits.iter().filter_map(measured).collect();
        // Without a measured hit, 0 false hits would be a guess.
        if measured.is_empty() && !hits.is_empty() {
            return None;
        }
        self.rows.iter_mut().for_each(|row| row.false_hits = Some(0));
        let mut counted = 0;
        for (_, hit) in measured.iter().filter(|(similarity, _)| *similarity < self.criteria.false_hit * misses) {
            if let Some(false_hits) = self.rows.get_mut(hit.row).and_then(|row| row.false_hits.as_mut()) {
                *false_hits += 1;
                counted += u64::from(hit.counts);
            }
        }
        Some(counted)
    }

    /// Returns the rows and their sums. `measured` is the similarity of images to their prompts by request, and the
    /// mean of this similarity over the misses.
    pub(super) fn finish(
        mut self,
        measured: Option<(&BTreeMap<RequestId, f64>, f64)>,
    ) -> (CacheTimeline, CacheSummary) {
        let false_hits = measured.and_then(|(quality, misses)| self.count_false_hits(quality, misses));
        let sum = |column: fn(&CacheRow) -> u64| self.rows.iter().map(column).sum();
        let last = self.rows.last();
        let summary = CacheSummary {
            inserts: sum(|row| row.inserts),
            evictions: sum(|row| row.evictions),
            expiries: sum(|row| row.expiries),
            near_misses: self.near_misses,
            false_hits,
            mean_hit_age_s: (self.aged_hits > 0).then(|| self.age_ns as f64 / self.aged_hits as f64 / 1e9),
            entries_at_end: last.map_or(0, |row| row.entries),
            bytes_at_end: last.map_or(Some(0), |row| row.bytes),
        };
        (CacheTimeline { skipped_steps: self.criteria.skipped_steps, rows: self.rows }, summary)
    }
}

fn age_bucket(age: Duration) -> usize {
    let second = 1_000_000_000;
    AGE_BOUNDS_S.iter().position(|bound| age.nanoseconds() < bound * second).unwrap_or(AGE_BOUNDS_S.len())
}
