//! Tables for `docs/steps.md` on what a small model of few steps changes: where each model can start, what can be
//! gained, and how near the monitor comes to the best split of the workers.
//!
//! `cargo run --release --example few_steps`, with the number of seeds as an argument (5)

use std::error::Error;

use modm::denoising::{Denoising, ModelSteps, Schedule};
use modm::model::ModelId;
use modm::request::Shape;
use modm::simulation::Simulation;

const SCENARIO: &str = "scenarios/few-steps.toml";
const WORKERS: i64 = 16;
/// Cost of a full generation by the small model over one by the large model, the GPU type for it, and its steps.
const COSTS: [(f64, &str, i64); 3] = [(0.46, "r-046", 50), (0.10, "r-010", 8), (0.02, "r-002", 4)];

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let seeds: i64 = std::env::args().nth(1).map_or(Ok(5), |seeds| seeds.parse())?;
    starts();
    skips();
    gains(seeds)
}

/// Prints the noise that each number of steps can start from, at shift 3.
fn starts() {
    println!("| steps | noise before step 0, 1, 2, ... at shift 3 |\n| ---: | --- |");
    for steps in [4, 8, 20, 50] {
        let every = if steps > 8 { steps / 10 } else { 1 };
        let levels: Vec<String> = (0..steps)
            .step_by(every as usize)
            .map(|step| format!("{:.3}", Schedule::Shift(3.0).level(step, steps)))
            .collect();
        let note = if every > 1 { format!(" (every {every}. step)") } else { String::new() };
        println!("| {steps} | {}{note} |", levels.join(", "));
    }
    println!();
}

/// Prints the steps that models skip where the paper's bounds allow what they do for 50 steps at shift 3.
fn skips() {
    let model = |steps, shift| ModelSteps { steps, schedule: Schedule::Shift(shift) };
    let models = [model(50, 3.0), model(20, 3.0), model(8, 3.0), model(4, 3.0), model(4, 1.0), model(28, 3.158)];
    let denoising = Denoising::new(models.to_vec(), true, &[]);
    println!("| k of 50 | noise allowed | 20 steps | 8 steps | 4 steps | 4 steps, shift 1 | 28 steps, shift 3.158 |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for k in [5, 10, 15, 25, 30] {
        let cell = |at: u16| {
            let work = denoising.refinement(ModelId(at), Shape::default(), k);
            format!("{} ({:.3})", work.skipped_steps, denoising.start(work))
        };
        let cells: Vec<String> = (1..models.len() as u16).map(cell).collect();
        println!("| {k} | {:.3} | {} |", denoising.allowed(k), cells.join(" | "));
    }
    println!();
}

/// Prints the gain over the large model alone: what follows from hit rate, cost and steps, of the best of all splits,
/// and of the monitor.
fn gains(seeds: i64) -> Result<(), Box<dyn Error>> {
    println!("| r | steps | hits | seed | hit rate | f | 1 / ((1 - h) + h r f) | best split | monitor | what_if |");
    println!("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (cost, gpu, steps) in COSTS {
        for (name, bounds) in [("by the bounds", None), ("from noise", Some("[[0.25, 0]]"))] {
            let mut worst = [f64::INFINITY; 2];
            for seed in 42..42 + seeds {
                let run = |sets: &[(&str, toml::Value)]| -> Result<_, Box<dyn Error>> {
                    let table: toml::Table = format!(
                        "gpus = [{{ type = \"{gpu}\", count = {WORKERS} }}]\nsteps = {{ large = 50, small = {steps} }}"
                    )
                    .parse()?;
                    let mut builder = Simulation::builder()
                        .scenario_file(SCENARIO)
                        .set("seed", seed)
                        .set("cluster.gpus", table["gpus"].clone())
                        .set("models.steps", table["steps"].clone());
                    if let Some(bounds) = bounds {
                        let bounds: toml::Table = format!("bounds = {bounds}").parse()?;
                        builder = builder.set("system.bounds", bounds["bounds"].clone());
                    }
                    for (key, value) in sets {
                        builder = builder.set(key, value.clone());
                    }
                    Ok(builder.build()?.run()?.summary)
                };
                let steady = |sets: &[(&str, toml::Value)]| -> Result<f64, Box<dyn Error>> {
                    Ok(run(sets)?.throughput_steady_per_min.unwrap_or(f64::NAN))
                };
                let alone = steady(&[("system.policy", "vanilla".into())])?;
                let monitor = run(&[])?;
                let gain = monitor.throughput_steady_per_min.unwrap_or(f64::NAN) / alone;
                let what_if = steady(&[("allocation.policy", "what_if".into())])? / alone;
                let mut best = (0, 0.0);
                for large in 1..WORKERS {
                    let split = [
                        ("allocation.policy", toml::Value::from("static")),
                        ("allocation.initial_large", large.into()),
                    ];
                    let gain = steady(&split)? / alone;
                    if gain > best.1 {
                        best = (large, gain);
                    }
                }
                let hits = monitor.hit_rate.unwrap_or(0.0);
                let left = monitor.mean_refine_fraction.unwrap_or(0.0);
                let fluid = 1.0 / ((1.0 - hits) + hits * cost * left);
                worst = [worst[0].min(gain / best.1), worst[1].min(what_if / best.1)];
                println!(
                    "| {cost:.2} | {steps} | {name} | {seed} | {hits:.3} | {left:.3} | {fluid:.3} | {:.3} ({} large) | \
                     {gain:.3} | {what_if:.3} |",
                    best.1, best.0
                );
            }
            println!("worst over the best split: monitor {:.3}, what_if {:.3}", worst[0], worst[1]);
        }
    }
    Ok(())
}
