//! Live runs in which everything fails that can: jobs, loads, whole threads, pictures that cannot be read, a
//! disk that is full. Every request ends once, the journal fed into a fresh core gives the same actions, and
//! the store opens clean. Painters and encoders are made up; threads, store and loop are the real ones.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use modm::draw::{Purpose, stream};
use modm::embedding::{Embedding, EmbeddingMatrix};
use modm::image::ImageId;
use modm::journal::{Journal, Line, Record as Told, What};
use modm::live::embedder::{Embed, EmbedError};
use modm::live::executor::{KnownRequests, Live, Paced, Setting};
use modm::live::isolated::Reported;
use modm::live::limits::{LimitSettings, Limits};
use modm::live::picture::Picture;
use modm::live::settings::ImageFormat;
use modm::live::store::{Disk, FoundEntry, Opened, RealDisk, Store};
use modm::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use modm::metrics::quality::QualitySettings;
use modm::metrics::{Keep, Metrics, RequestRow, Results, Settings};
use modm::model::ModelId;
use modm::replay::{Executor, Known, replay};
use modm::request::{Ask, Outcome, Owner};
use modm::scenario::{Inputs, Scenario, Source, TraceInputs, arrivals, initial_allocation};
use modm::scheduler::{Action, Event, Scheduler, WarmImage};
use modm::sim::Measured;
use modm::time::{Duration as Length, Time};
use modm::trace::Embeddings;

use crate::program::pause;
use rand::RngExt;

const REQUESTS: usize = 80;
const TOPICS: u8 = 6;

/// Probability of each failure, in percent, and the number of files that the disk has room for.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    seed: u64,
    panics: u32,
    failures: u32,
    bad_loads: u32,
    bad_files: u32,
    room: u32,
    /// Requests at the end of the trace that nobody knows a prompt of.
    unknown: usize,
}

const NONE: Trouble =
    Trouble { seed: 0, panics: 0, failures: 0, bad_loads: 0, bad_files: 0, room: u32::MAX, unknown: 0 };

fn topic(prompt: &str) -> u8 {
    prompt.bytes().fold(0, u8::wrapping_add) % TOPICS
}

/// Owner of a row.
fn tenant(row: usize) -> String {
    format!("tenant {}", row % 2)
}

/// Nearly the axis of a topic.
fn key(topic: u8, turn: f32) -> Embedding {
    let mut row = [turn; TOPICS as usize];
    row[usize::from(topic)] = 1.0;
    Embedding::normalised(&row).unwrap()
}

struct Encoder;

impl Embed for Encoder {
    fn prompt(&mut self, prompt: &str) -> Result<Embedding, EmbedError> {
        Ok(key(topic(prompt), 0.01))
    }

    fn picture(&mut self, picture: &Picture) -> Result<Embedding, EmbedError> {
        Ok(key(picture.bytes()[0], 0.02))
    }
}

/// Draws the topic's number, or does not.
struct Painter {
    trouble: Trouble,
    draws: rand_chacha::ChaCha8Rng,
    held: Option<ModelId>,
}

impl Painter {
    fn happens(&mut self, percent: u32) -> bool {
        self.draws.random_range(0..100) < percent
    }
}

impl Paint for Painter {
    fn load(&mut self, model: ModelId) -> Result<(), LoadError> {
        let first = self.held.take().is_none();
        pause(1);
        if !first && self.happens(self.trouble.bad_loads) {
            return Err(LoadError::Failed(Reported::new("the model does not fit").into()));
        }
        self.held = Some(model);
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        assert_eq!(self.held, Some(task.work.model), "the model of the job is loaded");
        assert_eq!(task.source.is_some(), task.work.skipped_steps > 0, "steps are skipped from a source");
        for _ in 0..3 {
            if !keep_going() {
                return Err(DrawError::Cancelled);
            }
            pause(1);
        }
        assert!(!self.happens(self.trouble.panics), "killed by the test");
        if self.happens(self.trouble.failures) {
            return Err(DrawError::Failed(Reported::new("out of memory").into()));
        }
        Ok(Picture::new(1, 1, vec![topic(task.prompt); 3]).into())
    }
}

/// A disk that is full after so many files, and spoils some of those it has room for.
struct BadDisk {
    trouble: Trouble,
    written: AtomicU32,
}

impl Disk for BadDisk {
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        if count >= self.trouble.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let spoilt =
            stream(self.trouble.seed, Purpose::Test, u64::from(count)).random_range(0..100) < self.trouble.bad_files;
        let whole = file.extension().is_some_and(|extension| extension == "json");
        RealDisk.write(file, if spoilt && !whole { &bytes[..bytes.len() / 2] } else { bytes })
    }
}

fn scenario(workers: usize) -> (Scenario, Inputs) {
    let text = format!(
        r#"
        name = "live"
        [trace.synthetic]
        requests = {REQUESTS}
        arrivals = {{ process = "poisson", rate_per_min = 12000 }}
        [cluster]
        gpus = [{{ type = "cpu", count = {workers} }}]
        [models]
        profile = "profile.toml"
        steps = 3
        [system]
        bounds = [[0.5, 1]]
        [cache]
        capacity = 12
        [allocation]
        period_s = 0.05
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    // Said to be slower than it is, so that the monitor has reason to switch models.
    let row = |(model, step_s)| {
        format!("[[service]]\ngpu = \"cpu\"\nmodel = \"{model}\"\nstep_s = {step_s}\nload_s = 0.001\n")
    };
    let rows = [("sd3.5-large", 0.01), ("sdxl", 0.001)].map(row);
    std::fs::write(folder.path().join("profile.toml"), format!("source = \"test\"\n{}", rows.concat())).unwrap();
    let source = Source::new(&file, text).unwrap();
    let scenario = source.scenario(&[]).unwrap();
    let trace = TraceInputs::load(&scenario, &file, false).unwrap();
    let inputs = Inputs::new(&scenario, &file, Arc::new(trace)).unwrap();
    (scenario, inputs)
}

fn metrics(scenario: &Scenario, inputs: &Inputs) -> Metrics {
    Metrics::new(Settings {
        models: scenario.model_names(),
        serving: scenario.serving(),
        denoising: scenario.denoising(),
        requests_differ: inputs.trace.trace.differs(),
        gpus: scenario.gpus(),
        usd_per_hour: scenario.usd_per_hour(),
        initial: initial_allocation(scenario).targets,
        profile: inputs.profile.clone(),
        quality: QualitySettings::default(),
        most_together: 1,
        assumed_quality: Vec::new(),
        slo_multiples: vec![2.0],
        warmup: Time::ZERO,
        window: Length::from_nanoseconds(1_000_000_000),
        cache: None,
        keep: Keep::Rows,
        real_time: true,
        network: None,
    })
}

/// Remains of a run: journal, results, the keys it began with.
struct Run {
    lines: Vec<Line>,
    results: Results,
    warm: Vec<WarmImage>,
    warnings: usize,
}

fn run(store_folder: &Path, trouble: Trouble, workers: usize) -> Run {
    let (scenario, inputs) = scenario(workers);
    let trace = &inputs.trace.trace;
    let disk = BadDisk { trouble, written: AtomicU32::new(0) };
    let Opened { store, found, .. } = Store::open(store_folder, ImageFormat::Png, "test", disk).unwrap();
    for (row, entry) in (0..).zip(&found) {
        store.adopt(ImageId::warm(row), entry);
    }
    let public =
        |entry: FoundEntry| WarmImage { key: entry.key, owner: Owner::Public, bytes: None, ask: Ask::default() };
    let warm: Vec<WarmImage> = found.into_iter().map(public).collect();
    let (warnings, lives, results) = (Arc::new(AtomicU32::new(0)), Mutex::new(0), store_folder.join("results"));
    std::fs::create_dir_all(&results).unwrap();
    let told = warnings.clone();
    let book = KnownRequests {
        prompts: (0..trace.len() - trouble.unknown).map(|row| trace.prompt(row).unwrap().into()).collect(),
        tenants: Some((0..trace.len()).map(tenant).collect()),
        details: Vec::new(),
        seed: 1,
        result: Box::new(move |request| results.join(format!("{request}.png"))),
    };
    let setting = Setting {
        book: Box::new(book),
        models: scenario.model_names(),
        checkpoints: Vec::new(),
        size: [32, 32],
        stepped: None,
        paint: Box::new(move |_| {
            let mut lives = lives.lock().unwrap();
            *lives += 1;
            Box::new(Painter { trouble, draws: stream(trouble.seed, Purpose::Test, 1000 + *lives), held: None })
        }),
        warn: Box::new(move |_| {
            told.fetch_add(1, Ordering::Relaxed);
        }),
        away: Duration::from_millis(5),
        limits: Limits::unmeasured(&LimitSettings::default(), workers, scenario.model_names().len()),
        elsewhere: None,
        isolated: false,
    };
    let mut live = Live::start(setting, store, &initial_allocation(&scenario).targets, Box::new(Encoder)).unwrap();
    let mut journal = (Vec::<Line>::new(), metrics(&scenario, &inputs));
    let mut actions = Vec::new();
    let mut core = scenario.live_core(&inputs, warm.clone(), &mut actions);
    for action in actions {
        live.submit(Time::ZERO, &action).unwrap();
    }
    let mut inbox = Paced::new(arrivals(trace), live.intake().ended);
    replay(&mut core, &mut live, &mut inbox, &mut journal).unwrap();
    let (failures, _) = live.finish();
    assert_eq!(failures.is_empty(), trouble.room == u32::MAX, "{failures:?}");
    let warnings = warnings.load(Ordering::Relaxed) as usize;
    Run { lines: journal.0, results: journal.1.finish_run(), warm, warnings }
}

/// A fresh core does the same.
fn check_journal(run: &Run, workers: usize) {
    let (scenario, inputs) = scenario(workers);
    let mut core: Scheduler = scenario.live_core(&inputs, run.warm.clone(), &mut Vec::new());
    let mut lines = run.lines.iter().peekable();
    while let Some(line) = lines.next() {
        let What::Event(event) = &line.what else { panic!("actions follow events") };
        let mut actions = Vec::new();
        core.handle(line.time, event, &mut actions);
        for action in actions {
            let recorded = lines.next().map(|line| &line.what);
            assert_eq!(recorded, Some(&What::Action(action)), "after {event:?}");
        }
        assert!(lines.peek().is_none_or(|line| matches!(line.what, What::Event(_))));
    }
    assert_eq!(core.outstanding(), 0);
}

/// Everything ended once, and what is said to be drawn is on disk, unless the disk was full.
fn check(run: &Run, folder: &Path, trouble: Trouble, workers: usize) {
    assert_eq!(run.results.requests.len(), REQUESTS);
    let ends = run.lines.iter().filter(|line| matches!(line.what, What::Action(Action::Finish(_))));
    assert_eq!(ends.count(), REQUESTS, "every request ends once");
    check_journal(run, workers);
    if trouble.room == u32::MAX {
        let drawn = run.results.requests.iter().filter(|row| row.outcome == Outcome::Completed);
        assert!(drawn.clone().all(|row| folder.join(format!("results/{}.png", row.id)).is_file()));
        assert_eq!(std::fs::read_dir(folder.join("results")).unwrap().count(), drawn.count());
    }
    let Opened { store, warnings, found } = Store::open(folder, ImageFormat::Png, "test", RealDisk).unwrap();
    assert_eq!(warnings, Vec::<String>::new(), "the store opens clean");
    assert!(found.len() <= 12, "no more than the cache held");
    drop(store);
    let partial =
        |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().contains("partial");
    assert!(!std::fs::read_dir(folder).unwrap().any(partial), "nothing half written stays");
}

#[test]
fn nothing_is_drawn_for_a_request_without_a_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let trouble = Trouble { unknown: 3, ..NONE };
    let run = run(folder.path(), trouble, 2);
    check(&run, folder.path(), trouble, 2);
    for row in &run.results.requests {
        let known = row.id.row() < REQUESTS - 3;
        let reason = row.outcome.reason().unwrap_or_default();
        assert!(row.completed() == known && reason.contains("is unknown") != known, "{row:?}");
    }
}

#[test]
fn whatever_fails_every_request_ends_once_and_the_journal_replays() {
    let (mut lost, mut missing, mut bad_loads) = (0, 0, 0);
    for seed in 0..20 {
        let trouble = Trouble {
            seed,
            panics: [0, 3, 10][seed as usize % 3],
            failures: [0, 5, 20][seed as usize / 3 % 3],
            bad_loads: [0, 50][seed as usize % 2],
            bad_files: [0, 30][seed as usize / 2 % 2],
            room: if seed % 4 == 3 { 40 } else { u32::MAX },
            unknown: 0,
        };
        println!("{trouble:?}");
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), trouble, 2 + seed as usize % 2);
        check(&run, folder.path(), trouble, 2 + seed as usize % 2);
        let count = |what: fn(&Event) -> bool| {
            run.lines.iter().filter(|line| matches!(&line.what, What::Event(event) if what(event))).count()
        };
        lost += count(|event| matches!(event, Event::WorkerLost { .. }));
        missing += count(|event| matches!(event, Event::SourceMissing { .. }));
        bad_loads += count(|event| matches!(event, Event::LoadFailed { .. }));
    }
    assert!(lost > 0 && missing > 0 && bad_loads > 0, "lost {lost}, missing {missing}, loads {bad_loads}");
}

#[test]
fn a_restart_finds_the_cache_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), NONE, 2);
    assert!(first.warm.is_empty() && first.warnings == 0);
    let hits = |run: &Run| {
        run.results.requests.iter().filter(|row| row.decision.is_some_and(|decision| decision.source.is_some())).count()
    };
    assert!(hits(&first) > 0);
    let second = run(folder.path(), NONE, 2);
    assert_eq!(second.warm.len(), 12, "what the cache held");
    assert!(hits(&second) > hits(&first), "the second run is warm");
    let warm =
        second.results.requests.iter().filter_map(|row| row.decision?.source).any(|source| source.request().is_none());
    assert!(warm, "some hits are on pictures of the first run");
    check_journal(&second, 2);
}

#[test]
fn a_store_is_found_again_without_its_index_and_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), NONE, 2);
    let open = || {
        let opened = Store::open(folder.path(), ImageFormat::Png, "test", RealDisk).unwrap();
        (opened.found, opened.warnings)
    };
    let (found, _) = open();
    std::fs::remove_file(folder.path().join("index.json")).unwrap();
    assert_eq!(open().0, found, "the records say the same as the index, bit by bit");
    assert!(found.iter().any(|entry| entry.tenant == Some(tenant(0))), "and whose each is");
    // Killed between a picture and its record, in the middle of a file, and by somebody who deletes pictures.
    std::fs::write(folder.path().join("000000009999.png"), "half").unwrap();
    std::fs::write(folder.path().join("000000009998.png.partial"), "half").unwrap();
    let first = found[0].number;
    std::fs::remove_file(folder.path().join(format!("{first:012}.png"))).unwrap();
    let (after, warnings) = open();
    assert_eq!(after, found[1..]);
    assert!(warnings.len() == 1 && warnings[0].contains("its picture is missing"), "{warnings:?}");
    assert!(
        !folder.path().join("000000009999.png").exists() && !folder.path().join("000000009998.png.partial").exists()
    );
    assert_eq!(open(), (after, Vec::new()));
}

#[test]
fn a_folder_of_somebody_else_or_of_another_encoder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("000000000001.png");
    std::fs::write(&theirs, "a picture of a data set").unwrap();
    let refused = Store::open(folder.path(), ImageFormat::Png, "test", RealDisk).unwrap_err();
    assert!(refused.to_string().contains("is not empty and no store"), "{refused}");
    assert!(theirs.is_file() && std::fs::read_dir(folder.path()).unwrap().count() == 1);
    let store = tempfile::tempdir().unwrap();
    run(store.path(), NONE, 2);
    let refused = Store::open(store.path(), ImageFormat::Png, "another", RealDisk).unwrap_err();
    assert!(refused.to_string().contains("another encoder"), "{refused}");
}

#[test]
fn two_runs_cannot_share_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(folder.path(), ImageFormat::Png, "test", RealDisk).unwrap();
    let refused = Store::open(folder.path(), ImageFormat::Png, "test", RealDisk).unwrap_err();
    assert!(refused.to_string().contains("in use by another run"), "{refused}");
    drop(opened);
}

/// The run's requests with the embeddings that came of them.
fn embedded(inputs: &Inputs, lines: &[Line]) -> Inputs {
    let (mut prompts, mut images) = (vec![Vec::new(); REQUESTS], vec![Vec::new(); REQUESTS]);
    for line in lines {
        match &line.what {
            What::Event(Event::Encoded { request, embedding: Some(key) }) => {
                prompts[request.row()] = key.as_slice().into();
            }
            What::Event(Event::ImageEncoded { request, embedding: Some(key) }) => {
                images[request.row()] = key.as_slice().into();
            }
            _ => {}
        }
    }
    let matrix = |rows: Vec<Vec<f32>>| EmbeddingMatrix::new(usize::from(TOPICS), rows.concat()).ok();
    let trace = &inputs.trace;
    let embeddings = Embeddings { prompts: matrix(prompts), images: matrix(images), texts: None, warm: None };
    let trace = TraceInputs { trace: trace.trace.clone().with_embeddings(embeddings), ..TraceInputs::clone(trace) };
    Inputs { trace: Arc::new(trace), ..inputs.clone() }
}

#[test]
fn fed_with_its_durations_the_simulator_repeats_a_live_run() {
    let (mut loads, mut hits) = (0, 0);
    for workers in 1..4 {
        let folder = tempfile::tempdir().unwrap();
        let live = run(folder.path(), NONE, workers);
        let mut durations = Measured::default();
        for line in &live.lines {
            match &line.what {
                What::Event(event) => durations.record(line.time, Told::Event(event)),
                What::Action(action) => durations.record(line.time, Told::Action(action)),
            }
        }
        assert_eq!(durations.mishaps(), 0);
        let (scenario, inputs) = scenario(workers);
        let inputs = embedded(&inputs, &live.lines);
        let mut fold = metrics(&scenario, &inputs);
        let mut executor = scenario.executor(&inputs, durations);
        let mut inbox = Known::new(arrivals(&inputs.trace.trace));
        replay(&mut scenario.core(&inputs, &mut Vec::new()), &mut executor, &mut inbox, &mut fold).unwrap();
        let simulated = fold.finish_run();
        assert_eq!(live.results.ticks, simulated.ticks, "the monitor decided the same");
        for (real, simulated) in live.results.requests.iter().zip(&simulated.requests) {
            let simulated = RequestRow { similarity_to_prompt: real.similarity_to_prompt, ..simulated.clone() };
            assert_eq!(*real, simulated, "to the nanosecond, however late the loop was");
        }
        loads += simulated.summary.model_loads;
        hits += simulated.summary.hits_by_skipped_steps.values().sum::<u64>();
    }
    assert!(loads > 0 && hits > 0, "{loads} loads, {hits} hits: there was something to get wrong");
}
