//! Canvas: the values that a denoiser works on, and their conversion from and to pictures. A canvas holds the latents
//! of an autoencoder, or pixels if the model has no autoencoder. The scaling of latents is that of the autoencoder's
//! configuration.

use ort::value::TensorElementType;

use super::super::error::Error;
use super::super::onnx::{check_finite, floats, numbers, precision_advice};
use super::super::picture::Picture;
use super::folder::Folder;
use super::noise::{Noise, NoiseFor};
use super::sessions::{Part, Sessions};

/// Names of the outputs of an autoencoder's encoder.
const LATENTS: &str = "latent_sample";
const DISTRIBUTION: &str = "latent_parameters";

/// Values that a denoiser works on.
#[derive(Debug)]
pub(super) enum Canvas {
    /// Pixels, with values from -1 to 1.
    Pixels,
    /// Latents of an autoencoder, as `(latents - shift) * scale`.
    Latents(Box<Autoencoder>),
}

#[derive(Debug)]
pub(super) struct Autoencoder {
    encoder: Part,
    decoder: Part,
    scaling: Scaling,
    channels: usize,
    /// Width and height of a latent, in pixels.
    factor: usize,
}

/// Scaling of the latents of an autoencoder, from its configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    scale: f32,
    shift: f32,
    /// True if the autoencoder must run in single precision, because it overflows in half precision.
    force_upcast: bool,
}

impl Scaling {
    /// Reads `vae_decoder/config.json`. Latents are divided by the scaling factor, which must not be 0.
    pub(super) fn read(folder: &Folder) -> Result<Self, Error> {
        let config = folder.config("vae_decoder")?;
        Ok(Self {
            // The defaults are those of diffusers' `AutoencoderKL`, whose configurations may leave them out.
            scale: config.divisor_or("scaling_factor", 0.18215)?,
            shift: config.single_or("shift_factor", 0.0)?,
            force_upcast: config.get("force_upcast").as_bool().unwrap_or(false),
        })
    }

    /// Returns the advice for values of the autoencoder that are not finite.
    fn advice(self, element: TensorElementType) -> &'static str {
        match (self.force_upcast, element) {
            (true, TensorElementType::Float16) => {
                "; its config.json has `force_upcast`: half precision overflows, so export vae_encoder and vae_decoder in fp32"
            }
            (true, _) => {
                "; its config.json has `force_upcast`: if its weights are in half precision, export vae_encoder and vae_decoder in fp32"
            }
            (false, element) => precision_advice(element),
        }
    }
}

/// Returns the width and height, in pixels, of one unit of a model's canvas.
pub(super) fn factor(folder: &Folder) -> Result<usize, Error> {
    if !folder.part("vae_decoder").is_dir() {
        return Ok(1);
    }
    // Each block but the last halves the sides: `vae_scale_factor` of diffusers. SANA's autoencoder has its own name
    // for the blocks. The cap keeps the shift within the number's bits, whatever the file says.
    let config = folder.config("vae_decoder")?;
    let blocks = ["block_out_channels", "encoder_block_out_channels"].iter().find_map(|key| config.get(key).as_array());
    let blocks = blocks.map_or(1, Vec::len).max(1);
    Ok(1 << (blocks - 1).min(16))
}

impl Canvas {
    pub(super) fn open(sessions: &mut Sessions, folder: &Folder) -> Result<Self, Error> {
        if !folder.part("vae_decoder").is_dir() {
            return Ok(Self::Pixels);
        }
        let config = folder.config("vae_decoder")?;
        Ok(Self::Latents(Box::new(Autoencoder {
            encoder: sessions.open(&folder.onnx("vae_encoder"))?,
            decoder: sessions.open(&folder.onnx("vae_decoder"))?,
            scaling: Scaling::read(folder)?,
            channels: config.count("latent_channels")?,
            factor: factor(folder)?,
        })))
    }

    /// Gives up the sessions, for a model that can take them over.
    pub(super) fn into_sessions(self) -> Vec<Part> {
        match self {
            Self::Pixels => Vec::new(),
            Self::Latents(autoencoder) => vec![autoencoder.encoder, autoencoder.decoder],
        }
    }

    /// Returns the width and height, in pixels, of one unit of the canvas.
    pub(super) const fn factor(&self) -> usize {
        match self {
            Self::Pixels => 1,
            Self::Latents(autoencoder) => autoencoder.factor,
        }
    }

    /// Returns the shape of the canvas, `[channels, height, width]`, for a picture of this size.
    pub(super) fn shape(&self, [width, height]: [u32; 2]) -> [usize; 3] {
        let (width, height) = (width as usize, height as usize);
        match self {
            Self::Pixels => [3, height, width],
            Self::Latents(autoencoder) => {
                [autoencoder.channels, height / autoencoder.factor, width / autoencoder.factor]
            }
        }
    }

    /// Converts a picture to the values of the canvas.
    pub(super) fn enter(&mut self, picture: &Picture, noise: &dyn Noise) -> Result<Vec<f32>, Error> {
        let Self::Latents(autoencoder) = self else { return Ok(picture.planes()) };
        let Autoencoder { encoder, scaling, .. } = &mut **autoencoder;
        let [width, height] = picture.size().map(|side| side as usize);
        let pixels = floats(encoder.input_type("sample")?, &[1, 3, height, width], picture.planes())?;
        // SANA's autoencoder gives the latents themselves, the others a distribution to draw them from.
        let exact = encoder.output_names().any(|name| name == LATENTS);
        let outputs = encoder.run(&[("sample", &pixels)], &[if exact { LATENTS } else { DISTRIBUTION }], true)?;
        let parameters = numbers(&outputs[0])?;
        let advice = scaling.advice(*outputs[0].data_type());
        check_finite(&encoder.file, &parameters, advice, || "where it encodes a source".to_owned())?;
        if exact {
            return Ok(parameters.into_iter().map(|latent| (latent - scaling.shift) * scaling.scale).collect());
        }
        // The output has the means, then the logarithms of the variances, one after the other along the channels.
        // There is one picture, so the halves of the channels are the halves of the values.
        let (means, variances) = parameters.split_at(parameters.len() / 2);
        let draws = noise.draw(NoiseFor::Source, means.len());
        let sample = |((mean, variance), draw): ((&f32, &f32), f32)| {
            // The clamp is that of diffusers' `DiagonalGaussianDistribution`. The platform's own `exp` may differ in
            // the last place, and a picture must not depend on the worker that drew it.
            let deviation = libm::expf(0.5 * variance.clamp(-30.0, 20.0));
            (mean + deviation * draw - scaling.shift) * scaling.scale
        };
        Ok(means.iter().zip(variances).zip(draws).map(sample).collect())
    }

    /// Converts the values of the canvas, `[pictures, channels, height, width]`, to planes, about -1 to 1, one picture
    /// after the other.
    pub(super) fn leave(&mut self, latents: &[f32], shape: [usize; 4]) -> Result<Vec<f32>, Error> {
        let Self::Latents(autoencoder) = self else { return Ok(latents.to_vec()) };
        let Autoencoder { decoder, scaling, .. } = &mut **autoencoder;
        let values = latents.iter().map(|value| value / scaling.scale + scaling.shift).collect();
        let input = floats(decoder.input_type("latent_sample")?, &shape, values)?;
        let outputs = decoder.run(&[("latent_sample", &input)], &["sample"], true)?;
        let planes = numbers(&outputs[0])?;
        let advice = scaling.advice(*outputs[0].data_type());
        check_finite(&decoder.file, &planes, advice, || "where it decodes a picture".to_owned())?;
        Ok(planes)
    }
}
