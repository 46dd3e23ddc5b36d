//! Deliberate mistakes, each of which the comparison with diffusers must see: what passes them would pass a
//! pipeline that is wrong. They are made from outside, in the files of a model or in what it is asked.

use std::fs;
use std::path::Path;

use modm::live::pipeline::Pipeline;
use serde_json::{Value, json};

use super::{Case, TOLERANCE, copied, device, folder, json, onnxruntime};

/// Mistake to make.
enum Mistake {
    /// No mistake: the same way of running.
    None,
    /// A key of a file says something else.
    Config(&'static str, &'static str, Value),
    /// Request to the pipeline that is not the one of the case.
    Asked(fn(&mut Case)),
    /// The halves of the batch, with the prompt and without it, change places in what the denoiser says.
    Halves,
}

const SDXL: &[&str] = &["sdxl"];
const SD3: &[&str] = &["sd3"];
const BOTH: &[&str] = &["sdxl", "sd3"];

const TEXT: &str = "text_4_guided_plain_32x32";
const PLAIN: &str = "text_4_plain_unicode_32x32";
const REFINED: &str = "skip4_10_guided_castle_32x32";
const WIDE: &str = "text_10_guided_empty_32x64";

/// Mistakes: in which families, seen by which cases, and how each is made.
type Mutation = (&'static str, &'static [&'static str], &'static [&'static str], Mistake);

fn mutations() -> Vec<Mutation> {
    let scheduler = |key, value| Mistake::Config("scheduler/scheduler_config.json", key, value);
    let vae = |key, value| Mistake::Config("vae_decoder/config.json", key, value);
    let both: &[&str] = &[TEXT, REFINED];
    vec![
        ("shift of the noise levels", SD3, both, scheduler("shift", json!(3.01))),
        ("beta_end", SDXL, both, scheduler("beta_end", json!(0.0121))),
        ("timestep_spacing", SDXL, both, scheduler("timestep_spacing", json!("trailing"))),
        ("steps_offset", SDXL, both, scheduler("steps_offset", json!(0))),
        ("one step more is skipped", BOTH, &[REFINED], Mistake::Asked(|case| case.manner.skipped += 1)),
        ("one step less is skipped", BOTH, &[REFINED], Mistake::Asked(|case| case.manner.skipped -= 1)),
        ("a schedule of one step more", BOTH, both, Mistake::Asked(|case| case.manner.steps += 1)),
        ("a schedule of one step less", BOTH, both, Mistake::Asked(|case| case.manner.steps -= 1)),
        ("2 % more guidance", BOTH, both, Mistake::Asked(|case| scale_guidance(case, 1.02))),
        ("guidance off", BOTH, both, Mistake::Asked(|case| case.manner.guidance = Some(1.0))),
        ("guidance on", BOTH, &[PLAIN], Mistake::Asked(|case| case.manner.guidance = Some(1.02))),
        ("with and without the prompt swapped", BOTH, both, Mistake::Halves),
        ("noise with its channels last", BOTH, both, Mistake::Asked(channels_last)),
        (
            "a line of noise one place further",
            BOTH,
            both,
            Mistake::Asked(|case| case.noise.drawing[..4].rotate_right(1)),
        ),
        ("noise of drawing and autoencoder swapped", BOTH, &[REFINED], Mistake::Asked(swap_noises)),
        ("scaling_factor of the autoencoder", SDXL, both, vae("scaling_factor", json!(0.13155))),
        ("scaling_factor of the autoencoder", SD3, both, vae("scaling_factor", json!(1.5458))),
        ("no shift_factor of the autoencoder", SD3, both, vae("shift_factor", json!(null))),
        (
            "a text for guidance where there is none",
            SDXL,
            both,
            Mistake::Config("model_index.json", "force_zeros_for_empty_prompt", json!(false)),
        ),
        (
            "width and height swapped",
            BOTH,
            &[WIDE],
            Mistake::Asked(|case| case.manner.size.as_mut().unwrap().reverse()),
        ),
    ]
}

fn scale_guidance(case: &mut Case, by: f32) {
    case.manner.guidance = case.manner.guidance.map(|scale| scale * by);
}

fn swap_noises(case: &mut Case) {
    std::mem::swap(&mut case.noise.drawing, &mut case.noise.source);
}

/// As if the numbers were drawn pixel by pixel and not channel by channel.
fn channels_last(case: &mut Case) {
    let [width, height] = case.manner.size.unwrap();
    let pixels = (width * height / 64) as usize;
    let drawn = &case.noise.drawing;
    let channels = drawn.len() / pixels;
    case.noise.drawing = (0..drawn.len()).map(|at| drawn[at % pixels * channels + at / pixels]).collect();
}

fn set(file: &Path, key: &str, value: &Value) {
    let mut config = json(file);
    assert_ne!(config[key], *value, "{}: {key} says so already", file.display());
    config[key] = value.clone();
    fs::write(file, config.to_string()).unwrap();
}

/// A field of a protocol buffer; all that is written here is short.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

/// Swaps the two rows of a denoiser's output: renames it in its graph, which is followed by its inputs and
/// outputs, and appends a node and a constant to the graph (two messages one after the other are one).
fn swap_halves(model: &Path, output: &str) {
    let mut bytes = fs::read(model).unwrap();
    let before = output.replace("out_", "all_");
    let at = bytes.windows(output.len()).position(|window| window == output.as_bytes()).unwrap();
    bytes[at..at + output.len()].copy_from_slice(before.as_bytes());
    let rows: Vec<u8> = [1_i64, 0].iter().flat_map(|row| row.to_le_bytes()).collect();
    let constant = [vec![1 << 3, 2, 2 << 3, 7], field(8, b"rows"), field(9, &rows)].concat();
    let node = [field(1, before.as_bytes()), field(1, b"rows"), field(2, output.as_bytes()), field(4, b"Gather")];
    bytes.extend(field(7, &[field(1, &node.concat()), field(5, &constant)].concat()));
    fs::write(model, bytes).unwrap();
}

/// The largest difference that a mistake makes in one case.
fn seen(family: &str, name: &str, mistake: &Mistake) -> f32 {
    let folder = folder().join(family);
    let cases = json(&folder.join("cases.json"));
    let stored = cases["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    let mut case = Case::read(&folder, stored);
    let model = copied(&folder.join("model"), |_| true);
    match mistake {
        Mistake::None => {}
        Mistake::Config(file, key, value) => set(&model.path().join(file), key, value),
        Mistake::Asked(change) => change(&mut case),
        Mistake::Halves => {
            let (part, output) =
                if family == "sdxl" { ("unet", "out_sample") } else { ("transformer", "out_hidden_states") };
            swap_halves(&model.path().join(part).join("model.onnx"), output);
        }
    }
    let mut pipeline = Pipeline::open(&onnxruntime::library(), model.path(), device()).unwrap();
    case.run(&mut pipeline, &folder, stored).into_iter().fold(0.0, f32::max)
}

#[test]
fn deliberate_mistakes_are_seen() {
    let (mut missed, mut all) = (Vec::new(), Vec::new());
    for (what, families, cases, mistake) in mutations() {
        for family in families {
            for case in cases {
                let difference = seen(family, case, &mistake);
                let line = format!("{family}, {case}: {what}: {difference:.1e}");
                missed.extend((difference.is_nan() || difference <= TOLERANCE).then(|| line.clone()));
                all.push(line);
            }
        }
    }
    assert!(
        missed.is_empty(),
        "not seen, at a tolerance of {TOLERANCE:.0e}:\n{}\nof\n{}",
        missed.join("\n"),
        all.join("\n")
    );
    println!("{}", all.join("\n"));
}

#[test]
fn without_a_mistake_nothing_is_seen() {
    for family in BOTH {
        for case in [TEXT, PLAIN, REFINED, WIDE] {
            let difference = seen(family, case, &Mistake::None);
            assert!(difference <= TOLERANCE, "{family}, {case}: {difference:.1e}");
        }
    }
}
