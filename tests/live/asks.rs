//! Live runs of requests that differ: two sizes, several pictures, two checkpoints. Tiny models of the published
//! architectures (tests/parity) draw any size; their pictures show nothing. Every hit is looked at: where its source is
//! from, and the sizes of both.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use modm::live::picture::Picture;
use serde_json::Value;

use crate::journals::replays;
use crate::program::{Answer, Row, modm, root, rows as table};

/// Beginning of a scenario; the checkpoint has another large model, and the same small one.
fn scenario(folder: &Path) -> PathBuf {
    let row = |name: &str, step: f64| {
        format!(
            "[[service]]\ngpu = \"cpu\"\nmodel = \"{name}\"\nstep_s = {step}\noverhead_s = 0.02\nload_s = 0.2\n\
             pixels = 4096\n"
        )
    };
    fs::write(folder.join("profile.toml"), format!("source = \"a guess\"\n{}{}", row("sd3", 0.02), row("sana", 0.01)))
        .unwrap();
    let models = root().join("tests/parity");
    let models = models.display();
    let text = format!(
        "name = \"asks\"\n[trace]\nrequests = \"requests.csv\"\n[cluster]\ngpus = [{{ type = \"cpu\", count = 2 }}]\n\
         [models]\nprofile = \"profile.toml\"\nlarge = \"sd3\"\nsmall = [\"sana\"]\nsteps = 8\nsize = [64, 64]\n\
         [system]\npolicy = \"modm\"\nbounds = [[0.0, 4]]\n[allocation]\ninitial_large = 1\nperiod_s = 1\n\
         [live]\nencoder = \"{}\"\nsize = [64, 64]\nmodels = {{ sd3 = \"{models}/sd3/model\", sana = \"{models}/sana/model\" }}\n\
         [live.checkpoints]\nother = {{ sd3 = \"{models}/sdxl/model\", sana = \"{models}/sana/model\" }}\n",
        root().join("models/shapes/encoder").display(),
    );
    let file = folder.join("asks.toml");
    fs::write(&file, text).unwrap();
    file
}

/// Size, checkpoint, pictures and steps of the request in a row, in turns.
fn wishes(row: usize) -> ([u32; 2], &'static str, usize, &'static str) {
    let size = [[64, 64], [96, 96], [64, 96]][row % 3];
    (size, ["", "other"][row / 3 % 2], if row.is_multiple_of(4) { 3 } else { 1 }, ["", "6"][usize::from(row % 5 == 4)])
}

const REQUESTS: usize = 24;

fn trace(folder: &Path) {
    let mut text = "request_id,arrival_s,prompt,width,height,images,checkpoint,steps\n".to_owned();
    for row in 0..REQUESTS {
        let ([width, height], checkpoint, images, steps) = wishes(row);
        let size = if row == 0 { ",".to_owned() } else { format!("{width},{height}") };
        let prompt = ["a red cube", "a house in the snow"][row / 6 % 2];
        writeln!(text, "r{row},{:.2},{prompt},{size},{images},{checkpoint},{steps}", row as f64 * 0.2).unwrap();
    }
    fs::write(folder.join("requests.csv"), text).unwrap();
}

fn live(file: &Path, out: &Path, sets: &[&str]) -> Answer {
    crate::onnxruntime::library();
    let mut arguments = vec!["live", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
    Answer::to(&mut modm(&arguments))
}

/// Checkpoint and size of a picture.
type Made = (String, [u32; 2]);

/// Pictures of a store, oldest first.
fn stored(store: &Path) -> Vec<Made> {
    let mut files: Vec<PathBuf> = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        let is_number = file.file_stem().unwrap().to_str().unwrap().bytes().all(|byte| byte.is_ascii_digit());
        is_number && file.extension().is_some_and(|extension| extension == "json")
    });
    files.sort();
    let read = |file: &PathBuf| {
        let record: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let checkpoint = record["checkpoint"].as_str().unwrap_or_default().to_owned();
        (checkpoint, Picture::size_of(&file.with_extension("png")).unwrap())
    };
    files.iter().map(read).collect()
}

/// Number of a row's request.
fn request(row: &Row) -> usize {
    row["request_id"][1..].parse().unwrap()
}

/// Checks every picture and every hit of a run, which began with these pictures. Returns the numbers of hits on them
/// and on the run's own.
fn check(out: &Path, warm: &[Made]) -> [usize; 2] {
    let rows = table(&out.join("requests.csv"));
    let pictures: usize = (0..REQUESTS).map(|row| wishes(row).2).sum();
    assert_eq!(rows.len(), pictures);
    let mut seen = std::collections::BTreeSet::new();
    let mut hits = [0, 0];
    for row in &rows {
        assert_eq!(row["outcome"], "completed", "{row:?}");
        let (size, checkpoint, images, steps) = wishes(request(row));
        let name =
            if images == 1 { row["request_id"].clone() } else { format!("{}~{}", row["request_id"], row["image"]) };
        let bytes = fs::read(out.join("images").join(format!("{name}.png"))).unwrap();
        let picture = Picture::decode(&bytes).unwrap();
        assert_eq!(picture.size(), size, "{row:?}");
        assert!(seen.insert(bytes), "each picture has noise of its own: {row:?}");
        if row["decision"] == "miss" {
            assert_eq!(row["steps_run"], if steps.is_empty() { "8" } else { steps });
        }
        if row["decision"] != "hit" {
            continue;
        }
        let source: i64 = row["source"].parse().unwrap();
        let (source_checkpoint, source_size) = match usize::try_from(source) {
            Ok(own) => {
                assert_ne!(rows[own]["request_id"], row["request_id"], "pictures of one request are apart");
                let (size, checkpoint, ..) = wishes(request(&rows[own]));
                (checkpoint.to_owned(), size)
            }
            Err(_) => warm[(-1 - source) as usize].clone(),
        };
        hits[usize::from(source >= 0)] += 1;
        assert_eq!(source_checkpoint, checkpoint, "{row:?}");
        let ratio = |[width, height]: [u32; 2]| f64::from(width) / f64::from(height);
        let aspect = ratio(size) / ratio(source_size);
        assert!((1.0 / 1.1..=1.1).contains(&aspect), "{source_size:?} serves {size:?}: {row:?}");
    }
    hits
}

#[test]
fn hits_stay_within_checkpoints_and_sizes_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = scenario(folder.path());
    trace(folder.path());
    let (first, store) = (folder.path().join("first"), folder.path().join("store"));
    let set = format!("live.store={store:?}");
    live(&file, &first, &[&set]).succeeded();
    let [_, own] = check(&first, &[]);
    assert!(own > 0, "something was found");
    replays(&first, &file, &[&set]);
    // What is recorded is a trace of the same requests.
    let recorded = fs::read_to_string(first.join("trace/requests.csv")).unwrap();
    assert_eq!(recorded.lines().count(), REQUESTS + 1);
    let warm = stored(&store);
    assert!(warm.iter().any(|(checkpoint, _)| checkpoint == "other") && warm.iter().any(|made| made.1 == [96, 96]));
    let second = folder.path().join("second");
    live(&file, &second, &[&set]).succeeded();
    let [found, _] = check(&second, &warm);
    assert!(found > 0, "pictures of the first run are found");
    // Without the index, sizes are read from the pictures.
    fs::remove_file(store.join("index.json")).unwrap();
    let (warm, third) = (stored(&store), folder.path().join("third"));
    live(&file, &third, &[&set, "cache.aspect_limit=1", "cache.size_factor=1"]).succeeded();
    check(&third, &warm);
    let alone = table(&third.join("requests.csv"));
    let of = |row: &Row| match row["source"].parse::<i64>() {
        Ok(source) if source >= 0 => Some(wishes(request(&alone[source as usize])).0),
        Ok(source) => Some(warm[(-1 - source) as usize].1),
        Err(_) => None,
    };
    assert!(alone.iter().all(|row| of(row).is_none_or(|size| size == wishes(request(row)).0)), "one size alone");
}

#[test]
fn what_cannot_be_drawn_is_refused_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (scenario(folder.path()), folder.path().join("out"));
    let refused = |columns: &str, values: &str, sets: &[&str], says: &str| {
        let text = format!(
            "arrival_s,prompt,images,{columns}\n0,a cube,3,{}\n0.1,a cube,,{values}\n",
            ",".repeat(columns.matches(',').count(),)
        );
        fs::write(folder.path().join("requests.csv"), text).unwrap();
        let Answer { code, err, .. } = live(&file, &out, sets);
        assert!(code == 2 && err.contains(says) && !out.exists(), "{columns} {values}: {code} {err}");
    };
    refused("loras", "x", &[], "loras = \"x\": row 2 (from 1, below the header): expected nothing");
    refused(
        "checkpoint",
        "mine",
        &[],
        "checkpoint = \"mine\": row 2 (from 1, below the header): expected nothing, or one of live.checkpoints: other",
    );
    refused(
        "width,height",
        "72,72",
        &[],
        "width, height = 72 x 72: row 2 (from 1, below the header): expected multiples of",
    );
    refused("width,height", "96,96", &["models.size=[512,512]"], "models.size = [512, 512]: expected [64, 64]");
    refused("steps", "1001", &[], "steps = 1001: row 2 (from 1, below the header): expected at most 1000");
    let lacks = "live.checkpoints={ other = { sd3 = \"nowhere\" } }";
    refused("steps", "5", &[lacks], "nowhere/model_index.json");
    let sana = root().join("tests/parity/sana/model");
    let lacks = format!("live.checkpoints={{ other = {{ sana = {sana:?} }} }}");
    refused("steps", "5", &[&lacks], "live.checkpoints.other.sd3: is needed");
}

#[test]
fn models_of_one_size_draw_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let Answer { code, err, .. } = live(Path::new("scenarios/live-shapes.toml"), &out, &["live.size=[64,64]"]);
    assert!(code == 2 && err.contains("live.size = [64, 64]: expected [32, 32]") && !out.exists(), "{err}");
}
