//! The programs as users start them: `modm worker`, `modm live --cluster`, `modm serve --cluster`, `modm doctor`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::nats::{Nats, shapes_worker};
use crate::onnxruntime;
use crate::program::{Answer, modm, root, signal, within};

const FEW: [&str; 6] = [
    "--set",
    "trace.synthetic.requests=60",
    "--set",
    "models.steps=26",
    "--set",
    "system.bounds=[[0.80, 10], [0.90, 20]]",
];

/// Worker whose sentences are read up to the one that says where it is.
struct Started {
    child: Child,
    said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Started {
    fn worker(url: &str, node: &str) -> Self {
        let mut child = shapes_worker(url, node).stderr(Stdio::piped()).spawn().unwrap();
        let said = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| to.lock().unwrap().extend([&line, "\n"]));
        });
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn terminate(mut self) -> String {
        signal(self.child.id(), "-TERM");
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
        self.said()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Columns of a run's table of requests that do not depend on time.
fn drawn(out: &Path) -> Vec<Vec<u8>> {
    (0..60).map(|row| fs::read(out.join(format!("images/{row}.png"))).unwrap()).collect()
}

#[test]
fn a_run_on_other_machines_is_a_run_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let workers = ["one", "two"].map(|node| Started::worker(&nats.url(), node));
    let out = folder.path().join("out");
    let scenario = "scenarios/live-shapes.toml";
    let mut command = modm(&["live", scenario, "--cluster", &nats.url(), "--out", out.to_str().unwrap()]);
    let answer = Answer::to(command.args(FEW)).succeeded();
    for joined in ["one-cpu-0 has joined", "two-cpu-0 has joined"] {
        assert!(answer.err.contains(joined), "{}", answer.err);
    }
    crate::journals::replays(&out, &root().join(scenario), &[FEW[1], FEW[3], FEW[5]]);
    let vanilla = ["--set", "system.policy=vanilla"];
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let mut command = modm(&["live", scenario, "--cluster", &nats.url(), "--out", there.to_str().unwrap()]);
    Answer::to(command.args(FEW).args(vanilla)).succeeded();
    let mut command = modm(&["live", scenario, "--out", here.to_str().unwrap()]);
    Answer::to(command.args(FEW).args(vanilla)).succeeded();
    assert!(drawn(&there) == drawn(&here), "a picture does not depend on the machine that drew it");
    for worker in workers {
        let said = worker.terminate();
        assert!(said.contains("takes orders of the scheduler"), "{said}");
        assert!(said.contains("finishes what it does, and ends"), "{said}");
    }
}

#[test]
fn who_is_there_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    let url = nats.url();
    let doctor = || {
        onnxruntime::library();
        Answer::to(&mut modm(&["doctor", "--cluster", &url]))
    };
    let alone = doctor().succeeded();
    assert!(alone.out.contains("nats-server 2."), "{}", alone.out);
    assert!(alone.out.contains("nobody has the lease of the cluster modm"), "{}", alone.out);
    let workers = ["one", "two"].map(|node| Started::worker(&url, node));
    within(60, "both are heard of", || {
        let found = doctor().succeeded().out;
        (found.contains("one-cpu-0: cpu:0 of type cpu") && found.contains("two-cpu-0")).then_some(())
    });
    #[cfg(feature = "serve")]
    {
        use crate::served::{PROMPT, SHORT, Served, serve};
        let mut command = serve(Path::new("scenarios/live-shapes.toml"), &folder.path().join("data"));
        let served = Served::launch(command.args(SHORT).args(["--cluster", &url]));
        assert_eq!(served.draw(&serde_json::json!({ "prompt": PROMPT })).0, 200);
        within(20, "the heartbeats say that a picture was drawn", || {
            let status = served.get("/v1/status");
            let machines = status["machines"].as_array().unwrap().clone();
            assert_eq!(machines.len(), 2, "{status}");
            assert!(machines.iter().all(|one| one["state"] == "here" && one["silent_s"].as_f64().unwrap() < 5.0));
            (machines.iter().map(|one| one["pictures"].as_u64().unwrap()).sum::<u64>() == 1).then_some(())
        });
        let metrics = served.text("/metrics").1;
        assert!(metrics.contains("modm_machine_workers{node=\"one\",state=\"here\"} 1"), "{metrics}");
        assert!(metrics.contains("modm_machine_pictures{node=\"two\",device=\"cpu:0\",gpu=\"cpu\"}"), "{metrics}");
        assert!(doctor().out.contains("answers"), "the address of pictures is tried");
        assert!(served.terminate().success());
    }
    drop(workers);
    let broken = Answer::to(&mut modm(&["doctor", "--cluster", "nats://127.0.0.1:1"]));
    assert!(broken.code == 1 && broken.out.contains("next: nats-server -js"), "{}", broken.out);
}

#[test]
fn clocks_that_differ_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Nats::start(folder.path());
    onnxruntime::library();
    let own = env!("CARGO_BIN_EXE_modm");
    let url = nats.url();
    let start = |node: &str, days: &str| {
        let mut command = std::process::Command::new("faketime");
        command.args(["-f", days, own, "worker", "--cluster", &url, "--devices", "cpu:0", "--models", "models/shapes"]);
        command.args(["--node", node]).current_dir(root()).stderr(Stdio::null());
        let started = command.spawn();
        started.expect("faketime is needed: apt-get install faketime, or scripts/packages \"the tests\" faketime")
    };
    let mut workers = [start("ahead", "+3000d"), start("behind", "-3000d")];
    let out = folder.path().join("out");
    let live = ["live", "scenarios/live-shapes.toml", "--cluster", &url, "--out", out.to_str().unwrap()];
    let answer = Answer::to(modm(&live).args(FEW)).succeeded();
    assert!(answer.err.contains("ahead-cpu-0 has joined"), "{}", answer.err);
    assert!(answer.err.contains("behind-cpu-0 has joined"), "{}", answer.err);
    assert!(!answer.err.contains("is lost"), "{}", answer.err);
    let rows = crate::program::rows(&out.join("requests.csv"));
    assert!(rows.len() == 60 && rows.iter().all(|row| row["outcome"] == "completed"));
    for worker in &mut workers {
        let _ = worker.kill();
        let _ = worker.wait();
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let refused = |arguments: &[&str], said: &str| {
        let answer = Answer::to(&mut modm(arguments));
        assert_eq!(answer.code, 2, "{}", answer.err);
        assert!(answer.err.contains(said), "{}", answer.err);
    };
    let worker = |more: &[&'static str]| [&["worker", "--models", "models/shapes"], more].concat();
    let at = ["--cluster", "nats://127.0.0.1:4222"];
    refused(&worker(&["--cluster", "127.0.0.1", "--devices", "cpu:0"]), "--cluster");
    refused(&worker(&[at[0], "nats://me:secret@host", "--devices", "cpu:0"]), "as files");
    refused(&worker(&[at[0], at[1], "--devices", "gpu"]), "--devices");
    refused(&worker(&[at[0], at[1], "--devices", "cpu:0,cpu:0"]), "each device once");
    refused(&worker(&[at[0], at[1], "--devices", "cpu:0", "--node", "a.b"]), "--node");
    refused(&worker(&[at[0], at[1], "--devices", "cpu:0", "--heartbeat-s", "0"]), "--heartbeat-s");
    refused(&worker(&[at[0], at[1], "--devices", "cpu:0", "--certificate", "c.pem"]), "--key");
    refused(&worker(&[at[0], at[1], "--devices", "cuda:0"]), "--gpu");
    let live = |more: &[&'static str]| [&["live", "scenarios/live-shapes.toml", "--out", "/tmp/never"], more].concat();
    refused(&live(&["--cluster", "nowhere"]), "live.cluster.url");
    refused(&live(&[at[0], at[1], "--set", "live.cluster.notice_s=0"]), "live.cluster.notice_s");
    refused(&live(&[at[0], at[1], "--set", "live.cluster.pictures=\"0.0.0.0:1\""]), "pictures_from_outside");
    let profile = ["profile", "scenarios/live-shapes.toml", "--out", "/tmp/never", "--set"];
    refused(&[&profile[..], &["live.cluster.url=nats://127.0.0.1:4222"]].concat(), "devices of this machine");
    let models = tempfile::tempdir().unwrap();
    let empty = models.path().to_str().unwrap();
    onnxruntime::library();
    refused(&["worker", at[0], at[1], "--devices", "cpu:0", "--models", empty], "holds no model");
}
