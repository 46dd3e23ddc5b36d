//! A folder with a scenario and all it reads, every value good; tests spoil one thing at a time and
//! collect what the program answers wrongly.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use modm::trace::npy;

use crate::program::{self, Answer};

/// Every key of a scenario, each on its own line.
pub(crate) const SCENARIO: &str = r#"name = "good"
seed = 1
[trace]
requests = "requests.csv"
prompt_embeddings = "prompts.npy"
image_embeddings = "images.npy"
warm_images = "warm.npy"
[cluster]
gpus = [{ type = "gpu", count = 2, usd_per_hour = 1.5 }]
[models]
profile = "profile.toml"
large = "large"
small = ["small"]
steps = 50
schedule = { large = { shift = 3.0 }, small = { shift = 3.0 } }
size = [64, 32]
[system]
policy = "modm"
bounds = [[0.25, 5], [0.3, 30]]
[retrieval]
latency_s = 0.05
image_latency_s = 0.01
index = "exact"
measure_recall = true
[cache]
capacity = 10
admission = "all"
eviction = "fifo"
capacity_bytes = 1000000
image_bytes = 1000
max_age_s = 3600
near_duplicate = 0.99
key = ["checkpoint", "loras"]
guidance_tolerance = 1.0
aspect_limit = 1.1
size_factor = 4.0
[allocation]
policy = "modm"
mode = "quality"
initial_large = 2
period_s = 180
headroom = 0.9
pid = { kp = 0.6, ki = 0.05, kd = 0.05, dt = 3.0 }
window_s = 100
horizon_s = 200
gap_s = 10
cushion_s = 5
load_price = 1.0
queue_delay = "throughput"
switching = { up = 0.8, down = 0.6 }
least_small = 0
[slo]
multiples = [2.0, 4.0]
[metrics]
warmup_s = 0.0
window_s = 60.0
near_miss = 0.01
false_hit_similarity = 0.95
[encoder]
dimension = 64
background = 0.5
word_share = 0.6
pair_share = 0.2
character_share = 0.2
[image_model]
own_similarity = 0.2855
own_similarity_deviation = 0.02
noise_dimension = 16
[[variant]]
name = "one"
[[variant]]
name = "two"
set = { "system.policy" = "vanilla" }
[live]
checkpoints = {}
encoder = "encoder"
devices = ["cpu:0", "cuda:1,memory_gb=20"]
encoder_device = "cpu:0"
size = [64, 32]
store = "store"
images = "png"
isolation = "process"
[live.limits]
factor = 20
step_s = 30
load_s = 120
encode_s = 10
disk_s = 30
[live.models]
large = "large"
small = "small"
[live.guidance]
large = 2.0
[tenants]
scope = "shared"
quota = 5
quotas = {}
weights = {}
priorities = {}
public = []
[models.serves]
small = { misses = false, hits = [5, 10, 30] }
[queue]
order = "slack"
late = "best"
fall_back = 1.5
overdue_multiple = 8.0
ease = true
deadline_multiple = 2.0
admission = false
[batching]
size = 4
wait_s = 0.5
by_deadline = true
[cascade]
threshold = 0.8
confidences = "confidences.csv"
column = "light"
shape = [1.0, 1.0]
[approximation]
assumed_quality = 0.95
floor = 0.9
memory = 100
level = [{ from = 1.0, assumed_quality = 0.85, bounds = [[0.2, 10]] }]
[faults]
events = [{ at_s = 1, for_s = 2, what = "slow", workers = [0], factor = 2.0 }]
[serve]
sizes = []
aliases = {}
cors_origins = []
other_sizes = "refuse"
response_format = "url"
max_upload = 1000
signed_urls_s = 60.0
most_steps = 20
listen = "127.0.0.1:8080"
keys = "keys.toml"
max_queue = 1000
rate_per_min = 600
images_per_day = 5000
max_prompt = 4000
max_body = 65536
max_connections = 20000
read_timeout_s = 10.0
timeout_s = 600.0
drain_s = 300.0
keep_results_s = 86400.0
record = true
record_prompts = false
audit_share = 0.1
[network]
workers_per_node = 1
latency_ms = 0.2
bandwidth_gbps = 10.0
node_bandwidth_gbps = 1.0
picture_bytes = 1400000
sources = 1000
"#;

/// A scenario whose trace is made rather than read.
pub(crate) const SYNTHETIC: &str = r#"name = "made"
[trace.synthetic]
requests = 20
arrivals = { process = "poisson", rate_per_min = 20 }
[trace.synthetic.prompts]
vocabulary = "art"
topics = 100
topic_exponent = 1.0
new_topics_per_1000 = 10
sessions = 3
session_requests = 6
repeats = 0.3
variation = 0.1
word_exponent = 0.7
own_words = 1
tenants = 2
tenant_exponent = 1
[cluster]
gpus = [{ type = "mi210", count = 2 }]
"#;

pub(crate) const PROFILE: &str = r#"source = "test"
[[service]]
gpu = "gpu"
model = "large"
step_s = 1.0
overhead_s = 0.1
load_s = 20
jitter_cv = 0.1
alone = 0.9
batches = [[2, 1.5], [4, 2.5]]
beside = { large = 0.9 }
spread = 0.05
spread_kind = "assumed"
memory_gb = 30
active_w = 300
load_w = 100
idle_w = 50
text_s = 0.0
decode_s = 0.0
source_s = 0.1
pixels = 2048
sizes = [[1024, 0.5], [4096, 2.0]]
checkpoint_s = 5
lora_s = 1
[[service]]
gpu = "gpu"
model = "small"
step_s = 0.5
load_s = 10
[[gpu]]
type = "gpu"
memory_gb = 48
[encoding]
prompt_s = 0.1
image_s = 0.1
[[quality]]
model = "small"
skipped_steps = 10
measure = "clip"
value = 28.7
source = "paper"
[[measurement]]
gpu = "gpu"
model = "small"
batch = 1
neighbours = "idle"
step_s = 0.5
bare_step_s = 0.5
step_cv = 0.01
overhead_s = 0.1
job_cv = 0.01
load_s = 10
load_cv = 0.1
memory_mb = 100
jobs = 20
"#;

pub(crate) const REQUESTS: &str = "request_id,arrival_s,prompt,tenant,deadline_s\n\
                            a,0.5,a red cat,t,100\nb,1.5,a blue dog,u,\nc,2.5,\"a cat, asleep\",t,50.5\n";

/// The bytes of a good `.npy` file.
pub(crate) fn embeddings(rows: usize, dimension: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let value = |index: usize| 1.0 + (index % 7) as f32;
    npy::write(&mut bytes, rows, dimension, (0..rows * dimension).map(value)).unwrap();
    bytes
}

/// The folder. Results go to its `results`, which must not be there after a refusal.
pub(crate) struct Folder(program::Folder);

impl Deref for Folder {
    type Target = program::Folder;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = program::Folder::new(&[
            ("scenario.toml", SCENARIO),
            ("made.toml", SYNTHETIC),
            ("profile.toml", PROFILE),
            ("requests.csv", REQUESTS),
            ("confidences.csv", "id,light\n1,0.5\n2,0.9\n"),
        ]);
        folder.write("prompts.npy", embeddings(3, 4));
        folder.write("images.npy", embeddings(3, 4));
        folder.write("warm.npy", embeddings(2, 4));
        Self(folder)
    }

    fn names(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.path("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                found.insert(path);
            }
        }
        found
    }

    /// Fault of a refusal whose message should be this, if there is one. A `*` at the end of the
    /// message stands for the rest.
    pub(crate) fn refusal(&self, arguments: &[&str], message: &str) -> Result<(), String> {
        let before = self.names();
        let Answer { code, out, err } = self.run(arguments);
        let wrong = |what: &str| {
            Err(format!("{what}\n  command: {arguments:?}\n  wanted:  {message}\n  code {code}: {}", err.trim_end()))
        };
        let told = err.strip_prefix("error: ").map_or("", |told| told.trim_end_matches('\n'));
        let start = message.strip_suffix('*');
        if code != 2 || !out.is_empty() || err.contains("panicked") {
            return wrong(&format!("expected exit code 2 and nothing on standard output, which has {out:?}"));
        }
        if self.names() != before {
            return wrong("something was written");
        }
        if told.contains('\n') || start.map_or(told != message, |start| !told.starts_with(start)) {
            return wrong("another message");
        }
        Ok(())
    }

    /// A refusal by the parser of the command line, which prints usage too.
    pub(crate) fn usage_error(&self, arguments: &[&str], part: &str) -> Result<(), String> {
        let before = self.names();
        let Answer { code, out, err } = self.run(arguments);
        let good =
            code == 2 && out.is_empty() && err.contains(part) && !err.contains("panicked") && self.names() == before;
        if good { Ok(()) } else { Err(format!("wanted: {part}\n  command: {arguments:?}\n  code {code}: {err}")) }
    }

    /// Fault of a run that should succeed, if there is one.
    pub(crate) fn success(&self, arguments: &[&str]) -> Result<(), String> {
        let Answer { code, err, .. } = self.run(arguments);
        let good = code == 0 && !err.contains("panicked") && !err.contains("error");
        if good {
            Ok(())
        } else {
            Err(format!("expected success\n  command: {arguments:?}\n  code {code}: {}", err.trim_end()))
        }
    }
}

/// `simulate` of the folder's scenario, with these flags.
pub(crate) fn simulate<'a>(scenario: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let start = ["simulate", scenario, "--out", "results", "--quiet"];
    start.into_iter().chain(flags.iter().copied()).collect()
}

/// Fails with all that is wrong at once.
pub(crate) fn all(results: impl IntoIterator<Item = Result<(), String>>) {
    let results: Vec<_> = results.into_iter().collect();
    let wrong: Vec<String> = results.iter().filter_map(|result| result.clone().err()).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), results.len(), wrong.join("\n"));
}

/// Replaces the line of a key in a text whose tables are in order; returns the text and the line's number.
pub(crate) fn with_line(text: &str, table: &str, key: &str, line: &str) -> (String, usize) {
    let start = if table.is_empty() { 0 } else { text.lines().position(|row| row == table).unwrap() + 1 };
    let wanted = format!("{key} = ");
    let place = start + text.lines().skip(start).position(|row| row.starts_with(&wanted)).unwrap();
    let rows: Vec<&str> = text.lines().enumerate().map(|(at, row)| if at == place { line } else { row }).collect();
    (rows.join("\n") + "\n", place + 1)
}

/// Puts a file with this content in place of one that is read with the scenario.
pub(crate) fn spoiled(name: &str, content: impl AsRef<[u8]>) -> Folder {
    let folder = Folder::new();
    folder.write(name, content);
    folder
}

/// Key, value and message of each line of a table: `key = value: what is accepted`, or `key = value =>
/// message` where the message names something else.
pub(crate) fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    table.lines().filter(|line| !line.is_empty()).map(|line| {
        let (given, message) = line.split_once(" => ").unwrap_or_else(|| (line.split_once(": ").unwrap().0, line));
        let (key, value) = given.split_once(" = ").unwrap();
        (key, value, message)
    })
}
