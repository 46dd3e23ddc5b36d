//! Our pipelines against diffusers': the same noise, prompts and sources give the same latents and pictures,
//! step counts, guidance and strengths alike. The cases are stored (tests/parity/README.md says how they
//! came about), so no Python is needed.

#[path = "../parity/mutations.rs"]
mod mutations;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use modm::embedding::Embedding;
use modm::live::encoder::DualEncoder;
use modm::live::error::Error;
use modm::live::measure::parity::{Agreement, difference, read};
use modm::live::picture::Picture;
use modm::live::pipeline::noise::SeededNoise;
use modm::live::pipeline::schedule::Schedule;
use modm::live::pipeline::{self, Drawing, Family, Manner, Pipeline, Sessions};
use modm::live::settings::Device;
use modm::trace::npy;
use serde_json::Value;

use crate::onnxruntime;
use crate::program::{json, root};

/// Latents and pictures may differ by this much of their range, in single precision: less than any wrong
/// convention makes, a hundred times what another order of sums does.
const TOLERANCE: f32 = 1e-4;
/// In half precision, whose own rounding makes up to 0.034 of a range (tests/parity/README.md).
const HALF_TOLERANCE: f32 = 6e-2;

fn folder() -> PathBuf {
    root().join("tests/parity")
}

/// The CPU, or the device that `MODM_TEST_DEVICE` names.
fn device() -> Device {
    std::env::var("MODM_TEST_DEVICE").map_or_else(|_| Device::default(), |name| name.parse().unwrap())
}

/// All values of a stored array.
fn array(folder: &Path, name: &Value) -> Vec<f32> {
    let matrix = npy::read(&folder.join("cases").join(name.as_str().unwrap())).unwrap();
    (0..matrix.rows()).flat_map(|index| matrix.row(index).iter().copied()).collect()
}

/// Compares all cases of a file with what a model draws. Returns the greatest difference.
fn check(cases: &str, model: &Path, tolerance: f32) -> f32 {
    let mut pipeline = Pipeline::open(&onnxruntime::library(), model, device()).unwrap();
    let cases = read(&folder().join(cases)).unwrap();
    assert!(cases.len() >= 3);
    let agreements: Vec<Agreement> = cases.iter().map(|case| case.run(&mut pipeline).unwrap()).collect();
    let bad = agreements.iter().filter(|agreement| agreement.worst() > tolerance);
    assert_eq!(bad.collect::<Vec<_>>(), Vec::<&Agreement>::new(), "of {agreements:#?}");
    agreements.iter().map(Agreement::worst).fold(0.0, f32::max)
}

/// A copy of a model's folder, without some of its parts.
fn copied(model: &Path, with: impl Fn(&str) -> bool) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_over(model, to.path(), with);
    to
}

fn copy_over(model: &Path, to: &Path, with: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(model).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_string_lossy().into_owned();
        if from.is_file() {
            fs::copy(&from, to.join(&name)).unwrap();
        } else if with(&name) {
            fs::create_dir(to.join(&name)).unwrap();
            for file in fs::read_dir(&from).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), to.join(&name).join(file.file_name())).unwrap();
            }
        }
    }
}

/// SD3 without its third encoder: the same files, another index.
fn without_t5(model: &str) -> tempfile::TempDir {
    let to = copied(&folder().join("sd3").join(model), |part| !part.ends_with("_3"));
    fs::copy(folder().join("sd3-no-t5/model_index.json"), to.path().join("model_index.json")).unwrap();
    to
}

/// FLUX.1-schnell: what it does not share with FLUX.1-dev over a copy of that.
fn schnell(model: &str) -> tempfile::TempDir {
    let own = folder().join("flux-schnell").join(model);
    let to = copied(&folder().join("flux-dev").join(model), |part| !own.join(part).exists());
    copy_over(&own, to.path(), |_| true);
    to
}

/// Folder of a model in one precision, whole.
pub(crate) fn model(family: &str, precision: &str) -> (PathBuf, Option<tempfile::TempDir>) {
    let made = match family {
        "sd3-no-t5" => Some(without_t5(precision)),
        "flux-schnell" => Some(schnell(precision)),
        _ => None,
    };
    let path = made.as_ref().map_or_else(|| folder().join(family).join(precision), |made| made.path().to_owned());
    (path, made)
}

const FAMILIES: [&str; 6] = ["sdxl", "sd3", "sd3-no-t5", "flux-dev", "flux-schnell", "sana"];

#[test]
fn every_family_draws_what_diffusers_draws() {
    for family in FAMILIES {
        let (path, _made) = model(family, "model");
        let worst = check(&format!("{family}/cases.json"), &path, TOLERANCE);
        println!("{family}: {worst:.1e}");
    }
}

#[test]
fn half_precision_draws_nearly_the_same() {
    for family in FAMILIES {
        let (path, _made) = model(family, "model-fp16");
        let worst = check(&format!("{family}/cases.json"), &path, HALF_TOLERANCE);
        println!("{family}: {worst:.1e}");
    }
}

/// The reference has weights rounded to bfloat16 and computes in single precision, as a widened folder does.
#[test]
fn bfloat16_is_widened_without_a_loss() {
    for family in FAMILIES.into_iter().filter(|family| *family != "sd3-no-t5") {
        let (path, _made) = model(family, "model-bf16");
        let worst = check(&format!("{family}/cases-bf16.json"), &path, TOLERANCE);
        println!("{family}: {worst:.1e}");
    }
}

/// FLUX.1-dev and FLUX.1-schnell share all but the denoiser: a worker that changes between them keeps the rest, and
/// draws the pictures that it draws alone.
#[test]
fn parts_that_models_share_are_loaded_once() {
    let (dev, _) = model("flux-dev", "model");
    let (fast, _made) = model("flux-schnell", "model");
    let library = onnxruntime::library();
    let noise = SeededNoise { seed: 5, row: 0 };
    let manner =
        Manner { steps: 4, skipped: 0, guidance: None, negative: "", size: Some([32, 32]), keep_going: &|| true };
    let draw = |pipeline: &mut Pipeline| {
        pipeline.draw_numbers(&[Drawing { prompt: "a red cube", noise: &noise, source: None }], &manner).unwrap()
    };
    let alone = [&dev, &fast].map(|path| draw(&mut Pipeline::open(&library, path, device()).unwrap()));
    assert!(difference(&alone[0].latents, &alone[1].latents) > 1e-2, "other weights, other pictures");
    let mut sessions = Sessions::new(library, device());
    let mut opened = Vec::new();
    let mut held: Option<Pipeline> = None;
    for at in [0, 1, 0, 1] {
        if let Some(held) = held.take() {
            held.unload(&mut sessions);
        }
        let before = sessions.opened();
        let mut pipeline = Pipeline::load(&mut sessions, [&dev, &fast][at], None, Some([32, 32])).unwrap();
        opened.push(sessions.opened() - before);
        assert_eq!(draw(&mut pipeline), alone[at]);
        held = Some(pipeline);
    }
    assert_eq!(opened, [5, 1, 1, 1], "two text encoders, a denoiser, an autoencoder of two; then the denoiser");
}

#[test]
fn schnell_takes_no_guidance() {
    let (fast, _made) = model("flux-schnell", "model");
    assert!(!pipeline::takes_guidance(&fast).unwrap());
    assert!(pipeline::takes_guidance(&folder().join("flux-dev/model")).unwrap());
    let sessions = &mut Sessions::new(onnxruntime::library(), device());
    let refused = Pipeline::load(sessions, &fast, Some(3.5), Some([32, 32])).unwrap_err().to_string();
    assert!(refused.contains("guidance = 3.5") && refused.contains("distilled"), "{refused}");
}

/// Number of tokens that are left out of a prompt that is longer than its encoders take.
#[test]
fn long_prompts_are_cut_and_said_to_be() {
    let long = "a red cube on a blue table ".repeat(80);
    let cuts = |family: &str, prompt: &str| {
        let (path, _made) = model(family, "model");
        Pipeline::open(&onnxruntime::library(), &path, device()).unwrap().cuts(prompt).unwrap()
    };
    for (family, limits) in [
        ("sdxl", &[("text_encoder", 77), ("text_encoder_2", 77)][..]),
        ("sd3", &[("text_encoder", 77), ("text_encoder_2", 77), ("text_encoder_3", 256)]),
        ("flux-dev", &[("text_encoder", 77), ("text_encoder_2", 512)]),
        ("flux-schnell", &[("text_encoder", 77), ("text_encoder_2", 256)]),
        ("sana", &[("text_encoder", 300)]),
    ] {
        assert_eq!(cuts(family, "a red cube"), []);
        let found = cuts(family, &long);
        let named: Vec<(&str, usize)> = found.iter().map(|cut| (cut.encoder.as_str(), cut.limit)).collect();
        assert_eq!(named, limits, "{family}");
        // One word more is as many tokens more.
        let more = cuts(family, &format!("{long} cube"));
        for (cut, more) in found.iter().zip(&more) {
            assert!((1..=4).contains(&(more.left_out - cut.left_out)), "{family}: {cut:?} {more:?}");
        }
    }
}

#[test]
fn pictures_drawn_together_are_those_drawn_alone() {
    let folder = folder().join("sd3");
    let mut pipeline = Pipeline::open(&onnxruntime::library(), &folder.join("model"), device()).unwrap();
    let noises = [1, 2, 3].map(|row| SeededNoise { seed: 5, row });
    let drawings = || {
        noises.iter().zip(["a red cube", "", "a castle on a hill"]).map(|(noise, prompt)| Drawing {
            prompt,
            noise,
            source: None,
        })
    };
    let manner =
        Manner { steps: 4, skipped: 0, guidance: Some(3.0), negative: "", size: Some([32, 64]), keep_going: &|| true };
    let together = pipeline.draw_numbers(&drawings().collect::<Vec<_>>(), &manner).unwrap();
    let alone: Vec<f32> =
        drawings().flat_map(|drawing| pipeline.draw_numbers(&[drawing], &manner).unwrap().latents).collect();
    assert!(difference(&together.latents, &alone) < TOLERANCE);
    assert_eq!(together.size, [32, 64]);
}

#[test]
fn a_drawing_stops_at_the_next_step() {
    let folder = folder().join("sdxl/model");
    let mut pipeline = Pipeline::open(&onnxruntime::library(), &folder, device()).unwrap();
    let asked = Cell::new(0);
    let keep_going = || asked.replace(asked.get() + 1) < 3;
    let noise = SeededNoise { seed: 5, row: 0 };
    let manner = Manner { steps: 10, skipped: 0, guidance: None, negative: "", size: None, keep_going: &keep_going };
    let stopped = pipeline.draw(&[Drawing { prompt: "a cube", noise: &noise, source: None }], &manner);
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert_eq!(asked.get(), 4);
}

#[test]
fn noise_levels_are_those_of_the_published_schedulers() {
    let published = json(&folder().join("schedules.json"));
    let published = published.as_array().unwrap();
    for (name, count) in [("sdxl", 5), ("sd3.5-large", 5), ("sd3.5-large-turbo", 5), ("sd3.5-medium", 5)] {
        assert_eq!(published.iter().filter(|schedule| schedule["name"] == name).count(), count, "{name}");
    }
    for family in ["flux-dev", "flux-schnell", "sana"] {
        let own = published.iter().filter(|schedule| schedule["name"].as_str().unwrap().starts_with(family));
        assert!(own.count() >= 5, "{family}");
    }
    let numbers = |value: &Value| {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect::<Vec<_>>()
    };
    for schedule in published {
        let steps = schedule["steps"].as_u64().unwrap() as u32;
        let name = schedule["name"].as_str().unwrap();
        let family = if name.starts_with("sdxl") {
            Family::StableDiffusionXl
        } else if name.starts_with("flux") {
            Family::Flux
        } else if name.starts_with("sana") {
            Family::Sana
        } else {
            Family::StableDiffusion3
        };
        let tokens = schedule["tokens"].as_u64().unwrap_or(1) as usize;
        let levels = Schedule::parse(&schedule["scheduler"], family).unwrap().levels(steps, tokens);
        let (name, close) = (format!("{} {steps}", schedule["name"]), 2e-6);
        assert!(difference(&levels.sigmas, &numbers(&schedule["sigmas"])) < close, "{name}: {:?}", levels.sigmas);
        assert!(
            difference(&levels.timesteps, &numbers(&schedule["timesteps"])) < close,
            "{name}: {:?}",
            levels.timesteps
        );
        let initial = schedule["init_noise_sigma"].as_f64().unwrap() as f32;
        assert!((levels.initial - initial).abs() <= initial * close, "{name}: {}", levels.initial);
    }
}

#[test]
fn a_dual_encoder_sees_what_transformers_sees() {
    let folder = folder().join("clip");
    let mut encoder = DualEncoder::open(&onnxruntime::library(), &folder.join("model"), device()).unwrap();
    let cases = json(&folder.join("cases.json"));
    let words = |list: &str, key: &str| -> Vec<String> {
        cases[list].as_array().unwrap().iter().map(|case| case[key].as_str().unwrap().to_owned()).collect()
    };
    let (texts, files) = (words("texts", "prompt"), words("cases", "picture"));
    let pictures: Vec<Picture> = files
        .iter()
        .map(|file| Picture::decode(&fs::read(folder.join("cases").join(file)).unwrap()).unwrap())
        .collect();
    let flat = |rows: Vec<Embedding>| rows.iter().flat_map(|row| row.as_slice().to_vec()).collect::<Vec<f32>>();
    let of_texts = flat(encoder.texts(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap());
    assert!(difference(&of_texts, &array(&folder, &cases["text_embeds"])) < TOLERANCE);
    let prepared: Vec<f32> = pictures.iter().flat_map(|picture| encoder.prepared(picture)).collect();
    // Bit by bit what Pillow makes of them, but for the last place of the scaling.
    assert!(difference(&prepared, &array(&folder, &cases["pixel_values"])) < 1e-6);
    let of_pictures = flat(encoder.images(&pictures.iter().collect::<Vec<_>>()).unwrap());
    assert!(difference(&of_pictures, &array(&folder, &cases["image_embeds"])) < TOLERANCE);
}
