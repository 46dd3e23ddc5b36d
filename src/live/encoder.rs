//! Dual encoder: embeds prompts and pictures in one space. Its folder has the layout of CLIP as Optimum exports it: one
//! file (`model.onnx`), or one file for each side (`text_model.onnx`, `vision_model.onnx`). Pictures are prepared as
//! `preprocessor_config.json` says.

use std::path::{Path, PathBuf};

use ort::value::{DynTensor, TensorElementType};

use super::error::Error;
use super::library::Library;
use super::onnx::{Onnx, check_finite, floats, numbers, precision_advice, tokens};
use super::picture::Picture;
use super::pipeline::Json;
use super::settings::Device;
use super::words::Words;
use crate::embedding::Embedding;
use crate::input::{InputError, sha256};

const TEXT: &str = "text_embeds";
const IMAGE: &str = "image_embeds";
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
/// Prompt that is embedded when an encoder is opened.
const TRIAL_PROMPT: &str = "a red circle";
/// Width and height, in pixels, of the picture that is embedded when an encoder is opened.
const TRIAL_SIDE: u32 = 32;
const PIXELS: &str = "pixel_values";

/// Dual encoder on a device.
#[derive(Debug)]
pub struct DualEncoder {
    words: Words,
    preparation: Preparation,
    sides: Sides,
}

#[derive(Debug)]
enum Sides {
    /// Two models, one for each side.
    Two { text: Box<Onnx>, image: Box<Onnx> },
    /// One model for both sides. The model takes a prompt and a picture even if only one embedding is wanted.
    One(Box<Onnx>),
}

/// Returns the model files of an encoder: two, or one for both sides.
fn files(folder: &Path) -> Result<(PathBuf, Option<PathBuf>), InputError> {
    let (text, image, both) =
        (folder.join("text_model.onnx"), folder.join("vision_model.onnx"), folder.join("model.onnx"));
    // Two files come first, because a model for both sides computes both sides at each run.
    if text.is_file() && image.is_file() {
        return Ok((text, Some(image)));
    }
    if both.is_file() {
        return Ok((both, None));
    }
    let message = "holds no dual encoder: expected text_model.onnx and vision_model.onnx, or model.onnx";
    Err(InputError::new(folder, message))
}

impl DualEncoder {
    /// Returns the fingerprint of an encoder: the SHA-256 hash of its model file, or of both files, one after the
    /// other.
    ///
    /// # Errors
    /// Returns an error if a file is missing or cannot be read.
    pub fn fingerprint(folder: &Path) -> Result<String, InputError> {
        let (first, second) = files(folder)?;
        let second = second.map(|second| sha256(&second)).transpose()?;
        Ok(sha256(&first)? + &second.unwrap_or_default())
    }

    /// Checks that a folder holds an encoder, without loading the encoder.
    ///
    /// # Errors
    /// Returns an error if a file is missing or has wrong content.
    pub fn check(folder: &Path) -> Result<(), Error> {
        files(folder)?;
        Preparation::read(&Json::read(&folder.join("preprocessor_config.json"))?)?;
        Words::read(folder, None).map(drop)
    }

    /// Loads the encoder of a folder onto a device and embeds a prompt and a picture. An encoder whose values are not
    /// finite is thus found before its embeddings are searched with.
    ///
    /// # Errors
    /// Returns an error if a file is missing, has wrong content or does not load, or if an embedding cannot be used.
    pub fn open(library: &Library, folder: &Path, device: Device) -> Result<Self, Error> {
        let (first, second) = files(folder)?;
        let text = Onnx::open(library, &first, device)?;
        // A model of another kind is refused here, with the names of its outputs, and not at the first prompt.
        text.output_type(TEXT)?;
        let sides = if let Some(second) = second {
            let image = Onnx::open(library, &second, device)?;
            image.output_type(IMAGE)?;
            Sides::Two { text: Box::new(text), image: Box::new(image) }
        } else {
            text.output_type(IMAGE)?;
            Sides::One(Box::new(text))
        };
        let preparation = Preparation::read(&Json::read(&folder.join("preprocessor_config.json"))?)?;
        let mut encoder = Self { words: Words::read(folder, None)?, preparation, sides };
        encoder.texts(&[TRIAL_PROMPT])?;
        // The picture has many shades, because the embedding of a picture of one colour may have no direction.
        let shades = (0..3 * TRIAL_SIDE * TRIAL_SIDE).map(|at| (at % 256) as u8).collect();
        encoder.images(&[&Picture::new(TRIAL_SIDE, TRIAL_SIDE, shades)])?;
        Ok(encoder)
    }

    /// Computes the embedding of one prompt.
    ///
    /// # Errors
    /// Returns an error as [`DualEncoder::texts`] does.
    pub fn text(&mut self, text: &str) -> Result<Embedding, Error> {
        self.texts(&[text])?.pop().ok_or(Error::NoOutput { model: "encoder", output: "embedding" })
    }

    /// Computes the embedding of one picture.
    ///
    /// # Errors
    /// Returns an error as [`DualEncoder::images`] does.
    pub fn image(&mut self, picture: &Picture) -> Result<Embedding, Error> {
        self.images(&[picture])?.pop().ok_or(Error::NoOutput { model: "encoder", output: "embedding" })
    }

    /// Computes the embeddings of prompts in one run of the model.
    ///
    /// # Errors
    /// Returns an error if ONNX Runtime fails, or if an embedding is not finite or has no direction.
    pub fn texts(&mut self, texts: &[&str]) -> Result<Vec<Embedding>, Error> {
        let shape = [texts.len(), self.words.length];
        let (model, both) = match &mut self.sides {
            Sides::Two { text, .. } => (&mut **text, false),
            Sides::One(model) => (&mut **model, true),
        };
        let encoded = self.words.encode(texts)?;
        let ids = tokens(model.input_type(IDS)?, &shape, &encoded.ids)?;
        let mask =
            if model.has_input(MASK) { Some(tokens(model.input_type(MASK)?, &shape, &encoded.mask)?) } else { None };
        let mut inputs = vec![(IDS, &ids)];
        inputs.extend(mask.as_ref().map(|mask| (MASK, mask)));
        let [width, height] = self.preparation.size();
        // A model for both sides also takes a picture: it gets zeros, and the embedding of that picture is not read.
        let nothing = if both { vec![0.0; (3 * width * height) as usize] } else { Vec::new() };
        let element = if both { model.input_type(PIXELS)? } else { TensorElementType::Float32 };
        let nothing = both.then(|| floats(element, &[1, 3, height as usize, width as usize], nothing)).transpose()?;
        inputs.extend(nothing.as_ref().map(|nothing| (PIXELS, nothing)));
        let outputs = model.run(&inputs, &[TEXT], true)?;
        embeddings(&model.file, &outputs[0], texts.len())
    }

    /// Computes the embeddings of pictures in one run of the model.
    ///
    /// # Errors
    /// Returns an error if ONNX Runtime fails, or if an embedding is not finite or has no direction.
    pub fn images(&mut self, pictures: &[&Picture]) -> Result<Vec<Embedding>, Error> {
        let [width, height] = self.preparation.size();
        let shape = [pictures.len(), 3, height as usize, width as usize];
        let values = pictures.iter().flat_map(|picture| self.preparation.values(picture)).collect();
        let (model, both) = match &mut self.sides {
            Sides::Two { image, .. } => (&mut **image, false),
            Sides::One(model) => (&mut **model, true),
        };
        let pixels = floats(model.input_type(PIXELS)?, &shape, values)?;
        let mut inputs = vec![(PIXELS, &pixels)];
        let (ids, mask);
        if both {
            ids = tokens(model.input_type(IDS)?, &[1, self.words.length], &self.words.encode(&[""])?.ids)?;
            inputs.push((IDS, &ids));
            if model.has_input(MASK) {
                mask = tokens(model.input_type(MASK)?, &[1, self.words.length], &self.words.encode(&[""])?.mask)?;
                inputs.push((MASK, &mask));
            }
        }
        let outputs = model.run(&inputs, &[IMAGE], true)?;
        embeddings(&model.file, &outputs[0], pictures.len())
    }

    /// Returns the prepared pixels of a picture, `[3, height, width]`, so that tests can check the preparation.
    #[must_use]
    pub fn prepared(&self, picture: &Picture) -> Vec<f32> {
        self.preparation.values(picture)
    }
}

/// Returns the embeddings in a tensor that the model in `file` gave, one for each of `rows` rows.
fn embeddings(file: &Path, tensor: &DynTensor, rows: usize) -> Result<Vec<Embedding>, Error> {
    let values = numbers(tensor)?;
    let bad = |bad| Error::model(file, format!("gave an embedding that cannot be used: {bad}"));
    // Fewer values than rows would make the length of a row 0, at which `chunks_exact` panics.
    if rows == 0 || values.len() < rows {
        return Err(Error::model(file, "gave fewer embeddings than it was asked for"));
    }
    // `normalised` refuses such values, too. This check comes before it, because its error says what to do about them.
    check_finite(file, &values, precision_advice(*tensor.data_type()), || "in an embedding".to_owned())?;
    values.chunks_exact(values.len() / rows).map(|row| Embedding::normalised(row).map_err(bad)).collect()
}

/// Preparation of a picture for the model.
#[derive(Clone, Debug, PartialEq)]
struct Preparation {
    resize: Option<Resize>,
    crop: Option<[u32; 2]>,
    rescale: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Resize {
    /// Length of the shorter side, in pixels. The other side is scaled in proportion.
    Shortest(u32),
    /// Width and height, in pixels.
    Exactly([u32; 2]),
}

impl Preparation {
    fn read(config: &Json) -> Result<Self, Error> {
        let wrong = |key: &str, accepted: &str| {
            Error::from(InputError::new(&config.file, format!("expected {accepted}")).value(key, config.get(key)))
        };
        let on = |key: &str| config.get(key).as_bool().unwrap_or(true);
        let narrowed = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
        let side = |key: &str, name: &str| config.get(key)[name].as_u64().map(narrowed);
        let sides = |key: &str| Some([side(key, "width")?, side(key, "height")?]);
        // Older files have a number where newer files have a table.
        let number = |key: &str| config.get(key).as_u64().map(narrowed);
        let resize = match (side("size", "shortest_edge").or_else(|| number("size")), sides("size")) {
            _ if !on("do_resize") => None,
            (Some(shortest), _) => Some(Resize::Shortest(shortest)),
            (_, Some(exactly)) => Some(Resize::Exactly(exactly)),
            _ => return Err(wrong("size", "shortest_edge, or width and height")),
        };
        // 3 is PIL's number of cubic interpolation, the only one that is supported. Without a resize the number does
        // not matter.
        if resize.is_some() && config.get("resample").as_u64().unwrap_or(3) != 3 {
            return Err(wrong("resample", "3 (cubic interpolation)"));
        }
        let crop = sides("crop_size").or_else(|| number("crop_size").map(|side| [side; 2]));
        let crop = crop.filter(|_| config.get("do_center_crop").as_bool().unwrap_or(crop.is_some()));
        let triple = |key: &str, default: [f32; 3]| -> Result<[f32; 3], Error> {
            let Some(values) = config.get(key).as_array() else { return Ok(default) };
            let single = |value: &serde_json::Value| Some(value.as_f64()? as f32).filter(|value| value.is_finite());
            let values: Vec<f32> = values.iter().filter_map(single).collect();
            values.try_into().map_err(|_| wrong(key, "three numbers"))
        };
        let normalize = on("do_normalize");
        let (mean, deviation) = (triple("image_mean", [0.0; 3])?, triple("image_std", [1.0; 3])?);
        let preparation = Self {
            resize,
            crop,
            rescale: if on("do_rescale") { config.single_or("rescale_factor", 1.0 / 255.0)? } else { 1.0 },
            mean: if normalize { mean } else { [0.0; 3] },
            deviation: if normalize { deviation } else { [1.0; 3] },
        };
        if preparation.deviation.contains(&0.0) {
            return Err(wrong("image_std", "numbers other than 0"));
        }
        let asked = [
            resize.map_or([1; 2], |resize| match resize {
                Resize::Shortest(side) => [side; 2],
                Resize::Exactly(size) => size,
            }),
            crop.unwrap_or([1; 2]),
        ];
        if !asked.iter().flatten().all(|side| (1..=4096).contains(side)) {
            return Err(wrong("size", "sides from 1 to 4096"));
        }
        match (preparation.crop, preparation.resize) {
            (None, None | Some(Resize::Shortest(_))) => {
                Err(wrong("crop_size", "a size: all pictures must come out alike"))
            }
            _ => Ok(preparation),
        }
    }

    /// Returns the width and height of prepared pictures, in pixels.
    fn size(&self) -> [u32; 2] {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Some(Resize::Exactly(size))) => size,
            // `read` refuses such a preparation.
            (None, _) => [1, 1],
        }
    }

    fn values(&self, picture: &Picture) -> Vec<f32> {
        let resized = match self.resize {
            None => picture.clone(),
            Some(Resize::Exactly(size)) => picture.resized(size),
            Some(Resize::Shortest(shortest)) => {
                let [width, height] = picture.size();
                let (short, long) = (u64::from(width.min(height)).max(1), u64::from(width.max(height)));
                // The longer side is rounded down, as transformers does.
                let longer = (u64::from(shortest) * long / short) as u32;
                picture.resized(if width < height { [shortest, longer] } else { [longer, shortest] })
            }
        };
        let cut = self.crop.map_or(resized.clone(), |size| resized.middle(size));
        cut.planes_by(|channel, value| (value * self.rescale - self.mean[channel]) / self.deviation[channel])
    }
}
