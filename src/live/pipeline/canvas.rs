//! Between pictures and what a denoiser works on: the latents of an autoencoder, or pixels where a model has
//! none. Scaling is the autoencoder's configuration.

use ort::value::DynTensor;

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, floats, numbers, shape};
use super::super::picture::Picture;
use super::super::settings::Device;
use super::folder::Folder;
use super::noise::{Noise, NoiseFor};

/// What a denoiser works on.
#[derive(Debug)]
pub(super) enum Canvas {
    /// Pixels from -1 to 1.
    Pixels,
    /// `(latents - shift) * scale` of an autoencoder.
    Latents(Box<Autoencoder>),
}

#[derive(Debug)]
pub(super) struct Autoencoder {
    encoder: Onnx,
    decoder: Onnx,
    scale: f32,
    shift: f32,
    channels: usize,
    /// Pixels a latent is across.
    factor: usize,
}

/// Pixels that a unit of a model's canvas is across.
pub(super) fn factor(folder: &Folder) -> Result<usize, Error> {
    if !folder.part("vae_decoder").is_dir() {
        return Ok(1);
    }
    let blocks = folder.config("vae_decoder")?.get("block_out_channels").as_array().map_or(1, Vec::len).max(1);
    Ok(1 << (blocks - 1).min(16))
}

impl Canvas {
    pub(super) fn open(library: &Library, folder: &Folder, device: Device) -> Result<Self, Error> {
        if !folder.part("vae_decoder").is_dir() {
            return Ok(Self::Pixels);
        }
        let config = folder.config("vae_decoder")?;
        Ok(Self::Latents(Box::new(Autoencoder {
            encoder: Onnx::open(library, &folder.onnx("vae_encoder"), device)?,
            decoder: Onnx::open(library, &folder.onnx("vae_decoder"), device)?,
            scale: config.number_or("scaling_factor", 0.18215)? as f32,
            shift: config.number_or("shift_factor", 0.0)? as f32,
            channels: config.count("latent_channels")?,
            factor: factor(folder)?,
        })))
    }

    /// Pixels that a unit of the canvas is across.
    pub(super) const fn factor(&self) -> usize {
        match self {
            Self::Pixels => 1,
            Self::Latents(autoencoder) => autoencoder.factor,
        }
    }

    /// `[channels, height, width]` of the canvas of a picture of this size.
    pub(super) fn shape(&self, [width, height]: [u32; 2]) -> [usize; 3] {
        let (width, height) = (width as usize, height as usize);
        match self {
            Self::Pixels => [3, height, width],
            Self::Latents(autoencoder) => {
                [autoencoder.channels, height / autoencoder.factor, width / autoencoder.factor]
            }
        }
    }

    /// A picture on the canvas.
    pub(super) fn enter(&mut self, picture: &Picture, noise: &dyn Noise) -> Result<Vec<f32>, Error> {
        let Self::Latents(autoencoder) = self else { return Ok(picture.planes()) };
        let Autoencoder { encoder, scale, shift, .. } = &mut **autoencoder;
        let [width, height] = picture.size().map(|side| side as usize);
        let pixels = floats(encoder.input_type("sample")?, &[1, 3, height, width], picture.planes())?;
        let outputs = encoder.run(&[("sample", &pixels)], &["latent_parameters"], true)?;
        // Mean and logarithm of the variance, one after the other along the channels.
        let parameters = numbers(&outputs[0])?;
        let (means, variances) = parameters.split_at(parameters.len() / 2);
        let draws = noise.draw(NoiseFor::Source, means.len());
        let sample = |((mean, variance), draw): ((&f32, &f32), f32)| {
            let deviation = libm::expf(0.5 * variance.clamp(-30.0, 20.0));
            (mean + deviation * draw - *shift) * *scale
        };
        Ok(means.iter().zip(variances).zip(draws).map(sample).collect())
    }

    /// Planes of what is on the canvas, about -1 to 1, one picture after the other.
    pub(super) fn leave(&mut self, latents: &DynTensor) -> Result<Vec<f32>, Error> {
        let Self::Latents(autoencoder) = self else { return numbers(latents) };
        let Autoencoder { decoder, scale, shift, .. } = &mut **autoencoder;
        let values = numbers(latents)?.into_iter().map(|value| value / *scale + *shift).collect();
        let input = floats(decoder.input_type("latent_sample")?, &shape(latents), values)?;
        numbers(&decoder.run(&[("latent_sample", &input)], &["sample"], true)?[0])
    }
}
