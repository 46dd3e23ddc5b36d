//! Extremes that are allowed: they work, at once, or say plainly why not.

use std::fs;

use super::folder::{Folder, PROFILE, all, embeddings, simulate, spoiled};

/// Runs with these overrides.
fn works(folder: &Folder, scenario: &str, sets: &[&str]) -> Result<(), String> {
    let flags: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    folder.success(&[simulate(scenario, &flags), vec!["--force"]].concat())
}

#[test]
fn one_request() {
    let folder = spoiled("requests.csv", "arrival_s\n0\n");
    folder.write("prompts.npy", embeddings(1, 4));
    folder.write("images.npy", embeddings(1, 4));
    let systems = ["vanilla", "modm", "nirvana", "pinecone"].map(|system| format!("system.policy={system}"));
    all(systems.iter().map(|system| works(&folder, "scenario.toml", &[system])));
    all([works(&folder, "made.toml", &["trace.synthetic.requests=1"])]);
}

/// Ticks without requests change nothing, so they cost nothing: a nanosecond's period over ten years is
/// 3e17 of them.
#[test]
fn periods_and_windows() {
    let folder = spoiled("requests.csv", "arrival_s\n0\n1\n315360000\n");
    let ticks = || fs::read_to_string(folder.path("results/allocation.csv")).unwrap().lines().count() - 1;
    all([works(&folder, "scenario.toml", &["allocation.period_s=1e-9", "metrics.window_s=1e-9"])]);
    assert_eq!(ticks(), 3, "one for each request");
    all([works(&folder, "scenario.toml", &[])]);
    assert_eq!(ticks(), 1, "at 180 s; the third request has ended before the next");
    all([
        works(&folder, "scenario.toml", &["allocation.period_s=315360000", "metrics.window_s=315360000"]),
        works(&folder, "scenario.toml", &["retrieval.latency_s=315360000", "metrics.warmup_s=315360000"]),
    ]);
}

#[test]
fn clusters_caches_and_bounds() {
    let folder = Folder::new();
    let runs: [&[&str]; 16] = [
        &["cluster.gpus=[{type=\"gpu\",count=65535}]", "allocation.period_s=1", "allocation.mode=throughput"],
        &["cluster.gpus=[{type=\"gpu\",count=65535}]", "allocation.period_s=1"],
        &["cluster.gpus=[{type=\"gpu\",count=1}]", "allocation.initial_large=1"],
        &["cache.capacity=4294967295"],
        &["cache.capacity=1"],
        &["approximation.level=[]", "models.steps=1", "system.bounds=[[0.2, 0]]"],
        &["models.steps=100000"],
        &["system.bounds=[[0, 5]]"],
        &["system.bounds=[[1, 5]]"],
        &["system.bounds=[[-1.0, 0], [1.0, 49]]"],
        &["system.policy=pinecone", "system.bounds=[[0, 0]]"],
        &["slo.multiples=[]"],
        &["allocation.headroom=0", "allocation.pid=off"],
        &["allocation.mode=load", "allocation.switching={up=1e-300,down=1e-301}", "allocation.period_s=1"],
        &["allocation.mode=load", "allocation.switching={up=10,down=1e-301}", "allocation.pid=off"],
        &["allocation.pid={kp=1e6,ki=-1e6,kd=1e6,dt=1e-300}", "allocation.period_s=1"],
    ];
    all(runs.map(|sets| works(&folder, "scenario.toml", sets)));
}

#[test]
fn service_times() {
    let with = |step: &str| spoiled("profile.toml", PROFILE.replacen("step_s = 1.0\noverhead_s = 0.1", step, 1));
    all(["step_s = 1e-9", "step_s = 1e7", "step_s = 0\noverhead_s = 315360000"]
        .map(|step| works(&with(step), "scenario.toml", &[])));
    let load = spoiled("profile.toml", PROFILE.replace("load_s = 10", "load_s = 315360000"));
    all([works(&load, "scenario.toml", &["allocation.initial_large=1", "allocation.period_s=1"])]);
    let endless = with("step_s = 3e8").run(&simulate("scenario.toml", &["--set", "models.steps=100000"]));
    let message = "error: the run lasts longer than 584 years; are the service times in seconds?\n";
    assert_eq!((endless.code, endless.out.as_str(), endless.err.as_str()), (1, "", message));
}

#[test]
fn traces() {
    let folder = Folder::new();
    all([
        works(&spoiled("requests.csv", "arrival_s\n5\n5\n5\n"), "scenario.toml", &[]),
        works(&spoiled("requests.csv", "arrival_s,deadline_s\n0,0\n1,0\n315360000,315360000\n"), "scenario.toml", &[]),
        works(&folder, "made.toml", &["trace.synthetic.arrivals={process=\"diurnal\",amplitude=1,period_s=1e-9}"]),
        works(&folder, "made.toml", &["trace.synthetic.arrivals={process=\"constant\",rate_per_min=1e9}"]),
        works(
            &folder,
            "made.toml",
            &["encoder.dimension=4096", "image_model.noise_dimension=4096", "image_model.noise=0.01"],
        ),
    ]);
    all([folder.success(&[
        "compare",
        "scenario.toml",
        "--seeds",
        "3",
        "--set",
        "seed=9007199254740992",
        "--out",
        "results",
        "--quiet",
        "--force",
    ])]);
}
