//! Live mode through the program: a run on the models of shapes, its files, Ctrl-C and SIGTERM, a second run on the
//! first one's pictures; embedding, profiling, the doctor; and what is refused, with exit code 2 and the way out.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use modm::journal::What;
use modm::live::picture::Picture;
use modm::profile;
use modm::scheduler::Action;
use modm::trace::npy;
use serde_json::Value;

use crate::journals::{journal_lines, replays};
use crate::onnxruntime;
use crate::program::{Answer, Row, json, modm, pause, root, rows as table, signal, within};

fn run(arguments: &[&str]) -> Answer {
    onnxruntime::library();
    Answer::to(&mut modm(arguments))
}

/// Runs what must work.
fn works(arguments: &[&str]) -> String {
    run(arguments).succeeded().out
}

/// Files of a run beside those that tests read.
const FILES: [&str; 7] = [
    "journal.jsonl.gz",
    "report.html",
    "report.md",
    "pictures.html",
    "run.json",
    "scenario.toml",
    "trace/requests.csv",
];

/// A short run: few requests, fast.
const SHORT: [&str; 10] = [
    "--set",
    "trace.synthetic.requests=60",
    "--set",
    "trace.synthetic.arrivals={process=\"poisson\",rate_per_min=900}",
    "--set",
    "models.steps=26",
    "--set",
    "allocation.period_s=0.5",
    "--set",
    "live.fit_rate=0",
];

fn live<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["live", "scenarios/live-shapes.toml", "--out", out];
    arguments.extend(SHORT);
    arguments.extend(more);
    arguments
}

fn out(folder: &tempfile::TempDir) -> (PathBuf, String) {
    let out = folder.path().join("out");
    (out.clone(), out.to_str().unwrap().to_owned())
}

/// `cache.csv` beside requests and summary: every request is a search, and false hits are those of the definition.
fn cache_adds_up(folder: &Path, requests: &[Row], summary: &Value) {
    let cache = table(&folder.join("cache.csv"));
    let sum = |column: &str| cache.iter().map(|row| row[column].parse::<usize>().unwrap()).sum::<usize>();
    let of = |decision: &str| {
        let rows = requests.iter().filter(|row| row["decision"] == decision);
        rows.map(|row| row["similarity_to_prompt"].parse().unwrap()).collect::<Vec<f64>>()
    };
    let (hits, misses) = (of("hit"), of("miss"));
    assert_eq!((sum("searches"), sum("misses")), (requests.len(), misses.len()));
    let bound = 0.95 * misses.iter().sum::<f64>() / misses.len() as f64;
    assert_eq!(sum("false_hits"), hits.iter().filter(|similarity| **similarity < bound).count());
    assert_eq!(summary["cache"]["false_hits"], sum("false_hits"));
}

#[test]
fn a_live_run_draws_its_requests_and_its_trace_can_be_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let (path, name) = out(&folder);
    works(&live(&name, &[]));
    let rows = table(&path.join("requests.csv"));
    assert_eq!(rows.len(), 60);
    for row in &rows {
        assert_eq!(row["outcome"], "completed");
        let picture =
            Picture::decode(&fs::read(path.join("images").join(format!("{}.png", row["request_id"]))).unwrap())
                .unwrap();
        assert_eq!(picture.size(), [32, 32]);
        let similarity: f64 = row["similarity_to_prompt"].parse().unwrap();
        assert!(similarity > 0.5, "{row:?}");
    }
    let hits = rows.iter().filter(|row| row["decision"] == "hit").count();
    assert!(hits > 0, "what is asked again is found");
    let page = fs::read_to_string(path.join("report.html")).unwrap();
    let set = "<th scope=\"row\">models.steps</th><td>26</td>";
    for said in ["<nav aria-label=\"Contents\">", "system modm", set, "SHA-256 ", "measured in real time on "] {
        assert!(page.contains(said), "{said}");
    }
    let summary = json(&path.join("summary.json"));
    assert_eq!(summary["completed"], 60);
    assert!(summary["delays"]["image_encoding_s"]["mean"].as_f64().unwrap() > 0.0);
    let kinds = summary["image_quality"].as_array().unwrap();
    let of = |kind: &str| kinds.iter().find(|row| row["decision"] == kind).unwrap()["images"].as_u64().unwrap();
    assert_eq!((of("hit") as usize, of("miss") as usize), (hits, 60 - hits));
    cache_adds_up(&path, &rows, &summary);
    for file in FILES.into_iter().chain(["hits.png"]) {
        assert!(path.join(file).is_file(), "{file}");
    }
    replays(&path, &root().join("scenarios/live-shapes.toml"), &[SHORT[1], SHORT[3], SHORT[5], SHORT[7]]);
    // What was embedded on the way is what `embed` says of prompts and pictures.
    let (requests, prompts) = (format!("{name}/trace/requests.csv"), format!("{name}/prompts.npy"));
    works(&["embed", &requests, "--model", "models/shapes/encoder", "--out", &prompts, "--batch", "1"]);
    assert_eq!(fs::read(&prompts).unwrap(), fs::read(path.join("trace/prompt_embeddings.npy")).unwrap());
    let (pictures, images) = (format!("{name}/pictures.npy"), format!("{name}/images"));
    works(&[
        "embed",
        &requests,
        "--model",
        "models/shapes/encoder",
        "--images",
        &images,
        "--out",
        &pictures,
        "--batch",
        "1",
    ]);
    assert_eq!(fs::read(&pictures).unwrap(), fs::read(path.join("trace/image_embeddings.npy")).unwrap());
    // The recorded trace is one that the simulator takes as it is.
    let scenario = format!(
        "name = \"again\"\n[trace]\nrequests = \"out/trace/requests.csv\"\nprompt_embeddings = \"out/trace/prompt_embeddings.npy\"\n\
         image_embeddings = \"out/trace/image_embeddings.npy\"\n[cluster]\ngpus = [{{ type = \"cpu\", count = 2 }}]\n[models]\nprofile = \"{}\"\n\
         large = \"shapes-large\"\nsmall = [\"shapes-small\"]\nsteps = 26\n[system]\nbounds = [[0.90, 25]]\n[retrieval]\nimage_latency_s = 0.01\n",
        root().join("scenarios/profiles/shapes-cpu.toml").display()
    );
    fs::write(folder.path().join("again.toml"), scenario).unwrap();
    let (again, simulated) = (folder.path().join("again.toml"), folder.path().join("simulated"));
    works(&["simulate", again.to_str().unwrap(), "--out", simulated.to_str().unwrap()]);
    let rows = table(&simulated.join("requests.csv"));
    // How many hits there are is a matter of how fast the machine is.
    assert!(rows.len() == 60 && rows.iter().any(|row| row["decision"] == "hit"));
}

#[cfg(unix)]
#[test]
fn a_run_that_was_killed_leaves_a_store_that_opens() {
    onnxruntime::library();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let set = format!("live.store={store:?}");
    let (_, name) = out(&folder);
    let mut child =
        modm(&live(&name, &["--set", "trace.synthetic.requests=100000", "--set", &set, "--quiet"])).spawn().unwrap();
    let kept = || fs::read_dir(&store).is_ok_and(|entries| entries.count() > 10);
    within(120, "pictures are kept", || kept().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let again = folder.path().join("again");
    works(&live(again.to_str().unwrap(), &["--set", "trace.synthetic.requests=20", "--set", &set]));
    let rows = table(&again.join("requests.csv"));
    assert!(rows.iter().any(|row| row["source"].starts_with('-')), "pictures of the killed run are found");
    assert!(rows.iter().all(|row| row["outcome"] == "completed"));
}

#[test]
fn a_picture_does_not_depend_on_who_drew_it() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["one", "two"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let few = ["--set", "trace.synthetic.requests=8", "--set", "system.policy=vanilla"];
    let one =
        [few.as_slice(), &["--set", "cluster.gpus=[{type=\"cpu\",count=1}]", "--set", "allocation.initial_large=1"]]
            .concat();
    works(&live(&names[0], &one));
    works(&live(&names[1], &few));
    for row in 0..8 {
        let read = |name: &String| fs::read(Path::new(name).join(format!("images/{row}.png"))).unwrap();
        assert_eq!(read(&names[0]), read(&names[1]), "picture {row}");
    }
}

#[test]
fn a_second_run_is_warm_with_the_pictures_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("live.store={:?}", folder.path().join("store"));
    let (path, name) = out(&folder);
    let few = ["--set", "trace.synthetic.requests=20", "--set", store.as_str()];
    works(&live(&name, &few));
    works(&live(&name, &[few.as_slice(), &["--force"]].concat()));
    let rows = table(&path.join("requests.csv"));
    let warm = rows.iter().filter(|row| row["source"].starts_with('-')).count();
    assert!(warm >= 10, "{warm} of 20 hits on pictures of the first run");
    assert!(path.join("trace/warm_images.npy").is_file());
}

/// A run that goes on for hours, once it has drawn a picture.
#[cfg(unix)]
fn running(path: &Path, name: &str, more: &[&str]) -> Child {
    onnxruntime::library();
    let long = [&["--set", "trace.synthetic.requests=100000"], more].concat();
    let child = modm(&live(name, &long)).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let images = path.join("images");
    let drawn = || fs::read_dir(&images).is_ok_and(|mut entries| entries.next().is_some());
    within(120, "a picture is drawn", || drawn().then_some(()));
    child
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_finish_what_is_in_and_write_the_results() {
    for name in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = out(&folder);
        let mut child = running(&path, &out, &[]);
        signal(child.id(), name);
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success(), "{name}: {said}");
        let rows = table(&path.join("requests.csv"));
        assert!(!rows.is_empty() && rows.len() < 100_000, "{name}");
        assert!(rows.iter().all(|row| row["outcome"] == "completed"), "{name}");
        assert_eq!(json(&path.join("summary.json"))["completed"], rows.len());
        for file in FILES {
            assert!(path.join(file).is_file(), "{name}: {file}");
        }
        let lines = journal_lines(&path);
        let ends = lines.iter().filter(|line| matches!(line.what, What::Action(Action::Finish(_))));
        assert_eq!(ends.count(), rows.len(), "{name}: the journal is whole");
        assert!(!path.join("journal.jsonl.gz.partial").exists(), "{name}");
    }
}

#[test]
fn rates_are_fitted_to_what_was_measured_here() {
    let folder = tempfile::tempdir().unwrap();
    let (path, name) = out(&folder);
    let sets = ["trace.synthetic.requests=60", "models.steps=8", "system.bounds=[[0.9,4]]", "live.fit_rate=0.9"];
    let mut arguments = vec!["live", "scenarios/live-shapes.toml", "--watch", "--out", &name];
    arguments.extend(sets.iter().flat_map(|set| ["--set", *set]));
    let Answer { err, .. } = run(&arguments).succeeded();
    assert!(err.contains("rates fitted to this machine") && err.contains("live.fit_rate = 0.9"), "{err}");
    let fit = json(&path.join("run.json"))["fit"].clone();
    let of = |key: &str| fit[key].as_f64().unwrap();
    assert!((of("generation_s") * of("carried_per_min") / 120.0 - 1.0).abs() < 1e-9, "two workers: {fit}");
    assert!((of("rate_per_min") * of("factor") / of("carried_per_min") - 0.9).abs() < 1e-9, "{fit}");
    // The run itself has that rate, and its objectives are of the times that were measured.
    let summary = json(&path.join("summary.json"));
    assert_eq!(summary["completed"], 60);
    let last: f64 = table(&path.join("requests.csv")).last().unwrap()["arrival_s"].parse().unwrap();
    let mean = 60.0 * 59.0 / last;
    assert!((mean / (0.9 * of("carried_per_min")) - 1.0).abs() < 0.5, "{mean} a minute, {fit}");
    let file = path.join("profile.toml");
    let measured = profile::parse(&fs::read_to_string(&file).unwrap(), &file).unwrap();
    let large = measured.service.iter().find(|row| row.model == "shapes-large").unwrap();
    assert!(((large.overhead_s + 8.0 * large.step_s) / of("generation_s") - 1.0).abs() < 1e-6, "{large:?}");
    let fitted = [
        format!("models.profile={:?}", file.display().to_string()),
        format!("trace.synthetic.rate_factor={}", of("rate_factor")),
    ];
    let all = [sets.as_slice(), &[fitted[0].as_str(), fitted[1].as_str()]].concat();
    replays(&path, &root().join("scenarios/live-shapes.toml"), &all);
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_run_at_once() {
    // So many have arrived that what is in would take hours.
    let crowd = ["--set", "trace.synthetic.arrivals={process=\"poisson\",rate_per_min=1000000}"];
    for (first, second, code) in [("-INT", "-TERM", 143), ("-TERM", "-INT", 130), ("-TERM", "-TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = out(&folder);
        let mut child = running(&path, &out, &crowd);
        pause(500);
        signal(child.id(), first);
        pause(500);
        assert!(child.try_wait().unwrap().is_none(), "{first} alone waits for what is in");
        signal(child.id(), second);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{first} {second}");
    }
}

#[test]
fn a_profile_is_measured_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("profile.toml");
    let name = file.to_str().unwrap();
    works(&[
        "profile",
        "scenarios/live-shapes.toml",
        "--out",
        name,
        "--jobs",
        "2",
        "--batch",
        "1,2",
        "--set",
        "models.steps=26",
    ]);
    let profile = profile::parse(&fs::read_to_string(&file).unwrap(), &file).unwrap();
    assert_eq!(profile.service.len(), 2);
    assert_eq!(profile.measurement.len(), 8, "two models, two batch sizes, others idle and busy");
    assert!(profile.measurement.iter().all(|row| row.step_s > 0.0 && row.bare_step_s > 0.0 && row.load_s > 0.0));
    let refused = run(&["profile", "scenarios/live-shapes.toml", "--out", name]);
    assert_eq!(refused.code, 2);
}

#[test]
fn an_interrupted_embedding_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let requests = folder.path().join("requests.csv");
    fs::write(&requests, "arrival_s,prompt\n0,a red star\n1,a blue circle\n2,a green heart\n").unwrap();
    let (whole, part) = (folder.path().join("whole.npy"), folder.path().join("part.npy"));
    let embed = |out: &Path| {
        let names = [requests.to_str().unwrap(), out.to_str().unwrap()];
        run(&["embed", names[0], "--model", "models/shapes/encoder", "--out", names[1], "--batch", "2"])
    };
    assert_eq!(embed(&whole).code, 0);
    let bytes = fs::read(&whole).unwrap();
    // As if it had been killed in the middle of the second row.
    let about = r#"{"requests_sha256":"HASH","model_sha256":"MODEL","images":null,"dimension":128}"#;
    let hash = modm::input::sha256(&requests).unwrap();
    let model = modm::live::encoder::DualEncoder::fingerprint(&root().join("models/shapes/encoder")).unwrap();
    fs::write(folder.path().join("part.npy.unfinished.json"), about.replace("HASH", &hash).replace("MODEL", &model))
        .unwrap();
    fs::write(folder.path().join("part.npy.unfinished"), &bytes[bytes.len() - 3 * 512..][..700]).unwrap();
    let output = embed(&part);
    assert!(output.err.contains("going on after row 1 of 3"), "{output:?}");
    assert_eq!(npy::read(&part).unwrap().rows(), 3);
    let left = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("unfinished"));
    assert_eq!(left.count(), 0);
}

#[test]
fn the_doctor_says_what_works_and_what_is_missing() {
    let said = works(&["doctor", "scenarios/live-shapes.toml"]);
    assert!(
        said.contains("ok       library") && said.contains("ok       cpu") && said.contains("ok       encoder"),
        "{said}"
    );
    let folder = tempfile::tempdir().unwrap();
    let missing = Answer::to(&mut modm(&["doctor", "--onnxruntime", folder.path().to_str().unwrap()]));
    assert_eq!(missing.code, 1);
    assert!(missing.out.contains("next: run `modm setup`"));
    let cuda = folder.path().join("cuda.toml");
    let text = fs::read_to_string(root().join("scenarios/live-shapes.toml")).unwrap();
    fs::write(&cuda, text.replace("[live]\n", "[live]\ndevices = [\"cuda:97\", \"cuda:98\"]\n")).unwrap();
    let refused = run(&["doctor", cuda.to_str().unwrap()]);
    assert_eq!(refused.code, 1);
    assert!(refused.out.contains("missing  cuda"));
}

/// Refused with exit code 2, these words, and nothing written.
fn refused(more: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (path, name) = out(&folder);
    let Answer { code, err: said, .. } = run(&live(&name, more));
    assert_eq!(code, 2, "{more:?}: {said}");
    assert!(words.iter().all(|words| said.contains(words)), "{more:?}: {said}");
    assert!(!path.exists(), "{more:?} wrote something");
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_written() {
    refused(&["--set", "live.devices=[\"cuda:97\",\"cuda:98\"]"], &["live.devices", "cuda:97", "--allow-cpu"]);
    refused(&["--set", "live.devices=[\"cpu:0\"]"], &["live.devices = 1 devices: expected 2"]);
    refused(&["--set", "live.devices=[\"cpu:0\",\"gpu:0\"]"], &["live.devices.1 = \"gpu:0\"", "cuda:0"]);
    refused(&["--set", "live.models.shapes-large=nowhere"], &["nowhere/model_index.json", "cannot be read"]);
    refused(
        &["--set", "models.small=[\"sdxl\"]", "--set", "models.profile=profiles/paper.toml"],
        &["GPU \"cpu\" with model"],
    );
    refused(
        &["--set", "live.encoder=../models/shapes/judge"],
        &["models/shapes/judge/preprocessor_config.json", "cannot be read"],
    );
    refused(&["--set", "live.size=[0,5]"], &["live.size", "expected [width, height]"]);
    refused(&["--set", "live.guidance.shapes-large=-1"], &["live.guidance.shapes-large = -1"]);
    refused(&["--set", "live.images=gif"], &["live.images", "png"]);
    let down = "faults.events=[{at_s=1,what=\"down\",workers=[0]}]";
    refused(&["--set", down], &["faults.events", "simulated runs"]);
    refused(&["--set", "system.policy=nirvana"], &["system.policy", "final images"]);
    refused(&["--set", "trace.warm_requests=10"], &["trace.warm_requests", "live.store"]);
    refused(&["--set", "live.size=[30,32]"], &["live.size = [30, 32]", "multiples of 4"]);
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("000000000001.png"), "somebody else's").unwrap();
    let output = run(&live(
        foreign.path().join("out").to_str().unwrap(),
        &["--set", &format!("live.store={:?}", foreign.path())],
    ));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(foreign.path().join("000000000001.png").is_file(), "what is not ours is left alone");
    let theirs = tempfile::tempdir().unwrap();
    fs::create_dir(theirs.path().join("images")).unwrap();
    fs::write(theirs.path().join("images/holiday.png"), "somebody else's").unwrap();
    let output = run(&live(theirs.path().to_str().unwrap(), &["--force"]));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(theirs.path().join("images/holiday.png").is_file(), "not even with --force");
    let recorded = folder_of_requests();
    let own = format!("trace={{requests={:?}}}", recorded.path().join("requests.csv").display().to_string());
    let fit = ["--set", &own, "--set", "live.fit_rate=1"];
    refused(&fit, &["live.fit_rate = 1", "times of this trace are its own", "--no-fit"]);
    refused(&["--set", "live.fit_rate=-1"], &["live.fit_rate = -1", "0 leaves rates as they are"]);
    refused(&["--onnxruntime", "/nowhere"], &["--onnxruntime", "modm setup"]);
}

/// Makes a folder with a recorded trace.
fn folder_of_requests() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("requests.csv"), "arrival_s,prompt\n0,a red star\n1,a blue heart\n").unwrap();
    folder
}

#[test]
fn a_library_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libonnxruntime.so");
    fs::write(&file, "not a library").unwrap();
    refused(&["--onnxruntime", file.to_str().unwrap()], &["is no ONNX Runtime library", "modm setup"]);
}
