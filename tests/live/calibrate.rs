//! `modm calibrate` through the program, on the models of shapes: its files, a scenario that runs from where it
//! lies, the same samples whoever draws, another judge's scores, and what is refused.

use std::fs;
use std::path::Path;

use modm::profile;
use modm::scenario::Source;
use serde_json::Value;

use crate::onnxruntime;
use crate::program::{Answer, Row, json, modm, rows as table};

/// `modm calibrate scenarios/live-shapes.toml --out OUT ...`.
fn calibrate(out: &Path, more: &[&str]) -> Answer {
    onnxruntime::library();
    Answer::to(modm(&["calibrate", "scenarios/live-shapes.toml", "--out"]).arg(out).args(more))
}

/// Steps, so few that the small model's pictures are poor, and an alpha that they reach.
const SHORT: [&str; 7] = ["--alpha", "0.2", "--json", "--set", "models.steps=6", "--set", "system.bounds=[[0.9,2]]"];

fn few(out: &Path, more: &[&str]) -> Value {
    let drawn = ["--prompts", "12", "--skips", "4,2", "--quiet"];
    calibrate(out, &[&drawn, &SHORT[..], more].concat()).succeeded().json()
}

/// Samples and bounds are what they say of each other, and every file is there.
fn adds_up(out: &Path, summary: &Value) {
    let samples = table(&out.join("samples.csv"));
    assert_eq!(samples.len(), 12 * 2 + 11 * 2);
    for sample in &samples {
        let (row, k): (u32, u32) = (sample["row"].parse().unwrap(), sample["skipped_steps"].parse().unwrap());
        assert_eq!(sample["half"], if row % 2 == 1 { "fit" } else { "check" });
        assert!((0.0..1.001).contains(&sample["quality"].parse::<f64>().unwrap()), "{sample:?}");
        assert_eq!(sample["similarity"].is_empty(), k == 0);
        assert!(k == 0 || sample["source_row"].parse::<u32>().unwrap() < row, "a source is earlier: {sample:?}");
        assert!(out.join("pictures").join(&sample["picture"]).is_file());
    }
    let rows = table(&out.join("calibration.csv"));
    assert_eq!(rows.iter().map(|row| row["skipped_steps"].as_str()).collect::<Vec<_>>(), ["2", "4", "all"]);
    let kept: Vec<(f64, u32)> = rows
        .iter()
        .filter(|row| row["kept"] == "yes")
        .map(|row| (row["bound"].parse().unwrap(), row["skipped_steps"].parse().unwrap()))
        .collect();
    assert!(!kept.is_empty());
    assert_eq!(serde_json::to_value(&kept).unwrap(), summary["bounds"]);
    let hits = |of: &dyn Fn(&str) -> bool| {
        let chosen = rows.iter().filter(|row| of(&row["skipped_steps"]) && !row["hits"].is_empty());
        chosen.map(|row| row["hits"].parse::<u32>().unwrap()).sum::<u32>()
    };
    assert_eq!(hits(&|k| k != "all"), hits(&|k| k == "all"));
    assert_eq!(summary["held_out"]["all"]["hits"], hits(&|k| k == "all"));
    // Six held-out requests say nothing of a share.
    assert_eq!(summary["held_out"]["all"]["holds"], "too few");
    let judged: Vec<&str> = rows.iter().map(|row| row["holds"].as_str()).filter(|word| !word.is_empty()).collect();
    assert!(!judged.is_empty() && judged.iter().all(|word| *word == "too few"), "{rows:?}");
    let scenario = Source::read(&out.join("scenario.toml")).unwrap().scenario(&[]).unwrap();
    assert_eq!(scenario.system.bounds, Some(kept));
    assert_eq!(scenario.models.profile.as_deref(), Some("profile.toml".as_ref()));
    let file = out.join("profile.toml");
    let profile = profile::parse(&fs::read_to_string(&file).unwrap(), &file).unwrap();
    let made = |row: &modm::profile::Quality| (row.model.clone(), row.skipped_steps);
    assert_eq!(
        profile.quality.iter().map(made).take(2).collect::<Vec<_>>(),
        [("shapes-large".to_owned(), 0), ("shapes-small".to_owned(), 0)]
    );
    assert!(fs::read_to_string(out.join("calibration.svg")).unwrap().starts_with("<svg"));
    let run = json(&out.join("run.json"));
    assert_eq!(run["measure"], summary["measure"]);
}

#[test]
fn bounds_come_of_pictures_and_do_not_depend_on_who_drew_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let summary = few(&out, &[]);
    assert_eq!((&summary["measure"], &summary["held_out"]["requests"]), (&"similarity".into(), &6.into()));
    adds_up(&out, &summary);
    // The scenario runs from where it lies.
    let (scenario, simulated) = (out.join("scenario.toml"), folder.path().join("simulated"));
    let mut simulate = modm(&["simulate", "--quiet", "--set", "trace.synthetic.requests=100"]);
    Answer::to(simulate.arg(&scenario).arg("--out").arg(&simulated)).succeeded();
    // One device in place of two: the same bytes.
    let alone = folder.path().join("alone");
    let one = ["--set", "cluster.gpus=[{type=\"cpu\",count=1}]", "--set", "allocation.initial_large=1"];
    assert_eq!(few(&alone, &one), summary);
    for name in ["samples.csv", "calibration.csv", "calibration.svg", "pictures/7-small-4.png"] {
        assert!(fs::read(out.join(name)).unwrap() == fs::read(alone.join(name)).unwrap(), "{name}");
    }
    scores(&out, folder.path(), &summary);
}

/// The same samples judged otherwise.
fn scores(out: &Path, folder: &Path, summary: &Value) {
    let (from, file, judged) = (out.to_str().unwrap(), folder.join("scores.csv"), folder.join("judged"));
    let again = |out: &Path, more: &[&str]| calibrate(out, &[&["--from", from], &SHORT[..], more].concat());
    let named = |text: &dyn Fn(&Row) -> String| {
        let rows = table(&out.join("samples.csv"));
        let lines: Vec<String> = rows.iter().map(|row| format!("{},{}\n", row["picture"], text(row))).collect();
        fs::write(&file, format!("picture,score\n{}", lines.concat())).unwrap();
    };
    // The encoder's own judgement as scores: the same bounds.
    named(&|row| row["quality"].clone());
    let found = again(&judged, &["--scores", file.to_str().unwrap(), "--measure", "eye"]).json();
    assert_eq!((&found["bounds"], &found["measure"]), (&summary["bounds"], &"eye".into()));
    assert_eq!(fs::read(judged.join("samples.csv")).unwrap(), fs::read(out.join("samples.csv")).unwrap());
    // What was judged is judged still.
    let third = folder.join("third");
    let from_judged = ["--from", judged.to_str().unwrap()];
    let found = calibrate(&third, &[&from_judged, &SHORT[..]].concat()).json();
    assert_eq!(found["measure"], "eye");
    // Refinements that are worth nothing: said, written, exit code 1.
    named(&|row| u32::from(row["skipped_steps"] == "0").to_string());
    let nothing = folder.join("nothing");
    let Answer { code, err: said, .. } = again(&nothing, &["--scores", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no similarity keeps 20.0 % of the large model's score"), "{said}");
    assert!(nothing.join("calibration.csv").is_file() && !nothing.join("scenario.toml").exists());
    // A score for each picture, and a folder that is another.
    fs::write(&file, "picture,score\n0-large-0.png,x\n").unwrap();
    let Answer { code, err: said, .. } = again(&folder.join("bad"), &["--scores", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(said.contains("scores.csv:2: score = \"x\": expected a finite number from 0"), "{said}");
    assert!(!folder.join("bad").exists());
    let same = again(out, &["--force"]);
    assert_eq!(same.code, 2);
    assert!(out.join("samples.csv").is_file(), "what is read is not overwritten");
}

#[test]
fn what_cannot_be_calibrated_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let nowhere = folder.path().join("nowhere");
    let from = ["--from", nowhere.to_str().unwrap()];
    let refusals: [(&[&str], &str); 12] = [
        (
            &["--skips", "50"],
            "the command line: --skips = 50: expected numbers of skipped steps from 1 to models.steps - 1 = 49",
        ),
        (&["--skips", "0,5"], "--skips = 0"),
        (&["--skips", "x"], "invalid value 'x' for '--skips"),
        (&["--prompts", "2"], "invalid value '2' for '--prompts"),
        (&["--prompts", "99999"], "--prompts = 99999: expected 3 or more, and the trace has "),
        (&["--alpha", "1.5"], "expected a share above 0, at most 1"),
        (&["--scores", "a.csv"], "--from"),
        (&[from[0], from[1], "--prompts", "5"], "cannot be used with"),
        (&from, "nowhere/samples.csv: cannot be read"),
        (&["--set", "system.policy=vanilla"], "system.policy = \"vanilla\": expected modm"),
        (&["--set", "models.steps=1", "--set", "system.bounds=[[0.5,0]]"], "models.steps = 1: expected at least 2"),
        (&["--set", "live.encoder=nowhere"], "nowhere: holds no dual encoder"),
    ];
    for (more, words) in refusals {
        let Answer { code, err: said, .. } = calibrate(&out, more);
        assert!(code == 2 && said.contains(words), "{more:?}: {said}");
        assert!(!out.exists(), "{more:?} wrote something");
    }
    // Somebody else's pictures stay, also with --force.
    fs::create_dir_all(out.join("pictures")).unwrap();
    fs::write(out.join("pictures/holiday.png"), "mine").unwrap();
    assert_eq!(calibrate(&out, &["--force"]).code, 2);
    assert!(out.join("pictures/holiday.png").is_file());
}
