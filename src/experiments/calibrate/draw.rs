//! Pictures of a calibration: references by the large model, pictures by the small model alone, and refinements of the
//! most similar earlier reference. The encoder judges each picture.

use super::WantedSamples;
use crate::calibration::nearest_earlier;
use crate::calibration::samples::Sample;
use crate::embedding::{Embedding, similarity};
use crate::experiments::live::Equipment;
use crate::experiments::{ExperimentError, Progress};
use crate::live::batch::{self, WantedPicture};
use crate::live::encoder::DualEncoder;
use crate::live::painter::Painter;
use crate::live::worker::Paint;
use crate::model::ModelId;
use crate::output::make_folder;
use crate::request::{RequestId, Shape};

const SMALL: ModelId = ModelId(1);

impl WantedSamples {
    /// Returns the sample of a picture that is not judged yet.
    fn sample(&self, row: u32, model: ModelId, source: Option<(u32, f64)>, skipped_steps: u32) -> Sample {
        let size = if model.is_large() { "large" } else { "small" };
        let prompt = self.prompts[row as usize].to_string();
        let picture = format!("{row}-{size}-{skipped_steps}.png");
        Sample { row, prompt, source, large: model.is_large(), skipped_steps, picture, quality: 0.0 }
    }

    fn wanted(&self, sample: &Sample) -> WantedPicture {
        let model = if sample.large { ModelId::LARGE } else { SMALL };
        let source = sample.source.map(|(row, _)| self.sample(row, ModelId::LARGE, None, 0).picture);
        WantedPicture {
            request: RequestId(sample.row),
            seed: self.seed,
            prompt: self.prompts[sample.row as usize].clone(),
            work: match sample.skipped_steps {
                0 => self.denoising.full(model, Shape::default()),
                skipped => self.denoising.refinement(model, Shape::default(), skipped),
            },
            source: source.map(|name| self.folder.join(name)),
            to: self.folder.join(&sample.picture),
        }
    }
}

/// Draws and judges all pictures. Returns the samples by row, those of the large model first.
///
/// # Errors
/// Returns an error if a model does not load or does not draw, or if a picture cannot be written.
pub fn draw(
    wishes: &WantedSamples,
    equipment: &Equipment,
    progress: &dyn Progress,
) -> Result<Vec<Sample>, ExperimentError> {
    make_folder(&wishes.folder)?;
    let mut encoder = DualEncoder::open(&equipment.library, &equipment.encoder, equipment.encoder_device)?;
    let paint = |device| Box::new(Painter::new(equipment.library.clone(), device, equipment.palette.clone()));
    let mut devices: Vec<Box<dyn Paint>> =
        equipment.devices.iter().map(|device| paint(*device) as Box<dyn Paint>).collect();
    let rows = || 0..wishes.prompts.len() as u32;
    // The first request has no earlier reference, so it has no refinements.
    let total = wishes.prompts.len() * (2 + wishes.skips.len()) - wishes.skips.len();
    progress.pictures_begin(total as u64);
    let mut draw_all = |samples: &[Sample]| {
        let wanted: Vec<WantedPicture> = samples.iter().map(|sample| wishes.wanted(sample)).collect();
        batch::draw_all(&mut devices, &wanted, &|| progress.request_ended())
    };
    let prompts: Vec<Embedding> = wishes.prompts.iter().map(|prompt| encoder.text(prompt)).collect::<Result<_, _>>()?;
    // References are drawn and written first, since refinements start from their files.
    let mut large: Vec<Sample> = rows().map(|row| wishes.sample(row, ModelId::LARGE, None, 0)).collect();
    draw_all(&large)?;
    let pictures = embedded(&large, wishes, &mut encoder)?;
    let sources = nearest_earlier(&prompts, &pictures);
    judge(&mut large, &prompts, &pictures);
    let refined = |(row, source): (u32, &Option<(u32, f64)>)| {
        let alone = std::iter::once(wishes.sample(row, SMALL, None, 0));
        let skips = wishes.skips.iter().filter(|_| source.is_some());
        alone.chain(skips.map(|k| wishes.sample(row, SMALL, *source, *k))).collect::<Vec<_>>()
    };
    let mut small: Vec<Sample> = rows().zip(&sources).flat_map(refined).collect();
    draw_all(&small)?;
    progress.run_ends();
    let pictures = embedded(&small, wishes, &mut encoder)?;
    judge(&mut small, &prompts, &pictures);
    let mut all = [large, small].concat();
    all.sort_by_key(|sample| (sample.row, !sample.large, sample.skipped_steps));
    Ok(all)
}

fn embedded(
    samples: &[Sample],
    wishes: &WantedSamples,
    encoder: &mut DualEncoder,
) -> Result<Vec<Embedding>, ExperimentError> {
    let one = |sample: &Sample| {
        let picture = batch::read(&wishes.folder.join(&sample.picture))?;
        Ok(encoder.image(&picture)?)
    };
    samples.iter().map(one).collect()
}

/// Sets the quality of each sample to the cosine of its prompt and its picture.
fn judge(samples: &mut [Sample], prompts: &[Embedding], pictures: &[Embedding]) {
    for (sample, picture) in samples.iter_mut().zip(pictures) {
        sample.quality = similarity(prompts[sample.row as usize].as_slice(), picture.as_slice());
    }
}
