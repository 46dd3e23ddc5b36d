//! Whole live runs on tiny models of the published architectures (tests/parity): FLUX.1-dev with FLUX.1-schnell, which
//! share their text encoders and autoencoder, and SD3 with SANA, two families. Their pictures show nothing; that they
//! are the reference's is for `parity`.

use std::fs;
use std::path::{Path, PathBuf};

use modm::live::picture::Picture;

use crate::parity::model;
use crate::program::{Answer, json, modm, root, rows};

fn tests() -> PathBuf {
    root().join("tests/parity")
}

/// Writes a scenario of two workers, and a profile for it.
fn scenario(folder: &Path, large: (&str, &Path), small: (&str, &Path), steps: u32) -> PathBuf {
    let row = |name: &str, step: f64| {
        format!("[[service]]\ngpu = \"cpu\"\nmodel = \"{name}\"\nstep_s = {step}\noverhead_s = 0.02\nload_s = 0.2\n")
    };
    let profile = format!("source = \"a guess\"\n{}{}", row(large.0, 0.02), row(small.0, 0.01));
    fs::write(folder.join("profile.toml"), profile).unwrap();
    let text = format!(
        "name = \"tiny\"\n[trace.synthetic]\nrequests = 40\narrivals = {{ process = \"poisson\", rate_per_min = 500 }}\n\
         [trace.synthetic.prompts]\nvocabulary = \"shapes\"\ntopics = 5\nrepeats = 0.8\n[cluster]\n\
         gpus = [{{ type = \"cpu\", count = 2 }}]\n[models]\nprofile = \"profile.toml\"\nlarge = \"{}\"\nsmall = [\"{}\"]\n\
         steps = {steps}\n[system]\npolicy = \"modm\"\nbounds = [[0.0, {}]]\n[allocation]\ninitial_large = 1\n\
         period_s = 1\n[live]\nencoder = \"{}\"\nsize = [64, 64]\nmodels = {{ {} = \"{}\", {} = \"{}\" }}\n",
        large.0,
        small.0,
        steps / 2,
        root().join("models/shapes/encoder").display(),
        large.0,
        large.1.display(),
        small.0,
        small.1.display(),
    );
    let file = folder.join("tiny.toml");
    fs::write(&file, text).unwrap();
    file
}

/// Runs a pair of models, and checks that hits were drawn by the small one from what they were refined from.
fn draws(large: (&str, &Path), small: (&str, &Path), steps: u32) {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path(), large, small, steps);
    let out = folder.path().join("out");
    crate::onnxruntime::library();
    Answer::to(&mut modm(&["live", file.to_str().unwrap(), "--out", out.to_str().unwrap()])).succeeded();
    let rows = rows(&out.join("requests.csv"));
    assert_eq!(rows.len(), 40);
    let picture = |id: &str| Picture::decode(&fs::read(out.join("images").join(format!("{id}.png"))).unwrap()).unwrap();
    let mut refined = 0;
    for row in &rows {
        assert_eq!(row["outcome"], "completed");
        let own = picture(&row["request_id"]);
        assert_eq!(own.size(), [64, 64]);
        if row["decision"] == "hit" && row["model"] == small.0 {
            assert_eq!(row["steps_run"], (steps - steps / 2).to_string());
            refined += 1;
        }
    }
    assert!(refined > 0, "the small model refined something");
    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["completed"], 40);
    assert!(out.join("hits.png").is_file() && out.join("pictures.html").is_file());
}

#[test]
fn flux_dev_and_schnell_serve_together() {
    let (fast, _made) = model("flux-schnell", "model");
    draws(("flux-dev", &tests().join("flux-dev/model")), ("flux-schnell", &fast), 8);
}

#[test]
fn sd3_and_sana_serve_together() {
    draws(("sd3", &tests().join("sd3/model")), ("sana", &tests().join("sana/model")), 8);
}

#[test]
fn models_in_bfloat16_serve_on_the_cpu() {
    let (fast, _made) = model("flux-schnell", "model-bf16");
    draws(("flux-dev", &tests().join("flux-dev/model-bf16")), ("flux-schnell", &fast), 4);
}

#[test]
fn guidance_for_a_model_without_guidance_is_refused_and_long_prompts_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let (fast, _made) = model("flux-schnell", "model");
    let file = scenario(folder.path(), ("flux-dev", &tests().join("flux-dev/model")), ("flux-schnell", &fast), 4);
    let (file, out) = (file.to_str().unwrap(), folder.path().join("out"));
    crate::onnxruntime::library();
    let live = |sets: &[&str]| {
        let mut arguments = vec!["live", file, "--out", out.to_str().unwrap()];
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        Answer::to(&mut modm(&arguments))
    };
    let Answer { code, err, .. } = live(&["live.guidance={ flux-schnell = 3.5 }"]);
    let named = "live.guidance.flux-schnell = 3.5: expected a scale of at most 1";
    assert!(code == 2 && err.contains(named) && !out.exists(), "{err}");
    let prompt = "a small house in the forest in winter, snow on the roof, ".repeat(8);
    fs::write(folder.path().join("long.csv"), format!("arrival_s,prompt\n0,\"{prompt}\"\n0.1,a house\n")).unwrap();
    let Answer { code, err, .. } = live(&["trace={ requests = \"long.csv\" }"]);
    let warned = err.lines().filter(|line| line.contains("is longer than its `text_encoder` takes (77 tokens)"));
    assert!(code == 0 && warned.count() == 1 && err.contains("tokens were left out"), "{err}");
}
