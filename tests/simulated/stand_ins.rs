//! Stand-in embeddings against the published figures they are fitted to, and what each system compares of them. Noise
//! seeds are not those of the fit (`scripts/fit_stand_ins`).

use std::fs;

use modm::encoder::{EncoderSettings, ImageModel};

use crate::program::{Folder, Row, root};

#[path = "../../examples/fit_stand_ins/at_once.rs"]
#[expect(dead_code, reason = "what only the fit needs")]
mod at_once;

use at_once::{PINECONE, Pairs, TARGETS, replay};

/// Figures on these prompts, the first half warm.
fn figures(prompts: &[String], seed: u64) -> [f64; TARGETS.len()] {
    let pairs = Pairs::new(&EncoderSettings::default(), &ImageModel::default(), prompts, seed);
    replay(&pairs, prompts.len(), prompts.len() / 2, PINECONE).figures()
}

/// Every figure on real prompts lies where it must for the embeddings to stand in for CLIP.
#[test]
fn published_figures_come_out_on_real_prompts() {
    let data = root().join("../shared/data/prompts/diffusiondb_2m_first_5k.txt");
    let Ok(text) = fs::read_to_string(&data) else {
        println!("skipped: {} is not there", data.display());
        return;
    };
    let prompts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    assert_eq!(prompts.len(), 4_999, "one line of 5,000 is empty");
    for seed in [21, 22] {
        for (target, figure) in TARGETS.iter().zip(figures(&prompts, seed)) {
            let (low, high) = target.accepted;
            println!("seed {seed}: {} {figure:.3}, published {}", target.name, target.published);
            assert!((low..=high).contains(&figure), "seed {seed}: {} {figure}: expected {low} to {high}", target.name);
        }
    }
}

const REPEATS: &str = r#"
name = "repeats"
[trace]
requests = "requests.csv"
[cluster]
gpus = [{ type = "mi210", count = 4 }]
"#;

/// The decisions of a run, and what the program said.
fn run(policy: &str, sets: &[&str]) -> (Vec<Row>, String) {
    let folder = Folder::new(&[("scenario.toml", REPEATS)]);
    let prompts = ["a red fox in the snow", "An old lighthouse", "a red fox in the snow", "a red fox in the rain"];
    let rows = prompts.iter().enumerate().map(|(row, prompt)| format!("{},{prompt}\n", row * 1000));
    folder.write("requests.csv", format!("arrival_s,prompt\n{}", rows.collect::<String>()));
    let policy = format!("system.policy={policy}");
    let sets = [&[policy.as_str()], sets].concat();
    let flags = sets.iter().flat_map(|set| ["--set", *set]);
    let arguments: Vec<&str> = ["simulate", "scenario.toml", "--out", "out"].into_iter().chain(flags).collect();
    let answer = folder.works(&arguments);
    (folder.rows("out/requests.csv"), answer.out + &answer.err)
}

fn similarities(policy: &str) -> Vec<f64> {
    run(policy, &[]).0.iter().map(|row| row["similarity"].parse().unwrap_or(0.0)).collect()
}

/// Text-to-text systems see how alike prompts are; `MoDM` sees that of prompt and image.
#[test]
fn each_system_compares_what_it_looks_up() {
    for policy in ["nirvana", "pinecone"] {
        let found = similarities(policy);
        assert!((found[2] - 1.0).abs() < 1e-6, "{policy}: a repeated prompt is the same: {found:?}");
        assert!(found[1] < 0.4 && (0.5..0.95).contains(&found[3]), "{policy}: {found:?}");
    }
    let found = similarities("modm");
    assert!(found.iter().all(|&similarity| similarity < 0.46), "no image is nearer to a prompt than chance: {found:?}");
}

/// Labels say where the embeddings come from, and that values of one's own are not fitted.
#[test]
fn outputs_say_what_stands_in() {
    let label = |sets: &[&str]| run("modm", sets).1;
    let fitted = label(&[]);
    assert_eq!(fitted.matches("fitted to published figures of CLIP on DiffusionDB").count(), 2, "{fitted}");
    let own = label(&["image_model.noise=0.02"]);
    assert!(own.contains("not fitted: [image_model] has values of its own"), "{own}");
}
