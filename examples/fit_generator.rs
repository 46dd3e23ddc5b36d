//! Hits of a list of prompts on a sliding window of images: hit rate, skipped steps, age of the sources. Fits
//! `[trace.synthetic]` to published figures, and shows what the stand-in embeddings make of real prompts. No
//! simulation: an image is cached at once or, with `--served`, in order at a fixed share of the arrival rate.
//!
//! ```text
//! cargo run --release --example fit_generator -- --scenario scenarios/paper/prompts_window_100k.toml --capacity 100000
//! cargo run --release --example fit_generator -- --prompts prompts.txt --capacity 5000 --warm 0
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use anyhow::Context;
use clap::Parser;
use modm::embedding::{EmbeddingMatrix, rough_product};
use modm::encoder::{EncoderSettings, ImageModel, Pictures, TextEncoder};
use modm::trace::synthetic::Synthetic;

/// Decision table of the paper: lowest similarity, and skipped steps of 50.
const BOUNDS: [(f32, usize); 5] = [(0.25, 5), (0.27, 10), (0.28, 15), (0.29, 25), (0.30, 30)];

/// Seconds of a full generation with SD3.5-Large on an MI210 (arXiv 2503.11972), and below with SDXL and SANA-1.6B.
const LARGE_S: f64 = 91.5;
const SMALL_S: [(&str, f64); 2] = [("SDXL", 16.5), ("SANA", 6.5)];

/// Number of queries that share one pass over the images.
const BLOCK: usize = 8;

#[derive(Parser)]
struct Arguments {
    /// Scenario with `[trace.synthetic]`, and optionally seed, `[encoder]` and `[image_model]`
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Prompts to use instead, one a line
    #[arg(long)]
    prompts: Option<PathBuf>,
    /// Override a scenario key, e.g. trace.synthetic.prompts.repeats=0.2
    #[arg(long)]
    set: Vec<String>,
    /// Number of images that the cache holds
    #[arg(long, default_value_t = 10_000)]
    capacity: usize,
    /// Number of requests before the measured ones [default: the capacity]
    #[arg(long)]
    warm: Option<usize>,
    /// Number of requests to measure
    #[arg(long, default_value_t = 10_000)]
    measure: usize,
    /// Requests served for each request that arrives, from the first measured request on; below 1 a backlog grows
    #[arg(long, default_value_t = 1.0)]
    served: f64,
    /// Arrivals a minute, to turn ages into hours; `DiffusionDB` has 2 million requests in 12 days
    #[arg(long, default_value_t = 115.0)]
    rate_per_min: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = read_settings(&arguments)?;
    let section = |name: &str| settings.get(name).cloned().unwrap_or_else(|| toml::Table::new().into());
    let encoder: EncoderSettings = section("encoder").try_into()?;
    let image_model: ImageModel = section("image_model").try_into()?;
    let seed = settings.get("seed").and_then(toml::Value::as_integer).unwrap_or(42).unsigned_abs();
    let warm = arguments.warm.unwrap_or(arguments.capacity);
    let prompts: Vec<String> = if let Some(file) = &arguments.prompts {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    } else {
        let section = section("trace").get("synthetic").cloned().unwrap_or_else(|| toml::Table::new().into());
        let synthetic = Synthetic { requests: (warm + arguments.measure) as u32, ..section.try_into()? };
        synthetic.generate(seed, Path::new("the scenario"), "trace.synthetic")?.prompts
    };
    let embeddings = TextEncoder::fit(&encoder, &prompts).encode_all(&prompts);
    let Pictures { prompts: queries, images } = image_model.pictures(&embeddings, seed);
    let last = prompts.len().min(warm + arguments.measure);
    let cached = |row: usize| {
        let end = warm + ((row - warm) as f64 * arguments.served) as usize;
        end.saturating_sub(arguments.capacity)..end
    };
    let nearest = search(&rows(&queries), &rows(&images), queries.dimension(), warm..last, &cached);
    report(&nearest, arguments.rate_per_min);
    Ok(())
}

fn read_settings(arguments: &Arguments) -> anyhow::Result<toml::Table> {
    let mut settings = toml::Table::new();
    if let Some(file) = &arguments.scenario {
        settings = fs::read_to_string(file).with_context(|| file.display().to_string())?.parse()?;
    }
    for assignment in &arguments.set {
        let (key, value) = assignment.split_once('=').context("expected KEY=VALUE")?;
        let value = format!("value = {value}").parse::<toml::Table>()?.remove("value").context("no value")?;
        let (sections, key) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut settings;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let inner = table.entry(section).or_insert_with(|| toml::Table::new().into());
            table = inner.as_table_mut().with_context(|| format!("{section} is not a section"))?;
        }
        table.insert(key.to_owned(), value);
    }
    Ok(settings)
}

fn rows(matrix: &EmbeddingMatrix) -> Vec<f32> {
    (0..matrix.rows()).flat_map(|row| matrix.embedding(row).as_slice().to_vec()).collect()
}

/// Nearest image of a request: its similarity, and its age as the number of requests since it was requested.
#[derive(Clone, Copy, Default)]
struct Nearest {
    similarity: f32,
    age: usize,
}

/// Finds the nearest cached image of each row of `measured`. Similarities are in f32, because the results are
/// statistics and not decisions.
fn search(
    queries: &[f32],
    images: &[f32],
    width: usize,
    measured: Range<usize>,
    cached: &(impl Fn(usize) -> Range<usize> + Sync),
) -> Vec<Nearest> {
    let mut nearest = vec![Nearest::default(); measured.len()];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = measured.len().div_ceil(threads).next_multiple_of(BLOCK).max(BLOCK);
    thread::scope(|scope| {
        for (part, nearest) in nearest.chunks_mut(share).enumerate() {
            let first = measured.start + part * share;
            scope.spawn(move || {
                for (block, nearest) in nearest.chunks_mut(BLOCK).enumerate() {
                    search_block(queries, images, width, first + block * BLOCK, cached, nearest);
                }
            });
        }
    });
    nearest
}

/// Searches for all queries of a block in one pass over the images.
fn search_block(
    queries: &[f32],
    images: &[f32],
    width: usize,
    first: usize,
    cached: &impl Fn(usize) -> Range<usize>,
    nearest: &mut [Nearest],
) {
    let row = |row: usize| row * width..(row + 1) * width;
    let windows: Vec<Range<usize>> = (first..first + nearest.len()).map(cached).collect();
    let (Some(oldest), Some(newest)) = (windows.first(), windows.last()) else { return };
    for at in oldest.start..newest.end {
        let image = &images[row(at)];
        for (offset, (best, window)) in nearest.iter_mut().zip(&windows).enumerate() {
            if window.contains(&at) {
                let similarity = rough_product(&queries[row(first + offset)], image);
                if similarity > best.similarity {
                    *best = Nearest { similarity, age: first + offset - at };
                }
            }
        }
    }
}

fn report(nearest: &[Nearest], rate_per_min: f64) {
    let requests = nearest.len() as f64;
    let skipped = |similarity: f32| BOUNDS.iter().rev().find(|(bound, _)| similarity >= *bound).map(|&(_, k)| k);
    let mut similarities: Vec<f32> = nearest.iter().map(|nearest| nearest.similarity).collect();
    similarities.sort_unstable_by(f32::total_cmp);
    let quantile = |share: f64| similarities[((similarities.len() - 1) as f64 * share) as usize];
    println!("requests {requests}");
    println!(
        "similarity p5 {:.3} p25 {:.3} p50 {:.3} p75 {:.3} p95 {:.3}",
        quantile(0.05),
        quantile(0.25),
        quantile(0.5),
        quantile(0.75),
        quantile(0.95)
    );
    let hits: Vec<(usize, usize)> =
        nearest.iter().filter_map(|nearest| Some((skipped(nearest.similarity)?, nearest.age))).collect();
    let count = hits.len() as f64;
    let share = |k: usize| hits.iter().filter(|hit| hit.0 == k).count() as f64 / count;
    let refined = hits.iter().map(|&(k, _)| 1.0 - k as f64 / 50.0).sum::<f64>() / count;
    let hit_rate = count / requests;
    let young =
        |hours: f64| hits.iter().filter(|&&(_, age)| age as f64 <= hours * 60.0 * rate_per_min).count() as f64 / count;
    println!("hit rate {hit_rate:.4}; of hits, sources younger than 1 h {:.3}, 4 h {:.3}", young(1.0), young(4.0));
    let mix: Vec<String> = BOUNDS.iter().map(|&(_, k)| format!("{k}: {:.3}", share(k))).collect();
    println!("skipped steps {}; mean refine fraction {refined:.3}", mix.join(", "));
    for (small, small_s) in SMALL_S {
        let ratio = LARGE_S / ((1.0 - hit_rate) * LARGE_S + hit_rate * refined * small_s);
        println!("fluid optimum with {small}: {ratio:.2} times the large model alone");
    }
}
