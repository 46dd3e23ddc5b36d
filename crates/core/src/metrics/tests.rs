//! Tests of the metrics on records made by hand: the image cache, and the order of rows.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::quality::QualitySettings;
use super::summary::CacheSummary;
use super::{CacheRow, HitCriteria, Keep, Metrics, RequestRow, Results, RowsInOrder, Settings};
use crate::cache::Cause;
use crate::denoising::Denoising;
use crate::embedding::Embedding;
use crate::image::ImageId;
use crate::journal::{Journal, Record};
use crate::model::{GpuId, ModelId};
use crate::profile::Profile;
use crate::request::{Outcome, Request, RequestId, TenantId};
use crate::scheduler::{Action, Decision, DecisionKind, Ended, Event, Hardware, Note, Stage, WorkerId};
use crate::time::Time;

const PROFILE: &str = "source = \"test\"\n[[service]]\ngpu = \"gpu\"\nmodel = \"large\"\nstep_s = 1.0\nload_s = 1.0\n";

fn second(count: u64) -> Time {
    Time::from_nanoseconds(count * 1_000_000_000)
}

/// Fold that is fed with records made by hand, in the order of time.
struct Story {
    fold: Metrics,
    /// Requests that have not ended, each with its latest decision.
    open: BTreeMap<u32, (Request, Option<Decision>)>,
}

impl Story {
    fn new(cache: Option<HitCriteria>, warmup: Time, real_time: bool) -> Self {
        let file = toml::from_str(PROFILE).expect("a profile");
        let profile = Profile::select(&file, &["gpu".into()], &["large".into()]).expect("its rows");
        let hardware = Hardware { gpus: vec![GpuId(0)], profile: Arc::new(profile) };
        let fold = Metrics::new(Settings {
            slo_multiples: vec![2.0],
            warmup,
            cache,
            keep: Keep::Rows,
            real_time,
            ..Settings::paper(vec!["large".into()], &hardware, 50, vec![ModelId::LARGE])
        });
        Self { fold, open: BTreeMap::new() }
    }

    fn event(&mut self, at: u64, event: &Event) {
        self.fold.record(second(at), Record::Event(event));
    }

    /// Records an action. An event goes before it, since no action comes without an event.
    fn action(&mut self, at: u64, action: &Action) {
        self.event(at, &Event::WokeUp);
        self.fold.record(second(at), Record::Action(action));
    }

    fn keep(&mut self, at: u64, image: i64, bytes: Option<u64>) {
        self.action(at, &Action::Keep { image: id(image), bytes });
    }

    fn leave(&mut self, at: u64, image: i64, cause: Cause) {
        self.action(at, &Action::Note(Note::Left { image: id(image), cause }));
    }

    fn arrive(&mut self, at: u64, row: u32) {
        let request = Request::new(RequestId(row), second(at), TenantId(0));
        self.open.insert(row, (request, None));
        self.event(at, &Event::Arrived(request));
        self.fold.record(second(at), Record::Action(&Action::Encode(request.id)));
    }

    fn route(&mut self, at: u64, row: u32, decision: Decision) {
        let (request, decided) = self.open.get_mut(&row).expect("it arrived");
        let (arrival, again) = (request.arrival, decided.replace(decision).is_some());
        self.action(at, &Action::Note(Note::Routed { request: RequestId(row), arrival, decision, again }));
    }

    fn finish(&mut self, at: u64, row: u32) {
        let (request, decision) = self.open.remove(&row).expect("it arrived");
        let stage = if decision.is_some() { Stage::Waiting } else { Stage::Encoding };
        let ended = Ended { stage, decision, ..Ended::unrouted(&request, Outcome::Completed) };
        self.action(at, &Action::Finish(Box::new(ended)));
    }

    /// Records a request that arrives, is routed and ends at once.
    fn serve(&mut self, at: u64, row: u32, decision: Decision) {
        self.arrive(at, row);
        self.route(at, row, decision);
        self.finish(at, row);
    }

    /// Records the embeddings of a request's prompt and image, so that they have this similarity.
    fn measure(&mut self, at: u64, row: u32, similarity: f32) {
        let (request, rest) = (RequestId(row), (1.0 - similarity * similarity).sqrt());
        let embedding = |values: [f32; 2]| Some(Embedding::normalised(&values).expect("a vector"));
        self.event(at, &Event::Encoded { request, embedding: embedding([1.0, 0.0]) });
        self.event(at, &Event::ImageEncoded { request, embedding: embedding([similarity, rest]) });
    }

    fn results(self) -> (Vec<CacheRow>, CacheSummary) {
        let Results { cache, summary, .. } = self.fold.finish_run();
        (cache.expect("the system keeps images").rows, summary.cache.expect("likewise"))
    }
}

/// Returns the image of a request's row, or a warm image if the number is negative.
fn id(image: i64) -> ImageId {
    u32::try_from(image).map_or_else(|_| ImageId::warm((-1 - image) as u32), |row| ImageId::of_request(RequestId(row)))
}

fn criteria() -> HitCriteria {
    HitCriteria { skipped_steps: vec![5, 25], lowest_bound: 0.25, near_miss: 0.01, false_hit: 0.95 }
}

fn story() -> Story {
    Story::new(Some(criteria()), Time::ZERO, false)
}

fn miss(similarity: Option<f64>) -> Decision {
    Decision { similarity, ..Decision::new(DecisionKind::Miss) }
}

fn hit(source: i64, skipped_steps: u32) -> Decision {
    let (similarity, source) = (Some(0.3), Some(id(source)));
    Decision { skipped_steps, similarity, source, ..Decision::new(DecisionKind::Hit) }
}

#[test]
fn a_system_that_keeps_nothing_has_no_cache() {
    let mut story = Story::new(None, Time::ZERO, false);
    story.serve(1, 0, miss(None));
    let Results { cache, summary, .. } = story.fold.finish_run();
    assert_eq!((cache, summary.cache), (None, None));
}

#[test]
fn entries_come_and_leave_by_cause_and_their_bytes_are_known_or_not() {
    let mut story = story();
    story.keep(0, -1, Some(100));
    story.keep(0, -2, Some(10));
    story.arrive(70, 0);
    story.leave(70, -1, Cause::Expired);
    story.keep(80, 0, None);
    story.leave(130, 0, Cause::Evicted);
    story.leave(140, -2, Cause::Unreadable);
    story.finish(600, 0);
    story.keep(600, 1, Some(7));
    let (rows, summary) = story.results();
    let held: Vec<(f64, u64, Option<u64>)> =
        rows.iter().map(|row| (row.time.seconds(), row.entries, row.bytes)).collect();
    assert_eq!(held, [(0.0, 2, Some(110)), (60.0, 2, None), (120.0, 0, Some(0)), (600.0, 1, Some(7))]);
    let changes: Vec<[u64; 4]> =
        rows.iter().map(|row| [row.inserts, row.evictions, row.expiries, row.unreadable]).collect();
    assert_eq!(changes, [[2, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]);
    let expected = CacheSummary {
        inserts: 4,
        evictions: 1,
        expiries: 1,
        entries_at_end: 1,
        bytes_at_end: Some(7),
        ..CacheSummary::default()
    };
    assert_eq!(summary, expected);
}

#[test]
fn hits_count_by_steps_and_by_the_age_of_their_source() {
    let mut story = story();
    story.keep(0, -1, None);
    // Ages in seconds just below and at each bound. The source is a warm image, inserted at time zero.
    let ages = [59, 60, 599, 600, 3_599, 3_600, 14_399, 14_400, 86_399, 86_400];
    for (row, at) in (0..).zip(ages) {
        story.serve(at, row, hit(-1, if row < 3 { 5 } else { 25 }));
    }
    story.keep(86_410, 3, None);
    story.serve(86_411, 10, hit(3, 25));
    story.serve(86_412, 11, miss(None));
    let (rows, summary) = story.results();
    let sum = |of: fn(&CacheRow) -> &[u64]| {
        rows.iter().fold(vec![0; 6], |sums: Vec<u64>, row| {
            sums.iter().zip(of(row).iter().chain(&[0; 6])).map(|(sum, count)| sum + count).collect()
        })
    };
    assert_eq!(sum(|row| &row.hits_by_age), [2, 2, 2, 2, 2, 1]);
    assert_eq!(sum(|row| &row.hits_by_skipped_steps), [3, 8, 0, 0, 0, 0]);
    assert_eq!(rows.iter().map(|row| row.searches).sum::<u64>(), 12);
    assert_eq!(rows.iter().map(|row| row.misses).sum::<u64>(), 1);
    let total = ages.iter().sum::<u64>() + 1;
    assert!((summary.mean_hit_age_s.expect("there are hits") - total as f64 / 11.0).abs() < 1e-6);
}

#[test]
fn rows_are_in_the_order_of_requests_in_whichever_they_end() {
    for ends in [[2, 0, 3, 1], [3, 2, 1, 0], [0, 1, 2, 3], [7, 2, 9, 0]] {
        let mut story = story();
        for row in (0..10).filter(|row| ends.contains(row)) {
            story.arrive(1, row);
        }
        for row in ends {
            story.finish(2, row);
        }
        let mut expected = ends.map(RequestId);
        expected.sort_unstable();
        let results = story.fold.finish_run();
        assert!(results.requests.iter().map(|row| row.id).eq(expected));
        assert!(results.ends.iter().map(|end| end.id).eq(expected));
    }
}

/// Returns the rows that are handed out while these requests end in this order, and the rows handed out at the end of
/// the run.
fn handed_out(ends: &[u32]) -> [Vec<u32>; 2] {
    let rows = RefCell::new(Vec::new());
    let each = |row: RequestRow| rows.borrow_mut().push(row.id.0);
    let mut fold = RowsInOrder::new(QualitySettings::default(), Denoising::alike(1, 50), each);
    for row in ends {
        let request = Request::new(RequestId(*row), second(0), TenantId(0));
        let ended = Ended::unrouted(&request, Outcome::Cancelled);
        fold.record(second(1), Record::Action(&Action::Finish(Box::new(ended))));
    }
    let soon = rows.take();
    fold.finish();
    [soon, rows.take()]
}

#[test]
fn rows_are_handed_out_as_soon_as_all_before_them_have_ended() {
    assert_eq!(handed_out(&[0, 1, 2]), [vec![0, 1, 2], vec![]]);
    assert_eq!(handed_out(&[2, 0, 3, 1]), [vec![0, 1, 2, 3], vec![]]);
    // The request of row 2 never arrives.
    assert_eq!(handed_out(&[3, 1, 0, 4]), [vec![0, 1], vec![3, 4]]);
}

#[test]
fn a_near_miss_is_just_below_the_lowest_bound() {
    let mut story = story();
    // Below the range of near misses; at its edge; just below the bound; at the bound, which misses if bounds are
    // strict; above the bound, as for a missing state. A miss without a similarity follows.
    let similarities = [0.239, 0.25 - 0.01, 0.249, 0.25, 0.251].map(Some);
    for (row, similarity) in (0..).zip(similarities.into_iter().chain([None])) {
        story.serve(u64::from(row), row, miss(similarity));
    }
    let (rows, summary) = story.results();
    assert_eq!((rows.len(), rows[0].misses, rows[0].near_misses), (1, 6, 3));
    assert_eq!((summary.near_misses, summary.mean_hit_age_s, summary.false_hits), (3, None, None));
}

#[test]
fn a_request_routed_again_counts_as_it_was_routed_first() {
    let mut story = story();
    story.keep(0, -1, None);
    story.arrive(10, 0);
    story.route(10, 0, hit(-1, 5));
    story.leave(20, -1, Cause::Unreadable);
    story.route(20, 0, miss(None));
    story.finish(30, 0);
    let (rows, _) = story.results();
    assert_eq!((rows[0].searches, rows[0].misses, rows[0].hits_by_skipped_steps[0]), (1, 0, 1));
}

#[test]
fn requests_of_the_warm_up_are_in_the_rows_alone() {
    let mut story = Story::new(Some(criteria()), second(100), false);
    story.keep(0, -1, None);
    story.serve(50, 0, hit(-1, 5));
    story.serve(51, 1, miss(Some(0.245)));
    story.serve(150, 2, hit(-1, 5));
    story.serve(151, 3, miss(Some(0.245)));
    let (rows, summary) = story.results();
    assert_eq!(rows.iter().map(|row| row.near_misses).sum::<u64>(), 2);
    assert_eq!((summary.inserts, summary.near_misses, summary.mean_hit_age_s), (1, 1, Some(150.0)));
}

#[test]
fn what_happens_after_the_last_request_is_left_out() {
    let mut story = story();
    story.serve(10, 0, miss(None));
    story.keep(20, 0, Some(1));
    story.serve(30, 1, miss(None));
    story.keep(40, 1, Some(1));
    story.leave(50, 0, Cause::Evicted);
    story.event(1_000, &Event::WorkerDown(WorkerId(0)));
    story.keep(1_000, 2, Some(1));
    let (rows, summary) = story.results();
    assert_eq!((rows.len(), rows[0].inserts, rows[0].evictions, rows[0].entries), (1, 1, 0, 1));
    assert_eq!((summary.inserts, summary.entries_at_end, summary.bytes_at_end), (1, 1, Some(1)));
}

#[test]
fn false_hits_count_where_they_were_routed() {
    let mut story = Story::new(Some(criteria()), second(60), true);
    story.keep(0, -1, None);
    // The misses' mean similarity is 0.8, so that a hit is false below 0.95 x 0.8 = 0.76.
    let served = [
        (10, hit(-1, 5), Some(0.5)),
        (70, miss(None), Some(0.9)),
        (71, miss(None), Some(0.7)),
        (130, hit(-1, 5), Some(0.75)),
        (131, hit(-1, 25), Some(0.77)),
        (132, hit(-1, 25), None),
        (200, miss(None), None),
    ];
    for (row, (at, decision, similarity)) in (0..).zip(served) {
        story.serve(at, row, decision);
        if let Some(similarity) = similarity {
            story.measure(at, row, similarity);
        }
    }
    let (rows, summary) = story.results();
    let false_hits: Vec<Option<u64>> = rows.iter().map(|row| row.false_hits).collect();
    assert_eq!(false_hits, [Some(1), Some(0), Some(1), Some(0)]);
    assert_eq!(summary.false_hits, Some(1), "one of the two is of the warm-up");
}

#[test]
fn false_hits_are_unknown_where_no_hit_was_measured() {
    let mut story = Story::new(Some(criteria()), Time::ZERO, true);
    story.keep(0, -1, None);
    story.serve(10, 0, miss(None));
    story.measure(10, 0, 0.9);
    story.serve(20, 1, Decision { kind: DecisionKind::Return, ..hit(-1, 25) });
    let (rows, summary) = story.results();
    assert_eq!((rows[0].false_hits, summary.false_hits), (None, None));
}
