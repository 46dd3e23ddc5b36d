//! The image cache over time, as `cache.csv` has it: what came, what left and why, and what requests found, a row a
//! window in which any of that happened. A fold beside the others, for systems that keep images; the cache itself is
//! `crate::cache`. The definitions are in docs/semantics.md, section 8.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::summary::CacheSummary;
use crate::cache::Cause;
use crate::image::ImageId;
use crate::request::RequestId;
use crate::scheduler::Decision;
use crate::time::{Duration, Time};

/// Ages that part the columns `hits_age_<s>s`, in seconds: a hit counts under the first that its source is younger
/// than.
pub const AGE_BOUNDS_S: [u64; 5] = [60, 600, 3600, 14_400, 86_400];

/// What a hit is in a run, and what nearly and falsely one.
#[derive(Clone, Debug, PartialEq)]
pub struct HitCriteria {
    /// Steps that hits may skip (k), rising; all T for a system that returns images as they are.
    pub skipped_steps: Vec<u32>,
    /// The lowest bound on similarity in force.
    pub lowest_bound: f64,
    /// A miss is a near one if its nearest entry's similarity is below that bound by no more than this.
    pub near_miss: f64,
    /// A hit is false if its picture is less similar to its prompt than this share of the misses' mean (the paper's
    /// alpha).
    pub false_hit: f64,
}

/// The rows of `cache.csv` and what names its columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheTimeline {
    /// Skipped steps, in the order of [`CacheRow::hits_by_skipped_steps`].
    pub skipped_steps: Vec<u32>,
    /// Rows in order of time. Windows in which nothing came, left or was routed are left out.
    pub rows: Vec<CacheRow>,
}

/// One window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheRow {
    /// Start of the window.
    pub time: Time,
    /// Entries at its end.
    pub entries: u64,
    /// Bytes at its end, if the size of every entry is known.
    pub bytes: Option<u64>,
    /// Entries that came.
    pub inserts: u64,
    /// Entries that left since the capacity was full.
    pub evictions: u64,
    /// Entries that left since they were too old.
    pub expiries: u64,
    /// Entries that left since their images could not be read.
    pub unreadable: u64,
    /// Entries that were withdrawn: only servers have them, which write no `cache.csv`.
    pub withdrawn: u64,
    /// Requests routed.
    pub searches: u64,
    /// Of these, misses.
    pub misses: u64,
    /// Of these, near ones.
    pub near_misses: u64,
    /// Hits by steps skipped; returns skip all.
    pub hits_by_skipped_steps: Vec<u64>,
    /// Hits by the age of their source, as [`AGE_BOUNDS_S`] part it, the oldest last.
    pub hits_by_age: [u64; AGE_BOUNDS_S.len() + 1],
    /// False hits; only where pictures were measured.
    pub false_hits: Option<u64>,
}

/// A hit whose picture may turn out to be bad.
#[derive(Clone, Copy, Debug)]
struct Hit {
    /// The row of the window in which it was routed.
    row: usize,
    /// Whether it arrived at or after the warm-up.
    counts: bool,
}

/// Where the rows were, to come back to: how many, and the last as it was.
#[derive(Clone, Debug)]
pub(super) struct CacheMark {
    rows: usize,
    last: Option<CacheRow>,
}

#[derive(Clone, Debug)]
pub(super) struct CacheFold {
    criteria: HitCriteria,
    /// Of every entry: when it came, and its size in bytes.
    entries: BTreeMap<ImageId, (Time, Option<u64>)>,
    known_bytes: u64,
    unknown_sizes: u64,
    rows: Vec<CacheRow>,
    /// Near misses after the warm-up; likewise the hits whose age is known, and the sum of these in nanoseconds.
    near_misses: u64,
    aged_hits: u64,
    age_ns: u128,
    /// Hits whose pictures are measured: only in a run in real time.
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

    /// The row of the window that starts here, with what is held now.
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

    /// An entry came.
    pub(super) fn kept(&mut self, now: Time, window: Time, image: ImageId, bytes: Option<u64>) {
        self.entries.insert(image, (now, bytes));
        self.known_bytes += bytes.unwrap_or(0);
        self.unknown_sizes += u64::from(bytes.is_none());
        self.row(window).inserts += 1;
    }

    /// An entry left.
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

    /// A request was routed for the first time; `counts` says whether it arrived at or after the warm-up.
    pub(super) fn routed(&mut self, now: Time, window: Time, request: RequestId, decision: &Decision, counts: bool) {
        let hit = decision.kind.is_hit();
        let near_miss = !hit && decision.similarity.is_some_and(|similarity| self.is_near(similarity));
        let place = self.criteria.skipped_steps.iter().position(|k| hit && *k == decision.skipped_steps);
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
        if let Some(hits) = self.hits.as_mut().filter(|_| hit) {
            hits.insert(request, Hit { row: self.rows.len() - 1, counts });
        }
    }

    /// A request was routed again, its source being unreadable: its picture will be no hit's.
    pub(super) fn routed_again(&mut self, request: RequestId) {
        if let Some(hits) = &mut self.hits {
            hits.remove(&request);
        }
    }

    /// Whether a miss with this similarity missed the lowest bound by little. A similarity that equals the bound
    /// misses it only where bounds are strict; one above it missed for want of a state.
    fn is_near(&self, similarity: f64) -> bool {
        let HitCriteria { lowest_bound, near_miss, .. } = self.criteria;
        (lowest_bound - near_miss..=lowest_bound).contains(&similarity)
    }

    /// Where it is now, to come back to. What is held is not in it: the rows are all that is left at the end.
    pub(super) fn mark(&self) -> CacheMark {
        CacheMark { rows: self.rows.len(), last: self.rows.last().cloned() }
    }

    /// Back to a mark: what came since is left out.
    pub(super) fn back_to(&mut self, mark: CacheMark) {
        self.rows.truncate(mark.rows);
        if let (Some(row), Some(last)) = (self.rows.last_mut(), mark.last) {
            *row = last;
        }
    }

    /// Counts the false hits into the rows, by what is known of pictures' similarity to their prompts and the mean
    /// of the misses'. Returns those after the warm-up; `None`, and none in the rows, where no hit was measured.
    fn count_false_hits(&mut self, quality: &BTreeMap<RequestId, f64>, misses: f64) -> Option<u64> {
        let hits = self.hits.take()?;
        let measured = |(request, hit): (&RequestId, &Hit)| Some((*quality.get(request)?, *hit));
        let measured: Vec<(f64, Hit)> = hits.iter().filter_map(measured).collect();
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

    /// The rows and their sums; `measured` is what is known of pictures' similarity to their prompts by request, and
    /// the mean of the misses'.
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
