//! Faults of requests and faults of workers, told apart: bad requests among good ones never cost a worker, a worker
//! that cannot draw comes back for ever and is given no request until it can, a thread that is stuck is left. Painters
//! and the encoder are made up; threads, store, loop and core are the real ones. `tests/serve/serve_faults.rs` has the
//! processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use modm::embedding::Embedding;
use modm::journal::{Line, What};
use modm::live::embedder::{Embed, EmbedError};
use modm::live::executor::{KnownRequests, Live, LiveError, Paced, Setting};
use modm::live::isolated::Reported;
use modm::live::limits::{LimitSettings, Limits};
use modm::live::picture::Picture;
use modm::live::settings::ImageFormat;
use modm::live::store::{RealDisk, Store};
use modm::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use modm::model::ModelId;
use modm::replay::{Executor, RunError, replay};
use modm::request::{Outcome, RequestId};
use modm::scenario::{Inputs, Scenario, Source, TraceInputs, arrivals, initial_allocation};
use modm::scheduler::{Action, Event, LossCause, WorkerId};
use modm::time::Time;

use crate::program::pause;

const POISON: &str = "poison";

struct Encoder;

impl Embed for Encoder {
    fn prompt(&mut self, _: &str) -> Result<Embedding, EmbedError> {
        Ok(Embedding::normalised(&[1.0, 0.0]).unwrap())
    }

    fn picture(&mut self, _: &Picture) -> Result<Embedding, EmbedError> {
        Ok(Embedding::normalised(&[0.0, 1.0]).unwrap())
    }
}

/// Draws a pixel in three milliseconds, fails at poison; does what it is told to besides.
#[derive(Clone)]
struct Painter {
    worker: WorkerId,
    /// Lives of this worker so far, this one included.
    life: u32,
    /// Lives of worker 0 in which nothing can be drawn, after its first job.
    broken_lives: u32,
    /// True if a step of poison does not return.
    hangs: bool,
    drawn: u32,
    probes: Arc<AtomicU32>,
}

fn failure(words: &str) -> DrawError {
    DrawError::Failed(Reported::new(words).into())
}

impl Paint for Painter {
    fn load(&mut self, _: ModelId) -> Result<(), LoadError> {
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        let probe = task.work.total_steps == 1;
        self.probes.fetch_add(u32::from(probe), Ordering::Relaxed);
        let starts_well = self.life == 1 && self.drawn == 0;
        if self.worker == WorkerId(0) && self.life <= self.broken_lives && !starts_well {
            return Err(failure("the device is broken"));
        }
        for _ in 0..task.work.total_steps {
            if !keep_going() {
                return Err(DrawError::Cancelled);
            }
            if task.prompt == POISON && self.hangs {
                pause(60_000);
            }
            if task.prompt == POISON {
                return Err(failure("index out of range"));
            }
            pause(1);
        }
        self.drawn += 1;
        Ok(Picture::new(1, 1, vec![0; 3]).into())
    }
}

fn scenario(requests: usize) -> (Scenario, Inputs) {
    let text = format!(
        r#"
        name = "faults"
        [trace.synthetic]
        requests = {requests}
        arrivals = {{ process = "poisson", rate_per_min = 12000 }}
        [cluster]
        gpus = [{{ type = "cpu", count = 2 }}]
        [models]
        profile = "profile.toml"
        steps = 3
        [system]
        policy = "vanilla"
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    let row =
        "source = \"test\"\n[[service]]\ngpu = \"cpu\"\nmodel = \"sd3.5-large\"\nstep_s = 0.001\nload_s = 0.001\n";
    let small = row.replace("source = \"test\"\n", "").replace("sd3.5-large", "sdxl");
    std::fs::write(folder.path().join("profile.toml"), format!("{row}{small}")).unwrap();
    let source = Source::new(&file, text).unwrap();
    let scenario = source.scenario(&[]).unwrap();
    let trace = TraceInputs::load(&scenario, &file, false).unwrap();
    let inputs = Inputs::new(&scenario, &file, Arc::new(trace)).unwrap();
    (scenario, inputs)
}

/// Files that a run left.
struct Run {
    lines: Vec<Line>,
    ended: Result<(), RunError<LiveError>>,
    probes: u32,
}

/// Runs so many requests, those of which `poison` says so being bad.
fn run(requests: usize, poison: impl Fn(usize) -> bool, broken_lives: u32, hangs: bool) -> Run {
    let (scenario, inputs) = scenario(requests);
    let trace = &inputs.trace.trace;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), ImageFormat::Png, "test", RealDisk).unwrap().store;
    let results = folder.path().to_owned();
    let book = KnownRequests {
        prompts: (0..requests).map(|row| if poison(row) { POISON } else { "a circle" }.into()).collect(),
        tenants: None,
        details: Vec::new(),
        seed: 1,
        result: Box::new(move |request| results.join(format!("{request}.png"))),
    };
    let (probes, lives) = (Arc::new(AtomicU32::new(0)), Mutex::new(BTreeMap::new()));
    let counted = probes.clone();
    let limits = LimitSettings { step_s: 0.6, disk_s: 0.6, ..LimitSettings::default() };
    let setting = Setting {
        book: Box::new(book),
        models: scenario.model_names(),
        checkpoints: Vec::new(),
        size: [32, 32],
        paint: Box::new(move |worker| {
            let mut lives = lives.lock().unwrap();
            let life = lives.entry(worker).or_insert(0);
            *life += 1;
            Box::new(Painter { worker, life: *life, broken_lives, hangs, drawn: 0, probes: counted.clone() })
        }),
        stepped: None,
        warn: Box::new(|_| {}),
        away: Duration::from_millis(1),
        limits: Limits::unmeasured(&limits, 2, scenario.model_names().len()),
        elsewhere: None,
        isolated: false,
    };
    let mut live = Live::start(setting, store, &initial_allocation(&scenario).targets, Box::new(Encoder)).unwrap();
    let mut lines = Vec::<Line>::new();
    let mut actions = Vec::new();
    let mut core = scenario.live_core(&inputs, Vec::new(), &mut actions);
    for action in actions {
        live.submit(Time::ZERO, &action).unwrap();
    }
    let mut inbox = Paced::new(arrivals(trace), live.intake().ended);
    let ended = replay(&mut core, &mut live, &mut inbox, &mut lines);
    let (failures, _) = live.finish();
    assert!(failures.is_empty() || ended.is_err(), "{failures:?}");
    Run { lines, ended, probes: probes.load(Ordering::Relaxed) }
}

impl Run {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.lines.iter().filter_map(|line| match &line.what {
            What::Event(event) => Some(event),
            What::Action(_) => None,
        })
    }

    /// Seconds from arrival to end of each request, and how it ended.
    fn ends(&self) -> BTreeMap<RequestId, (f64, Outcome)> {
        let mut arrived = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for line in &self.lines {
            match &line.what {
                What::Event(Event::Arrived(request)) => {
                    arrived.insert(request.id, request.arrival);
                }
                What::Action(Action::Finish(ended)) => {
                    ends.insert(ended.request, (line.time.since(ended.arrival).seconds(), ended.outcome.clone()));
                }
                _ => {}
            }
        }
        ends
    }

    fn median_s(&self, of: impl Fn(usize) -> bool) -> f64 {
        let ends = self.ends();
        let mut seconds: Vec<f64> =
            ends.iter().filter(|(id, _)| of(id.row())).map(|(_, (seconds, _))| *seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

#[test]
fn a_thousand_bad_requests_cost_no_worker_and_good_ones_are_served_as_usual() {
    let bad = |row: usize| row % 2 == 1;
    let usual = run(2000, |_| false, 0, false);
    let run = run(2000, bad, 0, false);
    run.ended.as_ref().unwrap();
    let ends = run.ends();
    assert_eq!(ends.len(), 2000);
    for (id, (_, outcome)) in &ends {
        let expected = if bad(id.row()) { Outcome::Failed("index out of range".into()) } else { Outcome::Completed };
        assert_eq!(*outcome, expected, "{id}");
    }
    let failed = run.events().filter(|event| matches!(event, Event::JobFailed { .. })).count();
    assert_eq!(failed, 3 * 1000, "each is tried three times");
    assert!(!run.events().any(|event| matches!(event, Event::WorkerLost { .. } | Event::LoadFailed { .. })));
    assert!((1..=600).contains(&run.probes), "{} probes for 3,000 failures", run.probes);
    let (usual_s, with_s) = (usual.median_s(|row| !bad(row)), run.median_s(|row| !bad(row)));
    println!("good requests, median: {usual_s:.4} s without bad ones, {with_s:.4} s among them; {} probes", run.probes);
    assert!(with_s <= 2.0 * usual_s, "{with_s} s in place of {usual_s} s");
}

#[test]
fn a_worker_that_cannot_draw_comes_back_for_ever_and_wastes_one_attempt() {
    // More lives than a worker once had before it was given up.
    let run = run(800, |_| false, 9, false);
    run.ended.as_ref().unwrap();
    assert!(run.ends().values().all(|(_, outcome)| *outcome == Outcome::Completed));
    let lost: Vec<_> = run.events().filter(|event| matches!(event, Event::WorkerLost { .. })).collect();
    assert!(
        matches!(lost[..], [Event::WorkerLost { worker: WorkerId(0), cause: LossCause::FailedProbe, .. }]),
        "it is lost with one job, and has no other until it can draw: {lost:?}"
    );
    let failed_loads = run.events().filter(|event| matches!(event, Event::LoadFailed { loaded: None, .. })).count();
    assert!(failed_loads >= 1, "it is tried");
    let ups = run.events().filter(|event| matches!(event, Event::WorkerUp(WorkerId(0)))).count();
    assert!(ups > failed_loads, "and tried again");
}

#[test]
fn threads_that_are_stuck_are_left_and_without_any_the_run_ends() {
    let one = run(300, |row| row == 5, 0, true);
    // It is tried three times, and there are two workers: the second takes the run with it.
    assert!(
        matches!(one.ended, Err(RunError::Executor(LiveError::NoWorker))),
        "{:?}",
        one.ended.map_err(|e| e.to_string())
    );
    let lost: Vec<_> = one.events().filter(|event| matches!(event, Event::WorkerLost { .. })).collect();
    assert!(matches!(lost[..], [Event::WorkerLost { cause: LossCause::Hung, .. }, _]), "{lost:?}");
    let completed = one.ends().values().filter(|(_, outcome)| *outcome == Outcome::Completed).count();
    assert!(completed > 5, "the other worker goes on meanwhile: {completed}");
}
