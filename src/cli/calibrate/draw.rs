//! The pictures of a calibration: references by the large model, the small model alone, and refinements of the
//! most similar earlier reference, each judged by the encoder.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use super::super::live::Equipment;
use super::super::make_folder;
use super::super::progress::Progress;
use crate::calibration::nearest_earlier;
use crate::calibration::samples::Sample;
use crate::embedding::{Embedding, similarity};
use crate::live::batch::{self, Wanted};
use crate::live::encoder::DualEncoder;
use crate::live::painter::Painter;
use crate::live::worker::Paint;
use crate::model::{ModelId, Work};
use crate::request::RequestId;

/// What is drawn.
pub(super) struct Wishes {
    /// By row.
    pub(super) prompts: Vec<Arc<str>>,
    /// Numbers of skipped steps, rising.
    pub(super) skips: Vec<u32>,
    /// Steps of a full generation.
    pub(super) steps: u32,
    /// All noise derives from it.
    pub(super) seed: u64,
    /// Where the pictures go.
    pub(super) folder: PathBuf,
}

const SMALL: ModelId = ModelId(1);

impl Wishes {
    /// A picture, not yet judged.
    fn sample(&self, row: u32, model: ModelId, source: Option<(u32, f64)>, skipped_steps: u32) -> Sample {
        let size = if model.is_large() { "large" } else { "small" };
        let prompt = self.prompts[row as usize].to_string();
        let picture = format!("{row}-{size}-{skipped_steps}.png");
        Sample { row, prompt, source, large: model.is_large(), skipped_steps, picture, quality: 0.0 }
    }

    fn wanted(&self, sample: &Sample) -> Wanted {
        let model = if sample.large { ModelId::LARGE } else { SMALL };
        let source = sample.source.map(|(row, _)| self.sample(row, ModelId::LARGE, None, 0).picture);
        Wanted {
            request: RequestId(sample.row),
            seed: self.seed,
            prompt: self.prompts[sample.row as usize].clone(),
            work: Work { model, total_steps: self.steps, skipped_steps: sample.skipped_steps },
            source: source.map(|name| self.folder.join(name)),
            to: self.folder.join(&sample.picture),
        }
    }
}

/// Draws and judges everything; by row, the large model first.
pub(super) fn samples(wishes: &Wishes, equipment: &Equipment, quiet: bool) -> anyhow::Result<Vec<Sample>> {
    make_folder(&wishes.folder)?;
    let mut encoder = DualEncoder::open(&equipment.library, &equipment.encoder, equipment.encoder_device)?;
    let paint = |device| Box::new(Painter::new(equipment.library.clone(), device, equipment.palette.clone()));
    let mut devices: Vec<Box<dyn Paint>> =
        equipment.devices.iter().map(|device| paint(*device) as Box<dyn Paint>).collect();
    let rows = || 0..wishes.prompts.len() as u32;
    let total = wishes.prompts.len() * (2 + wishes.skips.len()) - wishes.skips.len();
    let progress = Progress::pictures(total as u64, quiet);
    let mut draw = |samples: &[Sample]| {
        let wanted: Vec<Wanted> = samples.iter().map(|sample| wishes.wanted(sample)).collect();
        batch::draw_all(&mut devices, &wanted, &|| progress.end_one()).map_err(anyhow::Error::msg)
    };
    let prompts: Vec<Embedding> =
        wishes.prompts.iter().map(|prompt| text(&mut encoder, prompt)).collect::<Result<_, _>>()?;
    let mut large: Vec<Sample> = rows().map(|row| wishes.sample(row, ModelId::LARGE, None, 0)).collect();
    draw(&large)?;
    let pictures = embedded(&large, wishes, &mut encoder)?;
    let sources = nearest_earlier(&prompts, &pictures);
    judge(&mut large, &prompts, &pictures);
    let refined = |(row, source): (u32, &Option<(u32, f64)>)| {
        let alone = std::iter::once(wishes.sample(row, SMALL, None, 0));
        let skips = wishes.skips.iter().filter(|_| source.is_some());
        alone.chain(skips.map(|k| wishes.sample(row, SMALL, *source, *k))).collect::<Vec<_>>()
    };
    let mut small: Vec<Sample> = rows().zip(&sources).flat_map(refined).collect();
    draw(&small)?;
    progress.finish();
    let pictures = embedded(&small, wishes, &mut encoder)?;
    judge(&mut small, &prompts, &pictures);
    let mut all = [large, small].concat();
    all.sort_by_key(|sample| (sample.row, !sample.large, sample.skipped_steps));
    Ok(all)
}

fn text(encoder: &mut DualEncoder, prompt: &str) -> anyhow::Result<Embedding> {
    encoder.texts(&[prompt])?.pop().context("the encoder gave no embedding")
}

fn embedded(samples: &[Sample], wishes: &Wishes, encoder: &mut DualEncoder) -> anyhow::Result<Vec<Embedding>> {
    let one = |sample: &Sample| {
        let picture = batch::read(&wishes.folder.join(&sample.picture)).map_err(anyhow::Error::msg)?;
        encoder.images(&[&picture])?.pop().context("the encoder gave no embedding")
    };
    samples.iter().map(one).collect()
}

/// Cosine of prompt and picture.
fn judge(samples: &mut [Sample], prompts: &[Embedding], pictures: &[Embedding]) {
    for (sample, picture) in samples.iter_mut().zip(pictures) {
        sample.quality = similarity(prompts[sample.row as usize].as_slice(), picture.as_slice());
    }
}
