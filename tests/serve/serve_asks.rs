//! Wishes beside the prompt over HTTP: sizes, steps, several pictures, checkpoints, negative prompts and guidance; what
//! a seed promises; and hits that stay within checkpoints and sizes, also after a restart.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::{root, within};
use crate::served::{PROMPT, Served, picture, serve};

/// Bounds below the similarity of any picture and its own prompt, so that the second picture of a prompt is a hit. The
/// tiny model draws worse than the others.
const BOUNDS: [&str; 2] = ["--set", "system.bounds=[[0.20, 20]]"];

/// Server of the shapes, with the tiny model as a checkpoint of both.
fn start(data: &Path, more: &[&str]) -> Served {
    let tiny = root().join("models/shapes/tiny");
    let tiny = tiny.display();
    let set = format!("live.checkpoints={{ tiny = {{ shapes-large = \"{tiny}\", shapes-small = \"{tiny}\" }} }}");
    Served::start(data, &[BOUNDS.as_slice(), &["--set", &set], more].concat())
}

/// Draws a picture, and says how it came about. Waits until it is cached.
fn draw(server: &Served, more: &Value) -> (Value, Value) {
    let mut body = json!({ "prompt": PROMPT });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let count = || server.get("/v1/cache?limit=200")["data"].as_array().unwrap().len();
    let before = count();
    let (status, answer) = server.draw(&body);
    assert_eq!(status, 200, "{body}: {answer}");
    if body["cache"] != "off" {
        within(60, "the picture", || (count() > before).then_some(()));
    }
    (answer["data"][0].clone(), answer["modm"][0].clone())
}

#[test]
fn checkpoints_are_apart_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let decisions = |server: &Served, more: Value| draw(server, &more).1["decision"].as_str().unwrap().to_owned();
    let tiny = || json!({ "checkpoint": "tiny" });
    let server = start(folder.path(), &[]);
    let before: Vec<String> =
        [json!({}), tiny(), json!({}), tiny()].into_iter().map(|more| decisions(&server, more)).collect();
    assert_eq!(before, ["miss", "miss", "hit", "hit"]);
    assert!(server.terminate().success());
    let server = start(folder.path(), &[]);
    let hit = draw(&server, &tiny()).1;
    assert_eq!(hit["decision"], "hit");
    assert!(server.terminate().success());
    let store = folder.path().join("store");
    let drawn_by_tiny = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("\"checkpoint\": \"tiny\"");
    let mut records: Vec<PathBuf> = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()).collect();
    records.retain(|file| {
        let number = file.file_stem().unwrap().to_str().unwrap().bytes().all(|byte| byte.is_ascii_digit());
        number && file.extension().is_some_and(|extension| extension == "json")
    });
    let of_tiny: Vec<PathBuf> = records.into_iter().filter(drawn_by_tiny).collect();
    assert!(of_tiny.len() >= 3);
    for file in of_tiny {
        fs::remove_file(file).unwrap();
    }
    let server = start(folder.path(), &[]);
    assert_eq!(decisions(&server, tiny()), "miss", "pictures of the models' own weights are there, and not found");
    assert_eq!(decisions(&server, json!({})), "hit");
}

#[test]
fn a_seed_gives_the_same_picture_again_without_a_hit() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--set", "serve.most_steps=30"]);
    let again = |more: Value| {
        let mut body = json!({ "seed": 7, "cache": "off" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let drawn = [draw(&server, &body), draw(&server, &body)];
        assert!(drawn.iter().all(|(_, made)| made["reproducible"] == true && made["decision"] == "miss"));
        assert_eq!(picture(&drawn[0].0), picture(&drawn[1].0), "{body}");
        (picture(&drawn[0].0), drawn[0].1.clone())
    };
    // Each of these is another picture from the same noise.
    let wishes = [
        json!({}),
        json!({ "checkpoint": "tiny" }),
        json!({ "num_inference_steps": 10 }),
        json!({ "num_inference_steps": 30 }),
        json!({ "guidance_scale": 1 }),
        json!({ "negative_prompt": "a large blue star at the bottom right on black" }),
    ];
    let drawn: Vec<_> = wishes.into_iter().map(again).collect();
    assert!((0..drawn.len()).all(|one| (0..one).all(|other| drawn[one].0 != drawn[other].0)));
    assert_eq!([0, 2, 3].map(|at| drawn[at].1["total_steps"].as_u64().unwrap()), [26, 10, 30]);
    let (_, first) = draw(&server, &json!({}));
    assert!(first["decision"] == "miss" && first["reproducible"] == false, "the server chose the noise: {first}");
    // The header says the same as the key `cache`.
    let without_hit = || {
        let request = ureq::http::Request::post(format!("{}/v1/images/generations", server.address))
            .header("content-type", "application/json")
            .header("cache-control", "no-cache");
        let body = json!({ "prompt": PROMPT, "seed": 7 }).to_string();
        let mut answer = server.agent.run(request.body(body).unwrap()).unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!(answer["modm"][0]["reproducible"], true, "{answer}");
        picture(&answer["data"][0])
    };
    assert!(without_hit() == drawn[0].0 && without_hit() == drawn[0].0);
    let (_, hit) = draw(&server, &json!({ "seed": 7 }));
    assert!(hit["decision"] == "hit" && hit["reproducible"] == false, "{hit}");
}

#[test]
fn pictures_of_one_request_differ_and_start_from_different_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    for _ in 0..2 {
        let (status, answer) = server.draw(&json!({ "prompt": PROMPT, "n": 3 }));
        assert_eq!(status, 200, "{answer}");
        let data = answer["data"].as_array().unwrap();
        let pictures: Vec<_> = data.iter().map(picture).collect();
        assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2] && pictures[0] != pictures[2]);
        let mut sources: Vec<&str> = data.iter().filter_map(|datum| datum["modm"]["source"].as_str()).collect();
        let hits = sources.len();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), hits, "{answer}");
        within(60, "the pictures", || {
            (server.get("/v1/cache?limit=200")["data"].as_array().unwrap().len() >= 3).then_some(())
        });
    }
}

#[test]
fn what_is_not_offered_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    for (key, value, says) in [
        ("size", json!("64x64"), "size: expected \"32x32\" or \"auto\""),
        ("size", json!("big"), "size: expected"),
        ("num_inference_steps", json!(27), "expected a whole number from 1 to 26"),
        ("num_inference_steps", json!(0), "expected a whole number from 1 to 26"),
        ("checkpoint", json!("mine"), "expected one of tiny"),
        ("loras", json!(["style"]), "the workers here take none"),
        ("guidance_scale", json!(-1), "expected a number from 0 to 1000"),
        ("negative_prompt", json!(5), "expected text"),
    ] {
        let (status, answer) = server.draw(&json!({ "prompt": PROMPT, key: value }));
        let error = &answer["error"];
        let message = error["message"].as_str().unwrap();
        assert!(status == 400 && error["param"] == key && message.contains(says), "{key}: {answer}");
    }
    let nothing = json!({ "loras": [], "checkpoint": null, "num_inference_steps": null, "negative_prompt": null });
    assert_eq!(draw(&server, &nothing).1["decision"], "miss");
}

#[test]
fn sizes_are_drawn_and_hits_keep_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let models = root().join("tests/parity");
    let row = |name: &str| {
        format!("[[service]]\ngpu = \"cpu\"\nmodel = \"{name}\"\nstep_s = 0.02\nload_s = 0.2\npixels = 4096\n")
    };
    let profile = folder.path().join("profile.toml");
    fs::write(&profile, format!("source = \"a guess\"\n{}{}", row("sd3"), row("sana"))).unwrap();
    let text = format!(
        "name = \"sizes\"\n[trace.synthetic]\nrequests = 1\narrivals = {{ process = \"poisson\", rate_per_min = 60 }}\n\
         [cluster]\ngpus = [{{ type = \"cpu\", count = 2 }}]\n[models]\nprofile = \"profile.toml\"\nlarge = \"sd3\"\n\
         small = [\"sana\"]\nsteps = 8\nsize = [64, 64]\n[system]\npolicy = \"modm\"\nbounds = [[0.0, 4]]\n[live]\n\
         encoder = \"{}\"\nsize = [64, 64]\nmodels = {{ sd3 = \"{models}/sd3/model\", sana = \"{models}/sana/model\" }}\n\
         [serve]\nsizes = [[96, 96], [64, 96]]\n",
        root().join("models/shapes/encoder").display(),
        models = models.display(),
    );
    let scenario = folder.path().join("sizes.toml");
    fs::write(&scenario, text).unwrap();
    let server = Served::launch(&mut serve(&scenario, &folder.path().join("data")));
    let mut hits = 0;
    for turn in 0..12 {
        let (size, sides) = [("64x96", [64, 96]), ("96x96", [96, 96]), ("auto", [64, 64])][turn % 3];
        let (drawn, made) = draw(&server, &json!({ "size": size }));
        assert_eq!(picture(&drawn).size(), sides);
        if let Some(source) = made["source"].as_str() {
            hits += 1;
            let (_, _, bytes) = server.answer("GET", &format!("/v1/images/{source}"), None);
            let [width, height] = modm::live::picture::Picture::decode(&bytes).unwrap().size();
            assert_eq!(width == height, sides[0] == sides[1], "{width}x{height} serves {size}");
        }
    }
    assert!(hits > 0, "something was found");
    let (status, answer) = server.draw(&json!({ "prompt": PROMPT, "size": "32x32" }));
    let says = "size: expected \"64x64\", \"96x96\", \"64x96\" or \"auto\"";
    assert!(status == 400 && answer["error"]["message"].as_str().unwrap().starts_with(says), "{answer}");
}
