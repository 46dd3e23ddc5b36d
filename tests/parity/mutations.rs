//! Deliberate mistakes, each of which the comparison with diffusers must see: what passes them would pass a
//! pipeline that is wrong. They are made from outside, in the files of a model or in what it is asked.

use std::fs;
use std::path::Path;

use modm::live::measure::parity::{Case, read};
use modm::live::pipeline::Pipeline;
use serde_json::{Value, json};

use super::{TOLERANCE, copied, device, folder, onnxruntime};

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

/// Cases of a family: drawn from noise with guidance, without guidance, from a picture, and not square.
struct Family {
    name: &'static str,
    denoiser: &'static str,
    output: &'static str,
    text: &'static str,
    plain: &'static str,
    refined: &'static str,
    wide: &'static str,
}

const SDXL: Family = Family {
    name: "sdxl",
    denoiser: "unet",
    output: "out_sample",
    text: "text_4_guided_plain_32x32",
    plain: "text_4_plain_unicode_32x32",
    refined: "skip4_10_guided_castle_32x32",
    wide: "text_10_guided_empty_32x64",
};
const SD3: Family = Family { name: "sd3", denoiser: "transformer", output: "out_hidden_states", ..SDXL };
const FLUX: Family = Family { name: "flux-dev", plain: "text_10_plain_unicode_32x32", ..SD3 };
const SANA: Family = Family {
    name: "sana",
    text: "text_4_guided_plain_64x64",
    plain: "text_4_plain_unicode_32x64",
    refined: "skip8_20_guided_castle_64x64",
    wide: "text_20_guided_marks_64x128",
    ..SD3
};

/// Kind of case that sees a mistake.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Plain,
    Refined,
    Wide,
}

impl Family {
    const fn case(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Text => self.text,
            Kind::Plain => self.plain,
            Kind::Refined => self.refined,
            Kind::Wide => self.wide,
        }
    }
}

/// Mistakes: in which families, seen by which cases, and how each is made.
type Mutation = (&'static str, &'static [Family], &'static [Kind], Mistake);

fn mutations() -> Vec<Mutation> {
    const ALL: &[Family] = &[SDXL, SD3, FLUX, SANA];
    // FLUX.1-dev is guided by an input, and does not run twice.
    const TWICE: &[Family] = &[SDXL, SD3, SANA];
    const DRAWN: &[Kind] = &[Kind::Text, Kind::Refined];
    let scheduler = |key, value| Mistake::Config("scheduler/scheduler_config.json", key, value);
    let vae = |key, value| Mistake::Config("vae_decoder/config.json", key, value);
    vec![
        ("shift of the noise levels", &[SD3], DRAWN, scheduler("shift", json!(3.01))),
        ("shift by the number of tokens", &[FLUX], DRAWN, scheduler("base_shift", json!(0.51))),
        ("no shift by the number of tokens", &[FLUX], DRAWN, scheduler("use_dynamic_shifting", json!(false))),
        ("shift of the noise levels", &[SANA], DRAWN, scheduler("flow_shift", json!(3.01))),
        ("steps of first order", &[SANA], DRAWN, scheduler("_class_name", json!("FlowMatchEulerDiscreteScheduler"))),
        ("timestep_scale", &[SANA], DRAWN, Mistake::Config("transformer/config.json", "timestep_scale", json!(1.02))),
        ("beta_end", &[SDXL], DRAWN, scheduler("beta_end", json!(0.0121))),
        ("timestep_spacing", &[SDXL], DRAWN, scheduler("timestep_spacing", json!("trailing"))),
        ("steps_offset", &[SDXL], DRAWN, scheduler("steps_offset", json!(0))),
        ("one step more is skipped", ALL, &[Kind::Refined], Mistake::Asked(|case| case.manner.skipped += 1)),
        ("one step less is skipped", ALL, &[Kind::Refined], Mistake::Asked(|case| case.manner.skipped -= 1)),
        ("a schedule of one step more", ALL, DRAWN, Mistake::Asked(|case| case.manner.steps += 1)),
        ("a schedule of one step less", ALL, DRAWN, Mistake::Asked(|case| case.manner.steps -= 1)),
        ("2 % more guidance", ALL, DRAWN, Mistake::Asked(|case| scale_guidance(case, 1.02))),
        ("guidance off", ALL, DRAWN, Mistake::Asked(|case| case.manner.guidance = Some(1.0))),
        ("guidance on", ALL, &[Kind::Plain], Mistake::Asked(|case| case.manner.guidance = Some(1.02))),
        ("with and without the prompt swapped", TWICE, DRAWN, Mistake::Halves),
        ("noise with its channels last", ALL, DRAWN, Mistake::Asked(channels_last)),
        (
            "a line of noise one place further",
            ALL,
            DRAWN,
            Mistake::Asked(|case| case.noise.drawing[..2].rotate_right(1)),
        ),
        ("noise of drawing and autoencoder swapped", &[SDXL, SD3, FLUX], &[Kind::Refined], Mistake::Asked(swap_noises)),
        ("scaling_factor of the autoencoder", &[SDXL], DRAWN, vae("scaling_factor", json!(0.13155))),
        ("scaling_factor of the autoencoder", &[SD3], DRAWN, vae("scaling_factor", json!(1.5458))),
        ("scaling_factor of the autoencoder", &[FLUX], DRAWN, vae("scaling_factor", json!(0.3647))),
        ("scaling_factor of the autoencoder", &[SANA], DRAWN, vae("scaling_factor", json!(0.4182))),
        ("no shift_factor of the autoencoder", &[SD3, FLUX], DRAWN, vae("shift_factor", json!(null))),
        (
            "a text for guidance where there is none",
            &[SDXL],
            DRAWN,
            Mistake::Config("model_index.json", "force_zeros_for_empty_prompt", json!(false)),
        ),
        (
            "width and height swapped",
            ALL,
            &[Kind::Wide],
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
    let drawn = &case.noise.drawing;
    // SDXL's latents have four channels. Any other order of the values will do for the other families.
    let channels = 4;
    let pixels = drawn.len() / channels;
    case.noise.drawing = (0..drawn.len()).map(|at| drawn[at % pixels * channels + at / pixels]).collect();
}

fn set(file: &Path, key: &str, value: &Value) {
    // Python writes numbers into SANA's scheduler that JSON has not.
    let text = fs::read_to_string(file).unwrap().replace("-Infinity", "null");
    let mut config: Value = serde_json::from_str(&text).unwrap();
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
fn seen(family: &Family, kind: Kind, mistake: &Mistake) -> f32 {
    let cases = read(&folder().join(family.name).join("cases.json")).unwrap();
    let mut case = cases.into_iter().find(|case| case.name == family.case(kind)).unwrap();
    let model = copied(&folder().join(family.name).join("model"), |_| true);
    match mistake {
        Mistake::None => {}
        Mistake::Config(file, key, value) => set(&model.path().join(file), key, value),
        Mistake::Asked(change) => change(&mut case),
        Mistake::Halves => {
            swap_halves(&model.path().join(family.denoiser).join("model.onnx"), family.output);
        }
    }
    let mut pipeline = Pipeline::open(&onnxruntime::library(), model.path(), device()).unwrap();
    case.run(&mut pipeline).unwrap().worst()
}

#[test]
fn deliberate_mistakes_are_seen() {
    let (mut missed, mut all) = (Vec::new(), Vec::new());
    for (what, families, kinds, mistake) in mutations() {
        for family in families {
            for &kind in kinds {
                let difference = seen(family, kind, &mistake);
                let line = format!("{}, {}: {what}: {difference:.1e}", family.name, family.case(kind));
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
    for family in [SDXL, SD3, FLUX, SANA] {
        for kind in [Kind::Text, Kind::Plain, Kind::Refined, Kind::Wide] {
            let difference = seen(&family, kind, &Mistake::None);
            assert!(difference <= TOLERANCE, "{}, {}: {difference:.1e}", family.name, family.case(kind));
        }
    }
}
