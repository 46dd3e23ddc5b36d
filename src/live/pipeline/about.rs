//! Abilities of a model that its folder tells without a load: its sizes, its guidance, and whether its files are there.

use std::fs::File;
use std::path::Path;

use super::super::error::Error;
use super::super::settings::LARGEST_SIDE;
use super::super::words::Words;
use super::denoise::Denoiser;
use super::folder::{Family, Folder};
use super::schedule::Schedule;
use super::{canvas, files, packing, text};
use crate::input::InputError;

/// Width and height of FLUX's latents if nothing else is said (`default_sample_size` of diffusers' `FluxPipeline`).
const FLUX_SAMPLE_SIZE: usize = 128;

/// Returns the width and height of a model's pictures, in pixels, without loading the model.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn picture_size(path: &Path) -> Result<[u32; 2], Error> {
    let folder = Folder::read(path)?;
    let config = folder.config(Denoiser::part(folder.family))?;
    let latents = match folder.family {
        // FLUX's configuration has no size. This one is the default of its pipeline.
        Family::Flux if config.get("sample_size").is_null() => FLUX_SAMPLE_SIZE,
        _ => config.count("sample_size")?,
    };
    let side = latents.checked_mul(canvas::factor(&folder)?);
    let side = side.and_then(|side| u32::try_from(side).ok()).filter(|side| *side <= LARGEST_SIDE);
    let message = format!("expected pictures of at most {LARGEST_SIDE} pixels");
    let wrong = || InputError::new(&config.file, message).value("sample_size", config.get("sample_size"));
    Ok([side.ok_or_else(wrong)?; 2])
}

/// Returns the number that both sides of a model's pictures must be a multiple of, in pixels. The canvas and the parts
/// of the denoiser divide the sides by it.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn size_multiple(path: &Path) -> Result<u32, Error> {
    let folder = Folder::read(path)?;
    let config = folder.config(Denoiser::part(folder.family))?;
    let parts = match folder.family {
        Family::Shapes | Family::StableDiffusion3 | Family::Sana => config.count("patch_size")?,
        Family::Flux => packing::SIDE,
        // Each block of the U-Net but the last halves the sides, and later blocks join their results with earlier ones:
        // the halves must be whole numbers.
        Family::StableDiffusionXl => {
            1 << (config.get("block_out_channels").as_array().map_or(1, Vec::len).clamp(1, 17) - 1)
        }
    };
    Ok(u32::try_from(canvas::factor(&folder)? * parts).unwrap_or(u32::MAX))
}

/// Returns the sizes that a model draws, in words, if it does not draw this one. The model is not loaded.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn undrawable(path: &Path, size: [u32; 2]) -> Result<Option<String>, Error> {
    let multiple = size_multiple(path)?;
    if size.iter().any(|side| !side.is_multiple_of(multiple) || !(1..=LARGEST_SIDE).contains(side)) {
        return Ok(Some(format!("multiples of {multiple}")));
    }
    let folder = Folder::read(path)?;
    let own = picture_size(path)?;
    match folder.family {
        // The models of shapes learned a vector for each place of their own size.
        Family::Shapes if size != own => Ok(Some(format!("{own:?}"))),
        Family::StableDiffusion3 => {
            // SD3 has a vector for each place of a square, and takes the middle of it.
            let places = folder.config(Denoiser::part(folder.family))?.number_or("pos_embed_max_size", f64::MAX)?;
            let most = places * f64::from(multiple);
            let is_larger = size.iter().any(|side| f64::from(*side) > most);
            Ok(is_larger.then(|| format!("at most {most} pixels a side")))
        }
        _ => Ok(None),
    }
}

/// Returns whether the model of a folder takes a negative prompt, without loading the model. FLUX.1 takes its guidance
/// as a number, and never runs without the prompt.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn takes_negative_prompt(path: &Path) -> Result<bool, Error> {
    Ok(Folder::read(path)?.family != Family::Flux)
}

/// Returns whether the model of a folder takes guidance, without loading the model. FLUX.1-schnell takes none.
///
/// # Errors
/// Returns an error if a file is missing or has wrong content.
pub fn takes_guidance(path: &Path) -> Result<bool, Error> {
    Folder::read(path)?.takes_guidance()
}

/// Guidance scale above which a model is guided. The limit is that of `do_classifier_free_guidance` in diffusers'
/// pipelines.
pub const NO_GUIDANCE: f32 = 1.0;
/// Guidance that is accepted for a model without guidance.
pub const WITHOUT_GUIDANCE: &str = "expected a scale of at most 1: the model was distilled without guidance";

/// Checks that a folder holds all files of a model of a known family, without loading the model.
///
/// # Errors
/// Returns an error for the first file that is missing or has wrong content.
pub fn check(path: &Path) -> Result<(), Error> {
    picture_size(path)?;
    size_multiple(path)?;
    let folder = Folder::read(path)?;
    Schedule::read(&folder.scheduler()?, folder.family)?;
    folder.guidance_scale()?;
    Denoiser::timestep_scale(&folder)?;
    folder.takes_guidance()?;
    if folder.part("vae_decoder").is_dir() {
        canvas::Scaling::read(&folder)?;
    }
    for suffix in text::suffixes(&folder) {
        Words::read(&folder.part(&format!("tokenizer{suffix}")), None)?;
    }
    files(&folder).iter().try_for_each(|file| readable(file))
}

fn readable(file: &Path) -> Result<(), Error> {
    File::open(file).map(drop).map_err(|error| InputError::unreadable(file, &error).into())
}
