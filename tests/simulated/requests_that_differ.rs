//! Requests that differ, through the program: sizes, steps, several images and keys of a trace, models of few steps,
//! and what is left of the gain there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use modm::draw::{Purpose, stream};
use modm::simulation::Simulation;
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::program::{Folder, Row};

/// Pairs of width and height.
const SIZES: [(u32, u32); 5] = [(1024, 1024), (512, 512), (1280, 768), (1040, 1000), (256, 256)];
const CHECKPOINTS: [&str; 3] = ["", "painted", "photo"];

const SCENARIO: &str = r#"
name = "differ"
seed = 3
[trace]
requests = "requests.csv"
[cluster]
gpus = [{ type = "gpu", count = 4 }]
[models]
profile = "profile.toml"
large = "large"
small = ["small"]
steps = { large = 20, small = 4 }
schedule = { large = { shift = 3.0 }, small = { shift = 1.0 } }
[system]
sigma_bounds = [[0.2, 0.95], [0.24, 0.8], [0.28, 0.3]]
[[variant]]
name = "modm"
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
"#;

const PROFILE: &str = r#"
source = "made up"
[[service]]
gpu = "gpu"
model = "large"
step_s = 1.0
text_s = 0.5
decode_s = 1.0
source_s = 0.5
sizes = [[262144, 0.3]]
checkpoint_s = 7.0
lora_s = 2.0
load_s = 5.0
[[service]]
gpu = "gpu"
model = "small"
step_s = 0.5
text_s = 0.5
decode_s = 1.0
source_s = 0.5
sizes = [[262144, 0.3]]
checkpoint_s = 7.0
load_s = 5.0
"#;

/// Request of the trace: what it asks for.
#[derive(Clone, Debug)]
struct Wanted {
    arrival_s: f64,
    size: (u32, u32),
    steps: u32,
    images: u32,
    checkpoint: &'static str,
}

/// Writes a trace of 200 requests over a few prompts; returns what they ask for.
fn folder() -> (Folder, Vec<Wanted>) {
    let mut draws = stream(5, Purpose::Test, 200);
    let mut text = "arrival_s,prompt,width,height,steps,images,checkpoint\n".to_owned();
    let mut wanted = Vec::new();
    for row in 0..200 {
        let request = Wanted {
            arrival_s: f64::from(row) * 6.0,
            size: *SIZES.choose(&mut draws).unwrap(),
            steps: *[20, 10, 25].choose(&mut draws).unwrap(),
            images: *[1, 1, 2, 3].choose(&mut draws).unwrap(),
            checkpoint: CHECKPOINTS.choose(&mut draws).unwrap(),
        };
        let prompt = format!("a red boat number {} on a lake", draws.random_range(0..6));
        let (width, height) = request.size;
        // What is usual may be left out.
        let sides = if width == 1024 && row % 2 == 0 { ",".to_owned() } else { format!("{width},{height}") };
        let steps = if request.steps == 20 { String::new() } else { request.steps.to_string() };
        let images = if request.images == 1 { String::new() } else { request.images.to_string() };
        writeln!(text, "{},{prompt},{sides},{steps},{images},{}", request.arrival_s, request.checkpoint).unwrap();
        wanted.push(request);
    }
    let folder = Folder::new(&[("requests.csv", &text), ("profile.toml", PROFILE), ("scenario.toml", SCENARIO)]);
    (folder, wanted)
}

fn serves(image: (u32, u32), request: (u32, u32)) -> bool {
    let ratio = |a: f64, b: f64| a.max(b) / a.min(b);
    let aspect = |(width, height): (u32, u32)| f64::from(width) / f64::from(height);
    let pixels = |(width, height): (u32, u32)| f64::from(width) * f64::from(height);
    ratio(aspect(image), aspect(request)) <= 1.1 && ratio(pixels(image), pixels(request)) <= 4.0
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column}: {row:?}"))
}

#[test]
fn hits_are_where_they_may_be_and_images_end_together() {
    let (folder, wanted) = folder();
    folder.works(&["compare", "scenario.toml", "--out", "out", "--quiet"]);
    let rows = folder.rows("out/modm/requests.csv");
    assert_eq!(rows.len(), wanted.iter().map(|request| request.images as usize).sum::<usize>(), "a row an image");
    // Sources are named by the rows of the core, one for each image.
    let request_of: Vec<usize> =
        wanted.iter().enumerate().flat_map(|(at, request)| std::iter::repeat_n(at, request.images as usize)).collect();
    let mut sources: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let (mut hits, mut resized, mut latest) = (0, 0, vec![0.0_f64; wanted.len()]);
    for (row, of) in rows.iter().zip(&request_of) {
        let request = &wanted[*of];
        assert_eq!(row["request_id"], of.to_string());
        latest[*of] = latest[*of].max(number(row, "latency_s"));
        let by_large = row["model"] == "large";
        let steps = if by_large { request.steps } else { 4 };
        assert!((number(row, "skipped_steps") + number(row, "steps_run") - f64::from(steps)).abs() < 0.5, "{row:?}");
        if row["decision"] != "hit" {
            assert!(by_large && row["allowed_sigma"].is_empty() && row["start_sigma"].is_empty(), "{row:?}");
            continue;
        }
        hits += 1;
        let source: usize = row["source"].parse().unwrap();
        let made_for = &wanted[request_of[source]];
        assert_eq!(made_for.checkpoint, request.checkpoint, "{row:?}");
        assert!(serves(made_for.size, request.size), "{made_for:?} for {request:?}");
        resized += usize::from(made_for.size != request.size);
        assert!(sources.entry(*of).or_default().insert(row["source"].clone()), "a source of its own: {row:?}");
        let (allowed, start) = (number(row, "allowed_sigma"), number(row, "start_sigma"));
        let is_last_step = number(row, "steps_run") < 1.5;
        assert!(start <= allowed + 0.0006 || is_last_step, "{row:?}");
    }
    assert!(hits > 100 && resized > 20, "{hits} hits, {resized} of them resized");
    let summary = folder.json("out/modm/summary.json");
    assert_eq!((summary["requests"].as_u64(), summary["completed"].as_u64()), (Some(200), Some(200)));
    assert_eq!(summary["images"].as_u64(), Some(rows.len() as u64));
    assert!(summary["checkpoint_changes"].as_u64() > Some(10));
    // A request ends with its last image.
    let mean = latest.iter().sum::<f64>() / latest.len() as f64;
    let reported = summary["latency_s"]["mean"].as_f64().unwrap();
    assert!((mean - reported).abs() < 1e-6, "{mean} {reported}");
    let warnings = folder.json("out/modm/run.json")["warnings"].to_string();
    assert!(warnings.contains("256 x 256") && !warnings.contains("512 x 512"), "{warnings}");
}

#[test]
fn a_key_of_nothing_lets_hits_cross_and_one_of_more_lets_fewer() {
    let (folder, _) = folder();
    let hit_rate = |sets: &[&str]| {
        let arguments = [&["simulate", "scenario.toml", "--out", "out", "--force", "--quiet"][..], sets].concat();
        folder.works(&arguments);
        folder.json("out/summary.json")["hit_rate"].as_f64().unwrap()
    };
    let usual = hit_rate(&[]);
    let across = hit_rate(&["--set", "cache.key=[]"]);
    let same_size = hit_rate(&["--set", "cache.aspect_limit=1", "--set", "cache.size_factor=1"]);
    let any_size = hit_rate(&["--set", "cache.aspect_limit=100", "--set", "cache.size_factor=1000"]);
    assert!(across > usual && usual > same_size && any_size > usual, "{across} {usual} {same_size} {any_size}");
}

#[test]
fn service_times_follow_size_steps_and_weights() {
    let folder = Folder::new(&[
        ("profile.toml", PROFILE),
        ("scenario.toml", SCENARIO),
        (
            "requests.csv",
            "arrival_s,prompt,width,height,steps,checkpoint,loras\n\
             0,a,,,,,\n1000,b,512,512,,,\n2000,c,,,10,,\n3000,d,2048,1024,,,\n4000,e,,,,x,\n5000,f,,,,x,l\n6000,g,,,,,\n",
        ),
    ]);
    folder.works(&[
        "simulate",
        "scenario.toml",
        "--out",
        "out",
        "--quiet",
        "--set",
        "system.policy=vanilla",
        "--set",
        "cluster.gpus=[{ type = \"gpu\", count = 1 }]",
    ]);
    let times: Vec<f64> = folder.rows("out/requests.csv").iter().map(|row| number(row, "latency_s")).collect();
    // 0.5 s for the text and 21 s for 20 steps and the image, those in proportion to the size's growth; 10 steps;
    // another checkpoint takes 7 s, its LoRAs 2 s, and back to none again 7 s.
    let expected = [21.5, 0.5 + 21.0 * 0.3, 11.5, 0.5 + 42.0, 28.5, 23.5, 28.5];
    for (time, expected) in times.iter().zip(expected) {
        assert!((time - expected).abs() < 1e-6, "{times:?}");
    }
}

/// Steady throughput over the large model's alone at a cost of the small model, in all splits and by the monitor.
fn gains(gpu: &str, steps: i64, workers: i64) -> (f64, Vec<f64>) {
    let steady = |sets: &[(&str, toml::Value)]| {
        let table: toml::Table =
            format!("gpus = [{{ type = \"{gpu}\", count = {workers} }}]\nsteps = {{ large = 50, small = {steps} }}")
                .parse()
                .unwrap();
        let mut builder = Simulation::builder()
            .scenario_file("scenarios/few-steps.toml")
            .set("cluster.gpus", table["gpus"].clone())
            .set("models.steps", table["steps"].clone())
            .set("trace.synthetic.requests", 3_000)
            .set("trace.warm_requests", 1_500)
            .set("trace.synthetic.prompts.topics", 2_500);
        for (key, value) in sets {
            builder = builder.set(key, value.clone());
        }
        builder.build().unwrap().run().unwrap().summary.throughput_steady_per_min.unwrap()
    };
    let alone = steady(&[("system.policy", "vanilla".into())]);
    let split = |large: i64| {
        steady(&[("allocation.policy", "static".into()), ("allocation.initial_large", large.into())]) / alone
    };
    (steady(&[]) / alone, (1..workers).map(split).collect())
}

#[test]
fn the_monitor_comes_close_to_the_best_split_whatever_the_small_model_costs() {
    for (gpu, steps) in [("r-046", 50), ("r-010", 8), ("r-002", 4)] {
        let (monitor, splits) = gains(gpu, steps, 8);
        let best = splits.iter().copied().fold(0.0, f64::max);
        assert!(monitor > 0.97 * best && best > 1.2, "{gpu}: {monitor} of {splits:?}");
    }
}
