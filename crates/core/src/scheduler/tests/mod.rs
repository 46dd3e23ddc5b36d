//! Tests of the core, event by event, for cases that are rare in a run. Random runs are in `tests/invariants.rs`.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::allocation::{Allocation, Decided, Situation, StaticSplit};
use super::routing::{Load, Route, Storage, System};
use super::*;
use crate::cache::{CacheSettings, Candidate, Cause, Scope, Shelf, Tenancy};
use crate::image::ImageId;
use crate::model::{ModelId, Work};
use crate::request::{Ask, Outcome, Rejection, Request, Reuse, TenantId};

mod loads;

const LARGE: ModelId = ModelId(0);
const MEDIUM: ModelId = ModelId(1);
const SMALL: ModelId = ModelId(2);

/// Allocation policy that follows a script: the targets after each tick, `None` for a tick without a decision.
#[derive(Debug)]
struct Script {
    initial: Vec<ModelId>,
    ticks: Vec<Option<Vec<ModelId>>>,
    next: u64,
}

impl AllocationPolicy for Script {
    fn initial(&self) -> Allocation {
        Allocation::new(self.initial.clone())
    }

    fn next_decision(&self) -> Option<Time> {
        Some(second(self.next))
    }

    fn decide(&mut self, _: Time, _: &Situation) -> Option<Decided> {
        let targets = self.ticks.get(self.next as usize / 100 - 1)?.clone();
        self.next += 100;
        let allocation = Allocation::new(targets?);
        Some(Decided { allocation, wanted_large: 0, controller_state: 0.0, overloaded: None })
    }
}

/// Core, and its actions at the latest event.
struct Bench {
    core: Scheduler,
    actions: Vec<Action>,
    now: u64,
}

fn second(second: u64) -> Time {
    Time::from_nanoseconds(second * 1_000_000_000)
}

fn axis(which: usize) -> Embedding {
    let mut row = [0.0; 4];
    row[which] = 1.0;
    Embedding::normalised(&row).expect("a good row")
}

fn image(row: u32) -> ImageId {
    ImageId::of_request(RequestId(row))
}

impl Bench {
    fn with(config: Config, routing: Box<dyn RoutingPolicy>, allocation: Box<dyn AllocationPolicy>) -> Self {
        let cache = ImageCache::new(CacheSettings { capacity: 2, ..CacheSettings::default() });
        let core = Scheduler::new(config, routing, Some(cache), allocation);
        Self { core, actions: Vec::new(), now: 0 }
    }

    /// Makes a core of `MoDM` with one warm image on axis 0, and with these models on the workers.
    fn new(initial: &[ModelId], ticks: Vec<Option<Vec<ModelId>>>) -> Self {
        let allocation = Script { initial: initial.to_vec(), ticks, next: 100 };
        let mut bench = Self::with(config(), System::Modm.build(&[(0.5, 10)], 20), Box::new(allocation));
        let warm = WarmImage { key: axis(0), owner: Owner::Public, bytes: None, ask: Ask::default() };
        bench.core.warm(core::iter::once(warm), &mut Vec::new());
        bench
    }

    #[expect(clippy::needless_pass_by_value, reason = "events are made where they are told")]
    fn tell(&mut self, event: Event) -> &[Action] {
        self.now += 1;
        self.actions.clear();
        self.core.handle(second(self.now), &event, &mut self.actions);
        &self.actions
    }

    fn arrive(&mut self, row: u32, tenant: u32) -> &[Action] {
        let arrival = second(self.now + 1);
        let deadline = Some(second(self.now + 50));
        self.tell(Event::Arrived(Request { deadline, ..Request::new(RequestId(row), arrival, TenantId(tenant)) }))
    }

    /// Sends a request and routes it. On axis 0 the request hits the warm image.
    fn ask(&mut self, row: u32, on: usize) -> &[Action] {
        self.arrive(row, 0);
        self.tell(Event::Encoded { request: RequestId(row), embedding: Some(axis(on)) })
    }

    /// Sends a request with a given use of the cache and routes it, as a background request or not.
    fn ask_with(&mut self, row: u32, on: usize, reuse: Reuse, background: bool) -> &[Action] {
        let arrival = second(self.now + 1);
        let request = Request { reuse, background, ..Request::new(RequestId(row), arrival, TenantId(0)) };
        self.tell(Event::Arrived(request));
        self.tell(Event::Encoded { request: RequestId(row), embedding: Some(axis(on)) })
    }

    fn complete(&mut self, worker: u16, job: u64, row: u32, on: usize) -> &[Action] {
        let outputs = SmallVec::from_buf([Output { embedding: Some(axis(on)), ..Output::new(RequestId(row)) }]);
        self.tell(Event::JobCompleted { worker: WorkerId(worker), job: JobId(job), outputs })
    }

    fn fail(&mut self, worker: u16, job: u64) -> &[Action] {
        self.tell(Event::JobFailed { worker: WorkerId(worker), job: JobId(job), reason: "broken".into() })
    }

    fn tick(&mut self) -> &[Action] {
        self.now = self.core.next_wakeup().expect("a scripted monitor").nanoseconds() / 1_000_000_000 - 1;
        self.tell(Event::WokeUp)
    }

    fn load_failed(&mut self, worker: u16, loaded: Option<ModelId>) -> &[Action] {
        self.tell(Event::LoadFailed { worker: WorkerId(worker), loaded, reason: "no such file".into() })
    }
}

fn config() -> Config {
    Config { max_attempts: 2, ..Config::paper(3, Hardware::unmeasured(8, 3), 20) }
}

fn start(job: u64, worker: u16, model: ModelId, row: u32, source: Option<ImageId>) -> Action {
    let work = Work::new(model, 20, if source.is_some() { 10 } else { 0 });
    let parts = SmallVec::from_buf([Part { request: RequestId(row), source }]);
    Action::Start { job: JobId(job), worker: WorkerId(worker), work, parts }
}

fn finish(row: u32, outcome: Outcome) -> Action {
    Action::Finish(Box::new(Ended::unrouted(&Request::new(RequestId(row), Time::ZERO, TenantId(0)), outcome)))
}

const fn load(worker: u16, from: Option<ModelId>, model: ModelId) -> Action {
    Action::Load { worker: WorkerId(worker), from, model }
}

/// Returns the actions without notes. Of a request that ended, only its number and its outcome are kept.
fn without_notes(actions: &[Action]) -> Vec<Action> {
    let told = actions.iter().filter(|action| !matches!(action, Action::Note(_)));
    told.map(|action| match action {
        Action::Finish(ended) => finish(ended.request.0, ended.outcome.clone()),
        other => other.clone(),
    })
    .collect()
}

#[test]
fn a_missing_source_makes_a_miss_at_its_old_place_and_is_not_found_again() {
    let mut bench = Bench::new(&[LARGE, SMALL], vec![]);
    assert_eq!(without_notes(bench.ask(0, 0)), [start(0, 1, SMALL, 0, Some(ImageId::warm(0)))]);
    bench.ask(1, 1); // runs on the large worker
    bench.ask(2, 1); // waits for the large worker
    let actions = bench.tell(Event::SourceMissing { worker: WorkerId(1), job: JobId(0) });
    assert_eq!(without_notes(actions), [Action::Release(ImageId::warm(0))]);
    let left = Note::Left { image: ImageId::warm(0), cause: Cause::Unreadable };
    assert_eq!(actions[0], Action::Note(left));
    let routed = &actions[2];
    assert!(matches!(routed, Action::Note(Note::Routed { decision, .. }) if decision.kind == DecisionKind::Miss));
    assert_eq!(bench.core.waiting(), (2, 0));
    let actions = without_notes(bench.complete(0, 1, 1, 1));
    assert_eq!(actions[2], start(2, 0, LARGE, 0, None), "before request 2, which was routed after it");
    bench.ask(3, 0);
    assert_eq!(bench.core.waiting(), (2, 0), "nothing is left to hit on this axis");
}

#[test]
fn a_missing_source_stays_for_others_that_chose_it_until_they_end() {
    let mut bench = Bench::new(&[SMALL, SMALL], vec![]);
    bench.ask(0, 0);
    bench.ask(1, 0);
    let actions = bench.tell(Event::SourceMissing { worker: WorkerId(0), job: JobId(0) });
    assert_eq!(without_notes(actions), [], "request 1 may have read it");
    let actions = without_notes(bench.complete(1, 1, 1, 0));
    assert_eq!(actions[..2], [finish(1, Outcome::Completed), Action::Release(ImageId::warm(0))]);
}

#[test]
fn a_job_without_a_source_cannot_miss_it_for_ever() {
    let mut bench = Bench::new(&[LARGE], vec![]);
    bench.ask(0, 1);
    let missing = |job| Event::SourceMissing { worker: WorkerId(0), job: JobId(job) };
    assert_eq!(without_notes(bench.tell(missing(0))), [start(1, 0, LARGE, 0, None)]);
    assert_eq!(without_notes(bench.tell(missing(1))), [finish(0, Outcome::Failed("source missing".into()))]);
}

#[test]
fn a_failed_job_is_tried_again_at_its_place_a_bounded_number_of_times() {
    let mut bench = Bench::new(&[LARGE], vec![]);
    bench.ask(0, 1);
    bench.ask(1, 1);
    assert_eq!(without_notes(bench.fail(0, 0)), [start(1, 0, LARGE, 0, None)]);
    assert_eq!(
        without_notes(bench.fail(0, 1)),
        [finish(0, Outcome::Failed("broken".into())), start(2, 0, LARGE, 1, None)]
    );
}

#[test]
fn what_a_lost_worker_ran_goes_back_and_its_late_answer_is_ignored() {
    let mut bench = Bench::new(&[LARGE, LARGE], vec![]);
    bench.ask(0, 1);
    bench.ask(1, 1);
    bench.ask(2, 1);
    assert_eq!(without_notes(bench.tell(Event::WorkerDown(WorkerId(0)))), []);
    assert_eq!(without_notes(bench.complete(0, 0, 0, 1)), [], "the answer of a lost job");
    let actions = without_notes(bench.complete(1, 1, 1, 1));
    assert_eq!(actions.last(), Some(&start(2, 1, LARGE, 0, None)), "before request 2");
    assert_eq!(without_notes(bench.complete(0, 2, 0, 1)), [], "not the worker that runs it");
    assert_eq!(bench.core.outstanding(), 2);
    let lost = bench.tell(Event::WorkerDown(WorkerId(1)));
    let [Action::Finish(ended)] = lost else { panic!("it ends: {lost:?}") };
    let decision = Decision { similarity: Some(0.0), ..Decision::new(DecisionKind::Miss) };
    let expected = Ended {
        outcome: Outcome::Failed("worker lost".into()),
        stage: Stage::Running,
        decision: Some(decision),
        attempts: 2,
        run: Some(Run { worker: WorkerId(1), model: LARGE, start: second(9), together: 1 }),
        earlier: vec![Span { start: second(2), end: second(7), together: 1 }],
        ..Ended::unrouted(
            &Request { deadline: Some(second(50)), ..Request::new(RequestId(0), second(1), TenantId(0)) },
            Outcome::Completed,
        )
    };
    assert_eq!(**ended, expected, "all that became of it");
}

#[test]
fn a_request_is_cancelled_in_every_phase() {
    let mut bench = Bench::new(&[LARGE, SMALL], vec![]);
    let cancel = |row| Event::Cancelled(RequestId(row));
    bench.arrive(0, 0);
    assert_eq!(without_notes(bench.tell(cancel(0))), [finish(0, Outcome::Cancelled)]);
    let late = Event::Encoded { request: RequestId(0), embedding: Some(axis(0)) };
    assert_eq!(without_notes(bench.tell(late)), [], "its embedding comes too late");
    bench.ask(1, 0);
    bench.ask(2, 0); // runs on the large worker, because no miss waits
    bench.ask(3, 0);
    assert_eq!(without_notes(bench.tell(cancel(3))), [finish(3, Outcome::Cancelled)]);
    assert_eq!(bench.core.waiting(), (0, 0));
    assert_eq!(without_notes(bench.tell(cancel(1))), [finish(1, Outcome::Cancelled), Action::CancelJob(JobId(0))]);
    assert_eq!(without_notes(bench.tell(cancel(1))), [], "it has ended");
    bench.ask(4, 0);
    assert_eq!(bench.core.waiting(), (0, 1), "its worker is not free before the job is answered");
    let actions = without_notes(bench.fail(1, 0));
    assert_eq!(actions, [start(2, 1, SMALL, 4, Some(ImageId::warm(0)))], "no retry, no second end");
}

#[test]
fn the_image_of_a_cancelled_request_is_not_kept() {
    let mut bench = Bench::new(&[LARGE], vec![]);
    bench.ask(0, 1);
    bench.tell(Event::Cancelled(RequestId(0)));
    assert_eq!(without_notes(bench.complete(0, 0, 0, 1)), []);
    assert!(!bench.core.cache().is_some_and(|cache| cache.readable(image(0))));
}

#[test]
fn draining_refuses_what_comes_and_finishes_what_is_in() {
    let mut bench = Bench::new(&[LARGE], vec![]);
    bench.ask(0, 1);
    bench.arrive(1, 0);
    bench.tell(Event::Drain);
    assert_eq!(without_notes(bench.arrive(2, 0)), [finish(2, Outcome::Rejected(Rejection::Draining))]);
    bench.tell(Event::Encoded { request: RequestId(1), embedding: Some(axis(1)) });
    assert_eq!(without_notes(bench.complete(0, 0, 0, 1))[0], finish(0, Outcome::Completed));
    assert_eq!(bench.core.outstanding(), 1);
    assert_eq!(without_notes(bench.complete(0, 1, 1, 1))[0], finish(1, Outcome::Completed));
    assert_eq!(bench.core.outstanding(), 0);
}

#[test]
fn every_model_but_the_first_serves_hits_and_only_the_first_serves_misses() {
    let mut bench = Bench::new(&[SMALL, MEDIUM, LARGE], vec![]);
    let warm = Some(ImageId::warm(0));
    assert_eq!(without_notes(bench.ask(0, 0)), [start(0, 0, SMALL, 0, warm)]);
    assert_eq!(without_notes(bench.ask(1, 0)), [start(1, 1, MEDIUM, 1, warm)]);
    assert_eq!(without_notes(bench.ask(2, 1)), [start(2, 2, LARGE, 2, None)]);
    bench.ask(3, 1);
    bench.ask(4, 0);
    assert_eq!(bench.core.waiting(), (1, 1));
    assert_eq!(without_notes(bench.complete(1, 1, 1, 0)).last(), Some(&start(3, 1, MEDIUM, 4, warm)));
}

#[test]
fn tenants_find_what_their_scope_says() {
    let public = || [TenantId(3)].into_iter().collect();
    // Tenant 1 asks first. Then tenants 2, 1 and 3 (the public tenant) and again 2 ask for the same.
    for (scope, expected) in [
        (Scope::Shared, [Some(0), Some(0), Some(0), Some(0)]),
        (Scope::Tenant, [None, Some(0), None, Some(1)]),
        (Scope::TenantThenPublic, [None, Some(0), None, Some(1)]),
    ] {
        let targets = vec![LARGE; 8];
        let allocation = Allocation::new(targets);
        let tenancy = Tenancy { scope, public: public(), ..Tenancy::default() };
        let settings = CacheSettings { capacity: 8, tenancy, ..CacheSettings::default() };
        let routing = System::Modm.build(&[(0.5, 10)], 20);
        let cache = Some(ImageCache::new(settings));
        let core = Scheduler::new(config(), routing, cache, Box::new(StaticSplit::new(allocation)));
        let mut bench = Bench { core, actions: Vec::new(), now: 0 };
        let ask = |bench: &mut Bench, row: u32, tenant, on| {
            bench.arrive(row, tenant);
            let event = Event::Encoded { request: RequestId(row), embedding: Some(axis(on)) };
            let source = match bench.tell(event)[0] {
                Action::Note(Note::Routed { decision, .. }) => decision.source,
                _ => panic!("a request is routed at once"),
            };
            bench.complete(0, u64::from(row), row, on);
            source
        };
        assert_eq!(ask(&mut bench, 0, 1, 0), None);
        for (row, (tenant, source)) in (1..).zip([2, 1, 3, 2].into_iter().zip(expected)) {
            assert_eq!(ask(&mut bench, row, tenant, 0), source.map(image), "{scope:?}: tenant {tenant}");
        }
        ask(&mut bench, 5, 3, 1);
        let of_public = if scope == Scope::Tenant { None } else { Some(image(5)) };
        assert_eq!(ask(&mut bench, 6, 1, 1), of_public, "{scope:?}");
    }
}

/// Routing policy that records the requests it is given.
#[derive(Clone, Debug)]
struct Watch(Arc<Mutex<Vec<Request>>>);

impl RoutingPolicy for Watch {
    fn storage(&self) -> Storage {
        Storage::ByImage
    }

    fn route(&mut self, request: &Request, nearest: Option<Candidate<'_>>, _: &Load) -> Route {
        self.0.lock().expect("one thread").push(*request);
        if request.id.0 == 1 {
            Route::Reject(Rejection::Routing("not today".into()))
        } else {
            Route::Queue(Decision::miss(nearest))
        }
    }
}

#[test]
fn a_policy_sees_deadlines_and_tenants_and_may_reject() {
    let seen = Watch(Arc::default());
    let allocation = Allocation::split(1, 1, SMALL);
    let mut bench = Bench::with(config(), Box::new(seen.clone()), Box::new(StaticSplit::new(allocation)));
    bench.arrive(0, 7);
    bench.tell(Event::Encoded { request: RequestId(0), embedding: Some(axis(1)) });
    assert_eq!(without_notes(bench.ask(1, 1)), [finish(1, Outcome::Rejected(Rejection::Routing("not today".into())))]);
    let first = seen.0.lock().expect("one thread")[0];
    assert_eq!((first.tenant, first.deadline), (TenantId(7), Some(second(50))));
    assert_eq!(first.arrival, second(1));
}

#[test]
fn a_job_of_several_requests_takes_its_outputs_in_any_order() {
    let mut bench = Bench::new(&[LARGE], vec![]);
    bench.ask(0, 1);
    bench.ask(1, 1);
    // The profile has no batches, so the second request is added to the job of the first by hand.
    let waits = bench.core.queue.take_first(0, true).expect("it waits");
    let pending = bench.core.requests.get_mut(waits.request).expect("it has not ended");
    pending.start(second(bench.now), WorkerId(0), LARGE, 2);
    let requests = SmallVec::from_slice(&[RequestId(0), RequestId(1)]);
    let running = cluster::Activity::Running { job: JobId(0), requests };
    bench.core.cluster.update(WorkerId(0), |worker| worker.activity = running);
    let output = |row, on| Output { embedding: Some(axis(on)), ..Output::new(RequestId(row)) };
    let outputs = SmallVec::from_vec(vec![output(1, 2), output(0, 3)]);
    bench.tell(Event::JobCompleted { worker: WorkerId(0), job: JobId(0), outputs });
    let cache = bench.core.cache().expect("MoDM keeps images");
    for (row, on) in [(0, 3), (1, 2)] {
        let embedding = axis(on);
        let query = crate::cache::index::Query { request: None, embedding: &embedding, without: &[] };
        assert_eq!(cache.nearest(Shelf::default(), &query).map(|found| found.image), Some(image(row)));
    }
}

#[test]
fn a_request_may_refuse_to_hit_and_to_be_kept() {
    let mut bench = Bench::new(&[LARGE, SMALL], vec![]);
    let no_hit = Reuse { look_up: false, keep: true };
    assert_eq!(without_notes(bench.ask_with(0, 0, no_hit, false)), [start(0, 0, LARGE, 0, None)]);
    let kept = Action::Keep { image: ImageId::of_request(RequestId(0)), bytes: None };
    assert_eq!(without_notes(bench.complete(0, 0, 0, 0)), [finish(0, Outcome::Completed), kept]);
    let no_keep = Reuse { look_up: true, keep: false };
    assert_eq!(without_notes(bench.ask_with(1, 0, no_keep, false)), [start(1, 1, SMALL, 1, Some(ImageId::warm(0)))]);
    assert_eq!(without_notes(bench.complete(1, 1, 1, 0)), [finish(1, Outcome::Completed)]);
    assert_eq!(without_notes(bench.ask_with(2, 3, Reuse::NONE, false)), [start(2, 0, LARGE, 2, None)]);
    assert_eq!(without_notes(bench.complete(0, 2, 2, 3)), [finish(2, Outcome::Completed)]);
    assert_eq!(without_notes(bench.ask(3, 3)), [start(3, 0, LARGE, 3, None)], "nothing of the last one is found");
}

#[test]
fn a_background_request_waits_for_everything_and_is_in_nobody_s_way() {
    let mut bench = Bench::new(&[LARGE], vec![]);
    assert_eq!(without_notes(bench.ask(0, 1)), [start(0, 0, LARGE, 0, None)]);
    assert!(without_notes(bench.ask_with(1, 1, Reuse::NONE, true)).is_empty());
    assert_eq!(bench.core.waiting(), (0, 0));
    assert!(without_notes(bench.ask(2, 2)).is_empty());
    let then = without_notes(bench.complete(0, 0, 0, 1));
    assert_eq!(then.last(), Some(&start(1, 0, LARGE, 2, None)), "who came later goes first");
    let then = without_notes(bench.complete(0, 1, 2, 2));
    assert_eq!(then.last(), Some(&start(2, 0, LARGE, 1, None)));
    assert_eq!(
        without_notes(bench.ask(3, 3)),
        [finish(1, Outcome::Cancelled), Action::CancelJob(JobId(2))],
        "it is called off as soon as somebody waits"
    );
    assert_eq!(without_notes(bench.fail(0, 2)), [start(3, 0, LARGE, 3, None)]);
    assert!(without_notes(bench.ask_with(4, 1, Reuse::NONE, true)).is_empty());
    assert_eq!(without_notes(bench.tell(Event::Drain)), [finish(4, Outcome::Cancelled)]);
    assert_eq!(bench.core.outstanding(), 1);
}

#[test]
fn a_background_request_waits_for_the_best_model() {
    let mut bench = Bench::new(&[LARGE, SMALL], vec![]);
    assert_eq!(without_notes(bench.ask(0, 1)), [start(0, 0, LARGE, 0, None)]);
    let hit = without_notes(bench.ask_with(1, 0, Reuse { look_up: true, keep: false }, true));
    assert!(hit.is_empty(), "it waits for the best model: {hit:?}");
    let then = without_notes(bench.complete(0, 0, 0, 1));
    assert_eq!(then.last(), Some(&start(1, 0, LARGE, 1, Some(ImageId::warm(0)))));
}

#[test]
fn what_is_withdrawn_is_found_no_more_and_what_comes_of_it_is_kept_or_not() {
    for refined in [false, true] {
        let mut bench = Bench::new(&[LARGE, SMALL], vec![]);
        let warm = ImageId::warm(0);
        assert_eq!(without_notes(bench.ask(0, 0)), [start(0, 1, SMALL, 0, Some(warm))]);
        let left = Action::Note(Note::Left { image: warm, cause: Cause::Withdrawn });
        assert_eq!(bench.tell(Event::Withdrawn { images: vec![warm], refined }), [left], "it is still read");
        assert_eq!(without_notes(bench.ask(1, 0)), [start(1, 0, LARGE, 1, None)], "and not found");
        let mut then = vec![finish(0, Outcome::Completed), Action::Release(warm)];
        let kept = Action::Keep { image: ImageId::of_request(RequestId(0)), bytes: None };
        then.extend((!refined).then_some(kept));
        assert_eq!(without_notes(bench.complete(1, 0, 0, 0)), then);
    }
}
