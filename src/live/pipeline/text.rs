//! Conditioning of a family's denoiser on prompts: the states of the tokens and an embedding of the whole prompt, from
//! one, two or three text encoders. With guidance, rows without a prompt come first.

use ort::value::{DynTensor, TensorElementType};

use super::super::error::Error;
use super::super::library::Library;
use super::super::onnx::{Onnx, check_finite, floats, numbers, precision_advice, shape, tokens};
use super::super::settings::Device;
use super::super::words::Words;
use super::folder::{Family, Folder};

/// Number of tokens that T5 sees of a prompt in SD3. Zeros for as many tokens stand for T5 if it is absent. The number
/// is the default of diffusers.
const T5_TOKENS: usize = 256;

/// Text encoder with its tokenizer.
#[derive(Debug)]
struct TextEncoder {
    words: Words,
    model: Onnx,
}

/// Text encoders of a model.
#[derive(Debug)]
pub(super) struct Text {
    family: Family,
    encoders: Vec<TextEncoder>,
    t5: Option<TextEncoder>,
    /// Width of the states that the denoiser takes.
    state_width: usize,
    /// True if rows without a prompt are zero, false if they are the result of the empty text.
    zero_without_prompt: bool,
}

/// Rows of numbers, `[rows, ...]`.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// Conditioning of a denoiser on prompts.
#[derive(Clone, Debug)]
pub(super) struct Conditioning {
    /// States of the tokens, `[rows, tokens, width]`.
    pub(super) states: Rows,
    /// Embeddings of whole prompts, `[rows, width]`.
    pub(super) pooled: Rows,
    /// Sizes, `[rows, 6]`, for a denoiser that takes them.
    pub(super) time_ids: Option<Rows>,
}

impl TextEncoder {
    fn open(
        library: &Library,
        folder: &Folder,
        suffix: &str,
        length: Option<usize>,
        device: Device,
    ) -> Result<Self, Error> {
        let words = Words::read(&folder.part(&format!("tokenizer{suffix}")), length)?;
        let model = Onnx::open(library, &folder.onnx(&format!("text_encoder{suffix}")), device)?;
        Ok(Self { words, model })
    }

    fn run(&mut self, texts: &[&str], outputs: &[&str]) -> Result<Vec<Rows>, Error> {
        let element = self.model.input_type("input_ids")?;
        let ids = tokens(element, &[texts.len(), self.words.length], &self.words.rows(texts)?)?;
        let mask;
        let mut inputs: Vec<(&str, &DynTensor)> = vec![("input_ids", &ids)];
        if self.model.has_input("attention_mask") {
            let element = self.model.input_type("attention_mask")?;
            mask = tokens(element, &[texts.len(), self.words.length], &self.words.masks(texts)?)?;
            inputs.push(("attention_mask", &mask));
        }
        let tensors = self.model.run(&inputs, outputs, true)?;
        let rows = |(tensor, name): (&DynTensor, &&str)| {
            let rows = Rows::from_tensor(tensor)?;
            let advice = precision_advice(*tensor.data_type());
            check_finite(&self.model.file, &rows.values, advice, || format!("in its output `{name}`"))?;
            Ok(rows)
        };
        tensors.iter().zip(outputs).map(rows).collect()
    }

    /// Returns the output name of the states before the last layer. SDXL and SD3 condition on these states.
    fn penultimate(&self) -> Result<String, Error> {
        let layers =
            self.model.output_names().filter_map(|name| name.strip_prefix("hidden_states.")?.parse::<usize>().ok());
        match layers.max() {
            Some(last) if last > 0 => Ok(format!("hidden_states.{}", last - 1)),
            _ => Err(Error::model(
                &self.model.file,
                "has no outputs `hidden_states.N`: export it with its hidden states",
            )),
        }
    }
}

/// Returns the suffixes of the folders of a model's text encoders and tokenizers.
pub(super) fn suffixes(folder: &Folder) -> Vec<&'static str> {
    let mut suffixes = vec![""];
    if folder.family != Family::Shapes {
        suffixes.push("_2");
    }
    if folder.family == Family::StableDiffusion3 && folder.has("text_encoder_3") {
        suffixes.push("_3");
    }
    suffixes
}

impl Text {
    pub(super) fn open(library: &Library, folder: &Folder, device: Device, denoiser: &str) -> Result<Self, Error> {
        let open = |suffix: &str, length| TextEncoder::open(library, folder, suffix, length, device);
        let mut suffixes = suffixes(folder);
        let has_t5 = suffixes.pop_if(|suffix| *suffix == "_3").is_some();
        let encoders = suffixes.into_iter().map(|suffix| open(suffix, None)).collect::<Result<_, _>>()?;
        let config = folder.config(denoiser)?;
        let state_width = match folder.family {
            Family::StableDiffusion3 | Family::Shapes => config.count("joint_attention_dim")?,
            Family::StableDiffusionXl => config.count("cross_attention_dim")?,
        };
        Ok(Self {
            family: folder.family,
            encoders,
            t5: has_t5.then(|| open("_3", Some(T5_TOKENS))).transpose()?,
            state_width,
            zero_without_prompt: folder.family == Family::StableDiffusionXl
                && folder.flag("force_zeros_for_empty_prompt"),
        })
    }

    /// Computes the conditioning on prompts for pictures of this size. If `guided` is true, as many rows without a
    /// prompt come first.
    pub(super) fn condition(&mut self, prompts: &[&str], guided: bool, size: [u32; 2]) -> Result<Conditioning, Error> {
        // diffusers has the rows without a prompt first, too: the graph of the step splits the prediction in this
        // order.
        let before = if guided { prompts.len() } else { 0 };
        let texts: Vec<&str> = std::iter::repeat_n("", before).chain(prompts.iter().copied()).collect();
        let mut conditioning = match self.family {
            Family::Shapes => self.shapes(&texts)?,
            Family::StableDiffusionXl => self.clips(&texts)?,
            Family::StableDiffusion3 => self.stable_diffusion_3(&texts)?,
        };
        if self.family == Family::StableDiffusionXl {
            conditioning.time_ids = Some(time_ids(size, texts.len()));
        }
        // diffusers does this for an index with `force_zeros_for_empty_prompt`, if no negative prompt is given. A
        // request has none.
        if self.zero_without_prompt {
            conditioning.states.clear_first(before);
            conditioning.pooled.clear_first(before);
        }
        Ok(conditioning)
    }

    /// Makes the error for text encoders that do not fit together.
    fn mismatch(&self, expected: &str) -> Error {
        Error::model(&self.encoders[0].model.file, format!("its text encoders do not go together: {expected}"))
    }

    fn shapes(&mut self, texts: &[&str]) -> Result<Conditioning, Error> {
        let [states, pooled] = two(self.encoders[0].run(texts, &["last_hidden_state", "text_embeds"])?);
        Ok(Conditioning { states, pooled, time_ids: None })
    }

    /// Runs the two CLIP encoders. Their penultimate states are joined side by side, and so are the embeddings that
    /// they have.
    fn clips(&mut self, texts: &[&str]) -> Result<Conditioning, Error> {
        let mut parts = Vec::new();
        for encoder in &mut self.encoders {
            let penultimate = encoder.penultimate()?;
            let embeds = encoder.model.output_names().any(|name| name == "text_embeds");
            let outputs: &[&str] = if embeds { &[&penultimate, "text_embeds"] } else { &[&penultimate] };
            parts.push(encoder.run(texts, outputs)?);
        }
        let pooled: Vec<&Rows> = parts.iter().filter_map(|part| part.get(1)).collect();
        // SDXL's U-Net takes only the embedding of the last encoder, but the first encoder may be exported with one,
        // too.
        let pooled = if self.family == Family::StableDiffusionXl {
            &pooled[pooled.len().saturating_sub(1)..]
        } else {
            &pooled[..]
        };
        let states: Vec<&Rows> = parts.iter().map(|part| &part[0]).collect();
        let joined = Rows::beside(&states).zip(Rows::beside(pooled));
        let (states, pooled) =
            joined.ok_or_else(|| self.mismatch("expected as many tokens of each, and `text_embeds`"))?;
        Ok(Conditioning { states, pooled, time_ids: None })
    }

    /// Pads CLIP's states to T5's width, and appends T5's tokens to CLIP's.
    fn stable_diffusion_3(&mut self, texts: &[&str]) -> Result<Conditioning, Error> {
        let Conditioning { states, pooled, .. } = self.clips(texts)?;
        let t5 = match &mut self.t5 {
            Some(t5) => t5.run(texts, &["last_hidden_state"])?.remove(0),
            None => Rows::zeros(vec![texts.len(), T5_TOKENS, self.state_width]),
        };
        let states = states.padded(self.state_width).and_then(|states| Rows::after(&states, &t5));
        let states = states.ok_or_else(|| self.mismatch("expected states as wide as the transformer's"))?;
        Ok(Conditioning { states, pooled, time_ids: None })
    }
}

impl Rows {
    fn from_tensor(tensor: &DynTensor) -> Result<Self, Error> {
        Ok(Self { shape: shape(tensor), values: numbers(tensor)? })
    }

    fn zeros(shape: Vec<usize>) -> Self {
        Self { values: vec![0.0; shape.iter().product()], shape }
    }

    /// Converts the rows to a tensor in the precision that a model takes.
    pub(super) fn tensor(self, element: TensorElementType) -> Result<DynTensor, Error> {
        floats(element, &self.shape, self.values)
    }

    fn clear_first(&mut self, rows: usize) {
        let each = self.values.len() / self.shape[0].max(1);
        self.values[..rows * each].fill(0.0);
    }

    /// Returns the width of the last dimension, and the number of lines of this width.
    fn lines(&self) -> (usize, usize) {
        let width = self.shape.last().copied().unwrap_or(0);
        (width, self.values.len().checked_div(width).unwrap_or(0))
    }

    /// Joins rows side by side along the last dimension. Returns `None` if they differ in the number of lines or have
    /// none.
    fn beside(parts: &[&Self]) -> Option<Self> {
        let lines = parts.first()?.lines().1;
        if lines == 0 || parts.iter().any(|part| part.lines().1 != lines) {
            return None;
        }
        let total: usize = parts.iter().map(|part| part.lines().0).sum();
        let mut shape = parts[0].shape.clone();
        *shape.last_mut()? = total;
        let mut values = Vec::with_capacity(lines * total);
        for line in 0..lines {
            for part in parts {
                let width = part.lines().0;
                values.extend_from_slice(&part.values[line * width..(line + 1) * width]);
            }
        }
        Some(Self { shape, values })
    }

    /// Appends zeros to each line of the last dimension, up to `width`. Returns `None` if the lines are wider or there
    /// are none.
    fn padded(&self, width: usize) -> Option<Self> {
        let (own, lines) = self.lines();
        if lines == 0 || own > width {
            return None;
        }
        let mut shape = self.shape.clone();
        *shape.last_mut()? = width;
        let mut values = Vec::with_capacity(lines * width);
        for line in self.values.chunks(own) {
            values.extend_from_slice(line);
            values.resize(values.len() + width - own, 0.0);
        }
        Some(Self { shape, values })
    }

    /// Joins two arrays one after the other along the second dimension. Returns `None` if the other dimensions differ.
    fn after(first: &Self, second: &Self) -> Option<Self> {
        let ([rows, tokens, width], [other_rows, other_tokens, other_width]) = (first.three()?, second.three()?);
        if (rows, width) != (other_rows, other_width) || rows == 0 {
            return None;
        }
        let each = |part: &Self| part.values.len() / rows;
        let mut values = Vec::with_capacity(first.values.len() + second.values.len());
        for row in 0..rows {
            for part in [first, second] {
                values.extend_from_slice(&part.values[row * each(part)..(row + 1) * each(part)]);
            }
        }
        Some(Self { shape: vec![rows, tokens + other_tokens, width], values })
    }

    fn three(&self) -> Option<[usize; 3]> {
        self.shape.as_slice().try_into().ok()
    }
}

/// Returns the sizes that SDXL takes: the original size, the corner of its crop, and the target size, each as height
/// and width.
fn time_ids([width, height]: [u32; 2], rows: usize) -> Rows {
    let (width, height) = (width as f32, height as f32);
    Rows { shape: vec![rows, 6], values: [height, width, 0.0, 0.0, height, width].repeat(rows) }
}

fn two(parts: Vec<Rows>) -> [Rows; 2] {
    parts.try_into().unwrap_or_else(|_| unreachable!("as many outputs as were asked for"))
}
