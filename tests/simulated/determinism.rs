//! Equal inputs give equal bytes: twice, with one and two threads, with the journal; and host time
//! never reaches the simulated clock: a slow index or policy changes nothing. Debug against release is
//! `scripts/nightly profiles`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use modm::cache::Candidate;
use modm::cache::index::{ExactIndex, Match, NewIndex, Query, RetrievalIndex};
use modm::embedding::Embedding;
use modm::image::ImageId;
use modm::journal::{Line, What};
use modm::metrics::Results;
use modm::replay::{Known, replay};
use modm::request::Request;
use modm::scheduler::allocation::{Allocation, AllocationPolicy, Decided, Situation};
use modm::scheduler::routing::{Load, Route, RoutingPolicy, Storage};
use modm::scheduler::{Decision, Event, Scheduler};
use modm::time::{Duration, Time};

use world::{Parts, World};

use crate::program::Folder;
use crate::world;

const SCENARIO: &str = r#"
name = "determinism"
seed = 7
[trace.synthetic]
requests = 250
arrivals = { process = "poisson", rate_per_min = 12.0 }
[cluster]
gpus = [{ type = "mi210", count = 4 }, { type = "a40", count = 2 }]
[models]
profile = "profile.toml"
large = "large"
small = ["small"]
[cache]
capacity = 100
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
[[variant]]
name = "nirvana"
set = { "system.policy" = "nirvana" }
[[variant]]
name = "pinecone"
set = { "system.policy" = "pinecone" }
[[variant]]
name = "modm"
"#;

fn profile() -> String {
    let mut text = "source = \"test\"\n".to_owned();
    for gpu in ["mi210", "a40"] {
        for (model, step_s) in [("large", 0.6), ("small", 0.1)] {
            write!(text, "[[service]]\ngpu = \"{gpu}\"\nmodel = \"{model}\"\nstep_s = {step_s}\n").unwrap();
            text += "load_s = 20.0\njitter_cv = 0.3\nactive_w = 300.0\nload_w = 120.0\nidle_w = 45.0\n";
        }
    }
    text
}

/// Every file below a folder by its path in it, `run.json` apart.
fn files(folder: &Path, below: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(folder, &path, found);
        } else if path.file_name().is_some_and(|name| name != "run.json") {
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            found.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// Runs `modm` on the scenario and returns what it wrote.
fn output(arguments: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let folder = Folder::new(&[("scenario.toml", SCENARIO), ("profile.toml", &profile())]);
    let answer = folder.works(&[arguments, &["scenario.toml", "--out", "out", "--quiet"]].concat());
    let out = folder.path("out");
    let mut found = BTreeMap::new();
    files(&out, &out, &mut found);
    found.insert("standard output".into(), answer.out.into_bytes());
    found
}

fn assert_equal(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    assert!(one.keys().eq(other.keys()), "{:?} and {:?}", one.keys(), other.keys());
    for (name, bytes) in one {
        assert!(other[name] == *bytes, "{name} differs");
    }
}

#[test]
fn a_comparison_does_not_depend_on_threads_or_on_when_it_runs() {
    let one = output(&["compare", "--threads", "1"]);
    for variant in ["vanilla", "nirvana", "pinecone", "modm"] {
        for file in ["requests.csv", "allocation.csv", "workers.csv", "absences.csv", "timeline.csv", "summary.json"] {
            assert!(one.contains_key(&format!("{variant}/{file}")), "{variant}/{file}");
        }
        let keeps = one.contains_key(&format!("{variant}/cache.csv"));
        assert_eq!(keeps, variant != "vanilla", "{variant}/cache.csv");
    }
    assert!(one["modm/summary.json"] != one["vanilla/summary.json"], "the variants do differ");
    assert_equal(&one, &output(&["compare", "--threads", "2"]));
    assert_equal(&one, &output(&["compare", "--threads", "2"]));
}

#[test]
fn seeds_do_not_depend_on_threads() {
    let run = |threads| output(&["compare", "--seeds", "2", "--variants", "vanilla,modm", "--threads", threads]);
    assert_equal(&run("1"), &run("2"));
}

#[test]
fn a_journal_is_the_same_twice() {
    let one = output(&["simulate", "--journal"]);
    assert!(one["journal.jsonl.gz"].len() > 1000);
    assert_equal(&one, &output(&["simulate", "--journal"]));
    let without = output(&["simulate"]);
    assert_eq!(without["requests.csv"], one["requests.csv"], "whether it is written changes nothing");
}

#[expect(clippy::disallowed_methods, reason = "host time is what must not matter here")]
fn burn() {
    std::thread::sleep(std::time::Duration::from_micros(200));
}

#[derive(Debug)]
struct Slow<T>(T);

impl RetrievalIndex for Slow<ExactIndex> {
    fn insert(&mut self, image: ImageId, embedding: &Embedding) {
        burn();
        self.0.insert(image, embedding);
    }

    fn remove(&mut self, image: ImageId) {
        burn();
        self.0.remove(image);
    }

    fn nearest(&self, query: &Query<'_>) -> Option<Match> {
        burn();
        self.0.nearest(query)
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl RoutingPolicy for Slow<Box<dyn RoutingPolicy>> {
    fn storage(&self) -> Storage {
        self.0.storage()
    }

    fn route(&mut self, request: &Request, nearest: Option<Candidate<'_>>, load: &Load) -> Route {
        burn();
        self.0.route(request, nearest, load)
    }

    fn routed(&mut self, decision: &Decision, load: &Load) {
        self.0.routed(decision, load);
    }

    fn redecide(&mut self, made: &Decision, confidence: Option<f64>, threshold: f64) -> Option<Decision> {
        self.0.redecide(made, confidence, threshold)
    }
}

impl AllocationPolicy for Slow<Box<dyn AllocationPolicy>> {
    fn initial(&self) -> Allocation {
        self.0.initial()
    }

    fn next_decision(&self) -> Option<Time> {
        burn();
        self.0.next_decision()
    }

    fn needs_demand(&self) -> bool {
        self.0.needs_demand()
    }

    fn observe(&mut self, now: Time, class: usize, left: Duration) {
        burn();
        self.0.observe(now, class, left);
    }

    fn happened(&mut self, now: Time) -> bool {
        self.0.happened(now)
    }

    fn pass_over(&mut self, now: Time) -> Time {
        self.0.pass_over(now)
    }

    fn decide(&mut self, now: Time, situation: &Situation) -> Option<Decided> {
        burn();
        self.0.decide(now, situation)
    }
}

fn run(world: &World, mut core: Scheduler) -> (Vec<Line>, Results) {
    let mut executor = world.executor(world.latency());
    let events = world.requests.iter().map(|request| (request.arrival, Event::Arrived(*request)));
    let mut journal = (Vec::<Line>::new(), world.metrics());
    replay(&mut core, &mut executor, &mut Known::new(events), &mut journal).unwrap();
    (journal.0, journal.1.finish_run())
}

#[test]
fn a_slow_index_or_policy_changes_nothing() {
    let mut ticks = 0;
    for seed in 0..10 {
        let world = World::draw(seed, 60, Duration::from_nanoseconds(1_000_000_000));
        let Parts { routing, allocation, .. } = world.parts();
        let parts = Parts {
            routing: Box::new(Slow(routing)),
            index: NewIndex::new(|| Slow(ExactIndex::new())),
            allocation: Box::new(Slow(allocation)),
        };
        let (fast, slow) = (run(&world, world.core().0), run(&world, world.assemble(parts).0));
        assert!(fast == slow, "seed {seed}");
        ticks += fast.0.iter().filter(|line| line.what == What::Event(Event::WokeUp)).count();
    }
    assert!(ticks > 0, "some of the worlds have a monitor");
}
