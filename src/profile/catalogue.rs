//! Built-in catalogue of profiles: service times of public models on GPU types that many people have, each published or
//! assumed as its row says (docs/profiles.md). It knows other names of GPU types and models, and the rows that are
//! nearest to a pair that a profile lacks.

use serde::Serialize;
use strsim::levenshtein;

use super::{ProfileFile, Service, SourceKind, parse};
use crate::denoising::Schedule;
use crate::input::InputError;

/// Name by which a scenario takes the catalogue: `models.profile = "catalogue"`.
pub const CATALOGUE: &str = "catalogue";

/// File of the catalogue, which is part of the program.
pub const FILE: &str = "scenarios/profiles/catalogue.toml";

/// Content of the catalogue's file.
pub const TEXT: &str = include_str!("../../scenarios/profiles/catalogue.toml");

/// Number of known names that a message lists.
const NAMED: usize = 8;

/// GPU type of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownGpu {
    /// Name in the catalogue.
    pub name: &'static str,
    /// Name that the vendor uses.
    pub title: &'static str,
    /// Other names, as [`plain`] has them.
    aliases: &'static [&'static str],
}

/// Model of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownModel {
    /// Name in the catalogue.
    pub name: &'static str,
    /// Name that its authors use.
    pub title: &'static str,
    /// Number of denoising steps that the model is usually run with.
    pub steps: u32,
    /// Noise levels of its steps, for `models.schedule`.
    pub schedule: Schedule,
    /// Other names, as [`plain`] has them.
    aliases: &'static [&'static str],
}

/// GPU types of the catalogue.
pub const GPUS: [KnownGpu; 8] = [
    KnownGpu { name: "h100", title: "NVIDIA H100 SXM", aliases: &["h100sxm", "h100sxm5", "h10080gb", "h10080gbhbm3"] },
    KnownGpu { name: "h200", title: "NVIDIA H200 SXM", aliases: &["h200sxm", "h200sxm5", "h200141gb"] },
    KnownGpu { name: "a100", title: "NVIDIA A100 SXM, 80 GB", aliases: &["a100sxm", "a100sxm4", "a10080gb"] },
    KnownGpu { name: "l40s", title: "NVIDIA L40S", aliases: &["l40s48gb"] },
    KnownGpu { name: "rtx4090", title: "NVIDIA GeForce RTX 4090", aliases: &["4090", "geforcertx4090", "rtx409024gb"] },
    KnownGpu { name: "mi300x", title: "AMD Instinct MI300X", aliases: &["instinctmi300x", "mi300"] },
    KnownGpu { name: "mi210", title: "AMD Instinct MI210", aliases: &["instinctmi210"] },
    KnownGpu { name: "a40", title: "NVIDIA A40", aliases: &["a4048gb"] },
];

/// Models of the catalogue.
pub const MODELS: [KnownModel; 6] = [
    KnownModel {
        name: "sd3.5-large",
        title: "Stable Diffusion 3.5 Large",
        steps: 50,
        schedule: Schedule::Shift(3.0),
        aliases: &["sd35l", "stablediffusion35large", "sd35"],
    },
    KnownModel {
        name: "sdxl",
        title: "Stable Diffusion XL 1.0",
        steps: 50,
        schedule: Schedule::ScaledLinear,
        aliases: &["sdxlbase", "sdxl10", "sdxlbase10", "stablediffusionxl", "stablediffusionxlbase10"],
    },
    KnownModel {
        name: "flux-dev",
        title: "FLUX.1-dev",
        steps: 50,
        schedule: Schedule::Shift(3.158),
        aliases: &["flux", "flux1", "flux1dev"],
    },
    KnownModel {
        name: "flux-schnell",
        title: "FLUX.1-schnell",
        steps: 4,
        schedule: Schedule::Shift(1.0),
        aliases: &["schnell", "flux1schnell"],
    },
    KnownModel {
        name: "sana-1.6b",
        title: "SANA 1.6B",
        steps: 20,
        schedule: Schedule::Shift(3.0),
        aliases: &["sana", "sana1600m", "sana1600m1024px"],
    },
    KnownModel {
        name: "sd3.5-turbo",
        title: "Stable Diffusion 3.5 Large Turbo",
        steps: 4,
        schedule: Schedule::Shift(3.0),
        aliases: &["sd35largeturbo", "sd35lturbo", "stablediffusion35largeturbo"],
    },
];

/// Pair of a GPU type and a model that the catalogue has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// GPU type, by its name in the catalogue.
    pub gpu: &'static str,
    /// Model, by its name in the catalogue.
    pub model: &'static str,
    /// Number of steps of the generation below.
    pub steps: u32,
    /// Seconds of one denoising step.
    pub step_s: f64,
    /// Seconds of one image of 1024 x 1024 with these steps.
    pub generation_s: f64,
    /// Kind of the source: `published` or `assumed`.
    pub kind: &'static str,
    /// Source of the row.
    pub source: String,
    /// Memory that the model takes, in GB.
    pub memory_gb: Option<f64>,
    /// Memory of the GPU, in GB.
    pub gpu_memory_gb: Option<f64>,
    /// Price of one GPU, dollars an hour.
    pub usd_per_hour: Option<f64>,
    /// Source of the price.
    pub price_source: Option<String>,
}

/// Name that the catalogue does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not in the catalogue, which has {known}; {way_out}")]
pub struct Unknown {
    /// Subject: "GPU type" or "model".
    pub what: &'static str,
    /// Name that was asked for.
    pub name: String,
    /// Names that the catalogue has, nearest first, in words.
    pub known: String,
    /// Next step for the user.
    pub way_out: String,
}

/// Returns the catalogue.
///
/// # Errors
/// Never, as tests show: the file is part of the program.
pub fn profile() -> Result<ProfileFile, InputError> {
    parse(TEXT, format!("the built-in catalogue ({FILE})").as_ref())
}

/// Returns a name in small letters and digits alone, without the vendor or the owner that stands before it.
fn plain(name: &str) -> String {
    let own = name.rsplit('/').next().unwrap_or(name);
    let letters = own.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase());
    let plain: String = letters.collect();
    let vendor = ["nvidia", "amd"].into_iter().find_map(|vendor| plain.strip_prefix(vendor));
    vendor.map_or_else(|| plain.clone(), str::to_owned)
}

/// Returns the GPU type with this name, or with this other name of it.
#[must_use]
pub fn gpu(name: &str) -> Option<&'static KnownGpu> {
    let name = plain(name);
    GPUS.iter().find(|gpu| plain(gpu.name) == name || gpu.aliases.contains(&name.as_str()))
}

/// Returns the model with this name, or with this other name of it.
#[must_use]
pub fn model(name: &str) -> Option<&'static KnownModel> {
    let name = plain(name);
    MODELS.iter().find(|model| plain(model.name) == name || model.aliases.contains(&name.as_str()))
}

/// Returns the entries of these GPU types with these models, GPU by GPU. Names may be other names than those of the
/// catalogue; entries have the catalogue's.
///
/// # Errors
/// The first name that the catalogue does not know, with those that it knows and the next step.
pub fn cover(gpus: &[&str], models: &[&str]) -> Result<Vec<Entry>, Unknown> {
    let mut known_models = Vec::new();
    for name in models {
        known_models.push(model(name).ok_or_else(|| Unknown {
            what: "model",
            name: (*name).to_owned(),
            known: listed(&nearest(name, MODELS.map(|model| model.name))),
            way_out: starter_words(gpus.first().copied().unwrap_or("GPU"), models),
        })?);
    }
    let mut entries = Vec::new();
    for name in gpus {
        let gpu = gpu(name).ok_or_else(|| Unknown {
            what: "GPU type",
            name: (*name).to_owned(),
            known: listed(&nearest(name, GPUS.map(|gpu| gpu.name))),
            way_out: starter_words(name, models),
        })?;
        entries.extend(entries_of(gpu, &known_models));
    }
    Ok(entries)
}

/// Returns every entry of the catalogue, GPU by GPU.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let models: Vec<&KnownModel> = MODELS.iter().collect();
    GPUS.iter().flat_map(|gpu| entries_of(gpu, &models)).collect()
}

fn entries_of(gpu: &'static KnownGpu, models: &[&'static KnownModel]) -> Vec<Entry> {
    let Ok(file) = profile() else { return Vec::new() };
    let facts = file.gpu.iter().find(|facts| facts.r#type == gpu.name);
    let entry = |model: &&'static KnownModel| {
        let row = row(&file, gpu.name, model.name)?;
        let source = row.source.clone().unwrap_or_default();
        Some(Entry {
            gpu: gpu.name,
            model: model.name,
            steps: model.steps,
            step_s: row.step_s,
            generation_s: generation_s(row, model.steps),
            kind: row.source_kind().unwrap_or(SourceKind::Assumed).word(),
            source,
            memory_gb: row.memory_gb,
            gpu_memory_gb: facts.map(|facts| facts.memory_gb),
            usd_per_hour: facts.and_then(|facts| facts.usd_per_hour),
            price_source: facts.and_then(|facts| facts.source.clone()),
        })
    };
    models.iter().filter_map(entry).collect()
}

/// Returns the row of a GPU type with a model.
pub(super) fn row<'a>(file: &'a ProfileFile, gpu: &str, model: &str) -> Option<&'a Service> {
    file.service.iter().find(|row| row.gpu == gpu && row.model == model)
}

/// Returns the seconds of one image of the row's size.
fn generation_s(row: &Service, steps: u32) -> f64 {
    row.overhead_s + row.text_s + row.step_s * f64::from(steps) + row.decode_s
}

/// Returns the rest of the message about a pair that a profile lacks: the rows that it has, nearest first, and the next
/// step for the user.
#[must_use]
pub fn missing(file: &ProfileFile, gpu: &str, model: &str, models: &[String]) -> String {
    let distance =
        |row: &&Service| levenshtein(&plain(gpu), &plain(&row.gpu)) + levenshtein(&plain(model), &plain(&row.model));
    let mut rows: Vec<&Service> = file.service.iter().collect();
    rows.sort_by_key(distance);
    let mut known: Vec<String> = rows.iter().take(NAMED).map(|row| format!("({}, {})", row.gpu, row.model)).collect();
    if rows.len() > NAMED {
        known.push(format!("{} more", rows.len() - NAMED));
    }
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let is_catalogue = profile().is_ok_and(|built_in| built_in == *file);
    let in_catalogue = |name: &str| GPUS.iter().any(|known| known.name == name);
    let way_out = if !is_catalogue && in_catalogue(gpu) && MODELS.iter().any(|known| known.name == model) {
        format!("the built-in catalogue has it: models.profile = {CATALOGUE:?}")
    } else {
        starter_words(gpu, &models)
    };
    format!("has no [[service]] row for it; it has {}; {way_out}", known.join(", "))
}

/// Returns the sentence that names the command for rows to fill in.
fn starter_words(gpu: &str, models: &[&str]) -> String {
    format!("for rows to fill in: modm profiles --starter {gpu} {}", models.join(" "))
}

/// Returns the names in order of their distance to a name, nearest first.
fn nearest<const N: usize>(name: &str, mut names: [&'static str; N]) -> [&'static str; N] {
    let name = plain(name);
    names.sort_by_key(|known| levenshtein(&name, &plain(known)));
    names
}

fn listed(names: &[&str]) -> String {
    names.join(", ")
}

#[cfg(test)]
mod tests;
