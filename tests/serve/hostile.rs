//! Models that misbehave: folders whose values are not finite are refused with what to do about it, and a server on a
//! model that fails on command (`tests/hostile`, made by `scripts/hostile_models`) answers every good prompt and keeps
//! nothing of a bad one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use modm::draw::{Purpose, stream};
use modm::live::encoder::DualEncoder;
use modm::live::error::Error;
use modm::live::picture::Picture;
use modm::live::pipeline::noise::SeededNoise;
use modm::live::pipeline::{self, Drawing, Manner, Pipeline, Sessions};
use modm::live::settings::Device;
use rand::RngExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::onnxruntime;
use crate::program::{Answer, copy, json as read_json, modm, root, within};
use crate::served::{Served, serve};

/// The model that misbehaves on command.
fn hostile() -> PathBuf {
    root().join("tests/hostile/model")
}

/// A copy of a folder of the project, with some keys of its files set otherwise.
fn with_keys(folder: &str, keys: &[(&str, &str, Value)]) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    copy(&root().join(folder), to.path());
    for (file, key, value) in keys {
        let file = to.path().join(file);
        // Python writes numbers into SANA's scheduler that JSON has not.
        let text = fs::read_to_string(&file).unwrap().replace("-Infinity", "null");
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config[key] = value.clone();
        fs::write(&file, config.to_string()).unwrap();
    }
    to
}

/// A field of a protocol buffer; all that is written here is short.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

/// Makes an output of a model NaN: renames it where a node gives it, and appends a node that adds NaN (two messages of
/// a protocol buffer one after the other are one).
fn spoil(model: &Path, output: &str) {
    let mut bytes = fs::read(model).unwrap();
    let before = format!("~{}", &output[1..]);
    let at = bytes.windows(output.len()).position(|window| window == output.as_bytes()).unwrap();
    bytes[at..at + output.len()].copy_from_slice(before.as_bytes());
    let nan = [vec![2 << 3, 1], field(8, b"nan"), field(9, &f32::NAN.to_le_bytes())].concat();
    let node = [field(1, before.as_bytes()), field(1, b"nan"), field(2, output.as_bytes()), field(4, b"Add")].concat();
    bytes.extend(field(7, &[field(1, &node), field(5, &nan)].concat()));
    fs::write(model, bytes).unwrap();
}

fn load(folder: &Path) -> Result<Pipeline, Error> {
    Pipeline::load(&mut Sessions::new(onnxruntime::library(), Device::default()), folder, None, None)
}

#[test]
fn numbers_that_give_values_that_are_not_finite_are_named_before_a_model_is_loaded() {
    const SDXL: &str = "tests/parity/sdxl/model";
    const SD3: &str = "tests/parity/sd3/model";
    const FLUX: &str = "tests/parity/flux-dev/model";
    const SANA: &str = "tests/parity/sana/model";
    let denoiser = "transformer/config.json";
    let (vae, schedule) = ("vae_decoder/config.json", "scheduler/scheduler_config.json");
    let cases = [
        (SDXL, vae, "scaling_factor", json!(0), "other than 0"),
        (SD3, vae, "scaling_factor", json!(1e-60), "other than 0"),
        (SD3, vae, "scaling_factor", json!(1e60), "single precision"),
        (SD3, vae, "shift_factor", json!(1e60), "single precision"),
        (SD3, schedule, "shift", json!(0), "a shift from 0.001 to 1000"),
        (SD3, schedule, "shift", json!(-3), "a shift from 0.001 to 1000"),
        (FLUX, schedule, "base_shift", json!(1e6), "from -10 to 10"),
        (FLUX, schedule, "max_image_seq_len", json!(256), "more tokens than base_image_seq_len"),
        (FLUX, schedule, "use_dynamic_shifting", json!("yes"), "expected false"),
        (FLUX, denoiser, "guidance_embeds", json!("yes"), "true or false"),
        (SANA, schedule, "flow_shift", json!(0), "a shift from 0.001 to 1000"),
        (SANA, schedule, "prediction_type", json!("epsilon"), "expected \"flow_prediction\""),
        (SANA, denoiser, "timestep_scale", json!(1e60), "single precision"),
        (SDXL, schedule, "beta_start", json!(-1), "from 0 to below 1"),
        (SDXL, schedule, "beta_end", json!(1), "from 0 to below 1"),
        (SDXL, schedule, "beta_end", json!(0.99), "noise levels that are finite"),
        (SD3, "model_index.json", "guidance_scale", json!(1e60), "single precision"),
        (SD3, "model_index.json", "guidance_scale", json!(-1), "from 0 to 1000"),
    ];
    for (folder, file, key, value, words) in cases {
        let folder = with_keys(folder, &[(file, key, value.clone())]);
        let said = pipeline::check(folder.path()).unwrap_err().to_string();
        let named = format!("{}: {key} = ", folder.path().join(file).display());
        assert!(said.starts_with(&named) && said.contains(words), "{key} = {value}: {said}");
    }
    for (key, value) in [("image_mean", json!([0, 0, 1e60])), ("rescale_factor", json!(1e60))] {
        let folder = with_keys("models/shapes/encoder", &[("preprocessor_config.json", key, value)]);
        let said = DualEncoder::check(folder.path()).unwrap_err().to_string();
        assert!(said.contains(&format!("preprocessor_config.json: {key} = ")), "{said}");
    }
}

#[test]
fn a_folder_whose_values_are_not_finite_is_refused_when_it_is_loaded() {
    let tiny = |part: &str, output: &str| {
        let folder = with_keys("models/shapes/tiny", &[]);
        spoil(&folder.path().join(part).join("model.onnx"), output);
        folder
    };
    let scaled = |model: &str, by: f64| {
        with_keys(&format!("tests/parity/sdxl/{model}"), &[("vae_decoder/config.json", "scaling_factor", json!(by))])
    };
    let cases = [
        (tiny("text_encoder", "text_embeds"), "text_encoder", "in its output `text_embeds`"),
        (tiny("transformer", "out_hidden_states"), "transformer", "at step 1 of 2"),
        (scaled("model", 1.3e-38), "vae_decoder", "if its weights are in half precision, export vae_encoder"),
        // As SDXL's own autoencoder in half precision: activations beyond 65504.
        (scaled("model-fp16", 1e-6), "vae_decoder", "half precision overflows, so export vae_encoder and vae_decoder"),
    ];
    for (folder, part, words) in cases {
        pipeline::check(folder.path()).unwrap();
        let said = load(folder.path()).unwrap_err().to_string();
        let file = folder.path().join(part).join("model.onnx");
        let named = format!("{}: gave values that are not finite", file.display());
        assert!(said.starts_with(&named) && said.contains(words), "{part}: {said}");
    }
    for model in ["models/shapes/tiny", "tests/parity/sdxl/model", "tests/parity/sdxl/model-fp16"] {
        load(&root().join(model)).unwrap();
    }
    for (file, output) in [("text_model.onnx", "text_embeds"), ("vision_model.onnx", "image_embeds")] {
        let folder = with_keys("models/shapes/encoder", &[]);
        spoil(&folder.path().join(file), output);
        DualEncoder::check(folder.path()).unwrap();
        let said = DualEncoder::open(&onnxruntime::library(), folder.path(), Device::default()).unwrap_err();
        let named = format!("{}: gave values that are not finite", folder.path().join(file).display());
        assert!(said.to_string().starts_with(&named), "{said}");
    }
}

#[test]
fn a_job_whose_values_are_not_finite_fails_and_the_next_is_drawn() {
    let mut models = [hostile(), root().join("models/shapes/tiny")].map(|folder| load(&folder).unwrap());
    let noise = SeededNoise { seed: 3, row: 0 };
    let manner = |keep_going| Manner { steps: 6, skipped: 0, guidance: None, negative: "", size: None, keep_going };
    let mut draw = |model: usize, prompt: &str, source: Option<&Picture>| {
        let manner = Manner { skipped: if source.is_some() { 3 } else { 0 }, ..manner(&|| true) };
        models[model].draw(&[Drawing { prompt, noise: &noise, source }], &manner)
    };
    let good = "a small green square on white";
    let source = draw(1, good, None).unwrap().remove(0);
    for (command, part, words) in [
        ("nan", "transformer", "at step 1 of 6"),
        ("nan-text", "text_encoder", "in its output `text_embeds`"),
        ("error", "transformer", "indices element out of data bounds"),
    ] {
        let said = draw(0, &format!("a small {command} square on white"), None).unwrap_err().to_string();
        assert!(said.starts_with(&hostile().join(part).display().to_string()) && said.contains(words), "{said}");
        assert_eq!(
            draw(0, good, None).unwrap(),
            draw(1, good, None).unwrap(),
            "without a command it is the tiny model"
        );
        assert_eq!(draw(0, good, Some(&source)).unwrap(), draw(1, good, Some(&source)).unwrap());
    }
    let said = draw(0, "a nan square", Some(&source)).unwrap_err().to_string();
    assert!(said.contains("at step 4 of 6"), "steps that are skipped count: {said}");
}

/// Few steps, hits on whatever is cached, and this folder for both models.
fn on_model(folder: &Path) -> Vec<String> {
    let models = ["large", "small"].map(|name| format!("live.models.shapes-{name}={}", folder.display()));
    let sets = ["models.steps=6", "system.bounds=[[0.0, 3]]", "live.size=[32, 32]", &models[0], &models[1]];
    sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect()
}

#[test]
fn programs_refuse_such_a_folder_with_the_way_out_and_exit_code_2() {
    onnxruntime::library();
    let vae = "vae_decoder/config.json";
    let named = with_keys("tests/parity/sdxl/model", &[(vae, "scaling_factor", json!(0))]);
    let found = with_keys("tests/parity/sdxl/model-fp16", &[(vae, "scaling_factor", json!(1e-6))]);
    let out = tempfile::tempdir().unwrap();
    let place = |name: &str| out.path().join(name).display().to_string();
    let run = |model: &TempDir, arguments: &[&str]| -> (i32, String) {
        let Answer { code, out, err } = Answer::to(modm(arguments).args(on_model(model.path())));
        (code, out + &err)
    };
    let scenario = "scenarios/live-shapes.toml";
    for (model, words) in [
        (&named, "scaling_factor = 0: expected a number other than 0"),
        (&found, "half precision overflows, so export vae_encoder and vae_decoder in fp32"),
    ] {
        let serve = ["serve", scenario, "--data", &place("data"), "--listen", "127.0.0.1:0"];
        let live = ["live", scenario, "--out", &place("out"), "--force"];
        for (arguments, code) in [(&serve[..], 2), (&live[..], 2), (&["doctor", scenario][..], 1)] {
            let (ended, said) = run(model, arguments);
            assert!(ended == code && said.contains(words), "{arguments:?}: {said}");
        }
    }
}

/// Starts a server, both of whose models are the hostile one.
fn start(data: &Path, more: &[&str]) -> Served {
    let mut command = serve(Path::new("scenarios/live-shapes.toml"), data);
    Served::launch(command.args(on_model(&hostile())).args(["--rate-per-min", "100000"]).args(more))
}

fn draw(server: &Served, prompt: &str) -> (u16, Value) {
    server.draw(&json!({ "prompt": prompt }))
}

/// Clients at a time, and requests of all of them.
const CLIENTS: usize = 3;
const REQUESTS: usize = 48;
/// Commands that end a job by themselves.
const FAILING: [&str; 3] = ["error", "nan", "nan-text"];
/// Attempts that a request has.
const ATTEMPTS: usize = 3;

/// Prompts of a seeded run: one in five has a command. They do not repeat, so that each is drawn.
fn prompts(seed: u64) -> Vec<(String, Option<&'static str>)> {
    let mut draws = stream(seed, Purpose::Test, 60);
    let mut pick = |words: &[&'static str]| words[draws.random_range(0..words.len())];
    let one = |row: usize| {
        let command = match pick(&["", "", "", "", "bad"]) {
            "bad" => Some(pick(&FAILING)),
            _ => None,
        };
        let colour = pick(&["red", "green", "blue", "yellow", "purple", "cyan"]);
        let shape = pick(&["circle", "square", "triangle", "star", "cross", "ring"]);
        (format!("a small {} {colour} {shape} {row}", command.unwrap_or("dark")), command)
    };
    (0..REQUESTS).map(one).collect()
}

/// Sends all of these, several at a time; returns status and answer of each.
fn answers(server: &Served, prompts: &[(String, Option<&str>)]) -> Vec<(u16, Value)> {
    let (ask, asked) = channel();
    (0..prompts.len()).for_each(|row| ask.send(row).unwrap());
    drop(ask);
    let asked: Mutex<Receiver<usize>> = Mutex::new(asked);
    let answers = Mutex::new(vec![(0, Value::Null); prompts.len()]);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let next = asked.lock().unwrap().recv();
                    let Ok(row) = next else { break };
                    let answer = draw(server, &prompts[row].0);
                    answers.lock().unwrap()[row] = answer;
                }
            });
        }
    });
    answers.into_inner().unwrap()
}

/// Prompts of what the server says is cached.
fn cached(server: &Served) -> Vec<String> {
    let listed = server.get("/v1/cache?limit=100");
    let data = listed["data"].as_array().unwrap();
    data.iter().map(|entry| entry["prompt"].as_str().unwrap().to_owned()).collect()
}

/// Prompts of the records of a store.
fn stored(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let records = files.filter(|file| {
        let is_number = file.file_stem().unwrap().to_string_lossy().starts_with('0');
        is_number && file.extension().is_some_and(|extension| extension == "json")
    });
    let prompt = |file: PathBuf| read_json(&file)["prompt"].as_str().unwrap().to_owned();
    records.map(prompt).collect()
}

#[test]
fn among_prompts_that_fail_every_good_one_is_answered_and_nothing_of_a_bad_one_is_kept() {
    let seed = std::env::var("MODM_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("MODM_TEST_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let prompts = prompts(seed);
    let answers = answers(&server, &prompts);
    let (mut good, mut bad, mut named) = (0, 0, 0);
    for ((prompt, command), (status, answer)) in prompts.iter().zip(&answers) {
        let Some(command) = command else {
            assert_eq!(*status, 200, "{prompt}: {answer}");
            assert!(answer["data"][0]["b64_json"].is_string(), "{prompt}");
            good += 1;
            continue;
        };
        assert_eq!((*status, &answer["error"]["code"]), (500, &json!("generation_failed")), "{prompt}: {answer}");
        let reason = answer["error"]["message"].as_str().unwrap();
        let words = if *command == "error" { "out of data bounds" } else { "not finite" };
        // The last of three failures may be told as the worker's loss.
        assert!(reason.contains(words) || reason == "worker lost", "{prompt}: {reason}");
        bad += 1;
        named += usize::from(reason.contains(words));
    }
    assert!(good > 20 && bad > 4 && named > 0, "{good} good, {bad} bad, {named} with the model's reason");
    // Pictures are found once they are embedded.
    let has_command = |prompt: &String| FAILING.iter().any(|command| prompt.split(' ').any(|word| word == *command));
    let kept = cached(&server);
    assert!(!kept.is_empty() && !kept.iter().any(has_command), "{kept:?}");
    let said = server.terminate_and_read();
    let failures = said.lines().filter(|line| line.contains("a job failed")).count();
    assert!((bad..=ATTEMPTS * bad).contains(&failures), "{failures} failures of {bad} requests: {said:#?}");
    let stored = stored(&folder.path().join("store"));
    let kept = 1..=good;
    assert!(kept.contains(&stored.len()) && !stored.iter().any(has_command), "{good} good: {stored:?}");
    assert_eq!(fs::read_dir(folder.path().join("results")).unwrap().count(), 0, "nothing of a bad one is a result");
    // What is left opens clean and is drawn from.
    let server = start(folder.path(), &[]);
    assert_eq!(cached(&server).len(), stored.len());
    let (status, answer) = draw(&server, &prompts.iter().find(|(_, command)| command.is_none()).unwrap().0);
    assert!(status == 200 && answer["modm"][0]["decision"] == "hit", "{answer}");
    assert!(server.terminate().success());
}

/// A prompt that has no end or no room takes a worker, for a while, and nothing else.
fn takes_a_worker_and_nothing_else(command: &str) {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["--set", "serve.timeout_s=60", "--set", "live.limits.step_s=3"];
    let server = start(folder.path(), &limits);
    std::thread::scope(|scope| {
        let bad = scope.spawn(|| draw(&server, &format!("a small {command} red circle")));
        for row in 0..20 {
            let (status, answer) = draw(&server, &format!("a small dark green square {row}"));
            assert_eq!(status, 200, "{answer}");
        }
        let (status, answer) = bad.join().unwrap();
        assert!(matches!(status, 500 | 504), "{answer}");
    });
    within(60, "the workers are idle", || {
        let status = server.get("/v1/status");
        status["workers"].as_array().unwrap().iter().all(|worker| worker["state"] == "idle").then_some(())
    });
    assert!(cached(&server).iter().all(|prompt| !prompt.contains(command)));
    assert!(server.terminate().success());
}

#[test]
fn a_step_that_never_ends_takes_a_worker_for_a_while() {
    takes_a_worker_and_nothing_else("hang");
}

#[test]
fn a_step_that_asks_for_more_memory_than_there_is_takes_a_worker_for_a_while() {
    takes_a_worker_and_nothing_else("huge");
}
