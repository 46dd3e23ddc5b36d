//! Our pipelines against diffusers': the same noise, prompts and sources give the same latents and pictures,
//! step counts, guidance and strengths alike. The cases are stored (tests/parity/README.md says how they
//! came about), so no Python is needed.

#![cfg(feature = "live")]
#![expect(clippy::unwrap_used, reason = "tests, and what only they call")]

#[path = "common/onnxruntime.rs"]
mod onnxruntime;

use std::path::{Path, PathBuf};

use modm::live::picture::Picture;
use modm::live::pipeline::noise::{Noise, NoiseFor};
use modm::live::pipeline::{Drawing, Manner, Pipeline};
use modm::live::settings::Device;
use modm::trace::npy;
use serde_json::Value;

/// Latents and pictures may differ by this much of their range.
const TOLERANCE: f32 = 1e-3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity")
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// All values of a stored array.
fn array(folder: &Path, name: &Value) -> Vec<f32> {
    let matrix = npy::read(&folder.join("cases").join(name.as_str().unwrap())).unwrap();
    let mut row = Vec::new();
    (0..matrix.rows()).flat_map(|index| { matrix.read(index, &mut row); row.clone() }).collect()
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

/// What one case gives: differences of latents and of the picture.
fn run(pipeline: &mut Pipeline, folder: &Path, case: &Value) -> [f32; 2] {
    let number = |key: &str| case[key].as_u64().unwrap() as u32;
    let source = case["source"].as_str().map(|name| {
        Picture::decode(&std::fs::read(folder.join("cases").join(name)).unwrap()).unwrap()
    });
    let noise = Stored {
        drawing: array(folder, &case["noise"]),
        source: if source.is_some() { array(folder, &case["vae_noise"]) } else { Vec::new() },
    };
    let drawing = Drawing { prompt: case["prompt"].as_str().unwrap(), noise: &noise, source: source.as_ref() };
    let manner = Manner {
        steps: number("steps"),
        skipped: number("skipped"),
        guidance: Some(case["guidance"].as_f64().unwrap() as f32),
        size: Some([number("width"), number("height")]),
        keep_going: &|| true,
    };
    let drawn = pipeline.draw_numbers(&[drawing], &manner).unwrap();
    let picture: Vec<f32> = drawn.planes.iter().map(|value| (value / 2.0 + 0.5).clamp(0.0, 1.0)).collect();
    [difference(&drawn.latents, &array(folder, &case["latents"])), difference(&picture, &array(folder, &case["image"]))]
}

fn check(name: &str, model: &Path) {
    let folder = folder().join(name);
    let mut pipeline = Pipeline::open(&onnxruntime::library(), model, Device::default()).unwrap();
    let cases = json(&folder.join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 8);
    let differences: Vec<(&Value, [f32; 2])> =
        cases.iter().map(|case| (&case["name"], run(&mut pipeline, &folder, case))).collect();
    let bad = differences.iter().filter(|(_, differences)| differences.iter().any(|difference| *difference > TOLERANCE));
    assert_eq!(bad.collect::<Vec<_>>(), Vec::<&(&Value, [f32; 2])>::new(), "of {differences:#?}");
}

#[test]
fn sdxl_draws_what_diffusers_draws() {
    check("sdxl", &folder().join("sdxl/model"));
}

#[test]
fn sd3_draws_what_diffusers_draws() {
    check("sd3", &folder().join("sd3/model"));
}
