//! Runs with painters that take fixed times, here or on workers of a cluster: loop, core, store and messages are the
//! real ones. For tests of clusters and for `examples/bench_cluster.rs`.

#![allow(dead_code, reason = "each user takes a part of it")]
#![allow(clippy::allow_attributes, reason = "which parts are unused differs between users")]
#![allow(clippy::unwrap_used, reason = "tests and measurements end at an error")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use modm::embedding::Embedding;
use modm::image::ImageId;
use modm::journal::Line;
use modm::live::cluster::node::{NodeOptions, SharedEmbed, Tools, run as run_node};
use modm::live::cluster::protocol::Setup;
use modm::live::cluster::settings::{ClusterSettings, Identity};
use modm::live::cluster::{Cluster, ClusterError};
use modm::live::details::Details;
use modm::live::embedder::{Embed, EmbedError};
use modm::live::executor::{Book, Elsewhere, Live, LiveError, Paced, Setting};
use modm::live::limits::{LimitSettings, Limits};
use modm::live::picture::Picture;
use modm::live::settings::{Device, ImageFormat};
use modm::live::store::{RealDisk, Store};
use modm::live::worker::{DrawError, LoadError, Paint, Painted, Task};
use modm::model::ModelId;
use modm::replay::{Executor, RunError, replay};
use modm::request::{Outcome, RequestId};
use modm::scenario::{Inputs, Scenario, Source, TraceInputs, arrivals, initial_allocation};
use modm::scheduler::{Action, WorkerId};
use modm::time::Time;

/// Hash of the folder that painters of fixed times claim to have.
pub(crate) const FOLDER: &str = "0123456789abcdef";

#[expect(clippy::disallowed_methods, reason = "measurements are of the host's time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a painter of a fixed time waits")]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Embeds every prompt and picture alike.
pub(crate) struct Alike;

impl Embed for Alike {
    fn prompt(&mut self, _: &str) -> Result<Embedding, EmbedError> {
        Ok(Embedding::normalised(&[1.0, 0.0]).unwrap())
    }

    fn picture(&mut self, _: &Picture) -> Result<Embedding, EmbedError> {
        Ok(Embedding::normalised(&[1.0, 0.1]).unwrap())
    }
}

/// Takes a fixed time for each step, and paints the number of the request into its first pixel.
pub(crate) struct Fixed {
    pub(crate) step: Duration,
    pub(crate) size: [u32; 2],
}

impl Paint for Fixed {
    fn load(&mut self, _: ModelId) -> Result<(), LoadError> {
        Ok(())
    }

    fn draw(&mut self, task: &Task<'_>, keep_going: &dyn Fn() -> bool) -> Result<Painted, DrawError> {
        let begun = now();
        for step in 1..=task.work.steps_run() {
            if !keep_going() {
                return Err(DrawError::Cancelled);
            }
            sleep((self.step * step).saturating_sub(begun.elapsed()));
        }
        Ok(picture(self.size, task.request).into())
    }
}

/// Returns the picture that is painted for a request.
pub(crate) fn picture(size: [u32; 2], request: RequestId) -> Picture {
    let mut bytes = vec![7; (3 * size[0] * size[1]) as usize];
    bytes[..3].copy_from_slice(&request.0.to_le_bytes()[..3]);
    Picture::new(size[0], size[1], bytes)
}

/// Tools of a node whose painters take fixed times.
pub(crate) struct FixedTools {
    pub(crate) step: Duration,
    /// True if pictures are embedded at the node.
    pub(crate) embeds: bool,
    /// Bytes of sources that the node keeps.
    pub(crate) sources_bytes: usize,
}

impl FixedTools {
    /// Makes tools that take this time for a step, embed pictures, and keep sources.
    pub(crate) const fn new(step: Duration) -> Self {
        Self { step, embeds: true, sources_bytes: 100_000_000 }
    }
}

impl Tools for FixedTools {
    fn paint(&self, _: Device, setup: &Setup) -> Result<Box<dyn Paint>, String> {
        Ok(Box::new(Fixed { step: self.step, size: setup.size }))
    }

    fn embed(&self, _: &str, _: [Duration; 2]) -> Option<SharedEmbed> {
        let embed: Box<dyn Embed> = Box::new(Alike);
        self.embeds.then(|| Arc::new(std::sync::Mutex::new(embed)))
    }

    fn models(&self) -> Vec<String> {
        vec![FOLDER.to_owned()]
    }
}

/// Facts about requests without files: pictures are counted and looked at as they come.
struct Counted {
    requests: u32,
    size: [u32; 2],
    right: Arc<AtomicU64>,
}

impl Book for Counted {
    fn prompt(&self, request: RequestId) -> Option<Arc<str>> {
        (request.0 < self.requests).then(|| "a circle".into())
    }

    fn tenant(&self, _: RequestId) -> Option<String> {
        None
    }

    fn noise(&self, request: RequestId) -> (u64, u64) {
        (1, u64::from(request.0))
    }

    fn details(&self, _: RequestId) -> Details {
        Details::default()
    }

    fn result(&self, _: RequestId) -> Option<PathBuf> {
        None
    }

    fn ended(&mut self, request: RequestId, outcome: &Outcome, drawn: Option<Arc<Picture>>) {
        if *outcome == Outcome::Completed && drawn.is_some_and(|drawn| *drawn == picture(self.size, request)) {
            self.right.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Scenario of requests for pictures of 20 steps.
pub(crate) struct Rig {
    pub(crate) scenario: Scenario,
    pub(crate) inputs: Inputs,
    pub(crate) size: [u32; 2],
    text: String,
    folder: tempfile::TempDir,
}

/// Run that has ended.
pub(crate) struct Ended {
    pub(crate) lines: Vec<Line>,
    /// Seconds from the beginning to the last event.
    pub(crate) seconds: f64,
    /// Number of requests that ended with their own picture.
    pub(crate) right: u64,
    pub(crate) failures: Vec<String>,
    pub(crate) outcome: Result<(), RunError<LiveError>>,
}

impl Rig {
    /// Makes so many requests, which arrive at this rate, for so many workers.
    pub(crate) fn new(requests: usize, rate_per_min: f64, workers: usize, size: [u32; 2], policy: &str) -> Self {
        Self::of_steps(20, requests, rate_per_min, workers, size, policy)
    }

    /// Makes the same with pictures of so many steps.
    pub(crate) fn of_steps(
        steps: u32,
        requests: usize,
        rate_per_min: f64,
        workers: usize,
        size: [u32; 2],
        policy: &str,
    ) -> Self {
        let text = format!(
            "name = \"rig\"\n\
             [trace.synthetic]\nrequests = {requests}\n\
             arrivals = {{ process = \"poisson\", rate_per_min = {rate_per_min} }}\n\
             [cluster]\ngpus = [{{ type = \"cpu\", count = {workers} }}]\n\
             [models]\nprofile = \"profile.toml\"\nlarge = \"large\"\nsmall = [\"small\"]\nsteps = {steps}\n\
             [system]\npolicy = \"{policy}\"\nbounds = [[0.01, {}]]\n",
            steps / 2
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scenario.toml");
        let row =
            |model: &str| format!("[[service]]\ngpu = \"cpu\"\nmodel = \"{model}\"\nstep_s = 0.005\nload_s = 0.001\n");
        let profile = format!("source = \"made up\"\n{}{}", row("large"), row("small"));
        std::fs::write(folder.path().join("profile.toml"), profile).unwrap();
        let source = Source::new(&file, text.clone()).unwrap();
        let scenario = source.scenario(&[]).unwrap();
        let trace = TraceInputs::load(&scenario, &file, false).unwrap();
        let inputs = Inputs::new(&scenario, &file, Arc::new(trace)).unwrap();
        Self { scenario, inputs, size, text, folder }
    }

    /// Returns the mean latency of a simulated run of the same requests, in seconds, with a section `[network]`.
    pub(crate) fn simulated_mean_s(&self, network: &str) -> f64 {
        let source = Source::new(&self.folder.path().join("scenario.toml"), format!("{}{network}", self.text)).unwrap();
        let simulation = modm::simulation::Simulation::load(&source, &[]).unwrap();
        simulation.run().unwrap().summary.latency_s.unwrap().mean
    }

    fn limits(&self) -> Limits {
        let settings = LimitSettings { step_s: 5.0, load_s: 10.0, ..LimitSettings::default() };
        Limits::unmeasured(&settings, self.scenario.workers(), self.scenario.model_names().len())
    }

    /// Opens the scheduler's side of a cluster, and waits for its workers.
    pub(crate) fn cluster(&self, settings: ClusterSettings, said: &Said) -> Result<Cluster, ClusterError> {
        let models = self.scenario.model_names().len();
        let limits = self.limits();
        let setup = Setup {
            models: vec![(FOLDER.to_owned(), None); models],
            guided: vec![true; models],
            checkpoints: Vec::new(),
            size: self.size,
            limits: limits.worker(WorkerId(0)).to_vec(),
            encoder: Some("alike".to_owned()),
            encode: [limits.encode, limits.load_encoder],
        };
        let gpus = vec!["cpu".to_owned(); self.scenario.workers()];
        let folders = vec![(FOLDER.to_owned(), "large".to_owned())];
        let cluster = Cluster::open(settings, setup, (gpus, folders), said.say())?;
        cluster.wait_for_workers(true)?;
        Ok(cluster)
    }

    /// Runs to the end, with painters here that take this time for a step.
    pub(crate) fn run_here(&self, step: Duration) -> Ended {
        let size = self.size;
        self.run(Box::new(move |_| Box::new(Fixed { step, size })), None)
    }

    /// Runs to the end on the workers of a cluster.
    pub(crate) fn run_there(&self, cluster: Cluster) -> Ended {
        let cluster = Arc::new(cluster);
        let painters = cluster.clone();
        self.run(Box::new(move |worker| Box::new(painters.painter(worker))), Some(cluster))
    }

    fn run(&self, paint: Box<dyn Fn(WorkerId) -> Box<dyn Paint>>, cluster: Option<Arc<Cluster>>) -> Ended {
        let Self { scenario, inputs, size, .. } = self;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), ImageFormat::Png, "test", RealDisk).unwrap().store;
        if let Some(cluster) = &cluster {
            cluster.give_sources(store.sources());
        }
        let trace = &inputs.trace.trace;
        let right = Arc::new(AtomicU64::new(0));
        let setting = Setting {
            book: Box::new(Counted { requests: trace.len() as u32, size: *size, right: right.clone() }),
            models: scenario.model_names(),
            checkpoints: Vec::new(),
            size: *size,
            paint,
            stepped: None,
            warn: Box::new(|_| {}),
            away: Duration::from_millis(100),
            limits: self.limits(),
            elsewhere: cluster.map(|cluster| cluster as Arc<dyn Elsewhere>),
            isolated: true,
        };
        let mut live = Live::start(setting, store, &initial_allocation(scenario).targets, Box::new(Alike)).unwrap();
        let mut lines = Vec::<Line>::new();
        let mut actions = Vec::new();
        let mut core = scenario.live_core(inputs, Vec::new(), &mut actions);
        for action in actions {
            live.submit(Time::ZERO, &action).unwrap();
        }
        let mut inbox = Paced::new(arrivals(trace), live.intake().ended);
        let outcome = replay(&mut core, &mut live, &mut inbox, &mut lines);
        let (failures, _) = live.finish();
        let seconds = lines.last().map_or(0.0, |line| line.time.seconds());
        Ended { lines, seconds, right: right.load(Ordering::Relaxed), failures, outcome }
    }
}

impl Ended {
    /// Returns the mean latency, in seconds.
    pub(crate) fn mean_s(&self) -> f64 {
        let latency = |line: &Line| match &line.what {
            modm::journal::What::Action(Action::Finish(ended)) => Some(line.time.since(ended.arrival).seconds()),
            _ => None,
        };
        let latencies: Vec<f64> = self.lines.iter().filter_map(latency).collect();
        latencies.iter().sum::<f64>() / latencies.len() as f64
    }

    /// Returns the requests that ended, in order, each as often as it ended, with how it ended.
    pub(crate) fn ends(&self) -> Vec<(RequestId, Outcome)> {
        let end = |line: &Line| match &line.what {
            modm::journal::What::Action(Action::Finish(ended)) => Some((ended.request, ended.outcome.clone())),
            _ => None,
        };
        let mut ends: Vec<_> = self.lines.iter().filter_map(end).collect();
        ends.sort_by_key(|(request, _)| *request);
        ends
    }
}

/// Sentences that a cluster or a node said.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<std::sync::Mutex<Vec<String>>>);

impl Said {
    pub(crate) fn say(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        let said = self.0.clone();
        Arc::new(move |sentence| said.lock().unwrap().push(sentence.to_owned()))
    }

    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// Node on a thread of this program.
pub(crate) struct Node {
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), ClusterError>>>,
    pub(crate) said: Said,
}

impl Node {
    /// Starts a node with so many devices.
    pub(crate) fn start(url: &str, cluster: &str, name: &str, devices: u16, tools: FixedTools) -> Self {
        let options = NodeOptions {
            url: url.to_owned(),
            cluster: cluster.to_owned(),
            identity: Identity::default(),
            node: name.to_owned(),
            devices: (0..devices).map(Device::cpu).collect(),
            gpu: "cpu".to_owned(),
            sources_bytes: tools.sources_bytes,
            heartbeat: Duration::from_millis(250),
        };
        let (ending, said) = (Arc::new(AtomicBool::new(false)), Said::default());
        let (ends, say) = (ending.clone(), said.say());
        let thread = std::thread::spawn(move || {
            run_node(&options, Arc::new(tools), Arc::new(move || ends.load(Ordering::Relaxed)), say)
        });
        Self { ending, thread: Some(thread), said }
    }

    /// Tells the node to end, and waits until it has.
    pub(crate) fn end(mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
    }
}

/// Returns the image of a request, as sources are named.
pub(crate) const fn image(request: u32) -> ImageId {
    ImageId::of_request(RequestId(request))
}
