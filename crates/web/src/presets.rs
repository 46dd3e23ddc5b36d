//! Clusters and models with which the page begins. Times and scores are those of the project's profiles
//! (`scenarios/profiles`), which a test holds them against; each preset says what is published and what is assumed.

/// Model on the GPU type of a preset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Name in scenarios and profiles.
    pub name: &'static str,
    /// Name for readers.
    pub title: &'static str,
    /// Seconds of a full generation.
    pub full_s: f64,
    /// `CLIPScore` of the model's own images (MoDM, arXiv 2503.11972).
    pub clip: f64,
}

/// Cluster and models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Name in addresses.
    pub name: &'static str,
    /// Name for readers.
    pub title: &'static str,
    /// GPU type.
    pub gpu: &'static str,
    /// Number of GPUs.
    pub gpus: u16,
    /// Arrivals in requests a minute: twice what the large model alone carries.
    pub rate_per_min: f64,
    /// Model that serves misses.
    pub large: Model,
    /// Model that refines hits.
    pub small: Model,
    /// Denoising steps of a full generation by either model.
    pub steps: u32,
    /// Seconds to load a model onto a GPU.
    pub load_s: f64,
    /// Watts of a GPU while it denoises, loads and idles.
    pub watts: [f64; 3],
    /// True if the rows of the program's built-in profile are these.
    pub built_in: bool,
    /// Origin of the times, for readers.
    pub source: &'static str,
}

const SD35_LARGE: Model = Model { name: "sd3.5-large", title: "SD3.5-Large", full_s: 91.5, clip: 28.55 };
const SDXL: Model = Model { name: "sdxl", title: "SDXL", full_s: 16.5, clip: 29.30 };
const SANA: Model = Model { name: "sana-1.6b", title: "SANA-1.6B", full_s: 6.5, clip: 28.08 };
const FLUX: Model = Model { name: "flux", title: "FLUX.1-dev", full_s: 68.0, clip: 26.82 };

/// Seconds to load a model: the production median of base model loading (Alibaba cluster-trace-v2026-GenAI).
const LOAD_S: f64 = 22.7;

const MI210_WATTS: [f64; 3] = [300.0, 120.0, 45.0];

const MI210: Preset = Preset {
    name: "mi210-sdxl",
    title: "16 × MI210: SD3.5-Large, SDXL (the paper's)",
    gpu: "mi210",
    gpus: 16,
    rate_per_min: 20.0,
    large: SD35_LARGE,
    small: SDXL,
    steps: 50,
    load_s: LOAD_S,
    watts: MI210_WATTS,
    built_in: true,
    source: "Full generations: published by MoDM (arXiv 2503.11972), 50 steps, batch 1, MI210. Loads: a production \
             median (Alibaba cluster-trace-v2026-GenAI), not measured on this GPU. Powers: assumed.",
};

/// Presets of the page, the first of them its default.
pub const PRESETS: [Preset; 5] = [
    MI210,
    Preset { name: "mi210-sana", title: "16 × MI210: SD3.5-Large, SANA-1.6B (the paper's)", small: SANA, ..MI210 },
    Preset {
        name: "a40-sdxl",
        title: "4 × A40: SD3.5-Large, SDXL (the paper's)",
        gpu: "a40",
        gpus: 4,
        rate_per_min: 8.0,
        large: Model { full_s: 60.0, ..SD35_LARGE },
        small: Model { full_s: 10.819_672_131_147_541, ..SDXL },
        watts: [300.0, 120.0, 30.0],
        source: "SD3.5-Large: about 60 s on an A40, from the scripts of MoDM (arXiv 2503.11972). SDXL: assumed to be as \
                 much faster as on the MI210. Loads: a production median (Alibaba cluster-trace-v2026-GenAI). Powers: \
                 assumed.",
        ..MI210
    },
    Preset {
        name: "mi210-flux",
        title: "16 × MI210: FLUX.1-dev, SDXL",
        rate_per_min: 28.0,
        large: FLUX,
        built_in: false,
        source: "SDXL: published by MoDM (arXiv 2503.11972). FLUX.1-dev: derived from SD3.5-Large's time by parameters \
                 and passes a step. Loads: a production median (Alibaba cluster-trace-v2026-GenAI). Powers: assumed.",
        ..MI210
    },
    Preset {
        name: "h100-flux",
        title: "8 × H100: FLUX.1-dev (28 steps), SDXL",
        gpu: "h100",
        gpus: 8,
        rate_per_min: 140.0,
        large: Model { full_s: 6.71, ..FLUX },
        small: Model { full_s: 1.63, ..SDXL },
        steps: 28,
        watts: [700.0, 150.0, 70.0],
        built_in: false,
        source: "FLUX.1-dev: 6.71 s for 28 steps on an H100 (xDiT, docs/performance/flux.md). SDXL: assumed to be as much \
                 faster as on the MI210. Skipped steps: the paper's for 50 steps, in proportion. Loads: a production \
                 median (Alibaba cluster-trace-v2026-GenAI). Powers: assumed.",
        ..MI210
    },
];

/// Returns the preset of this name.
#[must_use]
pub fn named(name: &str) -> Option<usize> {
    PRESETS.iter().position(|preset| preset.name == name)
}
