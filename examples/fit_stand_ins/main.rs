//! Fits the stand-in embeddings to published figures on some noise seeds, and judges them on other seeds. Each image is
//! cached at once, and the first half of the prompts is warm. `scripts/fit_stand_ins` runs it on a list of prompts:
//!
//! ```text
//! scripts/fit_stand_ins prompts.txt          # fits, then judges what it found
//! scripts/fit_stand_ins prompts.txt --judge  # judges the defaults of [encoder] and [image_model]
//! ```

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use modm::encoder::{EncoderSettings, ImageModel};

mod at_once;
mod search;

use at_once::{Pairs, Parts, TARGETS, Values, replay};

#[derive(Parser)]
struct Arguments {
    /// File of prompts, one a line, in the order of the requests
    prompts: PathBuf,
    /// Judge the defaults without a fit
    #[arg(long)]
    judge: bool,
    /// Noise seeds to fit on
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    fit_seeds: Vec<u64>,
    /// Noise seeds to judge on
    #[arg(long, value_delimiter = ',', default_value = "11,12,13,14,15,16")]
    judge_seeds: Vec<u64>,
    /// Similarity bound of Pinecone: the start of a fit, or the value to judge with --judge
    #[arg(long, default_value_t = at_once::PINECONE)]
    pinecone: f64,
    /// Largest number of settings that a fit tries
    #[arg(long, default_value_t = 250)]
    trials: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let text = fs::read_to_string(&arguments.prompts).with_context(|| arguments.prompts.display().to_string())?;
    let prompts: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    anyhow::ensure!(prompts.len() > 4_000, "expected more than 4,000 prompts, found {}", prompts.len());
    let defaults = (EncoderSettings::default(), ImageModel::default());
    let mut values = Values {
        background: defaults.0.background,
        common_share: defaults.1.common_share,
        own_deviation: defaults.1.own_similarity_deviation,
        noise: defaults.1.noise,
        pinecone: arguments.pinecone,
    };
    if !arguments.judge {
        values = fit(&arguments, &prompts, values);
        println!("\nfitted on seeds {:?}, rounded: {values:?}\n", arguments.fit_seeds);
    }
    judge(&arguments, &prompts, &values)
}

/// Finds the values whose figures come nearest to the targets, and rounds them to the precision of the settings.
fn fit(arguments: &Arguments, prompts: &[String], start: Values) -> Values {
    let parts: Vec<Parts> = arguments.fit_seeds.iter().map(|&seed| Parts::new(prompts, seed)).collect();
    let mut trial = 0;
    let cost = |values: &Values| {
        trial += 1;
        let mut means = [0.0; TARGETS.len()];
        for parts in &parts {
            let outcome = replay(&parts.pairs(values), prompts.len(), prompts.len() / 2, values.pinecone);
            for (mean, figure) in means.iter_mut().zip(outcome.figures()) {
                *mean += figure / parts_count(arguments);
            }
        }
        let cost: f64 = TARGETS
            .iter()
            .zip(means)
            .map(|(target, mean)| ((mean - target.published) / target.tolerance).powi(2))
            .sum();
        println!("{trial:4}  {cost:8.3}  {values:?}");
        cost
    };
    let found = search::pattern(start, arguments.trials, cost);
    let rounded = |value: f64, steps: f64| (value * steps).round() / steps;
    Values {
        background: rounded(found.background, 1e3),
        common_share: rounded(found.common_share, 1e3),
        own_deviation: rounded(found.own_deviation, 1e4),
        noise: rounded(found.noise, 1e4),
        pinecone: rounded(found.pinecone, 1e3),
    }
}

fn parts_count(arguments: &Arguments) -> f64 {
    arguments.fit_seeds.len() as f64
}

/// Prints the table of targets, with the figures of the embeddings that scenarios with these values use.
fn judge(arguments: &Arguments, prompts: &[String], values: &Values) -> anyhow::Result<()> {
    let encoder = EncoderSettings { background: values.background, ..EncoderSettings::default() };
    let image_model = ImageModel {
        own_similarity_deviation: values.own_deviation,
        common_share: values.common_share,
        noise: values.noise,
        ..ImageModel::default()
    };
    image_model.check(&arguments.prompts, "image_model")?;
    let figures: Vec<[f64; TARGETS.len()]> = arguments
        .judge_seeds
        .iter()
        .map(|&seed| {
            let pairs = Pairs::new(&encoder, &image_model, prompts, seed);
            replay(&pairs, prompts.len(), prompts.len() / 2, values.pinecone).figures()
        })
        .collect();
    println!("Judged on seeds {:?}:\n", arguments.judge_seeds);
    println!("| figure | published | mean | lowest | highest | accepted |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (at, target) in TARGETS.iter().enumerate() {
        let own: Vec<f64> = figures.iter().map(|figures| figures[at]).collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let (low, high) =
            own.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
        let (from, to) = target.accepted;
        let verdict = if from <= low && high <= to { "" } else { ", missed" };
        println!(
            "| {} | {} | {mean:.3} | {low:.3} | {high:.3} | {from} to {to}{verdict} |",
            target.name, target.published
        );
    }
    Ok(())
}
