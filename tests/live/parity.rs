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
use modm::live::picture::Picture;
use modm::live::pipeline::noise::{Noise, NoiseFor, SeededNoise};
use modm::live::pipeline::schedule::Schedule;
use modm::live::pipeline::{Drawing, Manner, Pipeline};
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

/// The CPU, or the device that `scripts/gpu_acceptance` names.
fn device() -> Device {
    std::env::var("MODM_TEST_DEVICE").map_or_else(|_| Device::default(), |name| name.parse().unwrap())
}

/// All values of a stored array.
fn array(folder: &Path, name: &Value) -> Vec<f32> {
    let matrix = npy::read(&folder.join("cases").join(name.as_str().unwrap())).unwrap();
    (0..matrix.rows()).flat_map(|index| matrix.row(index).iter().copied()).collect()
}

/// Noise as it was drawn for the reference.
struct Stored {
    drawing: Vec<f32>,
    source: Vec<f32>,
}

impl Noise for Stored {
    fn draw(&self, what: NoiseFor, count: usize) -> Vec<f32> {
        let stored = if what == NoiseFor::Drawing { &self.drawing } else { &self.source };
        assert_eq!(stored.len(), count, "{what:?}");
        stored.clone()
    }
}

/// The largest difference over the range of the expected values.
fn difference(ours: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(ours.len(), expected.len());
    let range = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let worst = ours.iter().zip(expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    if worst.is_nan() { f32::INFINITY } else { worst / range }
}

/// Input of one run.
struct Case {
    prompt: String,
    source: Option<Picture>,
    noise: Stored,
    manner: Manner<'static>,
}

impl Case {
    fn read(folder: &Path, case: &Value) -> Self {
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let source = case["source"]
            .as_str()
            .map(|name| Picture::decode(&fs::read(folder.join("cases").join(name)).unwrap()).unwrap());
        let noise = Stored {
            drawing: array(folder, &case["noise"]),
            source: if source.is_some() { array(folder, &case["vae_noise"]) } else { Vec::new() },
        };
        let manner = Manner {
            steps: number("steps"),
            skipped: number("skipped"),
            guidance: Some(case["guidance"].as_f64().unwrap() as f32),
            size: Some([number("width"), number("height")]),
            keep_going: &|| true,
        };
        Self { prompt: case["prompt"].as_str().unwrap().to_owned(), source, noise, manner }
    }

    /// Differences of latents and of the picture from what is stored.
    fn run(&self, pipeline: &mut Pipeline, folder: &Path, case: &Value) -> [f32; 2] {
        let drawing = Drawing { prompt: &self.prompt, noise: &self.noise, source: self.source.as_ref() };
        let drawn = pipeline.draw_numbers(&[drawing], &self.manner).unwrap();
        let picture: Vec<f32> = drawn.planes.iter().map(|value| (value / 2.0 + 0.5).clamp(0.0, 1.0)).collect();
        [
            difference(&drawn.latents, &array(folder, &case["latents"])),
            difference(&picture, &array(folder, &case["image"])),
        ]
    }
}

fn check(name: &str, model: &Path, tolerance: f32) {
    let folder = folder().join(name);
    let mut pipeline = Pipeline::open(&onnxruntime::library(), model, device()).unwrap();
    let cases = json(&folder.join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 7);
    let differences: Vec<(&Value, [f32; 2])> =
        cases.iter().map(|case| (&case["name"], Case::read(&folder, case).run(&mut pipeline, &folder, case))).collect();
    let bad = differences.iter().filter(|(_, both)| both.iter().any(|difference| *difference > tolerance));
    assert_eq!(bad.collect::<Vec<_>>(), Vec::<&(&Value, [f32; 2])>::new(), "of {differences:#?}");
}

/// A copy of a model's folder, without some of its parts.
fn copied(model: &Path, with: impl Fn(&str) -> bool) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let from = entry.unwrap().path();
        let name = from.file_name().unwrap().to_string_lossy().into_owned();
        if from.is_file() {
            fs::copy(&from, to.path().join(&name)).unwrap();
        } else if with(&name) {
            fs::create_dir(to.path().join(&name)).unwrap();
            for file in fs::read_dir(&from).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), to.path().join(&name).join(file.file_name())).unwrap();
            }
        }
    }
    to
}

/// SD3 without its third encoder: the same files, another index.
fn without_t5(model: &str) -> tempfile::TempDir {
    let to = copied(&folder().join("sd3").join(model), |part| !part.ends_with("_3"));
    fs::copy(folder().join("sd3-no-t5/model_index.json"), to.path().join("model_index.json")).unwrap();
    to
}

#[test]
fn sdxl_draws_what_diffusers_draws() {
    check("sdxl", &folder().join("sdxl/model"), TOLERANCE);
}

#[test]
fn sd3_draws_what_diffusers_draws() {
    check("sd3", &folder().join("sd3/model"), TOLERANCE);
}

#[test]
fn sd3_without_t5_draws_what_diffusers_draws() {
    check("sd3-no-t5", without_t5("model").path(), TOLERANCE);
}

#[test]
fn half_precision_draws_nearly_the_same() {
    check("sdxl", &folder().join("sdxl/model-fp16"), HALF_TOLERANCE);
    check("sd3", &folder().join("sd3/model-fp16"), HALF_TOLERANCE);
    check("sd3-no-t5", without_t5("model-fp16").path(), HALF_TOLERANCE);
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
    let manner = Manner { steps: 4, skipped: 0, guidance: Some(3.0), size: Some([32, 64]), keep_going: &|| true };
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
    let manner = Manner { steps: 10, skipped: 0, guidance: None, size: None, keep_going: &keep_going };
    let stopped = pipeline.draw(&[Drawing { prompt: "a cube", noise: &noise, source: None }], &manner);
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert_eq!(asked.get(), 4);
}

#[test]
fn noise_levels_are_those_of_the_published_schedulers() {
    let published = json(&folder().join("schedules.json"));
    let published = published.as_array().unwrap();
    assert_eq!(published.len(), 15, "SDXL, SD3.5-Large and SD3.5-Large-Turbo at five numbers of steps");
    let numbers = |value: &Value| {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect::<Vec<_>>()
    };
    for schedule in published {
        let steps = schedule["steps"].as_u64().unwrap() as u32;
        let levels = Schedule::parse(&schedule["scheduler"]).unwrap().levels(steps);
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
