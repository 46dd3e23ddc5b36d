//! Warnings through the program: bounds that do not fit the embeddings, hits that a cold cache or an overloaded cluster
//! hides, and where each is said.

use modm::trace::npy;

use crate::program::Folder;
#[cfg(feature = "live")]
use crate::{onnxruntime, program};

/// Runs a command over a scenario in a folder; returns what it printed.
fn run(folder: &Folder, command: &str, scenario: &str, more: &[&str]) -> String {
    folder.write("scenario.toml", scenario);
    let common = [command, "scenario.toml", "--out", "out", "--force", "--quiet"];
    folder.works(&[&common[..], more].concat()).out
}

/// Warnings of a run's `run.json`.
fn warnings(folder: &Folder, run: &str) -> Vec<String> {
    let run = folder.json(&format!("{run}/run.json"));
    let all = run["warnings"].as_array().cloned().unwrap_or_default();
    all.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// 300 requests and embeddings of another encoder: `common` is what all texts and images share.
fn another_encoder(folder: &Folder, common: f32) {
    let rows = 300;
    let requests: Vec<String> = (0..rows).map(|row| format!("{},prompt {row}\n", 30 * row)).collect();
    let requests = requests.concat();
    folder.write("requests.csv", format!("arrival_s,prompt\n{requests}"));
    let dimension = 16;
    for (name, salt) in [("prompts.npy", 7_919_u64), ("images.npy", 104_729)] {
        // Linear congruential: any values without order do.
        let mut state = salt;
        let mut value = |at: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            if at.is_multiple_of(dimension) { common } else { noise }
        };
        let values: Vec<f32> = (0..rows * dimension).map(&mut value).collect();
        let mut bytes = Vec::new();
        npy::write(&mut bytes, rows, dimension, values).unwrap();
        folder.write(name, bytes);
    }
}

const ANOTHER: &str = r#"
name = "another"
seed = 0
[trace]
requests = "requests.csv"
prompt_embeddings = "prompts.npy"
image_embeddings = "images.npy"
[cluster]
gpus = [{ type = "mi210", count = 8 }]
[[variant]]
name = "vanilla"
set = { "system.policy" = "vanilla" }
[[variant]]
name = "modm"
[[variant]]
name = "modm-sana"
set = { "models.small" = ["sana-1.6b"] }
"#;

#[test]
fn bounds_of_another_encoder_are_told_once_for_all_variants() {
    let folder = Folder::new(&[]);
    another_encoder(&folder, 3.0);
    let printed = run(&folder, "compare", ANOTHER, &["--seeds", "2"]);
    let words = "the bounds do not fit the embeddings of prompts.npy and images.npy";
    assert_eq!(printed.matches(words).count(), 1, "{printed}");
    assert!(printed.contains("modm, modm-sana: ") && printed.contains("`modm calibrate`"), "{printed}");
    let page = folder.read("out/report.md");
    assert_eq!(page.matches(words).count(), 1, "{page}");
    assert!(folder.read("out/report.html").contains(words));
    for run in ["out/modm/seed-0", "out/modm-sana/seed-0"] {
        let said = warnings(&folder, run);
        assert!(said.iter().any(|text| text.contains(words)), "{run}: {said:?}");
    }
    assert!(!warnings(&folder, "out/vanilla/seed-0").iter().any(|text| text.contains(words)));
    // Every command that runs it says so.
    for (command, more) in [
        ("simulate", &["--set", "system.policy=modm"][..]),
        ("sweep", &["--vary", "cache.capacity=100,200"]),
        ("capacity", &["--variants", "modm"]),
        ("plan", &["--seeds", "1", "--max-gpus", "8", "--attainment", "0.5"]),
    ] {
        let other = Folder::new(&[]);
        another_encoder(&other, 3.0);
        let printed = run(&other, command, ANOTHER, more);
        assert_eq!(printed.matches(words).count(), 1, "{command}: {printed}");
    }
}

#[test]
fn bounds_that_nothing_reaches_are_told_and_bounds_that_fit_are_not() {
    let folder = Folder::new(&[]);
    another_encoder(&folder, 0.0);
    let high = run(&folder, "simulate", ANOTHER, &["--set", "system.bounds=[[0.99,10]]"]);
    assert!(
        high.contains("0 % of the requests reach the lowest bound (0.99) although 300 images were cached"),
        "{high}"
    );
    assert!(high.contains("of the prompts' own images 0 % do"), "{high}");
    let fits = run(&folder, "simulate", ANOTHER, &["--set", "system.bounds=[[0.6,10]]"]);
    assert!(!fits.contains("lowest bound"), "{fits}");
}

const SYNTHETIC: &str = r#"
name = "cold"
seed = 3
[trace.synthetic]
requests = 1500
arrivals = { process = "poisson", rate_per_min = 40.0 }
[trace.synthetic.prompts]
topics = 400
repeats = 0.4
[cluster]
gpus = [{ type = "mi210", count = 4 }]
"#;

#[test]
fn an_overloaded_cluster_hides_hits_and_a_fitting_one_does_not() {
    let folder = Folder::new(&[]);
    let words = "a cold cache or an overloaded cluster hides hits";
    let overloaded = run(&folder, "simulate", SYNTHETIC, &[]);
    assert!(overloaded.contains(words) && overloaded.contains("trace.warm_requests"), "{overloaded}");
    assert!(warnings(&folder, "out").iter().any(|text| text.contains(words)));
    let again = run(&folder, "simulate", SYNTHETIC, &[]);
    assert_eq!(again, overloaded, "the sample is drawn from the seed");
    let calm = ["--set", "trace.synthetic.arrivals.rate_per_min=0.5", "--set", "trace.warm_requests=400"];
    let calm = run(&folder, "simulate", SYNTHETIC, &calm);
    assert!(!calm.contains(words) && !calm.contains("lowest bound"), "{calm}");
    let sweep = ["--vary", "trace.synthetic.arrivals.rate_per_min=0.5,40,60"];
    let sweep = run(&folder, "sweep", SYNTHETIC, &sweep);
    assert_eq!(sweep.matches(words).count(), 1, "{sweep}");
    assert!(sweep.contains("1 of the other 2 runs likewise"), "{sweep}");
}

/// The known case: prompts embedded by the shapes' encoder, under the bounds of CLIP.
#[cfg(feature = "live")]
#[test]
fn the_encoder_of_the_shapes_under_the_bounds_of_clip_is_told() {
    onnxruntime::library();
    let folder = Folder::new(&[]);
    let shapes = "name = \"shapes\"\n[trace.synthetic]\nrequests = 400\n\
                  arrivals = { process = \"poisson\", rate_per_min = 20.0 }\n[trace.synthetic.prompts]\n\
                  vocabulary = \"art\"\n";
    folder.write("synthetic.toml", shapes);
    folder.works(&["trace", "generate", "--from", "synthetic.toml", "--out", "trace"]);
    let encoder = program::root().join("models/shapes/encoder");
    let model = encoder.to_str().unwrap();
    folder.works(&["embed", "trace/requests.csv", "--model", model, "--out", "prompts.npy", "--quiet"]);
    let scenario = "name = \"mine\"\n[trace]\nrequests = \"trace/requests.csv\"\nprompt_embeddings = \"prompts.npy\"\n\
                    [cluster]\ngpus = [{ type = \"mi210\", count = 8 }]\n";
    let printed = run(&folder, "simulate", scenario, &[]);
    assert!(printed.contains("the bounds do not fit the embeddings of prompts.npy"), "{printed}");
    let fitted = run(&folder, "simulate", &scenario.replace("prompt_embeddings = \"prompts.npy\"\n", ""), &[]);
    assert!(!fitted.contains("do not fit"), "{fitted}");
}
